//! The stream of a watch.

use std::{io, sync::Arc, time::Duration};

use axum::body::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    ApiServer,
    error::ApiError,
    faults::{Fate, Rng},
    resource::ResourceType,
    select::Selector,
    store::Change,
};

/// How often a quiet watch is told how far it is, as the real server does.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long after its timeout a silent connection is taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// What a watch asks for.
pub struct WatchRequest {
    /// The type.
    pub ty: Arc<ResourceType>,
    /// Which objects.
    pub selector: Selector,
    /// Changes after this version; none: first all objects, then changes.
    pub from: Option<u64>,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// Whether a bookmark tells the end of the initial objects.
    pub initial_events: bool,
    /// How long the stream lasts.
    pub timeout: Duration,
    /// Whether only metadata is wanted.
    pub meta_only: bool,
    /// When and how it ends early.
    pub fate: Option<(Duration, Fate)>,
    /// For the lag of each batch.
    pub rng: Rng,
}

struct State {
    server: ApiServer,
    request: WatchRequest,
    position: Option<u64>,
    signal: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
    deadline: Instant,
    fate: Option<(Instant, Fate)>,
    bookmark: Option<Instant>,
    /// Whether the first batch was made.
    running: bool,
    done: bool,
}

/// The object's text, or that of its metadata only.
pub fn rendered(object: &super::store::Object, meta_only: bool) -> Bytes {
    if meta_only { Bytes::from(metadata_of(object).to_string()) } else { object.json().clone() }
}

/// The `PartialObjectMetadata` of an object.
pub fn metadata_of(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn line(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

impl State {
    /// What happened since the last batch.
    fn batch(&mut self) -> Result<Vec<u8>, ApiError> {
        let mut out = Vec::new();
        let (selector, meta_only) = (&self.request.selector, self.request.meta_only);
        self.server.with_store(|store| {
            let table = store.table(&self.request.ty);
            match self.position {
                None => {
                    for object in table.objects.values().filter(|o| selector.matches(o)) {
                        line(&mut out, "ADDED", &rendered(object, meta_only));
                    }
                    if self.request.initial_events {
                        line(&mut out, "BOOKMARK", &bookmark(&self.request.ty, store.rv, true));
                    }
                }
                Some(position) => {
                    // A compaction is no matter to a watch that runs, unless it had not been told yet.
                    let oldest = if self.running { table.dropped } else { table.compacted };
                    if position < oldest {
                        return Err(ApiError::expired(position, oldest));
                    }
                    for change in table.since(position) {
                        event(&mut out, change, selector, meta_only);
                    }
                }
            }
            self.position = Some(store.rv);
            self.running = true;
            Ok(())
        })?;
        Ok(out)
    }

    /// The next chunk; none: the stream ends.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.done {
            return None;
        }
        loop {
            self.signal.mark_unchanged();
            let out = match self.batch() {
                Ok(out) => out,
                Err(gone) => return self.end_with(gone),
            };
            if !out.is_empty() {
                return Some(Ok(out.into()));
            }
            let fate_at = self.fate.map_or(self.deadline, |(at, _)| at);
            let wake = fate_at.min(self.deadline).min(self.bookmark.unwrap_or(self.deadline));
            let changed = tokio::select! {
                biased;
                _ = self.cut.changed() => return self.fail(),
                () = sleep_until(wake) => false,
                _ = self.signal.changed() => true,
            };
            if changed {
                let lag = self.server.with_faults(|f| self.request.rng.between(&f.watch_lag));
                if !lag.is_zero() {
                    sleep(lag).await;
                }
                continue;
            }
            let now = Instant::now();
            if now >= fate_at
                && let Some((_, fate)) = self.fate.take()
            {
                return self.meet(fate).await;
            }
            let (ty, rv) = (&self.request.ty, self.position.unwrap_or_default());
            let mut out = Vec::new();
            if self.bookmark.is_some() {
                line(&mut out, "BOOKMARK", &bookmark(ty, rv, false));
                self.bookmark = Some(now + BOOKMARK_EVERY);
            }
            self.done = now >= self.deadline;
            if !out.is_empty() {
                return Some(Ok(out.into()));
            }
            if self.done {
                return None;
            }
        }
    }

    fn end_with(&mut self, error: ApiError) -> Option<io::Result<Bytes>> {
        self.done = true;
        let mut out = Vec::new();
        line(&mut out, "ERROR", error.status().to_string().as_bytes());
        Some(Ok(out.into()))
    }

    fn fail(&mut self) -> Option<io::Result<Bytes>> {
        self.done = true;
        Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")))
    }

    async fn meet(&mut self, fate: Fate) -> Option<io::Result<Bytes>> {
        self.done = true;
        match fate {
            Fate::Close => None,
            Fate::Truncate => Some(Ok(Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"kind"))),
            Fate::Reset => self.fail(),
            Fate::Gone => self.end_with(ApiError::expired(self.position.unwrap_or_default(), 0)),
            Fate::Stall => {
                sleep_until(self.deadline + DEAD_AFTER).await;
                self.fail()
            }
        }
    }
}

fn bookmark(ty: &ResourceType, rv: u64, initial_end: bool) -> Vec<u8> {
    let mut object = json!({
        "apiVersion": ty.api_version(), "kind": ty.kind,
        "metadata": {"resourceVersion": rv.to_string(), "creationTimestamp": null},
    });
    if initial_end {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    object.to_string().into_bytes()
}

/// What one change is to those who see only what the selector selects: an object may come and go by its labels.
fn event(out: &mut Vec<u8>, change: &Change, selector: &Selector, meta_only: bool) {
    let was = change.before.as_deref().filter(|b| selector.matches(b));
    let is = !change.deleted && selector.matches(&change.object);
    match (was, is) {
        (None, false) => {}
        (None, true) => line(out, "ADDED", &rendered(&change.object, meta_only)),
        (Some(_), true) => line(out, "MODIFIED", &rendered(&change.object, meta_only)),
        (Some(_), false) if change.deleted => line(out, "DELETED", &rendered(&change.object, meta_only)),
        (Some(before), false) => {
            let mut last = if meta_only { metadata_of(before) } else { Value::clone(before) };
            last["metadata"]["resourceVersion"] = change.rv.to_string().into();
            line(out, "DELETED", last.to_string().as_bytes());
        }
    }
}

/// Starts a watch.
pub fn stream(server: ApiServer, request: WatchRequest) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let now = Instant::now();
    let state = State {
        signal: server.with_store(|s| s.table(&request.ty).signal.subscribe()),
        cut: server.cut_signal(),
        deadline: now + request.timeout,
        fate: request.fate.map(|(after, fate)| (now + after, fate)),
        bookmark: request.bookmarks.then(|| now + BOOKMARK_EVERY),
        position: request.from,
        running: false,
        done: false,
        server,
        request,
    };
    futures::stream::unfold(state, |mut state| async move { state.next().await.map(|chunk| (chunk, state)) })
}
