//! What the leader writes: gates, finalizer, accepted spec, status, events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;

use super::{context::Context, error::Error, reconcile::Stage, revisions};
use crate::{
    api::{DirectLoadBalancer, FIELD_MANAGER, FINALIZER, Mode, Reason, gate_type},
    gate::flip::{self, FlipOutcome, PodRef},
    model::{ObjectKey, Time},
    status::{self, GateVerdict, Transition},
};

/// How many gates of one object are written at a time.
const GATES_IN_FLIGHT: usize = 64;

/// Writes everything that follows from a reconcile.
pub(crate) async fn object(
    ctx: &Context,
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    stage: &Stage,
    now: Time,
) -> Result<(), Error> {
    if object.metadata.deletion_timestamp.is_some() {
        gates(ctx, key, object, stage, now).await?;
        if let Some(cloud) = &stage.cloud {
            incidents(ctx, key, object).await;
            if !cloud.clean {
                // What is in the cloud goes first: the finalizer is all that is left to know of it.
                return write_status(ctx, key, object, stage, now).await;
            }
            ctx.tencent.forget(key);
        }
        return finalize(ctx, key, object, false).await;
    }
    finalize(ctx, key, object, true).await?;
    if let (Mode::Enforce, Some(spec)) = (object.spec.mode, &stage.resolved.accepted) {
        revisions::keep(ctx, key, object, spec).await?;
    }
    if stage.cloud.is_some() {
        incidents(ctx, key, object).await;
    }
    // Pods wait for their gates; the status can wait.
    let gates = gates(ctx, key, object, stage, now).await;
    let status = write_status(ctx, key, object, stage, now).await;
    gates.and(status)
}

fn api(ctx: &Context, key: &ObjectKey) -> Api<DirectLoadBalancer> {
    Api::namespaced(ctx.client.clone(), &key.namespace)
}

/// Puts the finalizer on, or takes it off.
async fn finalize(ctx: &Context, key: &ObjectKey, object: &DirectLoadBalancer, want: bool) -> Result<(), Error> {
    let mut finalizers: Vec<String> = object.finalizers().to_vec();
    let has = finalizers.iter().any(|f| f == FINALIZER);
    if has == want {
        return Ok(());
    }
    if want {
        finalizers.push(FINALIZER.into());
    } else {
        finalizers.retain(|f| f != FINALIZER);
    }
    // The version guards against undoing what somebody else did to the list in the meantime.
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(), "uid": object.uid(), "finalizers": finalizers,
    }});
    match api(ctx, key).patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if !want && status.is_not_found() => Ok(()),
        Err(e) => Err(Error::kube("write the finalizer")(e)),
    }
}

/// Writes the gate conditions that should change, in parallel.
async fn gates(
    ctx: &Context,
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    stage: &Stage,
    now: Time,
) -> Result<(), Error> {
    let gate = gate_type(&key.name);
    let context = stage.gates(object, now);
    let pods = ctx.caches.pods.state_filter(|p: &Pod| {
        p.metadata.namespace.as_deref() == Some(&key.namespace)
            && flip::has_gate(p, &gate)
            && p.metadata.deletion_timestamp.is_none()
    });
    let none = BTreeSet::new();
    let flips: Vec<(Arc<Pod>, GateVerdict, Option<Time>)> = pods
        .iter()
        .filter_map(|pod| {
            let uid = pod.metadata.uid.as_deref()?;
            let groups: BTreeSet<_> =
                stage.resolved.gate_pods.get(uid).map(|p| p.groups.keys().cloned().collect()).unwrap_or_default();
            let problems = !stage.resolved.desired.problems.is_empty();
            // With a spec that cannot be read in full, "no listener targets the Pod" may just not be true.
            if groups.is_empty() && problems && !context.not_accepted && !context.desired.deleting && !context.disabled
            {
                return None;
            }
            let groups = if groups.is_empty() { &none } else { &groups };
            let verdict = status::gate(&context, uid, groups, flip::is_open(pod, &gate))?;
            let since = if verdict.open { stage.healthy_since(uid) } else { None };
            Some((pod.clone(), verdict, since))
        })
        .collect();
    let results: Vec<Result<(), Error>> = stream::iter(flips)
        .map(|(pod, verdict, since)| {
            let gate = gate.clone();
            async move {
                let opens = !flip::is_open(&pod, &gate);
                let written = flip(ctx, &pod, &gate, &verdict, now).await?;
                if let (true, true, Some(since)) = (opens, written, since) {
                    ctx.metrics.gate_opened_after(ctx.clock.now().since(since).as_secs_f64());
                }
                Ok(())
            }
        })
        .buffer_unordered(GATES_IN_FLIGHT)
        .collect()
        .await;
    results.into_iter().collect()
}

/// Writes one gate condition, if it is not so already; whether it did.
pub(crate) async fn flip(
    ctx: &Context,
    pod: &Pod,
    gate: &str,
    verdict: &GateVerdict,
    now: Time,
) -> Result<bool, Error> {
    let Some(body) = flip::needs(pod, gate, verdict.open, verdict.reason, &verdict.message, now) else {
        return Ok(false);
    };
    let Some(pod_ref) = PodRef::of(pod) else { return Err(Error::Missing("uid")) };
    match flip::set(&ctx.client, &pod_ref, body).await.map_err(Error::kube("write a gate condition"))? {
        FlipOutcome::Written => {
            ctx.metrics.gate(verdict.open, verdict.reason.as_str());
            Ok(true)
        }
        FlipOutcome::Gone => {
            tracing::debug!(pod = %pod.name_any(), "the Pod is gone, or another one");
            Ok(false)
        }
    }
}

async fn write_status(
    ctx: &Context,
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    stage: &Stage,
    now: Time,
) -> Result<(), Error> {
    let short_hooks = stage.short_hooks(ctx, key, object);
    let next = status::status(&stage.facts(object, &short_hooks, now));
    ctx.metrics.targets(&key.namespace, &key.name, &next.targets);
    for reason in [Reason::LastServingTarget, Reason::MassRemoval, Reason::ReplacementNotServing] {
        let n = next.plan.holds.iter().filter(|h| h.reason == reason.as_str()).count();
        ctx.metrics.held(&key.namespace, &key.name, reason.as_str(), n);
    }
    let count = |reasons: &mut dyn Iterator<Item = Reason>| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        reasons.for_each(|r| *counts.entry(r.as_str()).or_default() += 1);
        counts
    };
    let problems = count(&mut stage.resolved.desired.problems.iter().map(|p| p.reason));
    ctx.metrics.spec_problems(&key.namespace, &key.name, &problems);
    if let Some(cloud) = &stage.cloud {
        let troubles = count(&mut cloud.troubles.iter().map(|t| t.reason));
        ctx.metrics.cloud_troubles(&key.namespace, &key.name, &troubles);
    }
    if object.status.as_ref() == Some(&next) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": DirectLoadBalancer::api_version(&()),
        "kind": DirectLoadBalancer::kind(&()),
        "metadata": {"uid": object.uid()},
        "status": next,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api(ctx, key)
        .patch_status(&key.name, &params, &Patch::Apply(patch))
        .await
        .map_err(Error::kube("write the status"))?;
    events(ctx, &object.object_ref(&()), status::transitions(object.status.as_ref(), &next)).await;
    Ok(())
}

async fn events(ctx: &Context, about: &ObjectReference, transitions: Vec<Transition>) {
    for t in transitions {
        let event = Event {
            type_: if t.warning { EventType::Warning } else { EventType::Normal },
            reason: t.reason,
            // The API server allows 1,024 bytes.
            note: Some(t.note.chars().take(1000).collect()),
            action: t.action.into(),
            secondary: None,
        };
        // An event is a courtesy: its loss is no failure of the reconcile.
        if let Err(error) = ctx.recorder.publish(&event, about).await {
            tracing::debug!(%error, "event not written");
        }
    }
}

/// Tells what happened to a load balancer in a cloud, and what the cloud refused.
async fn incidents(ctx: &Context, key: &ObjectKey, object: &DirectLoadBalancer) {
    let told = ctx.tencent.incidents(key).into_iter().map(|i| Transition {
        warning: true,
        reason: i.reason.as_str().into(),
        action: if i.reason == Reason::DriftRepaired { "Repair" } else { "Call" },
        note: i.note,
    });
    events(ctx, &object.object_ref(&()), told.collect()).await;
}

/// Says that an object cannot be read; its other status stays.
pub(crate) async fn unreadable(ctx: &Context, key: &ObjectKey, meta: &ObjectMeta, error: &str) -> Result<(), Error> {
    let message = format!("the object cannot be read, what is in force stays: {error}");
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": Reason::Invalid.as_str(), "message": message,
            "observedGeneration": meta.generation,
            "lastTransitionTime": meta.creation_timestamp,
        })
    };
    let patch = json!({
        "apiVersion": DirectLoadBalancer::api_version(&()),
        "kind": DirectLoadBalancer::kind(&()),
        "status": {"conditions": [condition("Accepted", "False"), condition("Ready", "False"), condition("Stalled", "True")]},
    });
    // A field manager of its own: server-side apply removes what a manager leaves out, and the rest must stay.
    let params = PatchParams::apply("directlb-unreadable").force();
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(
        ctx.client.clone(),
        &key.namespace,
        &kube::core::ApiResource::erase::<DirectLoadBalancer>(&()),
    );
    api.patch_status(&key.name, &params, &Patch::Apply(patch)).await.map_err(Error::kube("write the status"))?;
    Ok(())
}
