//! The conditions of a `DirectLoadBalancer`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as MetaTime};

use super::{Facts, ProxyState};
use crate::{
    api::{ConditionType, Mode, Reason, TargetCounts},
    model::{Health, HoldReason, TargetState, Time},
};

struct Verdict {
    true_: bool,
    reason: Reason,
    message: String,
}

fn yes(reason: Reason, message: impl Into<String>) -> Verdict {
    Verdict { true_: true, reason, message: message.into() }
}

fn no(reason: Reason, message: impl Into<String>) -> Verdict {
    Verdict { true_: false, reason, message: message.into() }
}

/// Every condition, in the order of [`ConditionType::ALL`].
pub(super) fn all(facts: &Facts<'_>, targets: &TargetCounts) -> Vec<Condition> {
    let accepted = accepted(facts);
    let programmed = programmed(facts);
    let proxies = proxies(facts);
    let healthy = targets_ready(facts, targets);
    let ready = ready(facts, &[&accepted, &programmed, &healthy], targets);
    let quota = within_quota(facts);
    let stuck = facts.cloud.and_then(|c| c.trouble(false)).filter(|(reason, _)| reason.needs_a_person());
    let stalled = match stuck {
        _ if !accepted.true_ => yes(accepted.reason, accepted.message.clone()),
        Some((reason, message)) => yes(reason, message),
        None => no(Reason::Progressing, ""),
    };
    let reconciling = if ready.true_ || stalled.true_ {
        no(if ready.true_ { Reason::UpToDate } else { Reason::NotReady }, "")
    } else {
        yes(Reason::Progressing, ready.message.clone())
    };
    ConditionType::ALL
        .into_iter()
        // A cloud has no proxies.
        .filter(|type_| facts.cloud.is_none() || *type_ != ConditionType::ProxiesReady)
        // And quotas are a cloud's.
        .filter(|type_| facts.cloud.is_some_and(|c| !c.quotas.is_empty()) || *type_ != ConditionType::WithinQuota)
        .map(|type_| {
            let verdict = match type_ {
                ConditionType::Accepted => &accepted,
                ConditionType::Programmed => &programmed,
                ConditionType::ProxiesReady => &proxies,
                ConditionType::TargetsReady => &healthy,
                ConditionType::WithinQuota => &quota,
                ConditionType::Ready => &ready,
                ConditionType::Reconciling => &reconciling,
                ConditionType::Stalled => &stalled,
            };
            condition(facts, type_, verdict)
        })
        .collect()
}

fn condition(facts: &Facts<'_>, type_: ConditionType, verdict: &Verdict) -> Condition {
    let status = if verdict.true_ { "True" } else { "False" };
    let previous = facts
        .object
        .status
        .as_ref()
        .and_then(|s| s.conditions.iter().find(|c| c.type_ == type_.as_str()))
        .filter(|c| c.status == status);
    Condition {
        type_: type_.as_str().into(),
        status: status.into(),
        reason: verdict.reason.as_str().into(),
        message: clip(&verdict.message),
        observed_generation: facts.object.metadata.generation,
        last_transition_time: previous.map_or_else(|| meta_time(facts.now), |c| c.last_transition_time.clone()),
    }
}

/// To whole seconds, as the API server keeps it: else each status would differ from the one it read back.
pub(super) fn meta_time(now: Time) -> MetaTime {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    MetaTime(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// A condition's message may hold 32,768 characters; nobody reads so much.
fn clip(message: &str) -> String {
    const MAX: usize = 2000;
    match message.char_indices().nth(MAX) {
        None => message.into(),
        Some((at, _)) => format!("{}…", &message[..at]),
    }
}

/// The first few of many, and how many more.
pub(crate) fn some_of<S: AsRef<str>>(all: &[S]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = all.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = all.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn accepted(facts: &Facts<'_>) -> Verdict {
    let problems = &facts.desired.problems;
    match problems.first() {
        None => yes(Reason::Accepted, ""),
        Some(first) => {
            let all: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
            no(first.reason, all.join("; "))
        }
    }
}

fn programmed(facts: &Facts<'_>) -> Verdict {
    if facts.object.metadata.deletion_timestamp.is_some() {
        return no(Reason::Deleting, "the object is being deleted");
    }
    if facts.object.spec.mode == Mode::Plan {
        return no(Reason::PlanOnly, "mode is Plan: nothing is changed; status.plan shows what would be");
    }
    if let Some((reason, message)) = facts.cloud.and_then(|c| c.trouble(false)) {
        return no(reason, message);
    }
    if facts.cloud.is_some_and(|c| !c.looked) {
        return no(Reason::Pending, "the load balancer has not been looked at yet");
    }
    if facts.in_force.listeners.is_empty() {
        return no(Reason::Pending, "no listener is in force");
    }
    if let Some(hold) = facts.plan.holds.iter().find(|h| h.reason == HoldReason::ReplacementNotServing) {
        return no(Reason::ReplacementNotServing, super::hold(hold).message);
    }
    if let Some(cloud) = facts.cloud {
        return match cloud.missing.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => yes(Reason::Programmed, ""),
            missing => no(Reason::Pending, format!("not yet in the cloud: listeners {}", some_of(missing))),
        };
    }
    let active = || facts.fleet.proxies.iter().filter(|(_, p)| p.state != ProxyState::LeftOut);
    if active().count() == 0 {
        return no(Reason::NoProxies, format!("fleet {} has no proxy that reports", facts.fleet.id));
    }
    if let Some((name, what)) = active().find_map(|(n, p)| p.rejected.as_ref().map(|w| (n, w))) {
        return no(Reason::ProxyRejected, format!("proxy {name} refused its configuration: {what}"));
    }
    let missing: Vec<String> = active()
        .filter(|(_, p)| !p.missing.is_empty())
        .map(|(n, p)| format!("{n} (listeners {})", some_of(&p.missing)))
        .collect();
    if !missing.is_empty() {
        return no(Reason::Pending, format!("not yet on {}", some_of(&missing)));
    }
    yes(Reason::Programmed, "")
}

fn proxies(facts: &Facts<'_>) -> Verdict {
    let with = |state| -> Vec<&String> {
        facts.fleet.proxies.iter().filter(|(_, p)| p.state == state).map(|(n, _)| n).collect()
    };
    if facts.fleet.proxies.is_empty() {
        return no(Reason::NoProxies, format!("fleet {} has no proxy", facts.fleet.id));
    }
    let out = with(ProxyState::LeftOut);
    if !out.is_empty() {
        return no(Reason::ProxyLeftOut, format!("{} did not report in time and is not waited for", some_of(&out)));
    }
    let waiting = with(ProxyState::Waiting);
    if !waiting.is_empty() {
        return no(Reason::WaitingForProxies, format!("waiting for {}", some_of(&waiting)));
    }
    yes(Reason::AllReporting, "")
}

fn targets_ready(facts: &Facts<'_>, targets: &TargetCounts) -> Verdict {
    let notes = notes(facts);
    if targets.desired == 0 {
        return no(Reason::NoTargets, with_notes("no Pod is ready to be a target".into(), &notes));
    }
    let failing = failing(facts);
    if !failing.is_empty() {
        return no(Reason::HealthCheckFailing, with_notes(some_of(&failing), &notes));
    }
    if let Some((reason, message)) = facts.cloud.and_then(|c| c.trouble(true)) {
        return no(reason, with_notes(message, &notes));
    }
    if targets.healthy < targets.desired {
        let text = format!("{} of {} targets are healthy", targets.healthy, targets.desired);
        return no(Reason::Registering, with_notes(text, &notes));
    }
    if !facts.ungated.is_empty() {
        return yes(Reason::UngatedPods, notes.join("; "));
    }
    yes(Reason::AllHealthy, notes.join("; "))
}

/// Percent of a quota that are a warning.
const NEARLY: i64 = 80;

fn within_quota(facts: &Facts<'_>) -> Verdict {
    let Some(cloud) = facts.cloud else { return yes(Reason::WithinQuota, "") };
    let exceeded: Vec<&str> =
        cloud.troubles.iter().filter(|t| t.reason == Reason::QuotaExceeded).map(|t| t.message.as_str()).collect();
    if !exceeded.is_empty() {
        return no(Reason::QuotaExceeded, some_of(&exceeded));
    }
    let near = cloud.quotas.iter().filter(|q| i64::from(q.used) * 100 >= i64::from(q.limit) * NEARLY);
    let near: Vec<String> = near
        .map(|q| {
            let of = if q.listener.is_empty() { String::new() } else { format!(" of listener {}", q.listener) };
            format!("{}{of}: {} of {}", q.resource.to_lowercase(), q.used, q.limit)
        })
        .collect();
    if near.is_empty() { yes(Reason::WithinQuota, "") } else { no(Reason::QuotaNearlyUsed, some_of(&near)) }
}

fn with_notes(text: String, notes: &[String]) -> String {
    std::iter::once(text).chain(notes.iter().cloned()).collect::<Vec<_>>().join("; ")
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if !facts.ungated.is_empty() {
        notes.push(format!(
            "{} carry no readiness gate, being older than the object: they get one when they are next replaced",
            some_of(facts.ungated)
        ));
    }
    if !facts.portless.is_empty() {
        notes.push(format!("{} have no container port of the name that targetPort gives", some_of(facts.portless)));
    }
    if !facts.short_hooks.is_empty() {
        notes.push(format!(
            "the preStop hooks of {} are left alone and may be shorter than the drain",
            some_of(facts.short_hooks)
        ));
    }
    for hold in &facts.plan.holds {
        notes.push(format!("held: {}", super::hold(hold).message));
    }
    notes
}

/// One sentence for each Pod that fails a check: which check, which listener, which proxies.
fn failing(facts: &Facts<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for (id, group) in &facts.desired.groups {
        let Some(observed) = facts.in_force.groups.get(id) else { continue };
        for (target, want) in group.targets.iter().filter(|(_, w)| w.state == TargetState::Serving) {
            let Some(have) = observed.targets.get(target) else { continue };
            if let Health::Unhealthy { on } = &have.health {
                out.push(super::gate::failure(&want.pod, id, group, on));
            }
        }
    }
    out
}

fn ready(facts: &Facts<'_>, needed: &[&Verdict], targets: &TargetCounts) -> Verdict {
    if facts.object.metadata.deletion_timestamp.is_some() {
        return no(Reason::Deleting, "the object is being deleted");
    }
    match needed.iter().find(|v| !v.true_) {
        Some(v) => no(v.reason, v.message.clone()),
        None => yes(Reason::Ready, format!("{} of {} targets are healthy", targets.healthy, targets.desired)),
    }
}
