//! How byte-level vocabularies cut text into words before merging, by the name that a GGUF file gives.
//!
//! A GGUF file does not carry the rule itself but the name of one (`tokenizer.ggml.pre`), so the rules are
//! listed here. Source: `src/llama-vocab.cpp` of llama.cpp, and the `tokenizer.json` of the models named.

use serde_json::Value;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::to_gguf::steps;

/// A rule and the names that stand for it.
struct Rule {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces that the one before left.
    steps: &'static [Step],
    /// Whether a whole word that is in the vocabulary is taken as it is, without merging.
    ignore_merges: bool,
    /// Whether a text begins with the bos token when the file does not say.
    add_bos: bool,
}

enum Step {
    /// Each digit by itself.
    Digits,
    /// Each match, and each text between matches, by itself.
    Split(&'static str),
    /// GPT-2's pattern.
    Gpt2,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

const RULES: &[Rule] = &[
    Rule {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "a.x-4.0", "mellum"],
        steps: &[Step::Gpt2],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        steps: &[Step::Digits, Step::Gpt2],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        steps: &[Step::Split(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
    },
    Rule {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        steps: &[Step::Split(LLAMA3)],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        steps: &[Step::Split(QWEN2)],
        ignore_merges: false,
        add_bos: false,
    },
    Rule { names: &["qwen35"], steps: &[Step::Split(QWEN35)], ignore_merges: false, add_bos: false },
    Rule { names: &["tekken"], steps: &[Step::Split(TEKKEN)], ignore_merges: true, add_bos: true },
    Rule {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        steps: &[Step::Split(GPT4O)],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        steps: &[Step::Split(r"\p{N}{1,3}"), Step::Split(r"[一-龥぀-ゟ゠-ヿ]+"), Step::Split(DEEPSEEK3)],
        ignore_merges: false,
        add_bos: false,
    },
    // What llama.cpp does for files of before the key existed.
    Rule {
        names: &["default"],
        steps: &[
            Step::Split(r"[\p{P}\$\+<=>\^~\|]+"),
            Step::Split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"),
            Step::Split(r"\p{N}+"),
            Step::Split(r"[0-9][0-9][0-9]"),
        ],
        ignore_merges: false,
        add_bos: false,
    },
];

/// A rule made ready for the tokenizer.
pub(super) struct WordRule {
    pub(super) steps: Sequence,
    pub(super) ignore_merges: bool,
    pub(super) add_bos: bool,
}

/// llama.cpp's name for the rule that a `tokenizer.json` has as its `pre_tokenizer`.
///
/// # Errors
/// A sentence with the known names when it is none of them.
pub(super) fn name_of(pre_tokenizer: &Value, ignore_merges: bool) -> Result<&'static str, String> {
    let wanted = comparable(pre_tokenizer);
    for rule in RULES.iter().filter(|rule| rule.ignore_merges == ignore_merges) {
        let steps = serde_json::to_value(by_name(rule.names[0])?.steps).map_err(|error| error.to_string())?;
        if comparable(&steps) == wanted {
            return Ok(rule.names[0]);
        }
    }
    let known: Vec<&str> = RULES.iter().map(|rule| rule.names[0]).collect();
    Err(format!(
        "is {pre_tokenizer}{}, which is none of the rules that llama.cpp has; known are those of {}",
        if ignore_merges { " with ignore_merges" } else { "" },
        known.join(", ")
    ))
}

/// The steps without what does not change where text is cut.
fn comparable(pre_tokenizer: &Value) -> Vec<Value> {
    let without_offsets = |step: &Value| {
        let mut step = step.clone();
        if let Some(object) = step.as_object_mut() {
            object.remove("trim_offsets");
        }
        step
    };
    steps(pre_tokenizer, "pretokenizers").into_iter().map(without_offsets).collect()
}

/// The rule of a name.
///
/// # Errors
/// A sentence with the known names when the name is not one of them.
pub(super) fn by_name(name: &str) -> Result<WordRule, String> {
    let Some(rule) = RULES.iter().find(|rule| rule.names.contains(&name)) else {
        let mut known: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
        known.sort_unstable();
        return Err(format!(
            "expected a known pre-tokenizer, got {name:?}; known are {}; use the model's Hugging Face folder instead",
            known.join(", ")
        ));
    };
    // Offsets are left whole, so that a token's range holds its leading space.
    let byte_level = |use_regex| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, use_regex));
    let mut steps = Vec::with_capacity(rule.steps.len() + 1);
    for step in rule.steps {
        steps.push(match step {
            Step::Digits => PreTokenizerWrapper::Digits(Digits::new(true)),
            Step::Split(pattern) => {
                let pattern = SplitPattern::Regex((*pattern).to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
                PreTokenizerWrapper::Split(split.map_err(|error| error.to_string())?)
            }
            Step::Gpt2 => byte_level(true),
        });
    }
    if !matches!(rule.steps.last(), Some(Step::Gpt2)) {
        steps.push(byte_level(false));
    }
    Ok(WordRule { steps: Sequence::new(steps), ignore_merges: rule.ignore_merges, add_bos: rule.add_bos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_compiles_and_no_name_stands_for_two() {
        let names: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
        for name in &names {
            assert!(by_name(name).is_ok(), "{name}");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let message = by_name("llama-5").err().unwrap();
        assert!(message.contains("got \"llama-5\"") && message.contains("llama-bpe, "), "{message}");
    }
}
