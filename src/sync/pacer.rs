//! When a call may be made: a token bucket for each action, in the order in which callers came.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Mutex as FairMutex, Semaphore};

use super::{Action, Bucket, CallError, ErrorKind, Limits};
use crate::runtime::clock::Clock;

/// Hears of every call.
pub trait Observer: Send + Sync + 'static {
    /// A call has ended.
    fn called(&self, action: Action, outcome: Result<(), ErrorKind>, took: Duration);
}

/// Nobody wants to know.
impl Observer for () {
    fn called(&self, _: Action, _: Result<(), ErrorKind>, _: Duration) {}
}

/// Makes calls as fast as the cloud takes them.
pub struct Pacer {
    limits: Arc<Limits>,
    clock: Clock,
    /// Waiters queue at the lock in the order in which they came; who holds it waits for the token.
    buckets: Mutex<HashMap<Action, Arc<Turn>>>,
    in_flight: Semaphore,
    observer: Arc<dyn Observer>,
}

struct Turn {
    queue: FairMutex<()>,
    bucket: Mutex<Bucket>,
}

impl Turn {
    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pacer {
    pub(super) fn new(limits: Arc<Limits>, clock: Clock, observer: Arc<dyn Observer>) -> Self {
        let in_flight = Semaphore::new(limits.in_flight.clamp(1, Semaphore::MAX_PERMITS));
        Self { limits, clock, buckets: Mutex::default(), in_flight, observer }
    }

    /// Time since some fixed point.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn turn(&self, action: Action) -> Arc<Turn> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Turn {
            queue: FairMutex::default(),
            bucket: Mutex::new(Bucket::new(self.limits.of(action), self.now())),
        };
        buckets.entry(action).or_insert_with(|| Arc::new(new())).clone()
    }

    /// Waits for its turn, then makes the call.
    pub(super) async fn call<T, F>(&self, action: Action, call: impl FnOnce() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let turn = self.turn(action);
        {
            let _queue = turn.queue.lock().await;
            loop {
                // Not in the `match`: its guard would be held while sleeping.
                let taken = turn.bucket().take(self.now());
                match taken {
                    Ok(()) => break,
                    Err(wait) => tokio::time::sleep(wait).await,
                }
            }
        }
        // After the token: who waits for one holds up nobody that waits for another.
        let _permit = self.in_flight.acquire().await;
        let begun = self.now();
        let limit = self.limits.call_timeout;
        let result =
            tokio::time::timeout(limit, call()).await.unwrap_or_else(|_| Err(CallError::timeout(action, limit)));
        match &result {
            Err(e) if e.kind == ErrorKind::Throttled => turn.bucket().throttled(self.now()),
            // Whatever else it said, the cloud took the call.
            _ => turn.bucket().succeeded(),
        }
        let outcome = result.as_ref().map(|_| ()).map_err(|e| e.kind);
        self.observer.called(action, outcome, self.now().saturating_sub(begun));
        result
    }
}
