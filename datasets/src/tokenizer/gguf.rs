//! A tokenizer rebuilt from the vocabulary inside a GGUF file.
//!
//! Two kinds exist: `gpt2`, a byte-level BPE with merges, and `llama`, a `SentencePiece` BPE whose merges
//! follow from the scores. The text is cut and merged as llama.cpp does it, so that a model is trained on
//! the ids with which it will be served. Key names: the GGUF specification, section "Tokenizer".

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::processors::template::{Template, TemplateProcessing};
use tokenizers::tokenizer::AddedToken;
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer};
use tokenizers::{decoders, normalizers, pre_tokenizers};

use super::files::template_file;
use super::{ChatTokenizer, Parts, guarded, pre_tokenizer};
use crate::{DataError, SpecialTokens, TokenizerError};

/// The keys `tokenizer.*` of a GGUF file, as they stand there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` or `llama`.
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the rule that cuts text into words; only for `gpt2`.
    pub pre: String,
    /// `tokenizer.ggml.tokens`: the token of each id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: pairs with a space between, best first; only for `gpt2`.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.scores`: the higher the earlier a token is merged; only for `llama`.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: the token that ends a turn, where it is not `eos`.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: whether text begins with a space that is not written; only for
    /// `llama`, where it is true unless the file says otherwise.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

/// What `SentencePiece` writes for a space.
pub(super) const SPACE: &str = "▁";

impl ChatTokenizer {
    /// Rebuilds the tokenizer of a GGUF file, which is at `path`. `chat_template` is a Jinja file that
    /// replaces the model's own template.
    ///
    /// # Errors
    /// [`TokenizerError::GgufVocabulary`] when the lists contradict each other, an id is beyond the vocabulary
    /// or the kind or pre-tokenizer is not known; [`DataError::Read`] and [`TemplateError::Syntax`](crate::TemplateError::Syntax) when
    /// the chat template cannot be read or does not parse.
    pub fn from_gguf(vocabulary: GgufVocabulary, path: &Path, chat_template: Option<&Path>) -> Result<Self, DataError> {
        let (tokenizer, special, adds_bos) = vocabulary.tokenizer().map_err(|Fault { key, message }| {
            DataError::Tokenizer(TokenizerError::GgufVocabulary { path: path.to_owned(), key, message })
        })?;
        let template = match chat_template {
            Some(chat_template) => Some(template_file(chat_template)?),
            None => vocabulary.chat_template.map(|source| (source, path.to_owned())),
        };
        Self::assemble(Parts {
            tokenizer,
            config: tokenizer_config(&special, adds_bos),
            special,
            eos_token_ids: vocabulary.eot.into_iter().collect(),
            template,
            path: path.to_owned(),
        })
    }
}

/// A metadata key, and what is wrong with its value.
pub(super) struct Fault {
    key: &'static str,
    pub(super) message: String,
}

fn fault(key: &'static str, message: impl Into<String>) -> Fault {
    Fault { key, message: message.into() }
}

impl GgufVocabulary {
    /// The tokenizer, the special tokens, and whether bos is added before a text.
    pub(super) fn tokenizer(&self) -> Result<(Tokenizer, SpecialTokens, bool), Fault> {
        let ids = self.check()?;
        let (mut tokenizer, adds_bos) = match self.model.as_str() {
            "gpt2" => self.byte_level(&ids)?,
            "llama" => self.sentence_piece(&ids)?,
            other => {
                let message =
                    format!("expected gpt2 or llama, got {other:?}; use the model's Hugging Face folder instead");
                return Err(fault("tokenizer.ggml.model", message));
            }
        };
        let is_added = |kind: i32| matches!(kind, UNKNOWN | CONTROL | USER_DEFINED);
        let added = self.tokens.iter().zip(&self.token_types).filter(|(_, kind)| is_added(**kind));
        let added = added.map(|(token, kind)| AddedToken::from(token, *kind != USER_DEFINED).normalized(false));
        tokenizer.add_tokens(added).map_err(|error| fault("tokenizer.ggml.token_type", error.to_string()))?;

        let text = |id: Option<u32>| id.map(|id| self.tokens[id as usize].clone());
        let special = SpecialTokens {
            bos: text(self.bos),
            eos: text(self.eos),
            padding: text(self.padding),
            unknown: text(self.unknown),
            terminators: Vec::new(),
        };
        let adds_bos = self.add_bos.unwrap_or(adds_bos);
        if let (true, Some(id), Some(bos)) = (adds_bos, self.bos, &special.bos) {
            let processor = bos_first(bos, id).map_err(|message| fault("tokenizer.ggml.bos_token_id", message))?;
            tokenizer.with_post_processor(Some(processor));
        }
        Ok((tokenizer, special, adds_bos))
    }

    /// Checks what both kinds share, and gives the id of each token.
    fn check(&self) -> Result<HashMap<&str, u32>, Fault> {
        let count = self.tokens.len();
        if count == 0 || u32::try_from(count).is_err() {
            return Err(fault("tokenizer.ggml.tokens", format!("expected a list of tokens, got {count} entries")));
        }
        if self.token_types.len() != count {
            let message = format!("expected {count} entries, one for each token, got {}", self.token_types.len());
            return Err(fault("tokenizer.ggml.token_type", message));
        }
        for (key, id) in [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.unknown_token_id", self.unknown),
            ("tokenizer.ggml.padding_token_id", self.padding),
        ] {
            if let Some(id) = id.filter(|id| *id as usize >= count) {
                return Err(fault(key, format!("expected an id below {count}, the number of tokens, got {id}")));
            }
        }
        let mut ids = HashMap::with_capacity(count);
        for (id, token) in (0_u32..).zip(&self.tokens) {
            if let Some(first) = ids.insert(token.as_str(), id) {
                let message = format!("token {token:?} stands twice, with the ids {first} and {id}");
                return Err(fault("tokenizer.ggml.tokens", message));
            }
        }
        Ok(ids)
    }

    /// A byte-level BPE, and whether it begins a text with bos when the file does not say.
    fn byte_level(&self, ids: &HashMap<&str, u32>) -> Result<(Tokenizer, bool), Fault> {
        const MERGES: &str = "tokenizer.ggml.merges";
        let rule = pre_tokenizer::by_name(&self.pre).map_err(|message| fault("tokenizer.ggml.pre", message))?;
        if self.merges.is_empty() {
            return Err(fault(MERGES, "expected a list of merges, got none"));
        }
        let mut merges = Vec::with_capacity(self.merges.len());
        for (index, merge) in self.merges.iter().enumerate() {
            // Where a part begins with a space, that one is not the separator.
            let separator = merge.char_indices().skip(1).find(|(_, character)| *character == ' ');
            let Some((left, right)) = separator.map(|(at, _)| (&merge[..at], &merge[at + 1..])) else {
                let message = format!("entry {index}: expected two tokens with a space between, got {merge:?}");
                return Err(fault(MERGES, message));
            };
            let whole = format!("{left}{right}");
            if let Some(missing) = [left, right, &whole].into_iter().find(|token| !ids.contains_key(token)) {
                let message =
                    format!("entry {index}: {merge:?} needs the token {missing:?}, which the vocabulary lacks");
                return Err(fault(MERGES, message));
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        let model = self.model(BPE::builder().ignore_merges(rule.ignore_merges), ids, merges)?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(rule.steps));
        tokenizer.with_decoder(Some(decoders::byte_level::ByteLevel::new(false, false, false)));
        Ok((tokenizer, rule.add_bos))
    }

    /// A `SentencePiece` BPE: no words, spaces written as `▁`, unknown characters as bytes.
    fn sentence_piece(&self, ids: &HashMap<&str, u32>) -> Result<(Tokenizer, bool), Fault> {
        const SCORES: &str = "tokenizer.ggml.scores";
        if self.scores.len() != self.tokens.len() {
            let message =
                format!("expected {} entries, one for each token, got {}", self.tokens.len(), self.scores.len());
            return Err(fault(SCORES, message));
        }
        if let Some(id) = self.scores.iter().position(|score| score.is_nan()) {
            return Err(fault(SCORES, format!("expected a number for token {id}, got {}", self.scores[id])));
        }
        let mut builder = BPE::builder().fuse_unk(true).byte_fallback(true);
        if let Some(unknown) = self.unknown {
            builder = builder.unk_token(self.tokens[unknown as usize].clone());
        }
        let mut tokenizer = Tokenizer::new(self.model(builder, ids, self.merges_by_score(ids))?);

        let refuse = |error: tokenizers::Error| fault("tokenizer.ggml.model", error.to_string());
        let mut normalizer = Vec::new();
        let mut decoder: Vec<DecoderWrapper> = vec![
            normalizers::Replace::new(SPACE, " ").map_err(refuse)?.into(),
            decoders::byte_fallback::ByteFallback::new().into(),
            decoders::fuse::Fuse::new().into(),
        ];
        if self.add_space_prefix.unwrap_or(true) {
            normalizer.push(NormalizerWrapper::Prepend(normalizers::Prepend::new(SPACE.to_owned())));
            decoder.push(decoders::strip::Strip::new(' ', 1, 0).into());
        }
        normalizer.push(normalizers::Replace::new(" ", SPACE).map_err(refuse)?.into());
        tokenizer.with_normalizer(Some(normalizers::Sequence::new(normalizer))).map_err(refuse)?;
        tokenizer.with_pre_tokenizer(None::<pre_tokenizers::sequence::Sequence>);
        tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(decoder)));
        Ok((tokenizer, true))
    }

    /// The merges that the scores imply: every way to cut a token into two others, the best score first.
    fn merges_by_score(&self, ids: &HashMap<&str, u32>) -> Vec<(String, String)> {
        let mut cuts = Vec::new();
        for ((id, token), (score, kind)) in (0_u32..).zip(&self.tokens).zip(self.scores.iter().zip(&self.token_types)) {
            if matches!(*kind, UNKNOWN | CONTROL | BYTE) {
                continue;
            }
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                    cuts.push((*score, left.chars().count(), id, *left_id, *right_id));
                }
            }
        }
        cuts.sort_by(|a, b| {
            let key = |cut: &(f32, usize, u32, u32, u32)| (Reverse(cut.1), cut.2, cut.3, cut.4);
            b.0.total_cmp(&a.0).then_with(|| key(a).cmp(&key(b)))
        });
        let text = |id: u32| self.tokens[id as usize].clone();
        cuts.into_iter().map(|(_, _, _, left, right)| (text(left), text(right))).collect()
    }

    fn model(
        &self,
        builder: BpeBuilder,
        ids: &HashMap<&str, u32>,
        merges: Vec<(String, String)>,
    ) -> Result<BPE, Fault> {
        let vocabulary: tokenizers::models::bpe::Vocab =
            self.tokens.iter().map(|token| (token.clone(), ids[token.as_str()])).collect();
        guarded(|| builder.vocab_and_merges(vocabulary, merges).build())
            .map_err(|message| fault("tokenizer.ggml.tokens", message))
    }
}

/// Adds bos before a text, where special tokens are asked for.
fn bos_first(token: &str, id: u32) -> Result<TemplateProcessing, String> {
    TemplateProcessing::builder()
        .single(Template::try_from(vec![token, "$A"])?)
        .pair(Template::try_from(vec![token, "$A", token, "$B"])?)
        .special_tokens(vec![(token, id)])
        .build()
        .map_err(|error| error.to_string())
}

/// The `tokenizer_config.json` that transformers needs beside the rebuilt `tokenizer.json`.
fn tokenizer_config(special: &SpecialTokens, adds_bos: bool) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("add_bos_token".to_owned(), json!(adds_bos));
    for (name, token) in [
        ("bos_token", &special.bos),
        ("eos_token", &special.eos),
        ("pad_token", &special.padding),
        ("unk_token", &special.unknown),
    ] {
        config.extend(token.as_ref().map(|token| (name.to_owned(), json!(token))));
    }
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config
}
