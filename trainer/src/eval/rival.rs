//! Answers of something else, such as rules or another program, to be compared with an adapter's.
//!
//! A file of JSON lines: `{"answer": "…"}` for each question in their order, or `{"id": "…", "answer": "…"}` in any order
//! for questions that have ids.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use datasets::Conversation;
use serde::Deserialize;

use crate::error::TrainError;

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    answer: String,
}

/// Reads an answer for each conversation.
///
/// # Errors
/// [`TrainError::Read`]; [`TrainError::Run`] with the line or the id where a line is not of this form, or a question has no
/// answer or an answer no question.
pub fn read(path: &Path, conversations: &[Conversation]) -> Result<Vec<String>, TrainError> {
    let text = fs::read_to_string(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let wrong = |reason: String| TrainError::Run(format!("{}: {reason}", path.display()));
    let mut in_order = Vec::new();
    let mut by_id = HashMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let Line { id, answer } = serde_json::from_str(line).map_err(|error| {
            wrong(format!(
                "line {number}: {error}; expected {{\"answer\": \"…\"}}, with the question's \"id\" or in order"
            ))
        })?;
        match id {
            None => in_order.push(answer),
            Some(id) => {
                if by_id.insert(id.clone(), answer).is_some() {
                    return Err(wrong(format!("line {number}: a second answer to the question {id:?}; keep one")));
                }
            }
        }
    }
    let (asked, given) = (conversations.len(), in_order.len() + by_id.len());
    if asked != given || !(in_order.is_empty() || by_id.is_empty()) {
        let reason =
            format!("{given} answers, {} of them with an id, to {asked} questions; give one to each", by_id.len());
        return Err(wrong(reason));
    }
    if by_id.is_empty() {
        return Ok(in_order);
    }
    let answer = |conversation: &Conversation| {
        let id = conversation.lineage.id.as_ref();
        let answer = id.and_then(|id| by_id.remove(id));
        answer.ok_or_else(|| {
            let id = id.map_or("no id".to_owned(), |id| format!("the id {id:?}"));
            wrong(format!("there is no answer to the question with {id} at {}", conversation.origin))
        })
    };
    conversations.iter().map(answer).collect()
}
