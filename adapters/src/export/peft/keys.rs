//! The names of the tensors in `adapter_model.safetensors`, both ways.

/// What PEFT puts before every module's path.
const PREFIX: &str = "base_model.model.";

/// A tensor of one module's adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    A,
    B,
    /// `DoRA`'s.
    Magnitude,
}

impl Part {
    const ALL: [Self; 3] = [Self::A, Self::B, Self::Magnitude];

    /// Its name in a module of the kind, and what follows at the end of the key. Embeddings hold bare parameters, and
    /// magnitudes are written as if they were.
    fn names(self, is_embedding: bool) -> (&'static str, &'static str) {
        match (self, is_embedding) {
            (Self::A, false) => ("lora_A", ".weight"),
            (Self::B, false) => ("lora_B", ".weight"),
            (Self::A, true) => ("lora_embedding_A", ""),
            (Self::B, true) => ("lora_embedding_B", ""),
            (Self::Magnitude, _) => ("lora_magnitude_vector", ""),
        }
    }
}

/// Whether a module is an embedding, whose adapter has keys of its own.
pub(in crate::export) fn is_embedding(module: &str) -> bool {
    module.rsplit('.').next() == Some("embed_tokens")
}

/// PEFT's key for a tensor.
pub(super) fn key(module: &str, part: Part) -> String {
    let (name, end) = part.names(is_embedding(module));
    format!("{PREFIX}{module}.{name}{end}")
}

/// PEFT's key for the whole weight of a norm that is saved beside the adapter.
pub(super) fn norm_key(module: &str) -> String {
    format!("{PREFIX}{module}.weight")
}

/// The norm of a key that [`norm_key`] made.
pub(super) fn parse_norm_key(key: &str) -> Option<&str> {
    let module = key.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    is_norm(module).then_some(module)
}

/// Whether a module's path or name is that of a norm.
pub(super) fn is_norm(module: &str) -> bool {
    module.ends_with("norm")
}

/// A key taken apart.
pub(super) struct ParsedKey<'a> {
    pub(super) module: &'a str,
    pub(super) part: Part,
    /// The adapter's name, where the key has one that should not be there.
    pub(super) adapter: Option<&'a str>,
}

/// Takes a key apart, or says why it is not one of a LoRA.
pub(super) fn parse_key(key: &str) -> Result<ParsedKey<'_>, String> {
    let expected = format!("expected {PREFIX}<module>.lora_A.weight or .lora_B.weight");
    let Some(path) = key.strip_prefix(PREFIX) else {
        return Err(format!("does not begin with {PREFIX}, as PEFT's keys do; {expected}"));
    };
    let names = Part::ALL.into_iter().flat_map(|part| [false, true].map(|embedding| (part, embedding)));
    for (part, embedding) in names {
        let (name, end) = part.names(embedding);
        let Some((module, rest)) = path.split_once(&format!(".{name}")) else { continue };
        if rest.ends_with("bias") {
            return Err("is a bias of the adapter, which is not supported".into());
        }
        if part != Part::Magnitude && embedding != is_embedding(module) {
            return Err(format!("is of another kind than its module; expected {}", self::key(module, part)));
        }
        // PyTorch's own name of a magnitude ends in `.weight`, that of PEFT's files does not.
        let middle = rest.strip_suffix(end).map(|middle| middle.strip_suffix(".weight").unwrap_or(middle));
        let adapter =
            middle.and_then(|middle| if middle.is_empty() { Some(None) } else { middle.strip_prefix('.').map(Some) });
        return match adapter {
            Some(adapter) if !module.is_empty() && adapter != Some("") => Ok(ParsedKey { module, part, adapter }),
            _ => Err(expected),
        };
    }
    if path.ends_with(".base_layer.weight") {
        return Err("is a copy of the base's own weight; save the adapter again with PEFT's \
                    save_embedding_layers=False"
            .into());
    }
    Err(format!("is not part of a LoRA; whole weights beside the adapter are not supported; {expected}"))
}
