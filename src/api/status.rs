//! What `kubectl get directloadbalancer -o yaml` shows under `status`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Observed state of a `DirectLoadBalancer`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DirectLoadBalancerStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The class in use (also when it is the default class).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// The load balancer itself.
    #[serde(default)]
    pub load_balancer: LoadBalancerStatus,
    /// Counts over all distinct target Pods.
    #[serde(default)]
    pub targets: TargetCounts,
    /// `healthy/desired`, for `kubectl get`.
    #[serde(default)]
    pub ready_targets: String,
    /// One entry for each listener in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<ListenerStatus>,
    /// How much of the cloud's quotas the load balancer uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["resource".into(), "listener".into()]))]
    pub quotas: Vec<QuotaStatus>,
    /// Work not done yet.
    #[serde(default)]
    pub plan: PlanStatus,
    /// What target Pods get at their creation. An admission policy reads it: what it says of Services and of the class'
    /// defaults is nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<InjectionStatus>,
    /// `Accepted`, `Programmed`, `ProxiesReady`, `TargetsReady`, `WithinQuota`, `Ready`, and kstatus' `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What target Pods get at their creation.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InjectionStatus {
    /// The condition type of their readiness gate; absent: they get none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// How long containers without a preStop hook sleep before they are told to stop, in seconds; 0: they do not.
    #[serde(default)]
    pub sleep_seconds: i32,
    /// The Services that are targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub services: Vec<ServiceSelector>,
}

/// Which Pods a Service selects.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSelector {
    /// The Service's name.
    pub name: String,
    /// Its selector.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
}

/// The load balancer itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// The provider's id; for Envoy the fleet's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Where clients connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["value".into()]))]
    pub addresses: Vec<AddressStatus>,
}

/// One address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct AddressStatus {
    /// The address.
    pub value: String,
    /// `IPv4`, `IPv6` or `Hostname`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// How many targets stand where.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetCounts {
    /// Pods that should serve.
    #[serde(default)]
    pub desired: i32,
    /// Of these, registered on every listener and rule that targets them.
    #[serde(default)]
    pub registered: i32,
    /// Of these, healthy everywhere.
    #[serde(default)]
    pub healthy: i32,
    /// Pods that take no new connections and still hold some.
    #[serde(default)]
    pub draining: i32,
    /// Pods that should serve and carry no readiness gate, because they are older than the object.
    #[serde(default)]
    pub ungated: i32,
}

/// One listener.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// The provider's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Counts over the listener's targets.
    #[serde(default)]
    pub targets: TargetCounts,
    /// Why it is as it is, from the closed list of condition reasons.
    #[serde(default)]
    pub reason: String,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How much of a quota is used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QuotaStatus {
    /// Of what: `Listeners` of the load balancer, `Rules` of a listener, or `Targets` of a listener or of its fullest rule.
    pub resource: String,
    /// The listener; empty: the load balancer as a whole.
    #[serde(default)]
    pub listener: String,
    /// How many there are.
    pub used: i32,
    /// How many there may be.
    pub limit: i32,
}

/// Work not done yet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Steps not done yet.
    #[serde(default)]
    pub pending: i32,
    /// The first of them, as text (all of them in `mode: Plan`, up to 100).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub steps: Vec<String>,
    /// Steps held back for safety, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub holds: Vec<HoldStatus>,
}

/// A step held back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// `LastServingTarget`, `MassRemoval` or `ReplacementNotServing`.
    pub reason: String,
    /// The group that it protects.
    pub group: String,
    /// The same in a sentence.
    pub message: String,
}
