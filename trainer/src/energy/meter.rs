//! What a process takes from when it is first asked.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::estimate::Load;
use super::gpu::Card;
use super::rapl::{self, Rapl};
use super::{Energy, estimate};

/// How often it looks. Memory changes slowly, and counters begin again after minutes.
const EVERY: Duration = Duration::from_secs(1);

/// How energy is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// The processor's.
    pub cpu: String,
    /// The memory's.
    pub memory: String,
    /// The card's; `None` where the run uses none that is known.
    pub gpu: Option<String>,
}

/// Measures what a process takes until it is dropped, in a thread of its own.
#[derive(Debug)]
pub struct Meter {
    state: Arc<Mutex<State>>,
    method: Method,
    _ends_the_thread: Sender<()>,
}

#[derive(Debug)]
struct State {
    rapl: Option<Rapl>,
    card: Option<Card>,
    /// Of the processor at full load.
    watts: f64,
    load: Load,
    estimated: Energy,
}

impl Meter {
    /// Starts to measure what a process takes that works on this device. `watts` is the power of the processor at full
    /// load; without it, 4 W a hardware thread.
    pub fn start(watts: Option<f64>, device: &str) -> Self {
        Self::over(Path::new(rapl::FOLDER), watts, device)
    }

    fn over(counters: &Path, watts: Option<f64>, device: &str) -> Self {
        let load = Load::new();
        let watts = watts.unwrap_or(load.threads() * estimate::WATTS_PER_THREAD);
        let rapl = Rapl::open(counters);
        let estimated_memory = "estimated from the memory of this process".to_owned();
        let counted = "measured by RAPL, of the whole machine".to_owned();
        let card = Card::open(device);
        let gpu = card.as_ref().map(|card| match card {
            Ok(card) if card.counts() => "measured by NVML's counter".to_owned(),
            Ok(_) => "estimated from the power that NVML shows each second".to_owned(),
            Err(reason) => format!("not known: {reason}"),
        });
        let method = match &rapl {
            Ok(rapl) if rapl.counts_memory() => Method { cpu: counted.clone(), memory: counted, gpu },
            Ok(_) => Method { cpu: counted, memory: estimated_memory, gpu },
            Err(reason) => Method {
                cpu: format!("estimated from this process's time on a processor of {watts} W ({reason})"),
                memory: estimated_memory,
                gpu,
            },
        };
        let state =
            State { rapl: rapl.ok(), card: card.and_then(Result::ok), watts, load, estimated: Energy::default() };
        let state = Arc::new(Mutex::new(state));
        let (ends, ended) = mpsc::channel();
        let looked_at = Arc::clone(&state);
        thread::spawn(move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                lock(&looked_at).read();
            }
        });
        Self { state, method, _ends_the_thread: ends }
    }

    /// What was taken since the start.
    pub fn read(&self) -> Energy {
        lock(&self.state).read()
    }

    /// Whether it counts what the whole machine takes, and not this process alone.
    pub fn is_of_the_machine(&self) -> bool {
        lock(&self.state).rapl.is_some()
    }

    /// How that is known.
    pub fn method(&self) -> &Method {
        &self.method
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn read(&mut self) -> Energy {
        let (seconds, load) = self.load.since();
        let memory = estimate::memory_bytes().map_or(0.0, estimate::memory_watts);
        self.estimated.memory += memory * seconds;
        self.estimated.cpu += self.watts * load * seconds;
        if let Some(card) = &mut self.card {
            self.estimated.gpu = card.read(seconds);
        }
        let Some(rapl) = &mut self.rapl else { return self.estimated };
        let counted = rapl.read();
        let memory = if rapl.counts_memory() { counted.memory } else { self.estimated.memory };
        Energy { cpu: counted.cpu, memory, gpu: self.estimated.gpu }
    }
}
