//! What is in force for an object, read from the load balancer alone: for a controller that has just started.
//!
//! The cloud knows a target's Pod (its tag), but neither the group that it was registered for nor what an earlier spec
//! said. Targets of Pods that the object's groups hold go there. Those of other Pods go to a group of their own at the
//! same place, which the listener sends to: so the planner sees that traffic is served by something that is no longer
//! asked for, and keeps it until something else serves.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    diff::{Found, port_of},
    ops::{Listener, Place},
    shape::{self, Frame, Match},
};
use crate::{
    api::Protocol,
    model::{
        AccessLog, Desired, Group, GroupId, Health, HealthCheck, HealthProbe, ListenerConfig, Observed, ObservedGroup,
        ObservedTarget, RouteRule, RouteTable, TargetId, Time, WeightedGroup, short_hash,
    },
};

/// The target of a group whose Pods were registered by an earlier controller for something that is no longer asked for.
const REGISTERED: &str = "registered";

/// What is in force, and the listeners of which only the targets follow the object.
pub(super) fn decode(
    found: &Found,
    desired: &Desired,
    uid: &str,
    address: &str,
    now: Time,
) -> (Observed, BTreeSet<String>) {
    let mut out = Decoder { found, desired, now, in_force: Observed::default() };
    let mut as_found = BTreeSet::new();
    let nothing = BTreeSet::new();
    for (name, listener) in found.of(uid) {
        let wanted = desired.listeners.get(&name.listener);
        let frame = Frame { uid, address, as_found: &nothing };
        let matches: BTreeMap<Match, Vec<WeightedGroup>> = wanted
            .map(|w| shape::routes(w, &desired.listeners, &frame))
            .unwrap_or_default()
            .into_iter()
            .map(|r| (r.at, r.groups))
            .collect();
        let same = wanted.is_some_and(|w| shape::port(w) == port_of(listener) && protocol(listener) == w.protocol);
        if let Some(wanted) = wanted.filter(|_| same) {
            out.like(wanted, listener, &matches, address);
        } else {
            out.as_found(&name.listener, listener, &matches);
            as_found.insert(name.listener);
        }
    }
    (out.in_force, as_found)
}

fn protocol(listener: &Listener) -> Protocol {
    match listener.protocol.as_str() {
        "UDP" => Protocol::UDP,
        "QUIC" => Protocol::QUIC,
        "TCP_SSL" => Protocol::TLS,
        "HTTP" => Protocol::HTTP,
        "HTTPS" => Protocol::HTTPS,
        _ => Protocol::TCP,
    }
}

/// The places of a listener.
fn places(listener: &Listener) -> Vec<(Match, Place)> {
    let place = |location| Place { listener: listener.id.clone(), location };
    if matches!(listener.protocol.as_str(), "HTTP" | "HTTPS") {
        let rules = listener.rules.iter();
        rules.map(|r| ((r.domain.clone(), r.url.clone()), place(Some(r.id.clone())))).collect()
    } else {
        vec![(Match::default(), place(None))]
    }
}

struct Decoder<'a> {
    found: &'a Found,
    desired: &'a Desired,
    now: Time,
    in_force: Observed,
}

impl Decoder<'_> {
    /// A listener that the object still asks for, at the same port.
    fn like(
        &mut self,
        wanted: &ListenerConfig,
        listener: &Listener,
        matches: &BTreeMap<Match, Vec<WeightedGroup>>,
        address: &str,
    ) {
        let mut config = wanted.clone();
        for g in wanted.routes.groups() {
            self.group(&g.group, None);
        }
        for (m, place) in places(listener) {
            let groups = matches.get(&m).cloned().unwrap_or_default();
            let rule = match groups.first() {
                Some(g) => g.group.rule.clone(),
                None if m == Match::default() => None,
                None => Some(rule_id(&m)),
            };
            let left = self.bind(&wanted.name, rule.as_ref(), &groups, &place);
            if let Some(left) = left {
                let left = vec![WeightedGroup { group: left, weight: 1 }];
                if groups.is_empty() && rule.is_some() {
                    let host = if m.0 == address { "*".to_owned() } else { m.0 };
                    let exact = m.1.starts_with('=');
                    let path = m.1.trim_start_matches('=').to_owned();
                    serve(&mut config.routes, RouteRule { host, path, exact, groups: left, redirect: None });
                } else if let Some(r) =
                    config.routes.rules.iter_mut().find(|r| r.groups.first().is_some_and(|g| g.group.rule == rule))
                {
                    r.groups = left;
                } else {
                    config.routes.default = left;
                }
            }
        }
        config.routes.sort();
        self.in_force.listeners.insert(config.name.clone(), config);
    }

    /// Another one: it is described as it is.
    fn as_found(&mut self, name: &str, listener: &Listener, matches: &BTreeMap<Match, Vec<WeightedGroup>>) {
        let mut routes = RouteTable::default();
        for (m, place) in places(listener) {
            let groups = matches.get(&m).cloned().unwrap_or_default();
            let rule = match groups.first() {
                Some(g) => g.group.rule.clone(),
                None => (m != Match::default()).then(|| rule_id(&m)),
            };
            let left = self.bind(name, rule.as_ref(), &groups, &place);
            let mut all: Vec<WeightedGroup> = groups;
            all.retain(|g| self.in_force.groups.contains_key(&g.group));
            all.extend(left.map(|group| WeightedGroup { group, weight: 1 }));
            if m == Match::default() {
                routes.default = all;
            } else {
                routes.rules.push(RouteRule { host: m.0, path: m.1, exact: false, groups: all, redirect: None });
            }
        }
        let config = ListenerConfig {
            name: name.into(),
            protocol: protocol(listener),
            address: None,
            port: listener.port,
            tls: None,
            routes,
            affinity: None,
            access_log: AccessLog::Off,
        };
        self.in_force.listeners.insert(name.into(), config);
    }

    /// Puts the targets of a place into their groups; the group of those that nobody asks for, if there are any.
    fn bind(
        &mut self,
        listener: &str,
        rule: Option<&String>,
        groups: &[WeightedGroup],
        place: &Place,
    ) -> Option<GroupId> {
        let found = self.found;
        let mut left = None;
        for (binding, bound) in found.bound(place) {
            let uid = bound.tag.clone().unwrap_or_default();
            let target = TargetId { uid, ip: binding.ip, port: binding.port };
            let wanted = groups.iter().find_map(|g| {
                let group = self.desired.groups.get(&g.group)?;
                Some((g, group.targets.get(&target)?))
            });
            let (group, pod, share) = match wanted {
                Some((g, want)) => (g.group.clone(), want.pod.clone(), g.weight > 0),
                None => {
                    let id = GroupId { listener: listener.into(), rule: rule.cloned(), target: REGISTERED.into() };
                    left = Some(id.clone());
                    (id, target.uid.clone(), true)
                }
            };
            let draining_since = (bound.weight == 0 && share).then_some(self.now);
            let like = groups.first().map(|g| g.group.clone());
            self.group(&group, like.as_ref()).targets.insert(
                target,
                ObservedTarget {
                    pod,
                    draining_since,
                    health_port: None,
                    health: Health::Unknown,
                    answering: false,
                    healthy_since: None,
                    active: None,
                },
            );
        }
        left
    }

    /// A group, made if it is not there, with the configuration that is desired for it or for the one that is `like` it.
    fn group(&mut self, id: &GroupId, like: Option<&GroupId>) -> &mut ObservedGroup {
        let desired = self.desired;
        self.in_force.groups.entry(id.clone()).or_insert_with(|| {
            let known = desired.groups.get(id).or_else(|| desired.groups.get(like?));
            let config = known.map_or_else(unknown, Group::config);
            ObservedGroup { config, targets: BTreeMap::new() }
        })
    }
}

/// Lets a rule serve that was read from the cloud, in the place of a redirect that is asked for instead of it.
fn serve(routes: &mut RouteTable, rule: RouteRule) {
    let same = |r: &&mut RouteRule| (&r.host, &r.path, r.exact) == (&rule.host, &rule.path, rule.exact);
    if let Some(there) = routes.rules.iter_mut().find(same) {
        *there = rule;
    } else if routes.redirect.is_some() && (rule.host.as_str(), rule.path.as_str(), rule.exact) == ("*", "/", false) {
        routes.redirect = None;
        routes.default = rule.groups;
    } else {
        routes.rules.push(rule);
    }
}

fn rule_id((domain, url): &Match) -> String {
    short_hash(&format!("{domain}{url}"))[..8].into()
}

/// A group of which nothing is known but its targets.
fn unknown() -> Group {
    Group {
        protocol: Protocol::TCP,
        target_protocol: Default::default(),
        scheduler: Default::default(),
        affinity: None,
        health_check: HealthCheck {
            probe: HealthProbe::Tcp,
            port: None,
            interval: std::time::Duration::from_secs(3),
            timeout: std::time::Duration::from_secs(2),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
        },
        slow_start: None,
        proxy_protocol: None,
        targets: BTreeMap::new(),
        replicas: None,
    }
}
