//! Every recipe in the repository parses, validates and plans, and says where its schema is.

use std::path::{Path, PathBuf};

use trainer::recipe::{Recipe, load_synth};

fn recipes(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            recipes(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_recipe_validates_and_plans() {
    let mut found = Vec::new();
    recipes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes"), &mut found);
    assert!(!found.is_empty());
    for path in found {
        let name = path.display();
        let text = std::fs::read_to_string(&path).expect("readable");
        if text.starts_with("# yaml-language-server: $schema=../synth-schema.json") {
            load_synth(&path, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            continue;
        }
        assert!(text.starts_with("# yaml-language-server: $schema=../schema.json"), "{name}");
        Recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        crate::plan::plans(&path);
    }
}

#[test]
fn the_template_for_gemma_is_the_one_that_was_compared_with_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a committed file");
    assert_eq!(read("../recipes/chat_templates/gemma.jinja"), read("fixtures/templates/gemma.jinja"));
}
