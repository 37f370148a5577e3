//! Errors as the API server words them.

use std::time::Duration;

use serde_json::{Value, json};

use super::resource::ResourceType;

/// An answer other than success; becomes a `Status` object.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `details` of the Status object.
    pub details: Value,
    /// When to try again (429 and 503).
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with these three.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null, retry_after: None }
    }

    fn on(mut self, ty: &ResourceType, name: &str) -> Self {
        self.details = json!({"name": name, "group": ty.group, "kind": ty.plural});
        self
    }

    /// 404 for an object.
    pub fn not_found(ty: &ResourceType, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", ty.qualified())).on(ty, name)
    }

    /// 404 for a path that is not served.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409 because the name is taken.
    pub fn already_exists(ty: &ResourceType, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", ty.qualified())).on(ty, name)
    }

    /// 409 because the object is not the one, or not the version, that the client meant.
    pub fn conflict(ty: &ResourceType, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {} {name:?}: {why}", ty.qualified()))
            .on(ty, name)
    }

    /// 422 because the object, as it would become, is invalid.
    pub fn invalid(ty: &ResourceType, name: &str, why: &str) -> Self {
        Self::new(422, "Invalid", format!("{} {name:?} is invalid: {why}", ty.kind)).on(ty, name)
    }

    /// 400.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// 410: the version asked for has been compacted away.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        if let Some(after) = self.retry_after {
            status["details"]["retryAfterSeconds"] = after.as_secs().into();
        }
        status
    }
}
