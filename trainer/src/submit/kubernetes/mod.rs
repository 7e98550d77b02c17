//! A job as a manifest for Kubernetes: a Job, a `JobSet`, or a `TrainJob` of Kubeflow Trainer.
//!
//! The recipe travels in a `ConfigMap`, resolved; everything that it names must lie on a volume. `pod` makes the pod that
//! all three share; `job`, `job_set` and `train_job` put it into their kind. A build of this program speaks to no cluster:
//! what it writes is for `kubectl apply`.

mod job;
mod job_set;
mod pod;
mod train_job;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::{Job, Resources};
use crate::error::TrainError;
use crate::recipe::Recipe;

/// The label by which Kueue knows the local queue of a job.
///
/// Source: Kueue, "Run a Job".
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
/// The folder in which a pod finds its recipe.
pub const RECIPE_FOLDER: &str = "/etc/greffon";

/// The kinds of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `batch/v1` Job: indexed pods, which join each other over NCCL where there are several.
    Job,
    /// `jobset.x-k8s.io/v1alpha2` `JobSet`: the same, started again together.
    JobSet,
    /// `trainer.kubeflow.org/v1alpha1` `TrainJob`: pods that the runtime joins over MPI.
    TrainJob,
}

/// What Kubernetes alone has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The container image.
    pub image: String,
    /// The namespace; that of `kubectl` where it is not given.
    pub namespace: Option<String>,
    /// Kueue's local queue.
    pub queue: Option<String>,
    /// Volumes.
    pub claims: Vec<Claim>,
    /// Variables from secrets.
    pub secrets: Vec<SecretVariable>,
    /// The resource's name of a GPU.
    pub gpu_resource: String,
    /// Kubeflow's runtime.
    pub runtime: String,
}

/// A volume by its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the claim.
    pub name: String,
    /// Where the pods see it; absolute.
    pub path: PathBuf,
    /// Whether they can only read it.
    pub read_only: bool,
}

impl FromStr for Claim {
    type Err = String;

    /// The error says what was expected.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || format!("expected CLAIM:/PATH or CLAIM:/PATH:ro, got \"{text}\"");
        let mut parts = text.split(':');
        let (Some(name), Some(path), mode, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(fail());
        };
        let path = PathBuf::from(path);
        let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !is_name(name)
            || !path.is_absolute()
            || !is_plain
            || path.parent().is_none()
            || !matches!(mode, None | Some("ro"))
        {
            return Err(fail());
        }
        Ok(Self { name: name.to_owned(), path, read_only: mode.is_some() })
    }
}

/// An environment variable from a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVariable {
    /// The variable.
    pub name: String,
    /// The secret.
    pub secret: String,
    /// Its key.
    pub key: String,
}

impl FromStr for SecretVariable {
    type Err = String;

    /// The error says what was expected. It does not repeat the text, which may be a secret given by mistake.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = || {
            let (name, of) = text.split_once('=')?;
            let (secret, key) = of.split_once(':')?;
            let is_plain = |text: &str, more: &str| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            };
            (is_plain(name, "_") && is_name(secret) && is_plain(key, "-_.")).then_some((name, secret, key))
        };
        let (name, secret, key) = split().ok_or("expected NAME=SECRET:KEY, the name of a secret and a key in it")?;
        Ok(Self { name: name.to_owned(), secret: secret.to_owned(), key: key.to_owned() })
    }
}

/// Whether Kubernetes takes a text as the name of an object (RFC 1123).
fn is_name(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 253
        && is_end(text.chars().next())
        && is_end(text.chars().last())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
}

/// The manifest of a job: the `ConfigMap` with its recipe, the service by which several pods find each other, then the
/// job.
///
/// # Errors
/// [`TrainError::Run`] for what the pods would not see, for names that Kubernetes does not take, and for several pods of a
/// kind that cannot join them.
///
/// # Panics
/// Never: manifests are plain data.
pub fn manifest(kind: Kind, job: &Job, recipe: &Recipe, of: &Kubernetes) -> Result<String, TrainError> {
    check(kind, job, recipe, of)?;
    let name = object_name(&job.name);
    let config = ConfigMap {
        metadata: metadata(&format!("{name}-recipe"), job, of, false),
        data: Some(BTreeMap::from([("recipe.yaml".to_owned(), recipe.resolved_yaml())])),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    let of_kind = match kind {
        Kind::Job => yaml(&job::job(&name, job, of)),
        Kind::JobSet => yaml(&job_set::job_set(&name, job, of)),
        Kind::TrainJob => yaml(&train_job::train_job(&name, job, of)),
    };
    let service = (kind == Kind::Job && job.resources.nodes > 1).then(|| pod::service(&name, job, of));
    let documents = [Some(yaml(&config)), service.map(|service| yaml(&service)), Some(of_kind)];
    Ok(documents.into_iter().flatten().collect::<Vec<_>>().join("---\n"))
}

fn yaml(document: &impl Serialize) -> String {
    let value = serde_json::to_value(document).expect("a manifest is plain data");
    let text = serde_saphyr::to_string(&value).expect("JSON is YAML");
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn check(kind: Kind, job: &Job, recipe: &Recipe, of: &Kubernetes) -> Result<(), TrainError> {
    let fail = |reason: String| Err(TrainError::Run(reason));
    let Resources { nodes, ranks_per_node, gpus_per_rank, .. } = job.resources;
    if kind != Kind::TrainJob && nodes > 1 && (gpus_per_rank != 1 || ranks_per_node != 1) {
        return fail(format!(
            "--nodes is {nodes}: pods of this kind are joined over NCCL, each a rank with a card, and this asks for \
             --ranks-per-node {ranks_per_node} --gpus {gpus_per_rank}; ask for one of each, or use `--k8s trainjob`, or \
             several ranks in one pod"
        ));
    }
    for (option, name) in
        [("--namespace", &of.namespace), ("--queue", &of.queue), ("--runtime", &Some(of.runtime.clone()))]
    {
        if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
            return fail(format!(
                "{option}: {name:?} is no name in Kubernetes, expected lower-case letters, digits, `-` and `.`"
            ));
        }
    }
    let mut paths: Vec<&Path> = of.claims.iter().map(|claim| claim.path.as_path()).collect();
    paths.sort_unstable();
    if let Some(twice) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return fail(format!("--claim: two volumes at {}", twice[0].display()));
    }
    for (key, path) in absolute_paths(recipe) {
        let Some(claim) =
            of.claims.iter().filter(|claim| path.starts_with(&claim.path)).max_by_key(|c| c.path.as_os_str().len())
        else {
            return fail(format!(
                "`{key}` is {}, where no volume of the pods is; name it in the recipe, or with --set, as the pods see it, and \
                 its volume with --claim",
                path.display()
            ));
        };
        if key == "output" && claim.read_only {
            return fail(format!(
                "`output` is {}, but the pods can only read the claim {}",
                path.display(),
                claim.name
            ));
        }
        if key == "output" && path == claim.path {
            return fail(format!(
                "`output` is {}, the whole volume; name a folder in it, such as {}",
                path.display(),
                path.join("run").display()
            ));
        }
    }
    Ok(())
}

/// The paths that a resolved recipe names, with their keys.
fn absolute_paths(recipe: &Recipe) -> Vec<(String, PathBuf)> {
    fn walk(key: &str, value: &Value, found: &mut Vec<(String, PathBuf)>) {
        match value {
            Value::Object(entries) => {
                for (name, value) in entries {
                    let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    walk(&key, value, found);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(&format!("{key}[{index}]"), item, found);
                }
            }
            // A resolved recipe's paths are absolute, and nothing else in it begins like one.
            Value::String(text) if text.starts_with('/') => found.push((key.to_owned(), text.into())),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", &serde_json::to_value(recipe).expect("a recipe is plain data"), &mut found);
    found
}

/// The name of the objects for a run folder; short enough for what Kubernetes puts behind it.
fn object_name(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(40).collect();
    let plain = plain.trim_matches('-');
    // The name of a service must not begin with a digit.
    match plain.chars().next() {
        None => "greffon".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("run-{plain}"),
        Some(_) => plain.to_owned(),
    }
}

fn metadata(name: &str, job: &Job, of: &Kubernetes, is_queued: bool) -> ObjectMeta {
    let mut labels = labels(job);
    if is_queued && let Some(queue) = &of.queue {
        labels.insert(QUEUE_LABEL.to_owned(), queue.clone());
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: of.namespace.clone(),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

/// Kubernetes' recommended labels.
fn labels(job: &Job) -> BTreeMap<String, String> {
    [("name", "greffon".to_owned()), ("instance", object_name(&job.name)), ("managed-by", "greffon".to_owned())]
        .into_iter()
        .map(|(label, value)| (format!("app.kubernetes.io/{label}"), value))
        .collect()
}

#[cfg(test)]
mod tests;
