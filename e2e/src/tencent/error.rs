//! What the cloud refuses, with the codes that its SDK lists.

use serde_json::{Value, json};

/// An error of the API: a code to branch on and a sentence to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// Such as `InvalidParameter.LBIdNotFound`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// What an action gives.
pub(super) type Answer = Result<Value, ApiError>;

impl ApiError {
    /// An error with this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameter", message)
    }

    pub(super) fn value(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(super) fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    pub(super) fn missing(name: &str) -> Self {
        Self::new("MissingParameter", format!("the parameter `{name}` is missing"))
    }

    pub(super) fn no_load_balancer(id: &str) -> Self {
        Self::new("InvalidParameter.LBIdNotFound", format!("LoadBalancerId {id} not found"))
    }

    pub(super) fn no_listener(id: &str) -> Self {
        Self::new("InvalidParameter.ListenerIdNotFound", format!("ListenerId {id} not found"))
    }

    pub(super) fn no_location(what: &str) -> Self {
        Self::new("InvalidParameter.LocationNotFound", format!("location {what} not found"))
    }

    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceeded", message)
    }

    /// The envelope of an error.
    pub(super) fn response(&self, request: &str) -> Value {
        json!({"Response": {"Error": {"Code": self.code, "Message": self.message}, "RequestId": request}})
    }
}
