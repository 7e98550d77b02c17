//! `greffon schema`.

use anstream::println;

use crate::cli::{SchemaArgs, SchemaOf};
use crate::recipe;

pub(super) fn schema(args: &SchemaArgs) -> anyhow::Result<()> {
    let schema = match args.of {
        SchemaOf::Run => recipe::schema(),
        SchemaOf::Synth => recipe::synth_schema(),
    };
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
