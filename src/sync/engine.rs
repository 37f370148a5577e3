//! The engine: what its callers use, and what its parts share.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    CallError, Cloud, ErrorKind, Jitter, Limits, Quarantine,
    lanes::{self, Lanes, Outcome},
    pacer::{Observer, Pacer},
    reads::{self, Reads},
    tasks::Tasks,
};
use crate::runtime::clock::Clock;

/// The sync engine of one cloud account. Clones share it; with the last one, whatever is under way is given up.
pub struct Engine<C: Cloud>(Arc<Handle<C>>);

impl<C: Cloud> Clone for Engine<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Handle<C: Cloud>(Arc<Inner<C>>);

impl<C: Cloud> Drop for Handle<C> {
    fn drop(&mut self) {
        self.0.running().abort_all();
    }
}

pub(super) struct Inner<C: Cloud> {
    pub(super) cloud: C,
    pub(super) limits: Arc<Limits>,
    pub(super) pacer: Pacer,
    pub(super) lanes: Lanes<C>,
    pub(super) reads: Reads<C>,
    pub(super) tasks: Tasks,
    pub(super) jitter: Jitter,
    quarantine: Mutex<Quarantine>,
    running: Mutex<JoinSet<()>>,
}

impl<C: Cloud> Inner<C> {
    pub(super) fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a part of the engine beside the others.
    pub(super) fn spawn(&self, part: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running();
        while running.try_join_next().is_some() {}
        running.spawn(part);
    }

    /// How long to wait before the `n`th further try (from 1).
    pub(super) fn backoff(&self, kind: ErrorKind, n: u32) -> Duration {
        let (first, longest) = match kind {
            // The bucket has slowed down already.
            ErrorKind::Throttled => (Duration::from_millis(50), Duration::from_secs(5)),
            _ => (Duration::from_millis(100), Duration::from_secs(3)),
        };
        let base = first.saturating_mul(1 << n.saturating_sub(1).min(16)).min(longest);
        base.mul_f64(0.5 + self.jitter.next())
    }
}

/// What the engine has at hand at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Items that wait in lanes.
    pub waiting: usize,
    /// Tasks that are waited for.
    pub tasks: usize,
    /// Items that were refused, and wait or have waited lately.
    pub refused: usize,
}

impl<C: Cloud> Engine<C> {
    /// An engine for an account; `seed` is for its jitter.
    #[must_use]
    pub fn new(cloud: C, limits: Limits, seed: u64, clock: Clock, observer: Arc<dyn Observer>) -> Self {
        let limits = Arc::new(limits);
        let inner = Inner {
            cloud,
            pacer: Pacer::new(limits.clone(), clock, observer),
            tasks: Tasks::new(limits.task_hint),
            limits,
            lanes: Lanes::default(),
            reads: Reads::default(),
            jitter: Jitter::new(seed),
            quarantine: Mutex::default(),
            running: Mutex::default(),
        };
        Self(Arc::new(Handle(Arc::new(inner))))
    }

    /// The provider.
    #[must_use]
    pub fn cloud(&self) -> &C {
        &self.0.0.cloud
    }

    /// Writes items of one load balancer; answers once each has been written (its task has ended) or has failed, in the
    /// same order. Items of the same call come in any order; who needs one after another waits in between.
    ///
    /// Dropping the future withdraws the items that were not sent yet.
    pub async fn write(&self, lane: &str, items: Vec<C::Item>) -> Vec<Outcome<C::Made>> {
        lanes::write(&self.0.0, lane, items).await
    }

    /// Asks a query. The answer is no older than the question.
    ///
    /// # Errors
    /// What the cloud says, or that it does not answer.
    pub async fn read(&self, query: C::Query) -> Result<C::Answer, CallError> {
        reads::read(&self.0.0, query).await
    }

    /// What it has at hand.
    #[must_use]
    pub fn load(&self) -> Load {
        let inner = &self.0.0;
        Load { waiting: inner.lanes.waiting(), tasks: inner.tasks.open(), refused: inner.quarantine().len() }
    }
}
