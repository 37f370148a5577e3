//! The tasks of all lanes are polled together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use super::{Cloud, Estimate, TaskState, engine::Inner};

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its effect is there.
    Done,
    /// It had no effect, for this reason.
    Failed(String),
    /// It took longer than is waited for.
    Overdue,
}

/// Between two polls, so that tasks which end shortly one after the other are found by the same one.
const GAP: Duration = Duration::from_millis(100);

pub(super) struct Tasks {
    state: Mutex<State>,
    more: Notify,
}

struct State {
    open: BTreeMap<String, Open>,
    polling: bool,
    estimate: Estimate,
}

struct Open {
    since: Duration,
    due: Duration,
    step: Duration,
    ended: oneshot::Sender<Ended>,
}

impl Tasks {
    pub(super) fn new(hint: Duration) -> Self {
        let state = State { open: BTreeMap::new(), polling: false, estimate: Estimate::new(hint) };
        Self { state: Mutex::new(state), more: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks are waited for.
    pub(super) fn open(&self) -> usize {
        self.state().open.len()
    }
}

/// Waits for a task that was started now.
pub(super) async fn wait<C: Cloud>(inner: &Arc<Inner<C>>, task: String) -> Ended {
    let (ended, end) = oneshot::channel();
    let start = {
        let now = inner.pacer.now();
        let mut state = inner.tasks.state();
        let (due, step) = (now + state.estimate.first(), state.estimate.step());
        state.open.insert(task, Open { since: now, due, step, ended });
        !std::mem::replace(&mut state.polling, true)
    };
    if start {
        inner.spawn(poll(inner.clone()));
    } else {
        inner.tasks.more.notify_one();
    }
    // The sender is dropped only with the engine.
    end.await.unwrap_or(Ended::Overdue)
}

async fn poll<C: Cloud>(inner: Arc<Inner<C>>) {
    let mut next = Duration::ZERO;
    loop {
        let due = {
            let mut state = inner.tasks.state();
            let Some(due) = state.open.values().map(|o| o.due).min() else {
                state.polling = false;
                return;
            };
            due.max(next)
        };
        let wait = due.saturating_sub(inner.pacer.now());
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = inner.tasks.more.notified() => continue,
            }
        }
        // Whatever else is open goes along: to ask for it costs nothing.
        let ids: Vec<String> = {
            let state = inner.tasks.state();
            let mut open: Vec<(Duration, &String)> = state.open.iter().map(|(id, o)| (o.due, id)).collect();
            open.sort();
            open.into_iter().take(inner.limits.tasks_per_poll.max(1)).map(|(_, id)| id.clone()).collect()
        };
        let asked = inner.pacer.now();
        next = asked + GAP;
        let answer = inner.pacer.call(C::TASKS, || inner.cloud.tasks(&ids)).await;
        heard(&inner, &ids, asked, answer.ok());
    }
}

fn heard<C: Cloud>(inner: &Inner<C>, ids: &[String], asked: Duration, answer: Option<Vec<TaskState>>) {
    let now = inner.pacer.now();
    let overdue = inner.limits.task_timeout;
    let mut state = inner.tasks.state();
    for (i, id) in ids.iter().enumerate() {
        let ended = match answer.as_ref().and_then(|a| a.get(i)) {
            Some(TaskState::Done) => {
                if let Some(open) = state.open.get(id) {
                    let took = asked.saturating_sub(open.since);
                    state.estimate.learned(took);
                }
                Some(Ended::Done)
            }
            // Some writes are tasks by the documents and none in fact.
            Some(TaskState::Unknown) => Some(Ended::Done),
            Some(TaskState::Failed(why)) => Some(Ended::Failed(why.clone())),
            Some(TaskState::Running) | None => None,
        };
        let Some(open) = state.open.get_mut(id) else { continue };
        let ended = ended.or_else(|| (now.saturating_sub(open.since) > overdue).then_some(Ended::Overdue));
        if let Some(ended) = ended {
            if let Some(open) = state.open.remove(id) {
                // Whoever waited may have gone.
                _ = open.ended.send(ended);
            }
        } else if open.due <= now {
            open.due = now + open.step;
            open.step = open.step.mul_f64(1.3).min(Duration::from_secs(10));
        }
    }
}
