//! Each format and each thing that can be wrong with a file, through [`load`].

use std::fmt::Write as _;
use std::fs;

use insta::assert_snapshot;
use tempfile::TempDir;

use super::*;
use crate::conversation::Role;

/// Writes `content` to `name` in a new folder and reads it with the given settings.
pub(super) fn read(
    name: &str,
    content: impl AsRef<[u8]>,
    change: impl FnOnce(&mut SourceConfig),
) -> Result<Loaded, DataError> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    let mut source = SourceConfig::from_path(name);
    change(&mut source);
    load(&source, folder.path())
}

fn auto(content: impl AsRef<[u8]>) -> Result<Loaded, DataError> {
    read("chat.jsonl", content, |_| {})
}

#[track_caller]
fn error(content: impl AsRef<[u8]>) -> String {
    auto(content).unwrap_err().to_string()
}

/// The conversations as a reader would write them down: place, then `role: content` for each message.
pub(super) fn shown(loaded: &Loaded) -> String {
    let mut text = format!("{}\n", loaded.format);
    for conversation in &loaded.conversations {
        writeln!(text, "{}", conversation.origin).unwrap();
        for message in &conversation.messages {
            let role = serde_json::to_value(message.role).unwrap();
            writeln!(text, "  {}: {:?}", role.as_str().unwrap(), message.content).unwrap();
        }
        if !conversation.references.is_empty() {
            writeln!(text, "  references: {:?}", conversation.references).unwrap();
        }
    }
    text
}

pub(super) const CHAT: &str =
    r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;

#[test]
fn messages_in_every_role_and_both_kinds_of_content() {
    let content = r#"
{"id": 1, "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "é "}, {"text": "u"}]}, {"role": "assistant", "content": "A", "tool_calls": null}]}
{"id": 1, "messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "B", "tool_calls": []}, {"role": "tool", "content": "T"}, {"role": "assistant", "content": " C\n"}]}
"#;
    assert_snapshot!(shown(&auto(content).unwrap()), @r#"
    messages
    chat.jsonl:2
      system: "S"
      user: "é u"
      assistant: "A"
    chat.jsonl:3
      user: ""
      assistant: "B"
      tool: "T"
      assistant: " C\n"
    "#);
}

#[test]
fn sharegpt_with_its_aliases() {
    let content = r#"
{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "S"}
{"conversations": [{"from": "system", "value": "S"}, {"from": "user", "value": "a"}, {"from": "model", "value": "b"}], "system": "other"}
{"conversations": [{"role": "user", "content": "a"}, {"from": "observation", "value": "t"}, {"role": "assistant", "content": "b"}]}
"#;
    assert_snapshot!(shown(&auto(content).unwrap()), @r#"
    sharegpt
    chat.jsonl:2
      system: "S"
      user: "a"
      assistant: "b"
    chat.jsonl:3
      system: "S"
      user: "a"
      assistant: "b"
    chat.jsonl:4
      user: "a"
      tool: "t"
      assistant: "b"
    "#);
}

#[test]
fn alpaca_with_and_without_input() {
    let content = r#"
{"instruction": "Translate.", "input": "chat", "output": "cat"}
{"instruction": "Count.", "input": "", "output": "1"}
{"instruction": "Count on.", "input": null, "output": "3", "system": "S", "history": [["1?", "2"]]}
"#;
    assert_snapshot!(shown(&auto(content).unwrap()), @r#"
    alpaca
    chat.jsonl:2
      user: "Translate.\n\nchat"
      assistant: "cat"
    chat.jsonl:3
      user: "Count."
      assistant: "1"
    chat.jsonl:4
      system: "S"
      user: "1?"
      assistant: "2"
      user: "Count on."
      assistant: "3"
    "#);
    let prompted = read("a.jsonl", content, |source| {
        source.prompt = Some("Task: {instruction} {\"x\": {}}\n{input}".to_owned());
    });
    assert_eq!(prompted.unwrap().conversations[1].messages[0].content, "Task: Count. {\"x\": {}}");
}

#[test]
fn prompt_completion_as_texts_and_as_messages() {
    let content = r#"
{"prompt": "a", "completion": "b"}
{"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
"#;
    assert_snapshot!(shown(&auto(content).unwrap()), @r#"
    prompt-completion
    chat.jsonl:2
      user: "a"
      assistant: "b"
    chat.jsonl:3
      system: "S"
      user: "a"
      assistant: "b"
    "#);
}

#[test]
fn squad_with_the_three_ways_to_write_answers() {
    let content = r#"
{"context": "C", "question": "Q {context}", "answers": {"text": ["x", "y"], "answer_start": [1, 2]}}
{"context": "C", "question": "Q", "answers": [{"text": "x", "answer_start": 1}]}
{"context": "C", "question": "Q", "answers": ["x"]}
"#;
    assert_snapshot!(shown(&auto(content).unwrap()), @r#"
    squad
    chat.jsonl:2
      user: "C\n\nQ {context}"
      assistant: "x"
      references: ["x", "y"]
    chat.jsonl:3
      user: "C\n\nQ"
      assistant: "x"
      references: ["x"]
    chat.jsonl:4
      user: "C\n\nQ"
      assistant: "x"
      references: ["x"]
    "#);
    let prompted = read("a.jsonl", content, |source| source.prompt = Some("{question}?\n{context}".to_owned()));
    assert_eq!(prompted.unwrap().conversations[1].messages[0].content, "Q?\nC");
}

#[test]
fn documents_are_arrays_nested_squad_files_or_records_over_several_lines() {
    let document = |content: &str| shown(&read("all.json", content, |_| {}).unwrap());
    let array = format!("\u{feff}[\n  {CHAT},\n\n  {CHAT}\n]\n");
    assert_snapshot!(document(&array), @r#"
    messages
    all.json:2
      user: "a"
      assistant: "b"
    all.json:4
      user: "a"
      assistant: "b"
    "#);
    assert_eq!(
        document(&array),
        shown(&read("all.json", format!("{CHAT}\n{CHAT}"), |_| {}).unwrap())
            .replace("json:2", "json:4")
            .replace("json:1", "json:2")
    );
    let squad = r#"{"version": "1.1", "data": [{"title": "t", "paragraphs": [
        {"context": "C", "qas": [{"id": "1", "question": "Q", "answers": [{"text": "x", "answer_start": 0}]},
                                 {"id": "2", "question": "R", "answers": [{"text": "y", "answer_start": 0}]}]}]}]}"#;
    assert_snapshot!(document(squad), @r#"
    squad
    all.json:1
      user: "C\n\nQ"
      assistant: "x"
      references: ["x"]
    all.json:1
      user: "C\n\nR"
      assistant: "y"
      references: ["y"]
    "#);
    // An array in a file of lines is read all the same.
    assert_eq!(auto(array).unwrap().conversations.len(), 2);
}

#[test]
fn byte_order_mark_windows_line_ends_and_blank_lines_are_harmless() {
    let plain = auto(format!("{CHAT}\n{CHAT}\n")).unwrap();
    let odd = auto(format!("\u{feff}{CHAT}\r\n  \t\r\n\r\n{CHAT}")).unwrap();
    let messages = |loaded: &Loaded| loaded.conversations.iter().map(|c| c.messages.clone()).collect::<Vec<_>>();
    assert_eq!(messages(&plain), messages(&odd));
    assert_eq!(odd.conversations[1].origin.line, 4);
}

#[test]
fn long_lines_and_many_lines_keep_their_order() {
    let long = "x".repeat(10 << 20);
    let record = |text: &str| format!(r#"{{"prompt": "p", "completion": "{text}"}}"#);
    let mut content = record(&long) + "\n";
    for i in 0..10_000 {
        content += &(record(&i.to_string()) + "\n");
    }
    let loaded = auto(&content).unwrap();
    assert_eq!(loaded.conversations.len(), 10_001);
    assert_eq!(loaded.conversations[0].messages[1].content.len(), 10 << 20);
    for (i, conversation) in loaded.conversations[1..].iter().enumerate() {
        assert_eq!(conversation.messages[1].content, i.to_string());
        assert_eq!(conversation.origin.line, i + 2);
    }
    // Of several errors in a batch, the first one is told.
    let two = content.replace(r#""7000""#, "7000").replace(r#""5000""#, "5000");
    assert!(error(two).starts_with("chat.jsonl:5002: \"completion\" is the number 5000"));
}

#[test]
fn a_limit_reads_the_first_conversations_only() {
    let lines = format!("{CHAT}\n\n{CHAT}\nnot read");
    let loaded = read("a.jsonl", lines, |source| source.limit = Some(2)).unwrap();
    assert_eq!(loaded.conversations.len(), 2);
    let array = format!("[{CHAT}, {CHAT}, 7]");
    assert_eq!(read("a.json", array, |source| source.limit = Some(2)).unwrap().conversations.len(), 2);
}

#[test]
fn wrong_records_name_place_key_and_remedy() {
    let messages = |inside: &str| error(format!("{CHAT}\n{{\"messages\": [{inside}]}}"));
    let assistant = r#"{"role": "assistant", "content": "b"}"#;
    assert_snapshot!(
        messages(&format!(r#"{assistant}, {assistant}, {{"role": "asistant", "content": "b"}}"#)),
        @r#"chat.jsonl:2: message 3 has role "asistant", expected one of system, user, assistant, tool, did you mean "assistant"?"#
    );
    assert_snapshot!(
        messages(r#"{"role": "human", "content": "b"}"#),
        @r#"chat.jsonl:2: message 1 has role "human", expected one of system, user, assistant, tool; these are the names of the format sharegpt"#
    );
    assert_snapshot!(
        messages(r#"{"role": "bird", "content": "b"}"#),
        @r#"chat.jsonl:2: message 1 has role "bird", expected one of system, user, assistant, tool"#
    );
    assert_snapshot!(
        error(r#"{"conversations": [{"from": "gtp", "value": "b"}]}"#),
        @r#"chat.jsonl:1: message 1 has role "gtp", expected one of human, gpt, system, tool, user, assistant, chatgpt, model, observation, did you mean "gpt"?"#
    );
    assert_snapshot!(
        messages(r#"{"role": 3, "content": "b"}"#),
        @"chat.jsonl:2: the role of message 1 is the number 3, expected a text"
    );
    assert_snapshot!(
        messages(r#"{"role": "user", "text": "b"}"#),
        @r#"chat.jsonl:2: message 1 needs the key "content", it has role, text"#
    );
    assert_snapshot!(
        messages(r#"{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}"#),
        @r#"chat.jsonl:2: part 1 of the content of message 1 is the text "image_url", expected {"type": "text", "text": …}, only text is read"#
    );
    assert_snapshot!(
        messages(r#"{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}"#),
        @"chat.jsonl:2: message 1 has tool_calls, which are not read, expected text: write the call into its content as the model shall write it"
    );
    assert_snapshot!(
        messages(&format!(r#"{assistant}, {{"role": "assistant", "content": " \n"}}"#)),
        @"chat.jsonl:2: message 2 of the assistant is empty, expected text, remove the record or fill it in"
    );
    assert_snapshot!(
        messages(r#"{"role": "user", "content": "b"}"#),
        @"chat.jsonl:2: has no assistant message, expected at least one, there is nothing to learn from otherwise"
    );
    assert_snapshot!(messages(r#""text""#), @r#"chat.jsonl:2: message 1 is the text "text", expected an object with role and content"#);
    assert_snapshot!(error(r#"{"messages": "text"}"#), @r#"chat.jsonl:1: "messages" is the text "text", expected a list of messages"#);
}

#[test]
fn records_of_another_form_say_what_they_are() {
    assert_snapshot!(
        error(r#"{"text": "a", "source": "b"}"#),
        @"chat.jsonl:1: the record has text, source, expected the keys of a known format: messages (messages), sharegpt (conversations), alpaca (instruction, output), prompt-completion (prompt, completion) or squad (context, question, answers)"
    );
    assert_snapshot!(
        error(format!("{CHAT}\n{{\"instruction\": \"a\", \"output\": \"b\"}}")),
        @r#"chat.jsonl:2: a record of the format messages needs the key "messages", the record has instruction, output; it looks like the format alpaca: set format: alpaca, or auto, and keep one format a file"#
    );
    assert_snapshot!(
        error("{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"a\", \"ouput\": \"b\"}"),
        @r#"chat.jsonl:2: a record of the format alpaca needs the key "output", the record has instruction, ouput; rename "ouput" to "output""#
    );
    let named = read("a.jsonl", CHAT, |source| source.format = Format::Alpaca).unwrap_err();
    assert_snapshot!(
        named.to_string(),
        @r#"a.jsonl:1: a record of the format alpaca needs the key "instruction", the record has messages; it looks like the format messages: set format: messages, or auto, and keep one format a file"#
    );
    assert_snapshot!(
        error("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"completion\": null}\n"),
        @r#"chat.jsonl:2: a record of the format prompt-completion needs the key "completion", the record has prompt, completion ("completion" is null)"#
    );
    assert_snapshot!(
        error(r#"{"prompt": "a", "completion": true}"#),
        @r#"chat.jsonl:1: "completion" is the boolean true, expected a text or a list of messages"#
    );
    assert_snapshot!(
        error(r#"{"instruction": "a", "output": "b", "history": [["x"]]}"#),
        @r#"chat.jsonl:1: "history" is a list, expected a list of pairs of texts, [asked, answered]"#
    );
    assert_snapshot!(error("7"), @"chat.jsonl:1: the record is the number 7, expected an object");
    assert_snapshot!(error("{}"), @"chat.jsonl:1: the record has no keys, expected the keys of a known format: messages (messages), sharegpt (conversations), alpaca (instruction, output), prompt-completion (prompt, completion) or squad (context, question, answers)");
}

#[test]
fn squad_questions_need_an_answer() {
    let squad = |answers: &str| error(format!(r#"{{"context": "C", "question": "Q", "answers": {answers}}}"#));
    assert_snapshot!(
        squad(r#"{"text": []}, "is_impossible": true"#),
        @r#"chat.jsonl:1: "answers" is empty (the question is marked is_impossible), expected at least one answer: write the text that the model shall give when the context does not answer, or remove the record"#
    );
    assert_snapshot!(
        squad("[]"),
        @r#"chat.jsonl:1: "answers" is empty, expected at least one answer: write the text that the model shall give when the context does not answer, or remove the record"#
    );
    assert_snapshot!(
        squad("[7]"),
        @r#"chat.jsonl:1: "answers" is a list, expected a list of answers with a text each, or an object with the list "text""#
    );
}

#[test]
fn broken_text_names_line_and_column() {
    assert_snapshot!(
        error(format!("{CHAT}\n\n{{\"messages\": [}}")),
        @"chat.jsonl:3: not valid JSON at column 15: expected value"
    );
    assert_snapshot!(
        error("{\n  \"messages\": []\n}"),
        @"chat.jsonl:1: not valid JSON at column 1: EOF while parsing an object, a record must stand on one line (a .json file may spread it over several)"
    );
    assert_snapshot!(
        error([CHAT.as_bytes(), b"\n{\"messages\": \"caf\xE9\"}"].concat()),
        @"chat.jsonl:2: byte 18 of the line is not valid UTF-8, save the file as UTF-8"
    );
    let document = |content: &[u8]| read("a.json", content, |_| {}).unwrap_err().to_string();
    assert_snapshot!(document(format!("[{CHAT}\n {CHAT}]").as_bytes()), @"a.json:2: not valid JSON at column 2: expected `,` or `]`");
    assert_snapshot!(document(format!("[{CHAT},\n").as_bytes()), @"a.json:2: not valid JSON at column 1: the list is not closed, expected a value");
    assert_snapshot!(document(format!("[{CHAT}]\n7").as_bytes()), @"a.json:2: not valid JSON at column 1: text after the end of the list");
    assert_snapshot!(document(format!("[{CHAT},\n {{\"a\" 7}}]").as_bytes()), @"a.json:2: not valid JSON at column 7: expected `:`");
    assert_snapshot!(document(b"[\n\"caf\xE9\"]"), @"a.json:2: byte 5 of the line is not valid UTF-8, save the file as UTF-8");
    assert_snapshot!(document(format!("[{CHAT}, 7]").as_bytes()), @"a.json:1: the record is the number 7, expected an object (record 2 of the file)");
    // Nesting deeper than the parser allows is an error, not a full stack.
    assert_snapshot!(document("[".repeat(1 << 20).as_bytes()), @"a.json:1: not valid JSON at column 129: recursion limit exceeded");
}

#[test]
fn empty_missing_and_unknown_files() {
    assert_snapshot!(error(""), @"chat.jsonl: has no record, expected at least one");
    assert_snapshot!(error("\n \r\n"), @"chat.jsonl: has no record, expected at least one");
    assert_snapshot!(read("a.json", " [ ] ", |_| {}).unwrap_err().to_string(), @"a.json: has no record, expected at least one");
    assert_snapshot!(
        read("a.jsonl.gz", "x", |_| {}).unwrap_err().to_string(),
        @r#"a.jsonl.gz: cannot tell how to read a file with the ending "gz", expected .jsonl, .json or .parquet (decompress it first if it is compressed)"#
    );
    let missing = load(&SourceConfig::from_path("none.jsonl"), Path::new("folder")).unwrap_err();
    assert_snapshot!(missing.to_string(), @"none.jsonl: cannot be read");
    assert!(std::error::Error::source(&missing).unwrap().to_string().starts_with("No such file"));
}

#[test]
fn a_prompt_must_fit_the_format_that_was_found() {
    let wrong = read("a.jsonl", CHAT, |source| source.prompt = Some("{question}".to_owned())).unwrap_err();
    assert_snapshot!(wrong.to_string(), @"a.jsonl: the prompt uses the placeholder {question}, but its records have the format messages, which fills no prompt");
    let alpaca = r#"{"instruction": "a", "output": "b"}"#;
    let wrong = read("a.jsonl", alpaca, |source| source.prompt = Some("{question}".to_owned())).unwrap_err();
    assert_snapshot!(wrong.to_string(), @"a.jsonl: the prompt uses the placeholder {question}, but its records have the format alpaca, which fills {instruction} and {input}");
}

#[test]
fn a_default_system_message_is_put_before_conversations_without_one() {
    let mut conversations = auto(format!(
        "{CHAT}\n{}",
        CHAT.replace(r#"{"role": "user""#, r#"{"role": "system", "content": "own"}, {"role": "user""#)
    ))
    .unwrap()
    .conversations;
    for conversation in &mut conversations {
        conversation.set_default_system("default");
    }
    let first = |i: usize| (conversations[i].messages[0].role, conversations[i].messages[0].content.as_str());
    assert_eq!(first(0), (Role::System, "default"));
    assert_eq!(first(1), (Role::System, "own"));
    assert_eq!(conversations[1].messages.len(), 3);
}
