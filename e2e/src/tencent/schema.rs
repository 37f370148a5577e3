//! What an action takes: names, types, ranges and sizes.

use serde_json::{Map, Value};

use super::error::ApiError;

/// The parameters of a call.
pub(super) type Params = Map<String, Value>;

/// The type of a parameter.
pub(super) enum Kind {
    /// From so many characters to so many.
    Text(usize, usize),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// From, up to and including.
    Int(i64, i64),
    Bool,
    /// A list of from so many elements to so many.
    List(&'static Kind, usize, usize),
    Object(&'static [Field]),
    /// What the emulator takes no notice of.
    Any,
}

/// A parameter.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// One that may be left out.
pub(super) const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// One that may not.
pub(super) const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

/// Checks what is known of parameters without knowing the state.
pub(super) fn check(fields: &[Field], params: &Params, within: &str) -> Result<(), ApiError> {
    let path = |name: &str| if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") };
    if let Some(name) = params.keys().find(|name| !fields.iter().any(|f| f.name == *name)) {
        return Err(ApiError::new("UnknownParameter", format!("the parameter `{}` is not recognized", path(name))));
    }
    for field in fields {
        match params.get(field.name) {
            Some(value) => value_is(&field.kind, value, &path(field.name))?,
            None if field.required => return Err(ApiError::missing(&path(field.name))),
            None => {}
        }
    }
    Ok(())
}

fn value_is(kind: &Kind, value: &Value, path: &str) -> Result<(), ApiError> {
    let wrong = |what: &str| ApiError::invalid(format!("the parameter `{path}` is no {what}"));
    let length = |what: &str, n: usize, from: usize, to: usize| {
        if (from..=to).contains(&n) {
            return Ok(());
        }
        let message = format!("the parameter `{path}` has {n} {what}, and may have from {from} to {to}");
        Err(ApiError::new("InvalidParameterValue.Length", message))
    };
    match kind {
        Kind::Text(from, to) => {
            let text = value.as_str().ok_or_else(|| wrong("string"))?;
            length("characters", text.chars().count(), *from, *to)
        }
        Kind::OneOf(all) => {
            let text = value.as_str().ok_or_else(|| wrong("string"))?;
            if all.contains(&text) {
                return Ok(());
            }
            Err(ApiError::value(format!("the parameter `{path}` is {text:?}, and may be one of {}", all.join(", "))))
        }
        Kind::Int(from, to) => {
            let n = value.as_i64().ok_or_else(|| wrong("integer"))?;
            if (*from..=*to).contains(&n) {
                return Ok(());
            }
            let message = format!("the parameter `{path}` is {n}, and may be from {from} to {to}");
            Err(ApiError::new("InvalidParameterValue.Range", message))
        }
        Kind::Bool => value.as_bool().map(drop).ok_or_else(|| wrong("boolean")),
        Kind::List(kind, from, to) => {
            let list = value.as_array().ok_or_else(|| wrong("list"))?;
            length("elements", list.len(), *from, *to)?;
            list.iter().enumerate().try_for_each(|(i, v)| value_is(kind, v, &format!("{path}.{i}")))
        }
        Kind::Object(fields) => check(fields, value.as_object().ok_or_else(|| wrong("object"))?, path),
        Kind::Any => Ok(()),
    }
}

/// Reading parameters that were checked.
pub(super) trait Read {
    /// A string; empty if it is not there.
    fn text(&self, name: &str) -> &str;
    /// Whether it is there.
    fn has(&self, name: &str) -> bool;
    fn int(&self, name: &str) -> Option<i64>;
    fn flag(&self, name: &str) -> Option<bool>;
    fn object(&self, name: &str) -> Option<&Params>;
    /// The elements of a list; none if it is not there.
    fn list(&self, name: &str) -> &[Value];
    fn objects(&self, name: &str) -> impl Iterator<Item = &Params>;
    fn texts(&self, name: &str) -> Vec<&str>;
}

impl Read for Params {
    fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    fn object(&self, name: &str) -> Option<&Params> {
        self.get(name)?.as_object()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn objects(&self, name: &str) -> impl Iterator<Item = &Params> {
        self.list(name).iter().filter_map(Value::as_object)
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.list(name).iter().filter_map(Value::as_str).collect()
    }
}
