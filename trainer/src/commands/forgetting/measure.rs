//! `greffon forgetting measure`.

use std::process::ExitCode;

use anstream::println;

use super::show;
use crate::cli::{MeasureArgs, QuestionArgs};
use crate::commands::progress;
use crate::commands::subject::{is_run, run_recipe};
use crate::commands::verify::REFUSED;
use crate::device;
use crate::error::TrainError;
use crate::forgetting::Watch;
use crate::model::{BaseModel, adapter};
use crate::recipe::{ForgettingConfig, Loaded, Recipe};
use crate::track::RunFolder;

pub(super) fn measure(args: &MeasureArgs) -> anyhow::Result<ExitCode> {
    let run = if is_run(&args.subject) { Some(RunFolder::open(args.subject.clone())?) } else { None };
    let loaded = match &run {
        Some(run) => run_recipe(run, &args.questions.set)?,
        None => Recipe::load(&args.subject, &args.questions.set).map_err(TrainError::from)?,
    };
    let Some(folder) = args.adapter.clone().or_else(|| Some(run.as_ref()?.adapter())) else {
        let reason = "a recipe alone has no adapter to compare; name one with --adapter, or give the run folder";
        return Err(TrainError::Run(reason.to_owned()).into());
    };
    let (recipe, config) = (&loaded.recipe, asked(&loaded, &args.questions)?);
    let hub = progress::hub();
    let base = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), &hub)?;
    let device = device::open(&recipe.device)?;
    let plain = base.decoder(&device)?.with_kernels(recipe.kernels);
    let mut adapted = plain.clone();
    adapter::load(&mut adapted, &folder, &device)?;
    let watch = Watch::open(recipe, &config, &base, plain, &device, &hub)?;
    let mut bar = progress::Questioning::default();
    let found = watch.measure(&adapted, Some(&adapter::digest(&folder)?), &mut |at| {
        bar.show(at);
        Ok(())
    })?;
    bar.clear();
    if let Some(run) =
        run.filter(|run| run.adapter() == folder && config == loaded.recipe.forgetting && args.questions.set.is_empty())
    {
        // As the run itself would have measured it.
        found.save(&run)?;
    }
    if let Some(file) = &args.report {
        let text = show::markdown(&found);
        adapters::write_atomic(file, args.force, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        show::print(&found);
    }
    Ok(if found.verdict.passed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// The recipe's section with the arguments over it.
pub(super) fn asked(loaded: &Loaded, args: &QuestionArgs) -> Result<ForgettingConfig, TrainError> {
    let mut config = loaded.recipe.forgetting.clone();
    if let Some(suite) = args.suite {
        config.suite = suite.into();
    }
    config.probes.extend(args.probes.iter().cloned());
    if !config.is_measured() {
        let reason = "nothing is asked: the recipe's forgetting.suite is none; name a suite with --suite, or files with \
                      --probes";
        return Err(TrainError::Run(reason.to_owned()));
    }
    Ok(config)
}
