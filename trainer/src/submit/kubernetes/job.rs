//! `batch/v1` Job: one pod, started again by what its exit code means.
//!
//! Source: Kubernetes, "Handling retriable and non-retriable pod failures with Pod failure policy".

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};

use super::pod::{CONTAINER, template};
use super::{Kubernetes, metadata};
use crate::submit::{self, LAST_OF_ITS_OWN, REQUEUE_CODE};

pub(super) fn job(name: &str, job: &submit::Job, of: &Kubernetes) -> Job {
    let backoff = i32::try_from(job.max_restarts).unwrap_or(i32::MAX);
    let spec = JobSpec { suspend: of.queue.as_ref().map(|_| true), ..spec(name, job, of, backoff) };
    Job { metadata: metadata(name, job, of, true), spec: Some(spec), status: None }
}

/// The specification of the one pod; after `backoff` failures that count, it is over.
pub(super) fn spec(name: &str, job: &submit::Job, of: &Kubernetes, backoff: i32) -> JobSpec {
    JobSpec {
        completion_mode: Some("Indexed".to_owned()),
        completions: Some(1),
        parallelism: Some(1),
        backoff_limit: Some(backoff),
        // Two pods must not write to one run folder: the next starts when the last is gone.
        pod_replacement_policy: Some("Failed".to_owned()),
        active_deadline_seconds: job.time.map(|time| i64::try_from(time.seconds()).unwrap_or(i64::MAX)),
        pod_failure_policy: Some(failure_policy()),
        template: template(name, job, of),
        ..JobSpec::default()
    }
}

/// Interruptions do not count, what the run itself ends with is its end, and all else counts.
fn failure_policy() -> PodFailurePolicy {
    let on_exit = |action: &str, values: Vec<i32>| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values,
        }),
        on_pod_conditions: None,
    };
    let disrupted = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: Some("True".to_owned()),
        }]),
    };
    let own = (1..=LAST_OF_ITS_OWN).map(i32::from).collect();
    let rules = vec![on_exit("Ignore", vec![REQUEUE_CODE.into()]), on_exit("FailJob", own), disrupted];
    PodFailurePolicy { rules }
}
