//! Server-side apply: merge what a manager states, and take away what it no longer states.
//!
//! Simplified against the real one: only apply makes an owner (other writes take ownership away from those whose
//! fields they change, so that conflicts arise between appliers only), and lists merge by field name, not by schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::error::ApiError;

/// A step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seg {
    /// A field.
    Field(String),
    /// The list item of this identity.
    Item(String),
}

/// A path to a value that has no parts of its own.
pub type Path = Vec<Seg>;

/// The paths that each manager (with its subresource) applied.
pub type Owners = BTreeMap<String, BTreeSet<Path>>;

/// The keys by which a list of this name merges; of alternatives, the first that the item has.
fn list_keys(field: &str) -> &'static [&'static [&'static str]] {
    match field {
        "conditions" => &[&["type"]],
        "listeners" | "containers" | "initContainers" | "volumes" | "env" | "webhooks" => &[&["name"]],
        "containerStatuses" | "initContainerStatuses" => &[&["name"]],
        "addresses" => &[&["value"], &["type", "address"]],
        "ownerReferences" => &[&["uid"]],
        "podIPs" | "hostIPs" => &[&["ip"]],
        "ports" => &[&["containerPort"], &["port"], &["name"]],
        "volumeMounts" => &[&["mountPath"]],
        _ => &[],
    }
}

/// What tells an item of the list `field` from its siblings; none: the list is atomic.
pub fn item_id(field: &str, item: &Value) -> Option<String> {
    if field == "finalizers" {
        return item.as_str().map(Into::into);
    }
    let keys = list_keys(field).iter().find(|keys| keys.iter().all(|k| item.get(k).is_some()))?;
    let mut id: Vec<String> = keys.iter().map(|k| item[k].to_string()).collect();
    // Ports may share a number when their protocols differ.
    if field == "ports" {
        id.push(item["protocol"].as_str().unwrap_or("TCP").into());
    }
    Some(id.join(","))
}

fn is_key(path: &[Seg]) -> bool {
    let [.., Seg::Field(list), Seg::Item(_), Seg::Field(field)] = path else { return false };
    list_keys(list).iter().any(|keys| keys.contains(&field.as_str())) || (list == "ports" && field == "protocol")
}

fn merges(field: &str, items: &[Value]) -> bool {
    items.iter().all(|i| item_id(field, i).is_some()) && (field == "finalizers" || !list_keys(field).is_empty())
}

fn leaves(value: &Value, field: &str, path: &mut Path, out: &mut BTreeSet<Path>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(Seg::Field(name.clone()));
                leaves(value, name, path, out);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() && merges(field, items) => {
            for item in items {
                path.push(Seg::Item(item_id(field, item).unwrap_or_default()));
                leaves(item, "", path, out);
                path.pop();
            }
        }
        _ => _ = out.insert(path.clone()),
    }
}

fn merge(live: &mut Value, config: &Value, field: &str) {
    match (config, &mut *live) {
        (Value::Object(fields), Value::Object(live)) => {
            for (name, value) in fields {
                merge(live.entry(name.clone()).or_insert(Value::Null), value, name);
            }
        }
        (Value::Array(items), Value::Array(live)) if merges(field, items) && merges(field, live) => {
            for item in items {
                match live.iter().position(|l| item_id(field, l) == item_id(field, item)) {
                    Some(at) => merge(&mut live[at], item, ""),
                    None => live.push(item.clone()),
                }
            }
        }
        _ => *live = config.clone(),
    }
}

fn find<'a>(value: &'a Value, path: &[Seg]) -> Option<&'a Value> {
    let mut at = value;
    let mut list = "";
    for seg in path {
        at = match seg {
            Seg::Field(name) => {
                list = name;
                at.get(name)?
            }
            Seg::Item(id) => at.as_array()?.iter().find(|i| item_id(list, i).as_ref() == Some(id))?,
        };
    }
    Some(at)
}

/// Removes what `path` leads to, and what is empty without it.
fn remove(value: &mut Value, path: &[Seg], list: &str) {
    let Some((first, rest)) = path.split_first() else { return };
    let emptied = |v: &Value| v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty);
    match (first, value) {
        (Seg::Field(name), Value::Object(fields)) => {
            let Some(child) = fields.get_mut(name) else { return };
            remove(child, rest, name);
            if rest.is_empty() || emptied(child) {
                fields.remove(name);
            }
        }
        (Seg::Item(id), Value::Array(items)) => {
            let Some(at) = items.iter().position(|i| item_id(list, i).as_ref() == Some(id)) else { return };
            remove(&mut items[at], rest, list);
            if rest.is_empty() || emptied(&items[at]) {
                items.remove(at);
            }
        }
        _ => {}
    }
}

/// The owners that are left when a write, other than an apply, made `new` of `old`.
pub fn without_changed(owners: &Owners, old: &Value, new: &Value) -> Owners {
    let kept = |paths: &BTreeSet<Path>| -> BTreeSet<Path> {
        paths.iter().filter(|p| find(old, p) == find(new, p)).cloned().collect()
    };
    owners.iter().map(|(m, p)| (m.clone(), kept(p))).filter(|(_, p)| !p.is_empty()).collect()
}

/// What of `config` counts, for the main resource or the status subresource.
fn relevant(config: &Value, sub: Option<&str>, has_status: bool) -> Value {
    if sub == Some("status") {
        return config.get("status").map_or_else(|| json!({}), |s| json!({"status": s}));
    }
    let mut config = config.clone();
    if let Some(root) = config.as_object_mut() {
        root.remove("apiVersion");
        root.remove("kind");
        if has_status {
            root.remove("status");
        }
        if let Some(meta) = root.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.retain(|k, _| matches!(k.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences"));
        }
        root.retain(|k, v| k != "metadata" || v.as_object().is_some_and(|m| !m.is_empty()));
    }
    strip_nulls(&mut config);
    config
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// A manager's apply of `config` onto `live`: the new object, and the new owners.
pub fn applied(
    live: &Value,
    owners: &Owners,
    config: &Value,
    manager: &str,
    sub: Option<&str>,
    has_status: bool,
    force: bool,
) -> Result<(Value, Owners), ApiError> {
    let config = relevant(config, sub, has_status);
    let me = sub.map_or_else(|| manager.to_owned(), |s| format!("{manager}/{s}"));
    let mut mine = BTreeSet::new();
    if config.as_object().is_some_and(|c| !c.is_empty()) {
        leaves(&config, "", &mut Path::new(), &mut mine);
    }
    let mut next = live.clone();
    merge(&mut next, &config, "");

    let mut left: Owners = owners.iter().filter(|(m, _)| **m != me).map(|(m, p)| (m.clone(), p.clone())).collect();
    let conflicts: Vec<String> = left
        .iter()
        .filter_map(|(m, p)| p.intersection(&mine).find(|p| find(live, p) != find(&config, p)).map(|p| (m, p)))
        .map(|(m, p)| format!("conflict with {m:?}: {p:?}"))
        .collect();
    if !force && !conflicts.is_empty() {
        let why = format!("Apply failed with {} conflict(s): {}", conflicts.len(), conflicts.join("; "));
        return Err(ApiError::new(409, "Conflict", why));
    }
    left = without_changed(&left, live, &next);

    let gone: Vec<&Path> = owners
        .get(&me)
        .into_iter()
        .flatten()
        .filter(|p| !mine.contains(*p) && !left.values().any(|other| other.contains(*p)))
        .collect();
    gone.iter().filter(|p| !is_key(p)).for_each(|p| remove(&mut next, p, ""));
    // An item's key goes with the item, and only when nobody's fields are left in it.
    for path in gone.iter().filter(|p| is_key(p)) {
        let item = &path[..path.len() - 1];
        let only_keys = |v: &Value| {
            v.as_object().is_some_and(|o| o.keys().all(|k| is_key(&[item, &[Seg::Field(k.clone())]].concat())))
        };
        if find(&next, item).is_some_and(only_keys) {
            remove(&mut next, item, "");
        }
    }
    if !mine.is_empty() {
        left.insert(me, mine);
    }
    Ok((next, left))
}
