//! `batch/v1` Job: indexed pods, started again by what their exit codes mean.
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
    let nodes = job.resources.nodes;
    // When one pod dies the others end too, and each counts.
    let backoff = i32::try_from(job.max_restarts.saturating_mul(nodes)).unwrap_or(i32::MAX);
    // The pods of an indexed job have its name and their number, within the service of the same name.
    let first = format!("{name}-0.{name}");
    let mut spec = spec(name, job, of, backoff, (nodes > 1).then_some(first.as_str()));
    spec.suspend = of.queue.as_ref().map(|_| true);
    if let Some(pod) = spec.template.spec.as_mut().filter(|_| nodes > 1) {
        pod.subdomain = Some(name.to_owned());
    }
    Job { metadata: metadata(name, job, of, true), spec: Some(spec), status: None }
}

/// The specification of the pods; after `backoff` failures that count, it is over. `first` is the name of the first pod
/// where there are several.
pub(super) fn spec(name: &str, job: &submit::Job, of: &Kubernetes, backoff: i32, first: Option<&str>) -> JobSpec {
    let pods = i32::try_from(job.resources.nodes).unwrap_or(i32::MAX);
    JobSpec {
        completion_mode: Some("Indexed".to_owned()),
        completions: Some(pods),
        parallelism: Some(pods),
        backoff_limit: Some(backoff),
        // Two pods of one number must not write to one run folder: the next starts when the last is gone.
        pod_replacement_policy: Some("Failed".to_owned()),
        active_deadline_seconds: job.time.map(|time| i64::try_from(time.seconds()).unwrap_or(i64::MAX)),
        pod_failure_policy: Some(failure_policy()),
        template: template(name, job, of, first),
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
