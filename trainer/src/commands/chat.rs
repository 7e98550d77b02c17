//! `greffon chat`.

use anstream::println;
use datasets::{Message, Role};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::generate::{answer, sampling, system};
use super::subject::Loading;
use crate::cli::ChatArgs;

pub(super) fn chat(args: &ChatArgs) -> anyhow::Result<()> {
    let sampling = sampling(&args.sampling)?;
    let model = Loading::from_args(&args.model)?;
    let mut messages = system(&args.sampling);
    let start = messages.len();
    println!("{} - /new starts over, Ctrl-D ends", model.base.name);
    let mut editor = DefaultEditor::new()?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match line.trim() {
            "" => continue,
            "/new" => {
                messages.truncate(start);
                continue;
            }
            question => {
                editor.add_history_entry(question)?;
                messages.push(Message { role: Role::User, content: question.to_owned() });
            }
        }
        let content = answer(&model, &messages, sampling)?;
        messages.push(Message { role: Role::Assistant, content });
    }
}
