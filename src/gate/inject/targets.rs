//! Whether an object targets a Pod, judged by the Pod alone: no look-up of its workload is needed at its creation.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Selector, SelectorExt as _};
use serde_json::Value;

use crate::api::{DirectLoadBalancer, Listener, Target, WorkloadKind, WorkloadRef};

/// Whether any listener or rule of the object targets the Pod (as raw JSON). `service` gives a Service's selector.
#[must_use]
pub fn targets(
    object: &DirectLoadBalancer,
    pod: &Value,
    service: &dyn Fn(&str) -> Option<BTreeMap<String, String>>,
) -> bool {
    let labels: BTreeMap<String, String> =
        pod.pointer("/metadata/labels").and_then(|l| serde_json::from_value(l.clone()).ok()).unwrap_or_default();
    all(object).any(|t| matches(t, pod, &labels, service))
}

fn all(object: &DirectLoadBalancer) -> impl Iterator<Item = &Target> {
    let spec = &object.spec;
    let of_listeners = spec.listeners.iter().flat_map(|l| {
        let rules = l.rules.iter().flatten();
        let of_rules = rules.flat_map(|r| r.target.iter().chain(r.targets.iter().flatten().map(|t| &t.target)));
        l.target.iter().chain(l.targets.iter().flatten().map(|t| &t.target)).chain(of_rules)
    });
    // The object's own target counts only for a listener that has none.
    let used = spec.listeners.iter().any(Listener::inherits_targets);
    let of_object = spec.target.iter().chain(spec.targets.iter().flatten().map(|t| &t.target));
    of_object.filter(move |_| used).chain(of_listeners)
}

/// The Services that the object targets.
pub(crate) fn services(object: &DirectLoadBalancer) -> BTreeSet<&str> {
    all(object).filter_map(|t| Some(t.service.as_ref()?.name.as_str())).collect()
}

fn matches(
    target: &Target,
    pod: &Value,
    labels: &BTreeMap<String, String>,
    service: &dyn Fn(&str) -> Option<BTreeMap<String, String>>,
) -> bool {
    if let Some(workload) = &target.workload {
        return owned_by(workload, pod, labels);
    }
    if let Some(s) = &target.service {
        // A Service without selector selects nothing.
        return service(&s.name)
            .is_some_and(|selector| !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v)));
    }
    target.selector.clone().is_some_and(|s| {
        let empty = s.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && s.match_expressions.as_ref().is_none_or(Vec::is_empty);
        !empty && Selector::try_from(s).is_ok_and(|s| s.matches(labels))
    })
}

fn owned_by(workload: &WorkloadRef, pod: &Value, labels: &BTreeMap<String, String>) -> bool {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let Some(owner) = owners.into_iter().flatten().find(|o| o["controller"] == true) else { return false };
    let is = |kind: &str, name: &str| {
        owner["kind"] == kind
            && owner["name"] == name
            && owner["apiVersion"].as_str().is_some_and(|v| v.starts_with("apps/"))
    };
    match workload.kind {
        // A Deployment's ReplicaSet is called after it and the hash that its Pods carry.
        WorkloadKind::Deployment => {
            labels.get("pod-template-hash").is_some_and(|hash| is("ReplicaSet", &format!("{}-{hash}", workload.name)))
        }
        WorkloadKind::StatefulSet => is("StatefulSet", &workload.name),
        WorkloadKind::DaemonSet => is("DaemonSet", &workload.name),
        WorkloadKind::ReplicaSet => is("ReplicaSet", &workload.name),
    }
}
