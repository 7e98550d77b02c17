//! Makes trials as the tasks of an array of Slurm, one array for those that are left of a rung.
//!
//! The number of a task is that of its trial. An array that was submitted earlier, and whose tasks wait or run, is found by
//! its name and its logs, and followed to its end like one that is submitted now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Made, REFUSED, Runner, Told, Trial, Tried};
use crate::error::TrainError;
use crate::submit::Job;
use crate::submit::controller::{self, ASK_EVERY, Seen, Watch};
use crate::submit::slurm::{Slurm, script};

/// How often a stop is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a file of another machine may take to be seen, where a task has ended well.
const ON_ITS_WAY: Duration = Duration::from_mins(1);

/// Trials as tasks.
pub struct Array<'a> {
    /// The folder of the sweep.
    pub folder: &'a Path,
    /// Writes its jobs.
    pub jobs: &'a dyn Jobs,
}

/// The jobs of a sweep.
pub trait Jobs {
    /// The name of that for trials of so many steps.
    fn name(&self, max_steps: Option<u64>) -> String;

    /// That of these trials, which have the same steps, with a task for each.
    ///
    /// # Errors
    /// When what it asks for cannot be found out.
    fn job(&self, trials: &[Trial]) -> Result<(Job, Slurm), TrainError>;
}

/// An array that is followed.
struct Followed {
    watch: Watch,
    /// What was told of it.
    told: String,
}

impl Runner for Array<'_> {
    fn run(&self, trials: &[Trial], stop: &AtomicBool, tell: &(dyn Fn(Told<'_>) + Sync)) -> Result<Made, TrainError> {
        let Some(first) = trials.first() else { return Ok(Made::All(Vec::new())) };
        let mut followed = self.under_way(first.max_steps)?;
        let mut open: BTreeMap<usize, (&Trial, usize)> = BTreeMap::new();
        let mut left = Vec::new();
        for trial in trials {
            let has = |followed: &Followed| followed.watch.last().iter().any(|seen| is_open(seen, trial.number));
            match followed.iter().position(has) {
                Some(index) => drop(open.insert(trial.number, (trial, index))),
                None => left.push(trial.clone()),
            }
        }
        if !left.is_empty() {
            let (job, slurm) = self.jobs.job(&left)?;
            // What the job asks for may have taken a while to find out.
            if stop.load(Ordering::Relaxed) {
                return Ok(Made::Stopped(no_longer(&followed, &open)));
            }
            followed.push(submit(self.folder, &left, &job, &slurm, tell)?);
            open.extend(
                trials.iter().filter(|trial| left.contains(trial)).map(|t| (t.number, (t, followed.len() - 1))),
            );
        }
        follow(&mut followed, open, stop, tell)
    }
}

impl Array<'_> {
    /// The arrays of an earlier call that Slurm still knows.
    fn under_way(&self, max_steps: Option<u64>) -> Result<Vec<Followed>, TrainError> {
        let numbers = controller::arrays(&self.jobs.name(max_steps), &self.folder.join("trial-"))?;
        let mut found = Vec::new();
        for number in numbers {
            let mut watch = Watch::new(number);
            watch.look()?;
            found.push(Followed { watch, told: String::new() });
        }
        Ok(found)
    }
}

/// Submits the array of some trials, and keeps its script in the folder of the sweep.
fn submit(
    folder: &Path,
    trials: &[Trial],
    job: &Job,
    slurm: &Slurm,
    tell: &(dyn Fn(Told<'_>) + Sync),
) -> Result<Followed, TrainError> {
    let script = script(job, slurm)?;
    for trial in trials {
        // The words of an earlier try are not those of this one.
        let log = trial.log();
        match fs::remove_file(&log) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::Write { path: log, source });
            }
            _ => {}
        }
    }
    let number = controller::submit(&script, slurm.partition.as_deref())?;
    tell(Told::Note(&format!("job {number}: submitted, tasks: {}", trials.len())));
    if let Err(error) = controller::keep(&script, &folder.join(format!("{}-{number}.sh", job.name))) {
        tell(Told::Note(&error));
    }
    Ok(Followed { watch: Watch::new(number), told: String::new() })
}

/// Follows arrays until the open trials have ended. Each trial comes with the array that has it.
fn follow(
    followed: &mut [Followed],
    mut open: BTreeMap<usize, (&Trial, usize)>,
    stop: &AtomicBool,
    tell: &(dyn Fn(Told<'_>) + Sync),
) -> Result<Made, TrainError> {
    let mut made = Vec::new();
    let mut ended: BTreeMap<usize, Instant> = BTreeMap::new();
    while !open.is_empty() {
        for (index, array) in followed.iter_mut().enumerate() {
            if !open.values().any(|(_, own)| *own == index) {
                continue;
            }
            array.watch.look()?;
            let told = tally(array.watch.last(), &open);
            if told != array.told && !told.is_empty() {
                tell(Told::Note(&format!("job {}: {told}", array.watch.number)));
                array.told = told;
            }
        }
        open.retain(|number, (trial, index)| {
            let watch = &followed[*index].watch;
            let seen = watch.last().iter().find(|seen| seen.tasks.contains(number));
            if seen.is_some_and(|seen| !watch.is_end(seen)) {
                return true;
            }
            // One that Slurm has forgotten has ended: its folder says how.
            let error = seen.and_then(|seen| error(seen, trial));
            let since = ended.entry(*number).or_insert_with(Instant::now);
            let tried = Tried::ended(trial, error.clone());
            if error.is_none() && tried.error.is_some() && since.elapsed() < ON_ITS_WAY {
                return true;
            }
            tell(Told::Tried(&tried));
            made.push(tried);
            false
        });
        let asked = Instant::now();
        while !open.is_empty() && asked.elapsed() < ASK_EVERY {
            if stop.load(Ordering::Relaxed) {
                return Ok(Made::Stopped(no_longer(followed, &open)));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
    Ok(Made::All(made))
}

/// Whether a task is among these, and has not ended.
fn is_open(seen: &Seen, number: usize) -> bool {
    !seen.is_over() && seen.tasks.contains(&number)
}

/// Why a task failed that has ended.
fn error(seen: &Seen, trial: &Trial) -> Option<String> {
    if seen.state == "COMPLETED" || (seen.state.as_str(), seen.exit) == ("FAILED", (REFUSED, 0)) {
        return None;
    }
    let state = seen.state_told();
    Some(match (trial.last_words(), seen.state.as_str()) {
        (Some(words), "FAILED") => words,
        (Some(words), _) => format!("{state}; its last words: {words}"),
        (None, _) => format!("{state}, exit code {}, signal {}", seen.exit.0, seen.exit.1),
    })
}

/// How many of the open tasks stand how.
fn tally(seen: &[Seen], open: &BTreeMap<usize, (&Trial, usize)>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| !seen.is_over()) {
        let tasks = seen.tasks.iter().filter(|task| open.contains_key(task)).count();
        *counts.entry(seen.state_told() + seen.never()).or_default() += tasks;
    }
    let told = counts.iter().filter(|(_, tasks)| **tasks > 0).map(|(state, tasks)| format!("{tasks} {state}"));
    told.collect::<Vec<_>>().join(", ")
}

fn no_longer(followed: &[Followed], open: &BTreeMap<usize, (&Trial, usize)>) -> String {
    let own = followed.iter().enumerate().filter(|(index, _)| open.values().any(|(_, own)| own == index));
    let numbers: Vec<&str> = own.map(|(_, array)| array.watch.number.as_str()).collect();
    if numbers.is_empty() {
        return "stopped; nothing is submitted that is not done. to go on: the same command again".to_owned();
    }
    format!(
        "no longer followed; the trials go on. to wait for their results: the same command again. their state: squeue \
         --job {}, to end them: scancel {}",
        numbers.join(","),
        numbers.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str, reason: &str, tasks: &[usize], exit: (u8, u8)) -> Seen {
        let (state, reason) = (state.to_owned(), reason.to_owned());
        Seen { state, reason, tasks: tasks.iter().copied().collect(), exit, ..Seen::default() }
    }

    #[test]
    fn the_open_tasks_are_counted() {
        let trial = Trial { number: 1, point: Vec::new(), max_steps: None, folder: "t".into() };
        let open = (1..=5).map(|number| (number, (&trial, 0))).collect();
        let all = [
            seen("RUNNING", "None", &[1], (0, 0)),
            seen("RUNNING", "None", &[2], (0, 0)),
            seen("PENDING", "JobArrayTaskLimit", &[3, 4, 9], (0, 0)),
            seen("COMPLETED", "None", &[5], (0, 0)),
        ];
        assert_eq!(tally(&all, &open), "2 pending (JobArrayTaskLimit), 2 running");
        assert!(is_open(&all[2], 4) && !is_open(&all[3], 5) && !is_open(&all[0], 2));
    }

    #[test]
    fn a_task_that_failed_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let trial = Trial { number: 1, point: Vec::new(), max_steps: None, folder: folder.path().join("trial-001") };
        assert_eq!(error(&seen("COMPLETED", "", &[1], (0, 0)), &trial), None);
        assert_eq!(error(&seen("FAILED", "", &[1], (3, 0)), &trial), None, "the gate refused it: a result");
        let killed = error(&seen("NODE_FAIL", "", &[1], (0, 9)), &trial);
        assert_eq!(killed.as_deref(), Some("node fail, exit code 0, signal 9"));
        fs::write(trial.log(), "step 1/8\nerror: no space\nsrun: error: n1: task 1: Killed\n\n").unwrap();
        assert_eq!(error(&seen("FAILED", "", &[1], (1, 0)), &trial).as_deref(), Some("no space"));
        let late = error(&seen("CANCELLED", "", &[1], (0, 15)), &trial);
        assert_eq!(late.as_deref(), Some("cancelled; its last words: no space"));
        fs::write(trial.log(), "step 1/8\nKilled\n").unwrap();
        assert_eq!(error(&seen("FAILED", "", &[1], (137, 0)), &trial).as_deref(), Some("Killed"));
    }
}
