//! The log-likelihoods of texts, many at a time.
//!
//! Requests are packed into passes of about 2,048 tokens. The sequences of one request, such as the choices of a
//! question, share the tokens with which they all begin: these are computed once, and each sequence goes on from their
//! keys and values.

use std::ops::Range;

use burn::tensor::Tensor;
use datasets::permutation;
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::cluster::{Collective, Single, spread};
use crate::device::{indices, read};
use crate::error::TrainError;
use crate::model::generate::argmax;
use crate::model::{Context, KvCache, Segments};

/// Tokens in a forward pass, unless a single request has more.
const PASS: usize = 2048;
/// Rows of logits held at a time, where the most probable token is asked for.
const ROWS: usize = 32;

/// Tokens of which the last are scored, each given all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// All tokens.
    pub input_ids: Vec<u32>,
    /// The first that is scored, at least 1 and below the length.
    pub start: usize,
}

/// What is scored together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// At least one.
    pub sequences: Vec<Sequence>,
    /// Whether to find out if the scored tokens of the first sequence are the most probable ones.
    pub greedy: bool,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The summed log-probability of each sequence's scored tokens, in nats.
    pub sums: Vec<f64>,
    /// Every scored token of the first sequence is the most probable one; `false` when that was not asked.
    pub greedy: bool,
}

impl Sequence {
    /// The tokens that the model reads: all but the last.
    fn read(&self) -> &[u32] {
        &self.input_ids[..self.input_ids.len() - 1]
    }

    /// The scored tokens.
    fn targets(&self) -> &[u32] {
        &self.input_ids[self.start..]
    }

    /// Keeps the last tokens of a sequence that is longer than the model can read.
    pub(super) fn cut(&mut self, longest: usize) {
        let surplus = self.read().len().saturating_sub(longest);
        self.input_ids.drain(..surplus);
        self.start = self.start.saturating_sub(surplus).max(1);
    }
}

impl Request {
    /// How many tokens all sequences begin with, of which none is scored.
    fn shared(&self) -> usize {
        let first = &self.sequences[0];
        let others = &self.sequences[1..];
        let same = |at: usize| others.iter().all(|sequence| sequence.input_ids[at] == first.input_ids[at]);
        let longest = self.sequences.iter().map(|sequence| sequence.start).min().unwrap_or(0);
        (0..longest).take_while(|at| same(*at)).count()
    }

    /// Tokens that are computed for it.
    pub fn tokens(&self) -> usize {
        let shared = self.shared();
        shared + self.sequences.iter().map(|sequence| sequence.read().len() - shared).sum::<usize>()
    }

    /// Tokens that are scored.
    pub fn scored(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.targets().len()).sum()
    }
}

/// The requests of each forward pass, as indices. Those of about the same length go together, so that a pass is either a
/// few long ones or many short ones.
pub fn passes(requests: &[Request]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    let tokens: Vec<usize> = requests.iter().map(Request::tokens).collect();
    order.sort_by_key(|index| std::cmp::Reverse(tokens[*index]));
    let mut passes: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        match passes.last_mut() {
            Some(pass) if tokens[index] <= room => pass.push(index),
            _ => {
                passes.push(vec![index]);
                room = PASS;
            }
        }
        room = room.saturating_sub(tokens[index]);
    }
    // Mixed, so that the time that is left can be told from what is done.
    permutation(passes.len(), 0, 0).into_iter().map(|index| std::mem::take(&mut passes[index])).collect()
}

/// Scores every request, in order. `progress` is told how many are done and may end the work.
///
/// # Errors
/// Whatever `progress` ends it with.
///
/// # Panics
/// When a request has no sequence, or a sequence scores nothing.
pub fn log_likelihoods(
    subject: &Subject<'_>,
    requests: &[Request],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<Scored>, TrainError> {
    in_passes(subject, &Single, requests, progress)
}

/// The same by all ranks of the subject, each with its part of the passes. A pass is the same on any number of them, so the
/// numbers are too. `progress` is told how many are done on this rank.
///
/// # Errors
/// As [`log_likelihoods`]; [`TrainError::Cluster`].
pub fn log_likelihoods_together(
    subject: &Subject<'_>,
    requests: &[Request],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<Scored>, TrainError> {
    in_passes(subject, subject.collective, requests, progress)
}

fn in_passes(
    subject: &Subject<'_>,
    collective: &dyn Collective,
    requests: &[Request],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<Scored>, TrainError> {
    let passes = passes(requests);
    let mut done = 0;
    let answers = spread(collective, &passes, |own| {
        let one = |pass: &Vec<usize>| {
            let answers = score(subject, &pass.iter().map(|index| &requests[*index]).collect::<Vec<_>>());
            done += pass.len();
            progress(done).map(|()| answers)
        };
        own.iter().map(one).collect()
    })?;
    let mut scored: Vec<Option<Scored>> = vec![None; requests.len()];
    for (index, answer) in passes.into_iter().flatten().zip(answers.into_iter().flatten()) {
        scored[index] = Some(answer);
    }
    Ok(scored.into_iter().map(|answer| answer.expect("every request is in a pass")).collect())
}

/// Where a token is predicted: the part, and the token in it.
#[derive(Clone, Copy)]
enum Predictor {
    First(usize, usize),
    Rest(usize, usize),
}

/// At most two forward passes: the tokens that sequences share, or whole sequences; then what follows the shared ones.
#[derive(Default)]
struct Pass<'a> {
    firsts: Vec<&'a [u32]>,
    /// With the first part that each follows.
    rests: Vec<(usize, &'a [u32])>,
    predictors: Vec<Predictor>,
    targets: Vec<u32>,
    /// Of each sequence, in `targets`.
    ranges: Vec<Range<usize>>,
}

impl<'a> Pass<'a> {
    fn add(&mut self, request: &'a Request) {
        let shared = request.shared();
        if request.sequences.len() == 1 || shared == 0 {
            for sequence in &request.sequences {
                let first = self.firsts.len();
                self.firsts.push(sequence.read());
                self.score(sequence, |place| Predictor::First(first, place));
            }
            return;
        }
        let first = self.firsts.len();
        self.firsts.push(&request.sequences[0].input_ids[..shared]);
        for sequence in &request.sequences {
            let rest = self.rests.len();
            self.score(sequence, |place| match place.checked_sub(shared) {
                None => Predictor::First(first, place),
                Some(place) => Predictor::Rest(rest, place),
            });
            // A choice of one token is predicted by what is shared.
            if sequence.read().len() > shared {
                self.rests.push((first, &sequence.read()[shared..]));
            }
        }
    }

    fn score(&mut self, sequence: &Sequence, predictor: impl Fn(usize) -> Predictor) {
        let before = self.targets.len();
        self.predictors.extend((sequence.start - 1..sequence.read().len()).map(predictor));
        self.targets.extend(sequence.targets());
        self.ranges.push(before..self.targets.len());
    }

    /// The hidden states that predict the targets, `[targets, hidden]`.
    fn hidden(&self, subject: &Subject<'_>) -> Tensor<2> {
        let Subject { decoder, device, .. } = subject;
        let frequencies = decoder.config.inverse_frequencies();
        let forward = |parts: &[&[u32]], pasts: &[usize], caches: Option<&mut [KvCache]>| {
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            let segments = Segments::new(&lengths, pasts, &frequencies, device);
            let input_ids = indices(parts.concat(), device);
            decoder.forward(input_ids, &segments, Context { caches, ..Context::default() })
        };
        let none = vec![0; self.firsts.len()];
        let hidden = if self.rests.is_empty() {
            forward(&self.firsts, &none, None)
        } else {
            let mut caches = vec![KvCache::new(decoder.config.num_hidden_layers); self.firsts.len()];
            let first = forward(&self.firsts, &none, Some(&mut caches));
            let mut caches: Vec<KvCache> = self.rests.iter().map(|(first, _)| caches[*first].clone()).collect();
            let pasts: Vec<usize> = caches.iter().map(KvCache::seen).collect();
            let rests: Vec<&[u32]> = self.rests.iter().map(|(_, rest)| *rest).collect();
            Tensor::cat(vec![first, forward(&rests, &pasts, Some(&mut caches))], 0)
        };
        let parts = self.firsts.iter().copied().chain(self.rests.iter().map(|(_, rest)| *rest));
        let starts: Vec<usize> = parts.scan(0, |end, part| Some(std::mem::replace(end, *end + part.len()))).collect();
        let row = |predictor: &Predictor| match *predictor {
            Predictor::First(part, place) => starts[part] + place,
            Predictor::Rest(part, place) => starts[self.firsts.len() + part] + place,
        };
        hidden.select(0, indices(self.predictors.iter().map(row), device))
    }
}

fn score(subject: &Subject<'_>, requests: &[&Request]) -> Vec<Scored> {
    let mut pass = Pass::default();
    for request in requests {
        pass.add(request);
    }
    let hidden = pass.hidden(subject);
    let targets = indices(pass.targets.iter().copied(), subject.device);
    let losses = read(subject.decoder.losses(hidden.clone(), targets, None));
    let mut ranges = pass.ranges.into_iter();
    let answer = |request: &&Request| {
        let ranges: Vec<Range<usize>> = ranges.by_ref().take(request.sequences.len()).collect();
        let sum = |range: &Range<usize>| -losses[range.clone()].iter().copied().map(f64::from).sum::<f64>();
        let first = ranges[0].clone();
        let greedy = request.greedy && {
            let hidden = hidden.clone().narrow(0, first.start, first.len());
            is_greedy(subject, &hidden, &pass.targets[first])
        };
        Scored { sums: ranges.iter().map(sum).collect(), greedy }
    };
    requests.iter().map(answer).collect()
}

/// Whether each target is the most probable token, given the hidden states that predict it.
fn is_greedy(subject: &Subject<'_>, hidden: &Tensor<2>, targets: &[u32]) -> bool {
    (0..targets.len()).step_by(ROWS).all(|start| {
        let targets = &targets[start..targets.len().min(start + ROWS)];
        let logits = read(subject.decoder.logits(hidden.clone().narrow(0, start, targets.len())));
        let rows = logits.chunks_exact(logits.len() / targets.len());
        rows.zip(targets).all(|(row, target)| argmax(row) == *target)
    })
}
