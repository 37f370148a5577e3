//! Desired x Observed -> Plan: what to do now, what is held back, and when to look again.
//!
//! Three properties hold for every input, and are tested with generated ones:
//! - **fixpoint**: planning again after the plan's steps were applied, at the same time, gives nothing to do;
//! - **never worse**: no step takes a serving target away from a group while none other serves there, and no listener is
//!   moved to targets that do not serve; such steps are held, with a reason;
//! - **ownership**: no step names a listener, group or target that is neither desired nor observed for this object.

mod apply;
mod groups;
mod listeners;
#[cfg(test)]
mod tests;

pub use apply::apply;

use crate::model::{Desired, Limits, Observed, Plan, Step, Time};

/// Makes the plan from what is in force to what should be.
///
/// The steps stand in the order in which they must be applied: whatever adds capacity comes before whatever takes it
/// away (create, register, undrain; then move listeners; then drain, deregister, delete).
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed, limits: &Limits, now: Time) -> Plan {
    let mut after = observed.clone();
    let mut done = Vec::new();
    // One round is nearly always enough. A second is needed where a removal lifts a hold (the last target of the old
    // group is gone, so moving the listener loses nothing); each round removes something, so the bound is never met.
    for _ in 0..ROUNDS {
        let mut plan = round(desired, &mut after, limits, now);
        if plan.steps.is_empty() {
            plan.steps = done;
            return plan;
        }
        done.append(&mut plan.steps);
    }
    Plan { steps: done, ..round(desired, &mut after, limits, now) }
}

const ROUNDS: usize = 8;

/// One round: its steps are applied to `after`.
fn round(desired: &Desired, after: &mut Observed, limits: &Limits, now: Time) -> Plan {
    let mut plan = Plan::default();
    let apply_all = |after: &mut Observed, plan: &mut Plan, steps: Vec<Step>| {
        steps.iter().for_each(|s| apply(after, s));
        plan.steps.extend(steps);
    };

    let mut adds = Vec::new();
    groups::configure(desired, after, &mut adds);
    groups::register(desired, after, now, &mut adds);
    apply_all(after, &mut plan, adds);

    // What serves is judged on what is in force once everything has been registered.
    let (moves, deletions) = listeners::plan(desired, after, limits, &mut plan.holds);
    apply_all(after, &mut plan, moves);
    apply_all(after, &mut plan, deletions);

    let mut removals = Vec::new();
    groups::leave(desired, after, limits, now, &mut removals, &mut plan);
    apply_all(after, &mut plan, removals);

    let empty = groups::unused(desired, after)
        .filter(|id| after.groups.get(*id).is_some_and(|g| g.targets.is_empty()))
        .map(|id| Step::DeleteGroup { group: id.clone() })
        .collect();
    apply_all(after, &mut plan, empty);
    plan.holds.sort();
    plan
}
