//! `greffon reproduce`.

use std::path::Path;
use std::process::ExitCode;

use anstream::{eprintln, println};
use serde_json::json;

use super::verify::REFUSED;
use super::{output, progress, training};
use crate::cli::ReproduceArgs;
use crate::cluster::{Collective, from_first};
use crate::error::TrainError;
use crate::finetune::Start;
use crate::model::BaseModel;
use crate::trust::reproduce::{Comparison, Difference, FileVerdict, Original};

pub(super) fn reproduce(args: &ReproduceArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let original = Original::open(&args.manifest)?;
    check_ranks(&original, args, collective.ranks())?;
    let to = args.to.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-again", original.name())));
    from_first(collective, || check_free(&to))?;
    let loaded = original.recipe(&args.files, args.base.as_deref(), &to)?;
    loaded.check().map_err(TrainError::from)?;
    let hub = progress::hub();
    let differences = from_first(collective, || {
        let recipe = &loaded.recipe;
        let base = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), &hub)?;
        original.differences(&loaded, &base)
    })?;
    if collective.is_first() {
        for difference in &differences {
            eprintln!("{}", describe(difference));
        }
    }
    let deciding: Vec<&str> = differences.iter().filter(|d| d.decides).map(|d| d.what.as_str()).collect();
    if !deciding.is_empty() && !args.anyway {
        return Err(TrainError::Refused(format!(
            "the bytes cannot come out the same, since these are not as they were: {}; train nevertheless with --anyway",
            deciding.join(", ")
        ))
        .into());
    }

    let outcome = training::run(&loaded, Start::New, false, collective)?;
    let mut comparison = None;
    let same = from_first(collective, || Ok(comparison.insert(original.compare(&outcome.folder)?).same))?;
    if let Some(comparison) = comparison {
        if args.json {
            output::json(&json!({
                "manifest": args.manifest,
                "run": outcome.folder.path(),
                "differences": differences,
                "same": comparison.same,
                "files": comparison.files,
                "largest": comparison.largest.as_ref().map(|(tensor, by)| json!({ "tensor": tensor, "by": by })),
            }))?;
        } else {
            print(&comparison, outcome.folder.path());
        }
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// Sums of gradients are rounded by how many they are of, so another number of processes gives other bytes.
fn check_ranks(original: &Original, args: &ReproduceArgs, ranks: usize) -> Result<(), TrainError> {
    let Some(then) = original.ranks().filter(|then| *then != ranks) else { return Ok(()) };
    let manifest = args.manifest.display();
    let how = if then == 1 {
        format!("start it without a launcher: greffon reproduce {manifest}")
    } else {
        format!("start it with as many: greffon launch -n {then} reproduce {manifest}")
    };
    Err(TrainError::Refused(format!("{manifest}: the run was made by {then} processes, this are {ranks}; {how}")))
}

fn check_free(to: &Path) -> Result<(), TrainError> {
    if to.read_dir().is_ok_and(|mut entries| entries.next().is_none()) || to.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(TrainError::Run(format!(
        "{} is there already, and a run is made again in a new folder; name one with --to",
        to.display()
    )))
}

fn describe(difference: &Difference) -> String {
    let Difference { what, then, now, decides } = difference;
    let weight = if *decides { "" } else { " (which need not matter)" };
    format!("not as it was{weight}: {what}: {then}, now {now}")
}

fn print(comparison: &Comparison, run: &Path) {
    for file in &comparison.files {
        let verdict = match file.verdict {
            FileVerdict::Same => "the same bytes",
            FileVerdict::SameButTheBasesPath => "the same but for the path of the base",
            FileVerdict::NotCompared => {
                "not compared: it names the base by its path, and the original is not beside the manifest"
            }
            FileVerdict::Other => "not the same",
        };
        println!("{}: {verdict}", file.name);
    }
    match (&comparison.largest, comparison.same) {
        (_, true) => println!("the same bytes; the run is in {}", run.display()),
        (Some((tensor, by)), false) => {
            println!("not the same bytes: {tensor} is off by up to {by:e}; the run is in {}", run.display());
        }
        (None, false) => println!(
            "not the same bytes, and the original weights are not beside the manifest, so that nobody knows by how much; \
             the run is in {}",
            run.display()
        ),
    }
}
