//! The readiness-gate condition of a Pod.

use std::collections::BTreeSet;

use super::Cloud;
use crate::{
    api::{GateReason, Reason},
    model::{Desired, Group, GroupId, Health, Observed, TargetId, TargetState},
};

/// What a gate's verdict depends on, besides the groups.
#[derive(Clone, Copy, Debug)]
pub struct GateContext<'a> {
    /// What should be.
    pub desired: &'a Desired,
    /// What is.
    pub in_force: &'a Observed,
    /// `readinessGate: Disabled`.
    pub disabled: bool,
    /// Nothing of the object was ever accepted, and it has been so for a while.
    pub not_accepted: bool,
    /// The fleet has proxies that report.
    pub proxies: bool,
    /// The load balancer in a cloud.
    pub cloud: Option<&'a Cloud>,
}

/// What a Pod's gate condition should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateVerdict {
    /// True: the Pod may be Ready.
    pub open: bool,
    /// Why, from the closed list.
    pub reason: GateReason,
    /// The same in a sentence.
    pub message: String,
}

impl GateVerdict {
    /// An open gate.
    pub fn open(reason: GateReason, message: impl Into<String>) -> Self {
        Self { open: true, reason, message: message.into() }
    }
    fn shut(reason: GateReason, message: impl Into<String>) -> Self {
        Self { open: false, reason, message: message.into() }
    }
}

/// The verdict for the Pod `uid`; `None`: leave the condition as it is.
///
/// `is_open` is the condition now. An open gate is shut only on a proxy's word that the Pod is unhealthy, never because
/// nobody has said anything (a new proxy, a controller that has just started). `groups` are the groups whose selectors
/// match the Pod, whether or not it is registered there yet.
#[must_use]
pub fn gate(ctx: &GateContext<'_>, uid: &str, groups: &BTreeSet<GroupId>, is_open: bool) -> Option<GateVerdict> {
    use GateReason as R;
    if ctx.desired.deleting {
        return Some(GateVerdict::open(R::LoadBalancerDeleted, "the DirectLoadBalancer is being deleted"));
    }
    if ctx.disabled {
        return Some(GateVerdict::open(R::GateDisabled, "spec.readinessGate is Disabled"));
    }
    if ctx.not_accepted {
        return Some(GateVerdict::open(R::NotAccepted, "the DirectLoadBalancer is not accepted and serves nothing"));
    }
    if groups.is_empty() {
        return Some(GateVerdict::open(R::NotTargeted, "no listener or rule targets the Pod"));
    }
    let mut waiting: Vec<GateVerdict> = Vec::new();
    let mut held = false;
    for id in groups {
        let Some(group) = ctx.desired.groups.get(id) else { continue };
        let Some((target, want)) = group.targets.iter().find(|(t, _)| t.uid == uid) else {
            waiting.push(GateVerdict::shut(R::ContainersNotReady, "the Pod has no address, or not the port yet"));
            continue;
        };
        match want.state {
            // The Pod is leaving: its readiness no longer matters to anybody.
            TargetState::Terminating => return None,
            // Open, it must stay so: it is what tells a lost node from a Pod that waits for its gate.
            TargetState::NodeLost => return None,
            // Held in service, as nothing else serves: a controller that starts anew knows it by its open gate.
            TargetState::NotReady if is_open && serves(ctx.in_force, id, target) => {
                held = true;
                continue;
            }
            TargetState::NotReady => {
                waiting.push(GateVerdict::shut(R::ContainersNotReady, "the Pod's containers are not ready"));
                continue;
            }
            TargetState::Serving => {}
        }
        let have = ctx.in_force.groups.get(id).and_then(|g| g.targets.get(target));
        waiting.extend(match have {
            None => Some(GateVerdict::shut(R::Registering, format!("not registered in {id} yet"))),
            Some(have) => match &have.health {
                Health::Healthy if have.draining_since.is_none() => None,
                Health::Unhealthy { on } => {
                    Some(GateVerdict::shut(R::HealthCheckFailing, failure(&want.pod, id, group, on)))
                }
                Health::Pending { on } => Some(refused(ctx, uid).unwrap_or_else(|| pending(id, group, on))),
                _ if !ctx.proxies => Some(GateVerdict::shut(R::NoProxies, "the fleet has no proxy that reports")),
                _ => Some(GateVerdict::shut(R::Registering, format!("no proxy has reported on {id} yet"))),
            },
        });
    }
    match waiting.into_iter().max_by_key(|v| severity(v.reason)) {
        None if held => None,
        None => Some(GateVerdict::open(R::Healthy, "registered and healthy on every listener, rule and proxy")),
        // On an unknown an open gate stays open.
        Some(v) if is_open && !matches!(v.reason, R::HealthCheckFailing | R::ContainersNotReady) => None,
        Some(v) => Some(v),
    }
}

/// What the cloud has against the Pod.
fn refused(ctx: &GateContext<'_>, uid: &str) -> Option<GateVerdict> {
    let trouble = ctx.cloud?.refusal(uid)?;
    let reason = match trouble.reason {
        Reason::QuotaExceeded => GateReason::QuotaExceeded,
        Reason::CloudRejected | Reason::CloudConflict => GateReason::CloudRejected,
        _ => return None,
    };
    Some(GateVerdict::shut(reason, trouble.message.clone()))
}

fn serves(in_force: &Observed, id: &GroupId, target: &TargetId) -> bool {
    let have = in_force.groups.get(id).and_then(|g| g.targets.get(target));
    have.is_some_and(|h| h.draining_since.is_none() && !matches!(h.health, Health::Unhealthy { .. }))
}

fn severity(reason: GateReason) -> u8 {
    match reason {
        GateReason::HealthCheckFailing => 4,
        GateReason::ContainersNotReady => 3,
        GateReason::QuotaExceeded | GateReason::CloudRejected => 2,
        GateReason::Registering => 1,
        _ => 0,
    }
}

fn pending(id: &GroupId, group: &Group, on: &BTreeSet<String>) -> GateVerdict {
    let names: Vec<&String> = on.iter().collect();
    let text = format!(
        "{} has not passed yet on {}, {}",
        group.health_check.probe.describe(),
        super::conditions::some_of(&names),
        place(id)
    );
    GateVerdict::shut(GateReason::Registering, text)
}

/// A failed health check in a sentence: which Pod, which check, which listener, which proxies.
pub(super) fn failure(pod: &str, id: &GroupId, group: &Group, on: &BTreeSet<String>) -> String {
    let names: Vec<&String> = on.iter().collect();
    format!(
        "{pod} fails {} on {}, {}",
        group.health_check.probe.describe(),
        super::conditions::some_of(&names),
        place(id)
    )
}

fn place(id: &GroupId) -> String {
    match &id.rule {
        None => format!("listener {} ({})", id.listener, id.target),
        Some(rule) => format!("listener {} rule {rule} ({})", id.listener, id.target),
    }
}
