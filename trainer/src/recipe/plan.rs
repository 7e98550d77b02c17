//! The recipe's `plan` section: the device that `greffon plan` reckons with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::memory_size::MemorySize;
use super::ranges::Ranges;

/// What `greffon plan` reckons with. It changes no run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// The device to plan for, such as a card of a cluster. Without it: this machine, measured.
    pub device: Option<DeviceConfig>,
}

/// A device by its data sheet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// What it reaches in matrix products of float32, in 10^12 operations a second; above 0 and at most 1e6.
    pub tflops: f64,
    /// What it reads and writes of its memory, in 10^9 bytes a second; above 0 and at most 1e6.
    pub bandwidth: f64,
    /// Its memory, such as 24 GiB.
    pub memory: MemorySize,
    /// What it takes at full load, in watts; above 0 and at most 1e6. Without it, no energy is planned.
    pub watts: Option<f64>,
}

impl PlanConfig {
    pub(super) fn validate(&self, ranges: &mut Ranges) {
        let Some(device) = &self.device else {
            return;
        };
        let expected = "a number above 0 and at most 1000000";
        for (key, value) in [("device.tflops", device.tflops), ("device.bandwidth", device.bandwidth)] {
            ranges.check(key, value, expected, value > 0.0 && value <= 1e6);
        }
        ranges.check_some("device.watts", device.watts, expected, |watts| watts > 0.0 && watts <= 1e6);
        let memory = device.memory;
        ranges.check("device.memory", memory.to_string(), "more than 0 B", memory.bytes() > 0);
    }
}
