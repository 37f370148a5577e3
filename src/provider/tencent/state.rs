//! What is known of one object's load balancer: what should be in force, what is there, how its targets are, and what
//! goes wrong. Pure: the worker fills it in, the reconcile reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decode::decode,
    diff::{Found, Work, diff},
    ops::{Binding, HealthState, NewLoadBalancer, Quotas, TargetHealth},
    quota::{self, Usage},
    shape::{self, Frame, Places, Shape},
};
use crate::{
    api::Reason,
    model::{
        Desired, GroupId, Health, HealthProbe, Limits, ObjectKey, Observed, ObservedTarget, Plan, Step, TargetId, Time,
    },
    plan::apply,
    sync::{CallError, ErrorKind},
};

/// What the planner may expect of CLB.
pub const LIMITS: Limits =
    Limits { reports_active: false, report_interval: std::time::Duration::from_secs(1), checks_unrouted: false };

/// What an object asks of its load balancer as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// The object's UID.
    pub uid: String,
    /// The cluster's UID.
    pub cluster: String,
    /// The id of the load balancer to adopt; `None`: one is made.
    pub adopt: Option<String>,
    /// The id that stands in the object's status.
    pub known: Option<String>,
    /// What to make; its token is filled in when it is made.
    pub new: NewLoadBalancer,
    /// The security groups that one that was made has; empty: nothing is said of them.
    pub security_groups: BTreeSet<String>,
    /// What the class says of quotas.
    pub quotas: Quotas,
    /// Whether anything may be written (`mode: Enforce`).
    pub enforce: bool,
    /// The object is being deleted: what was made for it goes.
    pub deleting: bool,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The object's listener; `None`: the load balancer as a whole.
    pub listener: Option<String>,
    /// It is about a target.
    pub target: bool,
    /// The UIDs of the Pods that it keeps from being registered.
    pub pods: Vec<String>,
    /// What was tried.
    pub what: String,
    /// What it means.
    pub kind: ErrorKind,
    /// In a sentence.
    pub message: String,
    /// The cloud's id of the request, for events and logs.
    pub request_id: Option<String>,
}

impl Trouble {
    /// Why, from the closed list.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.kind {
            ErrorKind::NotFound if self.what == "adopt" => Reason::LoadBalancerNotFound,
            ErrorKind::Throttled | ErrorKind::Busy => Reason::CloudThrottled,
            ErrorKind::Unavailable => Reason::CloudUnavailable,
            ErrorKind::Denied => Reason::CredentialsRefused,
            ErrorKind::Quota => Reason::QuotaExceeded,
            ErrorKind::Conflict => Reason::CloudConflict,
            ErrorKind::NotFound | ErrorKind::Invalid => Reason::CloudRejected,
        }
    }

    pub(super) fn new(listener: Option<&str>, what: &str, error: &CallError) -> Self {
        Self {
            listener: listener.map(Into::into),
            target: false,
            pods: Vec::new(),
            what: what.into(),
            kind: error.kind,
            message: error.to_string(),
            request_id: error.request_id.clone(),
        }
    }
}

/// Something that happened, to be told by an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Why, from the closed list.
    pub reason: Reason,
    /// What happened, with the cloud's id of the request where there is one.
    pub note: String,
}

/// What the reconcile shows of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its id; empty: there is none yet.
    pub id: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// It was looked at.
    pub looked: bool,
    /// The listeners' ids, by the listeners' names in the object.
    pub listeners: BTreeMap<String, String>,
    /// Listeners that are not yet as they should be.
    pub missing: BTreeSet<String>,
    /// What goes wrong.
    pub troubles: Vec<Trouble>,
    /// How much of the quotas is used.
    pub quotas: Vec<Usage>,
    /// Nothing of the object is left in the cloud.
    pub clean: bool,
}

/// What is known of one object's load balancer.
#[derive(Debug)]
pub(super) struct State {
    pub(super) object: ObjectKey,
    pub(super) goal: Goal,
    /// What should be in force; `None`: a controller that has just started has not worked that out.
    in_force: Option<Observed>,
    as_found: BTreeSet<String>,
    pub(super) id: Option<String>,
    pub(super) addresses: Vec<String>,
    /// Whether it was made for the object, by its tags.
    pub(super) own: bool,
    /// What is there; `None`: it was not looked at yet.
    pub(super) found: Option<Found>,
    health: BTreeMap<Binding, TargetHealth>,
    /// When each target of the moment was first healthy.
    healthy_since: BTreeMap<(GroupId, TargetId), Time>,
    /// When each draining target was first seen without weight.
    without_weight: BTreeMap<(GroupId, TargetId), Time>,
    pub(super) troubles: BTreeMap<String, Trouble>,
    pub(super) clean: bool,
    pub(super) incidents: Vec<Incident>,
    /// The account's quotas, as far as the API tells.
    pub(super) account: Quotas,
}

impl State {
    pub(super) fn new(object: ObjectKey, goal: Goal) -> Self {
        Self {
            object,
            goal,
            in_force: None,
            as_found: BTreeSet::new(),
            id: None,
            addresses: Vec::new(),
            own: false,
            found: None,
            health: BTreeMap::new(),
            healthy_since: BTreeMap::new(),
            without_weight: BTreeMap::new(),
            troubles: BTreeMap::new(),
            clean: false,
            incidents: Vec::new(),
            account: Quotas::default(),
        }
    }

    fn frame<'a>(uid: &'a str, addresses: &'a [String], as_found: &'a BTreeSet<String>) -> Frame<'a> {
        Frame { uid, address: addresses.first().map_or("", String::as_str), as_found }
    }

    /// What should be there; `None`: that is not known yet.
    pub(super) fn shape(&self) -> Option<Shape> {
        let in_force = self.in_force.as_ref()?;
        let mut shape = shape::shape(in_force, &Self::frame(&self.goal.uid, &self.addresses, &self.as_found));
        if self.own {
            let groups = &self.goal.security_groups;
            shape.security_groups = (!groups.is_empty()).then(|| groups.clone());
            shape.pass_to_target = self.goal.new.load_balancer_pass_to_target;
        }
        Some(shape)
    }

    /// The writes that can be made now.
    pub(super) fn work(&self) -> Vec<Work> {
        match (self.shape(), &self.found) {
            (Some(shape), Some(found)) => diff(found, &shape, &self.goal.uid),
            _ => Vec::new(),
        }
    }

    /// Whether there should be a load balancer.
    pub(super) fn needed(&self) -> bool {
        self.goal.enforce && !self.goal.deleting && self.in_force.as_ref().is_some_and(|o| !o.listeners.is_empty())
    }

    /// Whether nothing is asked for any more.
    pub(super) fn emptied(&self) -> bool {
        self.in_force.as_ref().is_some_and(|o| o.listeners.is_empty() && o.groups.is_empty())
    }

    /// Whether what is in force has been worked out.
    pub(super) fn started(&self) -> bool {
        self.in_force.is_some()
    }

    /// Works out what is in force from what is there. Nothing happens before it was looked at, or a second time.
    pub(super) fn start(&mut self, desired: &Desired, now: Time) {
        let (None, Some(found)) = (&self.in_force, &self.found) else { return };
        let address = self.addresses.first().map_or("", String::as_str);
        let (in_force, as_found) = decode(found, desired, &self.goal.uid, address, now);
        self.in_force = Some(in_force);
        self.as_found = as_found;
    }

    /// Applies a plan; whether that changes anything.
    pub(super) fn apply(&mut self, plan: &Plan) -> bool {
        let Some(in_force) = &mut self.in_force else { return false };
        for step in &plan.steps {
            match step {
                Step::SetListener { config } => _ = self.as_found.remove(&config.name),
                Step::DeleteListener { listener } => _ = self.as_found.remove(listener),
                Step::Undrain { group, target, .. } | Step::Deregister { group, target, .. } => {
                    let key = (group.clone(), target.clone());
                    self.healthy_since.remove(&key);
                    self.without_weight.remove(&key);
                }
                _ => {}
            }
            apply(in_force, step);
        }
        !plan.steps.is_empty()
    }

    /// What is in force for the object, with what the cloud says about each target; `None`: not known yet.
    pub(super) fn observe(&mut self, now: Time) -> Option<Observed> {
        let mut observed = self.in_force.clone()?;
        let frame = Self::frame(&self.goal.uid, &self.addresses, &self.as_found);
        let places = shape::places(&observed, &frame);
        let on = self.id.clone().unwrap_or_else(|| "the load balancer".into());
        let listeners = observed.listeners.clone();
        for (id, group) in &mut observed.groups {
            let share = listeners.get(&id.listener).is_none_or(|l| shape::has_share(l, id));
            let unchecked = group.config.health_check.probe == HealthProbe::None;
            for (target, t) in &mut group.targets {
                let verdict = self.judge(&places, id, target, share, unchecked);
                let key = (id.clone(), target.clone());
                self.project(key, t, verdict, &on, now);
            }
        }
        Some(observed)
    }

    fn project(&mut self, key: (GroupId, TargetId), t: &mut ObservedTarget, verdict: Verdict, on: &str, now: Time) {
        t.answering = verdict.answering;
        t.health = match verdict.state {
            _ if t.draining_since.is_some() && !verdict.weighed => Health::Unknown,
            Seen::Healthy => Health::Healthy,
            Seen::Failing => Health::Unhealthy { on: BTreeSet::from([on.to_owned()]) },
            Seen::Waiting => Health::Pending { on: BTreeSet::from([on.to_owned()]) },
        };
        if t.draining_since.is_some() && verdict.weighed {
            // It has not begun: the write is on its way.
            t.draining_since = Some(now);
        } else if let Some(since) = t.draining_since {
            // It began when its weight was seen to be 0, not when that was decided.
            let seen = *self.without_weight.entry(key.clone()).or_insert(if verdict.bound { now } else { since });
            t.draining_since = Some(since.max(seen));
        }
        if t.health == Health::Healthy {
            t.healthy_since = Some(*self.healthy_since.entry(key).or_insert(now));
        } else {
            self.healthy_since.remove(&key);
        }
    }

    fn judge(&self, places: &Places, id: &GroupId, target: &TargetId, share: bool, unchecked: bool) -> Verdict {
        let mut verdict = Verdict { state: Seen::Healthy, answering: false, weighed: false, bound: false };
        let Some(all) = places.get(&(id.listener.clone(), id.rule.clone())) else {
            return Verdict { state: Seen::Waiting, ..verdict };
        };
        let Some(found) = &self.found else { return Verdict { state: Seen::Waiting, ..verdict } };
        for (port, m) in all {
            let binding =
                found.place(&self.goal.uid, *port, m).map(|place| Binding { place, ip: target.ip, port: target.port });
            let bound = binding.as_ref().and_then(|b| found.targets.get(b));
            let Some((binding, bound)) =
                binding.as_ref().zip(bound).filter(|(_, b)| b.tag.as_deref() == Some(target.uid.as_str()))
            else {
                verdict.state = verdict.state.and(Seen::Waiting);
                continue;
            };
            verdict.bound = true;
            verdict.weighed |= bound.weight > 0;
            let state = match self.health.get(binding).map(|h| h.state) {
                _ if share && bound.weight == 0 => Seen::Waiting,
                Some(HealthState::Alive) => Seen::Healthy,
                Some(HealthState::Close) if unchecked => Seen::Healthy,
                Some(HealthState::Dead) => Seen::Failing,
                _ => Seen::Waiting,
            };
            verdict.answering |= state == Seen::Healthy && bound.weight > 0;
            verdict.state = verdict.state.and(state);
        }
        verdict
    }

    /// What the load balancer says about its targets. What was asked before a target was registered says nothing about
    /// that target: `since` tells.
    pub(super) fn set_health(
        &mut self,
        health: BTreeMap<Binding, TargetHealth>,
        since: impl Fn(&Binding) -> bool,
    ) -> bool {
        let health: BTreeMap<_, _> = health.into_iter().filter(|(b, _)| since(b)).collect();
        let changed = health != self.health;
        self.health = health;
        changed
    }

    /// Nothing is known about this target's health any more.
    pub(super) fn forget_health(&mut self, binding: &Binding) {
        self.health.remove(binding);
    }

    /// Whether some target that should serve is not known to be healthy.
    pub(super) fn waiting(&mut self, now: Time) -> bool {
        let Some(observed) = self.observe(now) else { return false };
        let mut targets = observed.groups.values().flat_map(|g| g.targets.values());
        targets.any(|t| t.draining_since.is_none() && t.health != Health::Healthy)
    }

    /// Whether something waits for a quota to grow.
    pub(super) fn waits_for_quota(&self) -> bool {
        self.troubles.keys().any(|k| k.starts_with(quota::KEY))
    }

    /// The quotas that count.
    pub(super) fn quotas(&self) -> Quotas {
        quota::effective(&self.account, &self.goal.quotas)
    }

    pub(super) fn report(&self) -> Report {
        let work = self.work();
        let mut missing: BTreeSet<String> =
            work.iter().filter(|w| !w.is_target() && !w.listener.is_empty()).map(|w| w.listener.clone()).collect();
        if self.id.is_none() {
            missing.extend(self.in_force.iter().flat_map(|o| o.listeners.keys().cloned()));
        }
        Report {
            id: self.id.clone().unwrap_or_default(),
            addresses: self.addresses.clone(),
            looked: self.found.is_some(),
            listeners: self
                .found
                .iter()
                .flat_map(|f| f.of(&self.goal.uid))
                .map(|(name, l)| (name.listener, l.id.clone()))
                .collect(),
            missing,
            troubles: self.troubles.values().cloned().collect(),
            quotas: self.found.iter().flat_map(|f| quota::usage(f, &self.goal.uid, &self.quotas())).collect(),
            clean: self.clean,
        }
    }
}

/// What the load balancer says about a target, over all of its places.
struct Verdict {
    state: Seen,
    /// It is healthy somewhere, and gets traffic there.
    answering: bool,
    /// It is registered somewhere.
    bound: bool,
    /// It has a weight somewhere.
    weighed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Healthy,
    Waiting,
    Failing,
}

impl Seen {
    /// Both: the worse one.
    fn and(self, other: Self) -> Self {
        self.max(other)
    }
}
