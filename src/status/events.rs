//! Events: a condition that changed its status or reason.

use crate::api::{ConditionType, DirectLoadBalancerStatus, Reason};

/// A condition's change, to be told by an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whether somebody should look.
    pub warning: bool,
    /// The event's reason.
    pub reason: String,
    /// The event's action: the condition's type.
    pub action: &'static str,
    /// The event's note.
    pub note: String,
}

/// What changed from one status to the next. Conditions that only repeat others (`Reconciling`, `Stalled`) are silent,
/// and so are those that are merely not yet true.
#[must_use]
pub fn transitions(before: Option<&DirectLoadBalancerStatus>, after: &DirectLoadBalancerStatus) -> Vec<Transition> {
    const TOLD: [ConditionType; 6] = [
        ConditionType::Accepted,
        ConditionType::Programmed,
        ConditionType::ProxiesReady,
        ConditionType::TargetsReady,
        ConditionType::WithinQuota,
        ConditionType::Ready,
    ];
    const QUIET: [Reason; 6] = [
        Reason::Pending,
        Reason::Registering,
        Reason::NoTargets,
        Reason::WaitingForProxies,
        Reason::PlanOnly,
        Reason::Deleting,
    ];
    let find =
        |s: &DirectLoadBalancerStatus, t: ConditionType| s.conditions.iter().find(|c| c.type_ == t.as_str()).cloned();
    let mut out: Vec<Transition> = TOLD
        .into_iter()
        .filter_map(|type_| {
            let now = find(after, type_)?;
            let was = before.and_then(|s| find(s, type_));
            if was.as_ref().is_some_and(|w| w.status == now.status && w.reason == now.reason) {
                return None;
            }
            let good = now.status == "True";
            let quiet = QUIET.iter().any(|r| r.as_str() == now.reason);
            // What a cloud refuses is told when it does, with its id of the request.
            let told = Reason::ALL.iter().any(|r| r.is_cloud() && r.as_str() == now.reason);
            if told && now.reason != Reason::CredentialsMissing.as_str() {
                return None;
            }
            // Ready = False only repeats the condition that is at fault.
            if !good && (quiet || type_ == ConditionType::Ready) {
                return None;
            }
            // Nothing was wrong before, so "all well" is no news, except for Ready itself.
            if good
                && was.as_ref().is_none_or(|w| QUIET.iter().any(|r| r.as_str() == w.reason))
                && type_ != ConditionType::Ready
            {
                return None;
            }
            let note = if now.message.is_empty() { format!("{} is {}", now.type_, now.status) } else { now.message };
            Some(Transition { warning: !good, reason: now.reason, action: type_.as_str(), note })
        })
        .collect();
    let held = |s: &DirectLoadBalancerStatus| s.plan.holds.clone();
    for hold in held(after) {
        if !before.is_some_and(|b| held(b).contains(&hold)) {
            let note = format!("{}: {}", hold.group, hold.message);
            out.push(Transition { warning: true, reason: hold.reason, action: "Hold", note });
        }
    }
    out
}
