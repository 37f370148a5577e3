//! One lane of writes for each load balancer: sent at once if the lane is idle, collected while a write is under way.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    CallError, Cloud, ErrorKind, Item, Written, batch,
    engine::Inner,
    tasks::{self, Ended},
};

/// Why an item was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The call failed, or this item of it.
    #[error("{0}")]
    Call(CallError),
    /// It was refused before, and is not tried again yet.
    #[error("{error}; it is tried again in {wait:?}")]
    Held {
        /// The last refusal.
        error: CallError,
        /// How much longer.
        wait: Duration,
    },
    /// Too many items wait for this load balancer.
    #[error("{0} items wait for this load balancer already")]
    Full(usize),
}

impl WriteError {
    /// What it means.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Call(error) | Self::Held { error, .. } => error.kind,
            Self::Full(_) => ErrorKind::Busy,
        }
    }
}

/// How an item ended.
pub type Outcome<M> = Result<M, WriteError>;

/// So many calls are made to find out which item of a batch is refused; what is left then is refused together.
const SEARCH: usize = 64;

/// The items of one caller.
struct Submission<M>(Mutex<Submitted<M>>);

struct Submitted<M> {
    results: Vec<Option<Outcome<M>>>,
    left: usize,
    done: Option<oneshot::Sender<Vec<Outcome<M>>>>,
}

impl<M> Submission<M> {
    fn lock(&self) -> MutexGuard<'_, Submitted<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The `at`th item has ended.
    fn end(&self, at: usize, outcome: Outcome<M>) {
        let mut s = self.lock();
        if let Some(slot @ None) = s.results.get_mut(at) {
            *slot = Some(outcome);
            s.left -= 1;
        }
        if s.left == 0
            && let Some(done) = s.done.take()
        {
            // Whoever waited may have gone.
            _ = done.send(s.results.drain(..).flatten().collect());
        }
    }
    /// Nobody waits for it any more.
    fn withdrawn(&self) -> bool {
        self.lock().done.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

struct Entry<C: Cloud> {
    item: C::Item,
    at: usize,
    of: Arc<Submission<C::Made>>,
}

impl<C: Cloud> Entry<C> {
    fn end(self, outcome: Outcome<C::Made>) {
        self.of.end(self.at, outcome);
    }
}

/// Part of a batch that was refused, to find out for which item.
struct Piece<C: Cloud> {
    entries: Vec<Entry<C>>,
    /// How many more calls may be spent on it and its like.
    search: Arc<AtomicUsize>,
}

struct Lane<C: Cloud> {
    queue: VecDeque<Entry<C>>,
    pieces: VecDeque<Piece<C>>,
    /// Pieces and the rest take turns.
    piece_next: bool,
}

/// The lanes that have something to do; each has a task that runs it.
pub(super) struct Lanes<C: Cloud>(Mutex<HashMap<String, Lane<C>>>);

impl<C: Cloud> Default for Lanes<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Cloud> Lanes<C> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lane<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many items wait, over all lanes.
    pub(super) fn waiting(&self) -> usize {
        let lanes = self.lock();
        lanes.values().map(|l| l.queue.len() + l.pieces.iter().map(|p| p.entries.len()).sum::<usize>()).sum()
    }

    fn refuse(&self, lane: &str, piece: Piece<C>) {
        if let Some(l) = self.lock().get_mut(lane) {
            l.pieces.push_back(piece);
        }
    }
}

/// Writes items; answers when each has been written or has failed, in the same order.
pub(super) async fn write<C: Cloud>(inner: &Arc<Inner<C>>, lane: &str, items: Vec<C::Item>) -> Vec<Outcome<C::Made>> {
    let n = items.len();
    if n == 0 {
        return Vec::new();
    }
    let (done, all) = oneshot::channel();
    let of = Arc::new(Submission(Mutex::new(Submitted {
        results: (0..n).map(|_| None).collect(),
        left: n,
        done: Some(done),
    })));
    let mut entries = VecDeque::with_capacity(n);
    {
        let now = inner.pacer.now();
        let quarantine = inner.quarantine();
        for (at, item) in items.into_iter().enumerate() {
            match quarantine.holds(lane, &item.id(), now) {
                Some((error, until)) => {
                    of.end(at, Err(WriteError::Held { error: error.clone(), wait: until.saturating_sub(now) }));
                }
                None => entries.push_back(Entry { item, at, of: of.clone() }),
            }
        }
    }
    if !entries.is_empty() {
        let start = {
            let mut lanes = inner.lanes.lock();
            let start = !lanes.contains_key(lane);
            let l = lanes.entry(lane.to_owned()).or_insert_with(|| Lane {
                queue: VecDeque::new(),
                pieces: VecDeque::new(),
                piece_next: false,
            });
            // What nobody waits for any more must not be in the way of what somebody does.
            l.queue.retain(|e| !e.of.withdrawn());
            let room = inner.limits.queue.saturating_sub(l.queue.len());
            let full = l.queue.len();
            for entry in entries.drain(room.min(entries.len())..) {
                entry.end(Err(WriteError::Full(full)));
            }
            l.queue.extend(entries);
            start
        };
        if start {
            inner.spawn(run(inner.clone(), lane.to_owned()));
        }
    }
    all.await.unwrap_or_default()
}

/// Runs a lane until it has nothing to do.
async fn run<C: Cloud>(inner: Arc<Inner<C>>, lane: String) {
    while let Some(piece) = take(&inner, &lane) {
        send(&inner, &lane, piece).await;
    }
}

/// The next call's items; with none the lane is over.
fn take<C: Cloud>(inner: &Inner<C>, lane: &str) -> Option<Piece<C>> {
    let mut lanes = inner.lanes.lock();
    let l = lanes.get_mut(lane)?;
    let from_piece = l.piece_next && !l.pieces.is_empty();
    l.piece_next = !l.piece_next;
    if !from_piece {
        while l.queue.front().is_some_and(|e| e.of.withdrawn()) {
            l.queue.pop_front();
        }
        let entries = batch::next(&mut l.queue, |e| &e.item, |item| inner.limits.batch(item.action()));
        if !entries.is_empty() {
            return Some(Piece { entries, search: Arc::new(AtomicUsize::new(SEARCH)) });
        }
    }
    let piece = l.pieces.pop_front();
    if piece.is_none() {
        lanes.remove(lane);
    }
    piece
}

async fn send<C: Cloud>(inner: &Arc<Inner<C>>, lane: &str, piece: Piece<C>) {
    let Some(action) = piece.entries.first().map(|e| e.item.action()) else { return };
    let items: Vec<C::Item> = piece.entries.iter().map(|e| e.item.clone()).collect();
    let deadline = inner.pacer.now() + inner.limits.deadline;
    let mut tries = 0;
    let written = loop {
        match inner.pacer.call(action, || inner.cloud.write(lane, &items)).await {
            Ok(written) => break written,
            Err(e) if e.kind.again() && inner.pacer.now() < deadline => {
                tries += 1;
                tokio::time::sleep(inner.backoff(e.kind, tries)).await;
            }
            Err(e) => return refused(inner, lane, piece, &e, items.len() == 1),
        }
    };
    if inner.limits.exclusive {
        finish(inner, lane, piece, written).await;
    } else {
        let (inner_, lane) = (inner.clone(), lane.to_owned());
        inner.spawn(async move { finish(&inner_, &lane, piece, written).await });
    }
}

/// A call was taken: waits for its task, and tells everybody.
async fn finish<C: Cloud>(inner: &Arc<Inner<C>>, lane: &str, piece: Piece<C>, written: Written<C::Made>) {
    let Written { task, items, exact } = written;
    let Piece { entries, search } = piece;
    let mut results = items.into_iter();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in entries {
        match results.next() {
            Some(Ok(made)) => good.push((entry, made)),
            Some(Err(error)) => bad.push((entry, error)),
            None => bad.push((entry, CallError::short("write"))),
        }
    }
    // The task first: what is tried again must not meet a busy load balancer.
    let ended = match task {
        Some(task) if !good.is_empty() => tasks::wait(inner, task).await,
        _ => Ended::Done,
    };
    match ended {
        Ended::Done => {
            let mut quarantine = inner.quarantine();
            for (entry, made) in good {
                quarantine.accepted(lane, &entry.item.id());
                entry.end(Ok(made));
            }
        }
        Ended::Failed(why) => {
            let entries: Vec<_> = good.into_iter().map(|(entry, _)| entry).collect();
            let Some(action) = entries.first().map(|e| e.item.action()) else { return };
            let error = CallError {
                kind: ErrorKind::Invalid,
                whole: false,
                action,
                code: "TaskFailed".into(),
                message: why,
                request_id: None,
            };
            let alone = entries.len() == 1;
            refused(inner, lane, Piece { entries, search: search.clone() }, &error, alone);
        }
        Ended::Overdue => {
            for (entry, _) in good {
                let error = CallError::timeout(entry.item.action(), inner.limits.task_timeout);
                entry.end(Err(WriteError::Call(error)));
            }
        }
    }
    if exact {
        for (entry, error) in bad {
            let piece = Piece { entries: vec![entry], search: search.clone() };
            refused(inner, lane, piece, &error, true);
        }
    } else if let Some((_, error)) = bad.first() {
        let error = error.clone();
        let entries: Vec<_> = bad.into_iter().map(|(entry, _)| entry).collect();
        let alone = entries.len() == 1;
        refused(inner, lane, Piece { entries, search }, &error, alone);
    }
}

/// Items were refused: if it is not known for which of them, each half is tried by itself, until it is known. One that is
/// `alone` to blame waits in quarantine.
fn refused<C: Cloud>(inner: &Arc<Inner<C>>, lane: &str, piece: Piece<C>, error: &CallError, alone: bool) {
    let Piece { mut entries, search } = piece;
    let about_items = error.kind.about_items() && !error.whole;
    let may_search = || search.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(2)).is_ok();
    if about_items && !alone && may_search() {
        let half = entries.split_off(entries.len() / 2);
        for entries in [entries, half] {
            inner.lanes.refuse(lane, Piece { entries, search: search.clone() });
        }
        return;
    }
    if about_items {
        let now = inner.pacer.now();
        let mut quarantine = inner.quarantine();
        for entry in &entries {
            quarantine.refused(lane, &entry.item.id(), error.clone(), now, inner.jitter.next());
        }
    }
    for entry in entries {
        entry.end(Err(WriteError::Call(error.clone())));
    }
}
