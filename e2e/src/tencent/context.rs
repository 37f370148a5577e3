//! What an action may know besides the load balancers that it is about.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use super::settings::Settings;

/// It is the same when a task begins and when it ends, but for the time.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    /// Addresses that cannot be bound.
    pub(super) refused: &'a BTreeSet<String>,
    /// Listeners whose part of a batch fails by a fault.
    pub(super) doomed: &'a BTreeSet<String>,
    /// Load balancers that there are besides: how many of each kind, their addresses and their names.
    pub(super) others: &'a Others,
    /// Milliseconds since the emulator's start.
    pub(super) millis: u64,
    /// Unix seconds.
    pub(super) unix: u64,
    pub(super) random: &'a mut Random,
}

/// What must not be there twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    pub(super) kinds: BTreeMap<String, usize>,
    pub(super) vips: BTreeSet<String>,
    pub(super) names: BTreeSet<String>,
}

impl Context<'_> {
    pub(super) fn id(&mut self, prefix: &str) -> String {
        self.random.id(prefix)
    }

    pub(super) fn quota(&self, id: &str) -> i64 {
        self.settings.quotas.get(id).copied().unwrap_or(i64::MAX)
    }
}
