//! Groups and their targets: registering, draining, deregistering.

use std::collections::BTreeSet;

use crate::model::{
    Departed, Desired, DesiredTarget, Group, GroupId, Health, Hold, HoldReason, Limits, Observed, ObservedGroup,
    ObservedTarget, Plan, Step, TargetId, TargetState, Time,
};

/// Whether the target takes traffic and answers.
///
/// Nobody having reported yet (a controller that has just started), the Pod's own gate is believed: it was opened when
/// every proxy had the Pod healthy.
pub(super) fn serves(target: &ObservedTarget, desired: Option<&DesiredTarget>) -> bool {
    target.draining_since.is_none()
        && match target.health {
            Health::Healthy => true,
            Health::Unknown | Health::Pending { .. } => desired
                .is_some_and(|d| d.gate_open && !matches!(d.state, TargetState::NotReady | TargetState::NodeLost)),
            Health::Unhealthy { .. } => false,
        }
}

pub(super) fn group_serves(observed: &ObservedGroup, desired: Option<&Group>) -> bool {
    observed.targets.iter().any(|(id, t)| serves(t, desired.and_then(|g| g.targets.get(id))))
}

/// Creates and updates groups.
pub(super) fn configure(desired: &Desired, observed: &Observed, steps: &mut Vec<Step>) {
    if desired.deleting {
        return;
    }
    for (id, group) in &desired.groups {
        let config = group.config();
        match observed.groups.get(id) {
            None => steps.push(Step::CreateGroup { group: id.clone(), config: Box::new(config) }),
            Some(o) if o.config != config => {
                steps.push(Step::UpdateGroup { group: id.clone(), config: Box::new(config) });
            }
            Some(_) => {}
        }
    }
}

/// Registers what should serve, and lets what drained for want of readiness serve again.
pub(super) fn register(desired: &Desired, observed: &Observed, now: Time, steps: &mut Vec<Step>) {
    if desired.deleting {
        return;
    }
    for (id, group) in &desired.groups {
        let current = observed.groups.get(id);
        for (target, want) in &group.targets {
            let have = current.and_then(|g| g.targets.get(target));
            match (want.state, have) {
                (TargetState::Serving, None) => steps.push(add(id, target, want, None)),
                // A controller that has just started does not know what an earlier one registered; an open gate does.
                // Whether the Pod may then stop taking traffic is decided as for any other (see `leave`).
                (TargetState::NotReady | TargetState::NodeLost | TargetState::Terminating, None)
                    if fresh(current) && want.gate_open =>
                {
                    steps.push(add(id, target, want, None));
                }
                // A Pod that is leaving when the controller starts may still hold connections.
                (TargetState::Terminating, None) if !desired.drain_timeout.is_zero() && fresh(current) => {
                    steps.push(add(id, target, want, Some(now)));
                }
                (TargetState::Serving, Some(t)) if t.draining_since.is_some() => {
                    steps.push(Step::Undrain { group: id.clone(), target: target.clone(), pod: want.pod.clone() });
                }
                _ => {}
            }
        }
    }
}

/// Whether nothing was ever registered here: then a leaving Pod may have been registered by an earlier controller.
/// Otherwise a leaving Pod that is not registered has been drained and deregistered already.
fn fresh(current: Option<&ObservedGroup>) -> bool {
    current.is_none()
}

fn add(group: &GroupId, target: &TargetId, want: &DesiredTarget, draining_since: Option<Time>) -> Step {
    Step::Register {
        group: group.clone(),
        target: target.clone(),
        as_: ObservedTarget {
            pod: want.pod.clone(),
            draining_since,
            health_port: want.health_port,
            health: Health::Unknown,
            answering: false,
            healthy_since: None,
            active: None,
        },
    }
}

/// What should happen to a registered target that should not serve.
enum Leave {
    /// No new connections; stays registered.
    Pause,
    /// No new connections, then deregister.
    Drain,
    /// Deregister: nothing answers there, or something else does.
    Remove,
    /// Deregister, unless it is the last that serves.
    RemoveIfOthers,
}

/// Drains and deregisters targets.
pub(super) fn leave(
    desired: &Desired,
    after: &Observed,
    limits: &Limits,
    now: Time,
    steps: &mut Vec<Step>,
    plan: &mut Plan,
) {
    let unused: BTreeSet<&GroupId> = unused(desired, after).collect();
    for (id, group) in &after.groups {
        if let Some(want) = desired.groups.get(id).filter(|_| !unused.contains(id)) {
            let leaving: Vec<_> =
                group.targets.iter().filter_map(|(t, have)| Some((t, have, leaving(desired, want, t)?))).collect();
            leave_group(desired, id, group, want, leaving, limits, now, steps, plan);
        } else if unused.contains(id) {
            // No listener sends here any more: nothing can get worse, and open connections may end in peace.
            for (target, have) in &group.targets {
                if desired.deleting {
                    steps.push(remove(id, target, have));
                } else {
                    drain(desired, id, target, have, limits, now, steps, plan);
                }
            }
        } else {
            // The group of a listener that stays as it was: its Pods come no more, but they still may go.
            let leaving: Vec<_> = group
                .targets
                .iter()
                .filter_map(|(t, have)| match desired.departed.get(t)? {
                    Departed::Dead => Some((t, have, Leave::Remove)),
                    Departed::Terminating => Some((t, have, Leave::Drain)),
                    Departed::Unknown => Some((t, have, Leave::RemoveIfOthers)),
                    Departed::Unselected => None,
                })
                .collect();
            leave_group(desired, id, group, &group.config, leaving, limits, now, steps, plan);
        }
    }
}

fn leaving(desired: &Desired, want: &Group, target: &TargetId) -> Option<Leave> {
    match want.targets.get(target).map(|t| t.state) {
        Some(TargetState::Serving) => None,
        Some(TargetState::NotReady | TargetState::NodeLost) => Some(Leave::Pause),
        Some(TargetState::Terminating) => Some(Leave::Drain),
        None => Some(match desired.departed.get(target) {
            Some(Departed::Dead) => Leave::Remove,
            Some(Departed::Unselected | Departed::Terminating) => Leave::Drain,
            Some(Departed::Unknown) | None => {
                // A Pod that took over the address is proof that the old one is gone.
                let taken = want.targets.keys().any(|t| t.ip == target.ip && t.uid != target.uid);
                if taken { Leave::Remove } else { Leave::RemoveIfOthers }
            }
        }),
    }
}

#[allow(clippy::too_many_arguments)] // One call; a struct for it would only rename the list.
fn leave_group(
    desired: &Desired,
    id: &GroupId,
    group: &ObservedGroup,
    want: &Group,
    leaving: Vec<(&TargetId, &ObservedTarget, Leave)>,
    limits: &Limits,
    now: Time,
    steps: &mut Vec<Step>,
    plan: &mut Plan,
) {
    let wanted = |t: &TargetId| want.targets.get(t);
    let gone: BTreeSet<&TargetId> = leaving.iter().map(|(t, _, _)| *t).collect();
    let others = group.targets.iter().any(|(t, have)| !gone.contains(t) && serves(have, wanted(t)));
    // A workload scaled to 0 is meant to be empty.
    let may_empty = others || want.replicas == Some(0);

    let mut held = Vec::new();
    for (target, have, how) in leaving {
        // A Pod that is not ready, or has vanished, still serves as long as the proxies say so.
        let last = !may_empty && still_answers(have, wanted(target));
        match how {
            Leave::Remove => steps.push(remove(id, target, have)),
            _ if last && have.draining_since.is_none() => held.push(have.pod.clone()),
            Leave::RemoveIfOthers => steps.push(remove(id, target, have)),
            Leave::Pause => {
                if have.draining_since.is_none() {
                    steps.push(start_drain(id, target, have, now));
                }
            }
            Leave::Drain => drain(desired, id, target, have, limits, now, steps, plan),
        }
    }
    if !held.is_empty() {
        let reason = if held.len() > 1 { HoldReason::MassRemoval } else { HoldReason::LastServingTarget };
        plan.holds.push(Hold { reason, group: id.clone(), what: held });
    }
}

fn still_answers(have: &ObservedTarget, want: Option<&DesiredTarget>) -> bool {
    have.draining_since.is_none()
        && match have.health {
            Health::Healthy => true,
            // The proxies that have it healthy may have nothing else.
            Health::Unknown | Health::Pending { .. } => have.answering || want.is_some_and(|w| w.gate_open),
            Health::Unhealthy { .. } => have.answering,
        }
}

#[allow(clippy::too_many_arguments)] // See above.
fn drain(
    desired: &Desired,
    id: &GroupId,
    target: &TargetId,
    have: &ObservedTarget,
    limits: &Limits,
    now: Time,
    steps: &mut Vec<Step>,
    plan: &mut Plan,
) {
    if desired.drain_timeout.is_zero() {
        steps.push(remove(id, target, have));
        return;
    }
    let since = match have.draining_since {
        Some(since) => since,
        None => {
            steps.push(start_drain(id, target, have, now));
            now
        }
    };
    let ends = since.plus(desired.drain_timeout);
    // "No connections" is believed only after a report that was made while it drained.
    let settled = since.plus(limits.report_interval * 3);
    if now >= ends || (limits.reports_active && have.active == Some(0) && now >= settled) {
        steps.push(remove(id, target, have));
        return;
    }
    let wake = if limits.reports_active && now < settled { settled.min(ends) } else { ends };
    plan.wake_at = Some(plan.wake_at.map_or(wake, |at| at.min(wake)));
}

fn start_drain(id: &GroupId, target: &TargetId, have: &ObservedTarget, now: Time) -> Step {
    Step::Drain { group: id.clone(), target: target.clone(), pod: have.pod.clone(), since: now }
}

fn remove(id: &GroupId, target: &TargetId, have: &ObservedTarget) -> Step {
    Step::Deregister { group: id.clone(), target: target.clone(), pod: have.pod.clone() }
}

/// Groups in force that no listener in force sends to, and that are not desired.
pub(super) fn unused<'a>(desired: &Desired, after: &'a Observed) -> impl Iterator<Item = &'a GroupId> {
    let used: BTreeSet<GroupId> =
        after.listeners.values().flat_map(|l| l.routes.groups()).map(|g| g.group.clone()).collect();
    let wanted: BTreeSet<GroupId> =
        if desired.deleting { BTreeSet::new() } else { desired.groups.keys().cloned().collect() };
    after.groups.keys().filter(move |id| !used.contains(*id) && !wanted.contains(*id))
}
