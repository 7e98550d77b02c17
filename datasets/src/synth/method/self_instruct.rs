//! New instructions after the example of a few, then their answers.
//!
//! Source: Wang et al. 2023, <https://arxiv.org/abs/2212.10560>: eight examples, six of them written by people; an
//! instruction is new where its ROUGE-L with every other one is below 0.7.

use minijinja::context;

use super::{LINE_TOKENS, Open, Task, Workshop};
use crate::error::DataError;
use crate::mixture::permutation;
use crate::synth::config::SelfInstructConfig;
use crate::synth::sample::Sample;

/// Instructions asked for before those that came are shown as examples.
const ROUND: usize = 16;
/// So many are asked for to get one.
const ATTEMPTS: usize = 3;

/// Makes the samples of one step.
pub(super) fn make(workshop: &mut Workshop<'_>, config: &SelfInstructConfig) -> Result<Vec<Sample>, DataError> {
    let mut pool: Vec<(String, Vec<String>)> = workshop
        .seeds
        .iter()
        .map(|seed| (seed.question().split_whitespace().collect::<Vec<_>>().join(" "), vec![seed.id.clone()]))
        .collect();
    let seeds = pool.len();
    let words = |text: &str| text.to_lowercase().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut pool_words: Vec<Vec<String>> = pool.iter().map(|(text, _)| words(text)).collect();
    let mut open: Vec<Open> = Vec::new();
    for round in 0..(config.count * ATTEMPTS).div_ceil(ROUND) {
        let missing = (config.count - open.len()).min(ROUND);
        if missing == 0 || workshop.early.is_some() {
            break;
        }
        let shown: Vec<Vec<usize>> =
            (0..missing).map(|number| draw(workshop, config, seeds, pool.len(), round, number)).collect();
        let tasks: Vec<Task> = shown
            .iter()
            .enumerate()
            .map(|(number, shown)| Task {
                prompt: "instruct",
                values: context! { tasks => shown.iter().map(|index| pool[*index].0.clone()).collect::<Vec<_>>() },
                lang: config.lang.clone(),
                temperature: config.temperature,
                max_tokens: LINE_TOKENS,
                seed: workshop.config.seed.wrapping_add((round * ROUND + number) as u64),
            })
            .collect();
        let written = workshop.write("instructions", &tasks)?;
        for ((written, shown), task) in written.into_iter().zip(shown).zip(tasks) {
            let Some(written) = written else { continue };
            let line = written.line().to_owned();
            let own = words(&line);
            if own.len() < 3 {
                workshop.rejected.add("no instruction", &written.text);
                continue;
            }
            if pool_words.iter().any(|other| rouge_l(&own, other) > config.most_alike) {
                workshop.rejected.add("too like an earlier instruction", &line);
                continue;
            }
            let mut parents: Vec<String> = shown.iter().flat_map(|index| pool[*index].1.clone()).collect();
            parents.sort();
            parents.dedup();
            open.push(Open::new(task, &line, written.key, parents.clone()));
            pool.push((line, parents));
            pool_words.push(own);
        }
    }
    workshop.answer("self_instruct", open, 0.0, config.max_tokens)
}

/// The examples of one request: three quarters seeds, the others made before where there are any.
fn draw(
    workshop: &Workshop<'_>,
    config: &SelfInstructConfig,
    seeds: usize,
    all: usize,
    round: usize,
    number: usize,
) -> Vec<usize> {
    let stream = (round * ROUND + number) as u64;
    let made = (config.examples / 4).min(all - seeds);
    let mut shown: Vec<usize> =
        permutation(seeds, workshop.config.seed, stream).into_iter().take(config.examples - made).collect();
    let later = permutation(all - seeds, workshop.config.seed.wrapping_add(1), stream).into_iter().take(made);
    shown.extend(later.map(|index| seeds + index));
    shown
}

/// ROUGE-L as an F1 of words (Lin 2004, <https://aclanthology.org/W04-1013>).
fn rouge_l(a: &[String], b: &[String]) -> f64 {
    let mut lengths = vec![0_usize; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (index, other) in b.iter().enumerate() {
            let above = lengths[index + 1];
            lengths[index + 1] = if word == other { diagonal + 1 } else { above.max(lengths[index]) };
            diagonal = above;
        }
    }
    let common = lengths[b.len()] as f64;
    if common == 0.0 { 0.0 } else { 2.0 * common / (a.len() + b.len()) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_subsequence_counts() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        // Lin 2004, section 3.2: the candidates "police kill the gunman" and "the gunman kill police" against the
        // reference "police killed the gunman" have ROUGE-L 3/4 and 2/4.
        let reference = words("police killed the gunman");
        assert!((rouge_l(&words("police kill the gunman"), &reference) - 0.75).abs() < 1e-12);
        assert!((rouge_l(&words("the gunman kill police"), &reference) - 0.5).abs() < 1e-12);
        assert!(rouge_l(&words("x y"), &reference).abs() < 1e-12);
    }
}
