//! Whether the turns of a conversation are in order and none is empty.

use super::Rejection;
use crate::conversation::{Message, Role};

/// A system message may stand first; then the user and the assistant speak in turn, with results of tools between two
/// messages of the assistant, and the assistant is last.
pub(super) fn check(messages: &[Message]) -> Result<(), Rejection> {
    let mut before = None;
    for (i, message) in messages.iter().enumerate() {
        let expected = match (before, message.role) {
            (None, Role::System | Role::User)
            | (Some(Role::System | Role::Assistant), Role::User)
            | (Some(Role::User | Role::Tool), Role::Assistant)
            | (Some(Role::Assistant | Role::Tool), Role::Tool) => None,
            (None | Some(Role::System | Role::Assistant), _) => Some("user"),
            (Some(Role::User | Role::Tool), _) => Some("assistant"),
        };
        if let Some(expected) = expected {
            return Err(Rejection::Turn { message: i + 1, got: name(message.role), expected });
        }
        if message.content.trim().is_empty() {
            return Err(Rejection::Empty { message: i + 1 });
        }
        before = Some(message.role);
    }
    match before {
        Some(Role::Assistant) => Ok(()),
        Some(role) => Err(Rejection::NoAnswer { got: name(role) }),
        None => Err(Rejection::NoMessage),
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}
