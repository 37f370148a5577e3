//! The emulator as a server: the API at `POST /`, and what a test turns below `/-/`.
//!
//! | | |
//! |---|---|
//! | `GET /-/ledger`, `DELETE /-/ledger` | what was called; forgets it |
//! | `GET /-/dump` | everything that there is |
//! | `PUT /-/faults` | `Faults` |
//! | `PUT /-/health` | `{"IP", "Port", "Healthy"}` |
//! | `PUT /-/refused` | `{"IP", "Refused"}` |
//! | `PUT /-/quota` | `{"QuotaId", "QuotaLimit"}` |
//! | `POST /-/plain` | `{"Action", "Params"}` |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Emulator, Faults};

/// How long a client has for the handshake of TLS, and for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(30);

impl Emulator {
    /// Serves HTTP/1.1, over TLS if a configuration is given. Ends never; when it is dropped, so are the connections.
    pub async fn serve(self, listener: TcpListener, tls: Option<ServerConfig>) {
        let router = router(self);
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // No more files, most likely.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            while connections.try_join_next().is_some() {}
            let (router, tls) = (router.clone(), tls.clone());
            connections.spawn(async move {
                match tls {
                    None => connection(stream, router).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                            connection(stream, router).await;
                        }
                    }
                }
            });
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that goes away in the midst of a request is no error of the emulator's.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn router(emulator: Emulator) -> Router {
    Router::new()
        .route("/", post(api))
        .route("/-/ledger", get(ledger).delete(clear_ledger))
        .route("/-/dump", get(dump))
        .route("/-/faults", put(faults))
        .route("/-/health", put(health))
        .route("/-/refused", put(refused))
        .route("/-/quota", put(quota))
        .route("/-/plain", post(plain))
        .with_state(emulator)
}

async fn api(State(emulator): State<Emulator>, headers: HeaderMap, body: Bytes) -> Response {
    let (status, body) = emulator.handle(&headers, &body).await;
    let kind = if status == 200 { "application/json" } else { "text/html" };
    (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), [(CONTENT_TYPE, kind)], body).into_response()
}

fn shown(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Does what the body says, or tells what is wrong with it.
fn told<T: for<'a> Deserialize<'a>>(body: &Bytes, act: impl FnOnce(T)) -> Response {
    match serde_json::from_slice(body) {
        Ok(told) => {
            act(told);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn ledger(State(emulator): State<Emulator>) -> Response {
    shown(&json!(emulator.ledger()))
}

async fn clear_ledger(State(emulator): State<Emulator>) -> StatusCode {
    emulator.clear_ledger();
    StatusCode::NO_CONTENT
}

async fn dump(State(emulator): State<Emulator>) -> Response {
    shown(&emulator.dump())
}

async fn faults(State(emulator): State<Emulator>, body: Bytes) -> Response {
    told(&body, |faults: Faults| emulator.set_faults(faults))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Health {
    #[serde(rename = "IP")]
    ip: String,
    port: u16,
    healthy: bool,
}

async fn health(State(emulator): State<Emulator>, body: Bytes) -> Response {
    told(&body, |h: Health| emulator.set_health(&h.ip, h.port, h.healthy))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Refused {
    #[serde(rename = "IP")]
    ip: String,
    refused: bool,
}

async fn refused(State(emulator): State<Emulator>, body: Bytes) -> Response {
    told(&body, |r: Refused| emulator.set_refused_address(&r.ip, r.refused))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Quota {
    quota_id: String,
    quota_limit: i64,
}

async fn quota(State(emulator): State<Emulator>, body: Bytes) -> Response {
    told(&body, |q: Quota| emulator.set_quota(&q.quota_id, q.quota_limit))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Plain {
    action: String,
    params: Value,
}

async fn plain(State(emulator): State<Emulator>, body: Bytes) -> Response {
    match serde_json::from_slice::<Plain>(&body) {
        Ok(asked) => match emulator.plain(&asked.action, asked.params) {
            Ok(reply) => shown(&reply),
            Err(error) => (StatusCode::CONFLICT, error.to_string()).into_response(),
        },
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
