//! One object: each of its listeners as the spec says, or as it was accepted before.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;

use super::{
    Cluster, GatePod, Input, PortKey, Resolved, addresses, class,
    departed::departed,
    listener::{self, Context, Resolved as Listener},
    pods,
    review::{self, Review},
    tencent,
};
use crate::{
    api::{self, DirectLoadBalancerClass, DirectLoadBalancerSpec, ReadinessGate, Reason, gate_type},
    model::{Desired, ObjectKey, Problem, TargetState},
};

/// How long Pods may drain if neither the object nor its class says.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Works out what an object's load balancer should be. See the [module](super).
#[must_use]
pub fn resolve(input: &Input<'_>, cluster: &dyn Cluster) -> Resolved {
    let key = addresses::key_of(input.object);
    let mut review = review::review(input);
    let choice = class::choose(cluster, &key.namespace, review.class_wanted.as_deref(), review.class_in_use.as_deref());
    review.whole(choice.problem);
    review.whole(input.address.as_ref().err().cloned());
    review.whole(choice.class.as_deref().and_then(|class| tencent::whole(input.object, class)));

    let all = cluster.pods(&key.namespace);
    let by_uid: BTreeMap<&str, &Arc<Pod>> = all.iter().filter_map(|p| Some((pods::uid(p)?, p))).collect();
    let gate = gate_type(&key.name);
    let work = Work { input, cluster, key: &key, gate: &gate, pods: &all, class: choice.class.as_deref() };
    let Outcome { listeners, keep } = work.listeners(&mut review);

    let accepted = accepted(input, &review, &listeners, &keep);
    let mut desired = Desired {
        object: key.clone(),
        listeners: BTreeMap::new(),
        keep,
        groups: BTreeMap::new(),
        departed: BTreeMap::new(),
        drain_timeout: drain_timeout(input, &review, choice.class.as_deref()),
        deleting: input.object.metadata.deletion_timestamp.is_some(),
        problems: review.problems,
    };
    let mut portless = BTreeSet::new();
    let mut gate_pods = BTreeMap::new();
    for listener in listeners.values() {
        for m in &listener.members {
            let name = m.pod.metadata.name.clone().unwrap_or_default();
            if m.portless {
                portless.insert(name);
            }
            if let Some(pod) = gate_pod(&mut gate_pods, &key, &m.pod) {
                pod.groups.insert(m.group.clone(), m.target.clone());
            }
        }
    }
    for (group, registered) in input.in_force.groups.iter().filter(|(g, _)| desired.keep.contains(&g.listener)) {
        for target in registered.targets.keys() {
            let pod = by_uid.get(target.uid.as_str()).filter(|p| !pods::ended(p));
            if let Some(pod) = pod.and_then(|p| gate_pod(&mut gate_pods, &key, p)) {
                pod.groups.insert(group.clone(), Some(target.clone()));
            }
        }
    }
    for (name, listener) in listeners {
        desired.groups.extend(listener.groups);
        desired.listeners.insert(name, listener.config);
    }
    if desired.deleting {
        // Everything goes, whatever the spec says. The Pods are still named: their gates have to be opened.
        desired.listeners.clear();
        desired.groups.clear();
        desired.keep.clear();
        desired.problems.clear();
        portless.clear();
    }
    desired.departed = departed(&desired, input.in_force, cluster, &by_uid);
    let gated = input.object.spec.readiness_gate == ReadinessGate::Enabled && !desired.deleting;
    let ungated = |p: &&GatePod| {
        let has_gate = by_uid.get(p.uid.as_str()).is_some_and(|pod| pods::has_gate(pod, &gate));
        gated && p.state == TargetState::Serving && !has_gate
    };
    let ungated = gate_pods.values().filter(ungated).map(|p| p.pod.name.clone()).collect();
    Resolved { desired, class: choice.class, class_name: choice.name, gate_pods, ungated, portless, accepted }
}

fn gate_pod<'a>(all: &'a mut BTreeMap<String, GatePod>, object: &ObjectKey, pod: &Pod) -> Option<&'a mut GatePod> {
    let uid = pods::uid(pod)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    Some(all.entry(uid.into()).or_insert_with(|| GatePod {
        pod: ObjectKey::new(&object.namespace, name),
        uid: uid.into(),
        state: pods::state(pod),
        groups: BTreeMap::new(),
    }))
}

fn drain_timeout(input: &Input<'_>, review: &Review, class: Option<&DirectLoadBalancerClass>) -> Duration {
    let of = |spec: &DirectLoadBalancerSpec| spec.drain.as_ref().and_then(|d| d.timeout.get());
    let own =
        if review.drain_is_bad || review.blocked { input.previous_spec.and_then(of) } else { of(&input.object.spec) };
    let default = || class?.spec.defaults.as_ref()?.drain.as_ref()?.timeout.get();
    // The most that the schema allows: a class' default is not checked otherwise.
    own.or_else(default).unwrap_or(DRAIN_TIMEOUT).min(Duration::from_secs(3600))
}

/// The listeners to be, by name, and those that are frozen.
struct Outcome {
    listeners: BTreeMap<String, Listener>,
    keep: BTreeSet<String>,
}

/// A listener that cannot be as the spec says.
enum Fallback {
    /// As accepted before.
    Previous(Box<Listener>),
    /// Frozen.
    Keep,
}

struct Work<'a> {
    input: &'a Input<'a>,
    cluster: &'a dyn Cluster,
    key: &'a ObjectKey,
    gate: &'a str,
    pods: &'a [Arc<Pod>],
    class: Option<&'a DirectLoadBalancerClass>,
}

impl Work<'_> {
    fn context(&self, lenient: bool, address: Option<IpAddr>) -> Context<'_> {
        Context {
            cluster: self.cluster,
            namespace: &self.key.namespace,
            gate: self.gate,
            pods: self.pods,
            class: self.class,
            in_force: self.input.in_force,
            address,
            now: self.input.now,
            lenient,
        }
    }

    /// The address of a listener that goes on as it was (`Some(None)`: the edge nodes' own); `None`: nobody knows.
    fn address_of(&self, listener: &str) -> Option<Option<IpAddr>> {
        match (&self.input.address, self.class) {
            (Ok(address), Some(_)) => Some(*address),
            // Without its class, that the object has no address of its own may mean that its pool is not known.
            _ => self.input.in_force.listeners.get(listener).map(|l| l.address),
        }
    }

    fn listeners(&self, review: &mut Review) -> Outcome {
        let mut good = self.strict(review);
        let mut fallbacks = BTreeMap::new();
        loop {
            for name in self.to_fall_back(review, &good) {
                if !fallbacks.contains_key(&name)
                    && let Some(fallback) = self.fallback(&name)
                {
                    fallbacks.insert(name, fallback);
                }
            }
            // A listener that stays as it was may hold a port that the new spec gives to another.
            let held: BTreeMap<PortKey, &String> =
                fallbacks.iter().filter_map(|(name, f)| Some((self.port_of(name, f)?, name))).collect();
            let clash = good.iter().find_map(|(name, l)| {
                let port = PortKey::new(l.config.port, l.config.protocol);
                Some((name.clone(), port, (*held.get(&port)?).clone()))
            });
            let Some((name, port, holder)) = clash else { break };
            good.remove(&name);
            let index = self.input.object.spec.listeners.iter().position(|l| l.name == name).unwrap_or_default();
            let message = format!(
                "spec.listeners[{index}].port: {port} is still used by listener {holder}, whose new spec is bad and \
                 which stays as it was: correct that listener, or use another port"
            );
            review.listener(&name, Problem { listener: Some(name.clone()), reason: Reason::Invalid, message });
        }
        let mut keep = BTreeSet::new();
        for (name, fallback) in fallbacks {
            match fallback {
                Fallback::Previous(listener) => _ = good.insert(name, *listener),
                Fallback::Keep => _ = keep.insert(name),
            }
        }
        Outcome { listeners: good, keep }
    }

    /// The listeners that are as the spec says.
    fn strict(&self, review: &mut Review) -> BTreeMap<String, Listener> {
        let mut good = BTreeMap::new();
        let spec = &self.input.object.spec;
        let context = self.context(false, self.input.address.as_ref().ok().copied().flatten());
        for (i, l) in spec.listeners.iter().enumerate() {
            if review.blocked || review.is_bad(&l.name) {
                continue;
            }
            if let Some(conflict) = self.input.port_conflicts.get(&l.name) {
                review.listener(&l.name, conflict.clone());
                continue;
            }
            match listener::resolve(&context, spec, i, l) {
                Ok(listener) => {
                    let refused = match self.class.and_then(|c| c.spec.tencent.as_ref()) {
                        Some(_) => tencent::listener(i, l, &listener.config, &listener.groups),
                        None => Vec::new(),
                    };
                    if refused.is_empty() {
                        good.insert(l.name.clone(), listener);
                    }
                    refused.into_iter().for_each(|p| review.listener(&l.name, p));
                }
                Err(problems) => problems.into_iter().for_each(|p| review.listener(&l.name, p)),
            }
        }
        good
    }

    /// The listeners that were accepted or in force before, and shall stay though they are not as the spec says.
    ///
    /// What was accepted counts as in force: a controller that has just started knows of nothing in force, while the
    /// proxies still serve it.
    fn to_fall_back(&self, review: &Review, good: &BTreeMap<String, Listener>) -> Vec<String> {
        let spec = &self.input.object.spec;
        let ports = |s: &DirectLoadBalancerSpec| -> Vec<(String, Option<PortKey>)> {
            let port = |l: &api::Listener| Some(PortKey::new(pods::port_number(l.port)?, l.protocol));
            s.listeners.iter().map(|l| (l.name.clone(), port(l))).collect()
        };
        let mut before: BTreeMap<String, Option<PortKey>> =
            self.input.previous_spec.map(ports).unwrap_or_default().into_iter().collect();
        for (name, l) in &self.input.in_force.listeners {
            before.insert(name.clone(), Some(PortKey::new(l.port, l.protocol)));
        }
        let wanted = ports(spec);
        let in_vain: BTreeSet<PortKey> =
            wanted.iter().filter(|(name, _)| !good.contains_key(name)).filter_map(|(_, port)| *port).collect();
        before.retain(|name, port| {
            let named = wanted.iter().any(|(n, _)| n == name);
            // One renamed, and bad under its new name: clients of the port would lose the old one for nothing.
            review.blocked || (!good.contains_key(name) && (named || port.is_some_and(|p| in_vain.contains(&p))))
        });
        before.into_keys().collect()
    }

    fn fallback(&self, name: &str) -> Option<Fallback> {
        let previous = self.input.previous_spec.and_then(|spec| {
            let index = spec.listeners.iter().position(|l| l.name == name)?;
            // What was accepted once passes; what was made up by hand may not.
            let bad = review::bad_listeners(spec).contains(name);
            let listener = spec.listeners.get(index).filter(|_| !bad)?;
            let context = self.context(true, self.address_of(name)?);
            listener::resolve(&context, spec, index, listener).ok()
        });
        let frozen = || self.input.in_force.listeners.contains_key(name).then_some(Fallback::Keep);
        previous.map(|l| Fallback::Previous(Box::new(l))).or_else(frozen)
    }

    fn port_of(&self, name: &str, fallback: &Fallback) -> Option<PortKey> {
        let config = match fallback {
            Fallback::Previous(l) => &l.config,
            Fallback::Keep => self.input.in_force.listeners.get(name)?,
        };
        Some(PortKey::new(config.port, config.protocol))
    }
}

/// See [`Resolved::accepted`].
fn accepted(
    input: &Input<'_>,
    review: &Review,
    listeners: &BTreeMap<String, Listener>,
    keep: &BTreeSet<String>,
) -> Option<DirectLoadBalancerSpec> {
    let (spec, previous) = (&input.object.spec, input.previous_spec);
    if review.blocked || input.object.metadata.deletion_timestamp.is_some() {
        return previous.cloned();
    }
    let mut out = spec.clone();
    if review.targets_are_bad {
        (out.target, out.targets) = previous.map(|p| (p.target.clone(), p.targets.clone())).unwrap_or_default();
    }
    if review.drain_is_bad {
        out.drain = previous.and_then(|p| p.drain.clone());
    }
    let before = |name: &str| -> Option<api::Listener> {
        let spec_before = previous?;
        let mut l = spec_before.listeners.iter().find(|l| l.name == name)?.clone();
        if l.inherits_targets() && (&spec_before.target, &spec_before.targets) != (&out.target, &out.targets) {
            (l.target, l.targets) = (spec_before.target.clone(), spec_before.targets.clone());
        }
        Some(l)
    };
    let mut seen = BTreeSet::new();
    let named = spec.listeners.iter().filter(|l| seen.insert(l.name.as_str()));
    let named: Vec<_> =
        named.filter_map(|l| if review.is_bad(&l.name) { before(&l.name) } else { Some(l.clone()) }).collect();
    // Those that go on though the spec does not name them any more.
    let going_on = listeners.keys().chain(keep).filter(|name| !seen.contains(name.as_str()));
    let going_on: Vec<_> = going_on.filter_map(|name| before(name)).collect();
    out.listeners = named.into_iter().chain(going_on).collect();
    (previous.is_some() || !out.listeners.is_empty()).then_some(out)
}
