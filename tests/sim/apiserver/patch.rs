//! JSON patch, merge patch, strategic merge patch.

use serde_json::{Value, json};

use super::{apply::item_id, error::ApiError, resource::ResourceType};

/// `old` with the patch in `body`, whose kind `content_type` says.
pub fn patched(ty: &ResourceType, old: &Value, content_type: &str, body: &[u8]) -> Result<Value, ApiError> {
    let bad = |e: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {e}"));
    let mut new = old.clone();
    match content_type {
        "application/json-patch+json" => {
            let mut patch: json_patch::Patch = serde_json::from_slice(body).map_err(bad)?;
            // Kubernetes' library takes a missing field for null here; kube's finalizers rely on it.
            patch.0.retain(|op| match op {
                json_patch::PatchOperation::Test(t) => !(t.value.is_null() && old.pointer(t.path.as_str()).is_none()),
                _ => true,
            });
            json_patch::patch(&mut new, &patch).map_err(|e| {
                let why = format!("the server rejected our request due to an error in our request: {e}");
                ApiError::new(422, "Invalid", why)
            })?;
        }
        "application/merge-patch+json" => {
            json_patch::merge(&mut new, &serde_json::from_slice(body).map_err(bad)?);
        }
        "application/strategic-merge-patch+json" if !ty.custom => {
            strategic(&mut new, &serde_json::from_slice(body).map_err(bad)?);
        }
        other => {
            let why = format!("the body of the request was in an unknown format: {other}");
            return Err(ApiError::new(415, "UnsupportedMediaType", why));
        }
    }
    Ok(new)
}

fn strategic(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if fields.get("$patch") == Some(&json!("replace")) {
        *target = json!({});
    }
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in fields {
        if let Some(of) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(list) = target.get_mut(of).and_then(Value::as_array_mut) {
                list.retain(|v| !gone.contains(v));
            }
        } else if name.starts_with('$') {
            // Orders and the like: no part of the simulation looks at the order of list items.
        } else if value.is_null() {
            target.remove(name);
        } else if let Some(items) = value.as_array() {
            merge_list(name, target.entry(name.clone()).or_insert_with(|| json!([])), items);
        } else {
            strategic(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn merge_list(field: &str, target: &mut Value, items: &[Value]) {
    let Some(list) = target.as_array_mut() else {
        *target = items.to_vec().into();
        return;
    };
    if items.iter().any(|i| i["$patch"] == "replace" && i.as_object().is_some_and(|o| o.len() == 1)) {
        *list = items.iter().filter(|i| i["$patch"] != "replace").cloned().collect();
        return;
    }
    if !items.iter().all(|i| item_id(field, i).is_some()) {
        *list = items.to_vec();
        return;
    }
    for item in items {
        let found = list.iter().position(|i| item_id(field, i) == item_id(field, item));
        match (found, item["$patch"] == "delete") {
            (Some(at), true) => _ = list.remove(at),
            (Some(at), false) => strategic(&mut list[at], item),
            (None, true) => {}
            (None, false) => {
                let mut new = json!({});
                strategic(&mut new, item);
                list.push(if item.is_object() { new } else { item.clone() });
            }
        }
    }
}
