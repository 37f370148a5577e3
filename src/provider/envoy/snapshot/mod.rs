//! What is in force -> Envoy's resources. Pure, and the same bytes for the same input on every replica.

mod cluster;
mod endpoint;
mod listener;
mod route;
mod secret;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::Any;
use sha2::{Digest as _, Sha256};

use crate::model::{GroupId, ObjectKey, Observed};

/// The types that are served, in the order in which additions are sent (make before break).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
}

impl Kind {
    /// Every kind, in the order of additions.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::Routes];

    /// The type's URL in the xDS protocol.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind with this URL.
    #[must_use]
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.type_url() == type_url)
    }
}

/// A resource, and the hash of its content as its version: whichever replica serves it, the same content has the same
/// version, so a proxy that connects to another replica is sent nothing anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The version.
    pub version: String,
    /// The resource.
    pub body: Any,
}

/// Resources by kind and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    by_kind: BTreeMap<Kind, BTreeMap<String, std::sync::Arc<Resource>>>,
}

impl Resources {
    /// The resources of a kind, by name.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &BTreeMap<String, std::sync::Arc<Resource>> {
        static NONE: BTreeMap<String, std::sync::Arc<Resource>> = BTreeMap::new();
        self.by_kind.get(&kind).unwrap_or(&NONE)
    }

    /// Adds all of `other`, which has none of the same names.
    pub fn merge(&mut self, other: &Self) {
        for (kind, resources) in &other.by_kind {
            let mine = self.by_kind.entry(*kind).or_default();
            mine.extend(resources.iter().map(|(n, r)| (n.clone(), r.clone())));
        }
    }

    fn add(&mut self, kind: Kind, name: String, body: Any) {
        let version = Sha256::digest(&body.value).iter().take(8).map(|b| format!("{b:02x}")).collect();
        self.by_kind.entry(kind).or_default().insert(name, std::sync::Arc::new(Resource { version, body }));
    }
}

/// The name of the cluster that carries a group.
#[must_use]
pub fn cluster_name(object: &ObjectKey, group: &GroupId) -> String {
    format!("{object}/{group}")
}

/// The name of a listener, and of its route configuration.
#[must_use]
pub fn listener_name(object: &ObjectKey, listener: &str) -> String {
    format!("{object}/{listener}")
}

/// The object that a cluster or listener belongs to, by its name.
#[must_use]
pub fn object_of(name: &str) -> Option<ObjectKey> {
    let mut parts = name.splitn(3, '/');
    let key = ObjectKey::new(parts.next()?, parts.next()?);
    parts.next().map(|_| key)
}

/// Renders what is in force for these objects.
#[must_use]
pub fn render(objects: &BTreeMap<ObjectKey, Observed>) -> Resources {
    let mut out = Resources::default();
    for (key, observed) in objects {
        for (id, group) in &observed.groups {
            let name = cluster_name(key, id);
            out.add(Kind::Cluster, name.clone(), wire::pack(&cluster::cluster(&name, &group.config)));
            out.add(Kind::Endpoints, name.clone(), wire::pack(&endpoint::assignment(&name, group)));
        }
        for (name, config) in &observed.listeners {
            let name = listener_name(key, name);
            out.add(Kind::Listener, name.clone(), wire::pack(&listener::listener(key, &name, config)));
            if config.protocol.is_http() {
                out.add(Kind::Routes, name.clone(), wire::pack(&route::routes(key, &name, config)));
            }
            for certificate in secret::certificates(config) {
                let name = secret::name(key, certificate);
                out.add(Kind::Secret, name.clone(), wire::pack(&secret::secret(&name, certificate)));
            }
        }
    }
    out
}

/// For tests: HTTP listeners, each with a group of one target at `10.0.0.<n>` whose Pod's UID is `uid-<n>`.
#[cfg(test)]
pub(crate) fn sample(listeners: &[(&str, u8)]) -> Observed {
    use std::{net::Ipv4Addr, time::Duration};

    use crate::{
        api::{Protocol, Scheduler, TargetProtocol},
        model::{
            AccessLog, Group, Health, HealthCheck, HealthProbe, ListenerConfig, ObservedGroup, ObservedTarget,
            RouteTable, TargetId, WeightedGroup,
        },
    };

    let mut observed = Observed::default();
    for (name, n) in listeners {
        let id = GroupId { listener: (*name).into(), rule: None, target: "deployment.web".into() };
        let config = Group {
            protocol: Protocol::HTTP,
            target_protocol: TargetProtocol::HTTP1,
            scheduler: Scheduler::RoundRobin,
            affinity: None,
            health_check: HealthCheck {
                probe: HealthProbe::Tcp,
                port: None,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                healthy_threshold: 2,
                unhealthy_threshold: 2,
            },
            slow_start: None,
            proxy_protocol: None,
            targets: BTreeMap::new(),
            replicas: None,
        };
        let target = TargetId { uid: format!("uid-{n}"), ip: Ipv4Addr::new(10, 0, 0, *n).into(), port: 80 };
        let state = ObservedTarget {
            pod: format!("web-{n}"),
            draining_since: None,
            health_port: None,
            health: Health::Unknown,
            answering: false,
            healthy_since: None,
            active: None,
        };
        observed.groups.insert(id.clone(), ObservedGroup { config, targets: BTreeMap::from([(target, state)]) });
        observed.listeners.insert(
            (*name).into(),
            ListenerConfig {
                name: (*name).into(),
                protocol: Protocol::HTTP,
                address: None,
                port: 80,
                tls: None,
                routes: RouteTable {
                    rules: vec![],
                    default: vec![WeightedGroup { group: id, weight: 1 }],
                    redirect: None,
                },
                affinity: None,
                access_log: AccessLog::Off,
            },
        );
    }
    observed
}
