//! The files of forecasts.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Forecast, Part};
use crate::error::TrainError;

/// The files that are read.
#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    ElectricityMaps { forecast: Vec<Point> },
    CarbonAware(Vec<Location>),
}

#[derive(Deserialize)]
struct Point {
    #[serde(rename = "carbonIntensity")]
    intensity: f64,
    datetime: Timestamp,
}

#[derive(Deserialize)]
struct Location {
    #[serde(default)]
    location: String,
    #[serde(rename = "forecastData", alias = "dataPoints")]
    points: Vec<Lasting>,
}

#[derive(Deserialize)]
struct Lasting {
    timestamp: Timestamp,
    /// Minutes.
    duration: f64,
    value: f64,
}

/// How long the only point of a forecast without durations holds: they are hourly unless asked for otherwise.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl Forecast {
    /// Reads a forecast.
    ///
    /// # Errors
    /// [`TrainError::Read`]; [`TrainError::Run`] for a file that has another form, or no point.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
        let fail = |reason: String| TrainError::Run(format!("forecast {}: {reason}", path.display()));
        let expected = "expected the answer of Electricity Maps, {\"zone\", \"forecast\": [{\"carbonIntensity\", \
                        \"datetime\"}]}, or of the Carbon Aware SDK, [{\"forecastData\": [{\"timestamp\", \"duration\", \
                        \"value\"}]}], with times that say their zone";
        let json: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| fail(format!("no JSON: {e}; {expected}")))?;
        let parts = match File::deserialize(&json) {
            Ok(File::ElectricityMaps { forecast }) => until_the_next(forecast),
            Ok(File::CarbonAware(locations)) => {
                let names: Vec<&str> = locations.iter().map(|location| location.location.as_str()).collect();
                if names.len() > 1 {
                    let names = names.join(", ");
                    return Err(fail(format!("it is for several places ({names}), expected the one of the cluster")));
                }
                locations.into_iter().flat_map(|location| location.points).map(|point| lasting(&point)).collect()
            }
            Err(_) => return Err(fail(format!("of another form; {expected}"))),
        };
        if let Some(part) = parts.iter().find(|part| !(part.intensity.is_finite() && part.intensity >= 0.0)) {
            return Err(fail(format!("{} at {}, expected an intensity of 0 or more", part.intensity, part.start)));
        }
        let parts = in_order(parts);
        if parts.is_empty() {
            Err(fail("it has no point".to_owned()))
        } else {
            Ok(Self { path: path.to_owned(), parts })
        }
    }
}

/// Points that hold until the next one; the last as long as the one before it.
fn until_the_next(mut points: Vec<Point>) -> Vec<Part> {
    points.sort_by_key(|point| point.datetime);
    points.dedup_by_key(|point| point.datetime);
    let starts: Vec<Timestamp> = points.iter().map(|point| point.datetime).collect();
    let step = starts.windows(2).last().map_or(HOUR, |pair| pair[1].duration_since(pair[0]));
    let part = |(index, point): (usize, Point)| {
        let end = starts.get(index + 1).copied().or_else(|| point.datetime.checked_add(step).ok());
        Part { start: point.datetime, end: end.unwrap_or(point.datetime), intensity: point.intensity }
    };
    points.into_iter().enumerate().map(part).collect()
}

fn lasting(point: &Lasting) -> Part {
    let end = SignedDuration::try_from_secs_f64(60.0 * point.duration).ok().filter(|length| !length.is_negative());
    let end = end.and_then(|length| point.timestamp.checked_add(length).ok()).unwrap_or(point.timestamp);
    Part { start: point.timestamp, end, intensity: point.value }
}

/// By time, each cut where the next begins: the SDK's points are means of windows that overlap.
fn in_order(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.start);
    for index in 1..parts.len() {
        parts[index - 1].end = parts[index - 1].end.min(parts[index].start);
    }
    parts.retain(|part| part.end > part.start);
    parts
}
