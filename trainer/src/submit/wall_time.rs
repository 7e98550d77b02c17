//! How long a job may take, as Slurm writes it.

use std::fmt;
use std::str::FromStr;

/// A time limit. It reads what Slurm reads: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
/// days-hours:minutes, days-hours:minutes:seconds; and writes `days-hours:minutes:seconds`.
///
/// Source: `sbatch(1)`, `--time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u64);

impl WallTime {
    /// So many seconds.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// How many seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl FromStr for WallTime {
    type Err = String;

    /// The error says what was expected.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || {
            format!(
                "expected minutes, hours:minutes:seconds or days-hours:minutes, such as 90 or 1-12:00, got \"{text}\""
            )
        };
        let (days, clock) = match text.split_once('-') {
            Some((days, clock)) => (Some(days), clock),
            None => (None, text),
        };
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { text.parse::<u64>().map_err(|_| fail()) } else { Err(fail()) }
        };
        let parts = clock.split(':').map(number).collect::<Result<Vec<u64>, String>>()?;
        let (hours, minutes, seconds) = match (days, &parts[..]) {
            (None, [minutes]) => (0, *minutes, 0),
            (None, [minutes, seconds]) => (0, *minutes, *seconds),
            (Some(_), [hours]) => (*hours, 0, 0),
            (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
            (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
            _ => return Err(fail()),
        };
        let days = days.map_or(Ok(0), number)?;
        let total = [(days, 86_400), (hours, 3_600), (minutes, 60), (seconds, 1)]
            .into_iter()
            .try_fold(0_u64, |sum, (count, unit)| sum.checked_add(count.checked_mul(unit)?));
        total.filter(|seconds| *seconds > 0).map(Self).ok_or_else(fail)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / 86_400, self.0 % 86_400);
        if days > 0 {
            write!(f, "{days}-")?;
        }
        write!(f, "{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_slurm_reads_them() {
        for (text, written) in [
            ("90", "01:30:00"),
            ("90:30", "01:30:30"),
            ("1:30:00", "01:30:00"),
            ("2-12", "2-12:00:00"),
            ("1-12:30", "1-12:30:00"),
            ("0-00:00:05", "00:00:05"),
        ] {
            let time: WallTime = text.parse().unwrap();
            assert_eq!(time.to_string(), written, "{text}");
            assert_eq!(written.parse(), Ok(time));
        }
        for bad in
            ["", "0", "1h", "-5", "1-", "1:2:3:4", "1-2:3:4:5", "+5", "99999999999999999999", "9999999999999999-1"]
        {
            let error = bad.parse::<WallTime>().unwrap_err();
            assert!(error.ends_with(&format!("such as 90 or 1-12:00, got \"{bad}\"")), "{error}");
        }
    }
}
