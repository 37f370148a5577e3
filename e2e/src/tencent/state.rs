//! Load balancers, their listeners, rules and targets.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::ApiError;
use super::schema::Params;

/// All load balancers, by id.
pub(super) type World = BTreeMap<String, LoadBalancer>;

#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadBalancer {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) vpc: String,
    pub(super) subnet: Option<String>,
    pub(super) vip: String,
    /// `ipv4` or `ipv6`.
    pub(super) family: &'static str,
    /// 0 while it is created, then 1.
    pub(super) status: i64,
    pub(super) created: u64,
    pub(super) delete_protect: bool,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) security_groups: Vec<String>,
    /// What else it was created with, or changed to.
    pub(super) attributes: Params,
    pub(super) listeners: Vec<Listener>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Listener {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i64,
    pub(super) end_port: i64,
    pub(super) created: u64,
    /// Of layer 4 only.
    pub(super) health: Option<Params>,
    pub(super) certificate: Option<Certificate>,
    pub(super) sni: bool,
    pub(super) attributes: Params,
    pub(super) rules: Vec<Rule>,
    pub(super) targets: Vec<Bound>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) domains: Vec<String>,
    pub(super) url: String,
    pub(super) created: u64,
    pub(super) default_server: bool,
    pub(super) http2: bool,
    pub(super) quic: bool,
    pub(super) health: Params,
    pub(super) certificate: Option<Certificate>,
    pub(super) attributes: Params,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) targets: Vec<Bound>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Certificate {
    pub(super) mode: String,
    pub(super) verify: Option<String>,
    pub(super) id: String,
    pub(super) ca: Option<String>,
    pub(super) more: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rewrite {
    pub(super) listener: String,
    pub(super) location: String,
    pub(super) code: Option<i64>,
    pub(super) take_url: Option<bool>,
}

/// A target that is bound.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bound {
    pub(super) address: Address,
    pub(super) port: i64,
    pub(super) weight: i64,
    pub(super) tag: Option<String>,
    /// In milliseconds since the emulator's start: what health is counted from.
    pub(super) since: u64,
    pub(super) registered: u64,
}

/// By what a target is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Address {
    Ip(String),
    Instance(String),
}

impl LoadBalancer {
    pub(super) fn listener(&self, id: &str) -> Result<&Listener, ApiError> {
        self.listeners.iter().find(|l| l.id == id).ok_or_else(|| ApiError::no_listener(id))
    }

    pub(super) fn listener_mut(&mut self, id: &str) -> Result<&mut Listener, ApiError> {
        self.listeners.iter_mut().find(|l| l.id == id).ok_or_else(|| ApiError::no_listener(id))
    }

    /// Every list of targets.
    pub(super) fn target_lists(&self) -> impl Iterator<Item = &Vec<Bound>> {
        self.listeners.iter().flat_map(|l| std::iter::once(&l.targets).chain(l.rules.iter().map(|r| &r.targets)))
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Bound> {
        self.target_lists().flatten()
    }

    /// Drops redirects to rules that are no more.
    pub(super) fn drop_dangling_rewrites(&mut self) {
        let all = |l: &Listener| l.rules.iter().map(|r| r.id.clone()).collect::<Vec<_>>();
        let there: Vec<String> = self.listeners.iter().flat_map(all).collect();
        for rule in self.listeners.iter_mut().flat_map(|l| &mut l.rules) {
            if rule.rewrite.as_ref().is_some_and(|r| !there.contains(&r.location)) {
                rule.rewrite = None;
            }
        }
    }
}

impl Listener {
    /// Whether targets are bound to rules instead of to the listener.
    pub(super) fn layer7(&self) -> bool {
        is_layer7(&self.protocol)
    }

    pub(super) fn rule_mut(&mut self, id: &str) -> Result<&mut Rule, ApiError> {
        self.rules.iter_mut().find(|r| r.id == id).ok_or_else(|| ApiError::no_location(id))
    }
}

/// Whether a protocol's listeners have rules.
pub(super) fn is_layer7(protocol: &str) -> bool {
    matches!(protocol, "HTTP" | "HTTPS")
}

/// The load balancer with this id.
pub(super) fn find<'a>(world: &'a World, id: &str) -> Result<&'a LoadBalancer, ApiError> {
    world.get(id).ok_or_else(|| ApiError::no_load_balancer(id))
}

/// The same, to change it.
pub(super) fn find_mut<'a>(world: &'a mut World, id: &str) -> Result<&'a mut LoadBalancer, ApiError> {
    world.get_mut(id).ok_or_else(|| ApiError::no_load_balancer(id))
}
