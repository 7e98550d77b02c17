//! Base models: the decoder, its configuration, its weights and its generation.

pub mod adapter;
mod base;
mod cache;
pub mod config;
mod config_json;
mod decoder;
mod dropout;
pub mod family;
pub mod generate;
mod gguf_metadata;
mod layout;
mod load;
pub mod merged;
pub mod rotary;
mod segments;

pub use base::BaseModel;
pub use cache::KvCache;
pub use config::DecoderConfig;
pub use decoder::{
    Context, Decoder, DecoderLayer, EMBED_TOKENS, FeedforwardNorms, HeadNorms, LM_HEAD, MODULES, Mlp, Place,
    SelfAttention, module_path,
};
pub use dropout::{Dropout, DropoutSeed};
pub use segments::Segments;
