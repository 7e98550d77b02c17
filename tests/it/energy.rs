//! What a run took, and a budget that stops it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use trainer::track::{Line, Record, StepRecord, read_metrics};

use crate::support::{assert_near, greffon, greffon_command, signal, tiny_recipe};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a run's account says.
fn energy(run: &Path) -> Value {
    json(&run.join("run.json"))["energy"].clone()
}

/// The joules of a stage.
fn joules(energy: &Value, stage: &str) -> f64 {
    ["cpu", "memory", "gpu"].iter().map(|part| energy["stages"][stage][part].as_f64().unwrap_or(0.0)).sum()
}

fn steps(run: &Path) -> Vec<StepRecord> {
    let lines = read_metrics(run).unwrap().into_iter();
    lines.filter_map(|Line { record, .. }| if let Record::Step(step) = record { Some(step) } else { None }).collect()
}

#[track_caller]
fn done(arguments: &[&str]) -> String {
    let output = greffon(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_says_what_each_stage_took_and_what_that_emits() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=8", "energy.country=FRA", "energy.pue=1.5"]);
    let said = done(&["train", &recipe]);
    assert!(said.contains("energy: ") && said.contains(" g CO2e (mean of FRA in 2023"), "{said}");

    let run = folder.path().join("run");
    let account = energy(&run);
    let stages = ["data", "train", "evaluate", "export"];
    let check = |account: &Value| {
        let sum: f64 = stages.iter().map(|stage| joules(account, stage)).sum();
        let kwh = account["kwh"].as_f64().unwrap();
        assert_near("kWh", kwh, 1.5 * sum / 3.6e6, 1e-12);
        assert_near("g CO2e", account["grams_co2e"].as_f64().unwrap(), 56.039 * kwh, 1e-9);
    };
    check(&account);
    assert!(joules(&account, "data") > 0.0 && joules(&account, "train") > 0.0, "{account}");
    let kwh: Vec<f64> = steps(&run).iter().map(|step| step.kwh).collect();
    assert!(kwh.len() == 8 && kwh.is_sorted() && kwh[0] > 0.0, "{kwh:?}");
    assert!(kwh[7] <= account["kwh"].as_f64().unwrap());
    let tokens: usize = steps(&run).iter().map(|step| step.tokens).sum();
    let per_million = 1.5 * joules(&account, "train") / 3.6e6 / (tokens as f64 / 1e6);
    assert_near("kWh of a million tokens", account["kwh_per_million_tokens"].as_f64().unwrap(), per_million, 1e-9);

    // What follows the run is booked too.
    let run_name = run.to_str().unwrap();
    done(&["export", run_name, "--to", folder.path().join("adapter").to_str().unwrap()]);
    let exported = energy(&run);
    check(&exported);
    assert!(joules(&exported, "export") > 0.0);
    done(&[
        "eval",
        run_name,
        "--limit",
        "2",
        "--set",
        &format!("eval.test=[{{path: {}}}]", folder.path().join("train.jsonl").display()),
    ]);
    let evaluated = energy(&run);
    check(&evaluated);
    assert!(joules(&evaluated, "evaluate") > joules(&exported, "evaluate"));
}

#[test]
fn a_budget_stops_a_run_before_it_is_spent_and_the_run_has_its_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=2000", "train.eval_every=2000"]);
    let half = folder.path().join("half");
    done(&["train", &recipe, "--set", "train.max_steps=1000", "--set", &format!("output={}", half.display())]);
    let budget = energy(&half)["kwh"].as_f64().unwrap();

    let said = done(&["train", &recipe, "--set", &format!("energy.max_kwh={budget}")]);
    assert!(said.contains("stopped before it took more than energy.max_kwh"), "{said}");
    let run = folder.path().join("run");
    // Of a run as short as this, writing the adapter is a part that counts.
    let steps = steps(&run);
    let kwh = steps.last().unwrap().kwh;
    assert!((0.9 * budget..=1.02 * budget).contains(&kwh), "{kwh} kWh of {budget}");
    assert!(steps.len() < 2000);
    assert_eq!(json(&run.join("run.json"))["status"], "finished");
    assert!(run.join("adapter/adapter_model.safetensors").is_file());
}

#[test]
fn a_resumed_run_goes_on_with_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=600"]);
    let run = folder.path().join("run");
    let mut child = greffon_command(&["train", &recipe]).spawn().unwrap();
    let start = Instant::now();
    while steps(&run).len() < 20 {
        assert!(start.elapsed() < Duration::from_mins(1), "the run makes no steps");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal("INT", [child.id()]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let before = energy(&run);
    assert!(joules(&before, "train") > 0.0);

    done(&["train", "--resume", run.to_str().unwrap()]);
    let after = energy(&run);
    for stage in ["data", "train"] {
        assert!(joules(&after, stage) > joules(&before, stage), "{stage}: {before} then {after}");
    }
    let kwh: Vec<f64> = steps(&run).iter().map(|step| step.kwh).collect();
    assert!(kwh.len() == 600 && kwh.is_sorted());
}

#[test]
fn a_plan_says_what_a_run_will_take() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["energy.cpu_watts=100", "energy.grams_per_kwh=50", "energy.pue=1.2"];
    let recipe = tiny_recipe(folder.path(), &set);
    let plan: Value = serde_json::from_str(&done(&["plan", &recipe, "--json"])).unwrap();
    let seconds = plan["total_seconds"].as_f64().unwrap();
    // 10 W of memory, as CodeCarbon has it for less than 16 GiB.
    let kwh = 1.2 * 110.0 * seconds / 3.6e6;
    assert_near("kWh", plan["kwh"].as_f64().unwrap(), kwh, 1e-6 * kwh);
    assert_near("g CO2e", plan["grams_co2e"].as_f64().unwrap(), 50.0 * kwh, 1e-4 * kwh);
    let card = "plan.device={tflops: 10, bandwidth: 500, memory: 16 GiB, watts: 300}";
    let plan: Value = serde_json::from_str(&done(&["plan", &recipe, "--json", "--set", card])).unwrap();
    let kwh = 1.2 * 300.0 * plan["total_seconds"].as_f64().unwrap() / 3.6e6;
    assert_near("kWh of a card", plan["kwh"].as_f64().unwrap(), kwh, 1e-6 * kwh);
}
