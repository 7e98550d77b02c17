//! What can be wrong with a recipe, each with its place, the value, what was expected and the remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Everything that loading, checking and writing recipes can end with.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: the recipe cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The path is a folder's.
    #[error("{}: this is a folder, expected the recipe's file{hint}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Empty, or the recipe inside it.
        hint: String,
    },
    /// The file is larger than any recipe.
    #[error("{}: the file is larger than {limit} bytes, expected a recipe in YAML", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: usize,
    },
    /// The file is not text.
    #[error("{}:{line}: the line is not valid UTF-8, save the file as UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first line that is not, counted from 1.
        line: usize,
    },
    /// The file holds nothing but white space and comments.
    #[error("{}: the recipe is empty, expected at least `model.base` and `data.train`; `greffon init` writes one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The path of a folder cannot be written into a recipe.
    #[error("{}: the path is not valid UTF-8 and cannot stand in a recipe, rename the folder", path.display())]
    PathNotUtf8 {
        /// The folder or file.
        path: PathBuf,
    },
    /// The text is not a YAML document of a sensible size.
    #[error("{place}{reason}{}", place.excerpt())]
    Syntax {
        /// Where reading stopped.
        place: Box<Place>,
        /// What the reader found.
        reason: String,
    },
    /// A key stands twice in one section.
    #[error("{place}the key `{key}` stands twice in its section, remove one{}", place.excerpt())]
    DuplicateKey {
        /// Where it stands for the second time.
        place: Box<Place>,
        /// The key.
        key: String,
    },
    /// A section has a key that it does not know.
    #[error("{place}unknown key `{key}` {section}; {hint}{}", place.excerpt())]
    UnknownKey {
        /// Where the key stands.
        place: Box<Place>,
        /// The key.
        key: String,
        /// `in train`, `at the top level`.
        section: String,
        /// `did you mean ...?`, or the known keys.
        hint: String,
    },
    /// A section lacks a key.
    #[error("{place}the key `{key}` is missing{hint}")]
    MissingKey {
        /// Where the section begins.
        place: Box<Place>,
        /// The whole key.
        key: String,
        /// What it is for, beginning with a colon; or nothing.
        hint: String,
    },
    /// A value has the wrong type, or is a word that the key does not take.
    #[error("{place}{key}: expected {expected}, got {got}{remedy}{}", place.excerpt())]
    WrongType {
        /// Where the value stands.
        place: Box<Place>,
        /// The whole key.
        key: String,
        /// The type in plain words, or the words taken.
        expected: String,
        /// The value found.
        got: String,
        /// What to do, beginning with `; `; or nothing.
        remedy: String,
    },
    /// A value that its type refuses with its own words.
    #[error("{place}{key}: {problem}{}", place.excerpt())]
    Value {
        /// Where the value stands.
        place: Box<Place>,
        /// The whole key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An override does not fit the recipe.
    #[error("--set {text}: {problem}")]
    Override {
        /// The override as given.
        text: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// Values outside their ranges, all of them.
    #[error("{}", lines(problems))]
    OutOfRange {
        /// At least one.
        problems: Vec<Problem>,
    },
    /// Files that the recipe names and that are not there, or are not what they should be; all of them.
    #[error("{}", lines(files))]
    Files {
        /// At least one.
        files: Vec<FileProblem>,
    },
    /// The data file for a new recipe cannot be used.
    #[error(transparent)]
    Data(Box<datasets::DataError>),
}

/// One value outside its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the value stands.
    pub place: Place,
    /// The whole key, `train.learning_rate`.
    pub key: String,
    /// The value.
    pub got: String,
    /// The allowed range.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, got, expected } = self;
        write!(f, "{place}{key}: expected {expected}, got {got}")
    }
}

/// One file that a recipe names and that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Where the recipe names it.
    pub place: Place,
    /// The whole key, `data.train[0].path`.
    pub key: String,
    /// The path that was looked at.
    pub path: PathBuf,
    /// What is wrong, and the remedy.
    pub problem: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, path, problem } = self;
        write!(f, "{place}{key}: {}: {problem}", printable(&path.to_string_lossy()))
    }
}

/// Where a value came from. As text it is the beginning of a message: `recipe.yaml:12:3: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the recipe.
    Line {
        /// The recipe.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// The line itself.
        text: String,
    },
    /// The recipe as a whole: a default, or what is missing.
    Recipe {
        /// The recipe.
        path: PathBuf,
    },
    /// An override on the command line, as given.
    Override(String),
    /// A recipe that was made in the program, not read.
    Program,
}

/// The most characters of a line that a message shows.
const EXCERPT: usize = 100;

impl Place {
    /// The line with a caret under the column, beginning with a line feed; empty where there is no line.
    pub fn excerpt(&self) -> String {
        let Self::Line { line, column, text, .. } = self else {
            return String::new();
        };
        let start = if *column > EXCERPT { column - EXCERPT / 2 } else { 0 };
        let shown = printable(&text.chars().skip(start).take(EXCERPT).collect::<String>());
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let caret = " ".repeat(column.saturating_sub(start + 1));
        format!("\n  {number} | {}\n  {margin} | {caret}^", shown.trim_end())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { path, line, column, .. } => write!(f, "{}:{line}:{column}: ", path.display()),
            Self::Recipe { path } => write!(f, "{}: ", path.display()),
            Self::Override(text) => write!(f, "--set {text}: "),
            Self::Program => Ok(()),
        }
    }
}

/// A text from a recipe without what could move the terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn lines<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
