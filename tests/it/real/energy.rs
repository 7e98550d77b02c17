//! The estimate against CodeCarbon's of the same process at the same time.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::variable;
use crate::support::{greffon_command, tiny_recipe};

#[test]
fn a_budget_stops_a_run_within_two_per_cent() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("model.base={}", variable("GREFFON_SMOLLM2").display());
    let budget = 2e-4;
    let limit = format!("energy.max_kwh={budget}");
    let recipe = tiny_recipe(folder.path(), &[&model, "train.max_steps=2000", "energy.cpu_watts=100", &limit]);
    let done = greffon_command(&["train", &recipe, "--json"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let outcome: Value = serde_json::from_slice(&done.stdout).unwrap();
    let (kwh, steps) = (outcome["energy"]["kwh"].as_f64().unwrap(), &outcome["steps"]);
    println!("{kwh:.6e} kWh of {budget:e}, ratio {:.4}, after {steps} steps", kwh / budget);
    assert!(kwh <= 1.02 * budget, "{kwh:e} kWh of {budget:e}");
    assert_eq!(outcome["stopped_early"], true);
}

#[test]
fn the_estimate_is_within_a_tenth_of_codecarbons() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("model.base={}", variable("GREFFON_SMOLLM2").display());
    let set = [&model, "train.max_steps=30", "energy.cpu_watts=100", "energy.country=FRA"];
    let recipe = tiny_recipe(folder.path(), &set);
    let greffon = greffon_command(&["train", &recipe, "--json"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/codecarbon_of.py");
    let mut command = Command::new(variable("GREFFON_PEER_PYTHON"));
    command.arg(script).arg("100").arg(greffon.get_program()).args(greffon.get_args());
    command.envs(greffon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let info = std::fs::read(folder.path().join("run/run.json")).unwrap();
    let ours = serde_json::from_slice::<Value>(&info).unwrap()["energy"].clone();

    let parts = |part: &str| -> f64 {
        let stages = ours["stages"].as_object().unwrap().values();
        stages.map(|stage| stage[part].as_f64().unwrap()).sum::<f64>() / 3.6e6
    };
    let figures = [
        ("processor, kWh", parts("cpu"), theirs["cpu_kwh"].as_f64().unwrap()),
        ("memory, kWh", parts("memory"), theirs["memory_kwh"].as_f64().unwrap()),
        ("all, kWh", ours["kwh"].as_f64().unwrap(), theirs["kwh"].as_f64().unwrap()),
        ("kg CO2e", ours["grams_co2e"].as_f64().unwrap() / 1e3, theirs["kg_co2e"].as_f64().unwrap()),
    ];
    for (what, ours, theirs) in figures {
        println!("{what}: {ours:.6e}, CodeCarbon {theirs:.6e}, ratio {:.3}", ours / theirs);
    }
    println!("{}", ours["method"]);
    for (what, ours, theirs) in figures {
        assert!((ours / theirs - 1.0).abs() <= 0.1, "{what}: {ours:e}, CodeCarbon {theirs:e}");
    }
}
