//! No Pod is stranded: gates whose object is gone are opened, whatever happened while nobody was looking.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{context::Context, publish};
use crate::{
    api::{GATE_PREFIX, GateReason, gate_type},
    model::{ObjectKey, Time},
    status::GateVerdict,
};

/// Also without a reason, as often as that.
const EVERY: Duration = Duration::from_secs(10);
/// A gate must have had no object for so long: caches of two kinds are never in step to the moment.
const GRACE: Duration = Duration::from_secs(2);

/// Runs for as long as the controller does.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut stranded_since: BTreeMap<(String, String), Time> = BTreeMap::new();
    loop {
        // After a change, soon again: its grace has to pass.
        let pause = if stranded_since.is_empty() { EVERY } else { GRACE / 2 };
        let _ = tokio::time::timeout(pause, ctx.triggers.sweep_needed()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        forget_lost_objects(&ctx);
        if !ctx.leads() {
            stranded_since.clear();
            continue;
        }
        sweep(&ctx, &mut stranded_since).await;
    }
}

/// An object that vanished without its finalizer being honoured is in force no longer.
fn forget_lost_objects(ctx: &Context) {
    let known: BTreeSet<ObjectKey> = ctx
        .caches
        .objects
        .state()
        .iter()
        .map(|o| ObjectKey::new(o.namespace().unwrap_or_default(), o.name_any()))
        .collect();
    for key in ctx.tencent.objects() {
        if !known.contains(&key) && ctx.tencent.forget(&key) {
            tracing::warn!(object = %key, "gone without its finalizer: what it had in the cloud is left there");
            ctx.metrics.forget(&key.namespace, &key.name);
        }
    }
    for key in ctx.provider.objects() {
        if !known.contains(&key) && ctx.provider.forget(&key) {
            tracing::info!(object = %key, "gone: its listeners are removed");
            ctx.metrics.forget(&key.namespace, &key.name);
            ctx.triggers.send(super::trigger::Change::Everything);
        }
    }
}

async fn sweep(ctx: &Context, stranded_since: &mut BTreeMap<(String, String), Time>) {
    let now = ctx.clock.now();
    let gates: BTreeSet<(String, String)> = ctx
        .caches
        .objects
        .state()
        .iter()
        .map(|o| (o.namespace().unwrap_or_default(), gate_type(&o.name_any())))
        .collect();
    let mut seen = BTreeSet::new();
    let pods: Vec<Arc<Pod>> = ctx.caches.pods.state_filter(|p: &Pod| {
        p.metadata.deletion_timestamp.is_none() && crate::gate::flip::gates(p).any(|g| g.starts_with(GATE_PREFIX))
    });
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        for gate in crate::gate::flip::gates(&pod).filter(|g| g.starts_with(GATE_PREFIX)) {
            if gates.contains(&(namespace.clone(), gate.to_owned())) || crate::gate::flip::is_open(&pod, gate) {
                continue;
            }
            let id = (pod.uid().unwrap_or_default(), gate.to_owned());
            let since = *stranded_since.entry(id.clone()).or_insert(now);
            seen.insert(id);
            if now.since(since) < GRACE {
                continue;
            }
            let verdict =
                GateVerdict::open(GateReason::LoadBalancerDeleted, "the DirectLoadBalancer of this gate is gone");
            if let Err(error) = publish::flip(ctx, &pod, gate, &verdict, now).await {
                tracing::warn!(pod = %pod.name_any(), %gate, %error, "a stranded gate could not be opened yet");
            }
        }
    }
    stranded_since.retain(|id, _| seen.contains(id));
}
