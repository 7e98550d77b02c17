//! From texts to the sequences that are scored.
//!
//! Source: lm-evaluation-harness, `_encode_pair` and `get_rolling_token_windows`.

use datasets::{ChatTokenizer, DataError};

use crate::eval::log_likelihood::Sequence;

/// The tokens with which every text begins.
pub(super) struct Opening {
    /// What the tokenizer puts before a document.
    before: Vec<u32>,
    /// What stands in where nothing precedes the scored tokens.
    prefix: u32,
}

impl Opening {
    pub(super) fn of(tokenizer: &ChatTokenizer) -> Result<Self, DataError> {
        let special = tokenizer.special_tokens();
        let id = |token: &Option<String>| token.as_deref().and_then(|token| tokenizer.id(token));
        let bos = id(&special.bos);
        let mut before = tokenizer.encode_document("")?;
        // Some tokenizers also close a document, which here goes on.
        before.retain(|token| Some(*token) == bos);
        let prefix = bos.or_else(|| id(&special.eos)).or_else(|| tokenizer.eos_token_ids().first().copied());
        Ok(Self { before, prefix: prefix.unwrap_or(0) })
    }

    /// A text that follows another. White space at the end of the context counts to what follows, as a token mostly
    /// begins with it.
    pub(super) fn pair(
        &self,
        tokenizer: &ChatTokenizer,
        context: &str,
        continuation: &str,
    ) -> Result<Sequence, DataError> {
        let kept = context.trim_end();
        let whole = tokenizer.encode(&format!("{context}{continuation}"))?;
        let context_tokens = if kept.is_empty() { 0 } else { tokenizer.encode(kept)?.len() };
        let mut input_ids = self.before.clone();
        if input_ids.is_empty() && context_tokens == 0 {
            input_ids.push(self.prefix);
        }
        // Where the two melt into one token, that one is scored.
        let start = input_ids.len() + context_tokens.min(whole.len().saturating_sub(1));
        input_ids.extend(whole);
        Ok(Sequence { start: start.max(1), input_ids })
    }

    /// A text as a whole, in windows that the model can read; each token is scored once, with as much before it as a
    /// window of `longest` tokens leaves.
    pub(super) fn windows(
        &self,
        tokenizer: &ChatTokenizer,
        text: &str,
        longest: usize,
    ) -> Result<Vec<Sequence>, DataError> {
        let mut tokens = vec![self.prefix];
        tokens.extend(tokenizer.encode(text)?);
        let mut windows = Vec::new();
        let mut end = 1;
        while end < tokens.len() {
            let scored = longest.min(tokens.len() - end);
            end += scored;
            let input_ids = tokens[end.saturating_sub(longest + 1)..end].to_vec();
            windows.push(Sequence { start: input_ids.len() - scored, input_ids });
        }
        Ok(windows)
    }
}
