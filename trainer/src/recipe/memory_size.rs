//! A size of memory with its unit: `2 GiB`, `1.5GB`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes with its unit, such as 2 GiB or 1.5GB: B, KB, MB, GB, TB count in thousands, KiB, MiB, GiB, TiB in
/// 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct MemorySize(u64);

/// The units, from the largest, those of 1024 first: as many bytes are written with the first that leaves no rest.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl MemorySize {
    /// So many bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for MemorySize {
    type Err = String;

    /// The error says what was expected.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || format!("expected a number with a unit, such as 2 GiB or 1.5GB, got the text \"{text}\"");
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(fail)?;
        let (number, unit) = (text[..unit_at].trim(), text[unit_at..].trim());
        let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(fail)?.1;
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(unit).map(Self).ok_or_else(fail);
        }
        let is_decimal =
            number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let bytes = number.parse::<f64>().ok().filter(|_| is_decimal).ok_or_else(fail)? * unit as f64;
        if bytes >= u64::MAX as f64 {
            return Err(fail());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was just checked")]
        Ok(Self(bytes.round() as u64))
    }
}

impl TryFrom<String> for MemorySize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MemorySize> for String {
    fn from(size: MemorySize) -> Self {
        size.to_string()
    }
}

/// Exact, so that it reads back to the same number of bytes.
impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_spellings_are_read() {
        for (text, bytes) in [
            ("2 GiB", 2 << 30),
            ("2GiB", 2 << 30),
            ("1.5GB", 1_500_000_000),
            ("512 mib", 512 << 20),
            ("0.5 TB", 500_000_000_000),
            ("4096 B", 4096),
            ("1 KB", 1000),
            ("0 B", 0),
        ] {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "2", "GiB", "-1 GB", "1e3 MB", "inf GB", "nan GB", "2 G", "2 GiB x", "99999999999 TiB", "1 2 GB"]
        {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes: u64) {
            prop_assert_eq!(MemorySize(bytes).to_string().parse(), Ok(MemorySize(bytes)));
        }
    }
}
