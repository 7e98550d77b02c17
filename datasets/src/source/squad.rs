//! Questions about a context with their accepted answers: the form of SQuAD, flat or nested.
//!
//! Source: Rajpurkar et al. 2016, <https://arxiv.org/abs/1606.05250>, and the flat form in which the
//! data set stands on the Hugging Face hub.

use serde_json::{Map, Value};

use super::prompt::render;
use super::record::Record;
use crate::conversation::{Message, Role};
use crate::error::{DataError, RecordError};

/// The default user text of a SQuAD record.
const SQUAD_PROMPT: &str = "{context}\n\n{question}";

/// The user's question about its context and the first answer.
pub(super) fn messages(
    record: &Record<'_>,
    prompt: Option<&str>,
    answers: &[String],
) -> Result<Vec<Message>, DataError> {
    let (context, question) = (record.text("context")?, record.text("question")?);
    let value = |name: &str| if name == "context" { context } else { question };
    let asked = render(prompt.unwrap_or(SQUAD_PROMPT), value);
    Ok(vec![
        Message { role: Role::User, content: asked },
        Message { role: Role::Assistant, content: answers[0].clone() },
    ])
}

/// The accepted answers of a record, at least one.
pub(super) fn answers(record: &Record<'_>) -> Result<Vec<String>, DataError> {
    const EXPECTED: &str = "a list of answers with a text each, or an object with the list \"text\"";
    let value = record.required("answers")?;
    let wrong = || record.wrong_type("\"answers\"", value, EXPECTED);
    let list = match value {
        Value::Array(list) => list,
        Value::Object(columns) => columns.get("text").and_then(Value::as_array).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    let text = |answer: &Value| answer.get("text").unwrap_or(answer).as_str().map(str::to_owned);
    let answers: Vec<String> = list.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?;
    if answers.is_empty() {
        let impossible = record.get("is_impossible").and_then(Value::as_bool).unwrap_or(false);
        return Err(DataError::Record(RecordError::NoAnswer { origin: record.origin.clone(), impossible }));
    }
    Ok(answers)
}

/// The flat records of a nested SQuAD file (`data`, `paragraphs`, `qas`), or the value itself when it
/// is anything else. A part without the expected lists is kept as it is, so that its error is told later.
pub(super) fn flatten(value: Value) -> Vec<Value> {
    let Some(articles) = value.get("data").and_then(Value::as_array) else {
        return vec![value];
    };
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned();
    let mut records = Vec::new();
    for article in articles {
        let Some(paragraphs) = list(article, "paragraphs") else {
            records.push(article.clone());
            continue;
        };
        for paragraph in paragraphs {
            let Some(questions) = list(&paragraph, "qas") else {
                records.push(paragraph);
                continue;
            };
            let context = paragraph.get("context").cloned().unwrap_or_default();
            for question in questions {
                let mut record: Map<String, Value> = question.as_object().cloned().unwrap_or_default();
                record.insert("context".to_owned(), context.clone());
                records.push(Value::Object(record));
            }
        }
    }
    records
}
