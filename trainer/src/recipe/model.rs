//! The recipe's `model` section: which base model, and where to go on from.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// The base model, which stays frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The base model: a Hugging Face folder, a `.gguf` file, or a hub name `owner/name`. A path is relative to the
    /// recipe, and goes before a hub name of the same spelling.
    pub base: String,
    /// The commit or tag of a hub name. Only a commit of 40 hexadecimal digits pins the weights, so that the run can
    /// be repeated. Without it: `main`.
    #[serde(default)]
    pub revision: Option<String>,
    /// A PEFT folder whose adapter is trained further; relative to the recipe. Its rank, alpha and targets hold then.
    #[serde(default)]
    pub adapter: Option<PathBuf>,
    /// How the base's weights are kept in memory: stored (as the checkpoint has them, also the 4- to 8-bit blocks of a
    /// GGUF file: nothing is lost, and the file is used where it lies, shared by all processes on the machine; float32
    /// on a device that does not read that form), f32, bf16, f16, or nf4 (four bits a number in the linear modules, from
    /// a floating-point checkpoint, on the CPU). Arithmetic is in float32 whatever is stored; see `kernels`.
    #[serde(default)]
    pub dtype: WeightType,
}

/// How weights are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightType {
    /// As the checkpoint has them.
    #[default]
    Stored,
    /// 32-bit floats.
    F32,
    /// 16-bit floats with the range of float32.
    Bf16,
    /// 16-bit floats with more digits and less range.
    F16,
    /// The linear modules in 4-bit blocks as QLoRA makes them; the rest as stored.
    Nf4,
}

impl ModelConfig {
    /// The base of that name, and everything else by default.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), revision: None, adapter: None, dtype: WeightType::default() }
    }

    /// Whether the base is a name on the hub and not a path.
    pub fn is_on_hub(&self) -> bool {
        is_hub_name(&self.base)
    }

    pub(super) fn validate(&self, ranges: &mut Ranges) {
        let expected = "a Hugging Face folder, a .gguf file, or a hub name owner/name";
        ranges.check("base", &self.base, expected, !self.base.trim().is_empty());
        let revision = self.revision.as_deref();
        ranges.check("revision", "", "a commit or tag, or null", revision != Some(""));
        let adapter = self.adapter.as_deref();
        ranges.check("adapter", "", "a PEFT folder, or null", adapter != Some(Path::new("")));
    }
}

/// The name of a base as it may be told to others: of a path of this machine only the last part.
pub fn without_folder(base: &str) -> String {
    let path = Path::new(base);
    let name = path.file_name().filter(|_| path.is_absolute());
    name.map_or_else(|| base.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Whether a name has the form `owner/name` of the hub and not that of a path.
pub fn is_hub_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let is_file = Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    !is_file && name.split_once('/').is_some_and(|(owner, repo)| is_part(owner) && is_part(repo))
}

/// Whether a revision is a whole commit, which nobody can move.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}
