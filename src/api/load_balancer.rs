//! `DirectLoadBalancer`: what an application team asks for.
// The lint does not know that `printcolumn` may be given several times.
#![allow(clippy::duplicated_attributes)]

use garde::Validate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HumanDuration, PortRef, status::DirectLoadBalancerStatus};

/// A load balancer whose backends are the Pods themselves.
#[derive(CustomResource, KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[kube(
    group = "directlb.io",
    version = "v1alpha1",
    kind = "DirectLoadBalancer",
    plural = "directloadbalancers",
    shortname = "dlb",
    namespaced,
    status = "DirectLoadBalancerStatus",
    derive = "PartialEq",
    doc = "A load balancer whose backends are the Pods themselves",
    printcolumn(name = "Class", type_ = "string", json_path = ".status.className"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.loadBalancer.addresses[0].value"),
    printcolumn(name = "Targets", type_ = "string", json_path = ".status.readyTargets"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "LB-ID", type_ = "string", json_path = ".status.loadBalancer.id", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    )
)]
#[x_kube(
    validation = Rule::new("has(self.className) == has(oldSelf.className)").message("className is immutable: it can neither be added nor removed later"),
    validation = Rule::new("!(has(self.target) && has(self.targets))").message("give either target or targets, not both"),
    validation = Rule::new("has(self.target) || has(self.targets) || self.listeners.all(l, has(l.target) || has(l.targets) || has(l.redirect))").message("give a target: in spec, or in every listener without redirect"),
    validation = Rule::new("!has(self.targets) || self.targets.filter(t, t.weight > 0).size() <= 1 || self.listeners.all(l, l.protocol != 'UDP' || has(l.target) || has(l.targets))").message("a UDP listener sends to one target: give at most one a weight above 0"),
    validation = Rule::new("self.listeners.all(a, self.listeners.exists_one(b, a.port == b.port && (a.protocol in ['UDP', 'QUIC']) == (b.protocol in ['UDP', 'QUIC'])))").message("two listeners have the same port and transport protocol")
)]
pub struct DirectLoadBalancerSpec {
    /// The `DirectLoadBalancerClass`; absent: the default class. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[garde(inner(custom(super::validate::object_name)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("className is immutable: delete the object and make it anew"))]
    pub class_name: Option<String>,

    /// The load balancer itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub load_balancer: Option<LoadBalancerSpec>,

    /// The Pods that every listener and rule sends to, unless it has targets of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub target: Option<Target>,

    /// Several targets with weights, instead of `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[garde(dive)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub targets: Option<Vec<WeightedTarget>>,

    /// What the load balancer listens on.
    #[schemars(length(min = 1, max = 50))]
    #[garde(custom(super::validate::listener_count), dive)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<Listener>,

    /// Whether Pods wait for the load balancer before they are Ready.
    #[serde(default)]
    pub readiness_gate: ReadinessGate,

    /// How Pods leave; absent: the class' default, else 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub drain: Option<DrainSpec>,

    /// Whether the controller acts, or only shows what it would do.
    #[serde(default)]
    pub mode: Mode,
}

/// The load balancer itself.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(
    validation = Rule::new("has(self.address) == has(oldSelf.address)").message("address is immutable: it can neither be added nor removed later"),
    validation = Rule::new("has(self.id) == has(oldSelf.id)").message("id is immutable: it can neither be added nor removed later"),
    validation = Rule::new("!has(self.id) || !has(self.address)").message("give either id or address, not both")
)]
pub struct LoadBalancerSpec {
    /// A cloud's load balancer that exists already, by its id: its class must allow that (`adoptableLoadBalancers`). It
    /// is never deleted, and what others made on it stays as it is. Absent: one is made. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[garde(inner(custom(super::validate::cloud_id)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("id is immutable: delete the object and make it anew"))]
    pub id: Option<String>,
    /// Whether a cloud's load balancer has a public or a private address. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("scheme is immutable: delete the object and make it anew"))]
    pub scheme: Scheme,
    /// An address of the class' pool to have; absent: any free one. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    #[garde(inner(custom(super::validate::ip_address)))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("address is immutable: delete the object and make it anew"),
        validation = Rule::new("isIP(self)").message("must be an IP address such as 192.0.2.7")
    )]
    pub address: Option<String>,
    /// What happens to the load balancer when the object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Whether a cloud's load balancer has a public or a private address.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// A public address.
    #[default]
    Internet,
    /// An address of the class' subnet.
    Internal,
}

impl Scheme {
    /// As written in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internet => "Internet",
            Self::Internal => "Internal",
        }
    }
}

/// What happens to a load balancer when its object is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It is removed.
    #[default]
    Delete,
}

/// Whether Pods wait for the load balancer before they are Ready.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadinessGate {
    /// New target Pods get a readiness gate.
    #[default]
    Enabled,
    /// They get none, and gates already there are opened.
    Disabled,
}

/// Whether the controller acts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Make it so.
    #[default]
    Enforce,
    /// Compute and show in `status.plan` what would change; change nothing.
    Plan,
}

/// How Pods leave.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct DrainSpec {
    /// How long a leaving Pod may keep its open connections, from 0s to 1h.
    #[serde(default = "default_drain_timeout")]
    #[garde(custom(super::validate::drain_timeout))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("must be at most 1h"))]
    pub timeout: HumanDuration,
    /// Whether containers without a preStop hook get a native sleep, so that they serve while they drain.
    #[serde(default)]
    pub pre_stop: PreStop,
}

fn default_drain_timeout() -> HumanDuration {
    HumanDuration("30s".into())
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self { timeout: default_drain_timeout(), pre_stop: PreStop::default() }
    }
}

/// Whether a native sleep is put in as preStop hook.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreStop {
    /// Containers without a preStop hook get one.
    #[default]
    Inject,
    /// Pods are left as they are.
    None,
}

/// Which Pods to send to: exactly one of `workload`, `service` and `selector`.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(validation = Rule::new("[has(self.workload), has(self.service), has(self.selector)].exists_one(x, x)").message("give exactly one of workload, service and selector"))]
pub struct Target {
    /// The Pods of a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub workload: Option<WorkloadRef>,
    /// The Pods that a Service selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub service: Option<ServiceRef>,
    /// The Pods of the object's namespace that these labels select.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A workload in the object's namespace.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct WorkloadRef {
    /// The workload's kind, of API group `apps`.
    pub kind: WorkloadKind,
    /// The workload's name.
    #[schemars(length(min = 1, max = 253))]
    #[garde(custom(super::validate::object_name))]
    pub name: String,
}

/// Kinds of workload, of API group `apps`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
}

/// A Service in the object's namespace; it needs a selector.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct ServiceRef {
    /// The Service's name.
    #[schemars(length(min = 1, max = 253))]
    #[garde(custom(super::validate::object_name))]
    pub name: String,
}

/// A target and its share of the traffic.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(validation = Rule::new("[has(self.workload), has(self.service), has(self.selector)].exists_one(x, x)").message("give exactly one of workload, service and selector"))]
pub struct WeightedTarget {
    /// Share of new connections and requests, relative to the other targets; 0 keeps the target warm without traffic.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1000))]
    #[garde(custom(super::validate::weight))]
    pub weight: i32,
    /// Which Pods.
    #[serde(flatten)]
    #[garde(dive)]
    pub target: Target,
}

fn default_weight() -> i32 {
    1
}

/// Something that the load balancer listens on.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(
    validation = Rule::new("!has(self.rules) || self.protocol in ['HTTP', 'HTTPS']").message("rules need protocol HTTP or HTTPS"),
    validation = Rule::new("self.protocol != 'HTTPS' || (has(self.tls) && self.tls.mode == 'Terminate')").message("protocol HTTPS needs tls with mode Terminate"),
    validation = Rule::new("self.protocol != 'TLS' || has(self.tls)").message("protocol TLS needs tls"),
    validation = Rule::new("self.protocol != 'QUIC' || (has(self.tls) && self.tls.mode == 'Terminate')").message("protocol QUIC needs tls with mode Terminate"),
    validation = Rule::new("self.protocol in ['HTTPS', 'TLS', 'QUIC'] || !has(self.tls)").message("tls needs protocol HTTPS, TLS or QUIC"),
    validation = Rule::new("!has(self.redirect) || self.protocol in ['HTTP', 'HTTPS']").message("redirect needs protocol HTTP or HTTPS"),
    validation = Rule::new("!has(self.redirect) || !(has(self.target) || has(self.targets))").message("give either redirect or targets, not both"),
    validation = Rule::new("!has(self.redirect) || self.redirect.listener != self.name").message("redirect leads to the listener itself"),
    validation = Rule::new("!(has(self.target) && has(self.targets))").message("give either target or targets, not both"),
    validation = Rule::new("!has(self.sessionAffinity) || self.sessionAffinity.type != 'Cookie' || self.protocol in ['HTTP', 'HTTPS']").message("session affinity by cookie needs protocol HTTP or HTTPS"),
    validation = Rule::new("self.protocol != 'UDP' || !has(self.targets) || self.targets.filter(t, t.weight > 0).size() <= 1").message("a UDP listener sends to one target: give at most one a weight above 0"),
    validation = Rule::new("self.protocol != 'UDP' || !has(self.proxyProtocol)").message("proxyProtocol cannot be sent over UDP"),
    validation = Rule::new("self.targetProtocol == 'HTTP1' || self.protocol in ['HTTP', 'HTTPS']").message("targetProtocol HTTP2 needs protocol HTTP or HTTPS")
)]
pub struct Listener {
    /// A name, unique in the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    #[garde(custom(super::validate::dns_label))]
    pub name: String,

    /// The protocol towards clients.
    pub protocol: Protocol,

    /// The port that clients connect to, from 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    #[garde(custom(super::validate::port))]
    pub port: i32,

    /// The Pods' port, by number or by the name of a container port; absent: the Service's (for a target by Service
    /// that has this `port`), else the same as `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::port_ref)))]
    pub target_port: Option<PortRef>,

    /// The protocol towards the Pods, for HTTP and HTTPS listeners.
    #[serde(default)]
    pub target_protocol: TargetProtocol,

    /// Certificates, or pass-through; for HTTPS and TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub tls: Option<ListenerTls>,

    /// Targets of this listener, instead of the object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub target: Option<Target>,

    /// Several targets with weights, instead of `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[garde(dive)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub targets: Option<Vec<WeightedTarget>>,

    /// Sends clients to another listener, such as from HTTP to HTTPS, instead of to targets; for HTTP and HTTPS. Rules
    /// come first. On a Tencent CLB a host that no rule of either listener names is sent to the CLB's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub redirect: Option<Redirect>,

    /// Requests by host and path to other targets; for HTTP and HTTPS. The most specific rule wins: exact host
    /// before wildcard before any host, exact path before the longest prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[garde(dive)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into(), "path".into(), "pathType".into()]))]
    pub rules: Option<Vec<ListenerRule>>,

    /// How a target is chosen.
    #[serde(default)]
    pub scheduler: Scheduler,

    /// Keeps a client on one target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub session_affinity: Option<SessionAffinity>,

    /// How targets are checked; absent: the class' default, else TCP (HTTP on `/` for HTTP and HTTPS is never
    /// assumed), and none for UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub health_check: Option<HealthCheckSpec>,

    /// How long a new target takes to reach its full share, up to 15m; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::slow_start)))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('15m')").message("must be from 1s to 15m"))]
    pub slow_start: Option<HumanDuration>,

    /// Tells the Pods the client's address by the PROXY protocol; not for UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,

    /// Whether the proxies log each request or connection to their standard output.
    #[serde(default)]
    pub access_log: bool,
}

impl Listener {
    /// Whether it sends to the object's targets: it has none of its own, and sends nobody elsewhere.
    #[must_use]
    pub const fn inherits_targets(&self) -> bool {
        self.target.is_none() && self.targets.is_none() && self.redirect.is_none()
    }
}

/// The protocol towards clients.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[allow(clippy::upper_case_acronyms)]
pub enum Protocol {
    TCP,
    UDP,
    TLS,
    HTTP,
    HTTPS,
    /// QUIC that the load balancer ends, towards Pods that speak TCP; of a Tencent CLB only.
    QUIC,
}

impl Protocol {
    /// As written in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::TLS => "TLS",
            Self::HTTP => "HTTP",
            Self::HTTPS => "HTTPS",
            Self::QUIC => "QUIC",
        }
    }
    /// Whether its port is one of UDP.
    #[must_use]
    pub const fn over_udp(self) -> bool {
        matches!(self, Self::UDP | Self::QUIC)
    }
    /// Whether requests (not only connections) are balanced.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::HTTP | Self::HTTPS)
    }
}

/// The protocol towards the Pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetProtocol {
    /// HTTP/1.1.
    #[default]
    HTTP1,
    /// HTTP/2 without TLS (prior knowledge), which gRPC needs.
    HTTP2,
}

/// Certificates, or pass-through.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(
    validation = Rule::new("self.mode == 'Terminate' ? has(self.secretNames) != has(self.certificateId) : !has(self.secretNames) && !has(self.certificateId)").message("mode Terminate needs secretNames or certificateId (one of them), mode Passthrough takes none")
)]
pub struct ListenerTls {
    /// Whether the load balancer or the Pod ends TLS.
    #[serde(default)]
    pub mode: TlsMode,
    /// Secrets of type `kubernetes.io/tls` in the object's namespace. With several, the server name (SNI) chooses; the
    /// first serves clients that name no known host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[garde(inner(custom(super::validate::secret_count)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub secret_names: Option<Vec<String>>,
    /// A certificate that the cloud keeps, by its id there; only where the class is a cloud's. Who renews it there gives
    /// the new one's id here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[garde(inner(custom(super::validate::cloud_id)))]
    pub certificate_id: Option<String>,
}

/// Who ends TLS.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// The load balancer.
    #[default]
    Terminate,
    /// The Pod; only for protocol TLS.
    Passthrough,
}

/// Requests by host and path to other targets.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(
    validation = Rule::new("[has(self.target), has(self.targets), has(self.redirect)].exists_one(x, x)").message("give one of target, targets and redirect")
)]
pub struct ListenerRule {
    /// A host name, `*.example.com` for all its sub-domains, or `*` for any. Without scheme and port.
    #[serde(default = "any_host")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\*|(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)$")
    )]
    #[garde(custom(super::validate::rule_host))]
    pub host: String,
    /// A path that begins with `/`.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[^?#\s]*$"))]
    #[garde(custom(super::validate::rule_path))]
    pub path: String,
    /// Whether the path must be equal, or be a prefix by whole segments (`/a` matches `/a` and `/a/b`, not `/ab`).
    #[serde(default)]
    pub path_type: PathType,
    /// Which Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub target: Option<Target>,
    /// Several targets with weights, instead of `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[garde(dive)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub targets: Option<Vec<WeightedTarget>>,
    /// Sends clients to another listener instead of to targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub redirect: Option<Redirect>,
    /// The Pods' port; absent: the listener's `targetPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::port_ref)))]
    pub target_port: Option<PortRef>,
    /// How these targets are checked; absent: as the listener's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub health_check: Option<HealthCheckSpec>,
}

/// Sends clients to the same host and path at another listener.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub struct Redirect {
    /// A listener of this object with protocol HTTP or HTTPS, which redirects nothing itself.
    #[schemars(length(min = 1, max = 63))]
    pub listener: String,
    /// The status of the answer: 301 (moved for good), 302 (for now), or 307 (for now, with the same method).
    #[serde(default = "moved")]
    #[garde(custom(super::validate::redirect_status))]
    #[x_kube(validation = Rule::new("self in [301, 302, 307]").message("must be 301, 302 or 307"))]
    pub status_code: i32,
}

const fn moved() -> i32 {
    301
}

fn any_host() -> String {
    "*".into()
}
fn root_path() -> String {
    "/".into()
}

/// How a rule's path is compared.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathType {
    /// By whole segments from the start.
    #[default]
    Prefix,
    /// The whole path.
    Exact,
}

/// How a target is chosen.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with fewer requests or connections of two chosen at random.
    LeastRequest,
    /// By a consistent hash of the client's address.
    SourceHash,
}

/// Keeps a client on one target.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(validation = Rule::new("self.type == 'Cookie' || !has(self.cookieName)").message("cookieName needs type Cookie"))]
pub struct SessionAffinity {
    /// What names a client.
    #[serde(rename = "type")]
    pub kind: AffinityKind,
    /// The cookie's name; default `directlb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    #[garde(inner(custom(super::validate::cookie_name)))]
    pub cookie_name: Option<String>,
    /// How long the cookie lasts; absent: for the browser's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::duration)))]
    pub ttl: Option<HumanDuration>,
}

/// What names a client.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityKind {
    /// Its address.
    SourceAddress,
    /// A cookie that the load balancer sets; for HTTP and HTTPS.
    Cookie,
}

/// Which PROXY protocol header the Pods get.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// How targets are checked.
#[derive(KubeSchema, Validate, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
#[x_kube(
    validation = Rule::new("!has(self.timeout) || !has(self.interval) || duration(self.timeout) <= duration(self.interval)").message("timeout must not be longer than interval"),
    validation = Rule::new("!has(self.path) || !has(self.type) || self.type == 'HTTP'").message("path needs type HTTP"),
    validation = Rule::new("!has(self.service) || (has(self.type) && self.type == 'GRPC')").message("service needs type GRPC")
)]
pub struct HealthCheckSpec {
    /// The kind of check; absent: HTTP if `path` is given, else TCP (None for UDP).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<HealthCheckKind>,
    /// The path of an HTTP check, which must answer with a 2xx status; default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[^#\s]*$"))]
    #[garde(inner(custom(super::validate::rule_path)))]
    pub path: Option<String>,
    /// The `Host` header of an HTTP check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// The service name of a gRPC check (gRPC Health Checking Protocol); default the empty name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service: Option<String>,
    /// The port to check; absent: the target port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::port_ref)))]
    pub port: Option<PortRef>,
    /// Time between checks, from 100ms to 5m; absent: 2s, or 3s on a Tencent CLB (which takes whole seconds from 2s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::interval)))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('5m')").message("must be from 100ms to 5m"))]
    pub interval: Option<HumanDuration>,
    /// Time after which a check has failed; at most `interval`; absent: 1s, or 2s on a Tencent CLB (which takes whole
    /// seconds from 2s, and less than `interval`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(super::validate::interval)))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('5m')").message("must be from 100ms to 5m"))]
    pub timeout: Option<HumanDuration>,
    /// Passes in a row that make a target healthy again; on Envoy its first pass makes a new target healthy. Absent: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    #[garde(inner(custom(super::validate::threshold)))]
    pub healthy_threshold: Option<i32>,
    /// Failures in a row that make a target unhealthy. Absent: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    #[garde(inner(custom(super::validate::threshold)))]
    pub unhealthy_threshold: Option<i32>,
}

/// Kinds of health check.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[allow(clippy::upper_case_acronyms)]
pub enum HealthCheckKind {
    /// A connection is accepted.
    TCP,
    /// A GET is answered with a 2xx status.
    HTTP,
    /// `grpc.health.v1.Health/Check` answers `SERVING`.
    GRPC,
    /// No check: a registered target counts as healthy.
    None,
}
