//! Words that a shell reads as they are.

use std::borrow::Cow;

/// A word for a shell: as it is where it holds nothing special, else in single quotes.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_gives_the_words_back() {
        let words =
            ["plain/path-1.yaml", "", "two words", "it's", "$HOME `id` \"x\"", "a\nb", "lora.targets=[q_proj, v]", "*"];
        for word in words {
            let printed = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output().unwrap();
            assert_eq!(String::from_utf8(printed.stdout).unwrap(), word);
        }
        assert_eq!(quoted("train.seed=7"), "train.seed=7");
    }
}
