//! `trainer.kubeflow.org/v1alpha1` `TrainJob`: pods that an MPI runtime of Kubeflow Trainer joins.
//!
//! Restarts, the grace period and the failure policy are the runtime's; the run itself goes on with what its folder holds.
//!
//! Sources: the models of the Python package `kubeflow-trainer-api` 2.3; Kubeflow Trainer's MPI runtimes, whose replicated
//! jobs are `launcher` and `node` with a container `node` each.

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{Kubernetes, metadata, pod};
use crate::submit::{Job, WallTime};

/// Who makes the patches of the runtime.
const MANAGER: &str = "greffon/submit";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrainJob {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    spec: TrainJobSpec,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrainJobSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    suspend: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_deadline_seconds: Option<u64>,
    runtime_ref: Named,
    trainer: Trainer,
    runtime_patches: Vec<RuntimePatch>,
}

#[derive(Serialize)]
struct Named {
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trainer {
    image: String,
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<EnvVar>,
    num_nodes: u32,
    num_proc_per_node: u32,
    resources_per_node: ResourceRequirements,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimePatch {
    manager: &'static str,
    training_runtime_spec: Templated<Specified<JobSetPatch>>,
}

/// A patch of what lies under `template`.
#[derive(Serialize)]
struct Templated<T> {
    template: T,
}

/// A patch of what lies under `spec`.
#[derive(Serialize)]
struct Specified<T> {
    spec: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobSetPatch {
    replicated_jobs: Vec<ReplicatedJobPatch>,
}

#[derive(Serialize)]
struct ReplicatedJobPatch {
    name: &'static str,
    template: Specified<Templated<Specified<PodPatch>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodPatch {
    termination_grace_period_seconds: u32,
    volumes: Vec<Volume>,
    containers: Vec<ContainerPatch>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPatch {
    name: &'static str,
    volume_mounts: Vec<VolumeMount>,
}

pub(super) fn train_job(name: &str, job: &Job, of: &Kubernetes) -> TrainJob {
    let env = pod::environment(job, of);
    // What SSH starts in the other pods does not have the launcher's environment.
    let handed_on = env.iter().flat_map(|variable| ["-x".to_owned(), variable.name.clone()]);
    let bound = ["--bind-to", "none"].map(str::to_owned);
    let program = job.program.to_string_lossy().into_owned();
    let args = bound.into_iter().chain(handed_on).chain([program]).chain(job.arguments()).collect();
    let patch = |replicated: &'static str| ReplicatedJobPatch {
        name: replicated,
        template: Specified {
            spec: Templated {
                template: Specified {
                    spec: PodPatch {
                        termination_grace_period_seconds: job.grace_seconds,
                        volumes: pod::volumes(name, job, of),
                        containers: vec![ContainerPatch { name: "node", volume_mounts: pod::mounts(job, of) }],
                    },
                },
            },
        },
    };
    TrainJob {
        api_version: "trainer.kubeflow.org/v1alpha1",
        kind: "TrainJob",
        metadata: metadata(name, job, of, true),
        spec: TrainJobSpec {
            suspend: of.queue.as_ref().map(|_| true),
            active_deadline_seconds: job.time.map(WallTime::seconds),
            runtime_ref: Named { name: of.runtime.clone() },
            trainer: Trainer {
                image: of.image.clone(),
                command: vec!["mpirun".to_owned()],
                args,
                env,
                num_nodes: job.resources.nodes,
                num_proc_per_node: job.resources.ranks_per_node,
                resources_per_node: pod::resources(job, of),
            },
            runtime_patches: vec![RuntimePatch {
                manager: MANAGER,
                training_runtime_spec: Templated {
                    template: Specified {
                        spec: JobSetPatch { replicated_jobs: vec![patch("launcher"), patch("node")] },
                    },
                },
            }],
        },
    }
}
