//! Projection: what the stages found out -> status, conditions, events and the Pods' gate conditions. Pure.

mod conditions;
mod events;
mod gate;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

pub(crate) use conditions::some_of;
pub use events::{Transition, transitions};
pub use gate::{GateContext, GateVerdict, gate};

use crate::{
    api::{
        AddressStatus, DirectLoadBalancer, DirectLoadBalancerStatus, HoldStatus, InjectionStatus, ListenerStatus,
        LoadBalancerStatus, Mode, PlanStatus, QuotaStatus, Reason, TargetCounts,
    },
    model::{Desired, Group, Health, Hold, HoldReason, Observed, Plan, TargetState, Time},
};

/// Everything that a projection looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The object, with its previous status.
    pub object: &'a DirectLoadBalancer,
    /// The class in use.
    pub class_name: Option<&'a str>,
    /// What should be.
    pub desired: &'a Desired,
    /// What is, after the plan's steps.
    pub in_force: &'a Observed,
    /// What was held back (and in mode Plan: all that was not done).
    pub plan: &'a Plan,
    /// Where clients connect to.
    pub addresses: &'a [IpAddr],
    /// The proxies that should carry it.
    pub fleet: &'a Fleet,
    /// The load balancer in a cloud that carries it instead.
    pub cloud: Option<&'a Cloud>,
    /// Names of the Pods that should serve and carry no gate.
    pub ungated: &'a [String],
    /// Names of the Pods without the named port.
    pub portless: &'a [String],
    /// Containers whose own preStop hook is shorter than the drain, as `pod/container`.
    pub short_hooks: &'a [String],
    /// What target Pods get at their creation.
    pub injection: &'a InjectionStatus,
    /// The time that conditions which change now get.
    pub now: Time,
}

/// The proxies that should carry an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The fleet's name; the load balancer's id.
    pub id: String,
    /// Its proxies, by name.
    pub proxies: BTreeMap<String, Proxy>,
}

/// A load balancer in a cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    /// Its id; empty: there is none yet.
    pub id: String,
    /// The controller has looked at it since it began to lead.
    pub looked: bool,
    /// The listeners' ids there, by name.
    pub listeners: BTreeMap<String, String>,
    /// Listeners that are not yet as they should be.
    pub missing: BTreeSet<String>,
    /// What goes wrong.
    pub troubles: Vec<CloudTrouble>,
    /// How much of the quotas is used.
    pub quotas: Vec<QuotaStatus>,
    /// Nothing of the object is left in the cloud.
    pub clean: bool,
}

/// Something that goes wrong in a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudTrouble {
    /// The object's listener; `None`: the load balancer as a whole.
    pub listener: Option<String>,
    /// It is about a target.
    pub target: bool,
    /// The UIDs of the Pods that it keeps from being registered.
    pub pods: BTreeSet<String>,
    /// Why, from the closed list.
    pub reason: Reason,
    /// What was tried, and what the cloud says.
    pub message: String,
}

impl Cloud {
    /// What keeps a Pod from being registered.
    fn refusal(&self, uid: &str) -> Option<&CloudTrouble> {
        self.troubles.iter().find(|t| t.pods.contains(uid))
    }

    /// What goes wrong with the load balancer, its listeners and rules (or with its targets), in a sentence: the first
    /// few, those of the same reason together.
    fn trouble(&self, of_targets: bool) -> Option<(Reason, String)> {
        let mut all: Vec<&CloudTrouble> = self.troubles.iter().filter(|t| t.target == of_targets).collect();
        // What concerns the whole explains the rest.
        all.sort_by_key(|t| (t.listener.is_some(), t.reason));
        let first = all.first()?;
        let messages: Vec<&str> = all.iter().filter(|t| t.reason == first.reason).map(|t| t.message.as_str()).collect();
        Some((first.reason, conditions::some_of(&messages)))
    }
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Whether it reports.
    pub state: ProxyState,
    /// Listeners of the object that it does not carry yet, or carries in an older form.
    pub missing: Vec<String>,
    /// What it refused, and why.
    pub rejected: Option<String>,
}

/// Whether a proxy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyState {
    /// It does.
    Reporting,
    /// Not yet; it is waited for.
    Waiting,
    /// It stayed away for longer than the stated time: nobody waits for it any more.
    LeftOut,
}

/// The status that describes these facts. Where nothing changed it equals the object's previous status, so that nothing
/// is written.
#[must_use]
pub fn status(facts: &Facts<'_>) -> DirectLoadBalancerStatus {
    let targets = TargetCounts {
        ungated: count(facts.ungated.len()),
        ..counts(facts.desired.groups.iter(), facts.desired, facts.in_force)
    };
    DirectLoadBalancerStatus {
        observed_generation: facts.object.metadata.generation,
        class_name: facts.class_name.map(Into::into),
        load_balancer: LoadBalancerStatus {
            id: facts.cloud.map_or_else(|| facts.fleet.id.clone(), |c| c.id.clone()),
            addresses: facts.addresses.iter().map(address).collect(),
        },
        ready_targets: format!("{}/{}", targets.healthy, targets.desired),
        targets,
        listeners: listeners(facts),
        quotas: facts.cloud.map(|c| c.quotas.clone()).unwrap_or_default(),
        plan: plan_status(facts),
        injection: Some(facts.injection.clone()),
        conditions: conditions::all(facts, &targets),
    }
}

fn address(ip: &IpAddr) -> AddressStatus {
    AddressStatus { value: ip.to_string(), type_: if ip.is_ipv4() { "IPv4" } else { "IPv6" }.into() }
}

/// A number as status has it.
pub(crate) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Counts each Pod once, over all the groups given: registered and healthy mean in every one of them.
fn counts<'a>(
    groups: impl Iterator<Item = (&'a crate::model::GroupId, &'a Group)>,
    _desired: &Desired,
    in_force: &Observed,
) -> TargetCounts {
    #[derive(Clone, Copy)]
    struct Pod {
        serving: bool,
        registered: bool,
        healthy: bool,
        draining: bool,
    }
    let mut pods: BTreeMap<&str, Pod> = BTreeMap::new();
    for (id, group) in groups {
        let observed = in_force.groups.get(id);
        for (target, want) in &group.targets {
            let have = observed.and_then(|g| g.targets.get(target));
            let active = have.is_some_and(|h| h.draining_since.is_none());
            let pod = pods.entry(&target.uid).or_insert(Pod {
                serving: want.state == TargetState::Serving,
                registered: true,
                healthy: true,
                draining: false,
            });
            pod.registered &= active;
            pod.healthy &= active && have.is_some_and(|h| h.health == Health::Healthy);
            pod.draining |= want.state != TargetState::Serving && have.is_some_and(|h| h.draining_since.is_some());
        }
        for (target, have) in observed.into_iter().flat_map(|g| &g.targets) {
            if !group.targets.contains_key(target) && have.draining_since.is_some() {
                let gone = Pod { serving: false, registered: false, healthy: false, draining: true };
                pods.entry(&target.uid).or_insert(gone).draining = true;
            }
        }
    }
    let n = |f: fn(&Pod) -> bool| count(pods.values().filter(|p| f(p)).count());
    TargetCounts {
        desired: n(|p| p.serving),
        registered: n(|p| p.serving && p.registered),
        healthy: n(|p| p.serving && p.healthy),
        draining: n(|p| p.draining),
        ungated: 0,
    }
}

fn listeners(facts: &Facts<'_>) -> Vec<ListenerStatus> {
    let problem = |name: &str| facts.desired.problems.iter().find(|p| p.listener.as_deref() == Some(name));
    let mut names: Vec<&str> = facts.object.spec.listeners.iter().map(|l| l.name.as_str()).collect();
    names
        .extend(facts.in_force.listeners.keys().map(String::as_str).filter(|n| !names.contains(n)).collect::<Vec<_>>());
    names.dedup();
    let mut seen = BTreeSet::new();
    names
        .into_iter()
        .filter(|n| seen.insert(*n))
        .map(|name| {
            let groups = facts.desired.groups.iter().filter(|(id, _)| id.listener == name);
            let targets = counts(groups, facts.desired, facts.in_force);
            let in_force = facts.in_force.listeners.contains_key(name);
            let missing: Vec<&str> = facts
                .fleet
                .proxies
                .iter()
                .filter(|(_, p)| p.state != ProxyState::LeftOut && p.missing.iter().any(|m| m == name))
                .map(|(n, _)| n.as_str())
                .collect();
            let cloud = facts.cloud.map(|c| (c, c.troubles.iter().find(|t| t.listener.as_deref() == Some(name))));
            let (reason, message) = match problem(name) {
                Some(p) if in_force => (p.reason, format!("{}; the listener stays as it was", p.message)),
                Some(p) => (p.reason, p.message.clone()),
                None if cloud.is_some_and(|(_, t)| t.is_some()) => cloud
                    .and_then(|(_, t)| t)
                    .map_or((Reason::Pending, String::new()), |t| (t.reason, t.message.clone())),
                None if !in_force => (Reason::Pending, String::new()),
                None if cloud.is_some_and(|(c, _)| c.missing.contains(name)) => (Reason::Pending, String::new()),
                None if !missing.is_empty() => (Reason::Pending, format!("not yet on {}", missing.join(", "))),
                None => (Reason::Programmed, String::new()),
            };
            ListenerStatus {
                name: name.into(),
                id: match facts.cloud {
                    Some(cloud) => cloud.listeners.get(name).cloned().unwrap_or_default(),
                    None if in_force => format!("{}/{name}", facts.desired.object),
                    None => String::new(),
                },
                targets,
                reason: reason.as_str().into(),
                message,
            }
        })
        .collect()
}

fn plan_status(facts: &Facts<'_>) -> PlanStatus {
    const MAX: usize = 100;
    let shown = facts.object.spec.mode == Mode::Plan;
    let pending = if shown { facts.plan.steps.as_slice() } else { &[] };
    let first = facts.cloud.filter(|c| shown && c.looked && c.id.is_empty() && !pending.is_empty());
    let steps =
        first.map(|_| "create load balancer".to_owned()).into_iter().chain(pending.iter().map(ToString::to_string));
    PlanStatus {
        pending: count(usize::from(first.is_some()) + pending.len() + facts.plan.holds.len()),
        steps: steps.take(MAX).collect(),
        holds: facts.plan.holds.iter().take(MAX).map(hold).collect(),
    }
}

fn hold(hold: &Hold) -> HoldStatus {
    let what = conditions::some_of(&hold.what);
    let message = match hold.reason {
        HoldReason::LastServingTarget => format!("{what} stays: no other target of the group serves"),
        HoldReason::MassRemoval => format!("{what} stay: all targets of the group left at once and none other serves"),
        HoldReason::ReplacementNotServing => format!("{what} stays as it was: the group does not serve yet"),
    };
    HoldStatus { reason: hold.reason.as_str().into(), group: hold.group.to_string(), message }
}
