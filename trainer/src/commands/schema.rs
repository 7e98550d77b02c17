//! `greffon schema`.

use super::output;
use crate::cli::{SchemaArgs, SchemaOf};
use crate::recipe;

pub(super) fn schema(args: &SchemaArgs) -> anyhow::Result<()> {
    let schema = match args.of {
        SchemaOf::Run => recipe::schema(),
        SchemaOf::Synth => recipe::synth_schema(),
    };
    output::json(&schema)
}
