//! `jobset.x-k8s.io/v1alpha2` `JobSet`, around one Job.
//!
//! Source: the `JobSet` API, `api/jobset/v1alpha2/jobset_types.go`.

use k8s_openapi::api::batch::v1::JobTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{Kubernetes, job, labels, metadata};
use crate::submit::Job;

/// The replicated job.
const RUN: &str = "run";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobSet {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    spec: JobSetSpec,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobSetSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    suspend: Option<bool>,
    network: Network,
    failure_policy: FailurePolicy,
    replicated_jobs: Vec<ReplicatedJob>,
}

/// Names in the cluster's network, by which the pods find the first of them.
#[derive(Serialize)]
struct Network {
    #[serde(rename = "enableDNSHostnames")]
    enable_dns_hostnames: bool,
    #[serde(rename = "publishNotReadyAddresses")]
    publish_not_ready_addresses: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailurePolicy {
    max_restarts: u32,
    rules: Vec<FailurePolicyRule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailurePolicyRule {
    name: &'static str,
    action: &'static str,
    on_job_failure_reasons: Vec<&'static str>,
}

#[derive(Serialize)]
struct ReplicatedJob {
    name: &'static str,
    replicas: u32,
    template: JobTemplateSpec,
}

pub(super) fn job_set(name: &str, job: &Job, of: &Kubernetes) -> JobSet {
    // The set starts its jobs again, so the job itself does not; an interruption, which the job does not count, it makes
    // up for itself.
    // The set names the pods after itself, the replicated job, and two numbers.
    let first = format!("{name}-{RUN}-0-0.{name}");
    let spec = job::spec(name, job, of, 0, (job.resources.nodes > 1).then_some(first.as_str()));
    let template = JobTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels(job)), ..ObjectMeta::default() }),
        spec: Some(spec),
    };
    JobSet {
        api_version: "jobset.x-k8s.io/v1alpha2",
        kind: "JobSet",
        metadata: metadata(name, job, of, true),
        spec: JobSetSpec {
            suspend: of.queue.as_ref().map(|_| true),
            network: Network { enable_dns_hostnames: true, publish_not_ready_addresses: true },
            failure_policy: FailurePolicy {
                max_restarts: job.max_restarts,
                // What the run itself ends with is the end of the set.
                rules: vec![FailurePolicyRule {
                    name: "runIsOver",
                    action: "FailJobSet",
                    on_job_failure_reasons: vec!["PodFailurePolicy", "DeadlineExceeded"],
                }],
            },
            replicated_jobs: vec![ReplicatedJob { name: RUN, replicas: 1, template }],
        },
    }
}
