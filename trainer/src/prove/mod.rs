//! The proof of an export: a running server's log-probabilities against the trainer's own.
//!
//! The prompts are compiled in ([`PROMPTS`]); for each, the server's most probable next tokens are compared with what
//! the decoder computes, with the adapter and without. What was found goes into the export's manifest ([`Manifest`]).
//! `greffon verify --prove` is the command.

mod agreement;
mod export;
mod manifest;
mod server;

use std::path::Path;

use burn::tensor::Device;
use datasets::hex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use agreement::Agreement;
pub use export::{Export, Form};
pub use manifest::{ForgettingNote, Manifest, Proof};
pub use server::{Names, Server, ServerInfo};

use crate::error::TrainError;
use crate::eval::next_log_probs;
use crate::model::{BaseModel, Decoder, adapter};

/// Texts after which even small models know the next token: each first choice is at least 2 nats above the second, for
/// SmolLM2-135M-Instruct and for Gemma 3 270M. So another first token is no matter of rounding.
pub const PROMPTS: [&str; 8] = [
    "The capital of France is the city of",
    "Monday, Tuesday, Wednesday, Thursday,",
    "The old lighthouse keeper lit the lamp every evening. Every evening, the old lighthouse",
    "def add(a, b):\n    return a +",
    "Lundi, mardi, mercredi, jeudi,",
    "Le petit chat boit du lait. Le petit chat boit du",
    "Contrat n° 12-AB-345, échéance le 1er janvier 2026. Le numéro du contrat est le 12-AB-",
    "Nom : Dupont\nPrénom : Marie\nVille : Lyon\n\nNom : Dupont\nPrénom :",
];

/// The most probable tokens of a server that are compared; vLLM gives no more by default.
pub const TOP: usize = 20;

/// SHA-256 of the prompts, with a zero byte between two.
pub fn prompts_digest() -> String {
    hex(&Sha256::digest(PROMPTS.join("\0")))
}

/// What the server is asked to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// It serves one model, with the adapter folded in.
    Folded,
    /// The base with the adapter.
    On,
    /// The base alone.
    Off,
}

/// A proof that did or did not succeed, and why not.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// What goes into the manifest.
    #[serde(flatten)]
    pub proof: Proof,
    /// Why it did not succeed; empty when it did.
    pub reasons: Vec<String>,
}

/// Compares a server with the trainer. `adapter` is the PEFT folder that the export was made from; a PEFT folder is its
/// own. `limit` is the largest mean absolute difference of log-probabilities, in nats.
///
/// # Errors
/// When the adapter does not belong to the base, the export needs an adapter that was not named, or the server cannot be
/// reached, serves something else or gives no log-probabilities.
pub fn prove(
    export: &Export,
    base: &BaseModel,
    adapter_folder: Option<&Path>,
    server: &Server,
    limit: f64,
    device: &Device,
) -> Result<Outcome, TrainError> {
    let adapter_folder = export.adapter(adapter_folder)?;
    let same_tokens = check_tokens(base, server)?;
    let prompts: Vec<Vec<u32>> =
        PROMPTS.iter().map(|text| base.tokenizer.encode_document(text)).collect::<Result<_, _>>()?;

    let plain = base.decoder(device)?;
    let own_plain = own(&plain, &prompts, device);
    let own_adapted = adapter_folder.map(|folder| adapted(plain, folder, &prompts, device)).transpose()?;

    let ask = |adapter| -> Result<Vec<Vec<(usize, f64)>>, TrainError> {
        prompts.iter().map(|prompt| server.next(prompt, adapter, base.config.vocab_size)).collect()
    };
    let compare = |own: &[Vec<f64>], adapter| Ok::<_, TrainError>(Agreement::of(own, &ask(adapter)?, limit));
    let (on, off) = match own_adapted.as_deref() {
        Some(adapted) if export.form().is_adapter() => {
            (compare(adapted, Adapter::On)?, Some(compare(&own_plain, Adapter::Off)?))
        }
        adapted => (compare(adapted.unwrap_or(&own_plain), Adapter::Folded)?, None),
    };
    let effect = own_adapted.map(|adapted| agreement::effect(&adapted, &own_plain));

    let reasons = reasons(&on, off.as_ref(), effect, limit);
    let proof = Proof {
        proved: reasons.is_empty(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        greffon_version: env!("CARGO_PKG_VERSION").to_owned(),
        server: server.info().clone(),
        base: base.name.clone(),
        base_digest: base.digest()?,
        adapter_digest: adapter_folder.map(adapter::digest).transpose()?,
        files: export.digests()?,
        prompts: PROMPTS.len(),
        prompts_digest: prompts_digest(),
        same_tokens,
        top: TOP,
        limit,
        on,
        off,
        effect,
    };
    Ok(Outcome { proof, reasons })
}

/// Whether the server cuts the prompts as the trainer does; `None` when it does not say.
fn check_tokens(base: &BaseModel, server: &Server) -> Result<Option<bool>, TrainError> {
    for text in PROMPTS {
        let own = base.tokenizer.encode_document(text)?;
        match server.tokens(text)? {
            None => return Ok(None),
            Some(theirs) if theirs == own => {}
            Some(theirs) => {
                let reason = format!(
                    "cuts {text:?} into the tokens {theirs:?}, the base {} into {own:?}; it serves another model or \
                     another tokenizer",
                    base.name
                );
                return Err(server.fail(reason));
            }
        }
    }
    Ok(Some(true))
}

/// The trainer's log-probabilities of the token after each prompt.
fn own(decoder: &Decoder, prompts: &[Vec<u32>], device: &Device) -> Vec<Vec<f64>> {
    prompts.iter().map(|prompt| next_log_probs(decoder, prompt, device)).collect()
}

fn adapted(
    mut decoder: Decoder,
    folder: &Path,
    prompts: &[Vec<u32>],
    device: &Device,
) -> Result<Vec<Vec<f64>>, TrainError> {
    adapter::load(&mut decoder, folder, device)?;
    Ok(own(&decoder, prompts, device))
}

fn reasons(on: &Agreement, off: Option<&Agreement>, effect: Option<f64>, limit: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    let named = [(if off.is_some() { "adapter on" } else { "model" }, Some(on)), ("adapter off", off)];
    for (name, agreement) in named.into_iter().filter_map(|(name, agreement)| Some((name, agreement?))) {
        if agreement.mean > limit {
            reasons.push(format!("{name}: the mean difference {:.4} is above the limit {limit}", agreement.mean));
        }
        if let Some(other) = agreement.other_first.first() {
            reasons.push(format!("{name}: {other}"));
        }
    }
    if let Some(effect) = effect.filter(|effect| *effect <= limit) {
        reasons.push(format!(
            "the adapter moves the log-probabilities by no more than {effect:.4} on average, so that a server which \
             ignores it would pass the limit {limit}; lower --limit below that"
        ));
    }
    reasons
}
