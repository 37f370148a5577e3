//! What admission adds to a Pod: readiness gates, and the native sleep that keeps it serving while it drains. Pure.
//!
//! The patch is made on the raw object, so that fields that this version of the types does not know survive. It is the same
//! when it is made twice: a Pod that has everything gets an empty patch.

mod targets;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use kube::ResourceExt as _;
use serde_json::{Value, json};

pub(crate) use targets::services as services_of;
pub use targets::targets;

use crate::{
    api::{
        DirectLoadBalancer, DrainSpec, GATE_PREFIX, InjectionStatus, Mode, PreStop, ReadinessGate, ServiceSelector,
        gate_type,
    },
    model::ObjectKey,
};

/// Label on a Pod or a namespace that says `disabled`: nothing is added.
pub const OPT_OUT_LABEL: &str = "directlb.io/inject";
/// Annotation that says how many seconds of sleep were added, by which the grace period was raised too.
pub const SECONDS_ANNOTATION: &str = "directlb.io/drain-seconds";
/// Annotation that says which containers they were added to, separated by commas.
pub const CONTAINERS_ANNOTATION: &str = "directlb.io/drain-containers";

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
    let seconds = objects.iter().map(|o| sleep_seconds(&source.drain(o))).max().unwrap_or(0);
    if seconds > 0 {
        add_sleep(pod, seconds, &mut ops);
    }
    Patch(ops)
}

/// What `status.injection` says, for who cannot look it up.
#[must_use]
pub fn status(object: &DirectLoadBalancer, key: &ObjectKey, source: &dyn InjectSource) -> InjectionStatus {
    let services = targets::services(object).into_iter().filter_map(|name| {
        Some(ServiceSelector { name: name.into(), selector: source.service_selector(&key.namespace, name)? })
    });
    InjectionStatus {
        gate: (object.spec.readiness_gate == ReadinessGate::Enabled).then(|| gate_type(&key.name)),
        sleep_seconds: i32::try_from(sleep_seconds(&source.drain(object))).unwrap_or(i32::MAX),
        services: services.collect(),
    }
}

/// How long containers sleep before they are told to stop, in whole seconds, rounded up; 0: not at all.
#[must_use]
pub fn sleep_seconds(drain: &DrainSpec) -> i64 {
    let timeout = drain.timeout.get().filter(|_| drain.pre_stop == PreStop::Inject).unwrap_or_default();
    i64::try_from(timeout.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

/// Adds the gates that are missing: each before the first gate of this project whose name is greater, so that their order
/// is the same whatever the order in which they are added; other gates stay where they are.
fn add_gates(pod: &Value, wanted: impl Iterator<Item = String>, ops: &mut Vec<PatchOperation>) {
    let list = pod.pointer("/spec/readinessGates").and_then(Value::as_array);
    let mut gates: Vec<String> =
        list.into_iter().flatten().map(|g| g["conditionType"].as_str().unwrap_or_default().to_owned()).collect();
    let mut made = list.is_some();
    for gate in wanted {
        if gates.contains(&gate) {
            continue;
        }
        if !made {
            ops.push(add(&["spec", "readinessGates"], json!([])));
            made = true;
        }
        let at = gates.iter().position(|g| g.starts_with(GATE_PREFIX) && *g > gate);
        let index = at.map_or("-".into(), |i| i.to_string());
        ops.push(add(&["spec", "readinessGates", &index], json!({"conditionType": gate})));
        gates.insert(at.unwrap_or(gates.len()), gate);
    }
}

/// Gives each container (and each sidecar: an init container that restarts always) without a preStop hook a sleep, and
/// raises the grace period by as much, so that the application keeps its own. Annotations say what was done, so that
/// whoever comes by again (another object, a reinvocation after another webhook) adds only what is missing.
fn add_sleep(pod: &Value, seconds: i64, ops: &mut Vec<PatchOperation>) {
    let annotation =
        |name: &str| pod.pointer("/metadata/annotations").and_then(|a| a.get(name)).and_then(Value::as_str);
    let already = annotation(SECONDS_ANNOTATION)
        .filter(|s| (1..=6).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|s| s.parse::<i64>().ok())
        .unwrap_or(0);
    let ours: Vec<&str> = annotation(CONTAINERS_ANNOTATION).map(|s| s.split(',').collect()).unwrap_or_default();
    let seconds = seconds.max(already);
    let sleep = json!({"sleep": {"seconds": seconds}});
    let mut slept = Vec::new();
    let before = ops.len();
    for (list, sidecars_only) in [("containers", false), ("initContainers", true)] {
        let containers = pod["spec"][list].as_array();
        for (i, c) in containers.into_iter().flatten().enumerate() {
            if sidecars_only && c["restartPolicy"] != "Always" {
                continue;
            }
            let (i, name) = (i.to_string(), c["name"].as_str().unwrap_or_default());
            let lifecycle = c.get("lifecycle").filter(|l| l.is_object());
            let hook = lifecycle.and_then(|l| l.get("preStop")).filter(|h| !h.is_null());
            match (lifecycle, hook) {
                (None, _) => ops.push(add(&["spec", list, &i, "lifecycle"], json!({"preStop": sleep}))),
                (Some(_), None) => ops.push(add(&["spec", list, &i, "lifecycle", "preStop"], sleep.clone())),
                (Some(_), Some(hook)) if ours.contains(&name) && hook["sleep"].is_object() => {
                    if seconds > already {
                        let path = ["spec", list, &i, "lifecycle", "preStop", "sleep", "seconds"];
                        ops.push(add(&path, json!(seconds)));
                    }
                }
                (Some(_), Some(_)) => continue,
            }
            slept.push(name);
        }
    }
    if ops.len() == before {
        return;
    }
    if seconds > already {
        let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_GRACE);
        // `add` replaces what is there (RFC 6902, 4.1).
        let raised = json!(own.saturating_add(seconds - already));
        ops.push(add(&["spec", "terminationGracePeriodSeconds"], raised));
    }
    if pod.pointer("/metadata/annotations").is_none_or(|a| !a.is_object()) {
        ops.push(add(&["metadata", "annotations"], json!({})));
    }
    ops.push(add(&["metadata", "annotations", SECONDS_ANNOTATION], json!(seconds.to_string())));
    ops.push(add(&["metadata", "annotations", CONTAINERS_ANNOTATION], json!(slept.join(","))));
}
