//! One object: resolve, observe, plan, apply, project.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, runtime::controller::Action};

use super::{
    caches::Guarded,
    cloud,
    context::Context,
    error::{Error, ErrorKind},
    proxies, publish, revisions,
};
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerSpec, InjectionStatus, Mode, ReadinessGate, Reason},
    gate::inject,
    model::{ObjectKey, Observed, Plan, Problem, Time},
    plan::plan,
    provider::envoy::LIMITS,
    resolve::{self, Input, Resolved},
    status::{Cloud, Facts, Fleet, GateContext, ProxyState},
};

/// No reconcile takes longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Even if nothing changes, look again: against what a watch may have missed.
const RESYNC: Duration = Duration::from_secs(300);
/// While a proxy is waited for, or a new target's first check is due, time alone changes the picture.
const SOON: Duration = Duration::from_secs(2);
/// An object that was never accepted keeps its Pods' gates shut for so long: its class may be on its way.
const NOT_ACCEPTED_GRACE: Duration = Duration::from_secs(30);

/// Reconciles one object. Every replica resolves, plans and applies, so that every replica serves the same resources;
/// only the leader writes to Kubernetes.
pub(crate) async fn reconcile(object: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, Error> {
    let begun = ctx.clock.now();
    ctx.health.beat();
    let key = ObjectKey::new(object.namespace().ok_or(Error::Missing("namespace"))?, object.name_any());
    let result = match tokio::time::timeout(TIME_LIMIT, one(&key, &object, &ctx)).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut(TIME_LIMIT)),
    };
    // Whatever went wrong, the others need not wait for this one.
    ctx.provider.planned(&key);
    let label = result.as_ref().map_or_else(|e| e.kind().as_str(), |_| "ok");
    ctx.metrics.reconciled(label, ctx.clock.now().since(begun).as_secs_f64());
    if result.is_ok() {
        ctx.succeeded(&key);
    }
    result
}

/// What to do after a failure.
pub(crate) fn error_policy(object: Arc<Guarded>, error: &Error, ctx: Arc<Context>) -> Action {
    let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let after = error.backoff(ctx.failed(&key));
    if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) {
        tracing::debug!(object = %key, %error, ?after, "trying again");
    } else {
        tracing::warn!(object = %key, kind = error.kind().as_str(), %error, ?after, "reconcile failed");
    }
    Action::requeue(after)
}

async fn one(key: &ObjectKey, guarded: &Guarded, ctx: &Context) -> Result<Action, Error> {
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => {
            tracing::warn!(object = %key, error = %invalid.error, "object does not deserialise; what is in force stays");
            if ctx.leads() {
                publish::unreadable(ctx, key, &invalid.metadata, &invalid.error.to_string()).await?;
            }
            return Ok(Action::requeue(RESYNC));
        }
    };
    let now = ctx.clock.now();
    let stage = stages(key, object, ctx, now);
    if !ctx.leads() {
        return Ok(next(&stage, now));
    }
    publish::object(ctx, key, object, &stage, now).await?;
    Ok(next(&stage, now))
}

/// What the stages made of an object, before anything is written.
pub(crate) struct Stage {
    pub resolved: Resolved,
    pub in_force: Observed,
    /// Holds; in mode Plan also the steps that were not done.
    pub plan: Plan,
    pub fleet: Fleet,
    /// The load balancer in a cloud; `None`: proxies carry the object.
    pub cloud: Option<Cloud>,
    pub addresses: Vec<std::net::IpAddr>,
    pub wake_at: Option<Time>,
    pub ungated: Vec<String>,
    pub portless: Vec<String>,
    pub injection: InjectionStatus,
}

impl Stage {
    pub(crate) fn facts<'a>(
        &'a self,
        object: &'a DirectLoadBalancer,
        short_hooks: &'a [String],
        now: Time,
    ) -> Facts<'a> {
        Facts {
            object,
            class_name: self.resolved.class_name.as_deref(),
            desired: &self.resolved.desired,
            in_force: &self.in_force,
            plan: &self.plan,
            addresses: &self.addresses,
            fleet: &self.fleet,
            cloud: self.cloud.as_ref(),
            ungated: &self.ungated,
            portless: &self.portless,
            short_hooks,
            injection: &self.injection,
            now,
        }
    }

    /// Since when every proxy has the Pod healthy, wherever it is a target.
    pub(crate) fn healthy_since(&self, uid: &str) -> Option<Time> {
        let targets = self.in_force.groups.values().flat_map(|g| &g.targets);
        targets.filter(|(id, _)| id.uid == uid).map(|(_, t)| t.healthy_since).max().flatten()
    }

    /// Containers of target Pods whose own preStop hook is left alone, as `pod/container`: only a native sleep's length
    /// is known, so any other hook is named too.
    pub(crate) fn short_hooks(&self, ctx: &Context, key: &ObjectKey, object: &DirectLoadBalancer) -> Vec<String> {
        let inject = object.spec.drain.as_ref().is_none_or(|d| d.pre_stop == crate::api::PreStop::Inject);
        let seconds = self.resolved.desired.drain_timeout.as_secs();
        if !inject || seconds == 0 {
            return Vec::new();
        }
        let targets = ctx.caches.pods.state_filter(|p: &Pod| {
            p.metadata.namespace.as_deref() == Some(&key.namespace)
                && p.metadata.uid.as_ref().is_some_and(|u| self.resolved.gate_pods.contains_key(u))
        });
        let mut names: Vec<String> = targets
            .iter()
            .flat_map(|p| {
                let containers = p.spec.iter().flat_map(|s| {
                    let sidecars = s.init_containers.iter().flatten();
                    s.containers.iter().chain(sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always")))
                });
                containers.filter_map(|c| {
                    let hook = c.lifecycle.as_ref()?.pre_stop.as_ref()?;
                    let enough =
                        hook.sleep.as_ref().is_some_and(|s| u64::try_from(s.seconds).is_ok_and(|s| s >= seconds));
                    (!enough).then(|| format!("{}/{}", p.name_any(), c.name))
                })
            })
            .collect();
        names.sort();
        names
    }

    pub(crate) fn gates<'a>(&'a self, object: &DirectLoadBalancer, now: Time) -> GateContext<'a> {
        let age = object
            .creation_timestamp()
            .map_or(Duration::MAX, |t| now.since(Time(u64::try_from(t.0.as_millisecond()).unwrap_or(0))));
        GateContext {
            desired: &self.resolved.desired,
            in_force: &self.in_force,
            disabled: object.spec.readiness_gate == ReadinessGate::Disabled,
            not_accepted: !self.resolved.desired.problems.is_empty()
                && self.in_force.listeners.is_empty()
                && age > NOT_ACCEPTED_GRACE,
            proxies: self.cloud.is_some() || self.fleet.proxies.values().any(|p| p.state == ProxyState::Reporting),
            cloud: self.cloud.as_ref(),
        }
    }
}

/// Everything up to apply: no I/O.
fn stages(key: &ObjectKey, object: &DirectLoadBalancer, ctx: &Context, now: Time) -> Stage {
    if let Some(class) = cloud::class_of(&ctx.caches, object) {
        return cloud::stages(key, object, &class, ctx, now);
    }
    let previous = revisions::accepted(&ctx.caches, object);
    let (address, conflicts) = addressing(key, object, ctx);
    let fleet_name = resolve::class_of(object, &ctx.caches).and_then(|c| c.spec.fleet().map(str::to_owned));
    let fleet_name = fleet_name.or_else(|| ctx.provider.fleet_of(key)).unwrap_or_default();

    let pods: Vec<Arc<Pod>> =
        ctx.caches.pods.state_filter(|p: &Pod| p.metadata.namespace.as_deref() == Some(&ctx.namespace));
    let states =
        proxies::proxies(&pods, &fleet_name, &ctx.provider.reports().proxies(), ctx.started, ctx.proxy_timeout, now);
    let expected = proxies::expected(&states);
    let observe = || ctx.provider.observe(key, &expected, now);
    let resolve_as = |object: &DirectLoadBalancer, previous: Option<&DirectLoadBalancerSpec>, in_force: &Observed| {
        let input = Input {
            object,
            in_force,
            address: address.clone(),
            port_conflicts: &conflicts,
            now,
            previous_spec: previous,
        };
        resolve::resolve(&input, &ctx.caches)
    };
    let enforce = |resolved: &Resolved, in_force: &Observed| {
        let done = plan(&resolved.desired, in_force, &LIMITS, now);
        note_steps(ctx, key, &done);
        ctx.provider.apply(key, &fleet_name, &done, now);
        done
    };

    let in_force = observe();
    let (resolved, plan, wake_at) = if object.spec.mode == Mode::Plan && object.metadata.deletion_timestamp.is_none() {
        // What was enforced before goes on being enforced, also after a restart.
        let mut wake_at = None;
        if let Some(previous) = &previous {
            let mut before = object.clone();
            before.spec = previous.clone();
            wake_at = enforce(&resolve_as(&before, Some(previous), &in_force), &in_force).wake_at;
        }
        let in_force = observe();
        let resolved = resolve_as(object, previous.as_ref(), &in_force);
        let shown = plan_only(&resolved, &in_force, now);
        (resolved, shown, wake_at)
    } else {
        let resolved = resolve_as(object, previous.as_ref(), &in_force);
        let done = enforce(&resolved, &in_force);
        let wake_at = done.wake_at;
        (resolved, done, wake_at)
    };
    let in_force = observe();
    let fleet = proxies::fleet(&fleet_name, &states, &ctx.provider, key);
    for state in [ProxyState::Reporting, ProxyState::Waiting, ProxyState::LeftOut] {
        let n = states.values().filter(|s| **s == state).count();
        ctx.metrics.proxies(&fleet_name, &format!("{state:?}").to_lowercase(), n);
    }
    // Shared: wherever a proxy that counts is.
    let addresses = match (&address, resolved.class.is_some()) {
        (Ok(Some(ip)), _) => vec![*ip],
        (Ok(None), true) => proxies::addresses(&pods, &states),
        (Ok(None), false) | (Err(_), _) => recorded_addresses(object),
    };
    let ungated = resolved.ungated.iter().cloned().collect();
    let portless = resolved.portless.iter().cloned().collect();
    let injection = inject::status(object, key, &ctx.caches);
    Stage { resolved, in_force, plan, fleet, cloud: None, addresses, wake_at, ungated, portless, injection }
}

/// The addresses in the object's status: while nothing better is known they stay.
fn recorded_addresses(object: &DirectLoadBalancer) -> Vec<std::net::IpAddr> {
    let all = object.status.iter().flat_map(|s| &s.load_balancer.addresses);
    all.filter_map(|a| a.value.parse().ok()).collect()
}

fn plan_only(resolved: &Resolved, in_force: &Observed, now: Time) -> Plan {
    plan(&resolved.desired, in_force, &LIMITS, now)
}

pub(crate) fn note_steps(ctx: &Context, key: &ObjectKey, plan: &Plan) {
    for step in &plan.steps {
        let text = step.to_string();
        let kind = text.split(' ').next().unwrap_or_default();
        ctx.metrics.step(kind);
        tracing::info!(object = %key, "{text}");
    }
}

/// The object's address (`None`: the edge nodes' own), and the listeners whose ports others hold.
fn addressing(
    key: &ObjectKey,
    object: &DirectLoadBalancer,
    ctx: &Context,
) -> (Result<Option<std::net::IpAddr>, Problem>, std::collections::BTreeMap<String, Problem>) {
    let Some(class) = resolve::class_of(object, &ctx.caches) else {
        return (Ok(None), Default::default());
    };
    let class_name = class.name_any();
    let same_class: Vec<Arc<DirectLoadBalancer>> = ctx
        .caches
        .load_balancers()
        .into_iter()
        .filter(|o| resolve::class_of(o, &ctx.caches).is_some_and(|c| c.name_any() == class_name))
        .collect();
    if class.spec.address_pool().is_empty() {
        let ports = same_class.iter().map(|o| ports_of(o, ctx)).collect();
        let mut conflicts = resolve::port_conflicts(&same_class, &ports);
        return (Ok(None), conflicts.remove(key).unwrap_or_default());
    }
    let recorded = object
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.addresses.first())
        .and_then(|a| a.value.parse::<std::net::IpAddr>().ok());
    let address = match resolve::address_of(&resolve::assign(&class, &same_class), key) {
        // An address is used only once it stands in status, so that two replicas never give out the same one; the
        // leader writes it there.
        Ok(Some(ip)) if recorded != Some(ip) && !ctx.leads() => Err(Problem {
            listener: None,
            reason: Reason::Pending,
            message: "the leader has not assigned an address yet".into(),
        }),
        other => other,
    };
    (address, Default::default())
}

/// The ports that an object holds on the shared addresses. Before it was planned for the first time since the start:
/// those of the spec that was accepted last.
fn ports_of(
    object: &DirectLoadBalancer,
    ctx: &Context,
) -> (ObjectKey, std::collections::BTreeMap<resolve::PortKey, String>) {
    let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let ports = match ctx.provider.in_force(&key) {
        Some(in_force) => resolve::ports_in_force(&in_force),
        None => revisions::accepted(&ctx.caches, object)
            .map(|spec| {
                spec.listeners
                    .iter()
                    .filter_map(|l| {
                        let port = u16::try_from(l.port).ok()?;
                        Some((resolve::PortKey::new(port, l.protocol), l.name.clone()))
                    })
                    .collect()
            })
            .unwrap_or_default(),
    };
    (key, ports)
}

fn next(stage: &Stage, now: Time) -> Action {
    let waiting = stage.fleet.proxies.values().any(|p| p.state == ProxyState::Waiting || !p.missing.is_empty());
    let unsettled = stage
        .in_force
        .groups
        .values()
        .flat_map(|g| g.targets.values())
        .any(|t| t.draining_since.is_none() && t.health != crate::model::Health::Healthy);
    let held = !stage.plan.holds.is_empty();
    // The worker tells of every change in a cloud.
    let told = stage.cloud.is_some();
    let mut after = if !told && (waiting || unsettled) || held { SOON } else { RESYNC };
    if stage.cloud.as_ref().is_some_and(|c| c.troubles.iter().any(|t| t.reason == Reason::Pending)) {
        after = SOON;
    }
    // Its Pods' gates are opened when its grace has passed.
    if !stage.resolved.desired.problems.is_empty() && stage.in_force.listeners.is_empty() {
        after = after.min(NOT_ACCEPTED_GRACE + Duration::from_secs(1));
    }
    if let Some(at) = stage.wake_at {
        // A little late rather than a little early: early would find nothing to do.
        after = after.min(at.since(now) + Duration::from_millis(10));
    }
    Action::requeue(after)
}
