//! Why a conversation is no example to learn from.

use crate::conversation::Origin;

/// A conversation cannot be learned from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExampleError {
    /// A conversation of which the model would learn nothing.
    #[error("{origin}: nothing is supervised: {reason}")]
    NothingSupervised {
        /// The conversation.
        origin: Origin,
        /// Why, and the remedy.
        reason: String,
    },
    /// An assistant turn whose end the model would never learn.
    #[error(
        "{origin}: the turn terminator is not supervised: supervised span {span} ends in {found:?}, expected one of \
         {expected}; a model trained on this never stops; let the chat template print the terminator inside \
         the assistant's turn, or name it as eos_token in tokenizer_config.json"
    )]
    TerminatorNotSupervised {
        /// The conversation.
        origin: Origin,
        /// Which supervised span, counted from 1.
        span: usize,
        /// The last token of the span that is not white space.
        found: String,
        /// The tokens that end a turn.
        expected: String,
    },
    /// A conversation longer than a row, where the recipe asks for an error.
    #[error(
        "{origin}: the conversation has {tokens} tokens, more than data.max_length {max_length}; \
         raise it, or set data.overlong to drop or truncate"
    )]
    Overlong {
        /// The conversation.
        origin: Origin,
        /// Its length in tokens.
        tokens: usize,
        /// The greatest length allowed.
        max_length: usize,
    },
    /// No conversation is left once the over-long ones are dropped.
    #[error(
        "{origin}: all {dropped} conversations from here on are longer than data.max_length {max_length} (the \
         shortest has {shortest} tokens), so nothing is left; raise it, or set data.overlong to truncate"
    )]
    AllOverlong {
        /// The first conversation.
        origin: Origin,
        /// How many were dropped.
        dropped: usize,
        /// The length in tokens of the shortest.
        shortest: usize,
        /// The greatest length allowed.
        max_length: usize,
    },
}
