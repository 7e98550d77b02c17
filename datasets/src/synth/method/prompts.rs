//! The prompts of the methods, each a template of its own with a version that follows from its text.

use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use sha2::{Digest as _, Sha256};

use crate::digest::hex;

/// The templates by name.
const TEMPLATES: [(&str, &str); 2] =
    [("question", include_str!("../prompts/question.jinja")), ("answer", include_str!("../prompts/answer.jinja"))];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    for (name, template) in TEMPLATES {
        environment.add_template(name, template).expect("the program's own templates are sound");
    }
    environment
});

static EXAMPLES: LazyLock<serde_json::Map<String, serde_json::Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../prompts/examples.json")).expect("the program's own file"));

/// The program's own examples in a language, each with context, question and answer; English ones for a language that it
/// does not have.
pub(super) fn examples(lang: &str) -> Value {
    Value::from(Serde(EXAMPLES.get(lang).or_else(|| EXAMPLES.get("en"))))
}

/// A prompt's text.
pub(super) fn render(name: &str, values: Value) -> String {
    let template = ENVIRONMENT.get_template(name).expect("one of the program's own");
    template.render(values).expect("every value that a template uses is given")
}

/// A prompt's name with the first 8 digits of its SHA-256.
pub(super) fn version(name: &str) -> String {
    let text = TEMPLATES.iter().find(|(own, _)| *own == name).map_or("", |(_, text)| text);
    format!("{name}@{}", &hex(&Sha256::digest(text))[..8])
}
