//! The names of tensors in GGUF files and in Hugging Face checkpoints.
//!
//! Source: llama.cpp `gguf-py/gguf/tensor_mapping.py`, for decoders of the llama form.

/// Names outside the blocks: GGUF, then Hugging Face.
const OUTER: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Names inside block `n`: `blk.n.<GGUF>.weight` is `model.layers.n.<Hugging Face>.weight`, and so with `.bias`.
const INNER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Where the norms of a block stand; by it, one Hugging Face name has two in GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and MLP, as in Llama.
    Before,
    /// Before and after each, as in Gemma 3.
    Around,
}

impl Norms {
    /// The norms' names: GGUF, then Hugging Face.
    fn names(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Before => &[("ffn_norm", "post_attention_layernorm")],
            Self::Around => &[
                ("post_attention_norm", "post_attention_layernorm"),
                ("ffn_norm", "pre_feedforward_layernorm"),
                ("post_ffw_norm", "post_feedforward_layernorm"),
            ],
        }
    }

    fn inner(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        INNER.iter().chain(self.names())
    }
}

/// The Hugging Face name of a GGUF tensor.
pub fn to_hugging_face(gguf: &str, norms: Norms) -> Option<String> {
    if let Some((_, name)) = OUTER.iter().find(|(own, _)| *own == gguf) {
        return Some((*name).to_owned());
    }
    let (index, rest) = gguf.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = weight_or_bias(rest)?;
    let (_, name) = norms.inner().find(|(own, _)| *own == part)?;
    Some(format!("model.layers.{index}.{name}.{kind}"))
}

/// The GGUF name of a Hugging Face tensor.
pub fn to_gguf(hugging_face: &str, norms: Norms) -> Option<String> {
    if let Some((name, _)) = OUTER.iter().find(|(_, own)| *own == hugging_face) {
        return Some((*name).to_owned());
    }
    let (index, rest) = hugging_face.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = weight_or_bias(rest)?;
    let (name, _) = norms.inner().find(|(_, own)| *own == part)?;
    Some(format!("blk.{index}.{name}.{kind}"))
}

fn weight_or_bias(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let names = ["token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.29.ffn_down.weight"];
        for name in names.into_iter().chain(["blk.1.attn_k.bias", "blk.2.attn_q_norm.weight", "blk.3.ffn_norm.weight"])
        {
            for norms in [Norms::Before, Norms::Around] {
                let other = to_hugging_face(name, norms).expect("a known name");
                assert_eq!(to_gguf(&other, norms).as_deref(), Some(name));
            }
        }
        let name = |gguf, norms| to_hugging_face(gguf, norms).expect("a known name");
        assert_eq!(name("blk.3.attn_q.weight", Norms::Before), "model.layers.3.self_attn.q_proj.weight");
        assert_eq!(name("blk.3.ffn_norm.weight", Norms::Before), "model.layers.3.post_attention_layernorm.weight");
        assert_eq!(name("blk.3.ffn_norm.weight", Norms::Around), "model.layers.3.pre_feedforward_layernorm.weight");
        assert_eq!(
            name("blk.3.post_attention_norm.weight", Norms::Around),
            "model.layers.3.post_attention_layernorm.weight"
        );
        assert_eq!(to_hugging_face("blk.3.post_ffw_norm.weight", Norms::Before), None);
        assert_eq!(to_hugging_face("rope_freqs.weight", Norms::Before), None);
        assert_eq!(to_gguf("model.layers.0.self_attn.rotary_emb.inv_freq", Norms::Before), None);
    }
}
