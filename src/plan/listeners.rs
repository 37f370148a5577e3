//! Listeners: making, moving and removing them.

use crate::model::{Desired, GroupId, Hold, HoldReason, Limits, ListenerConfig, Observed, Step};

use super::groups::group_serves;

/// The listeners to set, and those to delete.
pub(super) fn plan(
    desired: &Desired,
    after: &Observed,
    limits: &Limits,
    holds: &mut Vec<Hold>,
) -> (Vec<Step>, Vec<Step>) {
    let mut sets = Vec::new();
    let mut deletions = Vec::new();
    for (name, current) in &after.listeners {
        let wanted = desired.listeners.contains_key(name) || desired.keep.contains(name);
        if desired.deleting || !wanted {
            deletions.push(Step::DeleteListener { listener: current.name.clone() });
        }
    }
    if desired.deleting {
        return (sets, deletions);
    }
    for (name, want) in &desired.listeners {
        match after.listeners.get(name) {
            Some(current) if current == want => {}
            None => sets.push(Step::SetListener { config: Box::new(want.clone()) }),
            Some(current) => match not_serving(desired, after, limits, current, want) {
                None => sets.push(Step::SetListener { config: Box::new(want.clone()) }),
                Some(group) => {
                    let what = vec![format!("listener {name}")];
                    holds.push(Hold { reason: HoldReason::ReplacementNotServing, group, what });
                }
            },
        }
    }
    (sets, deletions)
}

/// A group that the new listener sends to, that the old one did not, and that does not serve: moving traffic there now
/// would lose it. A group of a workload that is scaled to 0 is what the user asked for.
fn not_serving(
    desired: &Desired,
    after: &Observed,
    limits: &Limits,
    current: &ListenerConfig,
    want: &ListenerConfig,
) -> Option<GroupId> {
    let serves = |id: &GroupId| after.groups.get(id).is_some_and(|g| group_serves(g, desired.groups.get(id)));
    let had = |id: &GroupId| current.routes.groups().any(|g| g.group == *id && g.weight > 0);
    let checked = |id: &GroupId| limits.checks_unrouted || current.routes.groups().any(|g| g.group.rule == id.rule);
    // A redirect needs no target.
    let redirects = current.routes.redirects().next().is_some();
    let anything_serves = redirects || current.routes.groups().any(|g| g.weight > 0 && serves(&g.group));
    if !anything_serves {
        return None;
    }
    want.routes
        .groups()
        .filter(|g| g.weight > 0 && !had(&g.group) && checked(&g.group) && !serves(&g.group))
        .find(|g| desired.groups.get(&g.group).is_none_or(|d| d.replicas != Some(0)))
        .map(|g| g.group.clone())
}
