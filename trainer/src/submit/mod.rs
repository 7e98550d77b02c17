//! A run as the job of a scheduler.
//!
//! A [`Job`] is made from a recipe and what it asks for; [`slurm`] writes it as a batch script, [`kubernetes`] as a
//! manifest. Both start the job again after an interruption, which is why it is `greffon train --or-resume`: it goes on
//! with what the output folder holds. [`controller`] speaks with a Slurm; [`carbon`] finds the hours in which a job is to
//! run.

pub mod carbon;
pub mod controller;
pub mod kubernetes;
pub mod shell;
pub mod slurm;
mod wall_time;

use std::path::{Path, PathBuf};

pub use wall_time::WallTime;

use crate::recipe::MemorySize;

/// The exit code with which an interrupted run asks its scheduler to start it again.
pub const REQUEUE_CODE: u8 = 85;

/// Exit codes up to this one say that the run is over: done, failed, to be mended, refused by a check. Starting it again
/// would change nothing.
pub const LAST_OF_ITS_OWN: u8 = 3;

/// What a run asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Machines, or pods; at least 1.
    pub nodes: u32,
    /// Processes on each of them; at least 1.
    pub ranks_per_node: u32,
    /// Cores of each process; at least 1.
    pub cpus_per_rank: u32,
    /// GPUs of each process.
    pub gpus_per_rank: u32,
    /// Memory of each process; as the scheduler does by default where it is not given.
    pub memory_per_rank: Option<MemorySize>,
}

impl Resources {
    /// All processes.
    pub fn ranks(&self) -> u32 {
        self.nodes.saturating_mul(self.ranks_per_node)
    }
}

/// A run for a scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name, that of the run folder.
    pub name: String,
    /// The program, as the nodes or the image have it.
    pub program: PathBuf,
    /// The recipe, as they see it.
    pub recipe: PathBuf,
    /// What is set on top of the recipe.
    pub set: Vec<String>,
    /// Variables of its environment, by name.
    pub environment: Vec<(String, String)>,
    /// What it asks for.
    pub resources: Resources,
    /// How long it may take before it is stopped.
    pub time: Option<WallTime>,
    /// Seconds between the signal that asks it to save and the end.
    pub grace_seconds: u32,
    /// After this many restarts the job ends when a process is killed. Interruptions that saved do not end it.
    pub max_restarts: u32,
}

impl Job {
    /// The arguments after the program.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["train".to_owned(), self.recipe.to_string_lossy().into_owned()];
        arguments.extend(self.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        arguments.push("--or-resume".to_owned());
        arguments
    }

    /// The name for a run folder.
    pub fn name_of(output: &Path) -> String {
        output.file_name().map_or_else(|| "greffon".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// The time that a job asks for whose processes are planned to take so long: half as much again, ten minutes to start,
/// rounded up to five. A job that takes longer saves and is started again.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; time is positive")]
pub fn time_with_margin(plan_seconds: f64) -> WallTime {
    let seconds = 1.5 * plan_seconds + 600.0;
    WallTime::from_seconds((seconds as u64).div_ceil(300).saturating_mul(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_job_is_the_plans_with_a_margin() {
        for (seconds, expected) in [(0.0, 600), (48.0, 900), (3600.0, 6000), (900.0, 2100)] {
            assert_eq!(time_with_margin(seconds), WallTime::from_seconds(expected), "{seconds} s");
        }
    }
}
