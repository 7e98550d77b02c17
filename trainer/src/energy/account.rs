//! What a run took, stage by stage, over all its ranks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Energy, Grid, Meter, Method};
use crate::cluster::Collective;
use crate::error::TrainError;
use crate::recipe::EnergyConfig;
use crate::train::reduce::sum_of;

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Until the first step: data, weights, and answers to replay.
    Data,
    /// The steps, with the validations and checkpoints between them.
    Train,
    /// What was forgotten is measured.
    Evaluate,
}

/// The account of a run that is under way.
#[derive(Debug)]
pub struct Account {
    meter: Meter,
    /// Counters of a machine are read by one of its ranks; an estimate is of each process.
    counts: bool,
    seen: Energy,
    stages: BTreeMap<Stage, Energy>,
}

/// What a run took, as `run.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnergyRecord {
    /// In joules, of all ranks and without the data centre's part.
    pub stages: BTreeMap<Stage, Energy>,
    /// How that is known, by the first rank.
    pub method: Method,
    /// What the data centre takes for each kilowatt-hour of its machines, in kilowatt-hours.
    pub pue: f64,
    /// All of it with the data centre's part, in kilowatt-hours.
    pub kwh: f64,
    /// The electricity, where the recipe says where from.
    pub grid: Option<Grid>,
    /// What it emits, in grams of CO2e.
    pub grams_co2e: Option<f64>,
    /// The steps' part of `kwh` for a million tokens trained on; `None` before the first step.
    pub kwh_per_million_tokens: Option<f64>,
}

impl Account {
    /// Starts to count.
    pub fn start(config: &EnergyConfig, collective: &dyn Collective) -> Self {
        let meter = Meter::start(config.cpu_watts);
        let counts = !meter.is_of_the_machine() || collective.local_rank() == 0;
        Self { meter, counts, seen: Energy::default(), stages: BTreeMap::new() }
    }

    /// Takes up what the steps of an earlier start took.
    pub fn resume(&mut self, steps: Energy) {
        self.stages.insert(Stage::Train, steps);
    }

    /// Books what all ranks took since the last call, which all of them make at once.
    ///
    /// # Errors
    /// [`TrainError::Cluster`].
    pub fn book(&mut self, stage: Stage, collective: &dyn Collective) -> Result<(), TrainError> {
        let now = if self.counts { self.meter.read() } else { Energy::default() };
        let since = now - self.seen;
        self.seen = now;
        let [cpu, memory] = sum_of(collective, [since.cpu, since.memory])?;
        let booked = self.stages.entry(stage).or_default();
        *booked = *booked + Energy { cpu, memory };
        Ok(())
    }

    /// What a stage has taken so far.
    pub fn of(&self, stage: Stage) -> Energy {
        self.stages.get(&stage).copied().unwrap_or_default()
    }

    /// All that is booked, in kilowatt-hours with the data centre's part.
    pub fn kwh(&self, config: &EnergyConfig) -> f64 {
        self.stages.values().copied().sum::<Energy>().kwh() * config.pue
    }

    /// What is booked, after so many tokens.
    pub fn record(&self, config: &EnergyConfig, tokens: u64) -> EnergyRecord {
        let (kwh, grid) = (self.kwh(config), config.grid());
        let of_steps = self.of(Stage::Train).kwh() * config.pue;
        EnergyRecord {
            stages: self.stages.clone(),
            method: self.meter.method().clone(),
            pue: config.pue,
            kwh,
            grams_co2e: grid.as_ref().map(|grid| grid.grams_per_kwh * kwh),
            grid,
            kwh_per_million_tokens: (tokens > 0).then(|| of_steps / (tokens as f64 / 1e6)),
        }
    }
}
