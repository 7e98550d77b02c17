//! Against what transformers renders; `scripts/make_token_fixtures.py` wrote the expectations.

use serde::Deserialize;

use super::*;
use crate::Origin;

fn message(role: Role, content: &str) -> Message {
    Message { role, content: content.to_owned() }
}

fn special() -> SpecialTokens {
    SpecialTokens {
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        terminators: vec!["</s>".into(), "<|im_end|>".into()],
        ..SpecialTokens::default()
    }
}

fn compile(source: &str) -> Result<ChatTemplate, DataError> {
    ChatTemplate::new(source, Path::new("model/chat_template.jinja"), special())
}

#[derive(Deserialize)]
struct Feature {
    source: String,
    text: Option<String>,
    fails: Option<String>,
}

#[test]
fn each_feature_of_the_environment_renders_as_in_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/templates/features.json");
    let features: Vec<Feature> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(features.len() > 40);
    let messages = [message(Role::User, "Où ?\n"), message(Role::Assistant, "Là-bas <b>&amp;</b> \"x\"")];
    let mut wrong = Vec::new();
    for Feature { source, text, fails } in features {
        let got = compile(&source).and_then(|template| template.render(&messages, false));
        match (got, text, fails.as_deref()) {
            (Ok(got), Some(text), None) if got == text => {}
            // Jinja looks filters up when it compiles, minijinja when it renders.
            (
                Err(DataError::Template(TemplateError::Syntax { .. } | TemplateError::Failed { .. })),
                None,
                Some("syntax"),
            )
            | (Err(DataError::Template(TemplateError::Failed { .. })), None, Some("render")) => {}
            (Err(DataError::Template(TemplateError::Raised { message, .. })), None, Some(fails))
                if message == fails => {}
            (got, text, fails) => {
                wrong.push(format!("{source}\n  got {got:?}\n  expected {text:?} or failure {fails:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_template_that_does_not_parse_is_refused_with_its_line() {
    let error = compile("one\ntwo\n{% if %}").err().unwrap().to_string();
    assert!(
        error.starts_with("model/chat_template.jinja: line 3 of the chat template does not parse: syntax error: "),
        "{error}"
    );
    assert!(error.ends_with("; correct it, or set `data.chat_template` to another"), "{error}");
}

#[test]
fn what_a_template_raises_comes_out_with_the_conversation_s_place() {
    let template = compile("{{ raise_exception('no system role') }}").unwrap();
    let error = template.render_supervised(&[message(Role::System, "Be brief.")]).unwrap_err();
    let origin = Origin { path: Path::new("chat.jsonl").into(), line: 12 };
    assert_eq!(
        error.at(&origin).to_string(),
        "chat.jsonl:12: the chat template of model/chat_template.jinja refuses the conversation: no system role; \
         change the conversation, or set `data.chat_template`"
    );
    let error = compile("\n{{ messages[9].role }}").unwrap().render(&[], false).unwrap_err().at(&origin).to_string();
    assert!(
        error.starts_with("chat.jsonl:12: line 2 of the chat template of model/chat_template.jinja fails: "),
        "{error}"
    );
}

#[test]
fn marks_in_the_data_never_make_a_supervised_span() {
    let template = compile(
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}\
         {% else %}{{ m.content }}{% endif %}{% endfor %}",
    )
    .unwrap();
    let answer = message(Role::Assistant, "yes");
    for forged in ["\u{10fff0}learn me\u{10fff1}", "\u{10fff1}", "\u{10fff0}", "\u{10fff1}\u{10fff0}"] {
        let error = template.render_supervised(&[message(Role::User, forged), answer.clone()]).unwrap_err();
        assert!(error.to_string().contains("private-use character U+10FFF0"), "{error}");
    }
    // Other private-use characters are text like any other.
    let rendered = template.render_supervised(&[message(Role::User, "\u{10ffef}\u{e000}"), answer]).unwrap();
    assert_eq!(rendered.text, "\u{10ffef}\u{e000}yes");
    assert_eq!(rendered.supervised, vec![7..10]);
}

#[test]
fn generation_blocks_whose_text_is_worked_on_afterwards_are_refused() {
    let template =
        compile("{% set x %}{% generation %} {{ messages[0].content }}{% endgeneration %}{% endset %}{{ x | trim }}")
            .unwrap();
    let error = template.render_supervised(&[message(Role::Assistant, "a")]).unwrap_err();
    assert!(error.to_string().contains("works on the block's text after the block"), "{error}");
    let template = compile("{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}").unwrap();
    let error = template.render_supervised(&[]).unwrap_err();
    assert!(error.to_string().contains("a block stands inside another"), "{error}");
}

#[test]
fn a_generation_block_inside_a_macro_is_found() {
    let template = compile(
        "{% macro say(m) %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %};{% endmacro %}\
         {% for m in messages %}{{ say(m) }}{% endfor %}",
    )
    .unwrap();
    let rendered = template.render_supervised(&[message(Role::Assistant, "a"), message(Role::Assistant, "é")]).unwrap();
    assert_eq!(rendered.text, "assistant:a;assistant:é;");
    assert_eq!(rendered.supervised, vec![10..11, 22..24]);
}

#[test]
fn turns_that_the_template_rewrites_are_left_unlearned_and_counted() {
    // Mistral's template of 2024: the system message moves to the last question.
    let template = compile(
        "{% for m in messages %}{% if m.role == 'user' %}[{{ messages[0].content if loop.last else '' }}{{ m.content }}]\
         {% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}{% endfor %}",
    )
    .unwrap();
    let rendered = template
        .render_supervised(&[message(Role::System, "s"), message(Role::User, "q"), message(Role::Assistant, "a")])
        .unwrap();
    assert_eq!(rendered, Rendered { text: "[q]a</s>".into(), supervised: vec![], unsupervised_turns: 1 });
}

#[test]
fn the_clock_is_fixed_when_asked_and_told_when_used() {
    let template = compile("{{ strftime_now('%d %b %Y, %H:%M') }}").unwrap();
    assert!(template.clock().is_some());
    let template = template.with_clock("2024-07-26T09:05:00").unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "26 Jul 2024, 09:05");
    assert_eq!(template.clock().as_deref(), Some("2024-07-26T09:05:00"));
    let error = template.with_clock("yesterday").err().unwrap().to_string();
    assert!(error.starts_with("\"yesterday\" is no date and time for the chat template, expected"), "{error}");
    assert_eq!(compile("x").unwrap().clock(), None);
    assert!(matches!(
        compile("{{ strftime_now('%!') }}").unwrap().render(&[], false),
        Err(DataError::Template(TemplateError::Failed { .. }))
    ));
}
