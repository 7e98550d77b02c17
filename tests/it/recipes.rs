//! Every recipe in the repository parses, validates and plans, and says where its schema is.

use std::path::{Path, PathBuf};

use datasets::synth::config::{StepConfig, TemplateConfig};
use datasets::synth::template::make;
use trainer::recipe::{Recipe, load_synth};

fn recipes(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            recipes(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml") && !path.ends_with("schema.yaml") {
            found.push(path);
        }
    }
}

/// A recipe whose data the recipe `synth.yaml` beside it makes from templates is planned with some of it, since the data
/// is not in the repository.
fn made_beside(recipe: &Path, samples: &Path) -> Vec<String> {
    let Ok(config) = load_synth(&recipe.with_file_name("synth.yaml"), &[]) else { return Vec::new() };
    let mut lines = String::new();
    for step in config.steps {
        let StepConfig::Template(config) = step else { panic!("only templates make data without a teacher") };
        for sample in make(&TemplateConfig { documents: 8, ..config }, 0).expect("samples") {
            lines += &serde_json::to_string(&sample).expect("plain data");
            lines.push('\n');
        }
    }
    std::fs::write(samples, lines).expect("a writable file");
    ["--set".to_owned(), format!("data.train=[{{path: {}, format: messages}}]", samples.display())].to_vec()
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
        let made = tempfile::NamedTempFile::with_suffix(".jsonl").expect("a file");
        let data = made_beside(&path, made.path());
        crate::plan::plans(&path, &data.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn the_template_for_gemma_is_the_one_that_was_compared_with_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a committed file");
    assert_eq!(read("../recipes/chat_templates/gemma.jinja"), read("fixtures/templates/gemma.jinja"));
}
