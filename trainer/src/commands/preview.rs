//! `greffon data preview`: the data as the model will see it.

use anstream::{AutoStream, ColorChoice, print, println};
use comfy_table::{CellAlignment, Table, presets};
use datasets::{Cache, ExampleRef, LengthStats};
use owo_colors::OwoColorize as _;

use super::progress;
use crate::cli::PreviewArgs;
use crate::error::TrainError;
use crate::model::BaseModel;
use crate::recipe::Recipe;

pub(super) fn preview(args: &PreviewArgs) -> anyhow::Result<()> {
    let loaded = Recipe::load(&args.recipe.recipe, &args.recipe.set).map_err(TrainError::from)?;
    let recipe = &loaded.recipe;
    let hub = progress::hub();
    let tokenizer = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), &hub)?.tokenizer;
    let mut bar = progress::Tokenising::default();
    let data = datasets::prepare(&recipe.data, &tokenizer, recipe.train.seed, &hub, &Cache::from_env(), &mut |done| {
        bar.show(&done);
    })
    .map_err(TrainError::from)?;
    bar.clear();

    let coloured = AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
    for example in data.train.iter().take(args.count) {
        println!("{}", example.origin.bold());
        if !coloured {
            println!("{}\n", tokenizer.marked_text(&example).map_err(TrainError::from)?);
            continue;
        }
        for (text, supervised) in tokenizer.pieces(&example).map_err(TrainError::from)? {
            if supervised {
                print!("{}", text.green());
            } else {
                print!("{}", text.dimmed());
            }
        }
        println!("\n");
    }

    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "tokens",
        "examples",
        "mean",
        "median",
        "90 %",
        "99 %",
        "longest",
        "supervised",
    ]);
    for (name, examples) in [("train", &data.train), ("validation", &data.validation)] {
        let stats = LengthStats::new(examples.iter().map(lengths));
        table.add_row([
            name.to_owned(),
            stats.count.to_string(),
            format!("{:.0}", stats.mean),
            stats.p50.to_string(),
            stats.p90.to_string(),
            stats.p99.to_string(),
            stats.max.to_string(),
            format!("{} of {}", stats.supervised, stats.total),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let legend = if coloured { "green" } else { "between « and »" };
    println!("{table}\nsupervised tokens are {legend}");
    for note in &data.notes {
        println!("{note}");
    }
    Ok(())
}

/// The tokens of an example, and how many of them are supervised.
#[expect(clippy::needless_pass_by_value, reason = "it is what the iterator gives")]
fn lengths(example: ExampleRef<'_>) -> (usize, usize) {
    (example.input_ids.len(), example.supervised())
}
