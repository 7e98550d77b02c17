//! The study's page says what its kept answers and figures say.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{copy, greffon_command};

/// What a page is made from and by.
const PARTS: [&str; 3] = ["docs", "recipes/releve-information", "scripts/study"];

fn check(root: &Path) -> Output {
    let mut python = Command::new("python3");
    python
        .arg("-B")
        .arg(root.join("scripts/study/releve.py"))
        .arg("--check")
        .arg("--greffon")
        .arg(greffon_command(&[]).get_program());
    python.output().expect("Python starts")
}

#[test]
fn the_page_is_what_its_kept_answers_say_and_is_found_to_differ_when_one_changes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = check(&root);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let other = tempfile::tempdir().expect("a folder");
    for part in PARTS {
        copy(&root.join(part), &other.path().join(part));
    }
    let page = other.path().join("docs/study-releve-information.md");
    let text = fs::read_to_string(&page).expect("the page");
    let head = "| exact match, %";
    assert!(text.contains(head), "{text}");
    fs::write(&page, text.replacen(head, "| exact match, points", 1)).expect("written");
    let out = check(other.path());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("study-releve-information.md"), "{said}");
}
