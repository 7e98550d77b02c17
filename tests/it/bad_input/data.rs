//! Data and chat templates that cannot be trained on.

use super::Case;
use crate::support::greffon;

const GOOD: &str = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;

/// A case whose data is one good line and a bad second one.
#[track_caller]
fn refused_line(line: &str, words: &[&str]) {
    let case = Case::new(&["data.validation_fraction=0.0"]);
    case.write("train.jsonl", format!("{GOOD}\n{line}\n"));
    let mut all = vec!["train.jsonl:2: "];
    all.extend(words);
    case.refused(&[], &all);
    case.command_refused(&["data", "preview", &case.recipe], &all);
}

#[test]
fn a_malformed_line_is_refused_with_line_and_column() {
    refused_line(
        r#"{"messages": [{"role": "user""#,
        &["not valid JSON at column 29", "EOF", "a record must stand on one line"],
    );
    refused_line(r#"{"messages": ["role" "user"]}"#, &["not valid JSON at column 22", "expected `,` or `]`"]);
}

#[test]
fn a_missing_field_is_refused_with_what_is_there() {
    refused_line(
        r#"{"conversation": []}"#,
        &["format messages needs the key \"messages\"", "the record has conversation", "messages"],
    );
    refused_line(
        r#"{"messages": [{"role": "user", "text": "a"}, {"role": "assistant", "content": "b"}]}"#,
        &["message 1 needs the key \"content\"", "it has role, text"],
    );
}

#[test]
fn an_unknown_role_is_refused_with_the_one_that_was_meant() {
    refused_line(
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]}"#,
        &["message 2 has role \"asistant\"", "expected one of system, user, assistant", "did you mean \"assistant\"?"],
    );
}

#[test]
fn a_conversation_without_an_answer_is_refused() {
    refused_line(r#"{"messages": [{"role": "user", "content": "a"}]}"#, &["no assistant message"]);
}

#[test]
fn empty_data_is_refused() {
    let case = Case::new(&[]);
    for nothing in ["", "\n \n\n"] {
        case.write("train.jsonl", nothing);
        case.refused(&[], &["train.jsonl: has no record, expected at least one"]);
    }
}

#[test]
fn data_of_an_unknown_kind_is_refused() {
    let case = Case::new(&[]);
    case.write("train.jsonl", r#"{"text": "a"}"#);
    case.refused(&[], &["train.jsonl:1: the record has text", "expected the keys of a known format"]);
    case.write("train.csv", "a,b\n");
    let csv = format!("data.train[0].path={}", case.path("train.csv").display());
    case.refused(&[&csv], &["train.csv: cannot tell how to read a file with the ending \"csv\"", "expected .jsonl"]);
    case.write("train.jsonl", b"{\"messages\": \xff}\n");
    case.refused(&[], &["train.jsonl:1: byte 14", "not valid UTF-8", "save the file as UTF-8"]);
}

#[test]
fn nothing_supervised_after_truncation_is_refused_with_the_remedies() {
    let case = Case::new(&[]);
    case.refused(
        &["data.max_length=8", "data.overlong=truncate"],
        &[
            "train.jsonl:1: nothing is supervised: its first 8 of ",
            "raise data.max_length, or set data.overlong to drop",
        ],
    );
    case.refused(
        &["data.max_length=8", "data.overlong=drop"],
        &["train.jsonl:1: all ", " longer than data.max_length 8", "raise it, or set data.overlong to truncate"],
    );
    case.refused(
        &["data.max_length=8", "data.overlong=error"],
        &["train.jsonl:1: the conversation has ", "more than data.max_length 8"],
    );
}

#[test]
fn a_template_that_raises_is_refused_with_its_words_and_the_conversation() {
    let case = Case::new(&[]);
    case.write("raises.jinja", "{{ raise_exception('only for cats') }}");
    let template = format!("data.chat_template={}", case.path("raises.jinja").display());
    let words = ["train.jsonl:", "raises.jinja", "refuses the conversation: only for cats", "set `data.chat_template`"];
    case.refused(&[&template], &words);
}

#[test]
fn a_template_that_does_not_parse_is_refused_with_its_line() {
    let case = Case::new(&[]);
    case.write("broken.jinja", "{# a template #}\n{% for message in messages %}\n{{ message['role' }}\n{% endfor %}");
    let template = format!("data.chat_template={}", case.path("broken.jinja").display());
    let words = ["broken.jinja: line 3 of the chat template does not parse", "expected `]`", "correct it"];
    case.refused(&[&template], &words);
}

#[test]
fn a_template_that_fails_on_a_conversation_is_refused_with_both_places() {
    let case = Case::new(&[]);
    case.write("fails.jinja", "{{ messages[0].content }}\n{{ messages[0].content | no_such_filter }}");
    let template = format!("data.chat_template={}", case.path("fails.jinja").display());
    case.refused(&[&template], &["line 2 of the chat template", "fails.jinja", "no_such_filter"]);
}

#[test]
fn a_tokenizer_larger_than_the_embedding_is_refused_with_the_first_token_beyond_it() {
    let case = Case::with_own_base("tiny-llama");
    // A base whose embedding and head have fewer rows, as when a folder is put together from two models.
    let mut base = super::base::Weights::read(&case);
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let tensor = base.get(name);
        tensor.shape[0] = 300;
        tensor.bytes.truncate(300 * 64 * 4);
    }
    base.write(&case);
    case.edit("base/config.json", "\"vocab_size\": 384", "\"vocab_size\": 300");
    let words =
        ["tokenizer.json", "id 300", "the model's vocabulary has 300 entries", "use the tokenizer that belongs"];
    case.refused(&[], &words);
}

#[test]
fn a_base_without_a_template_is_refused_with_the_remedies_and_works_with_one() {
    let case = Case::with_own_base("tiny-llama-tied");
    let template = case.path("base/chat_template.jinja");
    let moved = case.path("own.jinja");
    std::fs::rename(template, &moved).expect("the fixture has a template");
    let words = ["the model has no chat template, as is usual for base models", "data.chat_template", "Jinja file"];
    case.refused(&[], &words);
    let (base, recipe) = (case.path("base"), case.recipe.clone());
    let (base, fixture) = (base.to_str().expect("UTF-8"), crate::support::fixture("parity/adapter_final"));
    case.command_refused(&["check", &recipe], &words);
    case.command_refused(&["eval", &recipe, "--adapter", fixture.to_str().expect("UTF-8")], &words);
    let words = ["no chat template", "`greffon generate --raw`", "data.chat_template"];
    case.command_refused(&["generate", "--model", base, "Bonjour"], &words);

    let set = format!("data.chat_template={}", moved.display());
    for verb in ["check", "train"] {
        let done = greffon(&[verb, &recipe, "--set", &set]);
        assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let raw = greffon(&["generate", "--model", base, "--raw", "--max-new-tokens", "4", "--json", "Bonjour"]);
    assert!(raw.status.success(), "{}", String::from_utf8_lossy(&raw.stderr));
    let said: serde_json::Value = serde_json::from_slice(&raw.stdout).expect("JSON");
    assert_eq!(said["new_tokens"], 4);
    case.command_refused(&["generate", "--model", base, "--raw", ""], &["the prompt is empty"]);
}
