//! `greffon submit` through the real program, without a cluster: scripts, manifests, and what is said against arguments.

use std::process::Output;

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
