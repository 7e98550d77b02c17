//! The processes of this machine.

use std::fs;
use std::path::{Path, PathBuf};

/// The processes for whose folder in `/proc` something holds.
pub(super) fn processes(is_one: impl Fn(&Path) -> bool) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
    let is_process =
        |folder: &PathBuf| folder.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok());
    let found = entries.filter(|folder| is_process(folder) && is_one(folder));
    found.map(|folder| folder.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

/// The process that is this rank of the run in a folder, by the variable in which its launcher says so.
pub(super) fn rank(run: &Path, variable: &str, rank: usize) -> Option<String> {
    let has = |folder: &Path, file: &str, text: &str| {
        fs::read(folder.join(file)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    let run = run.to_str().expect("plain path");
    processes(|folder| has(folder, "cmdline", run) && has(folder, "environ", &format!("\0{variable}={rank}\0"))).pop()
}
