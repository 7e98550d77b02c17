//! `greffon schema`.

use anstream::println;

use crate::recipe;

pub(super) fn schema() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&recipe::schema())?);
    Ok(())
}
