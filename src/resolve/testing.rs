//! A cluster in memory, for tests here and in other modules.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, Pod, PodCondition, PodReadinessGate, PodSpec, PodStatus, Secret, Service,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube::ResourceExt as _;

use super::{Cluster, Workload};
use crate::{
    api::{DirectLoadBalancerClass, WorkloadKind},
    model::{Desired, Group, Health, Observed, ObservedGroup, ObservedTarget, TargetState},
};

/// A [`Cluster`] made of lists.
#[derive(Clone, Debug, Default)]
pub struct MemoryCluster {
    /// The classes.
    pub classes: Vec<Arc<DirectLoadBalancerClass>>,
    /// The namespaces, with their labels.
    pub namespaces: Vec<(String, BTreeMap<String, String>)>,
    /// The Pods of all namespaces.
    pub pods: Vec<Arc<Pod>>,
    /// The workloads: namespace, kind, name.
    pub workloads: Vec<(String, WorkloadKind, String, Workload)>,
    /// The Services of all namespaces.
    pub services: Vec<Arc<Service>>,
    /// The Secrets of all namespaces.
    pub secrets: Vec<Arc<Secret>>,
}

impl MemoryCluster {
    /// Adds a Deployment whose selector is `app: <name>`.
    #[must_use]
    pub fn deployment(mut self, namespace: &str, name: &str, replicas: u32) -> Self {
        let selector =
            LabelSelector { match_labels: Some([("app".into(), name.into())].into()), match_expressions: None };
        let workload = Workload { selector, replicas: Some(replicas) };
        self.workloads.push((namespace.into(), WorkloadKind::Deployment, name.into(), workload));
        self
    }
    /// Adds a Pod.
    #[must_use]
    pub fn pod(mut self, pod: Pod) -> Self {
        self.pods.push(Arc::new(pod));
        self
    }
    /// Adds a class.
    #[must_use]
    pub fn class(mut self, class: DirectLoadBalancerClass) -> Self {
        self.classes.retain(|c| c.name_any() != class.name_any());
        self.classes.push(Arc::new(class));
        self
    }
}

impl Cluster for MemoryCluster {
    fn class(&self, name: &str) -> Option<Arc<DirectLoadBalancerClass>> {
        self.classes.iter().find(|c| c.name_any() == name).cloned()
    }
    fn classes(&self) -> Vec<Arc<DirectLoadBalancerClass>> {
        self.classes.clone()
    }
    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.iter().find(|(n, _)| n == namespace).map(|(_, labels)| labels.clone())
    }
    fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.pods.iter().filter(|p| p.namespace().as_deref() == Some(namespace)).cloned().collect()
    }
    fn pod_by_ip(&self, ip: IpAddr) -> Option<String> {
        let has = |p: &Pod| {
            let ended = super::pods::ended(p);
            let host = p.spec.as_ref().and_then(|s| s.host_network).unwrap_or_default();
            !ended && !host && super::pods::addresses(p).contains(&ip)
        };
        self.pods.iter().find(|p| has(p)).and_then(|p| p.uid())
    }
    fn workload(&self, namespace: &str, kind: WorkloadKind, name: &str) -> Option<Workload> {
        let same =
            |(ns, k, n, _): &&(String, WorkloadKind, String, Workload)| ns == namespace && *k == kind && n == name;
        self.workloads.iter().find(same).map(|(.., w)| w.clone())
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.iter().find(|s| s.namespace().as_deref() == Some(namespace) && s.name_any() == name).cloned()
    }
    fn tls_secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secrets.iter().find(|s| s.namespace().as_deref() == Some(namespace) && s.name_any() == name).cloned()
    }
}

/// A running Pod `<deployment>-<hash>-<n>` of a Deployment: labels `app: <deployment>` and `pod-template-hash`, UID
/// `uid-<n>`, address 10.0.0.`n`, containers ready, ports `web` (8080/TCP) and `dns` (5353/UDP), no readiness gate.
#[must_use]
pub fn deployment_pod(namespace: &str, deployment: &str, hash: &str, n: u8) -> Pod {
    let set = format!("{deployment}-{hash}");
    let port = |name: &str, number: i32, protocol: &str| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some(protocol.into()),
        ..Default::default()
    };
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(format!("{set}-{n}")),
            uid: Some(format!("uid-{n}")),
            labels: Some(
                [("app".into(), deployment.into()), ("pod-template-hash".into(), hash.to_string())]
                    .into_iter()
                    .collect(),
            ),
            owner_references: Some(vec![owner("ReplicaSet", &set)]),
            ..Default::default()
        },
        spec: Some(PodSpec {
            node_name: Some("node-1".into()),
            containers: vec![Container {
                name: "main".into(),
                ports: Some(vec![port("web", 8080, "TCP"), port("dns", 5353, "UDP")]),
                ..Default::default()
            }],
            ..Default::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some(format!("10.0.0.{n}")),
            conditions: Some(vec![condition("ContainersReady", true)]),
            ..Default::default()
        }),
    }
}

/// A controller ownerReference of API group `apps`.
#[must_use]
pub fn owner(kind: &str, name: &str) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        controller: Some(true),
        ..Default::default()
    }
}

/// A Pod condition.
#[must_use]
pub fn condition(type_: &str, is_true: bool) -> PodCondition {
    PodCondition { type_: type_.into(), status: if is_true { "True" } else { "False" }.into(), ..Default::default() }
}

/// The Pod with `ContainersReady` as given.
#[must_use]
pub fn with_ready(mut pod: Pod, ready: bool) -> Pod {
    let status = pod.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "ContainersReady");
    conditions.push(condition("ContainersReady", ready));
    pod
}

/// The Pod with the readiness gate of the object `name`, open or closed.
#[must_use]
pub fn with_gate(mut pod: Pod, name: &str, open: bool) -> Pod {
    let gate = crate::api::gate_type(name);
    let spec = pod.spec.get_or_insert_default();
    spec.readiness_gates.get_or_insert_default().push(PodReadinessGate { condition_type: gate.clone() });
    pod.status.get_or_insert_default().conditions.get_or_insert_default().push(condition(&gate, open));
    pod
}

/// The Pod with a deletionTimestamp.
#[must_use]
pub fn terminating(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(time(0));
    pod
}

/// A Kubernetes timestamp, in seconds since the Unix epoch.
#[must_use]
pub fn time(seconds: i64) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    // Out of range is year 10,000 and later; the epoch does as well there.
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default(),
    )
}

/// What is in force once `desired` has been applied: every listener, and every target that takes connections, healthy.
#[must_use]
pub fn applied(desired: &Desired) -> Observed {
    let group = |g: &Group| ObservedGroup {
        config: g.config(),
        targets: g
            .targets
            .iter()
            .filter(|(_, t)| t.state == TargetState::Serving)
            .map(|(id, t)| {
                let target = ObservedTarget {
                    pod: t.pod.clone(),
                    draining_since: None,
                    health_port: t.health_port,
                    health: Health::Healthy,
                    answering: true,
                    healthy_since: None,
                    active: None,
                };
                (id.clone(), target)
            })
            .collect(),
    };
    Observed {
        listeners: desired.listeners.clone(),
        groups: desired.groups.iter().map(|(id, g)| (id.clone(), group(g))).collect(),
    }
}
