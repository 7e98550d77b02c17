//! Runs under a real Slurm that are killed, lose a machine, or give way to others.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::cluster::recipe;
use super::processes::rank;
use super::slurm::{Slurm, starts, steps, succeed, wait};
use crate::resume::{adapter_bytes, numbers};
use crate::support::signal;

/// The variable by which a rank knows its number.
const RANK: &str = "SLURM_PROCID";

/// What is killed, and what must be started by hand for the job to go on.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// A rank.
    Rank(usize),
    /// A machine: Slurm's daemon and all that it has started.
    Machine(&'static str),
    /// Slurm's daemon alone, while its ranks live.
    Daemon(&'static str),
}

impl Victim {
    fn kill(self, slurm: &Slurm, run: &Path) {
        let (all, node) = match self {
            Self::Rank(number) => return signal("KILL", [rank(run, RANK, number).expect("the rank runs")]),
            Self::Machine(node) => (slurm.machine(node), node),
            Self::Daemon(node) => (vec![slurm.daemon(node)], node),
        };
        signal("KILL", all);
        // Slurm misses what does not answer after SlurmdTimeout, ends the others and starts the job again.
        let state = || slurm.tell("sinfo", &["--noheader", "--partition=low", "--format=%T", "--nodes", node]);
        wait("Slurm misses the machine", || state().starts_with("down"));
        match self {
            Self::Machine(_) => slurm.start_machine(node),
            _ => slurm.start_daemon(node),
        }
    }
}

#[test]
fn ten_kills_in_a_row_cost_a_checkpoint_interval_each_at_most() {
    const EVERY: usize = 5;
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    // Steps so long that a checkpoint is written in less than one, and that ranks without their daemon, which work on until
    // Slurm misses it, leave some for the kills after.
    let recipe = recipe(
        folder.path(),
        &["train.max_steps=400", "train.save_every=5", "train.eval_every=200", "train.global_batch_size=128"],
    );
    let whole = folder.path().join("whole");
    succeed(slurm.submit(&recipe, &whole, &[]));

    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let run = folder.path().join("killed");
    let job = slurm.submit(&recipe, &run, &["--max-restarts", "20"]);
    let victims = [
        Victim::Rank(0),
        Victim::Rank(1),
        Victim::Daemon("n2"),
        Victim::Rank(2),
        Victim::Machine("n2"),
        Victim::Rank(3),
        Victim::Daemon("n1"),
        Victim::Rank(0),
        Victim::Machine("n1"),
        Victim::Rank(2),
    ];
    wait("the run starts", || starts(&run) == 1);
    let mut kills = Vec::new();
    for victim in victims {
        let first = steps(&run);
        let after = first + random.random_range(0..12);
        wait("steps", || steps(&run) >= after);
        let (killed, start, before) = (Instant::now(), starts(&run), steps(&run));
        kills.push((start, before));
        victim.kill(&slurm, &run);
        wait("the run goes on", || starts(&run) > start);
        let seconds = killed.elapsed().as_secs_f64();
        println!("{victim:?} of start {start} killed after step {before}: on again after {seconds:.1} s");
    }
    let said = succeed(job);
    // What each start said after the first; one that found no checkpoint began with the first step.
    let said_by: Vec<&str> = said.split(" of memory at its peak").skip(1).collect();
    let resumed: Vec<usize> = said_by[1..]
        .iter()
        .map(|start| start.lines().find_map(|line| line.strip_prefix("resuming after step ")).unwrap_or("0"))
        .map(|step| step.parse().expect("a step"))
        .collect();
    println!("killed in the starts and after the steps {kills:?}, resumed after {resumed:?}");
    for &(start, before) in &kills {
        let resumed = resumed.get(start - 1).unwrap_or_else(|| panic!("start {start} was the last: {said}"));
        // Ranks whose daemon is gone work on until Slurm misses it.
        assert!(before <= resumed + EVERY, "{before} and {resumed}: {said}");
    }
    // A machine that is short of memory or time may end a rank by itself, which costs as little.
    for (start, words) in (1..).zip(&said_by) {
        if start < said_by.len() && kills.iter().all(|&(killed, _)| killed != start) {
            println!("start {start} ended though nothing was killed in it:{words}");
        }
    }
    assert!(said_by.len() <= victims.len() + 3, "{} starts: {said}", said_by.len());
    assert_eq!(adapter_bytes(&run), adapter_bytes(&whole), "{said}");
    assert_eq!(numbers(&run).len(), numbers(&whole).len());
}

#[test]
fn a_pre_empted_job_saves_within_the_grace_time_and_goes_on_after() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    // Nothing but the signal makes a checkpoint before the last step.
    let never = ["train.max_steps=1500", "train.save_every=10000", "train.eval_every=10000"];
    let recipe = recipe(folder.path(), &never);
    let whole = folder.path().join("whole");
    succeed(slurm.submit(&recipe, &whole, &[]));

    let run = folder.path().join("pre-empted");
    let job = slurm.submit(&recipe, &run, &["--partition", "low"]);
    wait("steps", || steps(&run) >= 10);
    let asked = Instant::now();
    slurm.tell("sbatch", &["--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 2"]);
    let checkpoints = || fs::read_dir(run.join("checkpoints")).map_or(0, Iterator::count);
    wait("a checkpoint", || checkpoints() > 0);
    println!("pre-empted: saved {:.1} s after the other job came", asked.elapsed().as_secs_f64());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let said = succeed(job);
    assert!(said.contains("everything is saved") && said.contains("resuming after step"), "{said}");
    assert_eq!(adapter_bytes(&run), adapter_bytes(&whole), "{said}");
}
