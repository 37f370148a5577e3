//! One stream's state, without I/O: what the proxy asked for, what it was sent, and what it is sent next.
//!
//! Make before break: clusters and endpoints come first; listeners and routes that may use them wait until the proxy has
//! acknowledged the clusters (Envoy does so only when they are warm, first health checks included), but not for ever;
//! clusters go last. Endpoints never wait: a drain must be in force at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource,
};

use super::super::{
    reports::Acks,
    snapshot::{Kind, Resources},
};
use crate::model::Time;

/// A cluster whose targets do not answer becomes warm when their first checks have timed out; a proxy that says nothing for
/// so long is sent the rest all the same.
const WARMING: Duration = Duration::from_secs(15);

/// What a request said about an earlier response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub kind: Kind,
    /// Why it was refused; `None`: accepted.
    pub rejected: Option<String>,
    /// Versions of endpoints that are in force now.
    pub endpoints: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct StreamState {
    node: String,
    fleet: String,
    kinds: BTreeMap<Kind, Subscription>,
    nonce: u64,
    /// Clusters sent and not acknowledged: the nonce, and until when that is waited for.
    warming: Option<(String, Option<Time>)>,
    /// Listeners sent and not acknowledged: the nonce, and what the proxy carries once it has acknowledged it.
    in_flight: Vec<(String, BTreeMap<String, String>)>,
    carried: BTreeMap<String, String>,
    /// Endpoints sent and not acknowledged, by nonce.
    endpoints: BTreeMap<String, BTreeMap<String, String>>,
    rejected: BTreeMap<Kind, String>,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Versions that the proxy has; an empty version: it knows that there is no such resource.
    sent: BTreeMap<String, String>,
    /// It must be answered even if there is nothing to say.
    unanswered: bool,
}

impl Subscription {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

impl StreamState {
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn fleet(&self) -> &str {
        &self.fleet
    }

    /// What the proxy has acknowledged.
    pub(super) fn acks(&self) -> Acks {
        Acks { listeners: self.carried.clone(), rejected: self.rejected.values().next().cloned() }
    }

    /// When to look again though nothing arrives.
    pub(super) fn wake_at(&self) -> Option<Time> {
        self.warming.as_ref().and_then(|(_, until)| *until)
    }

    /// Takes a request in.
    pub(super) fn request(&mut self, request: &DeltaDiscoveryRequest) -> Option<Outcome> {
        if let Some(node) = &request.node
            && self.node.is_empty()
        {
            self.node.clone_from(&node.id);
            self.fleet.clone_from(&node.cluster);
        }
        let kind = Kind::of(&request.type_url)?;
        let first = !self.kinds.contains_key(&kind);
        let subscription = self.kinds.entry(kind).or_default();
        if first {
            subscription.sent = request.initial_resource_versions.clone().into_iter().collect();
            // Clusters and listeners: subscribing to nothing in the first request means everything.
            subscription.wildcard =
                matches!(kind, Kind::Cluster | Kind::Listener) && request.resource_names_subscribe.is_empty();
            subscription.unanswered = true;
            if kind == Kind::Listener {
                self.carried = subscription.sent.clone();
            }
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                subscription.wildcard = true;
            } else {
                subscription.names.insert(name.clone());
                // Asked for again: told again, unless the proxy has just said which version it has.
                if !first {
                    subscription.sent.remove(name);
                }
            }
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                subscription.wildcard = false;
            } else {
                subscription.names.remove(name);
                subscription.sent.remove(name);
            }
        }
        if request.response_nonce.is_empty() {
            return None;
        }
        if self.warming.as_ref().is_some_and(|(nonce, _)| *nonce == request.response_nonce) {
            self.warming = None;
        }
        let rejected = request.error_detail.as_ref().map(|e| e.message.clone());
        match &rejected {
            Some(detail) => self.rejected.insert(kind, detail.clone()),
            None => self.rejected.remove(&kind),
        };
        if let Some(at) = self.in_flight.iter().position(|(nonce, _)| *nonce == request.response_nonce) {
            let (_, carried) = self.in_flight.swap_remove(at);
            // Of a refused response Envoy takes what it can; what that is, it does not say.
            if rejected.is_none() {
                self.carried = carried;
            }
        }
        let endpoints = self.endpoints.remove(&request.response_nonce).filter(|_| rejected.is_none());
        Some(Outcome { kind, rejected, endpoints: endpoints.unwrap_or_default() })
    }

    /// What is to be sent now, in this order.
    pub(super) fn respond(&mut self, resources: &Resources, now: Time) -> Vec<DeltaDiscoveryResponse> {
        let mut out = Vec::new();
        if let Some((_, until)) = &mut self.warming {
            match until {
                None => *until = Some(now.plus(WARMING)),
                Some(at) if now >= *at => self.warming = None,
                Some(_) => {}
            }
        }
        if let Some(response) = self.delta(Kind::Cluster, resources, true, false) {
            if !response.resources.is_empty() {
                self.warming = Some((response.nonce.clone(), Some(now.plus(WARMING))));
            }
            out.push(response);
        }
        // Removing an assignment or a certificate breaks nothing: the proxy no longer asks for it.
        if let Some(response) = self.delta(Kind::Endpoints, resources, true, true) {
            let versions = response.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
            self.endpoints.insert(response.nonce.clone(), versions);
            out.push(response);
        }
        out.extend(self.delta(Kind::Secret, resources, true, true));
        if self.warming.is_some() {
            return out;
        }
        // A listener may take over the address of one that goes: both in one response, which Envoy applies removals first.
        if let Some(response) = self.delta(Kind::Listener, resources, true, true) {
            let sent = self.kinds.get(&Kind::Listener).map(|s| s.sent.clone()).unwrap_or_default();
            self.in_flight.push((response.nonce.clone(), sent));
            out.push(response);
        }
        out.extend(self.delta(Kind::Routes, resources, true, true));
        out.extend(self.delta(Kind::Cluster, resources, false, true));
        out
    }

    fn delta(
        &mut self,
        kind: Kind,
        resources: &Resources,
        adds: bool,
        removals: bool,
    ) -> Option<DeltaDiscoveryResponse> {
        let subscription = self.kinds.get_mut(&kind)?;
        let all = resources.of(kind);
        let mut changed = Vec::new();
        let mut removed = Vec::new();
        if adds {
            for (name, resource) in all {
                if subscription.wants(name) && subscription.sent.get(name) != Some(&resource.version) {
                    subscription.sent.insert(name.clone(), resource.version.clone());
                    changed.push(WireResource {
                        name: name.clone(),
                        version: resource.version.clone(),
                        resource: Some(resource.body.clone()),
                        ..WireResource::default()
                    });
                }
            }
        }
        if removals {
            let gone = |name: &&String| !all.contains_key(*name);
            removed.extend(subscription.sent.iter().filter(|(n, v)| gone(n) && !v.is_empty()).map(|(n, _)| n.clone()));
            // A name that was asked for and does not exist: the proxy waits until it is told so.
            let unknown = subscription.names.iter().filter(gone).filter(|n| !subscription.sent.contains_key(*n));
            removed.extend(unknown.cloned());
            for name in &removed {
                if subscription.names.contains(name) {
                    subscription.sent.insert(name.clone(), String::new());
                } else {
                    subscription.sent.remove(name);
                }
            }
        }
        if changed.is_empty() && removed.is_empty() && !(adds && subscription.unanswered) {
            return None;
        }
        subscription.unanswered = false;
        self.nonce += 1;
        Some(DeltaDiscoveryResponse {
            type_url: kind.type_url().into(),
            resources: changed,
            removed_resources: removed,
            nonce: self.nonce.to_string(),
            ..DeltaDiscoveryResponse::default()
        })
    }
}
