//! `greffon submit`: a run as the job of a cluster.

mod follow;
mod kubernetes;
pub(super) mod slurm;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{ResourceArgs, SubmitArgs};
use crate::error::TrainError;
use crate::recipe::{Loaded, Recipe};
use crate::submit::{Job, Resources};

pub(super) fn submit(args: &SubmitArgs) -> anyhow::Result<ExitCode> {
    match args.k8s {
        Some(kind) => kubernetes::write(args, kind),
        None => slurm::submit(args),
    }
}

/// The job of a recipe, with the program and the recipe as the nodes see them.
pub(super) fn job(asked: &ResourceArgs, name: String, program: PathBuf, recipe: PathBuf, set: &[String]) -> Job {
    Job {
        name,
        program,
        recipe,
        set: set.to_vec(),
        environment: asked.env.clone(),
        resources: Resources {
            nodes: asked.nodes,
            ranks_per_node: asked.ranks_per_node,
            cpus_per_rank: asked.cpus_per_rank,
            gpus_per_rank: asked.gpus,
            memory_per_rank: asked.memory,
        },
        time: asked.time,
        grace_seconds: asked.grace,
        max_restarts: asked.max_restarts,
    }
}

fn load(args: &SubmitArgs) -> Result<Loaded, TrainError> {
    Ok(Recipe::load(&args.recipe.recipe, &args.recipe.set)?)
}
