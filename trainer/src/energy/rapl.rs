//! The counters of the processor and its memory: the kernel's power capping files (RAPL).
//!
//! Source: the kernel's `Documentation/power/powercap/powercap.rst`.

use std::fs;
use std::path::{Path, PathBuf};

use super::Energy;

/// Where the kernel shows them.
pub(super) const FOLDER: &str = "/sys/class/powercap";

/// The counters of a machine, and what they had counted when they were last read.
#[derive(Debug)]
pub(super) struct Rapl {
    counters: Vec<Counter>,
    energy: Energy,
}

#[derive(Debug)]
struct Counter {
    file: PathBuf,
    /// It begins again with 0 after this, in microjoules.
    range: u64,
    last: u64,
    of_memory: bool,
}

impl Rapl {
    /// Opens the counters: of each package, and of its memory where it is counted apart.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let entries = fs::read_dir(folder).map_err(|_| format!("{} is not there", folder.display()))?;
        let mut zones: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        zones.sort();
        let mut counters: Vec<Counter> = Vec::new();
        for zone in zones {
            let Ok(name) = fs::read_to_string(zone.join("name")) else { continue };
            let of_memory = name.trim() == "dram";
            if !of_memory && !name.starts_with("package-") {
                continue;
            }
            let file = zone.join("energy_uj");
            let last = read(&file).map_err(|error| {
                format!("{}: {error}; a system administrator can let others than root read it", file.display())
            })?;
            let range = read(&zone.join("max_energy_range_uj")).unwrap_or(u64::MAX);
            // The same counter may be shown twice, as `intel-rapl` and as `intel-rapl-mmio`.
            let is_shown_twice = zone.file_name().is_some_and(|name| name.to_string_lossy().contains("mmio"));
            if !is_shown_twice {
                counters.push(Counter { file, range, last, of_memory });
            }
        }
        if counters.iter().all(|counter| counter.of_memory) {
            return Err(format!("{} has no counter of a processor", folder.display()));
        }
        Ok(Self { counters, energy: Energy::default() })
    }

    /// Whether the memory is counted apart.
    pub(super) fn counts_memory(&self) -> bool {
        self.counters.iter().any(|counter| counter.of_memory)
    }

    /// What was counted since they were opened. To be called more often than a counter takes to begin again twice,
    /// which is minutes. A counter that cannot be read any more stands still.
    pub(super) fn read(&mut self) -> Energy {
        for counter in &mut self.counters {
            let Ok(now) = read(&counter.file) else { continue };
            let counted = if now >= counter.last {
                now - counter.last
            } else {
                counter.range.saturating_sub(counter.last).saturating_add(now)
            };
            counter.last = now;
            let joules = counted as f64 / 1e6;
            let of = if counter.of_memory { &mut self.energy.memory } else { &mut self.energy.cpu };
            *of += joules;
        }
        self.energy
    }
}

fn read(file: &Path) -> std::io::Result<u64> {
    fs::read_to_string(file)?.trim().parse().map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone as the kernel shows it.
    fn zone(folder: &Path, zone: &str, name: &str, energy: &str) -> PathBuf {
        let zone = folder.join(zone);
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("name"), format!("{name}\n")).unwrap();
        fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
        fs::write(zone.join("energy_uj"), energy).unwrap();
        zone.join("energy_uj")
    }

    #[test]
    fn packages_and_memory_are_summed_and_a_counter_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = zone(folder.path(), "intel-rapl:0", "package-0", "1000000\n");
        let second = zone(folder.path(), "intel-rapl:1", "package-1", "262143328850\n");
        let memory = zone(folder.path(), "intel-rapl:0:0", "dram", "0\n");
        zone(folder.path(), "intel-rapl:0:1", "core", "5\n");
        zone(folder.path(), "intel-rapl-mmio:0", "package-0", "1000000\n");
        let mut rapl = Rapl::open(folder.path()).unwrap();
        assert!(rapl.counts_memory());
        assert_eq!(rapl.read(), Energy::default());
        fs::write(first, "3000000\n").unwrap();
        fs::write(second, "500000\n").unwrap();
        fs::write(&memory, "250000\n").unwrap();
        assert_eq!(rapl.read(), Energy { cpu: 2.5, memory: 0.25, gpu: 0.0 });
        fs::remove_file(memory).unwrap();
        assert_eq!(rapl.read(), Energy { cpu: 2.5, memory: 0.25, gpu: 0.0 });
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Rapl::open(&folder.path().join("none")).unwrap_err();
        assert!(missing.ends_with("none is not there"), "{missing}");
        let none = Rapl::open(folder.path()).unwrap_err();
        assert!(none.ends_with("has no counter of a processor"), "{none}");
        zone(folder.path(), "intel-rapl:0", "package-0", "many");
        let unreadable = Rapl::open(folder.path()).unwrap_err();
        assert!(unreadable.contains("intel-rapl:0/energy_uj: "), "{unreadable}");
    }
}
