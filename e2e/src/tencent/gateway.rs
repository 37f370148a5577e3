//! What stands before every action: its name and version, the signature, permission, limits, faults and the envelope.

use http::HeaderMap;
use serde_json::{Value, json};

use super::Emulator;
use super::actions::{ACTIONS, Action};
use super::engine::{Engine, unknown_action};
use super::error::{Answer, ApiError};
use super::ledger::Call;
use super::probe::probe;
use super::schema::{self, Params};
use super::settings::HealthSource;
use super::{signature, targets_describe};

/// What is not an answer of the API.
const BAD_GATEWAY: (u16, &[u8]) = (503, b"<html><body>503 Service Temporarily Unavailable</body></html>");
const TIMED_OUT: (u16, &[u8]) = (504, b"<html><body>504 Gateway Time-out</body></html>");

/// The action with this name.
pub(super) fn named(action: &str) -> Result<&'static Action, ApiError> {
    ACTIONS.iter().find(|a| a.name == action).ok_or_else(|| unknown_action(action))
}

/// What a request turns out to be.
enum Asked {
    Call(&'static Action, Params),
    /// It is answered by the gateway.
    Lost(&'static Action, Params),
}

impl Emulator {
    pub(super) async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> (u16, Vec<u8>) {
        let latency = self.lock().settings.latency;
        tokio::time::sleep(latency / 2).await;
        self.look(headers, body).await;
        let (status, bytes) = self.take_effect(headers, body);
        tokio::time::sleep(latency - latency / 2).await;
        (status, bytes)
    }

    /// Finds out the health that the call is going to show, if that is to be found out.
    async fn look(&self, headers: &HeaderMap, body: &[u8]) {
        let action = headers.get("x-tc-action").and_then(|v| v.to_str().ok());
        let addresses = {
            let mut engine = self.lock();
            if engine.settings.health != HealthSource::Connect || action != Some("DescribeTargetHealth") {
                return;
            }
            engine.settle();
            let params: Params = serde_json::from_slice(body).unwrap_or_default();
            targets_describe::shown_addresses(&engine.world, &params)
        };
        let results = probe(addresses).await;
        self.lock().table.extend(results);
    }

    fn take_effect(&self, headers: &HeaderMap, body: &[u8]) -> (u16, Vec<u8>) {
        let mut guard = self.lock();
        let engine = &mut *guard;
        engine.settle();
        let request = engine.request();
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let asked = admit(engine, headers, body);
        let (action, params, lost) = match asked {
            Ok(Asked::Call(action, params)) => (action, params, false),
            Ok(Asked::Lost(action, params)) => (action, params, true),
            Err(error) => {
                if let Ok(action) = named(header("x-tc-action").unwrap_or_default()) {
                    let params: Params = serde_json::from_slice(body).unwrap_or_default();
                    let at = engine.clock.now();
                    engine.ledger.push(Call::new(at, action.name, &params, error.code));
                }
                return (200, written(&error.response(&request)));
            }
        };
        let answer =
            if lost { Err(ApiError::new("InternalError", "503")) } else { engine.call(action, &params, &request) };
        let reply_lost = answer.is_ok()
            && action.mode == super::actions::Mode::Write
            && engine.dice(engine.settings.faults.reply_lost_after_commit);
        let outcome = outcome(&answer, reply_lost);
        let at = engine.clock.now();
        engine.ledger.push(Call::new(at, action.name, &params, outcome));
        if lost {
            return (BAD_GATEWAY.0, BAD_GATEWAY.1.to_vec());
        }
        if reply_lost {
            return (TIMED_OUT.0, TIMED_OUT.1.to_vec());
        }
        match answer {
            Ok(reply) => (200, written(&envelope(reply, &request))),
            Err(error) => (200, written(&error.response(&request))),
        }
    }
}

/// Checks everything that comes before the action itself.
fn admit(engine: &mut Engine, headers: &HeaderMap, body: &[u8]) -> Result<Asked, ApiError> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let needed = |name: &str| header(&name.to_lowercase()).ok_or_else(|| ApiError::missing(name));
    let action = needed("X-TC-Action")?;
    let version = needed("X-TC-Version")?;
    if version != "2018-03-17" {
        return Err(ApiError::new("NoSuchVersion", format!("the version {version:?} does not exist")));
    }
    let action = named(action)?;
    if header("content-type").is_none_or(|t| t.split(';').next() != Some("application/json")) {
        return Err(ApiError::new("UnsupportedProtocol", "the content type is not application/json"));
    }
    let now = engine.clock.unix(engine.clock.now());
    let id = signature::verify(headers, body, &engine.settings.keys, now)?;
    let region = needed("X-TC-Region")?;
    if region != engine.settings.region {
        return Err(ApiError::new("UnsupportedRegion", format!("{region} is not {}", engine.settings.region)));
    }
    if engine.settings.denied.contains(&id) {
        let message = format!("you are not authorized to perform clb:{}", action.name);
        return Err(ApiError::new("UnauthorizedOperation", message));
    }
    let now = engine.clock.now();
    engine.rates.take(action.name, engine.settings.rate, now)?;
    if engine.dice(engine.settings.faults.throttle) {
        return Err(ApiError::new("RequestLimitExceeded", "by chance"));
    }
    let params: Value =
        serde_json::from_slice(body).map_err(|_| ApiError::invalid("the body is not an object of JSON"))?;
    let Value::Object(params) = params else {
        return Err(ApiError::invalid("the body is not an object of JSON"));
    };
    if engine.dice(engine.settings.faults.internal_error) {
        if engine.chance.unit() < 0.5 {
            return Ok(Asked::Lost(action, params));
        }
        return Err(ApiError::new("InternalError", "an internal error has occurred"));
    }
    schema::check(action.fields, &params, "")?;
    Ok(Asked::Call(action, params))
}

fn outcome(answer: &Answer, reply_lost: bool) -> &'static str {
    match answer {
        Err(error) => error.code,
        Ok(_) if reply_lost => "ReplyLost",
        Ok(reply) if reply["FailListenerIdSet"].as_array().is_some_and(|f| !f.is_empty()) => "PartialFailure",
        Ok(_) => "OK",
    }
}

fn envelope(mut reply: Value, request: &str) -> Value {
    reply["RequestId"] = json!(request);
    json!({ "Response": reply })
}

fn written(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
