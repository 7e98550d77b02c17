//! The job that makes a sweep's trials under Slurm.

use std::path::{Path, PathBuf};

use anstream::eprintln;

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
    /// The steps of the first rung, which alone waits for its time to begin: the others follow it.
    first_steps: Option<u64>,
}

impl<'a> Template<'a> {
    pub(super) fn new(
        args: &'a SweepArgs,
        recipe: &'a Path,
        folder: &'a Path,
        first_steps: Option<u64>,
    ) -> anyhow::Result<Self> {
        let slurm = slurm_of(&args.of_slurm, PathBuf::new())?;
        let program = program(&args.resources)?;
        Ok(Self { args, recipe, folder, program, slurm, first_steps })
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
            eprintln!("planning {} trials for the time that they ask for, which --time spares", trials.len());
            let load = |(_, own): &(usize, Vec<String>)| Recipe::load(recipe, &[args.set.as_slice(), own].concat());
            let loaded = set.iter().map(load).collect::<Result<Vec<_>, _>>()?;
            Time::of(&args.resources, loaded.iter().map(|loaded| &loaded.recipe))?
        };
        job.time = Some(time.limit);
        let mut slurm = self.slurm.clone();
        slurm.log = sweep::folder(folder, NUMBER, max_steps).with_extension("log");
        if max_steps == self.first_steps {
            let turns = trials.len().div_ceil(args.jobs.map_or(trials.len(), usize::from)) as u64;
            let start = low_carbon(&args.of_slurm, time.planned_seconds.saturating_mul(turns))?;
            slurm.begin = begin(&args.of_slurm, start.as_ref());
        }
        slurm.tasks = Some(Tasks { set, at_a_time: args.jobs });
        Ok((job, slurm))
    }
}
