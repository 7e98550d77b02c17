//! Exact match and token F1 between an answer and the accepted ones.
//!
//! Source: the official SQuAD v1.1 evaluation script (Rajpurkar et al. 2016, <https://arxiv.org/abs/1606.05250>). The
//! articles it removes are the English ones; French text keeps its articles, so figures stay comparable.

use std::collections::BTreeMap;

/// Lower case, ASCII punctuation removed, the words `a`, `an`, `the` removed, white space collapsed.
fn normalize_answer(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words: Vec<&str> = plain.split_whitespace().filter(|w| !matches!(*w, "a" | "an" | "the")).collect();
    words.join(" ")
}

/// 1 when the normalised answer equals a normalised reference, else 0.
pub fn exact_match(answer: &str, references: &[String]) -> f64 {
    let answer = normalize_answer(answer);
    f64::from(u8::from(references.iter().any(|r| normalize_answer(r) == answer)))
}

/// The best harmonic mean of word precision and recall over the references, in 0 to 1.
pub fn f1(answer: &str, references: &[String]) -> f64 {
    let answer = normalize_answer(answer);
    references.iter().map(|r| f1_pair(&answer, &normalize_answer(r))).fold(0.0, f64::max)
}

fn f1_pair(answer: &str, reference: &str) -> f64 {
    let answer: Vec<&str> = answer.split_whitespace().collect();
    let reference: Vec<&str> = reference.split_whitespace().collect();
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in &reference {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0.0;
    for word in &answer {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            common += 1.0;
        }
    }
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / answer.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}
