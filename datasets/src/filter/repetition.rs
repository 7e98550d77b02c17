//! Answers that go in circles: the same words in a row, or runs of words that come again and again.
//!
//! Source: Welleck et al. 2020, <https://arxiv.org/abs/1908.04319>, section 6 (seq-rep-n).

use std::collections::HashSet;

use super::{Rejection, RepetitionConfig};

/// Fewer runs are too few to judge a share.
const FEWEST_RUNS: usize = 20;
/// The most words that are looked for in a row.
const LONGEST_LOOP: usize = 16;

pub(super) fn check(config: &RepetitionConfig, text: &str) -> Result<(), Rejection> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    for length in 1..=LONGEST_LOOP.min(words.len() / (config.in_a_row + 1)) {
        // How many words in a row equal the one `length` before them.
        let mut same = 0;
        for at in length..words.len() {
            same = if words[at] == words[at - length] { same + 1 } else { 0 };
            if same >= length * config.in_a_row {
                let looped = &words[at + 1 - length..=at];
                // Rows of numbers are data.
                if looped.iter().any(|word| word.chars().any(char::is_alphabetic)) {
                    let times = same / length + 1;
                    return Err(Rejection::Loop { words: looped.join(" "), times });
                }
            }
        }
    }
    let runs = words.len().saturating_sub(config.size - 1);
    let share = share(&words, config.size);
    if runs >= FEWEST_RUNS && share > config.most {
        return Err(Rejection::Repetition { size: config.size, share, most: config.most });
    }
    Ok(())
}

/// The share of the runs of `size` words that stood before in a text, in [0, 1): 1 - different runs / runs. 0 for a text of
/// fewer words.
pub fn repeated_share(text: &str, size: usize) -> f64 {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    share(&words, size)
}

fn share(words: &[&str], size: usize) -> f64 {
    if size == 0 || words.len() < size {
        return 0.0;
    }
    let runs = words.len() + 1 - size;
    let different: HashSet<&[&str]> = words.windows(size).collect();
    1.0 - different.len() as f64 / runs as f64
}
