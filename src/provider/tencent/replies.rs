//! Replies, as far as they are read. Fields as in the official SDK's `models.py` (CLB 2018-03-17).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ops::{
    Binding, Bound, HealthCheck, HealthState, Listener, LoadBalancer, Place, Quotas, Redirected, Rule, Tag,
    TargetHealth,
};
use crate::sync::TaskState;

/// A reply of which nothing is read.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// Of `CreateLoadBalancer`, `CreateListener`, `CreateRule`.
#[derive(Debug, Deserialize)]
pub(super) struct Created {
    #[serde(alias = "LoadBalancerIds", alias = "ListenerIds", alias = "LocationIds")]
    pub(super) ids: Vec<String>,
}

/// Of `BatchRegisterTargets`, `BatchDeregisterTargets`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartlyDone {
    pub(super) fail_listener_id_set: Option<Vec<String>>,
    pub(super) message: Option<String>,
}

/// Of `DescribeQuota`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedQuotas {
    quota_set: Vec<QuotaReply>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QuotaReply {
    quota_id: String,
    quota_limit: Option<i64>,
}

impl DescribedQuotas {
    pub(super) fn quotas(self) -> Quotas {
        Quotas(self.quota_set.into_iter().filter_map(|q| Some((q.quota_id, q.quota_limit?))).collect())
    }
}

/// Of `DescribeLoadBalancers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedLoadBalancers {
    load_balancer_set: Vec<LoadBalancerReply>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LoadBalancerReply {
    load_balancer_id: String,
    status: i64,
    load_balancer_vips: Option<Vec<String>>,
    #[serde(rename = "AddressIPv6")]
    address_ipv6: Option<String>,
    secure_groups: Option<Vec<String>>,
    load_balancer_pass_to_target: Option<bool>,
    tags: Option<Vec<Tag>>,
}

impl DescribedLoadBalancers {
    pub(super) fn load_balancers(self) -> impl Iterator<Item = LoadBalancer> {
        self.load_balancer_set.into_iter().map(|lb| LoadBalancer {
            id: lb.load_balancer_id,
            running: lb.status == 1,
            addresses: lb
                .load_balancer_vips
                .into_iter()
                .flatten()
                .chain(lb.address_ipv6.filter(|a| !a.is_empty()))
                .collect(),
            security_groups: lb.secure_groups.unwrap_or_default(),
            pass_to_target: lb.load_balancer_pass_to_target.unwrap_or(false),
            tags: lb.tags.unwrap_or_default(),
        })
    }
}

/// Of `DescribeListeners`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedListeners {
    listeners: Vec<ListenerReply>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListenerReply {
    listener_id: String,
    listener_name: Option<String>,
    protocol: String,
    port: u16,
    health_check: Option<HealthCheck>,
    scheduler: Option<String>,
    session_expire_time: Option<i64>,
    deregister_target_rst: Option<bool>,
    rules: Option<Vec<RuleReply>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleReply {
    location_id: String,
    domain: Option<String>,
    url: Option<String>,
    health_check: Option<HealthCheck>,
    scheduler: Option<String>,
    session_expire_time: Option<i64>,
    forward_type: Option<String>,
    default_server: Option<bool>,
    rewrite_target: Option<RewriteReply>,
}

/// Without a redirect its fields are null.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RewriteReply {
    target_listener_id: Option<String>,
    target_location_id: Option<String>,
    rewrite_code: Option<u16>,
    take_url: Option<bool>,
}

impl RewriteReply {
    fn redirected(&self) -> Option<Redirected> {
        let set = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
        let to = Place { listener: set(&self.target_listener_id)?, location: Some(set(&self.target_location_id)?) };
        let code = self.rewrite_code.filter(|c| *c != 0);
        Some(Redirected { to, code, take_url: self.take_url.unwrap_or(false) })
    }
}

impl DescribedListeners {
    pub(super) fn listeners(&self) -> Vec<Listener> {
        let rule = |r: &RuleReply| Rule {
            id: r.location_id.clone(),
            domain: r.domain.clone().unwrap_or_default(),
            url: r.url.clone().unwrap_or_default(),
            health_check: r.health_check.clone().unwrap_or_default(),
            scheduler: r.scheduler.clone(),
            session_expire_time: r.session_expire_time.unwrap_or(0),
            forward_type: r.forward_type.clone(),
            default_server: r.default_server.unwrap_or(false),
            redirect: r.rewrite_target.as_ref().and_then(RewriteReply::redirected),
        };
        self.listeners
            .iter()
            .map(|l| Listener {
                id: l.listener_id.clone(),
                name: l.listener_name.clone().unwrap_or_default(),
                protocol: l.protocol.clone(),
                port: l.port,
                health_check: l.health_check.clone(),
                scheduler: l.scheduler.clone(),
                session_expire_time: l.session_expire_time.unwrap_or(0),
                deregister_target_rst: l.deregister_target_rst.unwrap_or(false),
                rules: l.rules.iter().flatten().map(rule).collect(),
            })
            .collect()
    }
}

/// Of `DescribeTargets`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedTargets {
    listeners: Vec<ListenerTargets>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListenerTargets {
    listener_id: String,
    targets: Option<Vec<Backend>>,
    rules: Option<Vec<RuleTargets>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleTargets {
    location_id: String,
    targets: Option<Vec<Backend>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Backend {
    port: u16,
    weight: Option<u8>,
    private_ip_addresses: Option<Vec<String>>,
    tag: Option<String>,
}

impl DescribedTargets {
    pub(super) fn targets(&self) -> impl Iterator<Item = (Binding, Bound)> {
        self.listeners.iter().flat_map(|l| {
            let place =
                |location: Option<&String>| Place { listener: l.listener_id.clone(), location: location.cloned() };
            let own = l.targets.iter().flatten().map(move |t| (place(None), t));
            let rules = l.rules.iter().flatten();
            let of_rules =
                rules.flat_map(move |r| r.targets.iter().flatten().map(move |t| (place(Some(&r.location_id)), t)));
            own.chain(of_rules).filter_map(|(place, t)| {
                // What has no address is not one of ours.
                let ip = t.private_ip_addresses.iter().flatten().find_map(|ip| ip.parse().ok())?;
                let bound = Bound { weight: t.weight.unwrap_or(0), tag: t.tag.clone().filter(|t| !t.is_empty()) };
                Some((Binding { place, ip, port: t.port }, bound))
            })
        })
    }
}

/// Of `DescribeTargetHealth`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedHealth {
    load_balancers: Vec<LoadBalancerHealth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LoadBalancerHealth {
    load_balancer_id: String,
    listeners: Vec<ListenerHealth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListenerHealth {
    listener_id: String,
    rules: Vec<RuleHealth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleHealth {
    location_id: Option<String>,
    targets: Option<Vec<Health>>,
}

#[derive(Debug, Deserialize)]
struct Health {
    #[serde(rename = "IP")]
    ip: String,
    #[serde(rename = "Port")]
    port: u16,
    #[serde(rename = "HealthStatusDetail")]
    detail: Option<String>,
    #[serde(rename = "Weight")]
    weight: Option<u8>,
}

impl DescribedHealth {
    pub(super) fn targets(&self) -> impl Iterator<Item = (String, Binding, TargetHealth)> {
        self.load_balancers.iter().flat_map(|lb| {
            lb.listeners.iter().flat_map(move |l| {
                l.rules.iter().flat_map(move |r| {
                    r.targets.iter().flatten().filter_map(move |t| {
                        // A listener of layer 4 has one rule without an id.
                        let location = r.location_id.clone().filter(|id| !id.is_empty());
                        let place = Place { listener: l.listener_id.clone(), location };
                        let binding = Binding { place, ip: t.ip.parse().ok()?, port: t.port };
                        let state = match t.detail.as_deref() {
                            Some("Alive") => HealthState::Alive,
                            Some("Dead") => HealthState::Dead,
                            Some("Close") => HealthState::Close,
                            _ => HealthState::Unknown,
                        };
                        let health = TargetHealth { state, weight: t.weight.unwrap_or(0) };
                        Some((lb.load_balancer_id.clone(), binding, health))
                    })
                })
            })
        })
    }
}

/// Of `DescribeAsyncJobs`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AsyncJobs {
    jobs: Option<Vec<Job>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Job {
    request_id: String,
    status: Option<String>,
}

impl AsyncJobs {
    pub(super) fn states(self) -> BTreeMap<String, TaskState> {
        let jobs = self.jobs.into_iter().flatten();
        jobs.map(|job| {
            let state = match job.status.as_deref() {
                Some("Succeeded") => TaskState::Done,
                // The reply has no reason.
                Some("Failed") => TaskState::Failed("the task failed".into()),
                _ => TaskState::Running,
            };
            (job.request_id, state)
        })
        .collect()
    }
}
