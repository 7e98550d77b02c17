//! The prompts of the methods, each a template of its own with a version that follows from its text.

use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use sha2::{Digest as _, Sha256};

use crate::digest::hex;
use crate::synth::config::Style;

/// The templates by name, each with the name of its examples.
const TEMPLATES: [(&str, &str, &str); 10] = [
    ("question", "grounded", include_str!("../prompts/question.jinja")),
    ("answer", "grounded", include_str!("../prompts/answer.jinja")),
    ("respond", "respond", include_str!("../prompts/respond.jinja")),
    ("instruct", "respond", include_str!("../prompts/instruct.jinja")),
    ("evolve", "evolve", include_str!("../prompts/evolve.jinja")),
    ("paraphrase", "paraphrase", include_str!("../prompts/paraphrase.jinja")),
    ("translate", "translate", include_str!("../prompts/translate.jinja")),
    ("persona", "persona", include_str!("../prompts/persona.jinja")),
    ("judge", "judge", include_str!("../prompts/judge.jinja")),
    ("compare", "compare", include_str!("../prompts/compare.jinja")),
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    for (name, _, template) in TEMPLATES {
        environment.add_template(name, template).expect("the program's own templates are sound");
    }
    environment
});

static EXAMPLES: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../prompts/examples.json")).expect("the program's own file"));

fn template(name: &str) -> (&'static str, &'static str) {
    let found = TEMPLATES.iter().find(|(own, ..)| *own == name);
    found.map(|(_, examples, text)| (*examples, *text)).expect("one of the program's own")
}

/// A prompt's text, in French for `fr` and in English for any other language, which it then names. A completion begins
/// with the program's own examples.
pub(super) fn render(name: &str, style: Style, lang: &str, values: &Value) -> String {
    let examples = &EXAMPLES[template(name).0];
    let examples = examples.get(lang).unwrap_or(&examples["en"]);
    let values = context! {
        style => if style == Style::Chat { "chat" } else { "completion" },
        fr => lang == "fr",
        language => language(lang),
        examples => Value::from(Serde(examples)),
        ..values.clone()
    };
    let template = ENVIRONMENT.get_template(name).expect("one of the program's own");
    template.render(values).expect("every value that a template uses is given")
}

/// A prompt's name with the first 8 digits of its SHA-256.
pub(super) fn version(name: &str) -> String {
    format!("{name}@{}", &hex(&Sha256::digest(template(name).1))[..8])
}

/// A language's name in English.
fn language(lang: &str) -> String {
    let names = [
        ("de", "German"),
        ("en", "English"),
        ("es", "Spanish"),
        ("fr", "French"),
        ("it", "Italian"),
        ("nl", "Dutch"),
        ("pl", "Polish"),
        ("pt", "Portuguese"),
    ];
    let found = names.iter().find(|(code, _)| *code == lang);
    found.map_or_else(|| format!("the language with the code {lang}"), |(_, name)| (*name).to_owned())
}
