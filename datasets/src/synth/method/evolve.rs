//! Instructions made harder or wider, and answered anew.
//!
//! Source: Xu et al. 2023, <https://arxiv.org/abs/2304.12244>: in-depth evolving (constraints, deepening, concretizing,
//! reasoning steps), in-breadth evolving, and the elimination of what failed to evolve.

use minijinja::context;

use super::{LINE_TOKENS, Open, Task, Workshop};
use crate::error::DataError;
use crate::mixture::permutation;
use crate::synth::config::EvolveConfig;
use crate::synth::sample::Sample;

/// The ways of making an instruction harder, as the prompt names them.
const DEEPER: [&str; 4] = ["constraint", "deeper", "concrete", "reasoning"];
/// Words of the prompt that show when it was copied.
const COPIED: [&str; 4] = ["voici une demande", "autre demande", "another request", "here is a request"];

/// Makes the samples of one step.
pub(super) fn make(
    workshop: &mut Workshop<'_>,
    config: &EvolveConfig,
    start: &[Sample],
) -> Result<Vec<Sample>, DataError> {
    let mut last: Vec<Sample> = start.iter().filter(|sample| sample.grounding.is_none()).cloned().collect();
    let mut all = Vec::new();
    for round in 0..config.rounds {
        let seed = workshop.config.seed.wrapping_add(round as u64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let wider = (last.len() as f64 * config.wider).round() as usize;
        let order = permutation(last.len(), seed, 3);
        let tasks: Vec<Task> = last
            .iter()
            .zip(order)
            .enumerate()
            .map(|(number, (sample, drawn))| Task {
                prompt: "evolve",
                values: context! {
                    instruction => sample.question(),
                    operation => if drawn < wider { "wider" } else { DEEPER[drawn % DEEPER.len()] },
                },
                lang: sample.lang_or_told(),
                temperature: config.temperature,
                max_tokens: 2 * LINE_TOKENS,
                seed: seed.wrapping_add(number as u64),
            })
            .collect();
        let written = workshop.write("harder instructions", &tasks)?;
        let mut open = Vec::new();
        for ((sample, written), task) in last.iter().zip(written).zip(tasks) {
            let Some(written) = written else { continue };
            let line = written.line();
            let lower = line.to_lowercase();
            if line.split_whitespace().count() < 3 || lower == sample.question().to_lowercase() {
                workshop.rejected.add("did not evolve", &written.text);
            } else if COPIED.iter().any(|copied| lower.contains(copied)) {
                workshop.rejected.add("copies the prompt", &written.text);
            } else {
                open.push(Open::new(task, line, written.key.clone(), sample.line()));
            }
        }
        last = workshop.answer("evolve", open, 0.0, config.max_tokens)?;
        all.extend(last.iter().cloned());
    }
    Ok(all)
}
