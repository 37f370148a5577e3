//! The wire types of group `directlb.io`, version `v1alpha1`.
//!
//! What a user writes and reads. The structural schema (and the CEL rules in it) is generated from here into
//! `crds/`; [`validate`] says the same rules again in sentences, for the webhook and for the controller when
//! admission is off. Nothing here decides: the meaning of an object is worked out in [`crate::resolve`].

mod class;
mod conditions;
mod duration;
mod load_balancer;
mod port;
mod status;
pub mod validate;

pub use class::{
    AllowedNamespaces, ClassDefaults, DirectLoadBalancerClass, DirectLoadBalancerClassSpec,
    DirectLoadBalancerClassStatus, EnvoyClass, SecretRef, TencentClass, TencentQuotas,
};
pub use conditions::{ConditionType, GateReason, Reason};
pub use duration::HumanDuration;
pub use load_balancer::{
    AffinityKind, DeletionPolicy, DirectLoadBalancer, DirectLoadBalancerSpec, DrainSpec, HealthCheckKind,
    HealthCheckSpec, Listener, ListenerRule, ListenerTls, LoadBalancerSpec, Mode, PathType, PreStop, Protocol,
    ProxyProtocol, ReadinessGate, Redirect, Scheduler, Scheme, ServiceRef, SessionAffinity, Target, TargetProtocol,
    TlsMode, WeightedTarget, WorkloadKind, WorkloadRef,
};
pub use port::PortRef;
pub use status::{
    AddressStatus, DirectLoadBalancerStatus, HoldStatus, InjectionStatus, ListenerStatus, LoadBalancerStatus,
    PlanStatus, QuotaStatus, ServiceSelector, TargetCounts,
};

/// API group of every DirectLB type.
pub const GROUP: &str = "directlb.io";
/// The finalizer that keeps an object until its listeners are gone and its gates are open.
pub const FINALIZER: &str = "directlb.io/load-balancer";
/// The field manager of every server-side apply of the controller.
pub const FIELD_MANAGER: &str = "directlb";
/// Prefix of the Pod condition types used as readiness gates (KEP-580, "Pod Ready++").
pub const GATE_PREFIX: &str = "gate.directlb.io/";

/// The readiness-gate condition type for the object `name`.
///
/// A condition type's name part may hold 63 characters; a longer object name keeps its head and ends in a
/// hash of the whole, so that two long names never share a gate.
#[must_use]
pub fn gate_type(name: &str) -> String {
    const MAX: usize = 63;
    const TAIL: usize = 10;
    if name.len() <= MAX {
        return format!("{GATE_PREFIX}{name}");
    }
    let hash = crate::model::short_hash(name);
    // An object's name is ASCII (RFC 1123), so a byte index is a character index.
    let head = name[..MAX - TAIL - 1].trim_end_matches(['-', '.']);
    format!("{GATE_PREFIX}{head}-{}", &hash[..TAIL])
}

/// The `DirectLoadBalancer` and `DirectLoadBalancerClass` definitions, as they stand in `crds/`.
#[must_use]
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![DirectLoadBalancerClass::crd(), DirectLoadBalancer::crd()]
}
