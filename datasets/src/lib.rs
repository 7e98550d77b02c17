//! Text in, packed token rows out; no tensors.
//!
//! The data's way: a source reads files into [`Conversation`]s, the model's own chat template
//! renders them, the tokenizer makes token ids with a loss mask, and packing puts several examples into one row.

mod conversation;
mod error;
mod template;
mod tokenize;
mod tokenizer;

pub use conversation::{Conversation, Message, Origin, Role};
pub use error::DataError;
pub use template::{ChatTemplate, Rendered, SpecialTokens};
pub use tokenize::{Example, Outcome, Overlong, Tokenized, tokenize, tokenize_all};
pub use tokenizer::{ChatTokenizer, GgufVocabulary, TextStream};
