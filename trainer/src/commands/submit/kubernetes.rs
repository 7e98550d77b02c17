//! Writing a manifest for Kubernetes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, print};

use super::{job, load};
use crate::cli::{Kind, SubmitArgs};
use crate::error::TrainError;
use crate::submit::Job;
use crate::submit::kubernetes::{self, Kubernetes, RECIPE_FOLDER};

/// The runtime of Kubeflow Trainer that a train job names by default: of those that it brings along, one that starts Open
/// MPI.
const RUNTIME: &str = "deepspeed-distributed";

pub(super) fn write(args: &SubmitArgs, kind: Kind) -> anyhow::Result<ExitCode> {
    // What the recipe names lies where the pods see it, so nothing is looked for here.
    let loaded = load(args)?;
    let program = args.resources.program.clone().unwrap_or_else(|| PathBuf::from("greffon"));
    let name = Job::name_of(&loaded.recipe.output);
    // The values that were set are in the resolved recipe.
    let job = job(&args.resources, name, program, Path::new(RECIPE_FOLDER).join("recipe.yaml"), &[]);
    let of = &args.of_kubernetes;
    let (kind, default_runtime) = match kind {
        Kind::Job => (kubernetes::Kind::Job, None),
        Kind::JobSet => (kubernetes::Kind::JobSet, None),
        Kind::TrainJob => (kubernetes::Kind::TrainJob, Some(RUNTIME)),
    };
    if default_runtime.is_none() && of.runtime.is_some() {
        return Err(TrainError::Run("--runtime is for `--k8s trainjob` alone".to_owned()).into());
    }
    let kubernetes = Kubernetes {
        image: of.image.clone().unwrap_or_default(),
        namespace: of.namespace.clone(),
        queue: of.queue.clone(),
        claims: read("--claim", &of.claim)?,
        secrets: read("--secret-env", &of.secret_env)?,
        gpu_resource: of.gpu_resource.clone(),
        runtime: of.runtime.clone().unwrap_or_else(|| RUNTIME.to_owned()),
    };
    let manifest = kubernetes::manifest(kind, &job, &loaded.recipe, &kubernetes)?;
    match &of.to {
        Some(path) => {
            adapters::write_atomic(path, false, |out| out.write_all(manifest.as_bytes())).map_err(TrainError::from)?;
            eprintln!("next: kubectl apply --filename {}", path.display());
        }
        None => print!("{manifest}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn read<T: std::str::FromStr<Err = String>>(option: &str, texts: &[String]) -> Result<Vec<T>, TrainError> {
    texts.iter().map(|text| text.parse().map_err(|error| TrainError::Run(format!("{option}: {error}")))).collect()
}
