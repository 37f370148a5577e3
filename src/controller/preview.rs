//! What applying an object would change, worked out outside the controller: nothing is written, to Kubernetes or to a cloud.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use super::{
    caches::{Caches, Guarded},
    cloud, revisions,
};
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerSpec, Mode},
    gate::inject,
    model::{ObjectKey, Observed, Plan, Time},
    plan::{apply, plan},
    prerequisites,
    provider::{
        envoy,
        tencent::{self, Connect, Outside, TencentProvider},
    },
    resolve::{self, Cluster as _, Input, Resolved},
    runtime::clock::Clock,
    sync::Cloud as _,
};

/// How long a cloud has to show its load balancer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What applying an object would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The class in use.
    pub class: Option<String>,
    /// Where it is carried: a fleet, or a load balancer's id; empty: there is no load balancer yet.
    pub carrier: String,
    /// What is wrong with the object: field, value, and what is allowed.
    pub problems: Vec<String>,
    /// What would be done, in this order.
    pub steps: Vec<String>,
    /// What would be held back, and why.
    pub holds: Vec<String>,
}

/// Works it out. The caches are filled, and the object is as it would be applied.
///
/// # Errors
/// The cloud cannot be asked, in words.
pub async fn preview(
    caches: &Caches,
    namespace: &str,
    connect: Arc<Connect>,
    clock: &Clock,
    mut object: DirectLoadBalancer,
) -> Result<Preview, String> {
    let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
    let live = caches.objects.get(&ObjectRef::<Guarded>::new(&key.name).within(&key.namespace));
    if let Some(Ok(live)) = live.as_ref().map(|l| l.0.as_ref()) {
        object.metadata = live.metadata.clone();
        object.status.clone_from(&live.status);
    }
    let previous = revisions::accepted(caches, &object);
    let now = clock.now();
    let nothing = BTreeMap::new();
    let resolve_as = |object: &DirectLoadBalancer, in_force: &Observed, previous: Option<&DirectLoadBalancerSpec>| {
        let input =
            Input { object, in_force, address: Ok(None), port_conflicts: &nothing, now, previous_spec: previous };
        resolve::resolve(&input, caches)
    };
    let Some(class) = cloud::class_of(caches, &object) else {
        // What the proxies carry is what was accepted last, as far as anybody outside the controller knows.
        let mut in_force = Observed::default();
        if let Some(spec) = &previous {
            let mut before = object.clone();
            before.spec = spec.clone();
            let resolved = resolve_as(&before, &in_force, Some(spec));
            let done = plan(&resolved.desired, &in_force, &envoy::LIMITS, now);
            done.steps.iter().for_each(|step| apply(&mut in_force, step));
        }
        let resolved = resolve_as(&object, &in_force, previous.as_ref());
        let done = plan(&resolved.desired, &in_force, &envoy::LIMITS, now);
        let fleet = resolved.class.as_ref().and_then(|c| c.spec.fleet().map(str::to_owned)).unwrap_or_default();
        return Ok(shown(&resolved, &done, fleet, false));
    };
    // Nothing may be written, whatever the object says.
    object.spec.mode = Mode::Plan;
    let outside = Outside { connect, clock: clock.clone(), observer: Arc::new(()), tell: Arc::new(|_| {}) };
    let provider = TencentProvider::new(outside);
    cloud::drive(&key, &object, &class, caches, namespace, &provider).map_err(|t| t.message)?;
    let report = looked(&provider, &key, clock).await?;
    provider.start(&key, &resolve_as(&object, &Observed::default(), previous.as_ref()).desired, now);
    let in_force = provider.observe(&key, now).unwrap_or_default();
    let resolved = resolve_as(&object, &in_force, previous.as_ref());
    let done = plan(&resolved.desired, &in_force, &tencent::LIMITS, now);
    let create = report.id.is_empty() && !done.steps.is_empty();
    Ok(shown(&resolved, &done, report.id, create))
}

async fn looked(provider: &TencentProvider, key: &ObjectKey, clock: &Clock) -> Result<tencent::Report, String> {
    let begun = clock.now();
    loop {
        let report = provider.report(key).unwrap_or_default();
        if let Some(trouble) = report.troubles.first() {
            return Err(format!("{}: {}", trouble.what, trouble.message));
        }
        if report.looked {
            return Ok(report);
        }
        if clock.now().since(begun) > PATIENCE {
            return Err(format!("the cloud has not shown the load balancer within {PATIENCE:?}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn shown(resolved: &Resolved, done: &Plan, carrier: String, create: bool) -> Preview {
    let steps = create.then(|| "create load balancer".to_owned()).into_iter();
    Preview {
        class: resolved.class_name.clone(),
        carrier,
        problems: resolved.desired.problems.iter().map(|p| p.message.clone()).collect(),
        steps: steps.chain(done.steps.iter().map(ToString::to_string)).collect(),
        holds: done.holds.iter().map(ToString::to_string).collect(),
    }
}

/// Asks the API of every class of a cloud something that changes nothing: its quotas.
pub async fn ask_clouds(
    caches: &Caches,
    namespace: &str,
    connect: Arc<Connect>,
    clock: &Clock,
) -> Vec<(String, Result<(), String>)> {
    let mut out = Vec::new();
    for class in caches.classes() {
        let Some(tencent) = &class.spec.tencent else { continue };
        let answer = async {
            let (endpoint, credentials) =
                cloud::account(&class, tencent, caches, namespace).map_err(|(_, message)| message)?;
            let transport = connect(&endpoint)?;
            let client = tencent::Client::new(transport, endpoint.host(), &endpoint.region, credentials, clock.as_fn());
            let api = tencent::Tencent::new(client);
            let answer = tokio::time::timeout(PATIENCE, api.read(&[tencent::Read::Quotas])).await;
            let answer = answer.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
            answer.map(|_| ()).map_err(|e| e.to_string())
        };
        out.push((class.name_any(), answer.await));
    }
    out
}

/// Every object with its target Pods.
#[must_use]
pub fn target_pods(caches: &Caches, now: Time) -> Vec<prerequisites::Object> {
    let (nothing, in_force) = (BTreeMap::new(), Observed::default());
    let objects = caches.objects.state().into_iter().filter_map(|o| o.0.clone().ok());
    let one = |object: DirectLoadBalancer| {
        let (address, port_conflicts) = (Ok(None), &nothing);
        let input = Input { object: &object, in_force: &in_force, address, port_conflicts, now, previous_spec: None };
        let resolved = resolve::resolve(&input, caches);
        let namespace = object.namespace().unwrap_or_default();
        let mut pods = caches.pods(&namespace);
        pods.retain(|p| p.metadata.uid.as_ref().is_some_and(|uid| resolved.gate_pods.contains_key(uid)));
        pods.sort_by_key(|p| p.name_any());
        let tencent = resolved.class.as_ref().and_then(|c| c.spec.tencent.as_ref());
        let services = inject::services_of(&object).into_iter().map(|s| (namespace.clone(), s.to_owned()));
        prerequisites::Object {
            name: format!("{namespace}/{}", object.name_any()),
            tencent: tencent.is_some(),
            vpc_cidrs: tencent.map(|t| t.vpc_cidrs.clone()).unwrap_or_default(),
            pods,
            services: services.collect(),
        }
    };
    let mut all: Vec<prerequisites::Object> = objects.map(one).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
