//! One listener: its configuration, its groups, and their Pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{
    Cluster, certificate,
    health::{self, Check},
    pods,
    routes::rule_id,
    select::{self, Port},
};
use crate::{
    api::{
        self, AffinityKind, DirectLoadBalancerClass, DirectLoadBalancerSpec, HealthCheckSpec, Listener, PathType,
        PortRef, Protocol, Reason, Target, TlsMode, WeightedTarget,
    },
    model::{
        AccessLog, Affinity, DesiredTarget, Group, GroupId, ListenerConfig, Observed, Problem, Redirect, RouteRule,
        RouteTable, TargetId, Time, Tls, WeightedGroup,
    },
};

/// Health checks go over TCP, whatever the listener speaks.
const HEALTH_OVER_UDP: bool = false;

/// What a listener is resolved against.
pub(super) struct Context<'a> {
    pub(super) cluster: &'a dyn Cluster,
    pub(super) namespace: &'a str,
    /// The object's gate.
    pub(super) gate: &'a str,
    /// The Pods of the namespace.
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) class: Option<&'a DirectLoadBalancerClass>,
    pub(super) in_force: &'a Observed,
    pub(super) address: Option<IpAddr>,
    pub(super) now: Time,
    /// The listener is in force and shall go on: what cannot be found any more is taken from what is in force.
    pub(super) lenient: bool,
}

/// A resolved listener.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) config: ListenerConfig,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Every Pod of every group.
    pub(super) members: Vec<Member>,
}

/// A Pod of a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) group: GroupId,
    pub(super) pod: Arc<Pod>,
    /// `None`: it cannot be registered.
    pub(super) target: Option<TargetId>,
    /// Because it lacks a named port that others have.
    pub(super) portless: bool,
}

/// The targets of a listener or rule.
struct Targets<'a> {
    /// The field, and which Pods at what weight.
    list: Vec<(String, &'a Target, u32)>,
    /// The field of the port.
    port_field: String,
    port: Option<&'a PortRef>,
    /// The field of the health check.
    health_field: String,
    health: Option<&'a HealthCheckSpec>,
}

/// Resolves the `index`th listener of `spec`.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn resolve(
    ctx: &Context<'_>,
    spec: &DirectLoadBalancerSpec,
    index: usize,
    listener: &Listener,
) -> Result<Resolved, Vec<Problem>> {
    let mut builder = Builder {
        ctx,
        listener,
        affinity: affinity(listener),
        groups: BTreeMap::new(),
        members: Vec::new(),
        problems: Vec::new(),
    };
    let at = format!("spec.listeners[{index}]");
    let Some(port) = pods::port_number(listener.port) else {
        builder.refuse(
            Reason::Invalid,
            &format!("{at}.port"),
            &format!("{} is no port: use 1 to 65535", listener.port),
        );
        return Err(builder.problems);
    };
    if listener.protocol == Protocol::QUIC && ctx.class.is_some_and(|c| c.spec.tencent.is_none()) {
        let text = "QUIC needs a class of Tencent: use HTTPS, TLS or UDP";
        builder.refuse(Reason::Invalid, &format!("{at}.protocol"), text);
    }
    let tls = builder.tls(&at);
    let list = if listener.inherits_targets() {
        given("spec", spec.target.as_ref(), spec.targets.as_deref())
    } else {
        given(&at, listener.target.as_ref(), listener.targets.as_deref())
    };
    let default = builder.targets(
        port,
        None,
        &Targets {
            list,
            port_field: format!("{at}.targetPort"),
            port: listener.target_port.as_ref(),
            health_field: format!("{at}.healthCheck"),
            health: listener.health_check.as_ref(),
        },
    );
    let mut rules = Vec::new();
    for (i, rule) in listener.rules.iter().flatten().enumerate() {
        let at = format!("{at}.rules[{i}]");
        let port_at = if rule.target_port.is_some() { &at } else { &format!("spec.listeners[{index}]") };
        let health_at = if rule.health_check.is_some() { &at } else { &format!("spec.listeners[{index}]") };
        let groups = builder.targets(
            port,
            Some(rule_id(rule)),
            &Targets {
                list: given(&at, rule.target.as_ref(), rule.targets.as_deref()),
                port_field: format!("{port_at}.targetPort"),
                port: rule.target_port.as_ref().or(listener.target_port.as_ref()),
                health_field: format!("{health_at}.healthCheck"),
                health: rule.health_check.as_ref().or(listener.health_check.as_ref()),
            },
        );
        let exact = rule.path_type == PathType::Exact;
        let redirect = rule.redirect.as_ref().and_then(|r| redirect(spec, r));
        rules.push(RouteRule { host: rule.host.clone(), path: rule.path.clone(), exact, groups, redirect });
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    let config = ListenerConfig {
        name: listener.name.clone(),
        protocol: listener.protocol,
        address: ctx.address,
        port,
        tls,
        routes: RouteTable {
            redirect: listener.redirect.as_ref().and_then(|r| redirect(spec, r)),
            ..RouteTable::new(rules, default)
        },
        affinity: builder.affinity,
        access_log: if listener.access_log { AccessLog::Stdout } else { AccessLog::Off },
    };
    Ok(Resolved { config, groups: builder.groups, members: builder.members })
}

/// What a redirect leads to; validation has seen that it is there.
fn redirect(spec: &DirectLoadBalancerSpec, redirect: &api::Redirect) -> Option<Redirect> {
    let to = spec.listeners.iter().find(|l| l.name == redirect.listener)?;
    Some(Redirect {
        listener: to.name.clone(),
        port: pods::port_number(to.port)?,
        https: to.protocol == Protocol::HTTPS,
        status: u16::try_from(redirect.status_code).ok()?,
    })
}

fn affinity(listener: &Listener) -> Option<Affinity> {
    let a = listener.session_affinity.as_ref()?;
    Some(match a.kind {
        AffinityKind::SourceAddress => Affinity::SourceAddress,
        AffinityKind::Cookie => Affinity::Cookie {
            name: a.cookie_name.clone().unwrap_or_else(|| "directlb".into()),
            ttl: a.ttl.as_ref().and_then(|t| t.get()),
        },
    })
}

fn given<'a>(at: &str, one: Option<&'a Target>, many: Option<&'a [WeightedTarget]>) -> Vec<(String, &'a Target, u32)> {
    let one = one.map(|t| (format!("{at}.target"), t, 1));
    let many = many.unwrap_or_default().iter().enumerate();
    let many =
        many.map(|(i, t)| (format!("{at}.targets[{i}]"), &t.target, u32::try_from(t.weight).unwrap_or_default()));
    one.into_iter().chain(many).collect()
}

struct Builder<'a> {
    ctx: &'a Context<'a>,
    listener: &'a Listener,
    affinity: Option<Affinity>,
    groups: BTreeMap<GroupId, Group>,
    members: Vec<Member>,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn refuse(&mut self, reason: Reason, field: &str, message: &str) {
        let listener = Some(self.listener.name.clone());
        self.problems.push(Problem { listener, reason, message: format!("{field}: {message}") });
    }

    fn udp(&self) -> bool {
        self.listener.protocol == Protocol::UDP
    }

    fn tls(&mut self, at: &str) -> Option<Tls> {
        let spec = self.listener.tls.as_ref()?;
        if spec.mode == TlsMode::Passthrough {
            return Some(Tls::Passthrough);
        }
        if let Some(id) = &spec.certificate_id {
            if self.ctx.class.is_some_and(|c| c.spec.tencent.is_none()) {
                let text = format!("\"{id}\" is a cloud's, and the class is no cloud's: use secretNames");
                self.refuse(Reason::Invalid, &format!("{at}.tls.certificateId"), &text);
            }
            return Some(Tls::Stored(id.clone()));
        }
        let (ctx, before) = (self.ctx, self.problems.len());
        let (mut certificates, mut unusable) = (Vec::new(), false);
        for (i, name) in spec.secret_names.iter().flatten().enumerate() {
            let field = format!("{at}.tls.secretNames[{i}]");
            let Some(secret) = ctx.cluster.tls_secret(ctx.namespace, name) else {
                let message = format!(
                    "\"{name}\" is no Secret of type kubernetes.io/tls in namespace {}: name one of that namespace",
                    ctx.namespace
                );
                self.refuse(Reason::ReferenceNotFound, &field, &message);
                unusable = true;
                continue;
            };
            match certificate::certificate(name, &secret, ctx.now) {
                Ok(certificate) => certificates.push(certificate),
                Err(fault) => {
                    let message = format!("Secret \"{name}\": {}", fault.message);
                    self.refuse(Reason::InvalidCertificate, &field, &message);
                    unusable |= fault.outdated.is_none();
                    certificates.extend(fault.outdated);
                }
            }
        }
        if ctx.lenient && self.problems.len() > before {
            // What is in force stays, also when it has expired or its Secret is gone. A controller that has just
            // started knows of nothing in force: then the Secret's certificate is it, even if it has expired.
            let in_force = ctx.in_force.listeners.get(&self.listener.name).and_then(|l| l.tls.as_ref());
            let in_force = in_force.filter(|tls| matches!(tls, Tls::Terminate(_)));
            if in_force.is_some() || !unusable {
                self.problems.truncate(before);
            }
            if in_force.is_some() {
                return in_force.cloned();
            }
        }
        Some(Tls::Terminate(certificates))
    }

    /// Makes the groups of a listener's default (`rule` is `None`) or of a rule.
    fn targets(&mut self, listen: u16, rule: Option<String>, targets: &Targets<'_>) -> Vec<WeightedGroup> {
        let mut out: Vec<WeightedGroup> = Vec::new();
        for (field, target, weight) in &targets.list {
            let group = GroupId {
                listener: self.listener.name.clone(),
                rule: rule.clone(),
                target: select::target_name(target),
            };
            // The same Pods twice in one list: one group with both shares.
            if let Some(same) = out.iter_mut().find(|w| w.group == group) {
                same.weight = same.weight.saturating_add(*weight);
                continue;
            }
            self.group(listen, &group, field, target, targets);
            out.push(WeightedGroup { group, weight: *weight });
        }
        out
    }

    fn group(&mut self, listen: u16, id: &GroupId, field: &str, target: &Target, targets: &Targets<'_>) {
        let (ctx, udp) = (self.ctx, self.udp());
        let registered = ctx.in_force.groups.get(id).filter(|_| ctx.lenient);
        let mut selected = match select::select(ctx.cluster, ctx.namespace, ctx.pods, target, ctx.lenient) {
            Ok(selected) => Some(selected),
            Err(refusal) if registered.is_none() => {
                return self.refuse(refusal.reason, &format!("{field}.{}", refusal.field), &refusal.message);
            }
            Err(_) => None,
        };
        let service = selected.as_ref().and_then(|s| s.service.as_deref());
        let port = match select::port(targets.port, listen, udp, service) {
            Ok(port) if selected.is_some() => port,
            Err((reason, message)) if registered.is_none() => {
                return self.refuse(reason, &targets.port_field, &message);
            }
            // Nobody says any more which Pods, or which of their ports: those that are registered go on.
            _ => {
                let ports: BTreeMap<String, u16> =
                    registered.iter().flat_map(|g| g.targets.keys()).map(|t| (t.uid.clone(), t.port)).collect();
                let is_registered = |p: &Pod| !pods::ended(p) && pods::uid(p).is_some_and(|u| ports.contains_key(u));
                let pods = ctx.pods.iter().filter(|p| is_registered(p)).cloned().collect();
                selected = Some(select::Selection { pods, replicas: None, service: None, what: String::new() });
                Port::AsRegistered(ports)
            }
        };
        let Some(selected) = selected else { return };
        let check = match health::health_check(targets.health, ctx.class, self.listener.protocol) {
            // Without its class, the class' default is unknown: what is in force is the best guess.
            Ok(_) if targets.health.is_none() && ctx.class.is_none() && registered.is_some() => None,
            Ok(check) => Some(check),
            Err(_) if registered.is_some() => None,
            Err(message) => return self.refuse(Reason::Invalid, &targets.health_field, &message),
        };
        let check =
            check.or_else(|| registered.map(|g| Check { check: g.config.health_check.clone(), port_name: None }));
        let Some(check) = check else { return };
        if !ctx.lenient {
            let named = |p: &Port| if let Port::Named(name) = p { Some(name.clone()) } else { None };
            let wanted = [
                (named(&port), targets.port_field.clone(), udp),
                (check.port_name.clone(), format!("{}.port", targets.health_field), HEALTH_OVER_UDP),
            ];
            for (name, field, udp) in wanted {
                let Some(name) = name else { continue };
                self.need_port(&name, &field, udp, &selected);
            }
        }
        self.fill(id, &selected, &port, check);
    }

    /// A named port must exist on some Pod, as long as there are Pods.
    fn need_port(&mut self, name: &str, field: &str, udp: bool, selected: &select::Selection) {
        let pods = &selected.pods;
        if pods.is_empty() || pods.iter().any(|p| pods::named_port(p, name, udp).is_some()) {
            return;
        }
        let transport = if udp { "UDP" } else { "TCP" };
        let message = format!(
            "\"{name}\" is the name of no {transport} port of the Pods of {} (their named ones: {}): use the name of a \
             container port, or a number from 1 to 65535",
            selected.what,
            select::port_names(pods, udp)
        );
        self.refuse(Reason::PortNotFound, field, &message);
    }

    fn fill(&mut self, id: &GroupId, selected: &select::Selection, port: &Port, check: Check) {
        let udp = self.udp();
        let mut targets = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for pod in &selected.pods {
            let Some(uid) = pods::uid(pod).filter(|uid| seen.insert(uid.to_string())) else { continue };
            let number = port.of(pod, udp);
            let health_port = check.port_name.as_ref().map(|name| pods::named_port(pod, name, HEALTH_OVER_UDP));
            let portless = number.is_none() || health_port == Some(None);
            // A cloud's load balancer is in the cloud's network.
            let tencent = self.ctx.class.is_some_and(|c| c.spec.tencent.is_some());
            let address = pods::addresses_of(pod, tencent).first().copied();
            let target = match (number, address) {
                (Some(port), Some(ip)) if !portless => {
                    let target = TargetId { uid: uid.into(), ip, port };
                    let desired = DesiredTarget {
                        pod: pod.name_any(),
                        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
                        state: pods::state(pod),
                        gate_open: pods::gate_open(pod, self.ctx.gate),
                        health_port: health_port.flatten().filter(|p| *p != port),
                    };
                    targets.insert(target.clone(), desired);
                    Some(target)
                }
                _ => None,
            };
            self.members.push(Member { group: id.clone(), pod: pod.clone(), target, portless });
        }
        let l = self.listener;
        let group = Group {
            protocol: l.protocol,
            target_protocol: l.target_protocol,
            scheduler: l.scheduler,
            affinity: self.affinity.clone(),
            health_check: check.check,
            slow_start: l.slow_start.as_ref().and_then(|d| d.get()),
            proxy_protocol: l.proxy_protocol,
            targets,
            replicas: selected.replicas,
        };
        self.groups.insert(id.clone(), group);
    }
}
