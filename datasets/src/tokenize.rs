//! A conversation becomes an example: token ids, and for each whether the model is to learn it.
//!
//! The whole text is encoded once. A token is learned when its characters touch a supervised range of the
//! text, as `apply_chat_template(return_assistant_tokens_mask=True)` decides it. Examples of which nothing
//! or no end of a turn would be learned are refused, since training on them fails silently.

use std::ops::Range;

use rayon::prelude::*;

use crate::config::Overlong;
use crate::store::ExampleRef;
use crate::{ChatTokenizer, Conversation, DataError, ExampleError, Origin, Role, TextStream};

/// A tokenized conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The token ids, at most `max_length`.
    pub input_ids: Vec<u32>,
    /// Whether token i is a target: the model is to predict it from the tokens before. As long as
    /// `input_ids`, and true at least once after the first token.
    pub loss_mask: Vec<bool>,
    /// The place the conversation was read from.
    pub origin: Origin,
}

/// What becomes of one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is an example.
    Kept {
        /// The example.
        example: Example,
        /// Whether its end was cut off.
        truncated: bool,
        /// Assistant turns that are not learned; see [`Rendered::unsupervised_turns`](crate::Rendered).
        unsupervised_turns: usize,
    },
    /// It was too long, and left out.
    Dropped {
        /// Its length in tokens.
        tokens: usize,
    },
}

/// All examples of a data set, in the order of the conversations, and what happened on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// The examples.
    pub examples: Vec<Example>,
    /// Conversations left out for their length.
    pub dropped_overlong: usize,
    /// Conversations that were cut on the right.
    pub truncated: usize,
    /// Assistant turns that are not learned; see [`Rendered::unsupervised_turns`](crate::Rendered).
    pub unsupervised_turns: usize,
}

/// Renders and encodes one conversation.
///
/// # Errors
/// Those of [`ChatTemplate::render_supervised`](crate::ChatTemplate::render_supervised) with the
/// conversation's place; [`ExampleError::NothingSupervised`] when the model would learn no token of it, whole
/// or cut; [`ExampleError::TerminatorNotSupervised`] when it would not learn where a turn ends;
/// [`ExampleError::Overlong`] when it is too long and the policy is [`Overlong::Error`].
pub fn tokenize(
    tokenizer: &ChatTokenizer,
    conversation: &Conversation,
    max_length: usize,
    overlong: Overlong,
) -> Result<Outcome, DataError> {
    let origin = &conversation.origin;
    let rendered = tokenizer.template()?.render_supervised(&conversation.messages).map_err(|error| error.at(origin))?;
    let encoding = tokenizer.encode_with_offsets(&rendered.text).map_err(|error| error.at(origin))?;
    let ids = encoding.get_ids();
    let spans: Vec<Range<usize>> =
        rendered.supervised.iter().map(|range| token_range(encoding.get_offsets(), range)).collect();
    let mut loss_mask = vec![false; ids.len()];
    for span in &spans {
        loss_mask[span.clone()].fill(true);
    }
    if !is_learnable(&loss_mask) {
        return Err(nothing_supervised(conversation, why_nothing(conversation)));
    }
    check_terminators(tokenizer, conversation, ids, &spans)?;

    let truncated = ids.len() > max_length;
    match overlong {
        Overlong::Error if truncated => {
            return Err(DataError::Example(ExampleError::Overlong {
                origin: origin.clone(),
                tokens: ids.len(),
                max_length,
            }));
        }
        Overlong::Drop if truncated => return Ok(Outcome::Dropped { tokens: ids.len() }),
        _ => {}
    }
    let mut input_ids = ids.to_vec();
    if truncated {
        input_ids.truncate(max_length);
        loss_mask.truncate(max_length);
        if !is_learnable(&loss_mask) {
            let reason = format!(
                "its first {max_length} of {} tokens are all prompt, and data.overlong cuts off the rest; \
                 raise data.max_length, or set data.overlong to drop",
                ids.len()
            );
            return Err(nothing_supervised(conversation, reason));
        }
    }
    let example = Example { input_ids, loss_mask, origin: origin.clone() };
    Ok(Outcome::Kept { example, truncated, unsupervised_turns: rendered.unsupervised_turns })
}

/// Renders and encodes all conversations, on all cores, in order.
///
/// # Errors
/// The error of the first conversation, in order, that [`tokenize`] refuses; [`ExampleError::AllOverlong`]
/// when every conversation was dropped for its length.
pub fn tokenize_all(
    tokenizer: &ChatTokenizer,
    conversations: &[Conversation],
    max_length: usize,
    overlong: Overlong,
) -> Result<Tokenized, DataError> {
    let outcomes: Vec<Result<Outcome, DataError>> =
        conversations.par_iter().map(|conversation| tokenize(tokenizer, conversation, max_length, overlong)).collect();
    let mut all = Tokenized::default();
    let mut shortest = usize::MAX;
    for outcome in outcomes {
        match outcome? {
            Outcome::Kept { example, truncated, unsupervised_turns } => {
                all.examples.push(example);
                all.truncated += usize::from(truncated);
                all.unsupervised_turns += unsupervised_turns;
            }
            Outcome::Dropped { tokens } => {
                all.dropped_overlong += 1;
                shortest = shortest.min(tokens);
            }
        }
    }
    match conversations.first() {
        Some(first) if all.examples.is_empty() => Err(DataError::Example(ExampleError::AllOverlong {
            origin: first.origin.clone(),
            dropped: all.dropped_overlong,
            shortest,
            max_length,
        })),
        _ => Ok(all),
    }
}

impl ChatTokenizer {
    /// The tokens of an example as text, each with whether it is learned.
    ///
    /// A character that takes several tokens stands at its last one; the others are empty.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`](crate::TokenizerError::Encoding) when the decoder fails.
    pub fn pieces<'e>(&self, example: impl Into<ExampleRef<'e>>) -> Result<Vec<(String, bool)>, DataError> {
        let example = example.into();
        let mut stream = TextStream::new(self, false);
        let mut pieces = Vec::with_capacity(example.input_ids.len());
        for (id, supervised) in example.input_ids.iter().zip(example.loss_mask) {
            pieces.push((stream.push(*id)?.unwrap_or_default(), *supervised));
        }
        if let Some((text, _)) = pieces.last_mut() {
            text.push_str(&stream.finish()?);
        }
        Ok(pieces)
    }

    /// An example as plain text, what is learned between `«` and `»`.
    ///
    /// # Errors
    /// [`TokenizerError::Encoding`](crate::TokenizerError::Encoding) when the decoder fails.
    pub fn marked_text<'e>(&self, example: impl Into<ExampleRef<'e>>) -> Result<String, DataError> {
        let mut text = String::new();
        let mut inside = false;
        for (piece, supervised) in self.pieces(example)? {
            if supervised != inside {
                text.push(if supervised { '«' } else { '»' });
                inside = supervised;
            }
            text.push_str(&piece);
        }
        if inside {
            text.push('»');
        }
        Ok(text)
    }
}

/// The tokens whose characters touch a byte range of the text.
fn token_range(offsets: &[(usize, usize)], range: &Range<usize>) -> Range<usize> {
    let first = offsets.partition_point(|(_, end)| *end <= range.start);
    let end = offsets.partition_point(|(start, _)| *start < range.end);
    first..end.max(first)
}

/// Whether a token is learned that has one before it to be predicted from.
pub(crate) fn is_learnable(loss_mask: &[bool]) -> bool {
    loss_mask.iter().skip(1).any(|learned| *learned)
}

/// Checks that the supervised spans end in a token that ends a turn, trailing white space aside.
///
/// A template may print a turn as several supervised spans (thoughts and answer), so as many spans must
/// end that way as there are assistant turns.
fn check_terminators(
    tokenizer: &ChatTokenizer,
    conversation: &Conversation,
    ids: &[u32],
    spans: &[Range<usize>],
) -> Result<(), DataError> {
    let mut ended = 0;
    let mut first_open = None;
    for (index, span) in spans.iter().enumerate() {
        let mut tail = ids[span.clone()].iter().rev();
        let last = tail.find(|id| tokenizer.is_eos(**id) || !is_white(tokenizer, **id));
        match last {
            Some(id) if tokenizer.is_eos(*id) => ended += 1,
            _ => first_open = first_open.or(Some((index, last.copied()))),
        }
    }
    let turns = conversation.messages.iter().filter(|message| message.role == Role::Assistant).count();
    match first_open {
        Some((index, last)) if ended < spans.len().min(turns) => {
            Err(DataError::Example(ExampleError::TerminatorNotSupervised {
                origin: conversation.origin.clone(),
                span: index + 1,
                found: last.and_then(|id| tokenizer.token(id)).unwrap_or_default(),
                expected: tokenizer.special_tokens().terminators.join(", "),
            }))
        }
        _ => Ok(()),
    }
}

fn is_white(tokenizer: &ChatTokenizer, id: u32) -> bool {
    tokenizer.decode(&[id], false).is_ok_and(|text| text.trim().is_empty())
}

fn nothing_supervised(conversation: &Conversation, reason: String) -> DataError {
    DataError::Example(ExampleError::NothingSupervised { origin: conversation.origin.clone(), reason })
}

fn why_nothing(conversation: &Conversation) -> String {
    if conversation.messages.iter().any(|message| message.role == Role::Assistant) {
        "no assistant turn follows the prompt that generation would use for it (the chat template may rewrite \
         earlier turns, the conversation may begin with the assistant), or the generation blocks print nothing; set \
         data.chat_template to a template with {% generation %} blocks around the assistant's turns"
    } else {
        "the conversation has no assistant message; add the answer that is to be learned"
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
