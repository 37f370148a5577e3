//! Writing a gate condition: a patch of `pods/status`, guarded by the Pod's UID.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api::{FIELD_MANAGER, GateReason},
    model::Time,
};

/// A Pod that must still be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl PodRef {
    /// A reference to this Pod; `None` if it was never created.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        Some(Self { namespace: pod.namespace()?, name: pod.name_any(), uid: pod.uid()? })
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlipOutcome {
    /// The condition stands.
    Written,
    /// The Pod is gone, or another one has its name now.
    Gone,
}

/// The condition types that the Pod's readiness waits for.
pub fn gates(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten()).map(|g| g.condition_type.as_str())
}

/// Whether the Pod carries the gate.
#[must_use]
pub fn has_gate(pod: &Pod, gate: &str) -> bool {
    gates(pod).any(|g| g == gate)
}

fn condition<'a>(pod: &'a Pod, gate: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == gate)
}

/// Whether the gate's condition is True.
#[must_use]
pub fn is_open(pod: &Pod, gate: &str) -> bool {
    condition(pod, gate).is_some_and(|c| c.status == "True")
}

/// The patch that makes the condition so; `None`: it is so already. `lastTransitionTime` is kept unless the status changes.
#[must_use]
pub fn needs(pod: &Pod, gate: &str, open: bool, reason: GateReason, message: &str, now: Time) -> Option<Value> {
    let status = if open { "True" } else { "False" };
    let before = condition(pod, gate);
    let same = |c: &PodCondition| {
        c.status == status
            && c.reason.as_deref() == Some(reason.as_str())
            && c.message.as_deref().unwrap_or_default() == message
    };
    if before.is_some_and(same) {
        return None;
    }
    let time = match before.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone()) {
        Some(t) => json!(t),
        None => {
            let seconds = i64::try_from(now.0 / 1000).unwrap_or(0);
            json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            ))
        }
    };
    Some(json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": gate, "status": status, "reason": reason.as_str(), "message": message, "lastTransitionTime": time,
        }]},
    }))
}

/// Writes the patch that [`needs`] made.
///
/// # Errors
/// What the API server answered, except that the Pod is gone or another one: the UID in the patch makes it refuse that.
pub async fn set(client: &Client, pod: &PodRef, body: Value) -> Result<FlipOutcome, kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    match api.patch_status(&pod.name, &params, &Patch::Strategic(body)).await {
        Ok(_) => Ok(FlipOutcome::Written),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(FlipOutcome::Gone),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(conditions: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "readinessGates": [{"conditionType": "gate.directlb.io/web"}]},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    const GATE: &str = "gate.directlb.io/web";

    #[test]
    fn a_new_condition_is_guarded_by_the_uid() {
        let body = needs(&pod(json!([])), GATE, true, GateReason::Healthy, "well", Time(5_000)).unwrap();
        assert_eq!(body["metadata"]["uid"], "u");
        assert_eq!(body["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:05Z");
    }

    #[test]
    fn nothing_is_written_twice_and_the_transition_time_is_kept() {
        let before = json!([{"type": GATE, "status": "False", "reason": "Registering", "message": "a",
                             "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let pod = pod(before);
        assert_eq!(needs(&pod, GATE, false, GateReason::Registering, "a", Time(0)), None);
        let body = needs(&pod, GATE, false, GateReason::HealthCheckFailing, "b", Time(0)).unwrap();
        assert_eq!(body["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let body = needs(&pod, GATE, true, GateReason::Healthy, "c", Time(1_000)).unwrap();
        assert_eq!(body["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn gates_of_a_pod() {
        let pod = pod(json!([{"type": GATE, "status": "True"}]));
        assert!(has_gate(&pod, GATE) && is_open(&pod, GATE));
        assert!(!has_gate(&pod, "x") && !is_open(&pod, "x"));
    }
}
