//! What the proxies say about each endpoint: `healthy`, `cx_active` and `rq_active`, streamed by Envoy's metrics service
//! sink each second (`track_cluster_stats.per_endpoint_stats`).
//!
//! An endpoint is known by its cluster, its address and its hostname, which is the Pod's UID: a Pod that takes over an
//! address inherits nothing. Each report is complete, and replaces the one before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use envoy_types::pb::{
    envoy::service::metrics::v3::{
        StreamMetricsMessage, StreamMetricsResponse, metrics_service_server::MetricsService,
        stream_metrics_message::Identifier,
    },
    io::prometheus::client::{Metric, MetricFamily},
};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};

use super::{relay::RELAYED, snapshot};
use crate::model::{ObjectKey, TargetId, Time};

/// What a proxy says about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointReport {
    /// It takes new traffic: its checks pass, and it is not draining.
    pub healthy: bool,
    /// Open connections to it.
    pub cx_active: u64,
    /// Requests in progress on it.
    pub rq_active: u64,
}

/// A proxy that reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyReport {
    /// The proxy's Pod.
    pub name: String,
    /// When it reported last.
    pub last: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EndpointKey {
    address: SocketAddr,
    uid: String,
}

#[derive(Debug, Default)]
struct Proxy {
    fleet: String,
    last: Time,
    clusters: HashMap<String, HashMap<EndpointKey, EndpointReport>>,
    listeners: HashSet<String>,
}

/// All reports. Cheap to clone.
#[derive(Clone)]
pub struct Reports(Arc<Inner>);

struct Inner {
    proxies: RwLock<BTreeMap<String, Proxy>>,
    changes: broadcast::Sender<ObjectKey>,
    direct: broadcast::Sender<Arc<StreamMetricsMessage>>,
    clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

impl Reports {
    /// No reports yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Fn() -> Time + Send + Sync>) -> Self {
        Self(Arc::new(Inner {
            proxies: RwLock::default(),
            changes: broadcast::Sender::new(4096),
            direct: broadcast::Sender::new(256),
            clock,
        }))
    }

    /// Objects about which something changed: health, an endpoint that is new or gone, a target that became idle.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ObjectKey> {
        self.0.changes.subscribe()
    }

    /// What the proxies that are connected here report, for [`super::relay`].
    #[must_use]
    pub fn direct(&self) -> broadcast::Sender<Arc<StreamMetricsMessage>> {
        self.0.direct.clone()
    }

    /// When the proxy reported last.
    #[must_use]
    pub fn last(&self, proxy: &str) -> Option<Time> {
        self.read(|proxies| proxies.get(proxy).map(|p| p.last))
    }

    /// The proxies of a fleet that ever reported.
    #[must_use]
    pub fn proxies(&self, fleet: &str) -> Vec<ProxyReport> {
        self.read(|proxies| {
            let of = proxies.iter().filter(|(_, p)| p.fleet == fleet);
            of.map(|(name, p)| ProxyReport { name: name.clone(), last: p.last }).collect()
        })
    }

    /// What the proxy says about a target.
    #[must_use]
    pub fn endpoint(&self, proxy: &str, cluster: &str, target: &TargetId) -> Option<EndpointReport> {
        let key = EndpointKey { address: SocketAddr::new(target.ip, target.port), uid: target.uid.clone() };
        self.read(|proxies| proxies.get(proxy)?.clusters.get(cluster)?.get(&key).copied())
    }

    /// Whether the proxy carries a listener.
    #[must_use]
    pub fn listener(&self, proxy: &str, listener: &str) -> bool {
        self.read(|proxies| proxies.get(proxy).is_some_and(|p| p.listeners.contains(listener)))
    }

    /// Forgets proxies that are gone.
    pub fn retain(&self, known: impl Fn(&str) -> bool) {
        self.write(|proxies| proxies.retain(|name, _| known(name)));
    }

    /// Takes a report in.
    pub fn ingest(&self, message: &StreamMetricsMessage, relayed: bool) {
        let Some(node) = message.identifier.as_ref().and_then(|i| i.node.as_ref()) else { return };
        let next = parse(&message.envoy_metrics);
        let now = (self.0.clock)();
        let changed = self.write(|proxies| {
            let proxy = proxies.entry(node.id.clone()).or_default();
            let changed = changed(proxy, &next);
            *proxy = Proxy { fleet: node.cluster.clone(), last: now, ..next };
            changed
        });
        for key in changed {
            // Nobody listens yet: then nobody missed anything.
            let _ = self.0.changes.send(key);
        }
        if !relayed {
            let _ = self.0.direct.send(Arc::new(message.clone()));
        }
    }

    fn read<T>(&self, f: impl FnOnce(&BTreeMap<String, Proxy>) -> T) -> T {
        f(&self.0.proxies.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut BTreeMap<String, Proxy>) -> T) -> T {
        f(&mut self.0.proxies.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn parse(families: &[MetricFamily]) -> Proxy {
    let mut proxy = Proxy::default();
    for family in families {
        let Some(name) = family.name.as_deref() else { continue };
        if let Some(listener) = name.strip_prefix("listener.").and_then(|n| n.strip_suffix(".downstream_cx_active")) {
            proxy.listeners.insert(listener.to_owned());
            continue;
        }
        let Some((_, field)) = name.rsplit_once('.') else { continue };
        for metric in &family.metric {
            let Some((cluster, key)) = endpoint_of(metric) else { continue };
            let value = metric.gauge.as_ref().and_then(|g| g.value).unwrap_or(0.0);
            let report = proxy.clusters.entry(cluster).or_default().entry(key).or_default();
            match field {
                "healthy" => report.healthy = value > 0.0,
                "cx_active" => report.cx_active = count(value),
                "rq_active" => report.rq_active = count(value),
                _ => {}
            }
        }
    }
    proxy
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A gauge of connections: a small whole number.
fn count(value: f64) -> u64 {
    value.max(0.0) as u64
}

fn endpoint_of(metric: &Metric) -> Option<(String, EndpointKey)> {
    let label = |suffix: &str| {
        let pair = metric.label.iter().find(|l| l.name.as_deref().is_some_and(|n| n.ends_with(suffix)));
        pair.and_then(|l| l.value.clone())
    };
    let address = label("endpoint_address")?.parse().ok()?;
    let uid = label("endpoint_hostname").unwrap_or_default();
    Some((label("cluster_name")?, EndpointKey { address, uid }))
}

fn changed(old: &Proxy, new: &Proxy) -> BTreeSet<ObjectKey> {
    let mut out = BTreeSet::new();
    let names = old.clusters.keys().chain(new.clusters.keys().filter(|n| !old.clusters.contains_key(*n)));
    for name in names {
        let none = HashMap::new();
        let (was, is) = (old.clusters.get(name).unwrap_or(&none), new.clusters.get(name).unwrap_or(&none));
        let differs = was.len() != is.len()
            || is.iter().any(|(key, now)| {
                was.get(key).is_none_or(|before| {
                    before.healthy != now.healthy
                        || (before.cx_active > 0) != (now.cx_active > 0)
                        || (!now.healthy && (before.rq_active > 0) != (now.rq_active > 0))
                })
            });
        if differs {
            out.extend(snapshot::object_of(name));
        }
    }
    for name in old.listeners.symmetric_difference(&new.listeners) {
        out.extend(snapshot::object_of(name));
    }
    out
}

#[tonic::async_trait]
impl MetricsService for Reports {
    async fn stream_metrics(
        &self,
        request: Request<Streaming<StreamMetricsMessage>>,
    ) -> Result<Response<StreamMetricsResponse>, Status> {
        let relayed = request.metadata().contains_key(RELAYED);
        let mut stream = request.into_inner();
        // Envoy names itself only in the first message.
        let mut identifier: Option<Identifier> = None;
        while let Some(mut message) = stream.message().await? {
            if message.identifier.is_some() {
                identifier = message.identifier.clone();
            } else {
                message.identifier = identifier.clone();
            }
            self.ingest(&message, relayed);
        }
        Ok(Response::new(StreamMetricsResponse {}))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use envoy_types::pb::{
        envoy::config::core::v3::Node,
        io::prometheus::client::{Gauge, LabelPair},
    };

    use super::*;

    fn gauge(field: &str, address: &str, uid: &str, value: f64) -> MetricFamily {
        let label = |n: &str, v: &str| LabelPair { name: Some(n.into()), value: Some(v.into()) };
        MetricFamily {
            name: Some(format!("cluster.endpoint.{field}")),
            metric: vec![Metric {
                label: vec![
                    label("envoy.cluster_name", "shop/web/http/default/deployment.web"),
                    label("envoy.endpoint_address", address),
                    label("envoy.endpoint_hostname", uid),
                ],
                gauge: Some(Gauge { value: Some(value) }),
                ..Metric::default()
            }],
            ..MetricFamily::default()
        }
    }

    fn message(families: Vec<MetricFamily>) -> StreamMetricsMessage {
        let node = Node { id: "edge1".into(), cluster: "default".into(), ..Node::default() };
        StreamMetricsMessage { identifier: Some(Identifier { node: Some(node) }), envoy_metrics: families }
    }

    fn target(uid: &str) -> TargetId {
        TargetId { uid: uid.into(), ip: "10.0.0.1".parse().unwrap(), port: 80 }
    }

    const CLUSTER: &str = "shop/web/http/default/deployment.web";

    #[test]
    fn a_report_replaces_the_one_before_and_tells_what_changed() {
        let reports = Reports::new(Arc::new(|| Time(7)));
        let mut changes = reports.changes();
        reports.ingest(
            &message(vec![gauge("healthy", "10.0.0.1:80", "u1", 0.0), gauge("rq_active", "10.0.0.1:80", "u1", 3.0)]),
            false,
        );
        assert_eq!(changes.try_recv().unwrap(), ObjectKey::new("shop", "web"));
        let got = reports.endpoint("edge1", CLUSTER, &target("u1")).unwrap();
        assert_eq!(got, EndpointReport { healthy: false, cx_active: 0, rq_active: 3 });
        assert_eq!(reports.last("edge1"), Some(Time(7)));

        // The same again tells nothing.
        reports.ingest(
            &message(vec![gauge("healthy", "10.0.0.1:80", "u1", 0.0), gauge("rq_active", "10.0.0.1:80", "u1", 3.0)]),
            false,
        );
        assert!(changes.try_recv().is_err());
        reports.ingest(&message(vec![gauge("healthy", "10.0.0.1:80", "u1", 1.0)]), false);
        assert!(changes.try_recv().is_ok());
        reports.ingest(&message(vec![]), false);
        assert!(changes.try_recv().is_ok());
        assert_eq!(reports.endpoint("edge1", CLUSTER, &target("u1")), None);
    }

    #[test]
    fn a_pod_at_the_same_address_inherits_nothing() {
        let reports = Reports::new(Arc::new(|| Time(0)));
        reports.ingest(&message(vec![gauge("healthy", "10.0.0.1:80", "old", 1.0)]), false);
        assert!(reports.endpoint("edge1", CLUSTER, &target("old")).is_some());
        assert_eq!(reports.endpoint("edge1", CLUSTER, &target("new")), None);
    }

    #[test]
    fn only_direct_reports_are_passed_on() {
        let reports = Reports::new(Arc::new(|| Time(0)));
        let mut direct = reports.direct().subscribe();
        reports.ingest(&message(vec![]), true);
        assert!(direct.try_recv().is_err());
        reports.ingest(&message(vec![]), false);
        assert!(direct.try_recv().is_ok());
    }

    #[test]
    fn listeners_are_known_by_their_gauge() {
        let reports = Reports::new(Arc::new(|| Time(0)));
        let family =
            MetricFamily { name: Some("listener.shop/web/http.downstream_cx_active".into()), ..Default::default() };
        reports.ingest(&message(vec![family]), false);
        assert!(reports.listener("edge1", "shop/web/http"));
        assert!(!reports.listener("edge1", "shop/web/tcp"));
    }
}
