//! How varied the words of a set are.
//!
//! Source: Li et al. 2016, <https://arxiv.org/abs/1510.03055>, section 5 (distinct-1 and distinct-2).

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde::Serialize;

/// The different runs of words of a set over all its runs of as many words. It falls as a set grows, so sets of about the
/// same size are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distinct {
    /// All words.
    pub words: usize,
    /// Of words.
    pub distinct_1: f64,
    /// Of runs of two words.
    pub distinct_2: f64,
    /// Of runs of three words.
    pub distinct_3: f64,
}

/// Counts over texts; runs do not go beyond a text. 8 bytes are kept of each different run.
pub fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> Distinct {
    let mut different: [HashSet<u64>; 3] = Default::default();
    let mut all = [0usize; 3];
    for text in texts {
        let lower = text.to_lowercase();
        let words: Vec<&str> =
            lower.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        for (size, (different, all)) in (1..).zip(different.iter_mut().zip(&mut all)) {
            for run in words.windows(size) {
                // Its keys are fixed.
                let mut hasher = DefaultHasher::new();
                run.hash(&mut hasher);
                different.insert(hasher.finish());
                *all += 1;
            }
        }
    }
    let share = |i: usize| if all[i] == 0 { 0.0 } else { different[i].len() as f64 / all[i] as f64 };
    Distinct { words: all[0], distinct_1: share(0), distinct_2: share(1), distinct_3: share(2) }
}
