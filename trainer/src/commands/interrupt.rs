//! Ctrl-C: the first ends the work with all that was done kept, the second ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::eprintln;
use anyhow::Context as _;

/// A flag that Ctrl-C sets; `doing` is what is then still finished, for the message.
pub(super) fn on_ctrl_c(doing: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::abort();
        }
        eprintln!("\nstopping after {doing}; press Ctrl-C again to give up at once");
    })
    .context("setting the Ctrl-C handler")?;
    Ok(stop)
}
