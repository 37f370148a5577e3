//! What a Pod's own object says: its addresses, ports, state and gate.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use kube::ResourceExt as _;

use crate::model::TargetState;

/// Whether the Pod has ended: it will never serve again, and its address is free for another.
pub(crate) fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The Pod's addresses, the primary one first.
pub(crate) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let more = status.pod_ips.iter().flatten().map(|i| i.ip.as_str());
    let mut out: Vec<IpAddr> = Vec::new();
    for ip in status.pod_ip.as_deref().into_iter().chain(more).filter_map(|ip| ip.parse().ok()) {
        if !out.contains(&ip) {
            out.push(ip);
        }
    }
    out
}

/// The Pod's addresses, the one to reach it by first: inside a cluster its primary one; from a VPC one of that, where the
/// Pod's annotations tell of one.
#[must_use]
pub fn addresses_of(pod: &Pod, from_vpc: bool) -> Vec<IpAddr> {
    let of_vpc = if from_vpc { super::tke::vpc_addresses(pod) } else { Vec::new() };
    of_vpc.into_iter().chain(addresses(pod)).collect()
}

/// The Pod's UID; `None` only for an object that no API server has made.
pub(crate) fn uid(pod: &Pod) -> Option<&str> {
    pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty())
}

fn condition_is_true(pod: &Pod, type_: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == type_ && c.status == "True")
}

/// Whether the control plane has marked the Pod, as its node does not answer: `Ready` is False although everything that
/// makes a Pod ready is there, and gives no reason, which a kubelet always does (`ReadinessGatesNotReady`).
fn node_lost(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let unexplained = |reason: Option<&str>| reason.unwrap_or_default().is_empty();
    let marked = conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "False" && unexplained(c.reason.as_deref()));
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_ref());
    marked && gates.into_iter().flatten().all(|g| condition_is_true(pod, &g.condition_type))
}

/// What the state of a Pod that has not ended asks for. By `ContainersReady`, not by `Ready`: that one waits for the gate,
/// which waits for the registration, which would wait for `Ready`. Only a lost node shows in `Ready` alone.
pub(crate) fn state(pod: &Pod) -> TargetState {
    if pod.metadata.deletion_timestamp.is_some() {
        TargetState::Terminating
    } else if condition_is_true(pod, "ContainersReady") {
        if node_lost(pod) { TargetState::NodeLost } else { TargetState::Serving }
    } else {
        TargetState::NotReady
    }
}

/// Whether the Pod waits for this gate.
pub(crate) fn has_gate(pod: &Pod, gate: &str) -> bool {
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_ref());
    gates.into_iter().flatten().any(|g| g.condition_type == gate)
}

/// Whether the Pod has this gate and it is open.
pub(crate) fn gate_open(pod: &Pod, gate: &str) -> bool {
    has_gate(pod, gate) && condition_is_true(pod, gate)
}

/// The number of the Pod's port of this name and transport protocol, among its containers and its sidecars (init
/// containers that go on running).
pub(crate) fn named_port(pod: &Pod, name: &str, udp: bool) -> Option<u16> {
    ports(pod, udp).filter(|p| p.name.as_deref() == Some(name)).find_map(|p| port_number(p.container_port))
}

/// The names of the Pod's ports of this transport protocol.
pub(crate) fn port_names(pod: &Pod, udp: bool) -> impl Iterator<Item = &str> {
    ports(pod, udp).filter_map(|p| p.name.as_deref())
}

fn ports(pod: &Pod, udp: bool) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.as_ref();
    let sidecars = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let protocol = if udp { "UDP" } else { "TCP" };
    let containers = spec.into_iter().flat_map(|s| &s.containers).chain(sidecars);
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter(move |p| p.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP") == protocol)
}

/// A port number, if it is one.
pub(crate) fn port_number(n: i32) -> Option<u16> {
    u16::try_from(n).ok().filter(|n| *n > 0)
}

/// The name and kind of the Pod's controller, if that is of API group `apps`.
fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let owner = pod.owner_references().iter().find(|o| o.controller == Some(true))?;
    owner.api_version.starts_with("apps/").then_some((owner.kind.as_str(), owner.name.as_str()))
}

/// Whether the Pod's controller is this object of API group `apps`.
pub(crate) fn controlled_by(pod: &Pod, kind: &str, name: &str) -> bool {
    controller(pod) == Some((kind, name))
}

/// Whether the Pod belongs to a ReplicaSet of this Deployment, which is seen without a look-up: that ReplicaSet's name
/// is the Deployment's, `-`, and the Pod's label `pod-template-hash`.
pub(crate) fn of_deployment(pod: &Pod, deployment: &str) -> bool {
    let Some(hash) = pod.labels().get("pod-template-hash") else { return false };
    controller(pod).is_some_and(|(kind, name)| {
        kind == "ReplicaSet"
            && name.strip_prefix(deployment).and_then(|rest| rest.strip_prefix('-')) == Some(hash.as_str())
    })
}
