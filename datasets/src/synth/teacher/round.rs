//! The part of a round of batches that one process asks, on as many threads as its teacher takes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use super::{Completion, Failure, Request, Teacher};

/// What came of some requests, by their index.
pub(super) type Made = Vec<(usize, Result<Completion, Failure>)>;

/// The batches of this process, and what is done with them.
pub(super) struct Part<'a> {
    pub(super) teacher: &'a dyn Teacher,
    pub(super) requests: &'a [Request],
    /// Indices of requests.
    pub(super) batches: &'a [Vec<usize>],
    /// Ends the work between two batches.
    pub(super) stop: &'a AtomicBool,
    /// Takes what came of a batch; false ends the work.
    pub(super) take: &'a (dyn Fn(Made) -> bool + Sync),
}

impl Part<'_> {
    /// Asks all batches, in their order. `tell` is called from this thread after each. Returns whether some were not asked
    /// since the work was stopped.
    pub(super) fn ask(&self, tell: &mut dyn FnMut()) -> bool {
        let (next, ended, stopped) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let work = || {
            if ended.load(Ordering::Relaxed) {
                return false;
            }
            let Some(batch) = self.batches.get(next.fetch_add(1, Ordering::Relaxed)) else { return false };
            if self.stop.load(Ordering::Relaxed) {
                stopped.store(true, Ordering::Relaxed);
                return false;
            }
            let requests: Vec<&Request> = batch.iter().map(|index| &self.requests[*index]).collect();
            let made = batch.iter().copied().zip(self.teacher.complete(&requests)).collect();
            if !(self.take)(made) {
                ended.store(true, Ordering::Relaxed);
            }
            true
        };
        let threads = self.teacher.hands().threads.min(self.batches.len());
        if threads <= 1 {
            while work() {
                tell();
            }
        } else {
            let (sender, receiver) = channel();
            thread::scope(|scope| {
                for _ in 0..threads {
                    let (sender, work) = (sender.clone(), &work);
                    scope.spawn(move || while work() && sender.send(()).is_ok() {});
                }
                drop(sender);
                for () in receiver {
                    tell();
                }
            });
        }
        stopped.into_inner()
    }
}
