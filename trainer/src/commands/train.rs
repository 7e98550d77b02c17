//! `greffon train`.

use std::process::ExitCode;

use anstream::println;

use super::forgetting::show;
use super::subject::run_recipe;
use super::verify::REFUSED;
use super::{output, training};
use crate::cli::TrainArgs;
use crate::cluster::{Collective, from_first};
use crate::energy::EnergyRecord;
use crate::finetune::Start;
use crate::recipe::Recipe;
use crate::track::RunFolder;
use crate::train::run::EarlyStop;

pub(super) fn train(args: &TrainArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let (loaded, start) = match (&args.resume, &args.recipe) {
        (Some(run), _) => {
            let folder = RunFolder::open(run.clone())?;
            let mut loaded = run_recipe(&folder, &[])?;
            loaded.recipe.output.clone_from(run);
            (loaded, Start::Resume)
        }
        (None, Some(recipe)) => {
            let loaded = Recipe::load(recipe, &args.set).map_err(crate::TrainError::from)?;
            // Files that are not there are told with their place in the recipe, before anything is loaded.
            loaded.check().map_err(crate::TrainError::from)?;
            let start = match (args.or_resume, args.force) {
                // The others would find the folder that the first one makes.
                (true, _) => from_first(collective, || training::or_resume(&loaded))?,
                (_, true) => Start::Force,
                _ => Start::New,
            };
            (loaded, start)
        }
        (None, None) => anyhow::bail!("name a recipe, or a run to resume"),
    };

    let outcome = training::run(&loaded, start, args.tui, collective)?;
    let passed = outcome.forgetting.as_ref().is_none_or(|forgetting| forgetting.verdict.passed);
    let code = if passed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) };
    if !collective.is_first() {
        return Ok(code);
    }
    let progress = &outcome.progress;
    if args.json {
        let json = serde_json::json!({
            "run": outcome.folder.path(),
            "adapter": outcome.folder.adapter(),
            "steps": progress.step,
            "stopped_early": outcome.stopped_early.is_some(),
            "forgetting": outcome.forgetting,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "ranks": collective.ranks(),
            "waits": outcome.waits,
            "energy": outcome.energy,
            "validation_loss": progress.best_loss,
            "best_step": progress.best_step,
        });
        output::json(&json)?;
        return Ok(code);
    }
    let early = match outcome.stopped_early {
        Some(EarlyStop::Validation) => ", stopped early",
        Some(EarlyStop::Energy) => ", stopped before it took more than energy.max_kwh",
        Some(EarlyStop::Forgetting) => ", stopped by the forgetting gate",
        None => "",
    };
    println!(
        "trained {} steps{early}: {} tokens in {:.0} s, {:.0} tokens/s",
        progress.step,
        progress.tokens,
        progress.seconds,
        progress.tokens as f64 / progress.seconds
    );
    if let Some(waits) = outcome.waits {
        println!(
            "{} processes: waiting for the slowest {:.1} % of the time, adding up gradients {:.1} %",
            collective.ranks(),
            100.0 * waits.idle,
            100.0 * waits.communication
        );
    }
    println!("{}", energy(&outcome.energy));
    if let Some(loss) = progress.best_loss {
        println!("lowest validation loss {loss:.4} at step {}", progress.best_step);
    }
    let run = outcome.folder.path().display();
    println!("adapter: {}", outcome.folder.adapter().display());
    if let Some(forgetting) = &outcome.forgetting {
        show::print(forgetting);
    }
    if passed {
        println!("next: greffon eval {run}");
    } else {
        println!("next: greffon forgetting repair {run}; an export needs --accept-forgetting \"REASON\"");
    }
    Ok(code)
}

/// What a run took, in a line.
fn energy(record: &EnergyRecord) -> String {
    let emitted = match (record.grams_co2e, &record.grid) {
        (Some(grams), Some(grid)) => format!(", {grams:.2} g CO2e ({})", grid.source),
        _ => String::new(),
    };
    let per_tokens = record
        .kwh_per_million_tokens
        .map_or_else(String::new, |kwh| format!(", {:.2} Wh for a million tokens", 1e3 * kwh));
    let (watt_hours, equivalents, method) = (1e3 * record.kwh, record.equivalents(), &record.method.cpu);
    format!("energy: {watt_hours:.3} Wh{emitted}{per_tokens}; {equivalents}; the processor's {method}")
}
