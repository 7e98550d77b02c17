//! What can be wrong with a probe item, each with its line.

use crate::conversation::Origin;

/// A probe item cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// An item that does not say what is right.
    #[error("{origin}: a probe item without gold: an item of the kind {kind} needs {expected}; the record has {keys}")]
    NoGold {
        /// The file and line.
        origin: Origin,
        /// The kind of the item.
        kind: &'static str,
        /// The key that is missing or empty, and what it holds.
        expected: String,
        /// The record's keys.
        keys: String,
    },
    /// The right choice is none of the choices.
    #[error(
        "{origin}: \"gold\" is {gold}, expected the index of the right one of {choices}, counted from 0: 0 to {}",
        choices.saturating_sub(1)
    )]
    GoldOutOfRange {
        /// The file and line.
        origin: Origin,
        /// The index found.
        gold: String,
        /// How many there are to choose from.
        choices: usize,
    },
    /// Nothing to choose from.
    #[error("{origin}: {key:?} has {got}, expected at least two to choose from")]
    TooFewChoices {
        /// The file and line.
        origin: Origin,
        /// The key of the list.
        key: &'static str,
        /// How many there are.
        got: usize,
    },
    /// A text without a character that could be scored.
    #[error("{origin}: {what} is empty, expected text, fill it in or remove the item")]
    EmptyText {
        /// The file and line.
        origin: Origin,
        /// The key, or the place in a list.
        what: String,
    },
    /// A pair that nothing tells apart.
    #[error("{origin}: \"good\" and \"bad\" are the same text, expected two sentences, remove the item")]
    SamePair {
        /// The file and line.
        origin: Origin,
    },
    /// A record lacks a key of its kind.
    #[error("{origin}: an item of the kind {kind} needs the key {key:?}, the record has {keys}{hint}")]
    MissingKey {
        /// The file and line.
        origin: Origin,
        /// The kind of the item.
        kind: &'static str,
        /// The key that is missing.
        key: &'static str,
        /// The record's keys.
        keys: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A record does not say what kind of item it is.
    #[error("{origin}: a probe item needs the key \"kind\", one of {expected}; the record has {keys}{hint}")]
    NoKind {
        /// The file and line.
        origin: Origin,
        /// The kinds there are.
        expected: String,
        /// The record's keys.
        keys: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A name that is none of those known for its key.
    #[error("{origin}: {key:?} is {got:?}, expected one of {expected}{hint}")]
    UnknownName {
        /// The file and line.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The name found.
        got: String,
        /// The names known.
        expected: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// Two items of a file with one name.
    #[error("{origin}: the id {id:?} stands on line {first} too, expected ids that are unique in their file")]
    DuplicateId {
        /// The file and line of the second.
        origin: Origin,
        /// The id, at most 60 characters of it.
        id: String,
        /// The line of the first.
        first: usize,
    },
    /// The lists of instructions and of their arguments do not match.
    #[error(
        "{origin}: \"instruction_id_list\" has {instructions} entries and \"kwargs\" has {arguments}, expected one \
         object of arguments for each instruction"
    )]
    KwargsCount {
        /// The file and line.
        origin: Origin,
        /// How many instructions.
        instructions: usize,
        /// How many objects of arguments.
        arguments: usize,
    },
    /// An instruction that cannot be checked.
    #[error("{origin}: instruction {number}: {error}")]
    Instruction {
        /// The file and line.
        origin: Origin,
        /// Which instruction of the item, counted from 1.
        number: usize,
        /// What is wrong with it; part of the message, so it is not also the source.
        error: InstructionError,
    },
}

/// An instruction is not known, or has arguments that it cannot be checked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstructionError {
    /// No instruction has this name.
    #[error("{id:?} is not known, expected one of the instructions of IFEval{hint}")]
    Unknown {
        /// The name found, at most 60 characters of it.
        id: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// An argument is missing, or is not what the instruction takes.
    #[error("the argument {key:?} of {id} is {got}, expected {expected}")]
    Argument {
        /// The instruction.
        id: &'static str,
        /// The argument.
        key: &'static str,
        /// What was found.
        got: String,
        /// What would be accepted.
        expected: &'static str,
    },
}
