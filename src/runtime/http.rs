//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};

use super::{clock::Clock, telemetry::Metrics};

/// Whether the process works, as its probes see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    ready: Arc<AtomicBool>,
    beat: Arc<AtomicU64>,
    clock: Clock,
}

/// The control loop has hung if it gave no sign for so long: every reconcile has a shorter limit.
const HUNG_MS: u64 = 120_000;

impl Health {
    /// Alive, and not ready.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { ready: Arc::default(), beat: Arc::new(AtomicU64::new(clock.now().0)), clock }
    }
    /// Caches are in sync and every object was planned once: the replica may serve proxies and admission.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
    /// The control loop gives a sign of life.
    pub fn beat(&self) {
        self.beat.store(self.clock.now().0, Ordering::Relaxed);
    }
    fn alive(&self) -> bool {
        self.clock.now().0.saturating_sub(self.beat.load(Ordering::Relaxed)) < HUNG_MS
    }
    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && self.alive()
    }
}

/// The routes.
pub fn router(health: Health, metrics: Metrics) -> Router {
    let probe = |ok: bool| if ok { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok\n") };
    Router::new()
        .route("/healthz", get(move |State((h, _)): State<(Health, Metrics)>| async move { probe(h.alive()) }))
        .route("/readyz", get(move |State((h, _)): State<(Health, Metrics)>| async move { probe(h.ready()) }))
        .route(
            "/metrics",
            get(|State((_, m)): State<(Health, Metrics)>| async move {
                let kind = [(axum::http::header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
                match m.encode() {
                    Ok(text) => (StatusCode::OK, kind, text),
                    Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, kind, e.to_string()),
                }
            }),
        )
        .with_state((health, metrics))
}
