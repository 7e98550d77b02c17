//! Token ids and loss masks equal transformers' for the model's own template.

use datasets::{Overlong, tokenize_all};

use crate::support::{base, fixture, ids, json, mask};

#[test]
fn ids_and_masks_of_twenty_conversations_equal_transformers() {
    let tokenizer = base("tiny-llama").tokenizer;
    let source = datasets::SourceConfig::from_path(fixture("tokens/conversations.jsonl"));
    let conversations =
        datasets::load_conversations(&[source], None, &datasets::Hub::from_env()).expect("the fixture is readable");
    let expected = json("tokens/expected.json");
    let expected = expected.as_array().expect("a list");
    assert_eq!(conversations.len(), expected.len());
    for (conversation, expected) in conversations.iter().zip(expected) {
        let name = expected["name"].as_str().expect("a name");
        let one = std::slice::from_ref(conversation);
        let got = tokenize_all(&tokenizer, one, 4096, Overlong::Error).expect("it tokenises").examples;
        assert_eq!(got[0].input_ids, ids(&expected["input_ids"]), "{name}");
        assert_eq!(got[0].loss_mask, mask(&expected["assistant_mask"]), "{name}");
    }
}
