//! Token ids and loss masks equal transformers' for the model's own template.

use std::collections::BTreeMap;

use datasets::{Conversation, Lineage, Origin, Overlong, tokenize_all};
use serde_json::Value;

use crate::support::{base, fixture, ids, json, mask};

#[test]
fn ids_and_masks_of_twenty_conversations_equal_transformers() {
    let tokenizer = base("tiny-llama").tokenizer;
    let path = fixture("tokens/conversations.jsonl");
    let text = std::fs::read_to_string(&path).expect("the fixture is committed");
    // Not through the source, which refuses the empty answer that one of them has on purpose.
    let conversations: Vec<Conversation> = text
        .lines()
        .enumerate()
        .map(|(index, line)| Conversation {
            messages: serde_json::from_value(serde_json::from_str::<Value>(line).expect("JSON")["messages"].clone())
                .expect("messages"),
            references: Vec::new(),
            origin: Origin { path: path.as_path().into(), line: index + 1 },
            lineage: Lineage::default(),
            labels: BTreeMap::new(),
        })
        .collect();
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
