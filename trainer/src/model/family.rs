//! The model families: **the one place to add another**.
//!
//! A family is a row of [`FAMILIES`] and the flags of [`DecoderConfig`](super::config::DecoderConfig) that it sets.

/// What distinguishes one family of decoders from another.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class in `config.json`, under `architectures`.
    pub architecture: &'static str,
    /// `general.architecture` in a GGUF file.
    pub gguf_architecture: &'static str,
    /// llama.cpp's converter permutes the rows of q and k for this family.
    pub gguf_permutes_q_k: bool,
}

/// Every family that the decoder knows.
pub const FAMILIES: &[Family] = &[Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    gguf_architecture: "llama",
    gguf_permutes_q_k: true,
}];

/// The family of a `config.json`.
pub fn by_model_type(model_type: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|f| f.model_type == model_type)
}

/// The family of a GGUF file.
pub fn by_gguf_architecture(architecture: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|f| f.gguf_architecture == architecture)
}

/// The known names, for error messages.
pub fn known() -> String {
    FAMILIES.iter().map(|f| f.model_type).collect::<Vec<_>>().join(", ")
}
