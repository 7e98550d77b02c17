//! A tokenizer as the vocabulary of a GGUF file: the way back of `gguf`.
//!
//! Byte-level tokenizers keep their merges, and their rule for words goes by the name that llama.cpp has for it.
//! `SentencePiece` ones get scores, which order tokens as the merges do. Before a vocabulary is given out, a tokenizer
//! is rebuilt from it as llama.cpp would, and must give the same ids on texts that are hard for tokenizers.
//! Key names: the GGUF specification, section "Tokenizer".

use std::collections::HashMap;

use serde_json::Value;

use super::gguf::{BYTE, CONTROL, GgufVocabulary, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED};
use super::{ChatTokenizer, END_OF_TURN, guarded, pre_tokenizer};
use crate::{DataError, TokenizerError};

/// Texts on which the two tokenizers are compared: accents, ligatures, emoji of several code points, digits, code,
/// white space, scripts without spaces.
const HARD_TEXTS: [&str; 6] = [
    "L'été dernier, où es-tu allée ? À Besançon, chez Zoë — cœur léger, naïf, 25 °C.",
    "👩‍👩‍👧‍👦 🇫🇷 🌹❤️ 1234567890 3.14159 100 000 €",
    "def f(x):\n    return {'a': x**2}  # don't, I'll, it's\r\n\n\n\tend;",
    "   leading and trailing   \n\n  ",
    "日本語のテキスト 中文文本 한국어 العربية עברית हिन्दी ไทย",
    "ALL CAPS CamelCase snake_case kebab-case https://example.org/?q=1&r=%20",
];

impl ChatTokenizer {
    /// The vocabulary for a GGUF file of a model with so many embeddings; ids without a token are filled up.
    ///
    /// # Errors
    /// [`TokenizerError::NotInGguf`] when llama.cpp has no rule for what the tokenizer does.
    pub fn gguf_vocabulary(&self, vocab_size: usize) -> Result<GgufVocabulary, DataError> {
        let refuse = |Fault { part, message }| {
            DataError::Tokenizer(TokenizerError::NotInGguf { path: self.path.clone(), part, message })
        };
        let text = guarded(|| self.tokenizer.to_string(false)).map_err(|message| self.refused(message))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| self.refused(error.to_string()))?;
        let mut vocabulary = Source(&json).vocabulary(vocab_size).map_err(refuse)?;
        let id = |token: &Option<String>| token.as_deref().and_then(|token| self.id(token));
        vocabulary.bos = id(&self.special.bos);
        vocabulary.eos = id(&self.special.eos);
        vocabulary.unknown = id(&self.special.unknown);
        vocabulary.padding = id(&self.special.padding);
        let ends_turn = |id: &&u32| self.token(**id).is_some_and(|token| END_OF_TURN.contains(&token.as_str()));
        vocabulary.eot = self.eos_token_ids.iter().filter(|id| Some(**id) != vocabulary.eos).find(ends_turn).copied();
        vocabulary.add_bos = Some(self.adds_bos(vocabulary.bos)?);
        vocabulary.chat_template = self.template.as_ref().map(|template| template.source().to_owned());
        if let Some(id) = vocabulary.unknown.filter(|_| vocabulary.model == "llama") {
            vocabulary.token_types[id as usize] = UNKNOWN;
        }
        self.check_same_ids(&vocabulary)?;
        Ok(vocabulary)
    }

    /// Whether a text begins with the bos token: as the configuration says, else as the tokenizer does.
    fn adds_bos(&self, bos: Option<u32>) -> Result<bool, DataError> {
        if let Some(says) = self.config.get("add_bos_token").and_then(Value::as_bool) {
            return Ok(says && bos.is_some());
        }
        let encoding = guarded(|| self.tokenizer.encode_fast("a", true)).map_err(|message| self.refused(message))?;
        Ok(bos.is_some() && encoding.get_ids().first().copied() == bos)
    }

    /// Rebuilds the tokenizer from the vocabulary and compares the ids of [`HARD_TEXTS`] and of the special tokens.
    fn check_same_ids(&self, vocabulary: &GgufVocabulary) -> Result<(), DataError> {
        let refuse = |message: String| {
            DataError::Tokenizer(TokenizerError::NotInGguf { path: self.path.clone(), part: "model", message })
        };
        let (rebuilt, ..) = vocabulary.tokenizer().map_err(|fault| refuse(fault.message))?;
        let special: Vec<&str> =
            [&self.special.bos, &self.special.eos].into_iter().flatten().map(String::as_str).collect();
        let turns = special.join("user\nOù ?");
        for text in HARD_TEXTS.into_iter().chain([turns.as_str()]) {
            let own = self.encode(text)?;
            let other = guarded(|| rebuilt.encode_fast(text, false)).map_err(refuse)?;
            if own != other.get_ids() {
                let differs = own.iter().zip(other.get_ids()).position(|(own, other)| own != other);
                let at = differs.unwrap_or_else(|| own.len().min(other.get_ids().len()));
                return Err(refuse(format!(
                    "llama.cpp would cut {text:?} into other tokens, from token {at} on; merge into a folder instead \
                     (--as safetensors)"
                )));
            }
        }
        Ok(())
    }
}

/// A part of `tokenizer.json`, and why it has no form in GGUF.
struct Fault {
    part: &'static str,
    message: String,
}

/// A tokenizer in the form of `tokenizer.json`.
struct Source<'a>(&'a Value);

impl Source<'_> {
    fn vocabulary(&self, vocab_size: usize) -> Result<GgufVocabulary, Fault> {
        let fault = |message: String| Fault { part: "model", message };
        let model = &self.0["model"];
        if model["type"] != "BPE" {
            let message = format!("is of type {}, but llama.cpp is given BPE only; {REMEDY}", model["type"]);
            return Err(fault(message));
        }
        for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
            if !matches!(&model[key], Value::Null) && model[key] != "" {
                return Err(fault(format!("{key} is {}, which llama.cpp does not know; {REMEDY}", model[key])));
            }
        }
        let merges = self.merges().ok_or_else(|| fault("merges: expected pairs of tokens".to_owned()))?;
        let (tokens, mut token_types) = self.tokens(vocab_size).map_err(fault)?;
        if model["byte_fallback"] != true {
            return Ok(GgufVocabulary {
                model: "gpt2".to_owned(),
                pre: self.pre()?.to_owned(),
                merges: merges.iter().map(|[left, right]| format!("{left} {right}")).collect(),
                tokens,
                token_types,
                ..GgufVocabulary::default()
            });
        }
        for (token, kind) in tokens.iter().zip(&mut token_types) {
            let digits = token.strip_prefix("<0x").and_then(|token| token.strip_suffix('>'));
            if digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok()) {
                *kind = BYTE;
            }
        }
        Ok(GgufVocabulary {
            model: "llama".to_owned(),
            pre: "default".to_owned(),
            scores: scores(&tokens, &merges),
            add_space_prefix: Some(self.space_prefix()?),
            tokens,
            token_types,
            ..GgufVocabulary::default()
        })
    }

    /// Every id's token and type.
    fn tokens(&self, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>), String> {
        let mut all: Vec<Option<(String, i32)>> = vec![None; vocab_size];
        let mut put = |token: &str, id: &Value, kind: i32| {
            let place = id.as_u64().and_then(|id| all.get_mut(usize::try_from(id).ok()?));
            let place = place.ok_or_else(|| format!("token {token:?} has id {id}, expected less than {vocab_size}"))?;
            *place = Some((token.to_owned(), kind));
            Ok::<_, String>(())
        };
        for (token, id) in self.0["model"]["vocab"].as_object().into_iter().flatten() {
            put(token, id, NORMAL)?;
        }
        for added in self.0["added_tokens"].as_array().into_iter().flatten() {
            let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
            put(added["content"].as_str().unwrap_or_default(), &added["id"], kind)?;
        }
        let fill =
            |(id, entry): (usize, Option<(String, i32)>)| entry.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
        Ok(all.into_iter().enumerate().map(fill).unzip())
    }

    /// The merges, best first.
    fn merges(&self) -> Option<Vec<[&str; 2]>> {
        fn pair(merge: &Value) -> Option<[&str; 2]> {
            Some([merge.get(0)?.as_str()?, merge.get(1)?.as_str()?])
        }
        self.0["model"]["merges"].as_array()?.iter().map(pair).collect()
    }

    /// llama.cpp's name for the rule that cuts text into words.
    fn pre(&self) -> Result<&'static str, Fault> {
        let normalizer = &self.0["normalizer"];
        if !normalizer.is_null() && normalizer["type"] != "NFC" {
            let message = format!("is {normalizer}, but llama.cpp changes no text before it cuts it; {REMEDY}");
            return Err(Fault { part: "normalizer", message });
        }
        let ignore_merges = self.0["model"]["ignore_merges"] == true;
        pre_tokenizer::name_of(&self.0["pre_tokenizer"], ignore_merges)
            .map_err(|message| Fault { part: "pre_tokenizer", message: format!("{message}; {REMEDY}") })
    }

    /// Whether a `SentencePiece` tokenizer puts a space before a text; refuses what it may not do.
    fn space_prefix(&self) -> Result<bool, Fault> {
        let mut prefix = false;
        let normalizer = &self.0["normalizer"];
        for step in steps(normalizer, "normalizers") {
            let is_space = step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE;
            let is_prefix = step["type"] == "Prepend" && step["prepend"] == SPACE;
            prefix |= is_prefix;
            if !is_space && !is_prefix {
                let message = format!("has the step {step}, which llama.cpp does not make; {REMEDY}");
                return Err(Fault { part: "normalizer", message });
            }
        }
        for step in steps(&self.0["pre_tokenizer"], "pretokenizers") {
            let is_metaspace = step["type"] == "Metaspace" && step["replacement"] == SPACE && step["split"] == false;
            // After the normalizer there is no space left to cut at.
            let is_idle = step["type"] == "Split" && step["pattern"]["String"] == " " && !normalizer.is_null();
            prefix |= is_metaspace && step["prepend_scheme"] != "never";
            if !is_metaspace && !is_idle {
                let message = format!("has the step {step}, which llama.cpp does not make; {REMEDY}");
                return Err(Fault { part: "pre_tokenizer", message });
            }
        }
        Ok(prefix)
    }
}

/// What a user can do whose tokenizer has no form in GGUF.
const REMEDY: &str = "merge into a folder instead (--as safetensors)";

/// The steps of a sequence, or the one step; none for null.
pub(super) fn steps<'a>(value: &'a Value, of_sequence: &str) -> Vec<&'a Value> {
    match value {
        Value::Null => Vec::new(),
        sequence if sequence["type"] == "Sequence" => {
            sequence[of_sequence].as_array().into_iter().flatten().flat_map(|step| steps(step, of_sequence)).collect()
        }
        step => vec![step],
    }
}

/// Scores that order tokens as the merges do: the sooner a token is merged, the higher. Tokens that no merge makes come
/// after all others.
fn scores(tokens: &[String], merges: &[[&str; 2]]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for [left, right] in merges {
        let next = ranks.len();
        ranks.entry(format!("{left}{right}")).or_insert(next);
    }
    let last = ranks.len();
    // Single precision is exact for whole numbers up to 16 million, far more than vocabularies have.
    tokens.iter().map(|token| -(ranks.get(token).copied().unwrap_or(last) as f32)).collect()
}
