//! What admission adds to a Pod: readiness gates, and the native sleep that keeps it serving while it drains. Pure.
//!
//! The patch is made on the raw object, so that fields that this version of the types does not know survive. It is the same
//! when it is made twice: a Pod that has everything gets an empty patch.

mod targets;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation, jsonptr::PointerBuf};
use kube::ResourceExt as _;
use serde_json::{Value, json};

pub use targets::targets;

use crate::api::{DirectLoadBalancer, DrainSpec, Mode, PreStop, ReadinessGate, gate_type};

/// Label on a Pod or a namespace that says `disabled`: nothing is added.
pub const OPT_OUT_LABEL: &str = "directlb.io/inject";
/// Annotation that says by how many seconds the grace period was raised already.
pub const INJECTED_ANNOTATION: &str = "directlb.io/drain-injected";

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: i64 = 30;

/// What injection needs to know of the cluster.
pub trait InjectSource {
    /// The users' objects of a namespace.
    fn objects(&self, namespace: &str) -> Vec<Arc<DirectLoadBalancer>>;
    /// A Service's selector.
    fn service_selector(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, String>>;
    /// A namespace's labels.
    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String>;
    /// How an object's Pods leave: its own settings, or its class'.
    fn drain(&self, object: &DirectLoadBalancer) -> DrainSpec;
}

/// The patch for a Pod that is created in `namespace`; empty: nothing to add.
#[must_use]
pub fn patch(pod: &Value, namespace: &str, source: &dyn InjectSource) -> Patch {
    let label = |labels: Option<&str>| labels == Some("disabled");
    let opted_out = label(pod.pointer("/metadata/labels").and_then(|l| l.get(OPT_OUT_LABEL)).and_then(Value::as_str))
        || label(source.namespace_labels(namespace).get(OPT_OUT_LABEL).map(String::as_str));
    if opted_out || !pod["spec"].is_object() {
        return Patch(Vec::new());
    }
    let service = |name: &str| source.service_selector(namespace, name);
    let mut objects: Vec<_> = source
        .objects(namespace)
        .into_iter()
        .filter(|o| o.metadata.deletion_timestamp.is_none() && o.spec.mode == Mode::Enforce)
        .filter(|o| targets(o, pod, &service))
        .collect();
    objects.sort_by_key(|o| o.name_any());

    let mut ops = Vec::new();
    let gated = objects.iter().filter(|o| o.spec.readiness_gate == ReadinessGate::Enabled);
    add_gates(pod, gated.map(|o| gate_type(&o.name_any())), &mut ops);
    let seconds = objects
        .iter()
        .map(|o| source.drain(o))
        .filter(|d| d.pre_stop == PreStop::Inject)
        .filter_map(|d| d.timeout.get())
        .map(|t| i64::try_from(t.as_millis().div_ceil(1000)).unwrap_or(i64::MAX))
        .max()
        .unwrap_or(0);
    if seconds > 0 {
        add_sleep(pod, seconds, &mut ops);
    }
    Patch(ops)
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

fn add_gates(pod: &Value, wanted: impl Iterator<Item = String>, ops: &mut Vec<PatchOperation>) {
    let present = pod.pointer("/spec/readinessGates").and_then(Value::as_array);
    let has = |gate: &str| present.into_iter().flatten().any(|g| g["conditionType"] == gate);
    let missing: Vec<Value> = wanted.filter(|g| !has(g)).map(|g| json!({"conditionType": g})).collect();
    match (missing.is_empty(), present) {
        (true, _) => {}
        (false, None) => ops.push(add(&["spec", "readinessGates"], Value::Array(missing))),
        (false, Some(_)) => ops.extend(missing.into_iter().map(|g| add(&["spec", "readinessGates", "-"], g))),
    }
}

/// Gives each container (and each sidecar: an init container that restarts always) without a preStop hook a sleep, and
/// raises the grace period by as much, so that the application keeps its own.
fn add_sleep(pod: &Value, seconds: i64, ops: &mut Vec<PatchOperation>) {
    let before = ops.len();
    let sleep = json!({"sleep": {"seconds": seconds}});
    for (list, sidecars_only) in [("containers", false), ("initContainers", true)] {
        let containers = pod["spec"][list].as_array();
        for (i, c) in containers.into_iter().flatten().enumerate() {
            if sidecars_only && c["restartPolicy"] != "Always" {
                continue;
            }
            let i = i.to_string();
            match c.get("lifecycle").filter(|l| l.is_object()) {
                None => ops.push(add(&["spec", list, &i, "lifecycle"], json!({"preStop": sleep}))),
                Some(l) if l.get("preStop").is_none_or(Value::is_null) => {
                    ops.push(add(&["spec", list, &i, "lifecycle", "preStop"], sleep.clone()));
                }
                Some(_) => {}
            }
        }
    }
    if ops.len() == before {
        return;
    }
    // Admission may run more than once on the same Pod (reinvocation): what was added already is not added again.
    let already = pod
        .pointer("/metadata/annotations")
        .and_then(|a| a.get(INJECTED_ANNOTATION))
        .and_then(Value::as_str)
        .and_then(|s| s.parse::<i64>().ok())
        .unwrap_or(0);
    if already >= seconds {
        return;
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    let raised = own.unwrap_or(DEFAULT_GRACE).saturating_add(seconds - already);
    let path = ["spec", "terminationGracePeriodSeconds"];
    ops.push(match own {
        None => add(&path, json!(raised)),
        Some(_) => {
            PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(path), value: json!(raised) })
        }
    });
    if pod.pointer("/metadata/annotations").is_none_or(|a| !a.is_object()) {
        ops.push(add(&["metadata", "annotations"], json!({})));
    }
    ops.push(add(&["metadata", "annotations", INJECTED_ANNOTATION], json!(seconds.to_string())));
}
