//! Many requests to a teacher: as many at a time as it takes, none twice, none beyond the budget, all answers kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::budget::Price;
use super::{Budget, Completion, Failure, Journal, Request, Spent, Teacher, key};
use crate::error::{DataError, SynthError};

/// So many requests in a row without an answer are the teacher's fault.
const IN_A_ROW: usize = 12;

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
    /// Ends the work between two requests.
    pub stop: &'a AtomicBool,
}

/// What the threads share.
struct Shared<'a> {
    asking: Asking<'a>,
    requests: &'a [Request],
    /// One request for each key that has no answer yet, in order.
    open: &'a [usize],
    next: AtomicUsize,
    /// The failures of requests, by index.
    failed: Mutex<HashMap<usize, String>>,
    in_a_row: AtomicUsize,
    /// What is under way may take at most so much.
    reserved: Mutex<Spent>,
    /// The first reason to end all.
    end: Mutex<Option<End>>,
    ended: AtomicBool,
    asked: AtomicUsize,
}

enum End {
    Early(Early),
    Error(DataError),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks every request that has no answer yet, equal ones once. Gives the key of each and what became of it, in order, and why
/// some were not asked. `progress` is told from this thread.
///
/// # Errors
/// [`SynthError::Teacher`] when the teacher as a whole does not answer, [`DataError::Write`] when an answer cannot be
/// kept. All answers up to then are in the journal.
pub fn ask(
    asking: Asking<'_>,
    requests: &[Request],
    progress: &mut dyn FnMut(Progress),
) -> Result<(Vec<Answered>, Option<Early>), DataError> {
    let identity = asking.teacher.identity();
    let keys: Vec<String> = requests.iter().map(|request| key(identity, request)).collect();
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    let mut open = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        if !first_of.contains_key(key.as_str()) {
            first_of.insert(key, index);
            if lock(asking.journal).get(key).is_none() {
                open.push(index);
            }
        }
    }
    let shared = Shared {
        asking,
        requests,
        open: &open,
        next: AtomicUsize::new(0),
        failed: Mutex::default(),
        in_a_row: AtomicUsize::new(0),
        reserved: Mutex::default(),
        end: Mutex::default(),
        ended: AtomicBool::new(false),
        asked: AtomicUsize::new(0),
    };
    let before = requests.len() - open.len();
    let tell = |progress: &mut dyn FnMut(Progress)| {
        let (done, asked) = (before + shared.handled(), shared.asked.load(Ordering::Relaxed));
        progress(Progress { done, total: requests.len(), asked, spent: lock(asking.journal).spent() });
    };
    tell(progress);
    // The first alone: a key that is wrong is refused once.
    shared.work(1);
    tell(progress);
    let hands = asking.teacher.hands();
    if hands.threads == 1 {
        while shared.work(hands.batch) {
            tell(progress);
        }
    } else {
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..hands.threads {
                let (sender, shared) = (sender.clone(), &shared);
                scope.spawn(move || while shared.work(hands.batch) && sender.send(()).is_ok() {});
            }
            drop(sender);
            for () in receiver {
                tell(progress);
            }
        });
    }
    tell(progress);
    let early = match shared.end.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(End::Error(error)) => return Err(error),
        Some(End::Early(early)) => Some(early),
        None => None,
    };
    let (journal, failed) = (lock(asking.journal), lock(&shared.failed));
    let answer = |key: &String| {
        let answer = match (journal.get(key), failed.get(&first_of[key.as_str()])) {
            (Some(completion), _) => Answer::Written(completion.clone()),
            (None, Some(reason)) => Answer::Failed(reason.clone()),
            (None, None) => Answer::NotAsked,
        };
        Answered { key: key.clone(), answer }
    };
    Ok((keys.iter().map(answer).collect(), early))
}

impl Shared<'_> {
    /// Requests that are done with.
    fn handled(&self) -> usize {
        self.asked.load(Ordering::Relaxed) + lock(&self.failed).len()
    }

    fn end(&self, reason: End) {
        lock(&self.end).get_or_insert(reason);
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Takes some requests and asks them. Returns whether there may be more.
    fn work(&self, batch: usize) -> bool {
        if self.asking.stop.load(Ordering::Relaxed) && self.next.load(Ordering::Relaxed) < self.open.len() {
            self.end(End::Early(Early::Stopped));
        }
        if self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let start = self.next.fetch_add(batch, Ordering::Relaxed);
        let taken = self.open.get(start..self.open.len().min(start + batch)).unwrap_or_default();
        let mut allowed = Vec::new();
        for index in taken {
            let most = Spent::at_most(&self.requests[*index]);
            if let Some(limit) = self.reserve(most) {
                self.end(End::Early(Early::Budget(limit)));
                break;
            }
            allowed.push(*index);
        }
        let requests: Vec<&Request> = allowed.iter().map(|index| &self.requests[*index]).collect();
        let answers = if requests.is_empty() { Vec::new() } else { self.asking.teacher.complete(&requests) };
        for (index, answer) in allowed.into_iter().zip(answers) {
            self.take(index, answer);
        }
        !taken.is_empty() && !self.ended.load(Ordering::Relaxed)
    }

    /// Sets aside what a request may take; gives the limit that it would pass.
    fn reserve(&self, most: Spent) -> Option<String> {
        let mut reserved = lock(&self.reserved);
        let mut sum = lock(self.asking.journal).spent();
        sum.add(*reserved);
        sum.add(most);
        let passed = self.asking.budget.passed_by(sum, self.asking.price);
        if passed.is_none() {
            reserved.add(most);
        }
        passed
    }

    fn take(&self, index: usize, answer: Result<Completion, Failure>) {
        let identity = self.asking.teacher.identity();
        // Held until what was taken is counted, so that nobody counts it twice or not at all.
        let mut reserved = lock(&self.reserved);
        reserved.subtract(Spent::at_most(&self.requests[index]));
        match answer {
            Ok(completion) => {
                self.in_a_row.store(0, Ordering::Relaxed);
                match lock(self.asking.journal).put(identity, &self.requests[index], &completion) {
                    Ok(()) => _ = self.asked.fetch_add(1, Ordering::Relaxed),
                    Err(error) => self.end(End::Error(error)),
                }
            }
            Err(Failure::Teacher(reason)) => self.end(End::Error(self.teacher_error(reason))),
            Err(Failure::Request(reason)) => {
                lock(&self.failed).insert(index, reason.clone());
                if self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= IN_A_ROW {
                    let reason = format!("{IN_A_ROW} requests in a row had no answer, the last one: {reason}");
                    self.end(End::Error(self.teacher_error(reason)));
                }
            }
        }
    }

    fn teacher_error(&self, reason: String) -> DataError {
        let identity = self.asking.teacher.identity();
        SynthError::Teacher { teacher: format!("{} at {}", identity.model, identity.at), reason }.into()
    }
}
