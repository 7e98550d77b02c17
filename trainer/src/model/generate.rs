//! Generation with a cache: several prompts at a time, greedy or sampled. What several prompts begin with, such as a
//! document or examples, is computed once.

use burn::tensor::{Device, Tensor};
use datasets::{Family, families};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cache::KvCache;
use super::decoder::{Context, Decoder};
use super::segments::Segments;
use crate::device::{indices, read};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most probable token; above, logits are divided by it.
    pub temperature: f64,
    /// Keep the smallest set of tokens whose probabilities reach this sum, in `(0, 1]`.
    ///
    /// Source: Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>.
    pub top_p: f64,
    /// Seed of the draws; each sequence has its own stream.
    pub seed: u64,
    /// The most tokens to generate.
    pub max_new_tokens: usize,
}

impl Sampling {
    /// The most probable token at every place.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0, max_new_tokens }
    }
}

/// What came out for one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens, without the one that ended the turn.
    pub ids: Vec<u32>,
    /// The model ended its turn; otherwise the limit did.
    pub stopped: bool,
}

/// A sequence under way.
struct Sequence {
    /// What the next forward pass reads.
    pending: Vec<u32>,
    cache: KvCache,
    rng: ChaCha8Rng,
    output: Generated,
    /// The index of the prompt.
    prompt: usize,
    room: usize,
}

/// Continues every prompt. `on_token(prompt, id)` sees each token as it comes and ends that sequence by returning false.
///
/// The decoder should be outside autodiff ([`Decoder::inner`]). Sequences end at a token of `eos_token_ids`, at
/// `max_new_tokens`, or where the model's positions end.
///
/// # Panics
/// When a prompt is empty.
pub fn generate(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    sampling: Sampling,
    eos_token_ids: &[u32],
    device: &Device,
    on_token: impl FnMut(usize, u32) -> bool,
) -> Vec<Generated> {
    let seed = |prompt: usize| sampling.seed.wrapping_add(prompt as u64);
    let samplings: Vec<Sampling> =
        (0..prompts.len()).map(|prompt| Sampling { seed: seed(prompt), ..sampling }).collect();
    generate_each(decoder, prompts, &samplings, eos_token_ids, device, on_token)
}

/// The same, each prompt with a sampling of its own: what comes out for one does not depend on the others.
///
/// # Panics
/// When a prompt is empty, or has no sampling.
pub fn generate_each(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    samplings: &[Sampling],
    eos_token_ids: &[u32],
    device: &Device,
    mut on_token: impl FnMut(usize, u32) -> bool,
) -> Vec<Generated> {
    assert_eq!(prompts.len(), samplings.len(), "each prompt has its sampling");
    let inverse_frequencies = decoder.config.inverse_frequencies();
    let mut finished: Vec<Option<Generated>> = vec![None; prompts.len()];
    assert!(prompts.iter().all(|ids| !ids.is_empty()), "a prompt has at least one token");
    let mut active: Vec<Sequence> = beginnings(decoder, prompts, &inverse_frequencies, device)
        .into_iter()
        .enumerate()
        .map(|(prompt, cache)| {
            let ids = &prompts[prompt];
            Sequence {
                pending: ids[cache.seen()..].to_vec(),
                cache,
                rng: ChaCha8Rng::seed_from_u64(samplings[prompt].seed),
                output: Generated { ids: Vec::new(), stopped: false },
                prompt,
                room: samplings[prompt]
                    .max_new_tokens
                    .min(decoder.config.max_position_embeddings.saturating_sub(ids.len())),
            }
        })
        .collect();
    loop {
        let (done, rest): (Vec<_>, Vec<_>) = active.into_iter().partition(|s| s.output.stopped || s.room == 0);
        for sequence in done {
            finished[sequence.prompt] = Some(sequence.output);
        }
        active = rest;
        if active.is_empty() {
            break;
        }
        let logits = next_logits(decoder, &mut active, &inverse_frequencies, device);
        for (sequence, logits) in active.iter_mut().zip(logits.chunks_exact(decoder.config.vocab_size)) {
            let id = choose(logits, samplings[sequence.prompt], &mut sequence.rng);
            if eos_token_ids.contains(&id) {
                sequence.output.stopped = true;
                continue;
            }
            sequence.output.ids.push(id);
            sequence.pending = vec![id];
            sequence.room -= 1;
            if !on_token(sequence.prompt, id) {
                sequence.room = 0;
            }
        }
    }
    finished.into_iter().map(|g| g.expect("every sequence ends")).collect()
}

/// A cache for each prompt, with what it and others begin with where there is such a beginning.
fn beginnings(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    inverse_frequencies: &[Vec<f32>],
    device: &Device,
) -> Vec<KvCache> {
    let mut caches = vec![KvCache::new(decoder.config.num_hidden_layers); prompts.len()];
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let unsupervised = vec![false; longest];
    let parts: Vec<(&[u32], &[bool])> = prompts.iter().map(|ids| (&ids[..], &unsupervised[..ids.len()])).collect();
    let mut families = families(&parts, usize::MAX, usize::MAX);
    families.retain(|family| family.shared > 0);
    if families.is_empty() {
        return caches;
    }
    let mut filled = vec![KvCache::new(decoder.config.num_hidden_layers); families.len()];
    let new: Vec<&[u32]> = families.iter().map(|family| &prompts[family.members[0]][..family.shared]).collect();
    feed(decoder, &new, &mut filled, inverse_frequencies, device);
    for (Family { members, .. }, cache) in families.iter().zip(filled) {
        for &member in members {
            caches[member] = cache.clone();
        }
    }
    caches
}

/// Feeds what is pending and returns the logits of each sequence's last token, one row after the other.
fn next_logits(
    decoder: &Decoder,
    active: &mut [Sequence],
    inverse_frequencies: &[Vec<f32>],
    device: &Device,
) -> Vec<f32> {
    let mut caches: Vec<KvCache> =
        active.iter_mut().map(|s| std::mem::replace(&mut s.cache, KvCache::new(0))).collect();
    let new: Vec<&[u32]> = active.iter().map(|s| &s.pending[..]).collect();
    let (hidden, segments) = feed(decoder, &new, &mut caches, inverse_frequencies, device);
    for (sequence, cache) in active.iter_mut().zip(caches) {
        sequence.cache = cache;
    }
    read(decoder.logits(hidden.select(0, indices(segments.last_tokens(), device))))
}

/// Runs the new tokens of each sequence, `[tokens, hidden]`, and adds them to its cache.
fn feed(
    decoder: &Decoder,
    new: &[&[u32]],
    caches: &mut [KvCache],
    inverse_frequencies: &[Vec<f32>],
    device: &Device,
) -> (Tensor<2>, Segments) {
    let lengths: Vec<usize> = new.iter().map(|ids| ids.len()).collect();
    let pasts: Vec<usize> = caches.iter().map(KvCache::seen).collect();
    let segments = Segments::new(&lengths, &pasts, inverse_frequencies, device);
    let input_ids = indices(new.iter().flat_map(|ids| ids.iter().copied()), device);
    let context = Context { caches: Some(caches), ..Context::default() };
    (decoder.forward(input_ids, &segments, context), segments)
}

/// Chooses a token from a row of logits.
fn choose(logits: &[f32], sampling: Sampling, rng: &mut ChaCha8Rng) -> u32 {
    if sampling.temperature <= 0.0 {
        return argmax(logits);
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(u32, f64)> =
        (0u32..).zip(logits).map(|(id, &logit)| (id, (f64::from(logit - max) / sampling.temperature).exp())).collect();
    let total: f64 = weights.iter().map(|(_, w)| w).sum();
    let mut kept = total;
    if sampling.top_p < 1.0 {
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        kept = 0.0;
        let enough = weights.iter().position(|(_, w)| {
            kept += w;
            kept >= sampling.top_p * total
        });
        weights.truncate(enough.map_or(weights.len(), |i| i + 1));
    }
    let mut target = rng.random::<f64>() * kept;
    for &(id, weight) in &weights {
        target -= weight;
        if target < 0.0 {
            return id;
        }
    }
    weights.last().map_or(0, |&(id, _)| id)
}

/// The first of the largest values.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0u32..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(top_p: f64, temperature: f64) -> Vec<u32> {
        let sampling = Sampling { temperature, top_p, seed: 7, max_new_tokens: 1 };
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.15_f32.ln(), 0.05_f32.ln()];
        (0..4000).map(|_| choose(&logits, sampling, &mut rng)).collect()
    }

    #[test]
    fn temperature_zero_takes_the_first_largest() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
    }

    #[test]
    fn sampling_follows_the_probabilities() {
        let ids = draw(1.0, 1.0);
        let share = |id| ids.iter().filter(|&&i| i == id).count() as f64 / ids.len() as f64;
        for (id, expected) in [(0, 0.5), (1, 0.3), (2, 0.15), (3, 0.05)] {
            assert!((share(id) - expected).abs() < 0.03, "token {id}: {} instead of {expected}", share(id));
        }
    }

    #[test]
    fn top_p_keeps_the_smallest_sufficient_set() {
        assert!(draw(0.75, 1.0).iter().all(|&id| id <= 1));
        assert!(draw(0.5, 1.0).iter().all(|&id| id == 0));
    }
}
