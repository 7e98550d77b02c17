//! Whether a sample speaks the languages wanted.

use super::{Candidate, Rejection};
use crate::conversation::Role;
use crate::probes::instructions::language_of;

/// Each message of the user and of the assistant is judged for itself; one whose language cannot be told is accepted.
pub(super) fn check(wanted: &[String], sample: &Candidate<'_>) -> Result<(), Rejection> {
    for (i, message) in sample.messages.iter().enumerate() {
        if !matches!(message.role, Role::User | Role::Assistant) {
            continue;
        }
        if let Some(got) = language_of(&message.content).filter(|got| wanted.iter().all(|code| code != got)) {
            return Err(Rejection::Language { message: i + 1, got, expected: wanted.join(" or ") });
        }
    }
    Ok(())
}
