use serde_json::json;

use super::*;
use crate::submit::{Resources, WallTime};

fn recipe(set: &[&str]) -> Recipe {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.yaml");
    let text = "model: {base: owner/name}\ndata: {train: [{path: /data/a.jsonl}]}\noutput: /runs/claims\n";
    std::fs::write(&path, text).unwrap();
    let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
    Recipe::load(&path, &set).unwrap().recipe
}

fn job() -> (Job, Kubernetes) {
    let job = Job {
        name: "Claims_2026".to_owned(),
        program: "greffon".into(),
        recipe: Path::new(RECIPE_FOLDER).join("recipe.yaml"),
        set: Vec::new(),
        environment: vec![("HF_HUB_OFFLINE".to_owned(), "1".to_owned())],
        resources: Resources {
            nodes: 1,
            ranks_per_node: 2,
            cpus_per_rank: 4,
            gpus_per_rank: 1,
            memory_per_rank: Some("8 GiB".parse().unwrap()),
        },
        time: Some(WallTime::from_seconds(3600)),
        grace_seconds: 90,
        max_restarts: 6,
    };
    let of = Kubernetes {
        image: "registry/greffon@sha256:0".to_owned(),
        namespace: Some("research".to_owned()),
        queue: Some("team".to_owned()),
        claims: vec!["runs:/runs".parse().unwrap(), "data:/data:ro".parse().unwrap()],
        secrets: vec!["HF_TOKEN=hub:token".parse().unwrap()],
        gpu_resource: "nvidia.com/gpu".to_owned(),
        runtime: "mpi".to_owned(),
    };
    (job, of)
}

/// The `ConfigMap` and the job.
fn documents(kind: Kind, job: &Job, of: &Kubernetes) -> (Value, Value) {
    let text = manifest(kind, job, &recipe(&[]), of).unwrap();
    let (config, rest) = text.split_once("\n---\n").unwrap();
    (serde_saphyr::from_str(config).unwrap(), serde_saphyr::from_str(rest).unwrap())
}

#[test]
fn the_recipe_travels_with_the_job() {
    let (job, of) = job();
    let (config, manifest) = documents(Kind::Job, &job, &of);
    assert_eq!(config["kind"], "ConfigMap");
    assert_eq!(config["metadata"]["name"], "claims-2026-recipe");
    assert_eq!(config["data"]["recipe.yaml"], recipe(&[]).resolved_yaml());
    let pod = &manifest["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0], json!({"name": "recipe", "configMap": {"name": "claims-2026-recipe"}}));
    assert_eq!(
        pod["containers"][0]["volumeMounts"][0],
        json!({"name": "recipe", "mountPath": "/etc/greffon", "readOnly": true})
    );
}

#[test]
fn a_job_starts_again_what_was_interrupted_and_leaves_what_is_over() {
    let (job, of) = job();
    let (_, manifest) = documents(Kind::Job, &job, &of);
    assert_eq!((&manifest["apiVersion"], &manifest["kind"]), (&json!("batch/v1"), &json!("Job")));
    assert_eq!(manifest["metadata"]["labels"][QUEUE_LABEL], "team");
    assert_eq!(manifest["metadata"]["namespace"], "research");
    let spec = &manifest["spec"];
    assert_eq!(spec["suspend"], true);
    assert_eq!(spec["completionMode"], "Indexed");
    assert_eq!(spec["backoffLimit"], 6);
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert_eq!(spec["activeDeadlineSeconds"], 3600);
    let rules = &spec["podFailurePolicy"]["rules"];
    let exit = |values: Value| json!({"containerName": "greffon", "operator": "In", "values": values});
    assert_eq!(rules[0], json!({"action": "Ignore", "onExitCodes": exit(json!([85]))}));
    assert_eq!(rules[1], json!({"action": "FailJob", "onExitCodes": exit(json!([1, 2, 3]))}));
    assert_eq!(rules[2]["onPodConditions"][0]["type"], "DisruptionTarget");

    let pod = &spec["template"]["spec"];
    // A failure policy is refused with any other.
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["terminationGracePeriodSeconds"], 90);
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "greffon");
    assert_eq!(container["command"], json!(["greffon"]));
    let launch = ["launch", "-n", "2", "--threads", "4", "train", "/etc/greffon/recipe.yaml", "--or-resume"];
    assert_eq!(container["args"], json!(launch));
    assert!(container.get("livenessProbe").is_none());
}

#[test]
fn what_a_pod_asks_for_is_that_of_all_its_ranks() {
    let (mut job, of) = job();
    let (_, manifest) = documents(Kind::Job, &job, &of);
    let resources = |manifest: &Value| manifest["spec"]["template"]["spec"]["containers"][0]["resources"].clone();
    let limits = json!({"memory": "17179869184", "nvidia.com/gpu": "2"});
    assert_eq!(resources(&manifest)["limits"], limits);
    assert_eq!(resources(&manifest)["requests"], json!({"cpu": "8", "memory": "17179869184", "nvidia.com/gpu": "2"}));
    job.resources =
        Resources { nodes: 1, ranks_per_node: 1, cpus_per_rank: 1, gpus_per_rank: 0, memory_per_rank: None };
    let (_, manifest) = documents(Kind::Job, &job, &of);
    assert_eq!(resources(&manifest), json!({"requests": {"cpu": "1"}}));
    assert_eq!(manifest["spec"]["template"]["spec"]["containers"][0]["args"][0], "train");
}

#[test]
fn secrets_are_named_and_volumes_are_claims() {
    let (job, of) = job();
    let (_, manifest) = documents(Kind::Job, &job, &of);
    let pod = &manifest["spec"]["template"]["spec"];
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let named = |name: &str| env.iter().find(|variable| variable["name"] == name).unwrap();
    assert_eq!(named("HF_TOKEN")["valueFrom"], json!({"secretKeyRef": {"name": "hub", "key": "token"}}));
    assert_eq!(named("GREFFON_REQUEUE_CODE")["value"], "85");
    assert_eq!(named("RAYON_NUM_THREADS")["value"], "4");
    assert_eq!(pod["volumes"][1], json!({"name": "claim-0", "persistentVolumeClaim": {"claimName": "runs"}}));
    assert_eq!(pod["volumes"][2]["persistentVolumeClaim"], json!({"claimName": "data", "readOnly": true}));
    assert_eq!(pod["volumes"][3]["emptyDir"], json!({"medium": "Memory"}));
}

#[test]
fn several_pods_find_the_first_of_them() {
    let (mut job, of) = job();
    job.resources.nodes = 3;
    job.resources.ranks_per_node = 1;
    let text = manifest(Kind::Job, &job, &recipe(&[]), &of).unwrap();
    let documents: Vec<Value> = text.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
    let [_, service, indexed] = &documents[..] else { panic!("{text}") };
    let (_, set) = self::documents(Kind::JobSet, &job, &of);
    let set_spec = &set["spec"]["replicatedJobs"][0]["template"]["spec"];
    let first = [(&indexed["spec"], "claims-2026-0.claims-2026"), (set_spec, "claims-2026-run-0-0.claims-2026")];
    for (spec, first) in first {
        assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(3), &json!(3)));
        let env = spec["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        let named = |name: &str| env.iter().find(|variable| variable["name"] == name).unwrap();
        let index = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
        assert_eq!(named("RANK")["valueFrom"]["fieldRef"]["fieldPath"], index);
        assert_eq!((&named("WORLD_SIZE")["value"], &named("LOCAL_RANK")["value"]), (&json!("3"), &json!("0")));
        assert_eq!((&named("MASTER_ADDR")["value"], &named("MASTER_PORT")["value"]), (&json!(first), &json!("29500")));
        assert_eq!(spec["template"]["spec"]["containers"][0]["args"][0], "train");
    }
    // The names of the pods of a job are those of its service, which must select them.
    assert_eq!((&service["kind"], &service["metadata"]["name"]), (&json!("Service"), &json!("claims-2026")));
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["selector"], json!({"batch.kubernetes.io/job-name": indexed["metadata"]["name"]}));
    assert_eq!(indexed["spec"]["template"]["spec"]["subdomain"], "claims-2026");
    assert_eq!(indexed["spec"]["backoffLimit"], 18);
    assert_eq!(set["spec"]["network"]["enableDNSHostnames"], true);
}

#[test]
fn a_job_set_starts_its_job_again() {
    let (job, of) = job();
    let (_, manifest) = documents(Kind::JobSet, &job, &of);
    assert_eq!((&manifest["apiVersion"], &manifest["kind"]), (&json!("jobset.x-k8s.io/v1alpha2"), &json!("JobSet")));
    assert_eq!(manifest["metadata"]["labels"][QUEUE_LABEL], "team");
    assert_eq!(manifest["spec"]["suspend"], true);
    assert_eq!(manifest["spec"]["failurePolicy"]["maxRestarts"], 6);
    let rule = &manifest["spec"]["failurePolicy"]["rules"][0];
    assert_eq!((&rule["action"], &rule["onJobFailureReasons"][0]), (&json!("FailJobSet"), &json!("PodFailurePolicy")));
    // No schema says so, the set's controller does: letters, digits, `_`, `,` and `:`.
    let name = rule["name"].as_str().unwrap();
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "_,:".contains(c)), "{name}");
    let template = &manifest["spec"]["replicatedJobs"][0]["template"];
    assert_eq!(template["spec"]["backoffLimit"], 0);
    assert!(template["spec"].get("suspend").is_none() && template["metadata"]["labels"].get(QUEUE_LABEL).is_none());
    assert_eq!(template["spec"]["template"]["spec"]["restartPolicy"], "Never");
}

#[test]
fn a_train_job_has_its_runtime_start_mpi() {
    let (mut job, of) = job();
    job.resources.nodes = 3;
    let (_, manifest) = documents(Kind::TrainJob, &job, &of);
    assert_eq!(manifest["apiVersion"], "trainer.kubeflow.org/v1alpha1");
    assert_eq!(manifest["metadata"]["labels"][QUEUE_LABEL], "team");
    let spec = &manifest["spec"];
    assert_eq!(spec["runtimeRef"], json!({"name": "mpi"}));
    let trainer = &spec["trainer"];
    assert_eq!((&trainer["numNodes"], &trainer["numProcPerNode"]), (&json!(3), &json!(2)));
    assert_eq!(trainer["command"], json!(["mpirun"]));
    let args: Vec<&str> = trainer["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(
        args.ends_with(&["-x", "HF_TOKEN", "greffon", "train", "/etc/greffon/recipe.yaml", "--or-resume"]),
        "{args:?}"
    );
    let patched = &spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"];
    for (index, name) in ["launcher", "node"].into_iter().enumerate() {
        let pod = &patched[index]["template"]["spec"]["template"]["spec"];
        assert_eq!(patched[index]["name"], name);
        assert_eq!(pod["containers"][0]["volumeMounts"][1], json!({"name": "claim-0", "mountPath": "/runs"}));
        assert_eq!(pod["volumes"][1]["persistentVolumeClaim"]["claimName"], "runs");
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Job, &mut Kubernetes), set: &[&str], words: &str) {
    let (mut job, mut of) = job();
    change(&mut job, &mut of);
    let error = manifest(Kind::Job, &job, &recipe(set), &of).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn what_the_pods_would_not_see_is_refused() {
    refused(
        |_, of| of.claims.truncate(1),
        &[],
        "`data.train[0].path` is /data/a.jsonl, where no volume of the pods is",
    );
    refused(|_, _| {}, &["output=/data/run"], "`output` is /data/run, but the pods can only read the claim data");
    refused(
        |_, _| {},
        &["output=/runs"],
        "`output` is /runs, the whole volume; name a folder in it, such as /runs/run",
    );
    refused(|_, _| {}, &["model.base=/models/base"], "`model.base` is /models/base, where no volume");
    refused(|_, of| of.claims.push("more:/runs".parse().unwrap()), &[], "two volumes at /runs");
    refused(
        |job, _| job.resources.nodes = 2,
        &[],
        "each a rank with a card, and this asks for --ranks-per-node 2 --gpus 1",
    );
    refused(|_, of| of.queue = Some("Team A".to_owned()), &[], "--queue: \"Team A\" is no name in Kubernetes");
}

#[test]
fn claims_and_secrets_are_read() {
    for bad in ["runs", "runs:rel", "runs:/", "Runs:/a", "runs:/a:rw", "runs:/a/../b", "runs:/a:ro:x", ":/a"] {
        assert!(bad.parse::<Claim>().is_err(), "{bad}");
    }
    let read: Claim = "data:/data:ro".parse().unwrap();
    assert_eq!((read.name.as_str(), read.read_only), ("data", true));
    for bad in ["HF_TOKEN", "HF_TOKEN=hf_abc", "=a:b", "A=b:", "A=:c"] {
        let error = bad.parse::<SecretVariable>().unwrap_err();
        assert!(!error.contains("hf_abc"), "{error}");
    }
}

#[test]
fn names_are_what_kubernetes_takes() {
    for (name, expected) in [("Claims_2026", "claims-2026"), ("2026", "run-2026"), ("é", "greffon"), ("a b.", "a-b")] {
        assert_eq!(object_name(name), expected);
        assert!(is_name(&object_name(name)));
    }
    assert!(object_name(&"x-".repeat(40)).len() <= 40);
}
