//! Label and field selectors.

use serde_json::Value;

use super::{error::ApiError, resource::ResourceType};

#[derive(Clone, Debug)]
enum Op {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// What a list, a watch or a bulk delete selects.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Only this namespace.
    pub namespace: Option<String>,
    labels: Vec<(String, Op)>,
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Parses the query's `labelSelector` and `fieldSelector`.
    pub fn parse(
        ty: &ResourceType,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut this = Self { namespace: namespace.map(Into::into), ..Self::default() };
        for term in split(labels.unwrap_or_default()) {
            this.labels.push(label_term(term)?);
        }
        for term in fields.unwrap_or_default().split(',').filter(|t| !t.is_empty()) {
            let (path, value, equal) = if let Some((p, v)) = term.split_once("!=") {
                (p, v, false)
            } else if let Some((p, v)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (p, v, true)
            } else {
                return Err(ApiError::bad_request(format!("invalid field selector: {term:?}")));
            };
            // The real server indexes only some fields, and refuses the rest.
            if !selectable(ty, path) {
                return Err(ApiError::bad_request(format!("field label not supported: {path}")));
            }
            this.fields.push((path.into(), value.into(), equal));
        }
        Ok(this)
    }

    /// Whether `object` is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        if self.namespace.as_deref().is_some_and(|ns| meta["namespace"] != ns) {
            return false;
        }
        let labels = &meta["labels"];
        self.labels.iter().all(|(key, op)| {
            let value = labels.get(key).and_then(Value::as_str);
            match op {
                Op::In(set) => value.is_some_and(|v| set.iter().any(|s| s == v)),
                // An absent label is "not in" every set.
                Op::NotIn(set) => value.is_none_or(|v| set.iter().all(|s| s != v)),
                Op::Exists => value.is_some(),
                Op::Absent => value.is_none(),
            }
        }) && self.fields.iter().all(|(path, want, equal)| {
            let found = path.split('.').fold(object, |v, part| &v[part]);
            (found.as_str().unwrap_or_default() == want) == *equal
        })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out.into_iter().map(str::trim).filter(|t| !t.is_empty()).collect()
}

fn label_term(term: &str) -> Result<(String, Op), ApiError> {
    let set = |values: &str| -> Option<Vec<String>> {
        let inner = values.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|v| v.trim().to_owned()).collect())
    };
    let bad = || ApiError::bad_request(format!("unable to parse requirement: {term:?}"));
    let (key, op) = if let Some((k, values)) = term.split_once(" notin ") {
        (k, Op::NotIn(set(values).ok_or_else(bad)?))
    } else if let Some((k, values)) = term.split_once(" in ") {
        (k, Op::In(set(values).ok_or_else(bad)?))
    } else if let Some((k, v)) = term.split_once("!=") {
        (k, Op::NotIn(vec![v.trim().into()]))
    } else if let Some((k, v)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (k, Op::In(vec![v.trim().into()]))
    } else if let Some(k) = term.strip_prefix('!') {
        (k, Op::Absent)
    } else {
        (term, Op::Exists)
    };
    let key = key.trim();
    if key.is_empty() || key.contains([' ', '(', ')', '!']) {
        return Err(bad());
    }
    Ok((key.into(), op))
}

fn selectable(ty: &ResourceType, path: &str) -> bool {
    const POD: [&str; 5] =
        ["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "status.phase", "status.podIP"];
    match path {
        "metadata.name" => true,
        "metadata.namespace" => ty.namespaced,
        "type" => ty.kind == "Secret",
        "status.phase" if ty.kind == "Namespace" => true,
        "spec.unschedulable" => ty.kind == "Node",
        "spec.clusterIP" | "spec.type" => ty.kind == "Service",
        _ => ty.kind == "Pod" && POD.contains(&path),
    }
}
