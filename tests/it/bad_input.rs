//! Each bad input ends the real program with one clear error: its place, the value, the remedy. Nothing is written.
//!
//! One file a subject. [`Case`] is a folder with a sound recipe, its data and a base of its own, of which a test
//! spoils one thing.

mod adapter;
mod base;
mod data;
mod headers;
mod merge;
mod recipe;
mod run;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::{fixture, greffon, tiny_recipe};

/// A sound recipe in a folder of its own; [`Case::refused`] shows that it no longer is one.
struct Case {
    folder: TempDir,
    recipe: String,
}

impl Case {
    /// A recipe over the tiny model, with values set on top.
    fn new(set: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = tiny_recipe(folder.path(), set);
        Self { folder, recipe }
    }

    /// The same with a copy of the base in the folder, for a test that changes it.
    fn with_own_base(fixture_name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = fixture(fixture_name);
        let name = if source.is_dir() { "base" } else { "base.gguf" };
        let base = folder.path().join(name);
        if source.is_dir() {
            fs::create_dir(&base).expect("a folder");
            for entry in source.read_dir().expect("the fixture is a folder") {
                let entry = entry.expect("an entry");
                fs::copy(entry.path(), base.join(entry.file_name())).expect("a copy");
            }
        } else {
            fs::copy(source, &base).expect("a copy");
        }
        let recipe = tiny_recipe(folder.path(), &[&format!("model.base={}", base.display())]);
        Self { folder, recipe }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// Replaces the one place of a text in a file.
    #[track_caller]
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {name}:\n{text}");
        self.write(name, text.replace(from, to));
    }

    /// Trains, as the recipe says, into the folder `run` inside the case's folder.
    #[track_caller]
    fn train(&self, set: &[&str]) -> PathBuf {
        let mut arguments = vec!["train", &self.recipe];
        arguments.extend(set.iter().flat_map(|value| ["--set", value]));
        let out = greffon(&arguments);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.path("run")
    }

    /// `greffon train` with overrides ends with exit code 2, leaves every file as it was and makes none.
    #[track_caller]
    fn refused(&self, set: &[&str], words: &[&str]) {
        let mut arguments = vec!["train", &self.recipe];
        arguments.extend(set.iter().flat_map(|value| ["--set", value]));
        self.command_refused(&arguments, words);
    }

    /// The same of any verb.
    #[track_caller]
    fn command_refused(&self, arguments: &[&str], words: &[&str]) {
        let before = files(self.folder.path());
        assert_error(&greffon(arguments), 2, words);
        assert_same_files(&files(self.folder.path()), &before);
    }
}

/// The program ended with this code and one error, whose text has all the words.
#[track_caller]
fn assert_error(out: &Output, code: i32, words: &[&str]) -> String {
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "one error: {said}");
    for never in ["panicked", "backtrace", "Error {", "Err("] {
        assert!(!said.contains(never), "{never:?} in {said}");
    }
    let error = said.split_once("error: ").expect("counted above").1.trim_end();
    assert!(!error.ends_with('.'), "a full stop ends {error:?}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    // A cause that the message tells already must not be told again.
    let parts: Vec<&str> = error.split(": ").collect();
    for pair in parts.windows(2) {
        assert_ne!(pair[0], pair[1], "told twice: {error}");
    }
    error.to_owned()
}

/// Every file below a folder with its bytes, except the lock, which says who had it last; a folder counts too.
fn files(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in folder.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.ends_with("run.lock") {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.insert(path, Some(bytes));
        }
    }
    found
}

#[track_caller]
fn assert_same_files(after: &BTreeMap<PathBuf, Option<Vec<u8>>>, before: &BTreeMap<PathBuf, Option<Vec<u8>>>) {
    let names = |files: &BTreeMap<PathBuf, _>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(after), names(before), "no file comes or goes");
    for (path, bytes) in before {
        assert!(after.get(path) == Some(bytes), "{} was changed", path.display());
    }
}

/// The program under a limit of the shell's `ulimit`, such as `-f 80`: a write beyond it fails as on a full disk.
fn greffon_with_limit(limit: &str, arguments: &[&str]) -> Command {
    let plain = crate::support::greffon_command(arguments);
    // The signal of the file size limit would kill the program; ignored, the write fails instead.
    let mut command = Command::new("bash");
    command.args(["-c", &format!("trap '' XFSZ; ulimit {limit} && exec \"$0\" \"$@\"")]);
    command.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.expect("set, not removed"));
    }
    command
}
