//! From a target of the spec to its Pods and their port.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

use super::{Cluster, pods};
use crate::{
    api::{PortRef, Reason, Target, WorkloadKind, WorkloadRef},
    model::short_hash,
};

/// Why a target cannot be resolved: a reason, the field below the target's own, and the sentence.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) field: &'static str,
    pub(super) message: String,
}

/// The Pods of a target.
pub(super) struct Selection {
    /// Those that have not ended, by name.
    pub(super) pods: Vec<Arc<Pod>>,
    /// How many the workload asks for.
    pub(super) replicas: Option<u32>,
    /// The Service, if it is one.
    pub(super) service: Option<Arc<Service>>,
    /// In words, such as `Deployment web`.
    pub(super) what: String,
}

const fn kind_name(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
        WorkloadKind::DaemonSet => "DaemonSet",
        WorkloadKind::ReplicaSet => "ReplicaSet",
    }
}

/// What a target is called in a [`GroupId`](crate::model::GroupId): `deployment.web`, `service.web` or
/// `selector.1a2b3c4d`. The order of a selector's expressions and values makes no difference.
pub(super) fn target_name(target: &Target) -> String {
    if let Some(w) = &target.workload {
        return format!("{}.{}", kind_name(w.kind).to_lowercase(), w.name);
    }
    if let Some(s) = &target.service {
        return format!("service.{}", s.name);
    }
    let mut selector = target.selector.clone().unwrap_or_default();
    for e in selector.match_expressions.iter_mut().flatten() {
        if let Some(values) = &mut e.values {
            values.sort();
        }
    }
    if let Some(all) = &mut selector.match_expressions {
        all.sort_by(|a, b| (&a.key, &a.operator, &a.values).cmp(&(&b.key, &b.operator, &b.values)));
    }
    // Labels and expressions always serialise: they are strings.
    let json = serde_json::to_string(&selector).unwrap_or_default();
    format!("selector.{}", &short_hash(&json)[..8])
}

/// The Pods of a target, out of those of its namespace. `lenient`: a workload that is gone still has the Pods that it
/// owned; else it is an error.
pub(super) fn select(
    cluster: &dyn Cluster,
    namespace: &str,
    all: &[Arc<Pod>],
    target: &Target,
    lenient: bool,
) -> Result<Selection, Refusal> {
    if let Some(workload) = &target.workload {
        return of_workload(cluster, namespace, all, workload, lenient);
    }
    if let Some(named) = &target.service {
        let name = &named.name;
        let refuse =
            |reason, message| Refusal { reason, field: "service.name", message: format!("\"{name}\" {message}") };
        let service = cluster.service(namespace, name).ok_or_else(|| {
            refuse(
                Reason::ReferenceNotFound,
                format!("is no Service in namespace {namespace}: name a Service of that namespace"),
            )
        })?;
        let spec = service.spec.clone().unwrap_or_default();
        let labels = spec.selector.unwrap_or_default();
        if labels.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
            return Err(refuse(
                Reason::Invalid,
                "is a Service that selects no Pods: name one with a selector, or use workload or selector".into(),
            ));
        }
        let pods = living(all, |p| labels.iter().all(|(k, v)| p.labels().get(k) == Some(v)));
        return Ok(Selection { pods, replicas: None, service: Some(service), what: format!("Service {name}") });
    }
    let selector = target.selector.clone().unwrap_or_default();
    let selector = parse(&selector)?;
    let pods = living(all, |p| selector.matches(p.labels()));
    Ok(Selection { pods, replicas: None, service: None, what: format!("selector {selector}") })
}

fn of_workload(
    cluster: &dyn Cluster,
    namespace: &str,
    all: &[Arc<Pod>],
    target: &WorkloadRef,
    lenient: bool,
) -> Result<Selection, Refusal> {
    let (kind, name) = (target.kind, &target.name);
    let found = cluster.workload(namespace, kind, name);
    if found.is_none() && !lenient {
        let kind = kind_name(kind);
        return Err(Refusal {
            reason: Reason::ReferenceNotFound,
            field: "workload.name",
            message: format!("\"{name}\" is no {kind} in namespace {namespace}: name a {kind} of that namespace"),
        });
    }
    let replicas = found.as_ref().and_then(|w| w.replicas);
    let pods = if kind == WorkloadKind::Deployment {
        // Both are needed: a Pod whose labels were changed is on its way out of its ReplicaSet, before its owner is.
        let selector = found.and_then(|w| Selector::try_from(w.selector).ok());
        let labels = |p: &Pod| selector.as_ref().is_none_or(|s| s.matches(p.labels()));
        living(all, |p| pods::of_deployment(p, name) && labels(p))
    } else {
        living(all, |p| pods::controlled_by(p, kind_name(kind), name))
    };
    Ok(Selection { pods, replicas, service: None, what: format!("{} {name}", kind_name(kind)) })
}

fn living(all: &[Arc<Pod>], matches: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
    all.iter().filter(|p| !pods::ended(p) && pods::uid(p).is_some() && matches(p)).cloned().collect()
}

fn parse(selector: &LabelSelector) -> Result<Selector, Refusal> {
    let refuse = |field, message| Err(Refusal { reason: Reason::Invalid, field, message });
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    if selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && expressions.is_empty() {
        return refuse(
            "selector",
            "{} selects every Pod of the namespace, which is taken for a mistake: give at least one label in \
             matchLabels or one expression in matchExpressions"
                .into(),
        );
    }
    for e in expressions {
        let values = e.values.as_deref().unwrap_or_default().len();
        match e.operator.as_str() {
            "In" | "NotIn" if values == 0 => {
                let message = format!("operator {} on key \"{}\" has no values: give at least one", e.operator, e.key);
                return refuse("selector.matchExpressions", message);
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let message = format!("operator {} on key \"{}\" has values: it takes none", e.operator, e.key);
                return refuse("selector.matchExpressions", message);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let message =
                    format!("\"{other}\" on key \"{}\" is no operator: use In, NotIn, Exists or DoesNotExist", e.key);
                return refuse("selector.matchExpressions", message);
            }
        }
    }
    Selector::try_from(selector.clone()).or_else(|e| refuse("selector", e.to_string()))
}

/// Which port of a target's Pods.
pub(super) enum Port {
    /// The same for each.
    Number(u16),
    /// By the name of a container port.
    Named(String),
    /// As registered now, by the Pod's UID: what to do when the spec does not say any more.
    AsRegistered(BTreeMap<String, u16>),
}

impl Port {
    /// The Pod's port, if it has it.
    pub(super) fn of(&self, pod: &Pod, udp: bool) -> Option<u16> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Named(name) => pods::named_port(pod, name, udp),
            Self::AsRegistered(ports) => ports.get(pods::uid(pod)?).copied(),
        }
    }
}

/// Which port of the Pods: `wanted`, else the Service's target port for its port `listen`, else `listen`.
///
/// The message of an error begins with the value, without the field.
pub(super) fn port(
    wanted: Option<&PortRef>,
    listen: u16,
    udp: bool,
    service: Option<&Service>,
) -> Result<Port, (Reason, String)> {
    let number = |n: i32| {
        let bad = || (Reason::Invalid, format!("\"{n}\" is no port: use a number from 1 to 65535"));
        pods::port_number(n).map(Port::Number).ok_or_else(bad)
    };
    match (wanted, service) {
        (Some(PortRef::Number(n)), _) => number(*n),
        (Some(PortRef::Name(name)), _) => Ok(Port::Named(name.clone())),
        (None, None) => Ok(Port::Number(listen)),
        (None, Some(service)) => {
            let protocol = if udp { "UDP" } else { "TCP" };
            let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
            let of = |p: Option<&str>| p.filter(|p| !p.is_empty()).unwrap_or("TCP").to_string();
            let found = ports.iter().find(|p| p.port == i32::from(listen) && of(p.protocol.as_deref()) == protocol);
            let Some(found) = found else {
                let has: Vec<_> = ports.iter().map(|p| format!("{}/{}", p.port, of(p.protocol.as_deref()))).collect();
                let has = if has.is_empty() { "no ports".into() } else { has.join(", ") };
                return Err((
                    Reason::PortNotFound,
                    format!(
                        "missing, and Service {} has no port {listen}/{protocol}: it has {has}; give targetPort, or \
                         listen on one of these",
                        service.name_any()
                    ),
                ));
            };
            match &found.target_port {
                None => number(found.port),
                // Kubernetes treats 0 as absent.
                Some(IntOrString::Int(0)) => number(found.port),
                Some(IntOrString::Int(n)) => number(*n),
                Some(IntOrString::String(name)) => Ok(Port::Named(name.clone())),
            }
        }
    }
}

/// The named ports of these Pods, for a message: `metrics, web`.
pub(super) fn port_names(pods: &[Arc<Pod>], udp: bool) -> String {
    let mut names: Vec<&str> = pods.iter().flat_map(|p| pods::port_names(p, udp)).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
