//! Base models: the decoder, its configuration, its weights and its generation.

pub mod adapter;
mod base;
mod cache;
pub mod config;
mod decoder;
mod dropout;
pub mod export;
pub mod family;
pub mod generate;
mod load;
mod segments;

pub use base::{BaseModel, is_hub_name};
pub use cache::KvCache;
pub use config::DecoderConfig;
pub use decoder::{Context, Decoder, DecoderLayer, Mlp, SelfAttention};
pub use dropout::Dropout;
pub use segments::Segments;
