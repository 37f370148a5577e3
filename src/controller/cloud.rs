//! Objects whose load balancer is in a cloud: the same stages as for Envoy, with a worker in between that the reconcile
//! never waits for.
//!
//! Only the leader drives clouds. A replica that does not lead resolves its objects, so that the webhook and its metrics
//! know of them, and leaves everything else alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;

use super::{caches::Caches, context::Context, reconcile::Stage, revisions};
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, FINALIZER, Mode, QuotaStatus, Reason, Scheme, TencentClass},
    gate::inject,
    model::{ObjectKey, Observed, Plan, Time},
    plan::plan,
    provider::tencent::{
        self, Credentials, Endpoint, Goal, LIMITS, NewLoadBalancer, Report, Tag, TencentProvider, Trouble, Usage,
    },
    resolve::{self, Cluster as _, Input, Resolved},
    status::{Cloud, CloudTrouble, count, some_of},
};

/// The API that a class without `endpoint` uses.
const ENDPOINT: &str = "https://clb.tencentcloudapi.com";

/// The class of an object whose load balancer is in a cloud.
pub(crate) fn class_of(caches: &Caches, object: &DirectLoadBalancer) -> Option<Arc<DirectLoadBalancerClass>> {
    resolve::class_of(object, caches).filter(|c| c.spec.tencent.is_some() && c.spec.envoy.is_none())
}

/// Everything up to apply: no I/O, and nothing is waited for.
pub(crate) fn stages(
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    class: &DirectLoadBalancerClass,
    ctx: &Context,
    now: Time,
) -> Stage {
    let previous = revisions::accepted(&ctx.caches, object);
    let nothing = BTreeMap::new();
    let resolve_as = |object: &DirectLoadBalancer, in_force: &Observed| -> Resolved {
        let input = Input {
            object,
            in_force,
            address: Ok(None),
            port_conflicts: &nothing,
            now,
            previous_spec: previous.as_ref(),
        };
        resolve::resolve(&input, &ctx.caches)
    };
    let mut troubles = Vec::new();
    if ctx.leads()
        && let Err(trouble) = drive(key, object, class, &ctx.caches, &ctx.namespace, &ctx.tencent)
    {
        troubles.push(trouble);
    }
    if !ctx.leads() {
        ctx.tencent.forget(key);
    }
    if !ctx.tencent.started(key) && ctx.tencent.report(key).is_some_and(|r| r.looked) {
        let desired = resolve_as(object, &Observed::default()).desired;
        ctx.tencent.start(key, &desired, now);
    }
    let known = ctx.tencent.observe(key, now);
    let in_force = known.clone().unwrap_or_default();
    let planned = object.spec.mode == Mode::Plan && object.metadata.deletion_timestamp.is_none();
    let enforce = |object: &DirectLoadBalancer, in_force: &Observed| {
        let resolved = resolve_as(object, in_force);
        let done = plan(&resolved.desired, in_force, &LIMITS, now);
        super::reconcile::note_steps(ctx, key, &done);
        ctx.tencent.apply(key, &done);
        (resolved, done)
    };
    let (resolved, shown, wake_at) = if known.is_none() {
        // Nobody has looked at the load balancer yet: there is nothing to plan from.
        (resolve_as(object, &in_force), Plan::default(), None)
    } else if planned {
        // What was enforced before goes on being enforced.
        let mut wake_at = None;
        if let Some(spec) = &previous {
            let mut before = object.clone();
            before.spec = spec.clone();
            wake_at = enforce(&before, &in_force).1.wake_at;
        }
        let in_force = ctx.tencent.observe(key, now).unwrap_or_default();
        let resolved = resolve_as(object, &in_force);
        let shown = plan(&resolved.desired, &in_force, &LIMITS, now);
        (resolved, shown, wake_at)
    } else {
        let (resolved, done) = enforce(object, &in_force);
        let wake_at = done.wake_at;
        (resolved, done, wake_at)
    };
    let in_force = ctx.tencent.observe(key, now).unwrap_or_default();
    let report = ctx.tencent.report(key).unwrap_or_default();
    let recorded = object.status.iter().flat_map(|s| &s.load_balancer.addresses);
    let addresses = match report.addresses.as_slice() {
        [] if !report.looked => recorded.filter_map(|a| a.value.parse().ok()).collect(),
        all => all.iter().filter_map(|a| a.parse().ok()).collect(),
    };
    let ungated = resolved.ungated.iter().cloned().collect();
    let portless = resolved.portless.iter().cloned().collect();
    let injection = inject::status(object, key, &ctx.caches);
    // Pods are looked up only where there is something to say of them.
    let left_out = report.troubles.iter().any(|t| !t.pods.is_empty());
    let pods = if left_out { ctx.caches.pods(&key.namespace) } else { Vec::new() };
    let cloud = Some(facts(object, report, troubles, &pods));
    Stage {
        resolved,
        in_force,
        plan: shown,
        fleet: Default::default(),
        cloud,
        addresses,
        wake_at,
        ungated,
        portless,
        injection,
    }
}

/// Tells the worker what the object asks for; starts it if there is none.
pub(super) fn drive(
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    class: &DirectLoadBalancerClass,
    caches: &Caches,
    namespace: &str,
    provider: &TencentProvider,
) -> Result<(), CloudTrouble> {
    let Some(tencent) = &class.spec.tencent else { return Ok(()) };
    let trouble =
        |reason, message| CloudTrouble { listener: None, target: false, pods: BTreeSet::new(), reason, message };
    let (endpoint, credentials) = account(class, tencent, caches, namespace).map_err(|(r, m)| trouble(r, m))?;
    let Some(cluster) = caches.cluster_id() else {
        return Err(trouble(
            Reason::Pending,
            "namespace kube-system, which names the cluster, is not in the cache yet".into(),
        ));
    };
    let goal = goal(key, object, tencent, cluster);
    provider
        .sync(key, goal, &endpoint, &tencent.credentials_secret_ref.name, &credentials)
        .map_err(|e| trouble(Reason::CloudUnavailable, format!("class {}: {e}", class.name_any())))
}

/// Where a class' API is, and the credentials for it.
pub(super) fn account(
    class: &DirectLoadBalancerClass,
    tencent: &TencentClass,
    caches: &Caches,
    namespace: &str,
) -> Result<(Endpoint, Credentials), (Reason, String)> {
    let name = class.name_any();
    let secret_name = &tencent.credentials_secret_ref.name;
    let secret = caches.credentials(secret_name);
    let credentials = credentials(secret.as_deref()).map_err(|what| {
        (Reason::CredentialsMissing, format!("Secret {namespace}/{secret_name} of class {name}: {what}"))
    })?;
    let endpoint = Endpoint {
        url: tencent.endpoint.clone().unwrap_or_else(|| ENDPOINT.into()),
        ca_bundle: tencent.ca_bundle.clone(),
        region: tencent.region.clone(),
        rate: tencent.requests_per_second.and_then(|r| u32::try_from(r).ok()),
    };
    if endpoint.url.starts_with("http://") && !tencent.insecure_http {
        let message = format!("class {name}: endpoint {} has no TLS, and insecureHttp is not set", endpoint.url);
        return Err((Reason::Invalid, message));
    }
    Ok((endpoint, credentials))
}

fn credentials(secret: Option<&Secret>) -> Result<Credentials, String> {
    let data = secret.ok_or("there is none")?.data.as_ref();
    let field = |name: &str| -> Option<String> {
        let bytes = data?.get(name)?;
        let text = String::from_utf8(bytes.0.clone()).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let needed = |name: &str| field(name).ok_or_else(|| format!("key {name} is missing, empty or no text"));
    Ok(Credentials { secret_id: needed("secretId")?, secret_key: needed("secretKey")?, token: field("token") })
}

fn goal(key: &ObjectKey, object: &DirectLoadBalancer, tencent: &TencentClass, cluster: String) -> Goal {
    let uid = object.uid().unwrap_or_default();
    let lb = object.spec.load_balancer.clone().unwrap_or_default();
    let allowed = |id: &String| tencent.adoptable_load_balancers.contains(id);
    // What is refused is not adopted; what was adopted is not let go of because the class has changed its mind.
    let known = object.status.as_ref().map(|s| s.load_balancer.id.clone()).filter(|id| !id.is_empty());
    let adopt = lb.id.filter(|id| allowed(id) || known.as_ref() == Some(id));
    let refused = object.spec.load_balancer.as_ref().is_some_and(|l| l.id.is_some()) && adopt.is_none();
    let internal = lb.scheme == Scheme::Internal;
    let mut tags: BTreeMap<String, String> = tencent.tags.clone();
    tags.insert(tencent::CLUSTER_TAG.into(), cluster.clone());
    tags.insert(tencent::OBJECT_TAG.into(), uid.clone());
    tags.insert(tencent::NAME_TAG.into(), key.to_string());
    let new = NewLoadBalancer {
        load_balancer_type: if internal { "INTERNAL" } else { "OPEN" }.into(),
        load_balancer_name: tencent::load_balancer_name(key),
        vpc_id: tencent.vpc_id.clone(),
        subnet_id: tencent.subnet_id.clone().filter(|_| internal),
        load_balancer_pass_to_target: tencent.pass_to_target,
        tags: tags.into_iter().map(|(tag_key, tag_value)| Tag { tag_key, tag_value }).collect(),
        client_token: String::new(),
    };
    let deleting = object.metadata.deletion_timestamp.is_some();
    // Nothing is made in a cloud before the finalizer says that it has to be removed again.
    let held = object.finalizers().iter().any(|f| f == FINALIZER);
    let enforce = held && !refused && object.spec.mode == Mode::Enforce;
    let security_groups = tencent.security_groups.iter().cloned().collect();
    let quotas = tencent.quotas.clone().unwrap_or_default();
    let quotas = tencent::quotas_of_class(quotas.listeners, quotas.rules, quotas.targets);
    Goal { uid, cluster, adopt, known, new, security_groups, quotas, enforce, deleting }
}

/// The Pods that are left out, and why the cloud refuses one, as far as that is known.
fn about(trouble: &Trouble, pods: &[Arc<Pod>]) -> String {
    let uids: BTreeSet<&String> = trouble.pods.iter().collect();
    let is_out = |p: &&Arc<Pod>| p.metadata.uid.as_ref().is_some_and(|uid| uids.contains(uid));
    let out: Vec<&Arc<Pod>> = pods.iter().filter(is_out).collect();
    let names: Vec<String> = out.iter().map(|p| p.name_any()).collect();
    let names = (!names.is_empty()).then(|| format!("left out: {}", some_of(&names)));
    let refused = trouble.reason() == Reason::CloudRejected;
    let why = out.into_iter().filter(|_| refused).find_map(|p| resolve::out_of_reach(p));
    let all: Vec<String> = names.into_iter().chain(why).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
}

fn quota(usage: Usage) -> QuotaStatus {
    QuotaStatus {
        resource: usage.resource.into(),
        listener: usage.listener.unwrap_or_default(),
        used: count(usage.used),
        limit: count(usage.limit),
    }
}

/// What status shows of it.
fn facts(object: &DirectLoadBalancer, report: Report, mut troubles: Vec<CloudTrouble>, pods: &[Arc<Pod>]) -> Cloud {
    let known = object.status.as_ref().map(|s| s.load_balancer.id.clone()).unwrap_or_default();
    troubles.extend(report.troubles.iter().map(|t| CloudTrouble {
        listener: t.listener.clone(),
        target: t.target,
        pods: t.pods.iter().cloned().collect(),
        reason: t.reason(),
        message: format!("{}: {}{}", t.what, t.message, about(t, pods)),
    }));
    let id = if report.id.is_empty() && !report.looked { known } else { report.id };
    Cloud {
        id,
        looked: report.looked,
        listeners: report.listeners,
        missing: report.missing,
        troubles,
        quotas: report.quotas.into_iter().map(quota).collect(),
        clean: report.clean,
    }
}
