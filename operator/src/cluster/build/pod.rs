//! The pod of a broker: restricted Pod Security, nothing writable but its volume, no token of Kubernetes.
//!
//! Whatever changes here restarts every broker of every Cluster at an operator's upgrade: the golden file says so.

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceFieldSelector, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, Toleration, TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use fulmar_crds::pod::{PodSecurity, TaintEffect, TolerationOperator};

use crate::cluster::build::selector;
use crate::cluster::validate::Wanted;
use crate::names::{
    BROKER_CONTAINER, DATA_CLAIM, LABEL_MANAGED_BY, OPERATOR, PORT_GOSSIP, PORT_GRPC, PORT_HTTP,
    PORT_INTERNAL, PORT_TCP,
};

/// Nobody in particular: the image is built for any user.
const USER: i64 = 65532;

/// Of the time that Kubernetes gives a pod to stop, the broker leaves this much for its last sync and for the kubelet.
const STOP_MARGIN_SECONDS: i64 = 30;

/// Opening a volume replays its journal: minutes on a slow disk. Until then the broker is alive and not ready.
const STARTUP_SECONDS_MAX: i32 = 600;

/// The template of the pods.
pub(super) fn template(wanted: &Wanted) -> PodTemplateSpec {
    let mut labels = wanted.settings.pod.labels.clone();
    labels.extend(wanted.key.selector());
    labels.insert(LABEL_MANAGED_BY.to_owned(), OPERATOR.to_owned());
    let annotations = wanted.settings.pod.annotations.clone();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(wanted)),
    }
}

fn spec(wanted: &Wanted) -> PodSpec {
    let pod = &wanted.settings.pod;
    PodSpec {
        service_account_name: Some(wanted.key.child()),
        automount_service_account_token: Some(false),
        // Variables of Services in the namespace (FULMAR_PORT, if one is called fulmar) would be taken for settings.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(pod.termination_grace_period_seconds),
        security_context: Some(security_context(wanted)),
        containers: vec![container(wanted)],
        volumes: Some(volumes(wanted)),
        affinity: Some(apart(wanted)),
        topology_spread_constraints: Some(vec![spread(wanted)]),
        node_selector: (!pod.node_selector.is_empty()).then(|| pod.node_selector.clone()),
        tolerations: tolerations(wanted),
        priority_class_name: pod.priority_class_name.clone(),
        image_pull_secrets: image_pull_secrets(wanted),
        ..PodSpec::default()
    }
}

fn security_context(wanted: &Wanted) -> PodSecurityContext {
    let ours = || PodSecurity {
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        supplemental_groups: Vec::new(),
    };
    let PodSecurity { run_as_user, run_as_group, fs_group, supplemental_groups } =
        wanted.settings.pod.security_context.clone().unwrap_or_else(ours);
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user,
        run_as_group,
        fs_group,
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        supplemental_groups: (!supplemental_groups.is_empty()).then_some(supplemental_groups),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn container(wanted: &Wanted) -> Container {
    let port = |name: &str, port: i32, protocol: &str| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: BROKER_CONTAINER.to_owned(),
        image: Some(wanted.image.clone()),
        env: Some(environment(wanted)),
        ports: Some(vec![
            port("grpc", PORT_GRPC, "TCP"),
            port("http", PORT_HTTP, "TCP"),
            port("tcp", PORT_TCP, "TCP"),
            port("internal", PORT_INTERNAL, "TCP"),
            port("gossip", PORT_GOSSIP, "UDP"),
        ]),
        resources: Some(resources(wanted)),
        volume_mounts: Some(vec![mount(DATA_CLAIM, "/data", false), mount("tls", "/tls", true)]),
        startup_probe: Some(probe("/livez", 2, STARTUP_SECONDS_MAX / 2)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn environment(wanted: &Wanted) -> Vec<EnvVar> {
    let value =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let from = |name: &str, source: EnvVarSource| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(source),
    };
    let field = |path: &str| EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: path.to_owned(),
        }),
        ..EnvVarSource::default()
    };
    let memory = EnvVarSource {
        resource_field_ref: Some(ResourceFieldSelector {
            container_name: Some(BROKER_CONTAINER.to_owned()),
            resource: "limits.memory".to_owned(),
            divisor: Some(Quantity("1".to_owned())),
        }),
        ..EnvVarSource::default()
    };
    let key = &wanted.key;
    // The dot at the end: one question to DNS instead of one for each search domain.
    let seeds =
        format!("{}.{}.svc.{}.:{PORT_GOSSIP}", key.brokers_service(), key.namespace, wanted.cluster_domain);
    let grace = (wanted.settings.pod.termination_grace_period_seconds - STOP_MARGIN_SECONDS).max(5);
    let mut all = vec![
        from("FULMAR_NAME", field("metadata.name")),
        from("FULMAR_ADVERTISE_HOST", field("status.podIP")),
        from("FULMAR_MEMORY_LIMIT", memory),
        value("FULMAR_DATA", "/data".to_owned()),
        value("FULMAR_TLS", "/tls".to_owned()),
        value("FULMAR_SEEDS", seeds),
        value("FULMAR_JOURNAL_SLOT_SIZE", journal_slot_size(wanted)),
        value("FULMAR_SHUTDOWN_GRACE", format!("{grace}s")),
        value("FULMAR_LOG_FORMAT", "json".to_owned()),
    ];
    let origins = &wanted.settings.cors_allow_origins;
    if !origins.is_empty() {
        all.push(value("FULMAR_CORS_ALLOW_ORIGINS", origins.join(",")));
    }
    if let Some(endpoint) = &wanted.settings.otlp_endpoint {
        all.push(value("FULMAR_OTLP_ENDPOINT", endpoint.clone()));
    }
    all
}

/// Three slots of the journal take at most three sixteenths of the volume; the broker takes no slot below 16 MiB.
fn journal_slot_size(wanted: &Wanted) -> String {
    const MEBI: u64 = 1 << 20;
    let slot = (wanted.settings.storage.size_bytes / 16 / MEBI).clamp(16, 64);
    format!("{slot}Mi")
}

fn resources(wanted: &Wanted) -> ResourceRequirements {
    let resources = &wanted.settings.resources;
    let quantity = |name: &str, text: &str| (name.to_owned(), Quantity(text.to_owned()));
    let requests = [quantity("cpu", &resources.cpu_request), quantity("memory", &resources.memory_request)];
    let cpu_limit = resources.cpu_limit.as_ref().map(|text| quantity("cpu", text));
    let limits = cpu_limit.into_iter().chain([quantity("memory", &resources.memory_limit)]);
    ResourceRequirements {
        requests: Some(requests.into()),
        limits: Some(limits.collect()),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(period_seconds.min(5)),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn volumes(wanted: &Wanted) -> Vec<Volume> {
    let tls = Volume {
        name: "tls".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(wanted.key.tls_secret()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![tls]
}

/// Prefers nodes without another broker, and does not insist. A spread constraint would say the same, but the scheduler heeds none of them where
/// nodes lack the key of any: without labels of zones all brokers could be on one node.
fn apart(wanted: &Wanted) -> Affinity {
    let others = PodAffinityTerm {
        label_selector: Some(selector(wanted)),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let preferred = WeightedPodAffinityTerm { weight: 100, pod_affinity_term: others };
    let pod_anti_affinity = PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]),
        ..PodAntiAffinity::default()
    };
    Affinity { pod_anti_affinity: Some(pod_anti_affinity), ..Affinity::default() }
}

/// Prefers to spread over zones, and does not insist: a broker in the wrong one is better than none.
fn spread(wanted: &Wanted) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: wanted.settings.zone_topology_key.clone(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector(wanted)),
        ..TopologySpreadConstraint::default()
    }
}

fn tolerations(wanted: &Wanted) -> Option<Vec<Toleration>> {
    let operator = |operator| match operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
    };
    let effect = |effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    };
    let all: Vec<_> = wanted
        .settings
        .pod
        .tolerations
        .iter()
        .map(|toleration| Toleration {
            key: toleration.key.clone(),
            operator: Some(operator(toleration.operator).to_owned()),
            value: toleration.value.clone(),
            effect: toleration.effect.map(|one| effect(one).to_owned()),
            toleration_seconds: toleration.toleration_seconds,
        })
        .collect();
    (!all.is_empty()).then_some(all)
}

fn image_pull_secrets(wanted: &Wanted) -> Option<Vec<LocalObjectReference>> {
    let secrets = wanted.settings.pod.image_pull_secrets.iter();
    let all: Vec<_> = secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect();
    (!all.is_empty()).then_some(all)
}
