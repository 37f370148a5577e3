//! What a cloud's API takes, as its provider says.

use std::{collections::BTreeMap, time::Duration};

/// An API action, such as `BatchRegisterTargets`: what rates and batch sizes are counted by.
pub type Action = &'static str;

/// What one action takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionLimits {
    /// Calls per second that the cloud lets through.
    pub rate: f64,
    /// Calls that may be made at once after a pause; at least 1. A cloud that counts calls in each window of a second
    /// lets through what `rate` says only if this is small.
    pub burst: f64,
    /// How many items or queries one call takes; at least 1.
    pub batch: usize,
}

/// What a cloud's API takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// For each action.
    pub actions: BTreeMap<Action, ActionLimits>,
    /// For actions that are not in `actions`.
    pub other: ActionLimits,
    /// A load balancer takes one write at a time: the next one waits until the task of the one before has ended.
    pub exclusive: bool,
    /// How many calls may be under way at the same time, for the whole account.
    pub in_flight: usize,
    /// How many tasks one poll may ask for.
    pub tasks_per_poll: usize,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long a task takes as a rule, until that is known from tasks seen.
    pub task_hint: Duration,
    /// How long a task may take before its outcome counts as unknown.
    pub task_timeout: Duration,
    /// How long a batch may be tried again (throttled, or the load balancer is busy) before its items fail.
    pub deadline: Duration,
    /// How many items may wait in one lane.
    pub queue: usize,
    /// How long a read waits for others that may go with it.
    pub linger: Duration,
}

impl Limits {
    /// What this action takes.
    #[must_use]
    pub fn of(&self, action: Action) -> ActionLimits {
        self.actions.get(action).copied().unwrap_or(self.other)
    }

    /// How many items or queries one call takes.
    #[must_use]
    pub fn batch(&self, action: Action) -> usize {
        self.of(action).batch.max(1)
    }

    /// The same with one item in each call.
    #[must_use]
    pub fn unbatched(mut self) -> Self {
        self.other.batch = 1;
        self.actions.values_mut().for_each(|l| l.batch = 1);
        self.tasks_per_poll = 1;
        self
    }
}
