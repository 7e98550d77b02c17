//! The LoRA family as a layer and as a file.
//!
//! On the way in, [`checkpoint`] reads a base model from a safetensors folder and [`gguf`] from a GGUF file, both
//! through [`TensorSource`]. On the way out, [`export`] writes adapters and merged models in the form that PEFT and the
//! servers take, through [`atomic`], so that a full disk or a kill never costs the previous file. [`merge`] combines
//! several adapters into one. [`signing`] has the keys and envelopes by which others know who made an export.
//! [`LoraConfig`] is the recipe's `lora:` section. Read `config`, `lora`, `checkpoint`, `gguf`, `export` in this order.
//!
//! LoRA: `y = W x + (alpha / rank) · B A x`, with `W` frozen.
//! Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>, section 4.1.

pub mod atomic;
pub mod blocks;
pub mod checkpoint;
mod config;
mod error;
pub mod export;
mod file;
pub mod gguf;
mod lora;
pub mod merge;
pub mod nf4;
mod principal;
mod safetensors_file;
pub mod serving;
pub mod signing;
mod weight;

pub use atomic::{write_atomic, write_folder_atomic, write_private};
pub use blocks::{BlockForm, BlockMatrix};
pub use checkpoint::{SafetensorsFolder, TensorSource};
pub use config::{Init, LoraConfig, ModuleAdapter, TargetModule, Targets};
pub use error::AdapterError;
pub use export::peft::{AdapterConfig, LoraPair, PeftAdapter, read_peft, write_peft};
pub use gguf::{GgmlType, GgufFile};
pub use lora::{Initial, LoraLinear, LowRank, Magnitude, require_grad};
pub use safetensors_file::SafetensorsFile;
pub use weight::Weight;
