//! Create, replace, delete: the rules that every write keeps.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    apply::{self, Owners},
    error::ApiError,
    resource::ResourceType,
    store::{Key, Object, Store, key_of},
};

/// A time as `metav1.Time` writes it.
pub fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// What a replacement is part of.
#[derive(Clone, Copy, Default)]
pub struct Write<'a> {
    /// The subresource written to.
    pub sub: Option<&'a str>,
    /// Nothing is stored.
    pub dry_run: bool,
    /// A PUT: what it does not mention goes, and a custom resource's version is needed.
    pub whole: bool,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value["metadata"][field].as_str().unwrap_or_default()
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// Brings an object into the one form in which it is stored and compared.
fn tidy(ty: &ResourceType, object: &mut Value) -> Result<(), ApiError> {
    let Some(root) = object.as_object_mut() else {
        return Err(ApiError::bad_request("the body is not an object"));
    };
    for (field, want) in [("kind", ty.kind.clone()), ("apiVersion", ty.api_version())] {
        match root.get(field).and_then(Value::as_str) {
            None => _ = root.insert(field.into(), want.into()),
            Some(found) if found != want => {
                return Err(ApiError::bad_request(format!("{field} is {found:?}, and the path's is {want:?}")));
            }
            Some(_) => {}
        }
    }
    root.retain(|_, v| !v.is_null());
    let meta = root.entry("metadata").or_insert_with(|| Map::new().into());
    let Some(meta) = meta.as_object_mut() else {
        return Err(ApiError::bad_request("metadata is not an object"));
    };
    meta.retain(|k, v| {
        let empty = v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(Map::is_empty);
        !v.is_null() && !empty && k != "managedFields" && k != "selfLink"
    });
    Ok(())
}

/// What differs between two versions that makes a new generation.
fn same_spec(a: &Value, b: &Value) -> bool {
    let rest = |v: &Value| -> Vec<(String, Value)> {
        v.as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "spec"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    a["spec"] == b["spec"] && rest(a) == rest(b)
}

fn bump(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64() {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// A Pod's spec is fixed, but for what only the scheduler and a few privileged writers set.
fn pod_spec_kept(old: &Value, new: &Value) -> bool {
    let fixed = |v: &Value| {
        let mut spec = v["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            for free in ["nodeName", "schedulingGates", "tolerations", "activeDeadlineSeconds", "ephemeralContainers"] {
                spec.remove(free);
            }
        }
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
        spec
    };
    old["spec"] == new["spec"] || fixed(old) == fixed(new)
}

impl Store {
    /// POST.
    pub fn create(
        &mut self,
        ty: &ResourceType,
        namespace: Option<&str>,
        mut object: Value,
        owners: Owners,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        tidy(ty, &mut object)?;
        if ty.namespaced {
            let wanted = namespace.ok_or_else(|| ApiError::bad_request("a namespace is needed to create"))?;
            if !matches!(text(&object, "namespace"), "") && text(&object, "namespace") != wanted {
                return Err(ApiError::bad_request("the namespace of the object does not match that of the request"));
            }
            object["metadata"]["namespace"] = wanted.into();
        } else if !text(&object, "namespace").is_empty() {
            return Err(ApiError::bad_request("a cluster-scoped object has no namespace"));
        }
        if !text(&object, "resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if text(&object, "name").is_empty() {
            let prefix = text(&object, "generateName").to_owned();
            if prefix.is_empty() {
                return Err(ApiError::invalid(
                    ty,
                    "",
                    "metadata.name: Required value: name or generateName is required",
                ));
            }
            object["metadata"]["name"] = (prefix + &self.new_suffix()).into();
        }
        let key = key_of(&object);
        if self.table(ty).objects.contains_key(&key) {
            return Err(ApiError::already_exists(ty, &key.1));
        }
        let uid = self.new_uid();
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove("deletionTimestamp");
            meta.remove("deletionGracePeriodSeconds");
            meta.remove("generation");
            meta.insert("uid".into(), uid.into());
            meta.insert("creationTimestamp".into(), time(now));
            if ty.generation {
                meta.insert("generation".into(), 1.into());
            }
        }
        if ty.status
            && let Some(root) = object.as_object_mut()
        {
            root.remove("status");
        }
        if ty.kind == "Pod" {
            object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        }
        if dry_run {
            return Ok(Arc::new(Object::new(object, Arc::default())));
        }
        Ok(self.put(ty, object, Arc::new(owners)))
    }

    /// PUT, and the end of every PATCH. `owners`: of the applied fields, if that is what changed; else they are
    /// worked out from what the write changed.
    pub fn replace(
        &mut self,
        ty: &ResourceType,
        key: &Key,
        mut new: Value,
        owners: Option<Owners>,
        write: Write<'_>,
        now: Timestamp,
    ) -> Result<Arc<Object>, ApiError> {
        let old = self.get(ty, key)?;
        tidy(ty, &mut new)?;
        self.check_identity(ty, key, &old, &new, write)?;
        let mut next = if write.sub == Some("status") {
            let mut next = (**old).clone();
            match new.as_object_mut().and_then(|n| n.remove("status")) {
                Some(status) => next["status"] = status,
                None => _ = next.as_object_mut().and_then(|n| n.remove("status")),
            }
            next
        } else {
            if ty.status {
                match old.get("status") {
                    Some(status) => new["status"] = status.clone(),
                    None => _ = new.as_object_mut().and_then(|n| n.remove("status")),
                }
            }
            if let Some(meta) = new["metadata"].as_object_mut() {
                const OURS: [&str; 8] = [
                    "name",
                    "namespace",
                    "uid",
                    "resourceVersion",
                    "creationTimestamp",
                    "generation",
                    "deletionTimestamp",
                    "deletionGracePeriodSeconds",
                ];
                for field in OURS {
                    match old["metadata"].get(field) {
                        Some(v) => meta.insert(field.into(), v.clone()),
                        None => meta.remove(field),
                    };
                }
            }
            new
        };
        let leaving = old["metadata"].get("deletionTimestamp").is_some();
        let had = old["metadata"]["finalizers"].as_array();
        let added = |f: &&Value| had.is_none_or(|h| !h.contains(f));
        if leaving && next["metadata"]["finalizers"].as_array().into_iter().flatten().any(|f| added(&f)) {
            let why = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
            return Err(ApiError::invalid(ty, &key.1, why));
        }
        if ty.kind == "Pod" && !pod_spec_kept(&old, &next) {
            let why = "spec: Forbidden: pod updates may not change fields other than a few";
            return Err(ApiError::invalid(ty, &key.1, why));
        }
        let owners = owners.unwrap_or_else(|| apply::without_changed(&old.owners, &old, &next));
        let unchanged = next == **old;
        if unchanged && owners == *old.owners {
            return Ok(old);
        }
        if ty.generation && write.sub.is_none() && !same_spec(&old, &next) {
            bump(&mut next);
        }
        if write.dry_run {
            return Ok(Arc::new(Object::new(next, Arc::default())));
        }
        let graceful = next["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
        if leaving && !graceful && is_empty(&next["metadata"]["finalizers"]) {
            return Ok(self.remove(ty, next, now));
        }
        Ok(self.put(ty, next, Arc::new(owners)))
    }

    fn check_identity(
        &self,
        ty: &ResourceType,
        key: &Key,
        old: &Value,
        new: &Value,
        write: Write<'_>,
    ) -> Result<(), ApiError> {
        let (name, namespace) = (text(new, "name"), text(new, "namespace"));
        if (!name.is_empty() && name != key.1) || (!namespace.is_empty() && namespace != key.0) {
            return Err(ApiError::bad_request("the name of the object does not match the name on the URL"));
        }
        let (uid, was) = (text(new, "uid"), text(old, "uid"));
        if !uid.is_empty() && uid != was {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {was}");
            return Err(ApiError::conflict(ty, &key.1, &why));
        }
        let rv = text(new, "resourceVersion");
        if rv.is_empty() && write.whole && (ty.custom || ty.kind == "Lease") {
            let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(ApiError::invalid(ty, &key.1, why));
        }
        if !rv.is_empty() && rv != text(old, "resourceVersion") {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(ApiError::conflict(ty, &key.1, why));
        }
        Ok(())
    }

    /// DELETE. The object as it stands afterwards, and whether it is gone.
    pub fn delete(
        &mut self,
        ty: &ResourceType,
        key: &Key,
        options: &Value,
        now: Timestamp,
    ) -> Result<(Arc<Object>, bool), ApiError> {
        let old = self.get(ty, key)?;
        for (field, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let (found, want) = (text(&old, field), options["preconditions"][field].as_str());
            if want.is_some_and(|w| w != found) {
                let want = want.unwrap_or_default();
                let why =
                    format!("Precondition failed: {name} in precondition: {want}, {name} in object meta: {found}");
                return Err(ApiError::conflict(ty, &key.1, &why));
            }
        }
        let grace = if ty.kind == "Pod" { pod_grace(&old, options) } else { 0 };
        let mut next = (**old).clone();
        let leaving = next["metadata"].get("deletionTimestamp").is_some();
        if grace == 0 && is_empty(&old["metadata"]["finalizers"]) {
            if !leaving {
                next["metadata"]["deletionTimestamp"] = time(now);
                next["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            }
            return Ok((self.remove(ty, next, now), true));
        }
        if leaving && old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) <= grace {
            return Ok((old, false));
        }
        next["metadata"]["deletionTimestamp"] = time(now + jiff::SignedDuration::from_secs(grace));
        next["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        // As the real server does: watchers that look at generations only must see a deletion.
        if !leaving {
            bump(&mut next);
        }
        let owners = Arc::clone(&old.owners);
        Ok((self.put(ty, next, owners), false))
    }
}

/// Seconds until a Pod may be gone: nobody runs one that has no node or has ended.
fn pod_grace(pod: &Value, options: &Value) -> i64 {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() || ended {
        return 0;
    }
    let asked = options["gracePeriodSeconds"].as_i64();
    asked.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).max(0)
}
