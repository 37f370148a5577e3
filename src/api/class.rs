//! `DirectLoadBalancerClass`: what the platform team offers.
// The lint does not know that `printcolumn` may be given several times.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

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
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.tencent.region", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.envoy) != has(self.tencent)").message("give exactly one of envoy and tencent"),
    validation = Rule::new("has(self.envoy) == has(oldSelf.envoy)").message("the provider is immutable: make another class")
)]
pub struct DirectLoadBalancerClassSpec {
    /// Objects without a `className` use this class. If several classes say so, the oldest is the default.
    #[serde(default)]
    pub default: bool,

    /// The embedded provider: a fleet of Envoy proxies on the cluster's edge nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.fleet == oldSelf.fleet").message("fleet is immutable: make another class"))]
    #[garde(dive)]
    pub envoy: Option<EnvoyClass>,

    /// Tencent Cloud: each object is a CLB instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self.region == oldSelf.region && self.vpcId == oldSelf.vpcId").message("region and vpcId are immutable: make another class"),
        validation = Rule::new("!has(self.endpoint) || self.endpoint.startsWith('https://') || (has(self.insecureHttp) && self.insecureHttp)").message("endpoint must begin with https:// unless insecureHttp is true")
    )]
    #[garde(dive)]
    pub tencent: Option<TencentClass>,

    /// The namespaces whose objects may use the class; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,

    /// Values for fields that an object leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub defaults: Option<ClassDefaults>,
}

impl DirectLoadBalancerClassSpec {
    /// The Envoy fleet that carries the class' objects; `None`: a cloud does.
    #[must_use]
    pub fn fleet(&self) -> Option<&str> {
        self.envoy.as_ref().map(|e| e.fleet.as_str())
    }
    /// The entries of the address pool; none where a cloud hands out addresses.
    #[must_use]
    pub fn address_pool(&self) -> &[String] {
        self.envoy.as_ref().map_or(&[], |e| &e.address_pool)
    }
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

/// The Tencent Cloud provider's part of a class.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct TencentClass {
    /// The region, such as `ap-guangzhou`. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    #[garde(custom(super::validate::dns_label))]
    pub region: String,

    /// The network that the Pods' addresses are in, such as `vpc-1a2b3c4d`. Immutable.
    #[schemars(length(min = 5, max = 64), regex(pattern = "^vpc-[a-z0-9-]+$"))]
    #[garde(custom(super::validate::vpc_id))]
    pub vpc_id: String,

    /// Where load balancers of scheme `Internal` get their addresses, such as `subnet-1a2b3c4d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 64), regex(pattern = "^subnet-[a-z0-9-]+$"))]
    #[garde(inner(custom(super::validate::subnet_id)))]
    pub subnet_id: Option<String>,

    /// The ranges that the network routes to, such as `10.0.0.0/16`, for `directlb check`; absent: nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 50)))]
    #[garde(length(max = 32), inner(custom(super::validate::cidr)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(c, isCIDR(c))").message("each entry must be a CIDR such as 10.0.0.0/16")
    )]
    pub vpc_cidrs: Vec<String>,

    /// The Secret in the controller's namespace that holds `secretId`, `secretKey` and, for temporary credentials,
    /// `token`. Changes are picked up within seconds.
    #[garde(dive)]
    pub credentials_secret_ref: SecretRef,

    /// The API's URL; absent: `https://clb.tencentcloudapi.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 253), regex(pattern = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"))]
    #[garde(inner(custom(super::validate::endpoint)))]
    pub endpoint: Option<String>,

    /// The certificates, PEM, that the endpoint's must be issued by; absent: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca_bundle: Option<String>,

    /// Allows an `endpoint` without TLS: requests are signed, but neither they nor the replies are secret.
    #[serde(default)]
    pub insecure_http: bool,

    /// Load balancers made by others that objects may name in `loadBalancer.id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 4, max = 64)))]
    #[garde(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub adoptable_load_balancers: Vec<String>,

    /// Calls per second of each API action that the controller may make, from 1 to 1000; absent: 20, what the API
    /// lets through for an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    #[garde(inner(custom(super::validate::rate)))]
    pub requests_per_second: Option<i32>,

    /// The security groups of load balancers that are made, such as `sg-1a2b3c4d`; absent: nothing is said of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(min = 4, max = 64), regex(pattern = "^sg-[a-z0-9-]+$")))]
    #[garde(length(max = 50), inner(custom(super::validate::security_group)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub security_groups: Vec<String>,

    /// Whether what a load balancer lets through needs no rule in the Pods' security groups (CLB's
    /// `LoadBalancerPassToTarget`); absent: nothing is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_to_target: Option<bool>,

    /// Quotas that differ from what the API says (or, where it says nothing, from those documented).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub quotas: Option<TencentQuotas>,

    /// Tags that every load balancer gets, besides those that say whose it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 15))]
    #[garde(length(max = 15))]
    pub tags: BTreeMap<String, String>,
}

/// How many there may be of something.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct TencentQuotas {
    /// Listeners of a load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[garde(inner(custom(super::validate::quota)))]
    pub listeners: Option<i32>,
    /// Rules of a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[garde(inner(custom(super::validate::quota)))]
    pub rules: Option<i32>,
    /// Targets of a TCP, UDP, TLS or QUIC listener, or of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[garde(inner(custom(super::validate::quota)))]
    pub targets: Option<i32>,
}

/// A Secret of the controller's namespace.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[garde(custom(super::validate::object_name))]
    pub name: String,
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
