//! The recipe's `energy` section: where the electricity comes from, and how much of it a run may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use crate::energy::Grid;

/// What the run's energy is reckoned by, and how much it may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnergyConfig {
    /// Where the run takes place, by the three letters of ISO 3166-1, such as FRA: its electricity emits that country's
    /// mean. Without it and `grams_per_kwh`, no emissions are told.
    pub country: Option<String>,
    /// What a kilowatt-hour emits there, in grams of CO2e, 0 to 5000; it goes before the country's mean.
    pub grams_per_kwh: Option<f64>,
    /// What the data centre takes for each kilowatt-hour of its machines, in kilowatt-hours (power usage effectiveness);
    /// 1 to 10.
    pub pue: f64,
    /// What the processor takes at full load, in watts, where nothing measures it; above 0 and at most 10000. Without
    /// it: 4 W for each hardware thread.
    pub cpu_watts: Option<f64>,
    /// The kilowatt-hours that the run may take; above 0. It stops before the step that would go beyond, with what it
    /// has learned saved. What comes after the steps is counted and not limited.
    pub max_kwh: Option<f64>,
}

impl Default for EnergyConfig {
    fn default() -> Self {
        Self { country: None, grams_per_kwh: None, pue: 1.0, cpu_watts: None, max_kwh: None }
    }
}

impl EnergyConfig {
    /// The electricity; `None` where the recipe does not say.
    pub fn grid(&self) -> Option<Grid> {
        match (self.grams_per_kwh, &self.country) {
            (Some(grams_per_kwh), _) => Some(Grid { grams_per_kwh, source: "the recipe".to_owned() }),
            (None, country) => Grid::of_country(country.as_deref()?).ok(),
        }
    }

    pub(super) fn validate(&self, ranges: &mut Ranges) {
        if let Some(country) = &self.country
            && let Err(expected) = Grid::of_country(country)
        {
            ranges.note("country", &format!("{country:?}"), expected);
        }
        ranges.check_some("grams_per_kwh", self.grams_per_kwh, "a number from 0 to 5000", |grams| {
            (0.0..=5000.0).contains(&grams)
        });
        ranges.check("pue", self.pue, "a number from 1 to 10", (1.0..=10.0).contains(&self.pue));
        ranges.check_some("cpu_watts", self.cpu_watts, "a number above 0 and at most 10000", |watts| {
            watts > 0.0 && watts <= 1e4
        });
        ranges.check_some("max_kwh", self.max_kwh, "a number above 0", |kwh| kwh > 0.0 && kwh.is_finite());
    }
}
