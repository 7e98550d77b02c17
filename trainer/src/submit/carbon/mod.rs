//! The hours in which the grid's electricity is low in carbon.
//!
//! A forecast is a file that somebody else fetched. Two forms are read: that of Electricity Maps, whose points stand for
//! the time up to the next one, and that of the Carbon Aware SDK of the Green Software Foundation, whose points have a
//! duration. Between two points the intensity is constant, so its mean over a job of a given length is lowest at a start
//! where the job begins or ends with a point, or at the ends of what is allowed: those are looked at, and no others.
//!
//! Sources: Electricity Maps API, `/v3/carbon-intensity/forecast`; Carbon Aware SDK, `/emissions/forecasts/current`.

mod read;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::error::TrainError;

/// A forecast of the carbon intensity of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    path: PathBuf,
    /// In order, without overlaps.
    parts: Vec<Part>,
}

/// A time of constant intensity.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    start: Timestamp,
    end: Timestamp,
    /// Grams of CO2 equivalents per kWh.
    intensity: f64,
}

/// When a job is to start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Start {
    /// The time.
    pub at: Timestamp,
    /// Seconds until then.
    pub wait_seconds: u64,
    /// The mean intensity while the job runs, in grams of CO2 equivalents per kWh.
    pub intensity: f64,
    /// That of a job that starts now; `None` where the forecast begins later.
    pub intensity_now: Option<f64>,
    /// The longest wait that was looked at, in seconds: what was asked for, or what the forecast allows.
    pub within_seconds: u64,
}

impl Forecast {
    /// The start, at most `within` from now, with the lowest mean intensity over a job of so many seconds; the first of
    /// several.
    ///
    /// # Errors
    /// [`TrainError::Run`] for a forecast that has ended, that begins later, or that is shorter than the job.
    pub fn start(&self, now: Timestamp, seconds: u64, within: SignedDuration) -> Result<Start, TrainError> {
        let fail = |reason: String| Err(TrainError::Run(format!("forecast {}: {reason}", self.path.display())));
        let (first, end) = (self.parts[0].start, self.parts[self.parts.len() - 1].end);
        let job = SignedDuration::from_secs(i64::try_from(seconds.max(1)).unwrap_or(i64::MAX));
        if end <= now {
            let ago = duration(now.duration_since(end));
            return fail(format!("it ended {ago} ago, at {}; fetch it again", clock(end, now)));
        }
        let longest = end.duration_since(now.max(first));
        if job > longest {
            return fail(format!(
                "the job is planned for {}, and what is left of the forecast is {}; expected a longer one, or a shorter \
                 --time",
                duration(job),
                duration(longest)
            ));
        }
        let within = within.min(end.duration_since(now) - job);
        let last = now + within;
        if last < first {
            return fail(format!(
                "it begins at {}, later than the job may wait; expected one from now on",
                clock(first, now)
            ));
        }
        let edges = self.parts.iter().flat_map(|part| [part.start, part.end]);
        let starts = edges.flat_map(|edge| [Some(edge), edge.checked_sub(job).ok()]).flatten().chain([now, last]);
        let mut starts: Vec<Timestamp> = starts.filter(|start| (now..=last).contains(start)).collect();
        starts.sort_unstable();
        let mut best: Option<(Timestamp, f64)> = None;
        for at in starts {
            let Some(mean) = self.mean(at, at + job) else { continue };
            // What rounding alone makes lower is not worth a wait.
            if best.is_none_or(|(_, lowest)| mean < lowest - 1e-9 * lowest.abs()) {
                best = Some((at, mean));
            }
        }
        let Some((at, intensity)) = best else {
            return fail("it has gaps, and none of its parts is as long as the job; expected one without".to_owned());
        };
        let whole = |duration: SignedDuration| u64::try_from(duration.as_secs()).unwrap_or(0);
        Ok(Start {
            at,
            // Not before it: a part of a second is waited for.
            wait_seconds: whole(at.duration_since(now) + SignedDuration::from_nanos(999_999_999)),
            intensity,
            intensity_now: self.mean(now, now + job),
            within_seconds: whole(within),
        })
    }

    /// The mean from one time to another; `None` where a part of it is not known.
    fn mean(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        let (mut known, mut sum) = (0.0, 0.0);
        for part in &self.parts {
            let overlap = part.end.min(to).duration_since(part.start.max(from)).as_secs_f64().max(0.0);
            known += overlap;
            sum += overlap * part.intensity;
        }
        let whole = to.duration_since(from).as_secs_f64();
        (known >= whole - 1e-3).then(|| sum / known)
    }
}

impl Start {
    /// What to tell where the forecast does not reach as far as was asked.
    pub fn cut_told(&self, asked: SignedDuration) -> Option<String> {
        let looked_at = SignedDuration::from_secs(i64::try_from(self.within_seconds).unwrap_or(i64::MAX));
        (looked_at.as_secs() < asked.as_secs()).then(|| {
            let (looked_at, asked) = (duration(looked_at), duration(asked));
            format!("the forecast does not reach further: starts within {looked_at} were looked at, not {asked}")
        })
    }

    /// What was chosen, and what it saves.
    pub fn told(&self) -> String {
        let Self { at, wait_seconds, intensity, intensity_now, within_seconds } = self;
        let lasting = |seconds: u64| duration(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)));
        if *wait_seconds == 0 {
            return format!(
                "starts now: {intensity:.0} g/kWh, and no start within {} has less",
                lasting(*within_seconds)
            );
        }
        let instead = intensity_now.map_or_else(String::new, |now| format!(" in place of {now:.0} now"));
        let now =
            i64::try_from(*wait_seconds).ok().and_then(|wait| at.checked_sub(SignedDuration::from_secs(wait)).ok());
        let clock = clock(*at, now.unwrap_or(*at));
        format!("starts {clock} (in {}): {intensity:.0} g/kWh{instead}", lasting(*wait_seconds))
    }
}

/// The time of day, with the day where it could be another's.
fn clock(at: Timestamp, now: Timestamp) -> String {
    let is_near = at.duration_since(now).abs() < SignedDuration::from_hours(20);
    at.strftime(if is_near { "%H:%M UTC" } else { "%F %H:%M UTC" }).to_string()
}

/// `3 h 40 min`.
fn duration(of: SignedDuration) -> String {
    let minutes = of.as_mins();
    match (minutes / 60, minutes % 60) {
        (0, 0) => "less than a minute".to_owned(),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
