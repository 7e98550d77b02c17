//! What of a set is kept: first what rules say of it, then what its teacher says when it is asked, last how hard it is for
//! the model that will learn it. What costs most is asked last.

mod consistency;
mod difficulty;
mod judge;

pub use difficulty::Scorer;

use super::method::Workshop;
use super::sample::Sample;
use crate::error::DataError;
use crate::filter::{Candidate, Extract, FilterReport, Filters};

/// What is kept, and what the rules say of all.
///
/// # Errors
/// When the teacher as a whole does not answer, or a text cannot be encoded.
pub(super) fn select(
    workshop: &mut Workshop<'_>,
    filters: &Filters<'_>,
    scorer: Option<&dyn Scorer>,
    samples: Vec<Sample>,
) -> Result<(Vec<Sample>, FilterReport), DataError> {
    let filtered = filters.run(&samples.iter().map(candidate).collect::<Vec<_>>(), workshop.config.seed)?;
    let mut kept = Vec::new();
    for (mut sample, verdict) in samples.into_iter().zip(filtered.verdicts) {
        if verdict.is_accepted() {
            sample.provenance.filters = verdict.passed.iter().map(|filter| filter.name().to_owned()).collect();
            kept.push(sample);
        }
    }
    let config = workshop.config;
    if let Some(consistency) = &config.consistency {
        kept = consistency::select(workshop, consistency, kept)?;
    }
    if let Some(judge) = &config.judge {
        kept = judge::select(workshop, judge, kept)?;
    }
    if let (Some(difficulty), Some(scorer)) = (&config.difficulty, scorer) {
        kept = difficulty::select(workshop, difficulty, scorer, kept)?;
    }
    Ok((kept, filtered.report))
}

/// What the rules look at.
fn candidate(sample: &Sample) -> Candidate<'_> {
    let extract = sample.grounding.as_ref().and_then(|grounding| {
        let span = grounding.answer.as_ref()?;
        Some(Extract { answer: &span.text, passage: &grounding.context })
    });
    Candidate { messages: &sample.messages, extract }
}

/// Whether a teacher can be asked about a sample: what a program made is true by its making, and so is that another
/// document's passage has no answer.
fn is_asked_about(sample: &Sample) -> bool {
    let is_extract = sample.grounding.as_ref().is_none_or(|grounding| grounding.answer.is_some());
    sample.provenance.teacher.is_some() && is_extract
}
