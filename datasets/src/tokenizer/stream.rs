//! Decoding token by token, for a chat that shows text while it is made.
//!
//! One character may take several tokens and one token's text may depend on its neighbours, so text is
//! given out only once it can no longer change.

use crate::{ChatTokenizer, DataError};

/// Turns token ids into text as they come, never in the middle of a character.
pub struct TextStream<'a> {
    tokenizer: &'a ChatTokenizer,
    skip_special: bool,
    /// The ids that the next text may depend on.
    ids: Vec<u32>,
    /// How many of `ids` are given out already; they stay as the left neighbours of the next.
    given: usize,
}

/// What a decoder writes for bytes that are no whole character yet.
const BROKEN: char = '\u{fffd}';

impl<'a> TextStream<'a> {
    pub(crate) fn new(tokenizer: &'a ChatTokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: Vec::new(), given: 0 }
    }

    /// Adds an id, and gives the text that is certain now; `None` while a character is incomplete.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`](crate::TokenizerError::Encoding) when the decoder fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, DataError> {
        self.ids.push(id);
        let text = self.pending()?;
        if text.is_empty() || text.ends_with(BROKEN) {
            return Ok(None);
        }
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(Some(text))
    }

    /// The text of ids that never became whole characters, with U+FFFD for broken bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`](crate::TokenizerError::Encoding) when the decoder fails.
    pub fn finish(self) -> Result<String, DataError> {
        self.pending()
    }

    /// The text of the ids not given out yet, decoded beside their left neighbours.
    fn pending(&self) -> Result<String, DataError> {
        let known = self.tokenizer.decode(&self.ids[..self.given], self.skip_special)?;
        let all = self.tokenizer.decode(&self.ids, self.skip_special)?;
        Ok(all.get(known.len()..).unwrap_or_default().to_owned())
    }
}
