//! What the caches hold, read-only.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Pod, Secret, Service},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::api::{DirectLoadBalancerClass, WorkloadKind};

/// The cluster as the watch caches show it. Synchronous: nothing here asks the API server.
///
/// An absent answer means "not in the cache", which is not proof that the thing is gone; see
/// [`Departed::Unknown`](crate::model::Departed::Unknown).
pub trait Cluster {
    /// The class of this name.
    fn class(&self, name: &str) -> Option<Arc<DirectLoadBalancerClass>>;
    /// Every class, in any order.
    fn classes(&self) -> Vec<Arc<DirectLoadBalancerClass>>;
    /// The labels of a namespace; `None`: no such namespace in the cache.
    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>>;
    /// The Pods of a namespace, in any order.
    fn pods(&self, namespace: &str) -> Vec<Arc<Pod>>;
    /// The UID of the Pod that has this address now, in any namespace. Pods that have ended do not count (their address
    /// is free again), nor do Pods on the host's network: many of them share one address.
    fn pod_by_ip(&self, ip: IpAddr) -> Option<String>;
    /// A workload.
    fn workload(&self, namespace: &str, kind: WorkloadKind, name: &str) -> Option<Workload>;
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// A Secret of type `kubernetes.io/tls`.
    fn tls_secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>>;
}

/// What is needed of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// `spec.selector`.
    pub selector: LabelSelector,
    /// How many Pods it asks for: `spec.replicas`; for a DaemonSet `status.desiredNumberScheduled`. `None`: not known.
    pub replicas: Option<u32>,
}
