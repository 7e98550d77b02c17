//! What a run took, stage by stage, over all its ranks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Energy, Grid, JOULES_PER_KWH, Meter, Method};
use crate::cluster::Collective;
use crate::device;
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
    /// What was forgotten is measured, and base and adapter are compared.
    Evaluate,
    /// The adapter is written in a form that servers take.
    Export,
}

/// The account of a run that is under way.
#[derive(Debug)]
pub struct Account {
    meter: Meter,
    /// Counters of a machine are read by one of its ranks; an estimate is of each process, and so is a card.
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
    /// Starts to count, on the device that a recipe names.
    pub fn start(config: &EnergyConfig, device: &str, collective: &dyn Collective) -> Self {
        let meter = Meter::start(config.cpu_watts, &device::of_rank(device, collective));
        let counts = !meter.is_of_the_machine() || collective.local_rank() == 0;
        Self { meter, counts, seen: Energy::default(), stages: BTreeMap::new() }
    }

    /// Takes up what the earlier starts of a run took, whose steps up to the checkpoint took `steps`.
    pub fn resume(&mut self, earlier: Option<&EnergyRecord>, steps: Energy) {
        let stages = earlier.into_iter().flat_map(|earlier| &earlier.stages);
        let others = stages.filter(|(stage, _)| **stage != Stage::Train).map(|(stage, energy)| (*stage, *energy));
        for (stage, energy) in others.chain([(Stage::Train, steps)]) {
            let booked = self.stages.entry(stage).or_default();
            *booked = *booked + energy;
        }
    }

    /// Books what all ranks took since the last call, which all of them make at once.
    ///
    /// # Errors
    /// [`TrainError::Cluster`].
    pub fn book(&mut self, stage: Stage, collective: &dyn Collective) -> Result<(), TrainError> {
        let mut now = self.meter.read();
        if !self.counts {
            (now.cpu, now.memory) = (0.0, 0.0);
        }
        let since = now - self.seen;
        self.seen = now;
        let [cpu, memory, gpu] = sum_of(collective, [since.cpu, since.memory, since.gpu])?;
        let booked = self.stages.entry(stage).or_default();
        *booked = *booked + Energy { cpu, memory, gpu };
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
        let of_steps = self.of(Stage::Train).kwh() * config.pue;
        let mut record = EnergyRecord {
            stages: BTreeMap::new(),
            method: self.meter.method().clone(),
            pue: config.pue,
            kwh: 0.0,
            grams_co2e: None,
            grid: config.grid(),
            kwh_per_million_tokens: (tokens > 0).then(|| of_steps / (tokens as f64 / 1e6)),
        };
        self.stages.iter().for_each(|(stage, energy)| record.add(*stage, *energy));
        record
    }
}

impl EnergyRecord {
    /// Adds what a stage took.
    pub fn add(&mut self, stage: Stage, energy: Energy) {
        let booked = self.stages.entry(stage).or_default();
        *booked = *booked + energy;
        self.kwh = self.stages.values().copied().sum::<Energy>().kwh() * self.pue;
        self.grams_co2e = self.grid.as_ref().map(|grid| grid.grams_per_kwh * self.kwh);
    }

    /// The seconds in which a lamp of 10 W takes as much.
    pub fn lamp_seconds(&self) -> f64 {
        self.kwh * JOULES_PER_KWH / 10.0
    }

    /// The kilometres on which a car of 120 g/km emits as much; `None` where the electricity is not known.
    pub fn car_kilometres(&self) -> Option<f64> {
        Some(self.grams_co2e? / 120.0)
    }

    /// What people know that takes or emits as much, in words.
    pub fn equivalents(&self) -> String {
        let hours = self.lamp_seconds() / 3600.0;
        let lamp = match hours {
            hours if hours >= 1.0 => format!("{hours:.1} h"),
            hours if hours * 60.0 >= 1.0 => format!("{:.0} min", hours * 60.0),
            hours => format!("{:.0} s", hours * 3600.0),
        };
        let car = self.car_kilometres().map_or_else(String::new, |kilometres| match kilometres {
            kilometres if kilometres >= 1.0 => format!(", and a car of 120 g/km emits on {kilometres:.1} km"),
            kilometres => format!(", and a car of 120 g/km emits on {:.0} m", 1e3 * kilometres),
        });
        format!("as much as a lamp of 10 W takes in {lamp}{car}")
    }
}
