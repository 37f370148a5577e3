//! What the load balancer should be.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{GroupId, ObjectKey, TargetId};
use crate::api::{HealthCheckKind, Protocol, ProxyProtocol, Reason, Scheduler, TargetProtocol};

/// What one object's load balancer should be, as far as its spec is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The object.
    pub object: ObjectKey,
    /// The listeners that should be, by name. A listener whose new spec is bad is not here; if it was in force before,
    /// it is in `keep`.
    pub listeners: BTreeMap<String, ListenerConfig>,
    /// Listeners whose new spec is bad: whatever is in force under these names stays, targets included.
    pub keep: BTreeSet<String>,
    /// The groups of `listeners`.
    pub groups: BTreeMap<GroupId, Group>,
    /// Why targets that are in force and are in no group of `groups` have left, by target. A target in neither is
    /// treated as [`Departed::Unknown`].
    pub departed: BTreeMap<TargetId, Departed>,
    /// How long a leaving target may keep its connections.
    pub drain_timeout: Duration,
    /// The object is being deleted: everything goes.
    pub deleting: bool,
    /// What is wrong with the spec; empty: accepted.
    pub problems: Vec<Problem>,
}

/// Something wrong with an object's spec, or with what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The listener concerned; `None`: the object as a whole.
    pub listener: Option<String>,
    /// Why, from the closed list.
    pub reason: Reason,
    /// The field, the value, and what is allowed.
    pub message: String,
}

/// A listener without its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name.
    pub name: String,
    /// The protocol towards clients.
    pub protocol: Protocol,
    /// The address that it listens on; `None`: every address of the edge node.
    pub address: Option<IpAddr>,
    /// The port that it listens on.
    pub port: u16,
    /// Certificates, or pass-through.
    pub tls: Option<Tls>,
    /// Where requests or connections go.
    pub routes: RouteTable,
    /// Affinity of clients to targets.
    pub affinity: Option<Affinity>,
    /// Whether each request or connection is logged.
    pub access_log: AccessLog,
}

/// Whether each request or connection is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Not at all.
    #[default]
    Off,
    /// To the proxy's standard output.
    Stdout,
}

/// Certificates, or pass-through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The load balancer ends TLS; the first certificate is the default one.
    Terminate(Vec<Certificate>),
    /// The same with a certificate that the cloud keeps, by its id there.
    Stored(String),
    /// The Pod ends TLS.
    Passthrough,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret that it comes from.
    pub secret: String,
    /// The certificate and its chain, PEM.
    pub chain_pem: String,
    /// The private key, PEM.
    pub key_pem: String,
    /// The DNS names that it is for.
    pub names: Vec<String>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must never reach a log.
        f.debug_struct("Certificate")
            .field("secret", &self.secret)
            .field("names", &self.names)
            .field("chain", &super::short_hash(&self.chain_pem))
            .finish_non_exhaustive()
    }
}

/// Where requests or connections go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// Rules, most specific first.
    pub rules: Vec<RouteRule>,
    /// Where everything else goes; empty only if the listener's default has no target.
    pub default: Vec<WeightedGroup>,
    /// Where the clients of everything else are sent, instead of to a target.
    pub redirect: Option<Redirect>,
}

impl RouteTable {
    /// A table of these rules, in whatever order.
    #[must_use]
    pub fn new(rules: Vec<RouteRule>, default: Vec<WeightedGroup>) -> Self {
        let mut table = Self { rules, default, redirect: None };
        table.sort();
        table
    }

    /// Puts the rules in order, most specific first: exact hosts, then wildcards from the longest, then any host; for each
    /// host exact paths, then prefixes from the longest.
    pub fn sort(&mut self) {
        self.rules.sort_by(|a, b| a.specificity().cmp(&b.specificity()));
    }

    /// Every redirect of the table.
    pub fn redirects(&self) -> impl Iterator<Item = &Redirect> {
        self.rules.iter().filter_map(|r| r.redirect.as_ref()).chain(&self.redirect)
    }

    /// Every group that the table sends to.
    pub fn groups(&self) -> impl Iterator<Item = &WeightedGroup> {
        self.rules.iter().flat_map(|r| &r.groups).chain(&self.default)
    }
}

/// Requests of a host and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// `*`, `*.example.com` or `shop.example.com`.
    pub host: String,
    /// The path.
    pub path: String,
    /// Whether the path must be equal.
    pub exact: bool,
    /// Where they go.
    pub groups: Vec<WeightedGroup>,
    /// Where their clients are sent, instead of to a target.
    pub redirect: Option<Redirect>,
}

/// Sends clients to the same host and path at another listener of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The other listener's name.
    pub listener: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks HTTPS.
    pub https: bool,
    /// 301, 302 or 307.
    pub status: u16,
}

impl RouteRule {
    /// Whether the rule also speaks for requests to this host (a name, `*.example.com` or `*`), which may be narrower than
    /// its own.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.host == "*"
            || self.host == host
            || self.host.strip_prefix('*').is_some_and(|suffix| {
                let name = host.strip_prefix('*').unwrap_or(host);
                name.len() > suffix.len() && name.ends_with(suffix)
            })
    }

    fn specificity(&self) -> (u8, Reverse<usize>, &str, bool, Reverse<usize>, &str) {
        let host = self.host.as_str();
        let (kind, length) = match host {
            "*" => (2, 0),
            wild if wild.starts_with("*.") => (1, wild.len()),
            // Exact hosts exclude each other: their order is for the eye.
            _ => (0, 0),
        };
        (kind, Reverse(length), host, !self.exact, Reverse(self.path.len()), &self.path)
    }
}

/// A group and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedGroup {
    /// The group.
    pub group: GroupId,
    /// Its share, relative to the others.
    pub weight: u32,
}

/// Affinity of clients to targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// By the client's address.
    SourceAddress,
    /// By a cookie.
    Cookie {
        /// The cookie's name.
        name: String,
        /// How long it lasts; `None`: the browser's session.
        ttl: Option<Duration>,
    },
}

/// A group of targets, and how they are chosen and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The protocol towards clients (decides between TCP, UDP and HTTP upstreams).
    pub protocol: Protocol,
    /// The protocol towards the Pods.
    pub target_protocol: TargetProtocol,
    /// How a target is chosen.
    pub scheduler: Scheduler,
    /// Affinity, which turns the scheduler into a consistent hash.
    pub affinity: Option<Affinity>,
    /// How targets are checked.
    pub health_check: HealthCheck,
    /// How long a new target takes to reach its full share.
    pub slow_start: Option<Duration>,
    /// Which PROXY protocol header the Pods get.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Its targets.
    pub targets: BTreeMap<TargetId, DesiredTarget>,
    /// How many Pods the workload asks for; `Some(0)`: it is meant to be empty. `None`: not known (a Service or a
    /// selector).
    pub replicas: Option<u32>,
}

impl Group {
    /// The same group without its targets: the part that is configuration.
    #[must_use]
    pub fn config(&self) -> Self {
        Self { targets: BTreeMap::new(), replicas: None, ..self.clone() }
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: HealthProbe,
    /// A port other than the target port.
    pub port: Option<u16>,
    /// Time between checks.
    pub interval: Duration,
    /// Time after which a check has failed.
    pub timeout: Duration,
    /// Passes in a row that make a target healthy again.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthProbe {
    /// Nothing: a registered target counts as healthy.
    None,
    /// That a connection is accepted.
    Tcp,
    /// That a GET is answered with a 2xx status.
    Http {
        /// The path.
        path: String,
        /// The `Host` header.
        host: Option<String>,
    },
    /// That `grpc.health.v1.Health/Check` answers `SERVING`.
    Grpc {
        /// The service's name.
        service: String,
    },
}

impl HealthProbe {
    /// Its kind, as users write it.
    #[must_use]
    pub const fn kind(&self) -> HealthCheckKind {
        match self {
            Self::None => HealthCheckKind::None,
            Self::Tcp => HealthCheckKind::TCP,
            Self::Http { .. } => HealthCheckKind::HTTP,
            Self::Grpc { .. } => HealthCheckKind::GRPC,
        }
    }
    /// In words, for messages: `HTTP GET /healthz`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::None => "no check".into(),
            Self::Tcp => "TCP connect".into(),
            Self::Http { path, .. } => format!("HTTP GET {path}"),
            Self::Grpc { service } if service.is_empty() => "gRPC health check".into(),
            Self::Grpc { service } => format!("gRPC health check of service {service}"),
        }
    }
}

/// A target Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredTarget {
    /// The Pod's name.
    pub pod: String,
    /// The Pod's node.
    pub node: String,
    /// What the Pod's own state asks for.
    pub state: TargetState,
    /// The Pod carries this object's gate, and the gate's condition is True. A controller that has just taken over takes
    /// this for healthy until the proxies have reported.
    pub gate_open: bool,
    /// Which other port its health check goes to, where that is a named port that differs between Pods.
    pub health_port: Option<u16>,
}

/// What a Pod's own state asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetState {
    /// Its containers are ready: it should serve.
    Serving,
    /// Its containers are not ready: no new connections, and it stays registered if it is.
    NotReady,
    /// Its node does not answer: as `NotReady`, and its gate stays as it is.
    NodeLost,
    /// It has a deletionTimestamp: no new connections, drain, deregister.
    Terminating,
}

/// Why a target that is in force is in no group any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Departed {
    /// The Pod exists and is no longer a target (labels changed, port changed, phase Succeeded or Failed).
    Unselected,
    /// The Pod has a deletionTimestamp and is no longer a target.
    Terminating,
    /// The Pod has ended (phase Succeeded or Failed), or another Pod has its address now.
    Dead,
    /// No such Pod in the cache: gone, or the cache is wrong.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::RouteRule;

    #[test]
    fn wider_hosts_cover_narrower_ones() {
        for (rule, host, want) in [
            ("*", "*", true),
            ("*", "a.example.com", true),
            ("a.example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "*.b.example.com", true),
            ("*.b.example.com", "*.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", "*", false),
            ("a.example.com", "*.example.com", false),
        ] {
            let rule =
                RouteRule { host: rule.into(), path: "/".into(), exact: false, groups: Vec::new(), redirect: None };
            assert_eq!(rule.covers(host), want, "{} covers {host}", rule.host);
        }
    }
}
