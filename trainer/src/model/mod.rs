//! Base models: the decoder, its configuration, its weights and its generation.

pub mod adapter;
mod base;
mod cache;
pub mod config;
mod config_json;
mod decoder;
mod dropout;
pub mod family;
mod from_gguf;
pub mod generate;
mod gguf_metadata;
mod layout;
mod load;
pub mod merged;
mod places;
pub mod rotary;
mod segments;
mod weights;

pub use base::BaseModel;
pub use cache::KvCache;
pub use config::DecoderConfig;
pub use decoder::{Context, Decoder, DecoderLayer, FeedforwardNorms, HeadNorms, Mlp, SelfAttention};
pub use dropout::{Dropout, DropoutSeed};
pub use places::{EMBED_TOKENS, LM_HEAD, MODULES, Place, module_path};
pub use segments::Segments;
