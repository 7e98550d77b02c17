//! `greffon submit` through the real program, without a cluster: scripts, manifests, and what is said against arguments.

use std::path::Path;
use std::process::Output;

use jiff::Timestamp;

use crate::support::{greffon, greffon_command, tiny_recipe};

/// Runs `greffon submit` on the tiny recipe.
fn submit(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=4"]);
    greffon(&[&["submit", &recipe], arguments].concat())
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = submit(&[arguments, &["--print"]].concat());
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let Output { status, stdout, stderr } = submit(arguments);
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
    assert!(stdout.is_empty());
    for word in words {
        assert!(said.contains(word), "{arguments:?}: no `{word}` in: {said}");
    }
}

#[test]
fn the_script_takes_the_time_from_the_plan() {
    let script = printed(&["--slurm", "--partition", "cpu", "--begin", "off-peak", "--set", "train.seed=7"]);
    // The plan's few seconds, the margin, and ten minutes to start.
    assert!(
        ["00:10:00", "00:15:00"].iter().any(|time| script.contains(&format!("#SBATCH --time={time}\n"))),
        "{script}"
    );
    for line in ["#SBATCH --partition=cpu", "#SBATCH --begin=22:00", "#SBATCH --requeue"] {
        assert!(script.lines().any(|own| own == line), "no {line} in {script}");
    }
    assert!(script.contains(" --set train.seed=7 --or-resume\n"), "{script}");
    // The time that is given stands.
    assert!(printed(&["--slurm", "--time", "1-12"]).contains("#SBATCH --time=1-12:00:00\n"));
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    refused(&[], &["--slurm", "--k8s"]);
    refused(&["--slurm", "--time", "2h"], &["expected minutes, hours:minutes:seconds", "got \"2h\""]);
    refused(&["--slurm", "--image", "x"], &["cannot be used with"]);
    refused(&["--k8s", "job", "--image", "x", "--account", "y"], &["cannot be used with"]);
    refused(&["--slurm", "--env", "1X=2"], &["expected NAME=VALUE"]);
    refused(&["--slurm", "--time", "5", "--print", "--grace", "70000"], &["expected 1 to 65535 seconds"]);
}

#[test]
fn a_machine_without_slurm_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &[]);
    let mut command = greffon_command(&["submit", &recipe, "--slurm", "--time", "5"]);
    let out = command.env("PATH", folder.path()).output().expect("greffon starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("sbatch was not found; submit from a machine of the cluster"), "{said}");
    // Nothing is left of it, and nothing stands in the run's way.
    assert!(!folder.path().join("run").exists());
}

/// Electricity Maps' forecast of so many hours, from the hour that began so long ago: 187 g/kWh, and 41 in one of them.
fn forecast(folder: &Path, hours_ago: i64, hours: i64, low: i64) -> String {
    let now = Timestamp::now().as_second();
    let first = now - now % 3600 - 3600 * hours_ago;
    let at = |hour: i64| Timestamp::from_second(first + 3600 * hour).expect("a time").to_string();
    let points: Vec<_> = (0..hours)
        .map(|hour| serde_json::json!({ "carbonIntensity": if hour == low { 41 } else { 187 }, "datetime": at(hour) }))
        .collect();
    let path = folder.join("forecast.json");
    std::fs::write(&path, serde_json::json!({ "zone": "FR", "forecast": points }).to_string()).expect("a file");
    path.to_str().expect("plain path").to_owned()
}

#[test]
fn a_job_waits_for_the_hour_that_is_lowest_in_carbon() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = forecast(folder.path(), 0, 24, 4);
    let low = ["--slurm", "--print", "--time", "60", "--begin", "low-carbon", "--carbon", &path];
    let now = Timestamp::now().as_second();
    let Output { status, stdout, stderr } = submit(&low);
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{said}");
    let script = String::from_utf8_lossy(&stdout);
    let begin = script.lines().find_map(|line| line.strip_prefix("#SBATCH --begin=now+")).expect("a time to begin");
    let expected = now - now % 3600 + 4 * 3600 - now;
    let begin: i64 = begin.parse().expect("seconds");
    // The program's now is later, by the time that it takes.
    assert!((expected - 60..=expected).contains(&begin), "{begin}, expected {expected}");
    for words in [":00 UTC (in 3 h", "): 41 g/kWh in place of 187 now", "starts within 2", "were looked at, not 24 h"] {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
    // A wait that is not long enough for it, and one that is none.
    let soon = submit(&[&low[..], &["--within", "90min"]].concat());
    assert!(!String::from_utf8_lossy(&soon.stdout).contains("--begin"), "{soon:?}");
    assert!(
        String::from_utf8_lossy(&soon.stderr)
            .contains("starts now: 187 g/kWh, and no start within 1 h 30 min has less")
    );
}

#[test]
fn a_forecast_that_says_nothing_of_the_job_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let low = |carbon: &str, words: &[&str]| {
        refused(&["--slurm", "--print", "--time", "5:00:00", "--begin", "low-carbon", "--carbon", carbon], words);
    };
    low(&forecast(folder.path(), 30, 24, 4), &["forecast.json: it ended ", "fetch it again"]);
    low(&forecast(folder.path(), 0, 3, 4), &["the job is planned for 5 h, and what is left of the forecast is "]);
    let other = folder.path().join("other.json");
    std::fs::write(&other, "{\"data\": []}").expect("a file");
    low(other.to_str().expect("plain path"), &["other.json: of another form; expected the answer of Electricity Maps"]);
    std::fs::write(&other, "no").expect("a file");
    low(other.to_str().expect("plain path"), &["other.json: no JSON"]);
    low("nowhere.json", &["could not read nowhere.json"]);
    refused(&["--slurm", "--begin", "low-carbon"], &["--carbon"]);
    refused(&["--slurm", "--carbon", "f.json"], &["--begin"]);
    refused(&["--slurm", "--time", "5", "--begin", "20:00", "--carbon", "f.json"], &["--begin low-carbon` alone"]);
    refused(
        &["--slurm", "--begin", "low-carbon", "--carbon", "f.json", "--within", "12"],
        &["such as 12h, 90min or 2d"],
    );
}
