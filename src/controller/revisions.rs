//! Accepted specs, kept as ControllerRevisions.
//!
//! When an edit is bad, what was accepted before goes on being served. That must survive a restart of every replica, and
//! the object itself holds only the bad spec; so the leader keeps the last accepted one in a ControllerRevision (the
//! kind that StatefulSets keep their history in), owned by the object.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, PostParams},
};

use super::{
    caches::{Caches, REVISION_LABEL},
    context::Context,
    error::Error,
};
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerSpec},
    model::{ObjectKey, short_hash},
};

/// The spec that was accepted last, as the cache knows it.
pub(crate) fn accepted(caches: &Caches, object: &DirectLoadBalancer) -> Option<DirectLoadBalancerSpec> {
    let newest = of(caches, object).into_iter().max_by_key(|r| r.revision)?;
    let data = newest.data.as_ref()?;
    serde_json::from_value(data.0.clone()).ok()
}

fn of(caches: &Caches, object: &DirectLoadBalancer) -> Vec<std::sync::Arc<ControllerRevision>> {
    let Some(uid) = object.uid() else { return Vec::new() };
    caches.revisions.state_filter(|r: &ControllerRevision| r.labels().get(REVISION_LABEL) == Some(&uid))
}

/// Keeps an accepted spec, unless it is the one that is kept already.
pub(crate) async fn keep(
    ctx: &Context,
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    spec: &DirectLoadBalancerSpec,
) -> Result<(), Error> {
    let (Some(uid), Some(owner)) = (object.uid(), object.controller_owner_ref(&())) else {
        return Err(Error::Missing("uid"));
    };
    if accepted(&ctx.caches, object).as_ref() == Some(spec) {
        return Ok(());
    }
    let data = serde_json::to_value(spec).unwrap_or_default();
    let old = of(&ctx.caches, object);
    let number = old.iter().map(|r| r.revision).max().unwrap_or(0) + 1;
    let name = format!("dlb-{}-{number}", &short_hash(&format!("{uid}{data}")));
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(key.namespace.clone()),
            labels: Some(BTreeMap::from([(REVISION_LABEL.to_owned(), uid)])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    };
    let api: Api<ControllerRevision> = Api::namespaced(ctx.client.clone(), &key.namespace);
    match api.create(&PostParams::default(), &revision).await {
        Ok(_) => {}
        // Made a moment ago, and not in the cache yet.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(e) => return Err(Error::kube("keep the accepted spec")(e)),
    }
    for r in old.iter().filter(|r| r.name_any() != name) {
        match api.delete(&r.name_any(), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(e) => return Err(Error::kube("remove an older accepted spec")(e)),
        }
    }
    Ok(())
}
