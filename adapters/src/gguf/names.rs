//! The names of tensors in GGUF files and in Hugging Face checkpoints.
//!
//! Source: llama.cpp `gguf-py/gguf/tensor_mapping.py`, for decoders of the llama form.

/// Names outside the blocks: GGUF, then Hugging Face.
const OUTER: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Names inside block `n`: `blk.n.<GGUF>.weight` is `model.layers.n.<Hugging Face>.weight`.
const INNER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The Hugging Face name of a GGUF tensor.
pub fn to_hugging_face(gguf: &str) -> Option<String> {
    if let Some((_, name)) = OUTER.iter().find(|(own, _)| *own == gguf) {
        return Some((*name).to_owned());
    }
    let (index, rest) = gguf.strip_prefix("blk.")?.split_once('.')?;
    let part = rest.strip_suffix(".weight")?;
    let (_, name) = INNER.iter().find(|(own, _)| *own == part)?;
    Some(format!("model.layers.{index}.{name}.weight"))
}

/// The GGUF name of a Hugging Face tensor.
pub fn to_gguf(hugging_face: &str) -> Option<String> {
    if let Some((name, _)) = OUTER.iter().find(|(_, own)| *own == hugging_face) {
        return Some((*name).to_owned());
    }
    let (index, rest) = hugging_face.strip_prefix("model.layers.")?.split_once('.')?;
    let part = rest.strip_suffix(".weight")?;
    let (name, _) = INNER.iter().find(|(_, own)| *own == part)?;
    Some(format!("blk.{index}.{name}.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.29.ffn_down.weight"] {
            let other = to_hugging_face(name).expect("a known name");
            assert_eq!(to_gguf(&other).as_deref(), Some(name));
        }
        assert_eq!(to_hugging_face("blk.3.attn_q.weight").as_deref(), Some("model.layers.3.self_attn.q_proj.weight"));
        assert_eq!(to_hugging_face("rope_freqs.weight"), None);
        assert_eq!(to_gguf("model.layers.0.self_attn.q_proj.bias"), None);
    }
}
