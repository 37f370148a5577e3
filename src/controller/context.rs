//! What every reconcile needs.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio::sync::watch;

use super::{caches::Caches, trigger::Triggers};
use crate::{
    api::FIELD_MANAGER,
    model::{ObjectKey, Time},
    provider::{envoy::EnvoyProvider, tencent::TencentProvider},
    runtime::{clock::Clock, http::Health, telemetry::Metrics},
};

/// What every reconcile needs.
pub(crate) struct Context {
    pub client: Client,
    pub caches: Caches,
    pub provider: EnvoyProvider,
    pub tencent: TencentProvider,
    pub clock: Clock,
    pub leading: watch::Receiver<bool>,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub health: Health,
    pub triggers: Triggers,
    /// The controller's namespace.
    pub namespace: String,
    pub started: Time,
    pub proxy_timeout: Duration,
    /// The reconcile loop has ended.
    pub stopped: tokio::sync::Notify,
    failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// What [`Context::new`] is made of.
pub(crate) struct Parts {
    pub client: Client,
    pub caches: Caches,
    pub provider: EnvoyProvider,
    pub tencent: TencentProvider,
    pub clock: Clock,
    pub leading: watch::Receiver<bool>,
    pub metrics: Metrics,
    pub health: Health,
    pub triggers: Triggers,
    pub namespace: String,
    pub pod_name: String,
    pub proxy_timeout: Duration,
}

impl Context {
    pub(crate) fn new(parts: Parts) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: Some(parts.pod_name) };
        Self {
            recorder: Recorder::new(parts.client.clone(), reporter),
            started: parts.clock.now(),
            client: parts.client,
            caches: parts.caches,
            provider: parts.provider,
            tencent: parts.tencent,
            clock: parts.clock,
            leading: parts.leading,
            metrics: parts.metrics,
            health: parts.health,
            triggers: parts.triggers,
            namespace: parts.namespace,
            proxy_timeout: parts.proxy_timeout,
            stopped: tokio::sync::Notify::new(),
            failures: Mutex::default(),
        }
    }

    /// Whether this replica writes to Kubernetes.
    pub(crate) fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    /// Counts a failure; returns how many there were in a row.
    pub(crate) fn failed(&self, key: &ObjectKey) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let n = failures.entry(key.clone()).or_insert(0);
        *n += 1;
        *n
    }

    /// Forgets the failures.
    pub(crate) fn succeeded(&self, key: &ObjectKey) {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }
}
