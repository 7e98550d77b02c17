//! `jobset.x-k8s.io/v1alpha2` `JobSet`, around one Job.
//!
//! Source: the `JobSet` API, `api/jobset/v1alpha2/jobset_types.go`.

use k8s_openapi::api::batch::v1::JobTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{Kubernetes, job, labels, metadata};
use crate::submit::Job;

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
    failure_policy: FailurePolicy,
    replicated_jobs: Vec<ReplicatedJob>,
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
    let spec = job::spec(name, job, of, 0);
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
            failure_policy: FailurePolicy {
                max_restarts: job.max_restarts,
                // What the run itself ends with is the end of the set.
                rules: vec![FailurePolicyRule {
                    name: "runIsOver",
                    action: "FailJobSet",
                    on_job_failure_reasons: vec!["PodFailurePolicy", "DeadlineExceeded"],
                }],
            },
            replicated_jobs: vec![ReplicatedJob { name: "run", replicas: 1, template }],
        },
    }
}
