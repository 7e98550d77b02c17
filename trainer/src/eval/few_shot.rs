//! Examples in the prompt: what a model can do that is shown some questions with their answers, and not trained.
//!
//! Source: Brown et al. 2020, <https://arxiv.org/abs/2005.14165>; as turns of a conversation, as lm-evaluation-harness
//! does with `fewshot_as_multiturn`.

use datasets::{Conversation, Message, Role, permutation};

/// So many conversations drawn by a seed, one after the other without their system messages.
pub fn draw(from: &[Conversation], count: usize, seed: u64) -> Vec<Message> {
    let drawn = permutation(from.len(), seed, 0).into_iter().take(count);
    let messages = drawn.flat_map(|index| &from[index].messages);
    messages.filter(|message| message.role != Role::System).cloned().collect()
}

/// The conversations with `shown` before the first message that is not the system's.
pub fn with_examples(conversations: &[Conversation], shown: &[Message]) -> Vec<Conversation> {
    let with = |conversation: &Conversation| {
        let mut conversation = conversation.clone();
        let is_spoken = |message: &Message| message.role != Role::System;
        let first = conversation.messages.iter().position(is_spoken).unwrap_or(conversation.messages.len());
        conversation.messages.splice(first..first, shown.iter().cloned());
        conversation
    };
    conversations.iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use datasets::{Lineage, Origin};

    use super::*;

    fn conversation(system: &str, question: &str, answer: &str) -> Conversation {
        let said = [(Role::System, system), (Role::User, question), (Role::Assistant, answer)];
        let message = |(role, content): (Role, &str)| Message { role, content: content.to_owned() };
        Conversation {
            messages: said.map(message).into(),
            references: Vec::new(),
            origin: Origin { path: Path::new("made.jsonl").into(), line: 1 },
            lineage: Lineage::default(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn examples_stand_between_the_system_message_and_the_question() {
        let from: Vec<Conversation> = (0..5).map(|i| conversation("s", &format!("q{i}"), &format!("a{i}"))).collect();
        let shown = draw(&from, 2, 7);
        assert_eq!(shown, draw(&from, 2, 7));
        assert_eq!(shown.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::User, Role::Assistant].repeat(2));
        assert_eq!(shown[0].content[1..], shown[1].content[1..], "an answer follows its question");
        let asked = with_examples(&[conversation("system", "question", "answer")], &shown);
        let contents: Vec<&str> = asked[0].messages.iter().map(|m| m.content.as_str()).collect();
        assert_eq!((contents[0], &contents[5..]), ("system", &["question", "answer"][..]));
        assert_eq!(draw(&from, 9, 7).len(), 10, "there are no more");
    }
}
