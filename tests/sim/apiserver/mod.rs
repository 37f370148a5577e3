//! A Kubernetes API server in memory.
//!
//! It is a `tower::Service`, so that the real `kube::Client` talks to it. Scenarios reach it directly too, without
//! faults and without waiting. Time is tokio's: under a paused clock an hour takes milliseconds.
//!
//! Simplified against the real one: no schema (neither defaults, nor pruning, nor CEL), one version for each type,
//! ownership of fields as in [`apply`], owners' dependents go at once (no foreground deletion).

mod apply;
mod asked;
mod error;
mod faults;
mod patch;
mod resource;
mod select;
mod serve;
mod store;
mod watch;
mod write;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

pub use asked::Asked;
pub use error::ApiError;
pub use faults::{Fault, Faults, Rng, mix};
pub use resource::ResourceType;
pub use store::{Change, Object};

use faults::{Dice, Luck};
use store::{Key, Store};
use write::Write;

/// One request that the server was sent.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Virtual time since the server's start.
    pub at: Duration,
    /// What was asked.
    pub asked: Asked,
    /// The body, if it was JSON.
    pub body: Value,
    /// The HTTP status that the server answered (whether or not the answer arrived); 0: it never saw the request.
    pub code: u16,
    /// Whether the store changed by it.
    pub changed: bool,
}

impl Logged {
    /// Whether it is a write.
    pub fn is_write(&self) -> bool {
        !matches!(self.asked.verb, "get" | "list" | "watch")
    }
}

type Mutator = Arc<dyn Fn(&ResourceType, &mut Value) -> Result<(), ApiError> + Send + Sync>;
type Script = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

#[derive(Default)]
struct Control {
    faults: Faults,
    dice: Dice,
    script: Option<Script>,
    mutators: Vec<Mutator>,
    down: bool,
    log: Vec<Logged>,
    /// How many entries were cleared from the log's front.
    cleared: usize,
}

struct Inner {
    store: Mutex<Store>,
    control: Mutex<Control>,
    cut: tokio::sync::watch::Sender<u64>,
    start: Instant,
    epoch: jiff::Timestamp,
}

/// The server; clones are the same server.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

impl ApiServer {
    /// An empty server without faults, at 2026-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            store: Mutex::new(Store::new(resource::built_in())),
            control: Mutex::default(),
            cut: tokio::sync::watch::Sender::new(0),
            start: Instant::now(),
            epoch: jiff::Timestamp::from_second(1_767_225_600).unwrap(),
        }))
    }

    /// A client of this server; its default namespace is `default`.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// The wall clock of the simulated world.
    pub fn now(&self) -> jiff::Timestamp {
        self.0.epoch + self.elapsed()
    }

    /// Virtual time since the server's start.
    pub fn elapsed(&self) -> Duration {
        self.0.start.elapsed()
    }

    // ---- what goes wrong

    /// From now on, these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.control(|c| c.faults = faults);
    }

    /// From now on, this decides a request's fault first; `None` leaves it to [`Self::set_faults`].
    pub fn script(&self, script: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        self.control(|c| c.script = Some(Box::new(script)));
    }

    /// No faults, no script, not down.
    pub fn heal(&self) {
        self.control(|c| (c.faults, c.script, c.down) = (Faults::default(), None, false));
    }

    /// Takes the server away (connections fail, watches too), or brings it back.
    pub fn set_down(&self, down: bool) {
        self.control(|c| c.down = down);
        if down {
            self.cut_watches();
        }
    }

    /// Breaks the connection of every open watch.
    pub fn cut_watches(&self) {
        self.0.cut.send_modify(|n| *n += 1);
    }

    /// Forgets all history: a watch from an older version is told 410.
    pub fn compact(&self) {
        self.with_store_mut(Store::compact);
    }

    // ---- what is served

    /// Serves one more type.
    pub fn register(&self, ty: ResourceType) {
        self.with_store_mut(|s| s.register(ty));
    }

    /// Serves this type no more (as an older cluster, or one without the CRD).
    pub fn unregister(&self, kind: &str) {
        let ty = self.ty(kind);
        self.with_store_mut(|s| s.types.retain(|t| t.id != ty.id));
    }

    /// Admission: runs on every object that is created, before it is stored. May read the server.
    pub fn on_create(&self, f: impl Fn(&ResourceType, &mut Value) -> Result<(), ApiError> + Send + Sync + 'static) {
        self.control(|c| c.mutators.push(Arc::new(f)));
    }

    // ---- the log

    /// Every request so far.
    pub fn requests(&self) -> Vec<Logged> {
        self.control(|c| c.log.clone())
    }

    /// The writes so far, as `verb path`.
    pub fn writes(&self) -> Vec<String> {
        let line = |l: &Logged| format!("{} {}", l.asked.verb, l.asked.path);
        self.control(|c| c.log.iter().filter(|l| l.is_write()).map(line).collect())
    }

    /// Forgets the log.
    pub fn clear_requests(&self) {
        self.control(|c| {
            c.cleared += c.log.len();
            c.log.clear();
        });
    }

    // ---- the scenario's own hand: no faults, no waiting. `key` is `namespace/name`, or `name` if cluster-scoped;
    // `kind` may be `group/Kind` where a kind is ambiguous.

    /// Creates an object, which carries `apiVersion` and `kind`. A status in it is kept, unlike in a request.
    pub fn create(&self, mut object: Value) -> Arc<Object> {
        let api_version = object["apiVersion"].as_str().unwrap_or("v1");
        let group = api_version.split_once('/').map_or("", |(g, _)| g).to_owned();
        let kind = object["kind"].as_str().expect("an object has a kind").to_owned();
        let ty = self.ty(&format!("{group}/{kind}"));
        if ty.namespaced && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "default".into();
        }
        let namespace = object["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
        let status = object.get("status").cloned();
        let name = None;
        let route = resource::Route { ty: Arc::clone(&ty), namespace: namespace.clone(), name, sub: None };
        self.mutate(&route, &mut object).unwrap();
        let made = self
            .with_store_mut(|s| s.create(&ty, namespace.as_deref(), object, apply::Owners::new(), self.now(), false))
            .unwrap_or_else(|e| panic!("create {kind}: {e:?}"));
        match status.filter(|_| ty.status) {
            Some(status) => {
                let (namespace, name) = store::key_of(&made);
                self.patch_status(&ty.kind, &join(&namespace, &name), json!(status))
            }
            None => made,
        }
    }

    /// The object, if there is one.
    pub fn get(&self, kind: &str, key: &str) -> Option<Arc<Object>> {
        let ty = self.ty(kind);
        self.with_store(|s| s.get(&ty, &split(&ty, key)).ok())
    }

    /// All objects of the kind, in the order of namespace and name.
    pub fn list(&self, kind: &str) -> Vec<Arc<Object>> {
        let ty = self.ty(kind);
        self.with_store(|s| s.table(&ty).objects.values().cloned().collect())
    }

    /// Changes the object (not its status).
    pub fn edit(&self, kind: &str, key: &str, f: impl FnOnce(&mut Value)) -> Arc<Object> {
        self.write(kind, key, Write::default(), f).unwrap_or_else(|e| panic!("edit {kind} {key}: {e:?}"))
    }

    /// Changes the object's status: `f` is given the whole object.
    pub fn edit_status(&self, kind: &str, key: &str, f: impl FnOnce(&mut Value)) -> Arc<Object> {
        let write = Write { sub: Some("status"), ..Write::default() };
        self.write(kind, key, write, f).unwrap_or_else(|e| panic!("edit status of {kind} {key}: {e:?}"))
    }

    /// Merges into the object.
    pub fn patch(&self, kind: &str, key: &str, patch: Value) -> Arc<Object> {
        self.edit(kind, key, |o| json_patch::merge(o, &patch))
    }

    /// Merges into the object's status.
    pub fn patch_status(&self, kind: &str, key: &str, status: Value) -> Arc<Object> {
        self.edit_status(kind, key, |o| json_patch::merge(o, &json!({"status": status})))
    }

    /// Deletes the object, as a user would; false: there was none.
    pub fn delete(&self, kind: &str, key: &str) -> bool {
        self.delete_with(kind, key, Value::Null)
    }

    /// Deletes the object with these `DeleteOptions`; false: there was none, or a precondition failed.
    pub fn delete_with(&self, kind: &str, key: &str, options: Value) -> bool {
        let ty = self.ty(kind);
        self.with_store_mut(|s| s.delete(&ty, &split(&ty, key), &options, self.now())).is_ok()
    }

    /// The changes of a kind after `rv`, and the version up to which these are all.
    pub fn changes(&self, kind: &str, rv: u64) -> (Vec<Arc<Change>>, u64) {
        let ty = self.ty(kind);
        self.with_store(|s| (s.table(&ty).since(rv).cloned().collect(), s.rv))
    }

    /// Told when objects of the kind change.
    pub fn subscribe(&self, kind: &str) -> tokio::sync::watch::Receiver<u64> {
        let ty = self.ty(kind);
        self.with_store(|s| s.table(&ty).signal.subscribe())
    }

    // ---- inside

    fn ty(&self, kind: &str) -> Arc<ResourceType> {
        let (group, name) = kind.rsplit_once('/').map_or((None, kind), |(g, k)| (Some(g), k));
        self.with_store(|s| {
            let fits = |t: &&Arc<ResourceType>| t.kind == name && group.is_none_or(|g| t.group == g);
            s.types.iter().find(fits).cloned().unwrap_or_else(|| panic!("no type {kind}"))
        })
    }

    fn write(
        &self,
        kind: &str,
        key: &str,
        write: Write<'_>,
        f: impl FnOnce(&mut Value),
    ) -> Result<Arc<Object>, ApiError> {
        let ty = self.ty(kind);
        let key = split(&ty, key);
        self.with_store_mut(|s| {
            let mut object = (**s.get(&ty, &key)?).clone();
            f(&mut object);
            s.replace(&ty, &key, object, None, write, self.now())
        })
    }

    fn mutate(&self, route: &resource::Route, object: &mut Value) -> Result<(), ApiError> {
        if let Some(namespace) = &route.namespace
            && object["metadata"].is_object()
            && object["metadata"]["namespace"].is_null()
        {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        let mutators = self.control(|c| c.mutators.clone());
        mutators.iter().try_for_each(|m| m(&route.ty, object))
    }

    fn control<R>(&self, f: impl FnOnce(&mut Control) -> R) -> R {
        f(&mut self.0.control.lock().unwrap())
    }

    fn with_store<R>(&self, f: impl FnOnce(&Store) -> R) -> R {
        f(&self.0.store.lock().unwrap())
    }

    fn with_store_mut<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R {
        f(&mut self.0.store.lock().unwrap())
    }

    fn with_faults<R>(&self, f: impl FnOnce(&Faults) -> R) -> R {
        self.control(|c| f(&c.faults))
    }

    fn cut_signal(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.cut.subscribe()
    }

    fn is_down(&self) -> bool {
        self.control(|c| c.down)
    }

    /// Logs a request and draws its luck; none: the server is down.
    fn begin(&self, asked: &Asked, body: &[u8]) -> (usize, Option<Luck>) {
        let body = serde_json::from_slice(body).unwrap_or_default();
        let at = self.elapsed();
        self.control(|c| {
            c.log.push(Logged { at, asked: asked.clone(), body, code: 0, changed: false });
            let mut luck = c.dice.draw(&c.faults, asked.verb, &asked.path);
            if let Some(fault) = c.script.as_mut().and_then(|script| script(asked)) {
                luck.fault = Some(fault);
            }
            (c.cleared + c.log.len() - 1, (!c.down).then_some(luck))
        })
    }

    fn finish(&self, entry: usize, code: u16, changed: bool) {
        // The log may have been cleared meanwhile.
        self.control(|c| {
            if let Some(logged) = entry.checked_sub(c.cleared).and_then(|at| c.log.get_mut(at)) {
                (logged.code, logged.changed) = (code, changed);
            }
        });
    }
}

fn split(ty: &ResourceType, key: &str) -> Key {
    match key.split_once('/') {
        Some((namespace, name)) => (namespace.into(), name.into()),
        None if ty.namespaced => ("default".into(), key.into()),
        None => (String::new(), key.into()),
    }
}

fn join(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}") }
}
