//! Tests of the resolve stage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod addresses;
mod bad_input;
mod follow;
mod health;
mod members;
mod ports;
mod properties;
mod routes;
mod tencent;
mod tls;

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

use super::{testing::*, *};
use crate::api::{EnvoyClass, Reason, WorkloadKind};

/// 2026-01-01T00:00:00Z.
pub(super) const NOW: Time = Time(1_767_225_600_000);

/// A class that shares the edge nodes' addresses.
pub(super) fn class(name: &str) -> DirectLoadBalancerClass {
    let mut class = DirectLoadBalancerClass::new(name, Default::default());
    class.spec.envoy = Some(EnvoyClass { fleet: "default".into(), address_pool: Vec::new() });
    class.metadata.creation_timestamp = Some(time(1000));
    class
}

/// Class `public`, and Deployment `web` with two Pods in namespace `shop`.
pub(super) fn cluster() -> MemoryCluster {
    MemoryCluster::default()
        .class(class("public"))
        .deployment("shop", "web", 2)
        .pod(deployment_pod("shop", "web", "aa", 1))
        .pod(deployment_pod("shop", "web", "aa", 2))
}

/// Listener `a` (HTTP 80 to port `web`) and listener `b` (TCP 81 to 8080) in front of Deployment `web`.
pub(super) fn base() -> Value {
    json!({
        "className": "public",
        "target": {"workload": {"kind": "Deployment", "name": "web"}},
        "listeners": [
            {"name": "a", "protocol": "HTTP", "port": 80, "targetPort": "web"},
            {"name": "b", "protocol": "TCP", "port": 81, "targetPort": 8080},
        ],
    })
}

/// `shop/lb` with this spec.
pub(super) fn object(spec: Value) -> DirectLoadBalancer {
    let mut object = DirectLoadBalancer::new("lb", serde_json::from_value(spec).expect("a spec"));
    object.metadata.namespace = Some("shop".into());
    object.metadata.uid = Some("uid-lb".into());
    object.metadata.creation_timestamp = Some(time(2000));
    object
}

/// What [`resolve`] is given beside the object and the cluster.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) in_force: Observed,
    pub(super) address: Result<Option<IpAddr>, Problem>,
    pub(super) port_conflicts: BTreeMap<String, Problem>,
    pub(super) now: Time,
    pub(super) previous: Option<DirectLoadBalancerSpec>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            in_force: Observed::default(),
            address: Ok(None),
            port_conflicts: BTreeMap::new(),
            now: NOW,
            previous: None,
        }
    }
}

impl Given {
    pub(super) fn resolve(&self, object: &DirectLoadBalancer, cluster: &MemoryCluster) -> Resolved {
        let input = Input {
            object,
            in_force: &self.in_force,
            address: self.address.clone(),
            port_conflicts: &self.port_conflicts,
            now: self.now,
            previous_spec: self.previous.as_ref(),
        };
        resolve(&input, cluster)
    }
    /// With the outcome of `resolved` in force and accepted.
    pub(super) fn after(resolved: &Resolved) -> Self {
        Self { in_force: applied(&resolved.desired), previous: resolved.accepted.clone(), ..Self::default() }
    }
}

/// The object made anew.
pub(super) fn fresh(spec: Value, cluster: &MemoryCluster) -> Resolved {
    Given::default().resolve(&object(spec), cluster)
}

/// The object made anew, without a problem.
pub(super) fn good(spec: Value, cluster: &MemoryCluster) -> Resolved {
    let resolved = fresh(spec, cluster);
    assert_eq!(resolved.desired.problems, [], "expected no problem");
    resolved
}

pub(super) fn names<'a>(keys: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    keys.into_iter().map(String::as_str).collect()
}

/// The Pods of a group, by the text of its id.
pub(super) fn pods_of(resolved: &Resolved, group: &str) -> Vec<String> {
    let (_, group) = resolved
        .desired
        .groups
        .iter()
        .find(|(id, _)| id.to_string() == group)
        .unwrap_or_else(|| panic!("no group {group} in {:?}", resolved.desired.groups.keys()));
    group.targets.values().map(|t| t.pod.clone()).collect()
}

/// Asserts that some problem concerns `listener`, has this reason, and says all of `parts`.
#[track_caller]
pub(super) fn says(resolved: &Resolved, listener: Option<&str>, reason: Reason, parts: &[&str]) {
    let problems = &resolved.desired.problems;
    let found = problems.iter().any(|p| {
        p.listener.as_deref() == listener && p.reason == reason && parts.iter().all(|part| p.message.contains(part))
    });
    assert!(found, "no {reason:?} of listener {listener:?} that says {parts:?} in {problems:#?}");
}
