//! Many requests to a teacher: as many at a time as it takes, none twice, none beyond the budget, all answers kept.
//!
//! They are asked in rounds. Each process asks its batches of a round, what came of them is gathered, the first process
//! writes it to the journal, and all go on from the same answers. One process alone keeps each batch as it comes, and its
//! round goes on as long as the budget surely has room.
//!
//! What is in a batch does not depend on the number of processes: the answer of a model may depend, by the rounding of its
//! sums, on what it answers at the same time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::budget::Price;
use super::round::{Made, Part};
use super::{Budget, Completion, Failure, Journal, Request, Spent, Teacher, key};
use crate::digest::hex;
use crate::error::{DataError, SynthError};
use crate::peers::{Peers, exchange};

/// So many requests in a row without an answer are the teacher's fault.
const IN_A_ROW: usize = 12;
/// Batches of a thread in a round of several processes: what a kill may lose, and what evens out how long they take.
const BATCHES: usize = 2;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the teacher wrote.
    Written(Completion),
    /// Why it wrote nothing.
    Failed(String),
    /// It was not asked: the budget is spent, or the work was stopped.
    NotAsked,
}

/// A request that was asked, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The key of its answer in the journal.
    pub key: String,
    /// What became of it.
    pub answer: Answer,
}

/// How far the asking has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Requests that are done with, those answered earlier included.
    pub done: usize,
    /// Of how many.
    pub total: usize,
    /// Of those done, answered now.
    pub asked: usize,
    /// What all answers of the set took.
    pub spent: Spent,
}

/// Why the asking ended before its last request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Early {
    /// A limit of the budget is reached: its key and value.
    Budget(String),
    /// The work was stopped from outside.
    Stopped,
}

impl fmt::Display for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(limit) => write!(f, "{limit}, is reached"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// As it is told.
impl Serialize for Early {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is asked with.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Who answers.
    pub teacher: &'a dyn Teacher,
    /// Where the answers are kept.
    pub journal: &'a Mutex<Journal>,
    /// The most that may be spent.
    pub budget: Budget,
    /// What tokens cost.
    pub price: Price,
    /// Ends the work between two batches.
    pub stop: &'a AtomicBool,
    /// Those that ask together.
    pub peers: &'a dyn Peers,
}

/// What came of the requests so far.
struct Ledger<'a> {
    teacher: &'a dyn Teacher,
    journal: &'a Mutex<Journal>,
    requests: &'a [Request],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The failures of requests, by index.
    failed: HashMap<usize, String>,
    in_a_row: usize,
    asked: usize,
    /// The first error that ends all.
    end: Option<DataError>,
}

/// What a process has of a round.
#[derive(Serialize, Deserialize)]
struct Asked {
    stopped: bool,
    made: Made,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks every request that has no answer yet, equal ones once. Gives the key of each and what became of it, in order, and why
/// some were not asked. `progress` is told from this thread. The same on all processes.
///
/// # Errors
/// [`SynthError::Teacher`] when the teacher as a whole does not answer, [`DataError::Write`] when an answer cannot be
/// kept, [`DataError::Peer`] when processes ask for different things. All answers up to then are in the journal.
pub fn ask(
    asking: Asking<'_>,
    requests: &[Request],
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<Answered>, Option<Early>), DataError> {
    let Asking { teacher, journal, peers, .. } = asking;
    let (identity, hands) = (teacher.identity(), teacher.hands());
    let keys: Vec<String> = requests.iter().map(|request| key(identity, request)).collect();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    let mut unique = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        first_of.entry(key).or_insert_with(|| {
            unique.push(index);
            index
        });
    }
    let mut open = open_batches(&lock(journal), &keys, &unique, hands.batch);
    let before = requests.len() - open.iter().map(Vec::len).sum::<usize>();
    let workers = workers(peers, hands.threads, &keys)?;
    let ledger = Ledger { teacher, journal, requests, state: Mutex::default() };
    let mut tell = |here: usize| {
        let (handled, asked) = ledger.handled();
        let spent = lock(journal).spent();
        progress(Progress { done: before + handled + here, total: requests.len(), asked, spent });
    };
    tell(0);
    let all = if peers.ranks() == 1 { usize::MAX } else { BATCHES * workers.len() };
    let mut most = if hands.first_alone { 1 } else { all };
    let early = loop {
        if open.is_empty() {
            break None;
        }
        let round = match plan(asking, requests, &mut open, most) {
            Ok(round) => round,
            Err(limit) => break Some(Early::Budget(limit)),
        };
        most = all;
        let stopped = ledger.round(asking, round, &workers, &mut tell)?;
        if let Some(error) = lock(&ledger.state).end.take() {
            return Err(error);
        }
        if stopped {
            break Some(Early::Stopped);
        }
    };
    tell(0);
    let (journal, state) = (lock(journal), lock(&ledger.state));
    let answer = |key: &String| {
        let answer = match (journal.get(key), state.failed.get(&first_of[key.as_str()])) {
            (Some(completion), _) => Answer::Written(completion.clone()),
            (None, Some(reason)) => Answer::Failed(reason.clone()),
            (None, None) => Answer::NotAsked,
        };
        Answered { key: key.clone(), answer }
    };
    Ok((keys.iter().map(answer).collect(), early))
}

/// The requests without an answer, in batches: those of all requests, so that a batch which a kill left over is what it was.
fn open_batches(journal: &Journal, keys: &[String], unique: &[usize], size: usize) -> VecDeque<Vec<usize>> {
    let is_open = |index: &usize| journal.get(&keys[*index]).is_none();
    let batches = unique.chunks(size.max(1)).map(|batch| batch.iter().copied().filter(is_open).collect::<Vec<_>>());
    batches.filter(|batch| !batch.is_empty()).collect()
}

/// The process of each thread that asks, the processes by turns.
fn workers(peers: &dyn Peers, threads: usize, keys: &[String]) -> Result<Vec<usize>, DataError> {
    if peers.ranks() == 1 {
        return Ok(vec![0; threads]);
    }
    let digest = hex(&Sha256::digest(keys.concat()));
    let all: Vec<(usize, String)> = exchange(peers, &(threads, digest))?;
    if let Some(rank) = all.iter().position(|(_, digest)| *digest != all[0].1) {
        let reason =
            "it would ask the teacher something else than rank 0; give all of them the same recipe, the same files \
                      and the same greffon"
                .to_owned();
        return Err(DataError::Peer { rank, ranks: peers.ranks(), reason });
    }
    let most = all.iter().map(|(threads, _)| *threads).max().unwrap_or(0);
    let turn = |turn| all.iter().enumerate().filter(move |(_, (threads, _))| *threads > turn).map(|(rank, _)| rank);
    Ok((0..most).flat_map(turn).collect())
}

/// Takes the next round off the open batches: at most so many, and only what the budget has room for whatever is answered.
/// Where it has none for a whole batch, the round is what fits of the first one; so what is asked follows from what earlier
/// answers took, and not from how many are under way. The limit, where nothing fits.
fn plan(
    asking: Asking<'_>,
    requests: &[Request],
    open: &mut VecDeque<Vec<usize>>,
    most: usize,
) -> Result<Vec<Vec<usize>>, String> {
    let mut sum = lock(asking.journal).spent();
    let mut passed = |index: &usize| {
        sum.add(Spent::at_most(&requests[*index]));
        asking.budget.passed_by(sum, asking.price)
    };
    let mut round = Vec::new();
    while round.len() < most {
        let Some(batch) = open.front_mut() else { break };
        let limit = batch.iter().enumerate().find_map(|(place, index)| Some((place, passed(index)?)));
        match limit {
            None => round.extend(open.pop_front()),
            Some(_) if !round.is_empty() => break,
            Some((0, limit)) => return Err(limit),
            Some((room, _)) => {
                round.push(batch.drain(..room).collect());
                break;
            }
        }
    }
    Ok(round)
}

impl Ledger<'_> {
    /// How many requests are done with, and how many of them were answered.
    fn handled(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.asked + state.failed.len(), state.asked)
    }

    /// Asks a round together with the others. `tell` is told how many are done here that are not yet gathered. Returns
    /// whether a process was stopped.
    fn round(
        &self,
        asking: Asking<'_>,
        round: Vec<Vec<usize>>,
        workers: &[usize],
        tell: &mut dyn FnMut(usize),
    ) -> Result<bool, DataError> {
        let Asking { teacher, stop, peers, .. } = asking;
        let part = |batches: &[Vec<usize>], take: &(dyn Fn(Made) -> bool + Sync), tell: &mut dyn FnMut()| {
            Part { teacher, requests: self.requests, batches, stop, take }.ask(tell)
        };
        if peers.ranks() == 1 {
            return Ok(part(&round, &|made| self.keep(made), &mut || tell(0)));
        }
        let own = round.into_iter().zip(workers.iter().cycle()).filter(|(_, rank)| **rank == peers.rank());
        let own: Vec<Vec<usize>> = own.map(|(batch, _)| batch).collect();
        let here = Mutex::new(Vec::new());
        let take = |made: Made| {
            let is_there = !made.iter().any(|(_, answer)| matches!(answer, Err(Failure::Teacher(_))));
            lock(&here).extend(made);
            is_there
        };
        let stopped = part(&own, &take, &mut || tell(lock(&here).len()));
        let made = here.into_inner().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Asked> = exchange(peers, &Asked { stopped, made })?;
        let stopped = all.iter().any(|asked| asked.stopped);
        let mut made: Made = all.into_iter().flat_map(|asked| asked.made).collect();
        // As one process would have met them.
        made.sort_unstable_by_key(|(index, _)| *index);
        self.keep(made);
        tell(0);
        Ok(stopped)
    }

    /// Keeps what was answered. Returns whether more can be asked.
    fn keep(&self, made: Made) -> bool {
        let mut state = lock(&self.state);
        let State { failed, in_a_row, asked, end } = &mut *state;
        let mut written: Vec<(&Request, Completion)> = Vec::new();
        for (index, answer) in made {
            match answer {
                Ok(completion) => {
                    *in_a_row = 0;
                    written.push((&self.requests[index], completion));
                }
                Err(Failure::Teacher(reason)) => _ = end.get_or_insert_with(|| self.teacher_error(reason)),
                Err(Failure::Request(reason)) => {
                    *in_a_row += 1;
                    if *in_a_row >= IN_A_ROW {
                        let reason = format!("{IN_A_ROW} requests in a row had no answer, the last one: {reason}");
                        end.get_or_insert_with(|| self.teacher_error(reason));
                    }
                    failed.insert(index, reason);
                }
            }
        }
        match lock(self.journal).put(self.teacher.identity(), &written) {
            Ok(()) => *asked += written.len(),
            Err(error) => _ = end.get_or_insert(error),
        }
        end.is_none()
    }

    fn teacher_error(&self, reason: String) -> DataError {
        let identity = self.teacher.identity();
        SynthError::Teacher { teacher: format!("{} at {}", identity.model, identity.at), reason }.into()
    }
}
