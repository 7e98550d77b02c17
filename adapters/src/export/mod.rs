//! The forms in which an adapter or a merged model leaves: **the one place to add an export**, a file each.
//!
//! [`peft`] goes both ways: what it writes it also reads, to continue, evaluate or merge.

pub mod card;
pub mod gguf_lora;
pub mod gguf_merged;
pub mod merged;
pub mod peft;
pub mod safetensors;
pub mod update;
