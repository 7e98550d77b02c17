//! Against transformers' ids and assistant masks; `scripts/make_fixtures.py` and
//! `scripts/make_token_fixtures.py` wrote the expectations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::{Lineage, Message, TemplateError};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn conversation(line: usize, messages: Vec<Message>) -> Conversation {
    let origin = Origin { path: Path::new("chat.jsonl").into(), line };
    Conversation { messages, references: Vec::new(), origin, lineage: Lineage::default(), labels: BTreeMap::new() }
}

fn turns(turns: &[(Role, &str)]) -> Conversation {
    conversation(7, turns.iter().map(|(role, content)| Message { role: *role, content: (*content).into() }).collect())
}

fn tiny() -> ChatTokenizer {
    ChatTokenizer::from_folder(&fixture("tiny-llama"), None).unwrap()
}

/// The tiny tokenizer with a template of its own.
fn with_template(source: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.jinja");
    std::fs::write(&path, source).unwrap();
    ChatTokenizer::from_folder(&fixture("tiny-llama"), Some(&path)).unwrap()
}

#[derive(Deserialize)]
struct Row {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Expected {
    name: String,
    input_ids: Vec<u32>,
    assistant_mask: Vec<u8>,
    prompt_ids: Vec<u32>,
}

#[test]
fn ids_masks_and_prompts_equal_transformers_on_the_tiny_model() {
    let tokenizer = tiny();
    let lines = std::fs::read_to_string(fixture("tokens/conversations.jsonl")).unwrap();
    let expected: Vec<Expected> = json("tokens/expected.json");
    assert_eq!(lines.lines().count(), expected.len());
    for (line, expected) in lines.lines().zip(expected) {
        let Row { messages } = serde_json::from_str(line).unwrap();
        let prompt = match messages.split_last() {
            Some((last, before)) if last.role == Role::Assistant => before,
            _ => &messages,
        };
        assert_eq!(tokenizer.render_prompt(prompt).unwrap(), expected.prompt_ids, "{}", expected.name);
        let outcome = tokenize(&tokenizer, &conversation(1, messages), 4096, Overlong::Error).unwrap();
        let Outcome::Kept { example, truncated: false, unsupervised_turns: 0 } = outcome else {
            panic!("{}: {outcome:?}", expected.name);
        };
        assert_eq!(example.input_ids, expected.input_ids, "{}", expected.name);
        let mask: Vec<u8> = example.loss_mask.iter().map(|learned| u8::from(*learned)).collect();
        assert_eq!(mask, expected.assistant_mask, "{}", expected.name);
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Encoded { text: String, prompt: String, ids: Vec<u32>, mask: String },
    Refused { error: String },
}

#[test]
fn each_shape_of_template_gives_transformers_ids_and_masks_with_and_without_blocks() {
    let rows: Vec<Row> = json("templates/conversations.json");
    let shapes: BTreeMap<String, Vec<Shape>> = json("templates/expected.json");
    assert_eq!(shapes.len(), 6);
    let mut learned = 0;
    for (shape, expected) in shapes {
        let source = std::fs::read_to_string(fixture(&format!("templates/{shape}.jinja"))).unwrap();
        let plain = source.replace("{% generation %}", "").replace("{% endgeneration %}", "");
        assert_ne!(plain, source);
        assert_eq!(expected.len(), rows.len());
        let folder = tempfile::tempdir().unwrap();
        for (kind, source) in [("blocks", source), ("plain", plain)] {
            let path = folder.path().join(kind);
            std::fs::write(&path, source).unwrap();
            let tokenizer = ChatTokenizer::from_folder(&fixture("templates"), Some(&path)).unwrap();
            for (index, (row, expected)) in rows.iter().zip(&expected).enumerate() {
                let place = format!("{shape}, {kind}, conversation {index}");
                let outcome = tokenize(&tokenizer, &conversation(index, row.messages.clone()), 4096, Overlong::Error);
                let template = tokenizer.template().unwrap();
                match (expected, outcome) {
                    (
                        Shape::Refused { error },
                        Err(DataError::Template(TemplateError::Raised { message, origin, .. })),
                    ) => {
                        assert_eq!(&message, error, "{place}");
                        assert_eq!(origin.unwrap().line, index);
                    }
                    (Shape::Encoded { text, prompt, ids, mask }, Ok(Outcome::Kept { example, .. })) => {
                        assert_eq!(&template.render(&row.messages, false).unwrap(), text, "{place}");
                        assert_eq!(&template.render(&row.messages, true).unwrap(), prompt, "{place}");
                        assert_eq!(&example.input_ids, ids, "{place}");
                        let got: String = example.loss_mask.iter().map(|l| if *l { '1' } else { '0' }).collect();
                        assert_eq!(&got, mask, "{place}: {}", tokenizer.marked_text(&example).unwrap());
                        learned += 1;
                    }
                    (Shape::Encoded { mask, .. }, Err(DataError::Example(ExampleError::NothingSupervised { .. }))) => {
                        assert!(!mask.contains('1'), "{place}");
                    }
                    (_, outcome) => panic!("{place}: {outcome:?}"),
                }
            }
        }
    }
    assert!(learned > 150, "{learned}");
}

#[test]
fn what_is_learned_can_be_seen() {
    let tokenizer = tiny();
    let two = turns(&[
        (Role::System, "Sois bref."),
        (Role::User, "Où ?"),
        (Role::Assistant, "À Besançon 🌹"),
        (Role::User, "Et quand ?"),
        (Role::Assistant, "En 1802."),
    ]);
    let Ok(Outcome::Kept { example, .. }) = tokenize(&tokenizer, &two, 4096, Overlong::Drop) else { panic!() };
    insta::assert_snapshot!(tokenizer.marked_text(&example).unwrap(), @r"
    <|im_start|>system
    Sois bref.<|im_end|>
    <|im_start|>user
    Où ?<|im_end|>
    <|im_start|>assistant
    «À Besançon 🌹<|im_end|>»
    <|im_start|>user
    Et quand ?<|im_end|>
    <|im_start|>assistant
    «En 1802.<|im_end|>»
    ");
    let pieces = tokenizer.pieces(&example).unwrap();
    assert_eq!(pieces.len(), example.input_ids.len());
    assert_eq!(pieces.iter().filter(|(_, learned)| *learned).count(), example.loss_mask.iter().filter(|l| **l).count());
}

#[test]
fn a_conversation_that_teaches_nothing_is_refused() {
    let error = tokenize(&tiny(), &turns(&[(Role::User, "Hello?")]), 99, Overlong::Drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "chat.jsonl:7: nothing is supervised: the conversation has no assistant message; \
         add the answer that is to be learned"
    );
    let silent = with_template(
        "{% for m in messages %}{{ m.content }}<|im_end|>{% generation %}{% endgeneration %}{% endfor %}",
    );
    let both = turns(&[(Role::User, "Hello?"), (Role::Assistant, "Yes.")]);
    let error = tokenize(&silent, &both, 99, Overlong::Drop).unwrap_err().to_string();
    assert!(error.contains("the generation blocks print nothing; set data.chat_template"), "{error}");
    // A first token is predicted from nothing.
    let only = with_template("{% generation %}<|im_end|>{% endgeneration %}");
    assert!(matches!(
        tokenize(&only, &both, 99, Overlong::Drop),
        Err(DataError::Example(ExampleError::NothingSupervised { .. }))
    ));
}

#[test]
fn a_turn_whose_terminator_is_not_learned_is_refused() {
    let open = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n{% endfor %}",
    );
    let both = turns(&[(Role::User, "Hello?"), (Role::Assistant, "Yes. ")]);
    let error = tokenize(&open, &both, 99, Overlong::Drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "chat.jsonl:7: the turn terminator is not supervised: supervised span 1 ends in \"?\", expected one of \
         <|endoftext|>, <|im_end|>; a model trained on this never stops; let the chat template print the terminator \
         inside the assistant's turn, or name it as eos_token in tokenizer_config.json"
    );
    let unknown = with_template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
    );
    assert!(matches!(
        tokenize(&unknown, &both, 99, Overlong::Drop),
        Err(DataError::Example(ExampleError::TerminatorNotSupervised { span: 1, found, .. })) if found == "."
    ));
    // White space after the terminator, and thoughts in a block of their own, are in order.
    let thoughts = with_template(
        "{% for m in messages %}{{ m.role }}{% if m.role == 'assistant' %}{% generation %}hm{% endgeneration %};\
         {% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}{% endif %}{% endfor %}",
    );
    assert!(tokenize(&thoughts, &both, 99, Overlong::Drop).is_ok());
}

#[test]
fn over_long_conversations_are_dropped_cut_or_refused() {
    let tokenizer = tiny();
    let both = turns(&[(Role::User, "a b c"), (Role::Assistant, "d e f g h i j")]);
    let Ok(Outcome::Kept { example: whole, truncated: false, .. }) = tokenize(&tokenizer, &both, 4096, Overlong::Drop)
    else {
        panic!()
    };
    let length = whole.input_ids.len();
    assert!(matches!(tokenize(&tokenizer, &both, length, Overlong::Drop), Ok(Outcome::Kept { truncated: false, .. })));
    assert_eq!(tokenize(&tokenizer, &both, length - 1, Overlong::Drop).unwrap(), Outcome::Dropped { tokens: length });
    assert_eq!(
        tokenize(&tokenizer, &both, length - 1, Overlong::Error).unwrap_err().to_string(),
        format!(
            "chat.jsonl:7: the conversation has {length} tokens, more than data.max_length {}; raise it, or set \
             data.overlong to drop or truncate",
            length - 1
        )
    );
    let Ok(Outcome::Kept { example, truncated: true, .. }) =
        tokenize(&tokenizer, &both, length - 4, Overlong::Truncate)
    else {
        panic!()
    };
    assert_eq!(example.input_ids, whole.input_ids[..length - 4]);
    assert_eq!(example.loss_mask, whole.loss_mask[..length - 4]);
    let error = tokenize(&tokenizer, &both, 8, Overlong::Truncate).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "chat.jsonl:7: nothing is supervised: its first 8 of {length} tokens are all prompt, and data.overlong \
             cuts off the rest; raise data.max_length, or set data.overlong to drop"
        )
    );
}

#[test]
fn a_data_set_keeps_its_order_its_counts_and_its_first_error() {
    let tokenizer = tiny();
    let said = |line: usize, answer: &str| {
        let messages = [(Role::User, "?"), (Role::Assistant, answer)];
        Conversation { origin: conversation(line, vec![]).origin, ..turns(&messages) }
    };
    let mut all: Vec<Conversation> = (0..200).map(|line| said(line, &"x".repeat(1 + line % 50))).collect();
    let done = tokenize_all(&tokenizer, &all, 60, Overlong::Drop).unwrap();
    assert!(done.examples.iter().map(|e| e.origin.line).is_sorted());
    assert!(done.dropped_overlong > 0);
    assert_eq!(done.examples.len() + done.dropped_overlong, 200);
    let done = tokenize_all(&tokenizer, &all, 60, Overlong::Truncate).unwrap();
    assert_eq!((done.examples.len(), done.dropped_overlong), (200, 0));
    assert!(done.truncated > 0 && done.examples.iter().all(|e| e.input_ids.len() <= 60));

    let error = tokenize_all(&tokenizer, &all, 3, Overlong::Drop).unwrap_err().to_string();
    assert!(
        error.starts_with("chat.jsonl:0: all 200 conversations from here on are longer than data.max_length 3"),
        "{error}"
    );
    all[150].messages.pop();
    all[90].messages.pop();
    let error = tokenize_all(&tokenizer, &all, 4096, Overlong::Drop).unwrap_err().to_string();
    assert!(error.starts_with("chat.jsonl:90: nothing is supervised"), "{error}");
    assert_eq!(tokenize_all(&tokenizer, &[], 3, Overlong::Drop).unwrap(), Tokenized::default());
}
