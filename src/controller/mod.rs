//! The controller: caches, triggers, the reconcile loop, and what the leader writes.
//!
//! Every replica keeps the caches, plans every object and serves the proxies. The leader also writes: gates,
//! finalizers, status, events. The `reconcile` module has the stages.

mod caches;
mod classes;
mod cloud;
mod context;
mod error;
mod preview;
mod proxies;
mod publish;
mod reconcile;
mod revisions;
mod sweep;
mod trigger;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, ResourceExt as _,
    runtime::{
        Controller,
        controller::{Config, Error as ControllerError},
        reflector::ObjectRef,
    },
};
use tokio::sync::{mpsc, watch};

pub use caches::{Caches, Guarded, REVISION_LABEL};
pub use classes::CLASS_FINALIZER;
pub use error::{Error, ErrorKind};
pub use preview::{Preview, ask_clouds, preview, target_pods};
pub use proxies::FLEET_LABEL;
pub use trigger::{Change, Triggers};

use crate::{
    model::ObjectKey,
    provider::{
        envoy::EnvoyProvider,
        tencent::{Connect, Outside, TencentProvider},
    },
    runtime::{clock::Clock, http::Health, telemetry::Metrics},
};
use context::{Context, Parts};

/// What [`run`] needs from outside.
pub struct Setup {
    /// A client with the controller's rights.
    pub client: Client,
    /// The caches and their watches, from [`Caches::new`].
    pub caches: Caches,
    /// The watches that fill the caches.
    pub feeds: Vec<futures::future::BoxFuture<'static, ()>>,
    /// Where the caches send changes.
    pub triggers: Triggers,
    /// Where they arrive.
    pub changes: mpsc::UnboundedReceiver<Change>,
    /// The Envoy provider.
    pub provider: EnvoyProvider,
    /// Connects to the API of a cloud.
    pub connect: Arc<Connect>,
    /// The clock.
    pub clock: Clock,
    /// Whether this replica leads.
    pub leading: watch::Receiver<bool>,
    /// Metrics.
    pub metrics: Metrics,
    /// What the probes see.
    pub health: Health,
    /// The controller's namespace.
    pub namespace: String,
    /// The controller's Pod.
    pub pod_name: String,
    /// How long a proxy that does not report is waited for.
    pub proxy_timeout: Duration,
}

/// Runs the controller until `shutdown`.
pub async fn run(setup: Setup, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let Setup { caches, feeds, triggers, changes, provider, .. } = setup;
    let mut feeds: FuturesUnordered<_> = feeds.into_iter().collect();
    let telling = triggers.clone();
    let tencent = TencentProvider::new(Outside {
        connect: setup.connect,
        clock: setup.clock.clone(),
        observer: Arc::new(setup.metrics.clone()),
        tell: Arc::new(move |key| telling.send_quietly(Change::Object(key.clone()))),
    });
    let ctx = Arc::new(Context::new(Parts {
        client: setup.client,
        caches: caches.clone(),
        provider: provider.clone(),
        tencent,
        clock: setup.clock,
        leading: setup.leading,
        metrics: setup.metrics,
        health: setup.health,
        triggers: triggers.clone(),
        namespace: setup.namespace,
        pod_name: setup.pod_name,
        proxy_timeout: setup.proxy_timeout,
    }));
    let work = async {
        if caches.ready().await.is_err() {
            return;
        }
        let objects: BTreeSet<ObjectKey> = caches
            .objects
            .state()
            .iter()
            .map(|o| ObjectKey::new(o.namespace().unwrap_or_default(), o.name_any()))
            .collect();
        tracing::info!(objects = objects.len(), "caches are in sync");
        provider.start(objects);
        triggers.send(Change::Everything);
        tokio::join!(
            control(ctx.clone(), changes, shutdown),
            until_stopped(&ctx, beat(ctx.clone())),
            until_stopped(&ctx, reports(ctx.clone())),
            until_stopped(&ctx, leadership(ctx.clone())),
            until_stopped(&ctx, silence(ctx.clone())),
            until_stopped(&ctx, sweep::run(ctx.clone())),
            until_stopped(&ctx, classes::run(ctx.clone())),
        );
    };
    let pump = async { while feeds.next().await.is_some() {} };
    tokio::select! {
        () = work => tracing::info!("the controller has stopped"),
        () = pump => tracing::error!("every watch has ended"),
    }
}

async fn until_stopped(ctx: &Context, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        () = ctx.stopped.notified() => {}
    }
}

/// The reconcile loop.
async fn control(
    ctx: Arc<Context>,
    changes: mpsc::UnboundedReceiver<Change>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let to_do = futures::stream::unfold((changes, ctx.clone()), |(mut changes, ctx)| async move {
        let first = changes.recv().await?;
        let mut keys = BTreeSet::new();
        let mut next = Some(first);
        // Whatever else is waiting: a burst of Pods is one reconcile for each object.
        while let Some(change) = next {
            concerned(&ctx, change, &mut keys);
            next = changes.try_recv().ok();
        }
        Some((futures::stream::iter(keys), (changes, ctx)))
    })
    .flatten()
    .map(|key: ObjectKey| ObjectRef::<Guarded>::new(&key.name).within(&key.namespace));
    let stopped = ctx.clone();
    // The object stream itself triggers nothing: the caches tell of every change through the triggers.
    Controller::for_stream(futures::stream::pending(), ctx.caches.objects.clone())
        .with_config(Config::default().concurrency(16))
        .reconcile_on(to_do)
        .graceful_shutdown_on(shutdown)
        .run(reconcile::reconcile, reconcile::error_policy, ctx.clone())
        .for_each(|result| {
            let ctx = ctx.clone();
            async move {
                match result {
                    // Logged by the error policy.
                    Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                    Err(ControllerError::ObjectNotFound(object)) => {
                        ctx.provider.planned(&ObjectKey::new(object.namespace.unwrap_or_default(), object.name));
                        ctx.triggers.sweep();
                    }
                    Err(error) => tracing::warn!(%error, "controller"),
                }
                if ctx.provider.started() {
                    ctx.health.set_ready();
                }
            }
        })
        .await;
    stopped.stopped.notify_waiters();
}

/// The objects that a change concerns.
fn concerned(ctx: &Context, change: Change, keys: &mut BTreeSet<ObjectKey>) {
    let mut add = |filter: &dyn Fn(&Guarded) -> bool| {
        for o in ctx.caches.objects.state_filter(filter) {
            keys.insert(ObjectKey::new(o.namespace().unwrap_or_default(), o.name_any()));
        }
    };
    match change {
        Change::Object(key) => {
            keys.insert(key);
        }
        Change::Pod(namespace, _, labels) => {
            if namespace == ctx.namespace && labels.contains_key(FLEET_LABEL) {
                add(&|_| true);
            } else {
                add(&|o| o.namespace().as_deref() == Some(namespace.as_str()));
            }
        }
        Change::Namespace(namespace) => add(&|o| o.namespace().as_deref() == Some(namespace.as_str())),
        // An address or a port may have become free.
        Change::Deleted(_) | Change::Everything => add(&|_| true),
        Change::Nothing => {}
    }
}

/// The probes see that the loop lives even if nothing changes.
async fn beat(ctx: Arc<Context>) {
    loop {
        ctx.health.beat();
        if ctx.provider.started() {
            ctx.health.set_ready();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A proxy that falls silent tells nobody: time alone makes it one that is waited for, and then one that is left out.
async fn silence(ctx: Arc<Context>) {
    let mut before = BTreeMap::new();
    let mut leaving: BTreeSet<String> = BTreeSet::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pods = ctx.caches.pods.state_filter(|p: &Pod| {
            p.metadata.namespace.as_deref() == Some(&ctx.namespace) && p.labels().contains_key(FLEET_LABEL)
        });
        let reports = ctx.provider.reports();
        let here: BTreeSet<String> = pods.iter().map(|p| p.name_any()).collect();
        // What a proxy said that has left in good order counts no more; one that just vanished may still be there.
        reports.forget(leaving.difference(&here));
        leaving = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_some()).map(|p| p.name_any()).collect();
        let now = ctx.clock.now();
        reports.forget_silent(now);
        let reporting = reports.proxies();
        let fleets: BTreeSet<&String> = pods
            .iter()
            .filter_map(|p| p.labels().get(FLEET_LABEL))
            .chain(reporting.values().map(|r| &r.fleet))
            .collect();
        let states: BTreeMap<_, _> = fleets
            .into_iter()
            .flat_map(|f| proxies::proxies(&pods, f, &reporting, ctx.started, ctx.proxy_timeout, now))
            .collect();
        if states != before {
            ctx.triggers.send(Change::Everything);
            before = states;
        }
    }
}

/// A proxy's report that changes something is as good as a watch event.
async fn reports(ctx: Arc<Context>) {
    let mut changes = ctx.provider.reports().changes();
    loop {
        match changes.recv().await {
            Ok(key) => ctx.triggers.send_quietly(Change::Object(key)),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => ctx.triggers.send_quietly(Change::Everything),
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// A new leader writes what the old one did not get to.
async fn leadership(ctx: Arc<Context>) {
    let mut leading = ctx.leading.clone();
    loop {
        let now = *leading.borrow_and_update();
        ctx.metrics.leading(now);
        if now {
            tracing::info!("this replica leads");
            ctx.triggers.send(Change::Everything);
        } else {
            // Two controllers must not drive the same load balancer: the other one may begin any moment.
            ctx.tencent.objects().iter().for_each(|key| _ = ctx.tencent.forget(key));
        }
        if leading.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
