//! `greffon forgetting measure`.

use std::process::ExitCode;

use super::show;
use crate::cli::{MeasureArgs, QuestionArgs};
use crate::cluster::Collective;
use crate::commands::output;
use crate::commands::progress;
use crate::commands::subject::Comparing;
use crate::commands::verify::REFUSED;
use crate::device;
use crate::error::TrainError;
use crate::forgetting::Watch;
use crate::model::adapter;
use crate::recipe::{ForgettingConfig, Recipe};

pub(super) fn measure(args: &MeasureArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let comparing = Comparing::open(&args.subject, args.adapter.as_ref(), &args.questions.set)?;
    let Comparing { run, recipe, adapter } = &comparing;
    let config = asked(recipe, &args.questions)?;
    let hub = progress::hub();
    let base = comparing.base(&hub)?;
    let device = device::open_for(&recipe.device, collective)?;
    let (plain, adapted) = comparing.decoders(&base, &device)?;
    let watch = Watch::open(recipe, &config, &base, plain, &device, collective, &hub)?;
    let mut bar = progress::Questioning::default();
    let found = watch.measure(&adapted, Some(&adapter::digest(adapter)?), &mut |at| {
        if collective.is_first() {
            bar.show(at);
        }
        Ok(())
    })?;
    bar.clear();
    let code = if found.verdict.passed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) };
    if !collective.is_first() {
        return Ok(code);
    }
    let is_as_trained = config == recipe.forgetting && args.questions.set.is_empty();
    if let Some(run) = run.as_ref().filter(|run| run.adapter() == *adapter && is_as_trained) {
        // As the run itself would have measured it.
        found.save(run)?;
    }
    if let Some(file) = &args.report {
        let text = show::markdown(&found);
        adapters::write_atomic(file, args.force, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)?;
    }
    if args.json {
        output::json(&found)?;
    } else {
        show::print(&found);
    }
    Ok(code)
}

/// The recipe's section with the arguments over it.
pub(super) fn asked(recipe: &Recipe, args: &QuestionArgs) -> Result<ForgettingConfig, TrainError> {
    let mut config = recipe.forgetting.clone();
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
