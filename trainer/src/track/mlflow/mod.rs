//! An MLflow server as a tracker.
//!
//! ```text
//! metrics.jsonl, run.json, adapter/    the run folder is the queue
//!     -> rows.rs, describe.rs          as MLflow names things
//!     -> delivery.rs, state.rs         what is missing there, and how far it has got (mlflow.json)
//!     -> server.rs                     the calls
//!     -> client.rs                     one request
//! ```
//!
//! A run delivers from a thread of its own: it never waits for the server and never fails because of it. What is left
//! when it has ended, [`sync`] delivers: the same code in the foreground.

mod client;
mod delivery;
mod describe;
pub mod parent;
mod rows;
mod server;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use self::client::Failure;
use self::delivery::Delivery;
pub use self::delivery::Sent;
use super::jsonl::append_note;
use super::{ForgettingRecord, Lock, Plan, RunFolder, StepRecord, Tracker, ValidationRecord};
use crate::error::TrainError;
use crate::recipe::MlflowConfig;

/// The time from one delivery of a run to the next.
const EVERY: Duration = Duration::from_secs(1);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long a run that has ended waits for the delivery of what is left.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How often what is left is tried when a run has ended.
const LAST_ATTEMPTS: u32 = 3;
/// How often in a row a delivery in the foreground is tried without anything gained.
const ATTEMPTS: u32 = 5;

/// The tracker of a run under way.
pub(super) struct Mlflow {
    folder: RunFolder,
    /// Tells the thread that there is something new; `None` when the run has ended.
    news: Option<Sender<()>>,
    /// What the thread says at its end: why something is left.
    ended: Receiver<Result<(), String>>,
    /// Nobody waits for the thread any more.
    given_up: Arc<AtomicBool>,
}

impl Mlflow {
    /// Begins to deliver the run in a folder, whose lock stays held until that has ended.
    ///
    /// # Errors
    /// When the folder's files or the certificates cannot be read.
    pub(super) fn open(folder: RunFolder, config: MlflowConfig, lock: Option<Arc<Lock>>) -> Result<Self, TrainError> {
        let delivery = Delivery::open(folder.clone(), config)?;
        let (news, told) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let follower = Follower { folder: folder.clone(), given_up: Arc::clone(&given_up), is_told: false };
        thread::spawn(move || {
            let left = follower.follow(delivery, &told);
            // Who hears of the end may take the folder at once.
            drop(lock);
            // Nobody listens once the run has given it up.
            let _ = end.send(left);
        });
        Ok(Self { folder, news: Some(news), ended, given_up })
    }

    fn news(&self) {
        if let Some(news) = &self.news {
            // The thread ends early where trying again does not help.
            let _ = news.send(());
        }
    }
}

impl Tracker for Mlflow {
    fn started(&mut self, _plan: &Plan) -> Result<(), TrainError> {
        self.news();
        Ok(())
    }

    fn step(&mut self, _record: &StepRecord) -> Result<(), TrainError> {
        self.news();
        Ok(())
    }

    fn validation(&mut self, _record: &ValidationRecord) -> Result<(), TrainError> {
        self.news();
        Ok(())
    }

    fn forgetting(&mut self, _record: &ForgettingRecord) -> Result<(), TrainError> {
        self.news();
        Ok(())
    }

    fn note(&mut self, _text: &str) {}
}

impl Drop for Mlflow {
    /// The run has ended, however it did.
    fn drop(&mut self) {
        self.news = None;
        let left = match self.ended.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => {
                let seconds = LAST_WAIT.as_secs();
                append_note(self.folder.path(), &format!("MLflow: what is left is delivered, for {seconds} s at most"));
                self.ended.recv_timeout(LAST_WAIT.saturating_sub(EVERY))
            }
            ended => ended,
        };
        self.given_up.store(true, Ordering::Relaxed);
        let reason = match left {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(RecvTimeoutError::Timeout) => format!("it took more than {} s", LAST_WAIT.as_secs()),
            Err(RecvTimeoutError::Disconnected) => "the delivery broke down".to_owned(),
        };
        let run = self.folder.path();
        let left = format!(
            "MLflow: not all was delivered ({reason}); nothing is lost, to deliver it: greffon track sync {}",
            run.display()
        );
        append_note(run, &left);
        tracing::warn!("{left}");
    }
}

/// The thread's part of a run's delivery.
struct Follower {
    folder: RunFolder,
    given_up: Arc<AtomicBool>,
    /// A failure is told once, until things are well again.
    is_told: bool,
}

impl Follower {
    /// Delivers while the run goes on, then what is left. Says why something is.
    fn follow(mut self, mut delivery: Delivery, news: &Receiver<()>) -> Result<(), String> {
        let mut failed = 0;
        let mut pause = Duration::ZERO;
        while !wait(news, pause, failed > 0) {
            match delivery.deliver() {
                Ok(()) => {
                    (failed, pause) = (0, EVERY);
                    self.well(&delivery);
                }
                Err(failure) => {
                    failed += 1;
                    pause = self::pause(&failure, failed).max(EVERY);
                    self.tell(&delivery, &failure);
                    if !is_passing(&failure) {
                        return Err(failure.reason());
                    }
                }
            }
        }
        self.finish(&mut delivery)
    }

    fn finish(&mut self, delivery: &mut Delivery) -> Result<(), String> {
        let mut failed = 0;
        loop {
            let Err(failure) = delivery.finish() else { return Ok(()) };
            failed += 1;
            if failed == LAST_ATTEMPTS || !is_passing(&failure) || self.given_up.load(Ordering::Relaxed) {
                return Err(failure.reason());
            }
            thread::sleep(pause(&failure, failed));
        }
    }

    fn tell(&mut self, delivery: &Delivery, failure: &Failure) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let again =
            if is_passing(failure) { "the run goes on, and it is tried again" } else { "the run goes on without it" };
        let text = format!("MLflow at {}: {}; {again}", delivery.address(), failure.reason());
        append_note(self.folder.path(), &text);
        tracing::warn!("{text}");
    }

    fn well(&mut self, delivery: &Delivery) {
        if std::mem::replace(&mut self.is_told, false) {
            append_note(self.folder.path(), &format!("MLflow at {}: delivered again", delivery.address()));
        }
    }
}

/// Waits for something new, unless something `is_left` from before, and for a while in any case. Says whether the run has
/// ended.
fn wait(news: &Receiver<()>, pause: Duration, is_left: bool) -> bool {
    if !is_left && news.recv().is_err() {
        return true;
    }
    let until = Instant::now() + pause;
    loop {
        match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

/// Delivers what is missing on the server of a run that nobody writes to; gives the run's page there.
///
/// # Errors
/// [`TrainError::NotDelivered`] when the server does not answer; [`TrainError::Server`] for what must be mended first;
/// when the run is under way, or its files cannot be read.
pub fn sync(folder: &RunFolder, config: MlflowConfig) -> Result<(Sent, String), TrainError> {
    let _lock = Lock::take(folder.path())?;
    let mut delivery = Delivery::open(folder.clone(), config)?;
    let (mut failed, mut sent) = (0, delivery.sent.clone());
    loop {
        let Err(failure) = delivery.finish() else {
            return Ok((delivery.sent.clone(), delivery.page().unwrap_or_default()));
        };
        if sent != delivery.sent {
            (failed, sent) = (0, delivery.sent.clone());
        }
        failed += 1;
        let (address, reason) = (delivery.address().to_owned(), failure.reason());
        match failure {
            Failure::Own(error) => return Err(error),
            Failure::Passing { .. } if failed == ATTEMPTS => {
                let run = folder.path().to_owned();
                return Err(TrainError::NotDelivered { address, reason, attempts: ATTEMPTS, run });
            }
            Failure::Passing { .. } => {
                if failed == 1 {
                    tracing::warn!("MLflow at {address}: {reason}; it is tried again");
                }
                thread::sleep(pause(&failure, failed));
            }
            Failure::TooLarge(_) | Failure::Refused { .. } => return Err(TrainError::Server { address, reason }),
        }
    }
}

/// Whether trying again may help.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure, Failure::Passing { .. })
}

/// How long to wait after so many failures in a row: as long as the server asks, else twice as long each time, by a half
/// more or less so that many runs do not come back at once.
fn pause(failure: &Failure, failed: u32) -> Duration {
    if let Failure::Passing { pause: Some(asked), .. } = failure {
        return *asked;
    }
    let doubled = FIRST_PAUSE.saturating_mul(1 << (failed - 1).min(16)).min(LONGEST_PAUSE);
    let chance = f64::from(jiff::Timestamp::now().subsec_microsecond().unsigned_abs()) / 1e6;
    doubled.mul_f64(0.5 + chance)
}
