//! The pod of a run: its container, what it may take, its volumes and its secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecretKeySelector, SecurityContext, Service, ServicePort, ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Kubernetes, RECIPE_FOLDER, labels, metadata};
use crate::submit::{Job, REQUEUE_CODE};

/// The container's name.
pub(super) const CONTAINER: &str = "greffon";
/// The user of the image that the repository's Dockerfile makes.
const USER: i64 = 10_001;

/// The port at which the first pod hands out what joins the others.
const PORT: i32 = 29_500;
/// Where a pod finds its number among those of an indexed job.
const INDEX: &str = "metadata.annotations['batch.kubernetes.io/job-completion-index']";

/// The pod template of a job; its ranks are processes in one container, or each is a pod. `first` is the name of the
/// first pod in the cluster's network where there are several.
pub(super) fn template(name: &str, job: &Job, of: &Kubernetes, first: Option<&str>) -> PodTemplateSpec {
    let mut arguments = job.arguments();
    if job.resources.ranks_per_node > 1 {
        let ranks = job.resources.ranks_per_node.to_string();
        let threads = job.resources.cpus_per_rank.to_string();
        let launch = ["launch", "-n", &ranks, "--threads", &threads].map(str::to_owned);
        arguments = launch.into_iter().chain(arguments).collect();
    }
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(of.image.clone()),
        command: Some(vec![job.program.to_string_lossy().into_owned()]),
        args: Some(arguments),
        env: Some(
            environment(job, of).into_iter().chain(first.into_iter().flat_map(|first| joined(job, first))).collect(),
        ),
        resources: Some(resources(job, of)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(job, of)),
        ..Container::default()
    };
    let spec = PodSpec {
        // A pod that failed is left for its log; the job makes another.
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(job.grace_seconds.into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            // So that the run may write to its volumes.
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container],
        volumes: Some(volumes(name, job, of)),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(labels(job)), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

/// The variables of the run, those from secrets last.
pub(super) fn environment(job: &Job, of: &Kubernetes) -> Vec<EnvVar> {
    let own = [
        ("GREFFON_REQUEUE_CODE".to_owned(), REQUEUE_CODE.to_string()),
        ("RAYON_NUM_THREADS".to_owned(), job.resources.cpus_per_rank.to_string()),
    ];
    let plain = own.into_iter().chain(job.environment.iter().cloned());
    let plain = plain.map(|(name, value)| EnvVar { name, value: Some(value), value_from: None });
    let secret = of.secrets.iter().map(|variable| EnvVar {
        name: variable.name.clone(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: variable.secret.clone(),
                key: variable.key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    });
    plain.chain(secret).collect()
}

/// The variables of torchrun, by which the pods of a job are joined: one rank each.
fn joined(job: &Job, first: &str) -> impl Iterator<Item = EnvVar> {
    let index = EnvVarSource {
        field_ref: Some(ObjectFieldSelector { field_path: INDEX.to_owned(), ..ObjectFieldSelector::default() }),
        ..EnvVarSource::default()
    };
    let rank = EnvVar { name: "RANK".to_owned(), value: None, value_from: Some(index) };
    let plain = [
        ("WORLD_SIZE", job.resources.nodes.to_string()),
        ("LOCAL_RANK", "0".to_owned()),
        ("LOCAL_WORLD_SIZE", "1".to_owned()),
        ("MASTER_ADDR", first.to_owned()),
        ("MASTER_PORT", PORT.to_string()),
    ];
    let plain = plain.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), value_from: None });
    [rank].into_iter().chain(plain)
}

/// The service without an address of its own that gives the pods of a job their names in the cluster's network.
pub(super) fn service(name: &str, job: &Job, of: &Kubernetes) -> Service {
    let selector = BTreeMap::from([("batch.kubernetes.io/job-name".to_owned(), name.to_owned())]);
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        selector: Some(selector),
        // They look for each other before they are ready for anything.
        publish_not_ready_addresses: Some(true),
        ports: Some(vec![ServicePort { name: Some("join".to_owned()), port: PORT, ..ServicePort::default() }]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(name, job, of, false), spec: Some(spec), status: None }
}

/// What a pod asks for. Memory and GPUs are limited to it; the processor is not: what is idle may be used.
pub(super) fn resources(job: &Job, of: &Kubernetes) -> ResourceRequirements {
    let asked = &job.resources;
    let ranks = u64::from(asked.ranks_per_node);
    let mut limits = BTreeMap::new();
    if let Some(memory) = asked.memory_per_rank {
        limits.insert("memory".to_owned(), Quantity(memory.bytes().saturating_mul(ranks).to_string()));
    }
    if asked.gpus_per_rank > 0 {
        limits.insert(of.gpu_resource.clone(), Quantity((u64::from(asked.gpus_per_rank) * ranks).to_string()));
    }
    let mut requests = limits.clone();
    requests.insert("cpu".to_owned(), Quantity((u64::from(asked.cpus_per_rank) * ranks).to_string()));
    let limits = (!limits.is_empty()).then_some(limits);
    ResourceRequirements { limits, requests: Some(requests), ..ResourceRequirements::default() }
}

/// The volumes: the recipe, the claims, and memory that ranks in one pod share.
pub(super) fn volumes(name: &str, job: &Job, of: &Kubernetes) -> Vec<Volume> {
    let recipe = Volume {
        name: "recipe".to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: format!("{name}-recipe"), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    let claims = of.claims.iter().enumerate().map(|(index, claim)| Volume {
        name: format!("claim-{index}"),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.name.clone(),
            read_only: claim.read_only.then_some(true),
        }),
        ..Volume::default()
    });
    let shared = shares_memory(job).then(|| Volume {
        name: "shared-memory".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: Some("Memory".to_owned()), ..EmptyDirVolumeSource::default() }),
        ..Volume::default()
    });
    [recipe].into_iter().chain(claims).chain(shared).collect()
}

/// Where a container sees the volumes.
pub(super) fn mounts(job: &Job, of: &Kubernetes) -> Vec<VolumeMount> {
    let mount = |name: String, path: String, read_only: bool| VolumeMount {
        name,
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let recipe = mount("recipe".to_owned(), RECIPE_FOLDER.to_owned(), true);
    let claims = of.claims.iter().enumerate().map(|(index, claim)| {
        mount(format!("claim-{index}"), claim.path.to_string_lossy().into_owned(), claim.read_only)
    });
    let shared = shares_memory(job).then(|| mount("shared-memory".to_owned(), "/dev/shm".to_owned(), false));
    [recipe].into_iter().chain(claims).chain(shared).collect()
}

/// Whether there are ranks in one pod that pass their gradients through memory.
fn shares_memory(job: &Job) -> bool {
    job.resources.ranks_per_node > 1
}
