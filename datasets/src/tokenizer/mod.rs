//! The tokenizer of a model together with its chat template and the tokens that end a turn.
//!
//! Read from a Hugging Face folder or rebuilt from the vocabulary inside a GGUF file, it turns text into
//! token ids for training and prompts, and ids back into text.

mod files;
mod gguf;
mod pre_tokenizer;
mod stream;
mod to_gguf;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokenizers::{Encoding, Tokenizer};

use crate::digest::hex;
use crate::{ChatTemplate, DataError, Message, SpecialTokens, TemplateError, TokenizerError};

pub use gguf::GgufVocabulary;
pub use stream::TextStream;

/// Special tokens that end a turn whatever the configuration files say.
///
/// Base models and some GGUF files name only the token that ends a document, although their chat
/// template ends turns with one of these.
const END_OF_TURN: [&str; 9] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|end_of_turn|>",
    "<|end_of_role|>",
    "<turn|>",
    "<|eot|>",
    "<end_of_utterance>",
];

/// A model's tokenizer and chat template.
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    special: SpecialTokens,
    eos_token_ids: Vec<u32>,
    path: PathBuf,
    /// `tokenizer_config.json`, kept whole so that an export says what the original said.
    config: Map<String, Value>,
}

/// What the two readers find before it is checked as a whole.
struct Parts {
    tokenizer: Tokenizer,
    special: SpecialTokens,
    /// Ids that end a turn, beside that of `special.eos`.
    eos_token_ids: BTreeSet<u32>,
    /// The template and the file it stands in.
    template: Option<(String, PathBuf)>,
    path: PathBuf,
    config: Map<String, Value>,
}

impl ChatTokenizer {
    fn assemble(parts: Parts) -> Result<Self, DataError> {
        let Parts { mut tokenizer, mut special, mut eos_token_ids, template, path, config } = parts;
        let refuse = |message: String| DataError::Tokenizer(TokenizerError::File { path: path.clone(), message });
        // Cutting and filling are decided by the recipe, not by what the tokenizer was saved with.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        for (name, token) in [("bos_token", &special.bos), ("eos_token", &special.eos)] {
            if let Some(token) = token.as_deref().filter(|token| tokenizer.token_to_id(token).is_none()) {
                return Err(refuse(format!("{name} is {token:?}, which is not in the vocabulary")));
            }
        }
        if let Some(id) = eos_token_ids.iter().find(|id| tokenizer.id_to_token(**id).is_none()) {
            return Err(refuse(format!("eos_token_id is {id}, which is not in the vocabulary")));
        }
        eos_token_ids.extend(special.eos.as_deref().and_then(|token| tokenizer.token_to_id(token)));
        let added = tokenizer.get_added_vocabulary();
        let ends = END_OF_TURN.into_iter().filter(|token| added.is_special_token(token));
        eos_token_ids.extend(ends.filter_map(|token| tokenizer.token_to_id(token)));
        special.terminators = eos_token_ids.iter().filter_map(|id| tokenizer.id_to_token(*id)).collect();
        let template = template.map(|(source, path)| ChatTemplate::new(&source, &path, special.clone())).transpose()?;
        let eos_token_ids = eos_token_ids.into_iter().collect();
        Ok(Self { tokenizer, template, special, eos_token_ids, path, config })
    }

    /// The same tokenizer with its template's time set; see [`ChatTemplate::with_clock`].
    ///
    /// # Errors
    /// [`TemplateError::Clock`] when the value is no date and time.
    pub fn with_clock(mut self, clock: &str) -> Result<Self, DataError> {
        self.template = self.template.map(|template| template.with_clock(clock)).transpose()?;
        Ok(self)
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] when the model has none.
    pub fn template(&self) -> Result<&ChatTemplate, DataError> {
        self.template.as_ref().ok_or_else(|| DataError::Template(TemplateError::Missing { path: self.path.clone() }))
    }

    /// The special tokens as text.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// The token ids of a text. Special tokens are recognised where the text writes them, and none is added.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`] when the tokenizer has no token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, false)).map_err(|message| self.refused(message))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token ids of a text as a document of its own: with what the tokenizer puts around one, such as bos. For text
    /// that is continued as it stands; a chat template writes its special tokens itself.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn encode_document(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, true)).map_err(|message| self.refused(message))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same with the byte range of each token in the text.
    pub(crate) fn encode_with_offsets(&self, text: &str) -> Result<Encoding, DataError> {
        guarded(|| self.tokenizer.encode(text, false)).map_err(|message| self.refused(message))
    }

    /// The text of token ids; broken UTF-8 becomes U+FFFD. See [`stream`](Self::stream) for text that
    /// arrives token by token.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`] when the decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, DataError> {
        guarded(|| self.tokenizer.decode(ids, skip_special)).map_err(|message| self.refused(message))
    }

    /// Decodes ids one after the other, as generation makes them, without the special tokens.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self, true)
    }

    /// The prompt for the assistant's next turn, as token ids.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] and those of [`ChatTemplate::render`] and [`encode`](Self::encode).
    pub fn render_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, DataError> {
        self.encode(&self.template()?.render(messages, true)?)
    }

    /// The ids on which generation stops, in order: those of the configuration files and the tokens that
    /// are known to end a turn.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// Whether generation stops on this id.
    pub fn is_eos(&self, id: u32) -> bool {
        self.eos_token_ids.binary_search(&id).is_ok()
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// SHA-256 over all that decides how a conversation is rendered and encoded, the clock aside.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`] when the tokenizer cannot be written down.
    pub fn digest(&self) -> Result<String, DataError> {
        let tokenizer = guarded(|| self.tokenizer.to_string(false)).map_err(|message| self.refused(message))?;
        let template = self.template.as_ref().map(ChatTemplate::source);
        let rest = format!("{template:?} {:?} {:?}", self.special, self.eos_token_ids);
        let digests = [tokenizer, rest].map(Sha256::digest);
        Ok(hex(&Sha256::digest(digests.concat())))
    }

    /// The number of ids, one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab(true).values().max().map_or(0, |largest| *largest as usize + 1)
    }

    /// Checks that the model has an embedding for every token.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] with the first token beyond `model_vocab_size`.
    pub fn check_fits(&self, model_vocab_size: usize) -> Result<(), DataError> {
        let vocabulary = self.tokenizer.get_vocab(true);
        match vocabulary.into_iter().filter(|(_, id)| *id as usize >= model_vocab_size).min_by_key(|(_, id)| *id) {
            Some((token, id)) => Err(DataError::Tokenizer(TokenizerError::TooLarge {
                path: self.path.clone(),
                token,
                id,
                vocab_size: model_vocab_size,
            })),
            None => Ok(()),
        }
    }

    fn refused(&self, message: String) -> DataError {
        DataError::Tokenizer(TokenizerError::Encoding { path: self.path.clone(), origin: None, message })
    }
}

/// Runs a piece of the `tokenizers` crate and takes a panic of it for a refusal.
///
/// It panics where merges and vocabulary contradict each other in a certain way, and where a pattern takes too
/// many steps on a text; both come from files, so both must end in an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(format!("it contradicts itself or is too complex ({text})"))
        }
    }
}

#[cfg(test)]
mod tests;
