//! The energy of a process where no counter tells: CodeCarbon's estimate for one process, version 3.
//!
//! Sources: <https://docs.codecarbon.io/latest/explanation/methodology/>; `proc(5)`.

use std::fs;
use std::thread;
use std::time::Instant;

use super::Energy;

/// What a hardware thread of a processor that is not known takes, in watts.
pub(super) const WATTS_PER_THREAD: f64 = 4.0;

/// The seconds of the processor that this process has had, in all its threads.
pub(super) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What so many processes will take in some seconds on as many of these machines as are used, each at full load with
/// `cpu_watts`, or 4 W for each of its hardware threads. Each process holds `bytes` of memory.
pub(crate) fn planned(seconds: f64, cpu_watts: Option<f64>, machines: f64, processes: usize, bytes: u64) -> Energy {
    let watts = cpu_watts.unwrap_or_else(|| hardware_threads() * WATTS_PER_THREAD);
    Energy { cpu: watts * machines * seconds, memory: memory_watts(bytes) * processes as f64 * seconds, gpu: 0.0 }
}

fn hardware_threads() -> f64 {
    thread::available_parallelism().map_or(1.0, |threads| threads.get() as f64)
}

/// How busy this process keeps the machine.
#[derive(Debug)]
pub(crate) struct Load {
    threads: f64,
    seen: Instant,
    cpu_seconds: f64,
}

impl Load {
    /// Begins to look.
    pub(crate) fn new() -> Self {
        Self { threads: hardware_threads(), seen: Instant::now(), cpu_seconds: cpu_seconds() }
    }

    /// The machine's hardware threads.
    pub(super) fn threads(&self) -> f64 {
        self.threads
    }

    /// The seconds since it was last asked, and the share of them that this process kept all hardware threads at work.
    pub(crate) fn since(&mut self) -> (f64, f64) {
        let (now, had) = (Instant::now(), cpu_seconds());
        let seconds = now.duration_since(self.seen).as_secs_f64();
        let share = (had - self.cpu_seconds) / (seconds * self.threads).max(f64::MIN_POSITIVE);
        (self.seen, self.cpu_seconds) = (now, had);
        (seconds, share)
    }
}

/// The bytes of memory that this process holds. `None` where the system does not tell.
pub(crate) fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())?;
    Some(kibibytes.parse::<u64>().ok()? * 1024)
}

/// What memory of a size takes, in watts: by how many modules it would be, 5 W each on x86 and 1.5 W on ARM, each of many
/// somewhat less.
pub(super) fn memory_watts(bytes: u64) -> f64 {
    let (each, least) = if cfg!(target_arch = "aarch64") { (1.5, 3.0) } else { (5.0, 10.0) };
    let modules = modules(bytes as f64 / f64::from(1 << 30));
    // Of the first four, the next four, the next eight, and the rest.
    let parts = [(4, 1.0), (4, 0.9), (8, 0.8), (u32::MAX, 0.7)];
    let (_, watts) = parts.into_iter().fold((modules, 0.0), |(left, watts), (most, share)| {
        let these = left.min(most);
        (left - these, watts + f64::from(these) * each * share)
    });
    watts.max(least)
}

/// How many modules a memory of some gibibytes is likely to be.
fn modules(gibibytes: f64) -> u32 {
    match gibibytes {
        size if size <= 2.0 => 1,
        size if size <= 16.0 => 2,
        size if size <= 64.0 => 4,
        size if size <= 128.0 => 8,
        size => {
            let largest = [128.0, 64.0, 32.0, 16.0].into_iter().find(|module| *module <= size / 8.0).unwrap_or(16.0);
            (1..32).find(|count| f64::from(*count) * largest >= size).unwrap_or(32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn memory_takes_what_codecarbon_says() {
        // RAM()._calculate_ram_power(n) of CodeCarbon 3.3.2 on x86.
        for (gibibytes, watts) in MEMORY_WATTS {
            let got = memory_watts(gibibytes << 30);
            assert!((got - watts).abs() < 1e-9, "{gibibytes} GiB: {got} W, expected {watts} W");
        }
    }

    #[cfg(target_arch = "x86_64")]
    const MEMORY_WATTS: [(u64, f64); 14] = [
        (1, 10.0),
        (16, 10.0),
        (17, 20.0),
        (64, 20.0),
        (65, 38.0),
        (128, 38.0),
        (129, 42.0),
        (192, 54.0),
        (256, 38.0),
        (500, 70.0),
        (512, 38.0),
        (1500, 54.0),
        (2048, 70.0),
        (8192, 126.0),
    ];

    #[cfg(target_os = "linux")]
    #[test]
    fn work_takes_the_processors_time() {
        let before = cpu_seconds();
        let started = std::time::Instant::now();
        let mut sum = 0_u64;
        while started.elapsed() < std::time::Duration::from_millis(200) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let had = cpu_seconds() - before;
        // Other tests of this process work beside it, and other processes take their part.
        assert!(had >= 0.02, "{had}");
        assert!(memory_bytes().unwrap() > 1 << 20);
    }
}
