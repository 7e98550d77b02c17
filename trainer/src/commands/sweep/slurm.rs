//! The job that makes a sweep's trials under Slurm.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::super::submit::job;
use super::super::submit::slurm::{Time, begin, low_carbon, program, slurm_of};
use crate::cli::SweepArgs;
use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::submit::Job;
use crate::submit::slurm::{NUMBER, Slurm, Tasks};
use crate::sweep::array::Jobs;
use crate::sweep::{self, Trial};

/// What all arrays of a sweep have in common.
pub(super) struct Template<'a> {
    args: &'a SweepArgs,
    recipe: &'a Path,
    folder: &'a Path,
    program: PathBuf,
    slurm: Slurm,
    /// Only the first array waits for its time to begin: what it was chosen by is over for the next.
    has_begun: Cell<bool>,
}

impl<'a> Template<'a> {
    pub(super) fn new(args: &'a SweepArgs, recipe: &'a Path, folder: &'a Path) -> anyhow::Result<Self> {
        let slurm = slurm_of(&args.of_slurm, PathBuf::new())?;
        let program = program(&args.resources)?;
        Ok(Self { args, recipe, folder, program, slurm, has_begun: Cell::new(false) })
    }
}

impl Jobs for Template<'_> {
    fn name(&self, max_steps: Option<u64>) -> String {
        let steps = max_steps.map_or_else(String::new, |steps| format!("-{steps}-steps"));
        Job::name_of(self.folder) + &steps
    }

    fn job(&self, trials: &[Trial]) -> Result<(Job, Slurm), TrainError> {
        let Self { args, recipe, folder, .. } = self;
        let max_steps = trials.first().and_then(|trial| trial.max_steps);
        let set: Vec<(usize, Vec<String>)> = trials.iter().map(|trial| (trial.number, trial.set(&args.over))).collect();
        let mut job = job(&args.resources, self.name(max_steps), self.program.clone(), recipe.to_path_buf(), &args.set);
        let time = if args.resources.time.is_some() {
            Time::of(&args.resources, [])?
        } else {
            let load = |(_, own): &(usize, Vec<String>)| Recipe::load(recipe, &[args.set.as_slice(), own].concat());
            let loaded = set.iter().map(load).collect::<Result<Vec<_>, _>>()?;
            Time::of(&args.resources, loaded.iter().map(|loaded| &loaded.recipe))?
        };
        job.time = Some(time.limit);
        let mut slurm = self.slurm.clone();
        slurm.log = sweep::folder(folder, NUMBER, max_steps).with_extension("log");
        if !self.has_begun.replace(true) {
            let turns = trials.len().div_ceil(args.jobs.map_or(trials.len(), usize::from)) as u64;
            let start = low_carbon(&args.of_slurm, time.planned_seconds.saturating_mul(turns))?;
            slurm.begin = begin(&args.of_slurm, start.as_ref());
        }
        slurm.tasks = Some(Tasks { set, at_a_time: args.jobs });
        Ok((job, slurm))
    }
}
