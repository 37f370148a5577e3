//! `DirectLoadBalancerClass`: what the platform team offers.

use garde::Validate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::load_balancer::{DrainSpec, HealthCheckSpec};

/// A kind of load balancer that application teams may ask for by name.
#[derive(CustomResource, KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[kube(
    group = "directlb.io",
    version = "v1alpha1",
    kind = "DirectLoadBalancerClass",
    plural = "directloadbalancerclasses",
    shortname = "dlbclass",
    status = "DirectLoadBalancerClassStatus",
    derive = "PartialEq",
    doc = "A kind of load balancer that application teams may ask for by name",
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "Fleet", type_ = "string", json_path = ".spec.envoy.fleet"),
    printcolumn(name = "In-Use", type_ = "integer", json_path = ".status.inUse"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct DirectLoadBalancerClassSpec {
    /// Objects without a `className` use this class. If several classes say so, the oldest is the default.
    #[serde(default)]
    pub default: bool,

    /// The embedded provider: a fleet of Envoy proxies on the cluster's edge nodes.
    #[x_kube(validation = Rule::new("self.fleet == oldSelf.fleet").message("fleet is immutable: make another class"))]
    #[garde(dive)]
    pub envoy: EnvoyClass,

    /// The namespaces whose objects may use the class; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,

    /// Values for fields that an object leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub defaults: Option<ClassDefaults>,
}

/// The Envoy provider's part of a class.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct EnvoyClass {
    /// The proxy fleet: the value of label `directlb.io/fleet` on the proxies' Pods.
    #[serde(default = "default_fleet")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    #[garde(length(min = 1, max = 63))]
    pub fleet: String,

    /// CIDRs (`192.0.2.0/28`) or ranges (`192.0.2.10-192.0.2.20`) of which each object gets an address of its own;
    /// the network must route them to the edge nodes. Absent: objects share the edge nodes' own addresses, and
    /// the older object keeps a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 90)))]
    #[garde(length(max = 32), inner(custom(super::validate::pool_entry)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(p, p.contains('/') ? isCIDR(p) : (p.split('-').size() == 2 && p.split('-').all(a, isIP(a))))").message("each entry must be a CIDR (192.0.2.0/28) or a range (192.0.2.10-192.0.2.20)")
    )]
    pub address_pool: Vec<String>,
}

fn default_fleet() -> String {
    "default".into()
}

impl Default for EnvoyClass {
    fn default() -> Self {
        Self { fleet: default_fleet(), address_pool: Vec::new() }
    }
}

/// Which namespaces may use a class: those named, and those whose labels match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
    /// Namespaces by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Values for fields that an object leaves out.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClassDefaults {
    /// Health check of listeners that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub health_check: Option<HealthCheckSpec>,
    /// Drain of objects that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub drain: Option<DrainSpec>,
}

/// What the controller says about a class.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DirectLoadBalancerClassStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many objects use the class.
    #[serde(default)]
    pub in_use: i32,
    /// `Accepted`, and `Deleting` while objects still use a class that is to be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
