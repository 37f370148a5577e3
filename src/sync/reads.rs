//! Reads are merged across load balancers, and shared by all who wait for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Action, CallError, Cloud, Query, engine::Inner};

type Waiter<C> = oneshot::Sender<Result<<C as Cloud>::Answer, CallError>>;
type Waiters<C> = BTreeMap<<C as Cloud>::Query, Vec<Waiter<C>>>;

/// Queries that wait, by what may share a call. A group is here while its dispatcher runs.
pub(super) struct Reads<C: Cloud>(Mutex<HashMap<(Action, String), Waiters<C>>>);

impl<C: Cloud> Default for Reads<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Cloud> Reads<C> {
    fn groups(&self) -> MutexGuard<'_, HashMap<(Action, String), Waiters<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a query. A call that is under way already is never shared: what it sees may be older than what the caller did.
pub(super) async fn read<C: Cloud>(inner: &Arc<Inner<C>>, query: C::Query) -> Result<C::Answer, CallError> {
    let key = (query.action(), query.group());
    let action = key.0;
    let (send, answer) = oneshot::channel();
    let start = {
        let mut groups = inner.reads.groups();
        let start = !groups.contains_key(&key);
        groups.entry(key.clone()).or_default().entry(query).or_default().push(send);
        start
    };
    if start {
        inner.spawn(dispatch(inner.clone(), key));
    }
    answer.await.unwrap_or_else(|_| Err(CallError::timeout(action, Duration::ZERO)))
}

/// Sends a group's queries: full calls at once and side by side, the last one once nothing of the group is under way.
async fn dispatch<C: Cloud>(inner: Arc<Inner<C>>, key: (Action, String)) {
    tokio::time::sleep(inner.limits.linger).await;
    loop {
        let (batch, full) = {
            let mut groups = inner.reads.groups();
            let Some(waiting) = groups.get_mut(&key) else { return };
            // Nobody waits any more: the reconcile that asked was given up.
            waiting.retain(|_, waiters| {
                waiters.retain(|w| !w.is_closed());
                !waiters.is_empty()
            });
            if waiting.is_empty() {
                groups.remove(&key);
                return;
            }
            let most = inner.limits.batch(key.0);
            let mut batch = Vec::new();
            while batch.len() < most {
                let Some(entry) = waiting.pop_first() else { break };
                batch.push(entry);
            }
            (batch, waiting.len() >= most)
        };
        if full {
            inner.spawn(call(inner.clone(), key.0, batch));
        } else {
            call(inner.clone(), key.0, batch).await;
        }
    }
}

async fn call<C: Cloud>(inner: Arc<Inner<C>>, action: Action, batch: Vec<(C::Query, Vec<Waiter<C>>)>) {
    let (queries, waiters): (Vec<C::Query>, Vec<Vec<Waiter<C>>>) = batch.into_iter().unzip();
    let deadline = inner.pacer.now() + inner.limits.deadline;
    let mut tries = 0;
    let result = loop {
        match inner.pacer.call(action, || inner.cloud.read(&queries)).await {
            Err(e) if e.kind.again() && inner.pacer.now() < deadline => {
                tries += 1;
                tokio::time::sleep(inner.backoff(e.kind, tries)).await;
            }
            result => break result,
        }
    };
    let mut answers = result.map(Vec::into_iter);
    for waiting in waiters {
        let answer = match &mut answers {
            Ok(answers) => answers.next().unwrap_or_else(|| Err(CallError::short(action))),
            Err(e) => Err(e.clone()),
        };
        for waiter in waiting {
            // Whoever waited may have gone.
            _ = waiter.send(answer.clone());
        }
    }
}
