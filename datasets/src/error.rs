//! Everything that can be wrong with the data, each with its place and its remedy.
//!
//! The text of an error is one line; an underlying error, where there is one, is its `source`.

use std::path::PathBuf;

use crate::conversation::Origin;
use crate::source::Format;

/// What can go wrong between a recipe's `data` part and the rows of tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A value of the configuration is out of range.
    #[error("{key}: got {got}, expected {expected}")]
    Config {
        /// The key, relative to the recipe's `data`, for example `train[0].weight`.
        key: String,
        /// The value found.
        got: String,
        /// What would be accepted.
        expected: String,
    },

    /// A file cannot be opened or read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder cannot be written.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A file's name does not say how to read it.
    #[error(
        "{}: cannot tell how to read a file with the ending {ending:?}, expected .jsonl, .json or .parquet \
         (decompress it first if it is compressed)",
        path.display()
    )]
    UnknownEnding {
        /// The file.
        path: PathBuf,
        /// The end of its name, without the dot.
        ending: String,
    },
    /// A file has no record.
    #[error("{}: has no record, expected at least one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A text file is not UTF-8.
    #[error("{origin}: byte {byte} of the line is not valid UTF-8, save the file as UTF-8")]
    NotUtf8 {
        /// The file and line.
        origin: Origin,
        /// The first wrong byte of the line, counted from 1.
        byte: usize,
    },
    /// A line is not JSON.
    #[error("{origin}: not valid JSON at column {column}: {message}{remedy}")]
    Json {
        /// The file and line.
        origin: Origin,
        /// The byte of the line where reading stopped, counted from 1.
        column: usize,
        /// What the parser says.
        message: String,
        /// What to do, beginning with a comma, or nothing.
        remedy: &'static str,
    },
    /// A Parquet file is damaged, or uses a feature that is not read.
    #[error("{}: not a readable Parquet file{}: {message}", path.display(), after_row(*row))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// How many rows were read before.
        row: usize,
        /// What the reader says.
        message: String,
    },
    /// An error inside a JSON document, where the line alone does not lead to the record.
    #[error("{error} (record {record} of the file)")]
    InDocument {
        /// The record, counted from 1.
        record: usize,
        /// What is wrong with it; part of the message, so it is not also the source.
        error: Box<DataError>,
    },

    /// No known format has the keys of the first record.
    #[error(
        "{origin}: the record has {keys}, expected the keys of a known format: messages (messages), \
         sharegpt (conversations), alpaca (instruction, output), prompt-completion (prompt, completion) or \
         squad (context, question, answers)"
    )]
    UnknownFormat {
        /// The file and line.
        origin: Origin,
        /// The record's keys.
        keys: String,
    },
    /// A record lacks a key of its format.
    #[error("{origin}: a record of the format {format} needs the key {key:?}, the record has {keys}{hint}")]
    MissingKey {
        /// The file and line.
        origin: Origin,
        /// The format of the file.
        format: Format,
        /// The key that is missing.
        key: &'static str,
        /// The record's keys.
        keys: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A value has the wrong type.
    #[error("{origin}: {what} is {got}, expected {expected}")]
    WrongType {
        /// The file and line.
        origin: Origin,
        /// The key or the part of the record.
        what: String,
        /// The type found, with its article.
        got: String,
        /// The type expected.
        expected: &'static str,
    },
    /// A message lacks its role or its text.
    #[error("{origin}: message {message} needs the key {key:?}, it has {keys}")]
    MessageKey {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
        /// The key that is missing.
        key: &'static str,
        /// The message's keys.
        keys: String,
    },
    /// A message has a role that does not exist.
    #[error("{origin}: message {message} has role {role:?}, expected one of {expected}{hint}")]
    UnknownRole {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
        /// The role found.
        role: String,
        /// The roles of the format.
        expected: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A message calls tools in the structured form, which would be lost.
    #[error(
        "{origin}: message {message} has tool_calls, which are not read, expected text: \
         write the call into its content as the model shall write it"
    )]
    ToolCalls {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
    },
    /// A conversation without an assistant message teaches nothing.
    #[error("{origin}: has no assistant message, expected at least one, there is nothing to learn from otherwise")]
    NoAssistant {
        /// The file and line.
        origin: Origin,
    },
    /// An assistant message without text.
    #[error("{origin}: message {message} of the assistant is empty, expected text, remove the record or fill it in")]
    EmptyAssistant {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
    },
    /// A SQuAD question without an answer.
    #[error(
        "{origin}: \"answers\" is empty{}, expected at least one answer: write the text that the model shall \
         give when the context does not answer, or remove the record",
        if *impossible { " (the question is marked is_impossible)" } else { "" }
    )]
    NoAnswer {
        /// The file and line.
        origin: Origin,
        /// Whether the record says that the question cannot be answered.
        impossible: bool,
    },
    /// A prompt's placeholders do not belong to the format that was found.
    #[error(
        "{}: the prompt uses the placeholder {{{name}}}, but its records have the format {format}, which fills {}",
        path.display(),
        placeholders(*format)
    )]
    PromptFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        format: Format,
        /// The placeholder.
        name: String,
    },

    /// A name, revision or file of the hub is not well formed.
    #[error("hub {what} {got:?} is not valid, expected {expected}")]
    HubName {
        /// `repository`, `revision` or `file`.
        what: &'static str,
        /// The text found.
        got: String,
        /// The form expected.
        expected: &'static str,
    },
    /// The hub cannot be reached.
    #[error(
        "could not reach the hub for {repo}@{revision} ({endpoint}): {message}; check the connection, or give a \
         local path instead of the hub name; what is already in the cache {} is used without a connection",
        cache.display()
    )]
    HubUnreachable {
        /// The repository, `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The address of the hub.
        endpoint: String,
        /// The cache folder.
        cache: PathBuf,
        /// What the client says.
        message: String,
    },
    /// The hub answers with a refusal.
    #[error("the hub refused {what} of {repo}@{revision}: {message}")]
    HubRefused {
        /// The file, or `the list of files`.
        what: String,
        /// The repository, `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The reason and the remedy.
        message: String,
    },
    /// A file is not in the cache, and the network may not be used.
    #[error(
        "{what} of {repo}@{revision} is not in the cache {} and HF_HUB_OFFLINE forbids the network; \
         unset HF_HUB_OFFLINE, or give a local path instead of the hub name",
        cache.display()
    )]
    HubOffline {
        /// The file, or `the model`.
        what: String,
        /// The repository, `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// A downloaded file is not the one that the hub announced.
    #[error(
        "{}: the download of {file} of {repo} is damaged: SHA-256 is {got}, expected {expected}; try again",
        path.display()
    )]
    HubDamaged {
        /// The repository, `owner/name`.
        repo: String,
        /// The file.
        file: String,
        /// Where it was stored; it has been removed.
        path: PathBuf,
        /// The digest of what arrived, in hexadecimal.
        got: String,
        /// The digest that the hub announced, in hexadecimal.
        expected: String,
    },

    /// A model folder has no `tokenizer.json`.
    #[error(
        "{}: there is no tokenizer.json here; give the folder of a model with a fast tokenizer, or save one \
         with `AutoTokenizer.from_pretrained(..).save_pretrained(..)`",
        folder.display()
    )]
    TokenizerMissing {
        /// The folder that was looked into.
        folder: PathBuf,
    },

    /// A tokenizer file has content that makes no tokenizer.
    #[error("{}: {message}; fetch the file again, or point `model` at a complete copy", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },

    /// The vocabulary in a GGUF file makes no tokenizer.
    #[error("{}: {key}: {message}", path.display())]
    GgufVocabulary {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key at fault.
        key: &'static str,
        /// What was expected, what was found, and the remedy.
        message: String,
    },

    /// The tokenizer can make ids that the model has no embedding for.
    #[error(
        "{}: the tokenizer has token {token:?} with id {id}, but the model's vocabulary has {vocab_size} entries; \
         use the tokenizer that belongs to this model",
        path.display()
    )]
    TokenizerTooLarge {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The first token beyond the model's vocabulary.
        token: String,
        /// Its id.
        id: u32,
        /// The number of rows of the model's embedding.
        vocab_size: usize,
    },

    /// The tokenizer refused a text.
    #[error("{}the tokenizer of {} cannot encode or decode this: {message}", place(origin.as_ref()), path.display())]
    Encoding {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The tokenizer's own words.
        message: String,
    },

    /// A model without a chat template, as base models are.
    #[error(
        "{}: the model has no chat template, as is usual for base models; \
         set `data.chat_template` to a Jinja file, for example the one of the model's instruct version",
        path.display()
    )]
    NoTemplate {
        /// Where the tokenizer was read.
        path: PathBuf,
    },

    /// A chat template that is not valid Jinja.
    #[error(
        "{}: line {line} of the chat template does not parse: {message}; \
         correct it, or set `data.chat_template` to another",
        path.display()
    )]
    TemplateSyntax {
        /// Where the template was read.
        path: PathBuf,
        /// The line within the template, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },

    /// A chat template refused a conversation through `raise_exception`.
    #[error(
        "{}the chat template of {} refuses the conversation: {message}; \
         change the conversation, or set `data.chat_template`",
        place(origin.as_ref()),
        path.display()
    )]
    TemplateRaised {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The template's own message.
        message: String,
    },

    /// A chat template failed while it rendered a conversation.
    #[error(
        "{}line {line} of the chat template of {} fails: {message}; \
         correct the template, or set `data.chat_template` to another",
        place(origin.as_ref()),
        path.display()
    )]
    TemplateFailed {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The line within the template, counted from 1.
        line: usize,
        /// What the template engine says.
        message: String,
    },

    /// The `{% generation %}` blocks of a template do not show what to supervise.
    #[error(
        "{}the generation blocks of the chat template of {} cannot be followed: {message}; \
         put {{% generation %}} and {{% endgeneration %}} around the assistant's text where it is printed",
        place(origin.as_ref()),
        path.display()
    )]
    TemplateGeneration {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// What was found.
        message: String,
    },

    /// A clock setting that is no date and time.
    #[error("{value:?} is no date and time for the chat template, expected the form 2026-11-22T09:30:00: {message}")]
    TemplateClock {
        /// The value got.
        value: String,
        /// Why it was refused.
        message: String,
    },

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
impl DataError {
    /// Adds the conversation to an error of rendering or encoding that does not name one yet.
    #[must_use]
    pub fn at(mut self, place: &Origin) -> Self {
        if let Self::Encoding { origin, .. }
        | Self::TemplateRaised { origin, .. }
        | Self::TemplateFailed { origin, .. }
        | Self::TemplateGeneration { origin, .. } = &mut self
        {
            origin.get_or_insert_with(|| place.clone());
        }
        self
    }
}

/// The start of a message about a conversation: `chat.jsonl:1042: `.
fn place(origin: Option<&Origin>) -> String {
    origin.map(|origin| format!("{origin}: ")).unwrap_or_default()
}

fn after_row(row: usize) -> String {
    if row == 0 { String::new() } else { format!(", after row {row}") }
}

fn placeholders(format: Format) -> String {
    let names: Vec<_> = format.placeholders().iter().map(|name| format!("{{{name}}}")).collect();
    if names.is_empty() { "no prompt".to_owned() } else { names.join(" and ") }
}

/// The candidate that `word` most likely is a slip of, for a "did you mean".
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.trim().to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 2 < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `, did you mean "assistant"?`, or nothing.
pub(crate) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!(", did you mean {word:?}?")).unwrap_or_default()
}
