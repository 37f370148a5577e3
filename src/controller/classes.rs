//! Classes: how many objects use each, and that none goes while it is in use.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as MetaTime};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{context::Context, error::Error};
use crate::{
    api::{DirectLoadBalancerClass, DirectLoadBalancerClassStatus, FIELD_MANAGER, validate},
    model::AddressPool,
    resolve,
};

/// The finalizer that keeps a class while objects use it.
pub const CLASS_FINALIZER: &str = "directlb.io/in-use";

/// Looks so often whether something changed; a class is edited by people, rarely.
const EVERY: Duration = Duration::from_secs(1);

/// Runs for as long as the controller does.
pub(crate) async fn run(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if !ctx.leads() {
            continue;
        }
        let objects = ctx.caches.load_balancers();
        let mut ready = 0;
        for o in &objects {
            let is = o.status.iter().flat_map(|s| &s.conditions).any(|c| c.type_ == "Ready" && c.status == "True");
            ready += usize::from(is);
        }
        ctx.metrics.objects(ready, objects.len() - ready);
        for class in ctx.caches.classes.state() {
            let name = class.name_any();
            let users: Vec<String> = objects
                .iter()
                .filter(|o| uses(o, &name, &ctx))
                .map(|o| format!("{}/{}", o.namespace().unwrap_or_default(), o.name_any()))
                .collect();
            if let Err(error) = sync(&ctx, &class, &users).await {
                tracing::debug!(class = %name, %error, "class not written yet");
            }
        }
    }
}

fn uses(object: &crate::api::DirectLoadBalancer, class: &str, ctx: &Context) -> bool {
    resolve::class_of(object, &ctx.caches).is_some_and(|c| c.name_any() == class)
        || object.status.as_ref().and_then(|s| s.class_name.as_deref()) == Some(class)
}

async fn sync(ctx: &Context, class: &DirectLoadBalancerClass, users: &[String]) -> Result<(), Error> {
    let api: Api<DirectLoadBalancerClass> = Api::all(ctx.client.clone());
    let name = class.name_any();
    let has = class.finalizers().iter().any(|f| f == CLASS_FINALIZER);
    let deleting = class.metadata.deletion_timestamp.is_some();
    // A finalizer cannot be added any more once the object is being deleted.
    let want = if deleting { has && !users.is_empty() } else { !users.is_empty() };
    if has != want {
        let mut finalizers = class.finalizers().to_vec();
        finalizers.retain(|f| f != CLASS_FINALIZER);
        if want {
            finalizers.push(CLASS_FINALIZER.into());
        }
        let patch = json!({"metadata": {"resourceVersion": class.resource_version(), "finalizers": finalizers}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::kube("write a class' finalizer"))?;
        return Ok(());
    }
    let next = status(class, users, ctx.clock.now());
    if class.status.as_ref() == Some(&next) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": DirectLoadBalancerClass::api_version(&()),
        "kind": DirectLoadBalancerClass::kind(&()),
        "status": next,
    });
    api.patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .map_err(Error::kube("write a class' status"))?;
    Ok(())
}

fn status(class: &DirectLoadBalancerClass, users: &[String], now: crate::model::Time) -> DirectLoadBalancerClassStatus {
    let deleting = class.metadata.deletion_timestamp.is_some();
    let wrong: Vec<String> = validate::class(&class.spec).iter().map(ToString::to_string).collect();
    let (ok, reason, message) = match AddressPool::parse(class.spec.address_pool()) {
        Err(message) => (false, "Invalid", format!("spec.envoy.addressPool: {message}")),
        Ok(_) if !wrong.is_empty() => (false, "Invalid", wrong.join("; ")),
        Ok(_) if deleting => {
            let shown: Vec<&str> = users.iter().take(5).map(String::as_str).collect();
            (false, "Deleting", format!("held while {} objects use it: {}", users.len(), shown.join(", ")))
        }
        Ok(_) => (true, "Accepted", String::new()),
    };
    let status = if ok { "True" } else { "False" };
    let previous = class
        .status
        .iter()
        .flat_map(|s| &s.conditions)
        .find(|c| c.type_ == "Accepted" && c.status == status)
        .map(|c| c.last_transition_time.clone());
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(0);
    let time =
        previous.unwrap_or(MetaTime(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)));
    DirectLoadBalancerClassStatus {
        observed_generation: class.metadata.generation,
        in_use: i32::try_from(users.len()).unwrap_or(i32::MAX),
        conditions: vec![Condition {
            type_: "Accepted".into(),
            status: status.into(),
            reason: reason.into(),
            message,
            observed_generation: class.metadata.generation,
            last_transition_time: time,
        }],
    }
}
