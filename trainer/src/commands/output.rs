//! What `--json` prints.

use std::io::{BufWriter, ErrorKind, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// Prints a value as JSON. Not through `anstream`, which takes what looks like a terminal's escape out of texts too.
/// A reader that has gone, such as `head`, is no error.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let mut out = BufWriter::new(std::io::stdout().lock());
    match out.write_all(&text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("could not print the result"),
        _ => Ok(()),
    }
}
