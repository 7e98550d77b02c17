//! Starts over known series, and what is refused.

use jiff::{SignedDuration, Timestamp};

use super::Forecast;

/// A forecast as a file has it.
fn read(json: &serde_json::Value) -> Result<Forecast, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json.to_string()).unwrap();
    Forecast::read(file.path()).map_err(|error| error.to_string())
}

/// Electricity Maps' form: a point an hour from 10:00 on.
fn hourly(intensities: &[f64]) -> Forecast {
    let point = |(hour, intensity): (usize, &f64)| {
        serde_json::json!({
            "carbonIntensity": intensity,
            "datetime": format!("2026-11-{:02}T{:02}:00:00.000Z", 22 + (10 + hour) / 24, (10 + hour) % 24),
        })
    };
    let points: Vec<_> = intensities.iter().enumerate().map(point).collect();
    read(&serde_json::json!({ "zone": "FR", "forecast": points, "updatedAt": "2026-11-22T09:58:01.000Z" })).unwrap()
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}Z").parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[test]
fn the_start_is_where_the_mean_is_lowest() {
    let forecast = hourly(&[200.0, 180.0, 100.0, 60.0, 80.0, 300.0]);
    let now = at("22T10:15:00");
    let start = |seconds, within| forecast.start(now, seconds, hours(within)).unwrap();
    // An hour or less begins with the lowest point.
    assert_eq!((start(3600, 24).at, start(3600, 24).intensity), (at("22T13:00:00"), 60.0));
    assert_eq!(start(60, 24).wait_seconds, 2 * 3600 + 45 * 60);
    assert_eq!(start(3600, 24).told(), "starts 13:00 UTC (in 2 h 45 min): 60 g/kWh in place of 195 now");
    // Two hours: 13 to 15. An hour and a half has more of the lowest point and its cheaper side.
    assert_eq!((start(7200, 24).at, start(7200, 24).intensity), (at("22T13:00:00"), 70.0));
    assert!((start(5400, 24).intensity - (60.0 * 60.0 + 30.0 * 80.0) / 90.0).abs() < 1e-9);
    // Now: three quarters of an hour of the first point.
    assert!((start(3600, 24).intensity_now.unwrap() - 195.0).abs() < 1e-9);
    let cut = "the forecast does not reach further: starts within 4 h 45 min were looked at, not 24 h";
    assert_eq!((start(3600, 24).cut_told(hours(24)).as_deref(), start(3600, 2).cut_told(hours(2))), (Some(cut), None));
    // What is not within is not looked at: the latest start is the best one here.
    assert_eq!((start(3600, 2).at, start(3600, 2).within_seconds), (at("22T12:15:00"), 7200));
    assert!((start(3600, 2).intensity - (0.75 * 100.0 + 0.25 * 60.0)).abs() < 1e-9);
}

#[test]
fn a_job_that_ends_with_the_low_hours_begins_before_them() {
    let forecast = hourly(&[200.0, 100.0, 50.0, 200.0]);
    let start = forecast.start(at("22T10:00:00"), 5400, hours(24)).unwrap();
    assert_eq!(start.at, at("22T11:30:00"));
    assert!((start.intensity - (30.0 * 100.0 + 60.0 * 50.0) / 90.0).abs() < 1e-9);
}

#[test]
fn of_equal_starts_the_first_is_taken_and_now_is_no_wait() {
    let start = hourly(&[90.0; 5]).start(at("22T10:15:30"), 3600, hours(24)).unwrap();
    assert_eq!((start.wait_seconds, start.intensity_now), (0, Some(90.0)));
    assert_eq!(start.told(), "starts now: 90 g/kWh, and no start within 3 h 44 min has less");
    // Where the next hour is higher, now is best.
    assert_eq!(hourly(&[50.0, 90.0, 90.0]).start(at("22T10:00:00"), 3600, hours(24)).unwrap().wait_seconds, 0);
}

/// Every start to the minute, without a word of edges.
#[test]
fn no_other_minute_has_a_lower_mean() {
    let intensities: Vec<f64> = (0..30).map(|i| f64::from((i * 37 + 11) % 101)).collect();
    let forecast = hourly(&intensities);
    let now = at("22T10:17:00");
    for minutes in [5, 45, 60, 61, 150, 600] {
        let start = forecast.start(now, 60 * minutes, hours(24)).unwrap();
        let mean = |wait: u64| {
            let minute = |minute: u64| intensities[usize::try_from((17 + minute) / 60).unwrap()];
            (wait..wait + minutes).map(minute).sum::<f64>() / minutes as f64
        };
        let latest = (24 * 60).min(30 * 60 - 17 - minutes);
        let lowest = (0..=latest).map(mean).fold(f64::INFINITY, f64::min);
        assert!((start.intensity - lowest).abs() < 1e-9, "{minutes} min: {} and {lowest}", start.intensity);
        assert!((mean(start.wait_seconds / 60) - lowest).abs() < 1e-9, "{minutes} min");
    }
}

/// The example of the SDK's documentation, with windows of ten minutes every five.
#[test]
fn the_sdks_points_have_a_duration_and_a_zone() {
    let file = |key: &str| {
        serde_json::json!([{
            "generatedAt": "2026-11-22T09:55:00+00:00",
            "optimalDataPoints": [{ "location": "IE", "timestamp": "2026-11-22T11:10:00+01:00", "duration": 10, "value": 41.5 }],
            key: [
                { "location": "IE", "timestamp": "2026-11-22T11:00:00+01:00", "duration": 10, "value": 500.5 },
                { "location": "IE", "timestamp": "2026-11-22T11:05:00+01:00", "duration": 10, "value": 400.0 },
                { "location": "IE", "timestamp": "2026-11-22T11:10:00+01:00", "duration": 10, "value": 41.5 },
            ],
            "location": "northeurope",
        }])
    };
    for key in ["forecastData", "dataPoints"] {
        let start = read(&file(key)).unwrap().start(at("22T10:00:00"), 300, hours(1)).unwrap();
        assert_eq!((start.at, start.intensity, start.intensity_now), (at("22T10:10:00"), 41.5, Some(500.5)));
        // Ten minutes until the end of the last one.
        assert_eq!(start.within_seconds, 15 * 60);
    }
}

#[test]
fn what_cannot_be_used_is_told() {
    let forecast = hourly(&[100.0, 50.0, 200.0]);
    let refused = |now, seconds, within| forecast.start(at(now), seconds, within).unwrap_err().to_string();
    let error = refused("23T12:30:00", 60, hours(24));
    assert!(
        error.contains("it ended 23 h 30 min ago, at 2026-11-22 13:00 UTC") && error.ends_with("fetch it again"),
        "{error}"
    );
    let error = refused("22T12:30:00", 3600, hours(24));
    assert!(error.contains("planned for 1 h, and what is left of the forecast is 30 min"), "{error}");
    let error = refused("22T07:00:00", 60, hours(2));
    assert!(error.contains("it begins at") && error.contains("later than the job may wait"), "{error}");

    let point = serde_json::json!({ "carbonIntensity": 5, "datetime": "2026-11-22T10:00:00Z" });
    let location = serde_json::json!({ "location": "a", "forecastData": [] });
    for (file, expected) in [
        (serde_json::json!({ "zone": "FR" }), "of another form; expected the answer of Electricity Maps"),
        (serde_json::json!({ "forecast": [{ "datetime": "2026-11-22T10:00:00Z" }] }), "of another form"),
        (
            serde_json::json!({ "forecast": [{ "carbonIntensity": 5, "datetime": "2026-11-22T10:00:00" }] }),
            "their zone",
        ),
        (serde_json::json!({ "forecast": [] }), "it has no point"),
        (serde_json::json!([location, location]), "for several places (a, a)"),
        (
            serde_json::json!({ "forecast": [point, { "carbonIntensity": -1, "datetime": "2026-11-22T11:00:00Z" }] }),
            "-1 at 2026-11-22T11:00:00Z, expected an intensity of 0 or more",
        ),
    ] {
        let error = read(&file).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // One point is an hour.
    assert_eq!(read(&serde_json::json!({ "forecast": [point] })).unwrap().parts[0].end, at("22T11:00:00"));
}
