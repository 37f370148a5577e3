//! One signed call, and what came back.

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    error,
    sign::{self, Credentials},
};
use crate::{
    model::Time,
    sync::{Action, CallError},
};

const SERVICE: &str = "clb";
const VERSION: &str = "2018-03-17";
const CONTENT_TYPE: &str = "application/json";

/// Sends a POST to `/`; the in-process emulator is one, HTTPS is another.
pub trait Transport: Send + Sync + 'static {
    /// Sends it; answers with the HTTP status and the body.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    fn post(
        &self,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> impl Future<Output = Result<(u16, Vec<u8>), String>> + Send;
}

/// A client of one account in one region.
pub struct Client<T> {
    transport: T,
    host: String,
    region: String,
    credentials: RwLock<Arc<Credentials>>,
    clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<R> {
    response: R,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Head {
    error: Option<Failure>,
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    code: String,
    message: String,
}

impl<T: Transport> Client<T> {
    /// A client that says it is talking to `host`.
    pub fn new(
        transport: T,
        host: impl Into<String>,
        region: impl Into<String>,
        credentials: Credentials,
        clock: Arc<dyn Fn() -> Time + Send + Sync>,
    ) -> Self {
        Self {
            transport,
            host: host.into(),
            region: region.into(),
            credentials: RwLock::new(Arc::new(credentials)),
            clock,
        }
    }

    /// From the next call on, these are used.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }

    /// Makes a call; gives the reply and its RequestId, which is also the task's id where the call starts one.
    ///
    /// # Errors
    /// What the cloud says, or that it says nothing that can be read.
    pub async fn call<R: DeserializeOwned>(
        &self,
        action: Action,
        request: &(impl Serialize + Sync),
    ) -> Result<(R, String), CallError> {
        let body = serde_json::to_vec(request).map_err(|e| error::no_reply(action, "Unwritable", e.to_string()))?;
        let credentials = self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone();
        let timestamp = i64::try_from((self.clock)().0 / 1000).unwrap_or(i64::MAX);
        let signed =
            sign::Request { service: SERVICE, host: &self.host, content_type: CONTENT_TYPE, body: &body, timestamp };
        let mut headers = vec![
            ("authorization", sign::authorization(&signed, &credentials)),
            ("content-type", CONTENT_TYPE.into()),
            ("host", self.host.clone()),
            ("x-tc-action", action.into()),
            ("x-tc-timestamp", timestamp.to_string()),
            ("x-tc-version", VERSION.into()),
            ("x-tc-region", self.region.clone()),
        ];
        headers.extend(credentials.token.clone().map(|t| ("x-tc-token", t)));
        let (status, reply) =
            self.transport.post(headers, body).await.map_err(|e| error::no_reply(action, "NoReply", e))?;
        read(action, status, &reply)
    }
}

fn read<R: DeserializeOwned>(action: Action, status: u16, reply: &[u8]) -> Result<(R, String), CallError> {
    // A gateway's error page is no JSON.
    let unreadable = |e: serde_json::Error| error::no_reply(action, &format!("Http{status}"), e.to_string());
    let head: Envelope<Head> = serde_json::from_slice(reply).map_err(unreadable)?;
    let Head { error, request_id } = head.response;
    if let Some(Failure { code, message }) = error {
        return Err(error::reply(action, &code, &message, Some(request_id)));
    }
    if status != 200 {
        return Err(error::no_reply(action, &format!("Http{status}"), "the gateway's error"));
    }
    let body: Envelope<R> =
        serde_json::from_slice(reply).map_err(|e| error::no_reply(action, "Unreadable", e.to_string()))?;
    Ok((body.response, request_id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sync::ErrorKind;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Reply {
        total: u32,
    }

    #[test]
    fn replies() {
        let of = |status, text: &str| read::<Reply>("X", status, text.as_bytes());
        let (reply, id) = of(200, r#"{"Response":{"Total":3,"RequestId":"r"}}"#).unwrap();
        assert_eq!((reply.total, id.as_str()), (3, "r"));
        let e =
            of(200, r#"{"Response":{"Error":{"Code":"LimitExceeded","Message":"m"},"RequestId":"r"}}"#).unwrap_err();
        assert_eq!((e.kind, e.request_id.as_deref()), (ErrorKind::Quota, Some("r")));
        for (status, text) in [(504, "<html>"), (200, "{}"), (200, r#"{"Response":{"RequestId":"r"}}"#), (200, "")] {
            assert_eq!(of(status, text).unwrap_err().kind, ErrorKind::Unavailable, "{text}");
        }
    }
}
