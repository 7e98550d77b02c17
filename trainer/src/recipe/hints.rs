//! "Did you mean": from a misspelt word to a known one.

use super::schema;

/// What to say about a key that `section` (by its path, empty at the top) does not know.
pub(super) fn unknown_key(key: &str, section: &str, known: &[&str]) -> String {
    let near = nearest(key, known);
    if !near.is_empty() {
        return did_you_mean(&near);
    }
    let elsewhere = schema::sections_with(key);
    match elsewhere.iter().find(|other| **other != section) {
        Some(&"") => format!("`{key}` belongs at the top level"),
        Some(other) => format!("`{key}` belongs in `{other}`"),
        None => format!("known keys are {}", known.join(", ")),
    }
}

/// `did you mean a or b?`
pub(super) fn did_you_mean(near: &[&str]) -> String {
    let words: Vec<_> = near.iter().map(|word| format!("`{word}`")).collect();
    format!("did you mean {}?", words.join(" or "))
}

/// The known words that a word may be a slip of: the most alike one, else those that contain it.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Vec<&'a str> {
    let plain = word.trim().to_lowercase().replace('-', "_");
    let alike = known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&plain, &candidate.replace('-', "_")), *candidate))
        .filter(|(likeness, _)| *likeness >= 0.65)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match alike {
        Some((_, candidate)) => vec![candidate],
        None if plain.len() < 4 => Vec::new(),
        None => known.iter().copied().filter(|candidate| candidate.contains(&plain)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["learning_rate", "global_batch_size", "micro_batch_size", "epochs", "eps", "all-linear"];
        let check = |word: &str, expected: &[&str]| assert_eq!(nearest(word, &known), expected, "{word}");
        check("learning_rat", &["learning_rate"]);
        check("learning-rate", &["learning_rate"]);
        check("learnign_rate", &["learning_rate"]);
        check("Epochs", &["epochs"]);
        check("epoch", &["epochs"]);
        check("batch_size", &["global_batch_size", "micro_batch_size"]);
        check("batch", &["global_batch_size", "micro_batch_size"]);
        check("all_linear", &["all-linear"]);
        check("lr", &[]);
        check("colour", &[]);
        check("", &[]);
    }
}
