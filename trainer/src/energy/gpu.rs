//! The energy of a process's card, by NVIDIA's management library (NVML), where the program is built with the feature
//! `nvml`.
//!
//! Source: the NVML API reference, `nvmlDeviceGetTotalEnergyConsumption` and `nvmlDeviceGetPowerUsage`.

use std::fmt::Debug;

use crate::recipe::DeviceName;

/// What a card tells of itself.
pub(super) trait Sensor: Debug + Send {
    /// Joules since its driver was loaded; `None` on cards older than Volta.
    fn joules(&self) -> Option<f64>;

    /// What it takes now, in watts.
    fn watts(&self) -> Option<f64>;
}

/// A card, and what it has taken since it was opened.
#[derive(Debug)]
pub(super) struct Card {
    sensor: Box<dyn Sensor>,
    /// What its counter showed when it was last read.
    counted: Option<f64>,
    energy: f64,
}

impl Card {
    /// Opens the card of a device as a recipe names it; `None` for a device that is no card of NVIDIA's.
    ///
    /// # Errors
    /// Why its energy is not known, in words.
    pub(super) fn open(device: &str) -> Option<Result<Self, String>> {
        let Ok(DeviceName::Cuda(number)) = device.parse() else { return None };
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        Some(nvml::open(&visible_card(number, visible.as_deref())).map(Self::of))
    }

    fn of(sensor: Box<dyn Sensor>) -> Self {
        Self { counted: sensor.joules(), sensor, energy: 0.0 }
    }

    /// Whether it counts; else its power is taken every so often.
    pub(super) fn counts(&self) -> bool {
        self.counted.is_some()
    }

    /// Joules since it was opened, `seconds` after it was last asked.
    pub(super) fn read(&mut self, seconds: f64) -> f64 {
        self.energy += match (self.counted, self.sensor.joules()) {
            // The counter begins again with 0 when the driver is loaded again.
            (Some(before), Some(now)) => {
                self.counted = Some(now);
                if now >= before { now - before } else { now }
            }
            (Some(_), None) => 0.0,
            (None, _) => self.sensor.watts().unwrap_or(0.0) * seconds,
        };
        self.energy
    }
}

/// How a card is named to the library: by its place or its unique id.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Index(usize),
    Uuid(String),
}

/// The card that a program sees as number `number`. Where cards of several kinds are in one machine, CUDA numbers them by
/// speed and the library by place, unless `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`.
fn visible_card(number: usize, visible: Option<&str>) -> Name {
    let named = visible.and_then(|list| list.split(',').nth(number)).map(str::trim);
    match named {
        Some(name) => name.parse().map_or_else(|_| Name::Uuid(name.to_owned()), Name::Index),
        None => Name::Index(number),
    }
}

#[cfg(feature = "nvml")]
mod nvml {
    use std::sync::OnceLock;

    use nvml_wrapper::{Device, Nvml, error::NvmlError};

    use super::{Name, Sensor};

    /// A card is looked up again for each reading: its handle borrows the library.
    #[derive(Debug)]
    struct Handle {
        library: &'static Nvml,
        name: Name,
    }

    pub(super) fn open(name: &Name) -> Result<Box<dyn Sensor>, String> {
        static LIBRARY: OnceLock<Result<Nvml, String>> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| Nvml::init().map_err(|error| error.to_string())).as_ref()?;
        let name = match name {
            Name::Index(index) => Name::Index(*index),
            Name::Uuid(id) => Name::Uuid(id.clone()),
        };
        let handle = Handle { library, name };
        handle.device().map_err(|error| format!("{:?}: {error}", handle.name))?;
        Ok(Box::new(handle))
    }

    impl Handle {
        fn device(&self) -> Result<Device<'_>, NvmlError> {
            match &self.name {
                Name::Index(index) => self.library.device_by_index(u32::try_from(*index).unwrap_or(u32::MAX)),
                Name::Uuid(id) => self.library.device_by_uuid(id.as_str()),
            }
        }
    }

    impl Sensor for Handle {
        fn joules(&self) -> Option<f64> {
            Some(self.device().ok()?.total_energy_consumption().ok()? as f64 / 1e3)
        }

        fn watts(&self) -> Option<f64> {
            Some(f64::from(self.device().ok()?.power_usage().ok()?) / 1e3)
        }
    }
}

#[cfg(not(feature = "nvml"))]
mod nvml {
    use super::{Name, Sensor};

    pub(super) fn open(_: &Name) -> Result<Box<dyn Sensor>, String> {
        Err("this build has no NVML; build it with the feature nvml".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// Shows these figures one after the other.
    #[derive(Debug)]
    struct Scripted {
        joules: Mutex<VecDeque<Option<f64>>>,
        watts: f64,
    }

    impl Sensor for Scripted {
        fn joules(&self) -> Option<f64> {
            self.joules.lock().unwrap().pop_front().expect("a figure for each reading")
        }

        fn watts(&self) -> Option<f64> {
            Some(self.watts)
        }
    }

    fn readings(joules: &[Option<f64>], seconds: &[f64]) -> Vec<f64> {
        let joules = Mutex::new(joules.iter().copied().collect());
        let mut card = Card::of(Box::new(Scripted { joules, watts: 200.0 }));
        seconds.iter().map(|seconds| card.read(*seconds)).collect()
    }

    #[test]
    fn a_counter_is_read_from_where_it_stood_and_may_begin_again() {
        let shown = [Some(1000.0), Some(1250.0), None, Some(1300.0), Some(40.0)];
        assert_eq!(readings(&shown, &[1.0; 4]), [250.0, 250.0, 300.0, 340.0]);
    }

    #[test]
    fn without_a_counter_power_is_taken_over_time() {
        assert_eq!(readings(&[None; 3], &[1.0, 0.5]), [200.0, 300.0]);
    }

    #[test]
    fn a_card_is_the_one_that_the_program_sees() {
        assert_eq!(visible_card(1, None), Name::Index(1));
        assert_eq!(visible_card(1, Some("3, 5")), Name::Index(5));
        assert_eq!(visible_card(0, Some("GPU-8932f937")), Name::Uuid("GPU-8932f937".to_owned()));
        assert_eq!(visible_card(2, Some("3,5")), Name::Index(2));
    }

    #[test]
    fn only_nvidias_cards_are_asked() {
        assert!(Card::open("flex").is_none() && Card::open("vulkan:0").is_none() && Card::open("cuda:x").is_none());
        // No machine that runs the tests is known to have one; where there is, it opens.
        if let Some(Err(reason)) = Card::open("cuda:0") {
            assert!(!reason.is_empty());
        }
    }
}
