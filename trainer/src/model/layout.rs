//! Every weight of a decoder by its checkpoint name, with its shape.

use adapters::gguf::names::Norms;

use super::config::DecoderConfig;
use super::places::module_path;

/// The weights of a decoder: name and row-major shape, in the order in which transformers writes them, which decides how
/// a large model is cut into shards.
pub(super) fn weights(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let heads = config.num_attention_heads * config.head_dim;
    let kv_heads = config.num_key_value_heads * config.head_dim;
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden])];
    for block in 0..config.num_hidden_layers {
        let mut add = |part: &str, shape: &[usize]| all.push((module_path(block, part), shape.to_vec()));
        for (part, shape) in [
            ("self_attn.q_proj", [heads, hidden]),
            ("self_attn.k_proj", [kv_heads, hidden]),
            ("self_attn.v_proj", [kv_heads, hidden]),
            ("self_attn.o_proj", [hidden, heads]),
        ] {
            add(&format!("{part}.weight"), &shape);
            if config.family.qkv_bias && part != "self_attn.o_proj" {
                add(&format!("{part}.bias"), &shape[..1]);
            }
        }
        if config.family.qk_norm {
            add("self_attn.q_norm.weight", &[config.head_dim]);
            add("self_attn.k_norm.weight", &[config.head_dim]);
        }
        add("mlp.gate_proj.weight", &[intermediate, hidden]);
        add("mlp.up_proj.weight", &[intermediate, hidden]);
        add("mlp.down_proj.weight", &[hidden, intermediate]);
        add("input_layernorm.weight", &[hidden]);
        add("post_attention_layernorm.weight", &[hidden]);
        if config.family.norms == Norms::Around {
            add("pre_feedforward_layernorm.weight", &[hidden]);
            add("post_feedforward_layernorm.weight", &[hidden]);
        }
    }
    all.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        all.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    all.sort_by_cached_key(|(name, _)| name.split('.').map(Part::of).collect::<Vec<_>>());
    all
}

/// A part of a name between dots; numbers are in the order of their values.
///
/// Source: transformers, `core_model_loading.py`, `dot_natural_key`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize),
    Text(String),
}

impl Part {
    fn of(part: &str) -> Self {
        part.parse().map_or_else(|_| Self::Text(part.to_owned()), Self::Number)
    }
}

/// Whether a weight is that of a normalisation.
pub(super) fn is_norm(name: &str) -> bool {
    name.ends_with("norm.weight")
}
