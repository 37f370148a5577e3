//! What a Tencent CLB takes of what a spec may ask for: said before anything is sent.
//!
//! Ranges as in the API's documents (CLB 2018-03-17, data types `HealthCheck` and `RuleInput`).

use std::{collections::BTreeMap, time::Duration};

use kube::ResourceExt as _;

use super::routes::rule_id;
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, Listener, Protocol, Reason, Scheduler, Scheme, TargetProtocol},
    model::{Affinity, Group, GroupId, HealthCheck, HealthProbe, ListenerConfig, Problem, Tls},
};

/// The longest host and path that a rule takes.
const DOMAIN: usize = 80;
const URL: usize = 200;

/// What is wrong with the object as a whole, given its class.
pub(super) fn whole(object: &DirectLoadBalancer, class: &DirectLoadBalancerClass) -> Option<Problem> {
    let name = class.name_any();
    let lb = object.spec.load_balancer.clone().unwrap_or_default();
    let problem = |reason, message| Some(Problem { listener: None, reason, message });
    let Some(tencent) = &class.spec.tencent else {
        if class.spec.envoy.is_none() {
            return problem(
                Reason::Invalid,
                format!("class {name} has neither envoy nor tencent: it needs one of them"),
            );
        }
        if let Some(id) = &lb.id {
            let text =
                format!("spec.loadBalancer.id: \"{id}\" is given with class {name}, which is no cloud's: leave it out");
            return problem(Reason::Invalid, text);
        }
        if lb.scheme != Scheme::Internet {
            let text = format!("spec.loadBalancer.scheme: Internal is given with class {name}, which is no cloud's");
            return problem(Reason::Invalid, text);
        }
        return None;
    };
    if class.spec.envoy.is_some() {
        return problem(Reason::Invalid, format!("class {name} has both envoy and tencent: it needs one of them"));
    }
    if let Some(id) = lb.id.as_ref().filter(|id| !tencent.adoptable_load_balancers.contains(id)) {
        let allowed = match tencent.adoptable_load_balancers.as_slice() {
            [] => "none".to_owned(),
            some => some.join(", "),
        };
        let text = format!("spec.loadBalancer.id: \"{id}\" may not be adopted: class {name} allows {allowed}");
        return problem(Reason::AdoptionNotAllowed, text);
    }
    if lb.scheme == Scheme::Internal && lb.id.is_none() && tencent.subnet_id.is_none() {
        let text = format!("spec.loadBalancer.scheme: Internal needs subnetId in class {name}, which has none");
        return problem(Reason::Invalid, text);
    }
    None
}

/// What is wrong with the `index`th listener.
pub(super) fn listener(
    index: usize,
    spec: &Listener,
    config: &ListenerConfig,
    groups: &BTreeMap<GroupId, Group>,
) -> Vec<Problem> {
    let at = format!("spec.listeners[{index}]");
    let mut check = Check { name: &spec.name, problems: Vec::new() };
    check.listener(&at, spec, config);
    for (id, group) in groups {
        let rule = |r: &crate::api::ListenerRule| Some(rule_id(r)) == id.rule;
        let own = spec.rules.iter().flatten().position(|r| rule(r) && r.health_check.is_some());
        let at = own.map_or_else(|| format!("{at}.healthCheck"), |i| format!("{at}.rules[{i}].healthCheck"));
        check.health(&at, config, group);
    }
    check.problems
}

struct Check<'a> {
    name: &'a str,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn refuse(&mut self, field: &str, message: &str) {
        let message = format!("{field}: {message}");
        // A default's check is that of several groups.
        if !self.problems.iter().any(|p| p.message == message) {
            self.problems.push(Problem { listener: Some(self.name.into()), reason: Reason::Invalid, message });
        }
    }

    fn listener(&mut self, at: &str, spec: &Listener, config: &ListenerConfig) {
        let http = config.protocol.is_http();
        match spec.scheduler {
            Scheduler::SourceHash if !http => {
                self.refuse(
                    &format!("{at}.scheduler"),
                    "SourceHash needs HTTP or HTTPS on a Tencent CLB: use sessionAffinity with type SourceAddress",
                );
            }
            _ => {}
        }
        if spec.slow_start.is_some() {
            self.refuse(&format!("{at}.slowStart"), "a Tencent CLB has no slow start: leave it out");
        }
        if spec.proxy_protocol.is_some() {
            self.refuse(
                &format!("{at}.proxyProtocol"),
                "is not offered on a Tencent CLB, which keeps the client's address",
            );
        }
        if spec.access_log {
            self.refuse(&format!("{at}.accessLog"), "a Tencent CLB logs to CLS, which is set up there: leave it out");
        }
        if spec.target_protocol != TargetProtocol::HTTP1 && config.protocol != Protocol::HTTPS {
            self.refuse(&format!("{at}.targetProtocol"), "HTTP2 (gRPC) needs protocol HTTPS on a Tencent CLB");
        }
        if let Some(Tls::Terminate(certificates)) = &config.tls
            && certificates.len() > 1
        {
            let text = format!("{} are given: a listener on a Tencent CLB takes one", certificates.len());
            self.refuse(&format!("{at}.tls.secretNames"), &text);
        }
        match &config.affinity {
            Some(Affinity::SourceAddress) if http => {
                let text = "SourceAddress with HTTP or HTTPS is scheduler SourceHash on a Tencent CLB: use that";
                self.refuse(&format!("{at}.sessionAffinity.type"), text);
            }
            Some(Affinity::SourceAddress)
                if matches!(config.protocol, Protocol::TLS | Protocol::QUIC)
                    && config.tls != Some(Tls::Passthrough) =>
            {
                let text = "SourceAddress needs TCP, UDP or TLS with mode Passthrough on a Tencent CLB";
                self.refuse(&format!("{at}.sessionAffinity.type"), text);
            }
            Some(Affinity::Cookie { ttl: Some(ttl), .. }) if !(30..=86400).contains(&ttl.as_secs()) => {
                let text = format!("{} is out of a Tencent CLB's range: 30s to 1day", humantime::format_duration(*ttl));
                self.refuse(&format!("{at}.sessionAffinity.ttl"), &text);
            }
            _ => {}
        }
        for (i, rule) in spec.rules.iter().flatten().enumerate() {
            if rule.host.len() > DOMAIN {
                let text = format!("{} characters: a Tencent CLB takes {DOMAIN}", rule.host.len());
                self.refuse(&format!("{at}.rules[{i}].host"), &text);
            }
            // Room for what marks an exact path.
            if rule.path.len() > URL - 2 {
                let text = format!("{} characters: a Tencent CLB takes {}", rule.path.len(), URL - 2);
                self.refuse(&format!("{at}.rules[{i}].path"), &text);
            }
        }
    }

    fn health(&mut self, at: &str, config: &ListenerConfig, group: &Group) {
        let check: &HealthCheck = &group.health_check;
        if check.probe == HealthProbe::None {
            return;
        }
        match (&check.probe, config.protocol) {
            (_, Protocol::UDP) => {
                return self.refuse(at, "a UDP listener on a Tencent CLB is checked by ping alone: use type None");
            }
            (HealthProbe::Grpc { .. }, p) if !p.is_http() => {
                self.refuse(&format!("{at}.type"), "GRPC needs protocol HTTPS on a Tencent CLB");
            }
            (HealthProbe::Grpc { .. }, _) if group.target_protocol == TargetProtocol::HTTP1 => {
                self.refuse(&format!("{at}.type"), "GRPC needs targetProtocol HTTP2 on a Tencent CLB");
            }
            (HealthProbe::Http { path, .. }, _) if path.len() > URL => {
                self.refuse(&format!("{at}.path"), &format!("{} characters: a Tencent CLB takes {URL}", path.len()));
            }
            _ => {}
        }
        let own_port = check.port.is_some() || group.targets.values().any(|t| t.health_port.is_some());
        if own_port && (config.protocol.is_http() || matches!(config.tls, Some(Tls::Terminate(_) | Tls::Stored(_)))) {
            let text = "a Tencent CLB checks another port than the target's for TCP and UDP alone: leave it out";
            self.refuse(&format!("{at}.port"), text);
        } else if group.targets.values().any(|t| t.health_port.is_some() && t.health_port != check.port) {
            self.refuse(&format!("{at}.port"), "a named port: a Tencent CLB takes one number for all Pods");
        }
        let mut seconds = |field: &str, value: Duration, low: u64, high: u64| {
            if value.subsec_nanos() != 0 || !(low..=high).contains(&value.as_secs()) {
                let text = format!(
                    "\"{}\" is out of a Tencent CLB's range: whole seconds from {low}s to {high}s",
                    humantime::format_duration(value)
                );
                self.refuse(&format!("{at}.{field}"), &text);
            }
        };
        seconds("interval", check.interval, 2, 300);
        seconds("timeout", check.timeout, 2, 60);
        if check.timeout >= check.interval {
            let [timeout, interval] = [check.timeout, check.interval].map(humantime::format_duration);
            let text = format!("\"{timeout}\" must be less than the interval \"{interval}\" on a Tencent CLB");
            self.refuse(&format!("{at}.timeout"), &text);
        }
        for (field, n) in
            [("healthyThreshold", check.healthy_threshold), ("unhealthyThreshold", check.unhealthy_threshold)]
        {
            if !(2..=10).contains(&n) {
                self.refuse(&format!("{at}.{field}"), &format!("{n} is out of a Tencent CLB's range: 2 to 10"));
            }
        }
    }
}
