//! The objects, their history, and who owns whom.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use axum::body::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::{apply::Owners, error::ApiError, faults::mix, resource::ResourceType};

/// Changes kept for each type; a watch from before them is told 410.
const HISTORY: usize = 5_000;

/// Namespace (empty if cluster-scoped) and name.
pub type Key = (String, String);

/// One version of an object; it never changes.
#[derive(Debug)]
pub struct Object {
    value: Value,
    /// Who applied which fields (server-side apply); stands for `managedFields`.
    pub(super) owners: Arc<Owners>,
    json: OnceLock<Bytes>,
}

impl Object {
    pub(super) fn new(value: Value, owners: Arc<Owners>) -> Self {
        Self { value, owners, json: OnceLock::new() }
    }

    /// The object as text; made once for all who read it.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string()))
    }
}

impl Deref for Object {
    type Target = Value;
    fn deref(&self) -> &Value {
        &self.value
    }
}

/// One step in a type's history.
#[derive(Debug)]
pub struct Change {
    /// The version that it made.
    pub rv: u64,
    /// The object before; none: created.
    pub before: Option<Arc<Object>>,
    /// The object after (with its last state, if deleted).
    pub object: Arc<Object>,
    /// Whether the object is gone with it.
    pub deleted: bool,
}

/// All objects of a type.
pub struct Table {
    /// The objects now.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// The newest changes, in order.
    pub log: VecDeque<Arc<Change>>,
    /// The version before the oldest change still known.
    pub compacted: u64,
    /// The newest change that is no longer known: a watch that has been told of it can go on.
    pub dropped: u64,
    /// Says the newest version to those who watch.
    pub signal: watch::Sender<u64>,
}

impl Table {
    fn new() -> Self {
        Self { objects: BTreeMap::new(), log: VecDeque::new(), compacted: 0, dropped: 0, signal: watch::Sender::new(0) }
    }

    /// The changes after `rv`.
    pub fn since(&self, rv: u64) -> impl Iterator<Item = &Arc<Change>> {
        self.log.range(self.log.partition_point(|c| c.rv <= rv)..)
    }

    /// The objects as they were at `rv`.
    pub fn at(&self, rv: u64) -> Result<BTreeMap<Key, Arc<Object>>, ApiError> {
        if rv < self.compacted {
            return Err(ApiError::expired(rv, self.compacted));
        }
        let mut objects = self.objects.clone();
        for change in self.log.iter().rev().take_while(|c| c.rv > rv) {
            let key = key_of(&change.object);
            match &change.before {
                Some(before) => objects.insert(key, Arc::clone(before)),
                None => objects.remove(&key),
            };
        }
        Ok(objects)
    }
}

/// The key of an object.
pub fn key_of(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// All tables.
pub struct Store {
    /// The newest version.
    pub rv: u64,
    /// The types served; a type that was withdrawn keeps its table.
    pub types: Vec<Arc<ResourceType>>,
    tables: Vec<Table>,
    dependents: HashMap<String, BTreeSet<(usize, Key)>>,
    ids: u64,
}

impl Store {
    /// Empty tables for these types.
    pub fn new(types: Vec<ResourceType>) -> Self {
        let mut this = Self { rv: 1, types: Vec::new(), tables: Vec::new(), dependents: HashMap::new(), ids: 0 };
        types.into_iter().for_each(|ty| this.register(ty));
        this
    }

    /// Serves one more type.
    pub fn register(&mut self, mut ty: ResourceType) {
        ty.id = self.tables.len();
        self.tables.push(Table::new());
        self.types.push(Arc::new(ty));
    }

    /// The table of `ty`.
    pub fn table(&self, ty: &ResourceType) -> &Table {
        &self.tables[ty.id]
    }

    /// Forgets all history, as a compaction does.
    pub fn compact(&mut self) {
        for table in &mut self.tables {
            table.dropped = table.log.back().map_or(table.dropped, |c| c.rv);
            table.log.clear();
            table.compacted = self.rv;
        }
    }

    /// The object, or 404.
    pub fn get(&self, ty: &ResourceType, key: &Key) -> Result<Arc<Object>, ApiError> {
        self.table(ty).objects.get(key).cloned().ok_or_else(|| ApiError::not_found(ty, &key.1))
    }

    /// A new UID: from a counter, so that runs are alike, and mixed, so that it does not sort by age.
    pub fn new_uid(&mut self) -> String {
        self.ids += 1;
        let (a, b) = (mix(self.ids), mix(!self.ids));
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        )
    }

    /// A new five-character suffix, in the letters that `generateName` uses.
    pub fn new_suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.ids += 1;
        let mut n = mix(self.ids);
        std::iter::repeat_with(|| {
            let c = LETTERS[(n % LETTERS.len() as u64) as usize];
            n /= LETTERS.len() as u64;
            char::from(c)
        })
        .take(5)
        .collect()
    }

    /// Stores a new version of the object.
    pub fn put(&mut self, ty: &ResourceType, value: Value, owners: Arc<Owners>) -> Arc<Object> {
        self.commit(ty, value, owners, false)
    }

    /// Removes the object; `value` is its last state. Those that it alone owned go too.
    pub fn remove(&mut self, ty: &ResourceType, value: Value, now: jiff::Timestamp) -> Arc<Object> {
        let uid = value["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let object = self.commit(ty, value, Arc::default(), true);
        for (id, key) in self.dependents.remove(&uid).unwrap_or_default() {
            let Some(ty) = self.types.iter().find(|t| t.id == id).cloned() else { continue };
            let Some(child) = self.table(&ty).objects.get(&key).cloned() else { continue };
            let owners = child["metadata"]["ownerReferences"].as_array();
            let owned = |r: &Value| r["uid"].as_str().is_some_and(|u| u != uid && self.uid_exists(u));
            if !owners.into_iter().flatten().any(owned) {
                // Already going, or just gone: nothing to do.
                let _ = self.delete(&ty, &key, &Value::Null, now);
            }
        }
        object
    }

    fn uid_exists(&self, uid: &str) -> bool {
        self.tables.iter().any(|t| t.objects.values().any(|o| o["metadata"]["uid"] == uid))
    }

    fn commit(&mut self, ty: &ResourceType, mut value: Value, owners: Arc<Owners>, deleted: bool) -> Arc<Object> {
        self.rv += 1;
        let rv = self.rv;
        value["metadata"]["resourceVersion"] = rv.to_string().into();
        let key = key_of(&value);
        let object = Arc::new(Object::new(value, owners));
        for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            let uid = owner["uid"].as_str().unwrap_or_default();
            let of = (ty.id, key.clone());
            if !deleted {
                self.dependents.entry(uid.to_owned()).or_default().insert(of);
            } else if let Some(all) = self.dependents.get_mut(uid) {
                all.remove(&of);
            }
        }
        let table = &mut self.tables[ty.id];
        let before = if deleted { table.objects.remove(&key) } else { table.objects.insert(key, Arc::clone(&object)) };
        table.log.push_back(Arc::new(Change { rv, before, object: Arc::clone(&object), deleted }));
        if table.log.len() > HISTORY
            && let Some(oldest) = table.log.pop_front()
        {
            table.compacted = oldest.rv;
            table.dropped = oldest.rv;
        }
        table.signal.send_replace(rv);
        object
    }
}
