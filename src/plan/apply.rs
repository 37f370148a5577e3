//! What a step does to what is in force.

use crate::model::{Health, Observed, ObservedGroup, Step};

/// Applies one step to `observed`; a step about something that is not there does nothing.
///
/// The Envoy provider's state *is* an [`Observed`], so this is its executor; for clouds it is the model that tests
/// compare the cloud with.
pub fn apply(observed: &mut Observed, step: &Step) {
    match step {
        Step::CreateGroup { group, config } => {
            observed
                .groups
                .entry(group.clone())
                .or_insert_with(|| ObservedGroup { config: (**config).clone(), targets: Default::default() });
        }
        Step::UpdateGroup { group, config } => {
            if let Some(g) = observed.groups.get_mut(group) {
                g.config = (**config).clone();
            }
        }
        Step::Register { group, target, as_ } => {
            if let Some(g) = observed.groups.get_mut(group) {
                g.targets.insert(target.clone(), as_.clone());
            }
        }
        Step::Drain { group, target, since, .. } => {
            if let Some(t) = observed.groups.get_mut(group).and_then(|g| g.targets.get_mut(target)) {
                t.draining_since = Some(*since);
            }
        }
        Step::Undrain { group, target, .. } => {
            if let Some(t) = observed.groups.get_mut(group).and_then(|g| g.targets.get_mut(target)) {
                t.draining_since = None;
                // What was reported while it drained says nothing about how it serves.
                t.health = Health::Unknown;
            }
        }
        Step::Deregister { group, target, .. } => {
            if let Some(g) = observed.groups.get_mut(group) {
                g.targets.remove(target);
            }
        }
        Step::SetListener { config } => {
            observed.listeners.insert(config.name.clone(), (**config).clone());
        }
        Step::DeleteListener { listener } => {
            observed.listeners.remove(listener);
        }
        Step::DeleteGroup { group } => {
            observed.groups.remove(group);
        }
    }
}
