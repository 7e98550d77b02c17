//! Whether a sample is as long as wanted.

use super::{Bounds, Candidate, FilterConfig, Rejection};
use crate::conversation::{Message, Role};
use crate::error::DataError;
use crate::tokenizer::ChatTokenizer;

pub(super) fn check(config: &FilterConfig, sample: &Candidate<'_>) -> Result<(), Rejection> {
    let sides =
        [("prompt", config.prompt_characters, Role::User), ("answer", config.answer_characters, Role::Assistant)];
    for (what, bounds, role) in sides {
        let got = sample.said_by(role).map(|text| text.trim().chars().count()).sum();
        if let Some(bounds) = bounds.filter(|bounds| !bounds.hold(got)) {
            return Err(Rejection::Length { what, got, unit: "characters", expected: bounds.in_words() });
        }
    }
    Ok(())
}

pub(super) fn check_tokens(
    bounds: Bounds,
    tokenizer: &ChatTokenizer,
    messages: &[Message],
) -> Result<Result<(), Rejection>, DataError> {
    let mut got = 0;
    for message in messages {
        got += tokenizer.encode(&message.content)?.len();
    }
    let rejection = || Rejection::Length { what: "sample", got, unit: "tokens", expected: bounds.in_words() };
    Ok(if bounds.hold(got) { Ok(()) } else { Err(rejection()) })
}
