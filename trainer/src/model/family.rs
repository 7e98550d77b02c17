//! The model families: **the one place to add another**.
//!
//! A family is a row of [`FAMILIES`]: how its files call it, and the flags of the one decoder that it sets. What differs
//! from model to model of a family is in [`DecoderConfig`](super::config::DecoderConfig).

use adapters::gguf::names::Norms;

use crate::kernels::swiglu::Activation;

/// What distinguishes one family of decoders from another.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own of the one decoder")]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class in `config.json`, under `architectures`.
    pub architecture: &'static str,
    /// `general.architecture` in a GGUF file; the first family of a name is the one that such a file is read as.
    pub gguf_architecture: &'static str,
    /// llama.cpp's converter permutes the rows of q and k for this family.
    pub gguf_permutes_q_k: bool,
    /// The projections of queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Each head's query and key is normalised before it is rotated.
    pub qk_norm: bool,
    /// The activation of the MLP's gate.
    pub activation: Activation,
    /// Where the norms of a block stand.
    pub norms: Norms,
    /// The checkpoint holds the norms' weights less 1, and the embedding is multiplied with the root of the width.
    pub gemma_scaling: bool,
    /// Where the configuration does not say which blocks see all tokens: every so many; 0 when a window is for all.
    pub full_attention_every: usize,
    /// What a configuration that was written without its defaults means: the base of the rotary frequencies.
    pub default_rope_theta: f64,
}

/// Llama's flags; the others say what they do otherwise.
const LLAMA: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    gguf_architecture: "llama",
    gguf_permutes_q_k: true,
    qkv_bias: false,
    qk_norm: false,
    activation: Activation::Silu,
    norms: Norms::Before,
    gemma_scaling: false,
    full_attention_every: 0,
    default_rope_theta: 10_000.0,
};

/// Every family that the decoder knows.
pub const FAMILIES: &[Family] = &[
    LLAMA,
    // GGUF files call Mistral llama; its window is then not in the file, and llama.cpp does not apply it either.
    Family { model_type: "mistral", architecture: "MistralForCausalLM", ..LLAMA },
    Family {
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        gguf_architecture: "qwen2",
        gguf_permutes_q_k: false,
        qkv_bias: true,
        ..LLAMA
    },
    Family {
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        gguf_architecture: "qwen3",
        gguf_permutes_q_k: false,
        qk_norm: true,
        ..LLAMA
    },
    Family {
        model_type: "gemma3_text",
        architecture: "Gemma3ForCausalLM",
        gguf_architecture: "gemma3",
        gguf_permutes_q_k: false,
        qk_norm: true,
        activation: Activation::GeluTanh,
        norms: Norms::Around,
        gemma_scaling: true,
        full_attention_every: 6,
        default_rope_theta: 1_000_000.0,
        ..LLAMA
    },
];

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
