//! What a load balancer should have of one object, as CLB's API puts it: listeners by port, rules by domain and path,
//! targets by address and port.
//!
//! Two things differ from how an object says it:
//! - CLB looks for a domain first, and then for a path of that domain alone: so each domain gets the rules of every wider
//!   host, and the listener's default as its path `/`. What no domain matches goes to the default domain, which is named
//!   by the load balancer's address, as TKE does.
//! - CLB knows no groups: the targets of all groups of a rule share a list, and a group's share is spread over its
//!   targets' weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    names,
    ops::{Certificate, HealthCheck, ListenerSettings, NewRule},
};
use crate::{
    api::{Protocol, Scheduler, TargetProtocol},
    model::{
        Affinity, Group, GroupId, HealthCheck as Check, HealthProbe, ListenerConfig, Observed, Redirect, RouteRule,
        RouteTable, Tls, WeightedGroup,
    },
};

/// The greatest weight of a target.
const FULL: u32 = 100;
/// Every answer passes: 1xx to 5xx.
const ANY_ANSWER: i64 = 31;
/// 2xx passes.
const SUCCESS: i64 = 2;

/// A port, and whether it is one of UDP.
pub(super) type Port = (u16, bool);
/// A rule's domain and path; of layer 4: both empty.
pub(super) type Match = (String, String);
/// A target's address and port.
pub(super) type Address = (IpAddr, u16);

/// Everything that should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// `None`: as they are found.
    pub(super) security_groups: Option<BTreeSet<String>>,
    /// `None`: as it is found.
    pub(super) pass_to_target: Option<bool>,
    pub(super) listeners: BTreeMap<Port, ListenerShape>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListenerShape {
    /// Its name in the object.
    pub(super) listener: String,
    /// Its name in the cloud; `None`: name, settings and rules are left as they are found.
    pub(super) config: Option<ListenerTarget>,
    /// Of layer 4: one, without domain and path.
    pub(super) rules: BTreeMap<Match, RuleShape>,
}

/// What a listener should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListenerTarget {
    pub(super) name: String,
    pub(super) settings: ListenerSettings,
    /// Of layer 7.
    pub(super) default_domain: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleShape {
    /// `None`: of layer 4, or left as it is found.
    pub(super) settings: Option<NewRule>,
    /// Where its clients are sent.
    pub(super) redirect: Option<RedirectShape>,
    pub(super) targets: BTreeMap<Address, TargetShape>,
}

/// Where a rule's clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedirectShape {
    /// The other listener's port.
    pub(super) port: Port,
    /// The rule there; the path is kept all the same.
    pub(super) to: Match,
    pub(super) code: u16,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetShape {
    /// The Pod's UID.
    pub(super) uid: String,
    /// 0 to 100.
    pub(super) weight: u8,
}

/// Where the targets of a listener's default (`None`) or of a rule are bound: once, or once for each domain.
pub(super) type Places = BTreeMap<(String, Option<String>), BTreeSet<(Port, Match)>>;

/// What [`shape`] needs to know besides what is in force.
pub(super) struct Frame<'a> {
    /// The object's UID.
    pub(super) uid: &'a str,
    /// The load balancer's address.
    pub(super) address: &'a str,
    /// Listeners of which only the targets follow the object.
    pub(super) as_found: &'a BTreeSet<String>,
}

pub(super) fn port(config: &ListenerConfig) -> Port {
    (config.port, config.protocol.over_udp())
}

/// Whether a listener of this protocol, as the API names it, is of UDP.
pub(super) fn is_udp(protocol: &str) -> bool {
    matches!(protocol, "UDP" | "QUIC")
}

/// A rule that CLB needs.
pub(super) struct Route {
    pub(super) at: Match,
    /// Whose targets it gets.
    pub(super) groups: Vec<WeightedGroup>,
    /// Where its clients are sent instead.
    redirect: Option<RedirectShape>,
}

fn hosts(config: &ListenerConfig) -> BTreeSet<&str> {
    config.routes.rules.iter().map(|r| r.host.as_str()).chain(["*"]).collect()
}

fn domain<'a>(host: &'a str, frame: &Frame<'a>) -> &'a str {
    if host == "*" { frame.address } else { host }
}

/// The rules that CLB needs for a listener, one of `all`.
pub(super) fn routes(config: &ListenerConfig, all: &BTreeMap<String, ListenerConfig>, frame: &Frame<'_>) -> Vec<Route> {
    let RouteTable { rules, default, redirect } = &config.routes;
    if !config.protocol.is_http() {
        return vec![Route { at: Match::default(), groups: default.clone(), redirect: None }];
    }
    if frame.as_found.contains(&config.name) {
        // The rules were read from the cloud, and stand as they are.
        let route =
            |r: &RouteRule| Route { at: (r.host.clone(), r.path.clone()), groups: r.groups.clone(), redirect: None };
        return rules.iter().map(route).collect();
    }
    let mut all_hosts = hosts(config);
    for to in config.routes.redirects().filter_map(|r| all.get(&r.listener)) {
        // CLB sends a client to the domain of the rule that it is sent to: so each domain there has a rule here.
        let led = |host: &&str| redirect.is_some() || rules.iter().any(|r| r.redirect.is_some() && r.covers(host));
        all_hosts.extend(hosts(to).into_iter().filter(led));
    }
    let mut out = Vec::new();
    for host in all_hosts {
        let domain = domain(host, frame);
        let lead = |r: &Redirect| {
            let to = all.get(&r.listener)?;
            let at = if hosts(to).contains(host) { domain } else { frame.address };
            Some(RedirectShape { port: port(to), to: (at.to_owned(), "/".to_owned()), code: r.status })
        };
        let mut seen = BTreeSet::new();
        for rule in rules.iter().filter(|r| r.covers(host)) {
            let url = if rule.exact { format!("={}", rule.path) } else { rule.path.clone() };
            // The most specific rule comes first.
            if seen.insert(url.clone()) {
                let redirect = rule.redirect.as_ref().and_then(lead);
                out.push(Route { at: (domain.to_owned(), url), groups: rule.groups.clone(), redirect });
            }
        }
        if seen.insert("/".into()) {
            let redirect = redirect.as_ref().and_then(lead);
            out.push(Route { at: (domain.to_owned(), "/".to_owned()), groups: default.clone(), redirect });
        }
    }
    out
}

/// Where each listener's default and rules are.
pub(super) fn places(in_force: &Observed, frame: &Frame<'_>) -> Places {
    let mut places = Places::new();
    for config in in_force.listeners.values() {
        for route in routes(config, &in_force.listeners, frame) {
            for g in route.groups {
                let id = (config.name.clone(), g.group.rule.clone());
                places.entry(id).or_default().insert((port(config), route.at.clone()));
            }
        }
    }
    places
}

/// What the load balancer should have, given what is in force for the object.
pub(super) fn shape(in_force: &Observed, frame: &Frame<'_>) -> Shape {
    let mut shape = Shape::default();
    for config in in_force.listeners.values() {
        let as_found = frame.as_found.contains(&config.name);
        let mut rules: BTreeMap<Match, RuleShape> = BTreeMap::new();
        for Route { at, groups, redirect } in routes(config, &in_force.listeners, frame) {
            let some = some_group(config, &groups, in_force);
            let settings = (config.protocol.is_http() && !as_found).then(|| rule_settings(&at, config, some));
            let targets = targets(config, &groups, in_force);
            rules.insert(at, RuleShape { settings, redirect, targets });
        }
        let default_domain = config.protocol.is_http().then(|| frame.address.to_owned());
        let target = (!as_found).then(|| {
            let (settings, certificate) =
                listener_settings(config, some_group(config, &config.routes.default, in_force));
            let name = names::ListenerName::new(&config.name, frame.uid, certificate.as_deref()).to_string();
            ListenerTarget { name, settings, default_domain }
        });
        shape.listeners.insert(port(config), ListenerShape { listener: config.name.clone(), config: target, rules });
    }
    shape
}

/// The group whose health check and scheduler a rule gets: CLB has them for the rule as a whole.
fn some_group<'a>(config: &ListenerConfig, groups: &[WeightedGroup], in_force: &'a Observed) -> Option<&'a Group> {
    let mut all = groups.iter().filter_map(|g| in_force.groups.get(&g.group));
    let of_listener = || in_force.groups.iter().find(|(id, _)| id.listener == config.name).map(|(_, g)| g);
    all.next().or_else(of_listener).map(|g| &g.config)
}

/// The targets at a place: those of the groups that it sends to, and those of other groups of the same rule that are on
/// their way in or out.
fn targets(config: &ListenerConfig, groups: &[WeightedGroup], in_force: &Observed) -> BTreeMap<Address, TargetShape> {
    let Some(rule) = groups.first().map(|g| &g.group.rule) else { return BTreeMap::new() };
    let at = |id: &GroupId| id.listener == config.name && id.rule == *rule;
    let shares = shares(groups, in_force);
    let mut out: BTreeMap<Address, TargetShape> = BTreeMap::new();
    for (id, group) in in_force.groups.iter().filter(|(id, _)| at(id)) {
        let share = shares.get(id).copied().unwrap_or(FULL as u8);
        for (target, have) in &group.targets {
            let weight = if have.draining_since.is_some() { 0 } else { share };
            let new = TargetShape { uid: target.uid.clone(), weight };
            let better = out.get(&(target.ip, target.port)).is_none_or(|old| old.weight < weight);
            if better {
                out.insert((target.ip, target.port), new);
            }
        }
    }
    out
}

/// The weight of each target of a group, so that the groups get the shares that they should.
fn shares(groups: &[WeightedGroup], in_force: &Observed) -> BTreeMap<GroupId, u8> {
    let active = |id: &GroupId| {
        let group = in_force.groups.get(id);
        group.map_or(0, |g| g.targets.values().filter(|t| t.draining_since.is_none()).count())
    };
    let each: Vec<(&GroupId, f64)> = groups
        .iter()
        .map(|g| {
            (&g.group, f64::from(g.weight) / f64::from(u32::try_from(active(&g.group).max(1)).unwrap_or(u32::MAX)))
        })
        .collect();
    let most = each.iter().map(|(_, w)| *w).fold(0.0, f64::max);
    each.into_iter()
        .map(|(id, w)| {
            let scaled = if w <= 0.0 { 0.0 } else { (w / most * f64::from(FULL)).round().clamp(1.0, f64::from(FULL)) };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // From 0 to 100.
            (id.clone(), scaled as u8)
        })
        .collect()
}

/// Whether a target of this group is meant to get traffic: one of a group with weight 0 is not, and healthy all the same.
pub(super) fn has_share(config: &ListenerConfig, group: &GroupId) -> bool {
    config.routes.groups().find(|g| g.group == *group).is_none_or(|g| g.weight > 0)
}

/// Whether CLB passes the listener's bytes on as they are.
fn layer4(config: &ListenerConfig) -> bool {
    matches!(config.protocol, Protocol::TCP | Protocol::UDP | Protocol::TLS)
        && matches!(config.tls, None | Some(Tls::Passthrough))
}

fn listener_settings(config: &ListenerConfig, group: Option<&Group>) -> (ListenerSettings, Option<String>) {
    let ended = !matches!(config.tls, None | Some(Tls::Passthrough));
    let protocol = match config.protocol {
        Protocol::TCP | Protocol::TLS if ended => "TCP_SSL",
        Protocol::TCP | Protocol::TLS => "TCP",
        Protocol::UDP => "UDP",
        Protocol::HTTP => "HTTP",
        Protocol::HTTPS => "HTTPS",
        Protocol::QUIC => "QUIC",
    };
    let (certificate, hash) = certificate(config.tls.as_ref()).unzip();
    let layer4 = layer4(config);
    let rules = matches!(protocol, "HTTP" | "HTTPS");
    let settings = ListenerSettings {
        protocol: protocol.into(),
        health_check: group.filter(|_| !rules).map(|g| health_check(&g.health_check, config, g)),
        scheduler: group.filter(|_| !rules).map(|g| scheduler(g.scheduler).into()),
        session_expire_time: layer4.then(|| if config.affinity.is_some() { SESSION } else { 0 }),
        // What is left when a drain ends is told so, instead of being left hanging on a Pod that is gone.
        deregister_target_rst: layer4.then_some(true),
        certificate,
    };
    (settings, hash)
}

/// A listener's certificate, and what stands for it in the listener's name.
fn certificate(tls: Option<&Tls>) -> Option<(Certificate, String)> {
    const ONE_WAY: &str = "UNIDIRECTIONAL";
    match tls? {
        Tls::Passthrough => None,
        Tls::Stored(id) => {
            let certificate = Certificate { mode: ONE_WAY, id: Some(id.clone()), ..Certificate::default() };
            Some((certificate, names::certificate("id", id)))
        }
        Tls::Terminate(all) => {
            let first = all.first()?;
            let hash = names::certificate(&first.chain_pem, &first.key_pem);
            let certificate = Certificate {
                mode: ONE_WAY,
                id: None,
                name: Some(format!("directlb-{hash}")),
                chain_pem: Some(first.chain_pem.clone()),
                key_pem: Some(first.key_pem.clone()),
            };
            Some((certificate, hash))
        }
    }
}

/// How long a client is remembered by its address where the object does not say: the most that layer 4 takes, in seconds.
const SESSION: i64 = 3600;
/// The same for cookies without a lifetime: a day.
const COOKIE: i64 = 86400;

fn rule_settings((domain, url): &Match, config: &ListenerConfig, group: Option<&Group>) -> NewRule {
    let session = match &config.affinity {
        Some(Affinity::Cookie { ttl, .. }) => ttl.map_or(COOKIE, |t| i64::try_from(t.as_secs()).unwrap_or(COOKIE)),
        _ => 0,
    };
    let forward = match (config.protocol, group.map(|g| g.target_protocol)) {
        (Protocol::HTTPS, Some(TargetProtocol::HTTP2)) => "GRPC",
        _ => "HTTP",
    };
    NewRule {
        domain: domain.clone(),
        url: url.clone(),
        health_check: group.map(|g| health_check(&g.health_check, config, g)),
        scheduler: group.map(|g| scheduler(g.scheduler).into()),
        session_expire_time: Some(session),
        forward_type: Some(forward.into()),
        cookie_name: None,
        default_server: None,
    }
}

const fn scheduler(scheduler: Scheduler) -> &'static str {
    match scheduler {
        Scheduler::RoundRobin => "WRR",
        Scheduler::LeastRequest => "LEAST_CONN",
        Scheduler::SourceHash => "IP_HASH",
    }
}

fn health_check(check: &Check, config: &ListenerConfig, group: &Group) -> HealthCheck {
    if check.probe == HealthProbe::None {
        return HealthCheck { health_switch: Some(0), ..HealthCheck::default() };
    }
    let seconds = |d: std::time::Duration| i64::try_from(d.as_secs()).ok();
    let layer7 = config.protocol.is_http();
    let common = HealthCheck {
        health_switch: Some(1),
        time_out: seconds(check.timeout),
        interval_time: seconds(check.interval),
        health_num: Some(i64::from(check.healthy_threshold)),
        un_health_num: Some(i64::from(check.unhealthy_threshold)),
        check_port: layer4(config).then(|| check.port.map_or(-1, i64::from)),
        ..HealthCheck::default()
    };
    match &check.probe {
        // A rule is not checked by TCP: any answer to a request says as much.
        HealthProbe::Tcp if layer7 && group.target_protocol == TargetProtocol::HTTP1 => HealthCheck {
            check_type: Some("HTTP".into()),
            http_code: Some(ANY_ANSWER),
            http_check_path: Some("/".into()),
            http_check_method: Some("HEAD".into()),
            ..common
        },
        HealthProbe::Grpc { .. } => HealthCheck { check_type: Some("GRPC".into()), ..common },
        HealthProbe::Tcp if layer7 => HealthCheck { check_type: Some("GRPC".into()), ..common },
        HealthProbe::Tcp | HealthProbe::None => HealthCheck { check_type: Some("TCP".into()), ..common },
        HealthProbe::Http { path, host } => HealthCheck {
            check_type: Some("HTTP".into()),
            http_code: Some(SUCCESS),
            http_check_path: Some(path.clone()),
            http_check_domain: if layer7 {
                host.clone()
            } else {
                Some(host.clone().unwrap_or_else(|| "directlb".into()))
            },
            http_check_method: Some("GET".into()),
            http_version: (config.protocol == Protocol::TCP).then(|| "HTTP/1.1".into()),
            ..common
        },
    }
}
