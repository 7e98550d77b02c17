//! Which servers load an adapter folder, with which flag, and which get it wrong: **the one place to add a server**.
//!
//! A server is a row of [`SERVERS`]: its name and its rules. The rules look at [`Facts`], which are read without judging
//! them, so that a folder which this program itself refuses to train on still gets its verdicts.
//! Sources: vLLM `vllm/lora/peft_helper.py`, llama.cpp `src/llama-adapter.cpp`, mistral.rs `mistralrs-core/src/lora`,
//! `LoRAX` `server/lorax_server/adapters`, PEFT `tuners/lora`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::export::peft::{CONFIG_FILE, WEIGHTS_FILE};
use crate::{AdapterConfig, AdapterError, SafetensorsFile, file};

/// What one server does with an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It loads, and means what it meant in training.
    Loads,
    /// It loads with something more.
    LoadsWith {
        /// The server's flag, `--max-lora-rank 32`, or another form of the adapter.
        with: String,
    },
    /// The server refuses it, or loads something else without a word.
    Refuses {
        /// Why.
        because: String,
        /// What to do.
        remedy: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loads => formatter.write_str("loads"),
            Self::LoadsWith { with } => write!(formatter, "loads with {with}"),
            Self::Refuses { because, remedy } => write!(formatter, "refuses: {because}; remedy: {remedy}"),
        }
    }
}

/// A server and its rules.
#[derive(Debug)]
pub struct Server {
    /// As it is named in `--for`.
    pub name: &'static str,
    rules: &'static [Rule],
}

/// Nothing, or what a server makes of one property of a folder.
type Rule = fn(&Facts) -> Option<Verdict>;

/// The servers that are known.
pub const SERVERS: &[Server] = &[
    Server {
        name: "vllm",
        rules: &[whole_weights, bias, dora, changed_base, other_kind, one_scale, key_names, vllm_ends, vllm_rank],
    },
    Server { name: "llama.cpp", rules: &[whole_weights, bias, dora, changed_base, other_kind, gguf_names, needs_gguf] },
    Server {
        name: "mistral.rs",
        rules: &[whole_weights, bias, dora, changed_base, other_kind, named_init, ends, mistral_rs_rank, key_names],
    },
    Server {
        name: "lorax",
        rules: &[whole_weights, bias, dora, changed_base, other_kind, one_rank, one_scale, skipped_modules, key_names],
    },
    Server { name: "peft", rules: &[changed_base, key_names] },
];

/// The server of a name.
pub fn server(name: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.name == name)
}

impl Server {
    /// The verdict on a folder: the first refusal, else the first flag, else that it loads.
    pub fn judge(&self, facts: &Facts) -> Verdict {
        let verdicts: Vec<Verdict> = self.rules.iter().filter_map(|rule| rule(facts)).collect();
        let refusal = verdicts.iter().find(|verdict| matches!(verdict, Verdict::Refuses { .. }));
        refusal.or(verdicts.first()).cloned().unwrap_or(Verdict::Loads)
    }
}

/// What an adapter folder holds, taken as it is.
#[derive(Debug)]
pub struct Facts {
    /// `adapter_config.json`.
    pub config: AdapterConfig,
    /// The rank of each module that has a pair of matrices.
    pub ranks: BTreeMap<String, usize>,
    /// Modules with a magnitude, as `DoRA` has.
    pub magnitudes: Vec<String>,
    /// Modules with matrices on an embedding.
    pub embeddings: Vec<String>,
    /// Keys that are no part of a LoRA: whole weights, biases.
    pub other_keys: Vec<String>,
    /// Keys with an adapter's name in them.
    pub named_keys: Vec<String>,
}

impl Facts {
    /// Reads a PEFT folder.
    ///
    /// # Errors
    /// When a file is missing or is not of its format.
    pub fn of_folder(folder: &Path) -> Result<Self, AdapterError> {
        let config: AdapterConfig = file::read_json(&folder.join(CONFIG_FILE))?;
        let weights = SafetensorsFile::open(folder.join(WEIGHTS_FILE))?;
        let mut facts = Self {
            config,
            ranks: BTreeMap::new(),
            magnitudes: Vec::new(),
            embeddings: Vec::new(),
            other_keys: Vec::new(),
            named_keys: Vec::new(),
        };
        for key in weights.names() {
            facts.sort_in(key, weights.shape(key)?);
        }
        Ok(facts)
    }

    fn sort_in(&mut self, key: &str, shape: &[usize]) {
        let path = key.strip_prefix("base_model.model.").unwrap_or(key);
        if let Some((module, rest)) = path.split_once(".lora_A.") {
            self.ranks.insert(module.to_owned(), shape.first().copied().unwrap_or(0));
            self.note_name(key, rest);
        } else if let Some((_, rest)) = path.split_once(".lora_B.") {
            self.note_name(key, rest);
        } else if let Some((module, _)) = path.split_once(".lora_magnitude_vector") {
            self.magnitudes.push(module.to_owned());
        } else if let Some((module, _)) = path.split_once(".lora_embedding_") {
            self.embeddings.push(module.to_owned());
        } else {
            self.other_keys.push(key.to_owned());
        }
    }

    fn note_name(&mut self, key: &str, rest: &str) {
        if rest.ends_with("bias") {
            self.other_keys.push(key.to_owned());
        } else if rest != "weight" || !key.starts_with("base_model.model.") {
            self.named_keys.push(key.to_owned());
        }
    }

    fn largest_rank(&self) -> usize {
        self.ranks.values().copied().max().unwrap_or(self.config.r).max(self.config.r)
    }

    /// The scale that a reader takes who knows `r` and `lora_alpha` alone.
    fn plain_scale(&self) -> f64 {
        let rank = self.config.r as f64;
        self.config.lora_alpha / if self.config.use_rslora { rank.sqrt() } else { rank }
    }

    fn is_set(&self, key: &str) -> bool {
        match self.config.other.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(_) => true,
        }
    }
}

fn refuses(because: impl Into<String>, remedy: impl Into<String>) -> Verdict {
    Verdict::Refuses { because: because.into(), remedy: remedy.into() }
}

const SERVE_MERGED: &str = "serve the merged model instead: `greffon merge`";

fn whole_weights(facts: &Facts) -> Option<Verdict> {
    let saved = facts.config.modules_to_save.as_deref().unwrap_or_default();
    let named = saved.iter().chain(&facts.other_keys).next()?;
    Some(refuses(
        format!("it holds whole weights beside the adapter: {named}"),
        "train without modules_to_save (`lora.train_norms`) and new tokens, or serve the merged model: `greffon merge`",
    ))
}

fn bias(facts: &Facts) -> Option<Verdict> {
    let trained = facts.config.bias != "none" || facts.is_set("lora_bias");
    trained.then(|| refuses(format!("biases are trained (bias: {})", facts.config.bias), "train with bias: none"))
}

fn dora(facts: &Facts) -> Option<Verdict> {
    let is_dora = facts.config.use_dora || !facts.magnitudes.is_empty();
    is_dora.then(|| refuses("it is a DoRA adapter", SERVE_MERGED))
}

/// `PiSSA` and its like leave a changed base, which no server has.
fn changed_base(facts: &Facts) -> Option<Verdict> {
    let name = facts.config.changes_base()?;
    Some(refuses(
        format!("its initialisation, {name}, changes the base model"),
        "export it as a plain LoRA: `greffon export`",
    ))
}

fn other_kind(facts: &Facts) -> Option<Verdict> {
    let kind = &facts.config.peft_type;
    (kind != "LORA").then(|| refuses(format!("its peft_type is {kind}"), "use a LoRA"))
}

fn one_scale(facts: &Facts) -> Option<Verdict> {
    let plain = facts.plain_scale();
    let differs = |module: &&String| {
        let own = facts.config.scaling(module);
        own.map_or(true, |own| (own - plain).abs() > 1e-9 * plain.abs())
    };
    let module = facts.ranks.keys().find(differs)?;
    Some(refuses(
        format!(
            "it takes one scale, {plain}, for all modules and ignores rank_pattern and alpha_pattern: wrong for {module}"
        ),
        "fold the patterns into the matrices: `greffon export --fold-patterns`",
    ))
}

fn one_rank(facts: &Facts) -> Option<Verdict> {
    let module = facts.ranks.iter().find(|(_, rank)| **rank != facts.config.r)?;
    Some(refuses(
        format!("it takes one rank, {}, for all modules; {} has {}", facts.config.r, module.0, module.1),
        "bring all modules to one rank: `greffon export --fold-patterns`",
    ))
}

fn key_names(facts: &Facts) -> Option<Verdict> {
    let key = facts.named_keys.first()?;
    Some(refuses(
        format!("key {key} is not of PEFT's form and is ignored or refused"),
        "write it anew: `greffon export`",
    ))
}

/// The ranks that vLLM can be started for.
const VLLM_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];
const VLLM_DEFAULT_RANK: usize = 16;

fn vllm_rank(facts: &Facts) -> Option<Verdict> {
    let rank = facts.largest_rank();
    if rank <= VLLM_DEFAULT_RANK {
        return None;
    }
    match VLLM_RANKS.iter().find(|limit| rank <= **limit) {
        Some(limit) => Some(Verdict::LoadsWith { with: format!("--max-lora-rank {limit}") }),
        None => Some(refuses(format!("its rank {rank} is above 512"), "train with a lower rank")),
    }
}

fn mistral_rs_rank(facts: &Facts) -> Option<Verdict> {
    let rank = facts.largest_rank();
    (rank > 256).then(|| refuses(format!("its rank {rank} is above 256"), "train with a lower rank"))
}

fn named_init(facts: &Facts) -> Option<Verdict> {
    let name = facts.config.named_init()?;
    Some(refuses(format!("init_lora_weights names {name}"), "write it anew: `greffon export`"))
}

/// The embedding or the head, where it is adapted.
fn adapted_end(facts: &Facts) -> Option<&String> {
    let is_head = |module: &&String| module.rsplit('.').next() == Some("lm_head");
    facts.ranks.keys().find(is_head).or(facts.embeddings.first())
}

fn ends(facts: &Facts) -> Option<Verdict> {
    let module = adapted_end(facts)?;
    Some(refuses(
        format!("it adapts {module}"),
        "train the linear modules of the blocks only, or serve the merged model",
    ))
}

/// vLLM's table of embedding modules is filled for some families: Llama's and Mistral's have it, Qwen's and Gemma's do
/// not. It does not say so in the folder, so the verdict names the condition.
fn vllm_ends(facts: &Facts) -> Option<Verdict> {
    adapted_end(facts)?;
    let with =
        "a base of the Llama or Mistral family that does not tie its head; others have no adapter there".to_owned();
    Some(Verdict::LoadsWith { with })
}

/// Modules that the server has kernels for.
const BLOCK_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

fn is_block_module(module: &str) -> bool {
    module.rsplit('.').next().is_some_and(|name| BLOCK_MODULES.contains(&name))
}

fn skipped_modules(facts: &Facts) -> Option<Verdict> {
    let module = facts.ranks.keys().find(|module| !is_block_module(module)).or(facts.embeddings.first())?;
    Some(refuses(
        format!("it skips {module} with no more than a warning"),
        "train the linear modules of the blocks only",
    ))
}

fn gguf_names(facts: &Facts) -> Option<Verdict> {
    let module = facts.ranks.keys().find(|module| !is_block_module(module)).or(facts.embeddings.first())?;
    Some(refuses(format!("GGUF has no form for an adapter on {module}"), "train the linear modules of the blocks only"))
}

#[expect(clippy::unnecessary_wraps, reason = "as every rule")]
fn needs_gguf(_: &Facts) -> Option<Verdict> {
    Some(Verdict::LoadsWith { with: "its GGUF form: `greffon export --as gguf-lora`".to_owned() })
}
