//! `greffon sweep`: every combination is a run, and they are put side by side.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{greffon, greffon_command, tiny_recipe};

fn sweep(recipe: &str, to: &Path, more: &[&str]) -> (Option<i32>, String, Value) {
    let to = to.to_str().expect("plain path");
    let out = greffon(&[&["sweep", recipe, "--to", to, "--json"], more].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code(), said, serde_json::from_slice(&out.stdout).unwrap_or_default())
}

fn of(trials: &Value, key: &str) -> Vec<Value> {
    trials["trials"].as_array().expect("trials").iter().map(|trial| trial[key].clone()).collect()
}

#[test]
fn a_grid_tries_all_and_is_not_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=8", "train.eval_every=4"]);
    let to = folder.path().join("sweep");
    let over = ["--over", "train.learning_rate=1e-2,1e-5", "--over", "lora.rank=2,4", "--jobs", "2"];
    let (code, said, found) = sweep(&recipe, &to, &over);
    assert_eq!(code, Some(0), "{said}");
    let losses: Vec<f64> = of(&found, "best").iter().map(|best| best[0].as_f64().expect("a loss")).collect();
    assert_eq!(losses.len(), 4);
    assert!(losses.is_sorted(), "the best first: {losses:?}");
    let points = of(&found, "point");
    assert!(points[..2].iter().all(|point| point[0] == "1e-2"), "the higher rate learns more in 8 steps: {points:?}");
    // A trial is the run that its recipe gives alone.
    let best = found["trials"][0]["folder"].as_str().expect("a folder").to_owned();
    let alone = format!("output={}", folder.path().join("alone").display());
    let rank = format!("lora.rank={}", points[0][1].as_str().expect("a rank"));
    let done = greffon(&["train", &recipe, "--set", &alone, "--set", "train.learning_rate=1e-2", "--set", &rank]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let adapter = |run: &Path| fs::read(run.join("adapter/adapter_model.safetensors")).expect("an adapter");
    assert_eq!(adapter(Path::new(&best)), adapter(&folder.path().join("alone")));
    let drawn = fs::read_to_string(to.join("sweep.svg")).expect("a plot");
    assert!(drawn.contains("train.learning_rate") && drawn.contains("lora.rank"));

    let changed = |name: &str| fs::metadata(Path::new(&best).join(name)).expect("a file").modified().expect("a time");
    let before = changed("metrics.jsonl");
    let (code, said, again) = sweep(&recipe, &to, &over);
    assert_eq!((code, again, changed("metrics.jsonl")), (Some(0), found, before), "{said}");
}

#[test]
fn halving_tries_the_best_of_few_steps_for_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=8", "train.eval_every=2"]);
    let rates = "train.learning_rate=1e-5,1e-2,1e-6,3e-3";
    let (code, said, found) = sweep(&recipe, &folder.path().join("sweep"), &["--over", rates, "--halving", "2"]);
    assert_eq!(code, Some(0), "{said}");
    let steps: Vec<u64> = of(&found, "max_steps").iter().map(|steps| steps.as_u64().expect("steps")).collect();
    assert_eq!(steps, [8, 4, 2, 2]);
    let rates: Vec<Value> = of(&found, "point").iter().map(|point| point[0].clone()).collect();
    assert!(["1e-2", "3e-3"].iter().all(|rate| rates[..2].contains(&(*rate).into())), "{rates:?}");
}

#[test]
fn what_cannot_be_compared_is_told_before_the_first_trial() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &[]);
    let to = folder.path().join("sweep");
    for (more, expected) in [
        (vec!["--over", "lora.rank=2,x"], "lora.rank"),
        (vec!["--over", "lora.rnk=2"], "rank"),
        (vec!["--over", "lora.rank=2..8"], "draw from it with --random N"),
        (vec!["--over", "lora.rank=2", "--set", "data.validation_fraction=0"], "no validation data"),
        (vec!["--over", "lora.rank=2", "--halving", "2"], "set train.max_steps"),
        (vec!["--over", "lora.rank"], "has no `=`"),
    ] {
        let (code, said, _) = sweep(&recipe, &to, &more);
        assert!(code == Some(2) && said.contains(expected), "{more:?}: {code:?} {said}");
    }
    assert!(!to.exists(), "nothing was begun");
}

#[test]
fn the_array_is_printed_and_nothing_is_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=8"]);
    let to = folder.path().join("my sweep");
    let to = to.to_str().expect("plain path");
    let always = ["sweep", &recipe, "--over", "lora.rank=2,4", "--over", "lora.targets=[q_proj, v_proj],all-linear"];
    let printed = |more: &[&str]| {
        let out = greffon(&[&always[..], &["--to", to, "--set", "train.seed=7", "--slurm", "--print"], more].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let script = printed(&["--jobs", "2", "--partition", "cpu", "--ranks-per-node", "2", "--time", "90"]);
    for line in [
        "#SBATCH --job-name='my sweep'".to_owned(),
        format!("#SBATCH --output='{to}/trial-%3a.log'"),
        "#SBATCH --array=1,2,3,4%2".to_owned(),
        "#SBATCH --partition=cpu".to_owned(),
        "#SBATCH --ntasks-per-node=2".to_owned(),
        "#SBATCH --time=01:30:00".to_owned(),
        "#SBATCH --requeue".to_owned(),
        format!("3) own=(--set lora.rank=4 --set 'lora.targets=[q_proj, v_proj]' --set 'output={to}/trial-003') ;;"),
    ] {
        assert!(script.lines().any(|own| own == line), "no {line} in {script}");
    }
    assert!(script.contains("recipe.yaml --set train.seed=7 --or-resume \"${own[@]}\"\n"), "{script}");
    // The longest trial's time, by the plan, and the steps of the first rung.
    let script = printed(&["--halving", "2"]);
    let times = ["00:10:00", "00:15:00"].map(|time| format!("#SBATCH --time={time}\n"));
    assert!(times.iter().any(|time| script.contains(time)), "{script}");
    for text in [&format!("'{to}/trial-%3a-2-steps.log'"), "#SBATCH --job-name='my sweep-2-steps'", "train.max_steps=2"]
    {
        assert!(script.contains(text), "no {text} in {script}");
    }
    assert!(!Path::new(to).exists(), "nothing was begun");
}

#[test]
fn what_is_slurms_alone_is_refused_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &[]);
    let to = folder.path().join("sweep");
    for more in [["--nodes", "2"], ["--partition", "cpu"], ["--begin", "off-peak"], ["--gpus", "1"]] {
        let (code, said, _) = sweep(&recipe, &to, &[&["--over", "lora.rank=2,4"], &more[..]].concat());
        assert!(code == Some(2) && said.contains("--slurm"), "{more:?}: {code:?} {said}");
    }
    // On a machine without Slurm.
    let to = to.to_str().expect("plain path");
    let arguments = ["sweep", &recipe, "--over", "lora.rank=2,4", "--to", to, "--slurm", "--time", "5"];
    let out = greffon_command(&arguments).env("PATH", folder.path()).output().expect("greffon starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("was not found; submit from a machine of the cluster"), "{said}");
}
