//! Manifests against Kubernetes' own schemas and Kubeflow's own models, offline. No cluster has seen them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::variable;
use crate::support::greffon;

/// A recipe as pods see it, and its manifest of this kind.
fn manifest(folder: &Path, kind: &str, more: &[&str]) -> String {
    let recipe = folder.join("recipe.yaml");
    let text = "model: {base: HuggingFaceTB/SmolLM2-135M-Instruct}\ndata: {train: [{path: /data/train.jsonl}]}\n\
                output: /runs/claims\n";
    std::fs::write(&recipe, text).expect("a file");
    let always = [
        "submit",
        recipe.to_str().expect("plain path"),
        "--k8s",
        kind,
        "--image",
        "registry.example/greffon@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "--claim",
        "runs:/runs",
        "--claim",
        "data:/data:ro",
        "--secret-env",
        "HF_TOKEN=hub:token",
        "--env",
        "HF_HUB_OFFLINE=1",
        "--print",
    ];
    let out = greffon(&[&always, more].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// What the ring's own script says of a manifest: whether it is valid, and what was said.
fn validated(manifest: &str) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/validate_manifest.py");
    let mut python = Command::new(variable("GREFFON_PEER_PYTHON"));
    let python = python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().expect("Python starts");
    python.stdin.take().expect("it is piped").write_all(manifest.as_bytes()).expect("it reads");
    let out = python.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.success(), said)
}

#[test]
fn manifests_are_valid_by_the_schemas() {
    let folder = tempfile::tempdir().expect("a folder");
    let everything =
        ["--ranks-per-node", "2", "--cpus-per-rank", "4", "--gpus", "1", "--memory", "8 GiB", "--time", "2:00:00"];
    let queued = ["--queue", "team", "--namespace", "research"];
    let pods = ["--nodes", "4", "--gpus", "1", "--queue", "team"];
    for kind in ["job", "jobset", "trainjob"] {
        for more in [&[][..], &everything, &queued, &[everything.as_slice(), &queued].concat(), &pods] {
            let text = manifest(folder.path(), kind, more);
            let (valid, said) = validated(&text);
            assert!(valid, "{kind} {more:?}: {said}\n{text}");
            assert!(said.contains("ConfigMap: valid") && said.matches(": valid").count() >= 2, "{said}");
        }
    }
}

#[test]
fn what_is_not_valid_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, right, wrong) in [
        ("job", "backoffLimit: 10", "backoffLimit: ten"),
        ("job", "restartPolicy: Never", "restartPolice: Never"),
        ("jobset", "maxRestarts: 10", "maxRestart: 10"),
        ("jobset", "secretKeyRef:", "secretKey:"),
        ("trainjob", "numNodes: 1", "numNodes: one"),
        ("trainjob", "runtimePatches:", "runtimePatch:"),
        ("trainjob", "persistentVolumeClaim:", "persistentVolume:"),
    ] {
        let text = manifest(folder.path(), kind, &[]);
        assert!(text.contains(right), "{kind}: no `{right}` in {text}");
        let (valid, said) = validated(&text.replacen(right, wrong, 1));
        assert!(!valid, "{kind}: {wrong} is taken for valid: {said}");
    }
}
