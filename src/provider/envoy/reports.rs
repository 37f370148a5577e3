//! What the proxies say.
//!
//! Two things. Each second, Envoy's OpenTelemetry stats sink exports three gauges for each endpoint (`healthy`, `cx_active`,
//! `rq_active`; `track_cluster_stats.per_endpoint_stats`). It is the one gRPC sink that carries them: the metrics service
//! sink leaves per-endpoint stats out. And by its acknowledgements on the discovery stream a proxy says which listeners it
//! carries, and what it refused.
//!
//! An endpoint is known by its cluster, its address and its hostname, which is the Pod's UID: a Pod that takes over an
//! address inherits nothing. Each export is complete, and replaces the one before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_server::MetricsService,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point},
    resource::v1::Resource,
};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status};

use super::{relay::RELAYED, snapshot};
use crate::model::{ObjectKey, TargetId, Time};

/// Resource attribute that names the proxy (`OTEL_RESOURCE_ATTRIBUTES` in the proxies' DaemonSet).
pub const PROXY_ATTRIBUTE: &str = "directlb.proxy";
/// Resource attribute that names its fleet.
pub const FLEET_ATTRIBUTE: &str = "directlb.fleet";
/// The metric by which one replica tells another what a proxy acknowledged.
const ACKED: &str = "directlb.acked";
/// What a peer told is believed for so long; it tells every second.
const ACK_LIFE: Duration = Duration::from_secs(10);
/// A proxy that was silent for so long is gone, or starts anew.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// An export that changes nothing is passed on to the peers only as often as that: enough for them to know that the proxy
/// reports, and for a peer that has just started to hear everything.
const RELAY_EVERY: Duration = Duration::from_secs(4);

/// What a proxy says about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointReport {
    /// Since which export it takes new traffic (its checks pass, and it is not draining); `None`: it does not.
    pub healthy_since: Option<Time>,
    /// Open connections to it.
    pub cx_active: u64,
    /// Requests in progress on it.
    pub rq_active: u64,
}

/// A proxy that has exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReport {
    /// Its fleet.
    pub fleet: String,
    /// When it exported last.
    pub at: Time,
}

/// What a proxy has acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// The listeners that it carries, with their versions.
    pub listeners: BTreeMap<String, String>,
    /// What it refused last and has not accepted since.
    pub rejected: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct EndpointKey {
    address: SocketAddr,
    uid: String,
}

type Clusters = HashMap<String, HashMap<EndpointKey, EndpointReport>>;

#[derive(Debug, Default)]
struct Proxy {
    fleet: String,
    last: Time,
    /// When an export was passed on to the peers last.
    relayed: Option<Time>,
    clusters: Clusters,
}

#[derive(Debug)]
struct Acked {
    acks: Acks,
    fleet: String,
    /// When a peer said so; `None`: the proxy is connected here.
    told: Option<Time>,
}

#[derive(Debug, Default)]
struct State {
    proxies: BTreeMap<String, Proxy>,
    acked: BTreeMap<String, Acked>,
}

/// All reports. Cheap to clone.
#[derive(Clone)]
pub struct Reports(Arc<Inner>);

struct Inner {
    state: RwLock<State>,
    changes: broadcast::Sender<ObjectKey>,
    direct: broadcast::Sender<Arc<ExportMetricsServiceRequest>>,
    clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

impl Reports {
    /// No reports yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Fn() -> Time + Send + Sync>) -> Self {
        Self(Arc::new(Inner {
            state: RwLock::default(),
            changes: broadcast::Sender::new(4096),
            direct: broadcast::Sender::new(256),
            clock,
        }))
    }

    /// Objects about which something changed: health, an endpoint that is new or gone, a target that became idle, a
    /// listener that is carried now.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ObjectKey> {
        self.0.changes.subscribe()
    }

    /// What the proxies that are connected here say, for [`super::relay`].
    #[must_use]
    pub fn direct(&self) -> broadcast::Sender<Arc<ExportMetricsServiceRequest>> {
        self.0.direct.clone()
    }

    /// The proxies that have exported, and when they did last.
    #[must_use]
    pub fn proxies(&self) -> BTreeMap<String, LastReport> {
        let last = |p: &Proxy| LastReport { fleet: p.fleet.clone(), at: p.last };
        self.read(|s| s.proxies.iter().map(|(name, p)| (name.clone(), last(p))).collect())
    }

    /// What the proxy says about a target.
    #[must_use]
    pub fn endpoint(&self, proxy: &str, cluster: &str, target: &TargetId) -> Option<EndpointReport> {
        let key = EndpointKey { address: SocketAddr::new(target.ip, target.port), uid: target.uid.clone() };
        self.read(|s| s.proxies.get(proxy)?.clusters.get(cluster)?.get(&key).copied())
    }

    /// Whether the proxy carries this version of a listener.
    #[must_use]
    pub fn carries(&self, proxy: &str, listener: &str, version: &str) -> bool {
        self.acks(proxy, |a| a.listeners.get(listener).is_some_and(|v| v == version)).unwrap_or(false)
    }

    /// What the proxy refused last and has not accepted since.
    #[must_use]
    pub fn rejected(&self, proxy: &str) -> Option<String> {
        self.acks(proxy, |a| a.rejected.clone()).flatten()
    }

    fn acks<T>(&self, proxy: &str, f: impl FnOnce(&Acks) -> T) -> Option<T> {
        let now = (self.0.clock)();
        self.read(|s| {
            let acked = s.acked.get(proxy)?;
            acked.told.is_none_or(|at| now.since(at) < ACK_LIFE).then(|| f(&acked.acks))
        })
    }

    /// A proxy that is connected here has acknowledged, or refused, something.
    pub fn acked(&self, proxy: &str, fleet: &str, acks: Acks) {
        self.set_acks(proxy, Acked { acks, fleet: fleet.into(), told: None });
        self.tell(proxy);
    }

    /// A proxy is no longer connected here; it may be connected to a peer already, which tells.
    pub fn disconnected(&self, proxy: &str) {
        let now = (self.0.clock)();
        self.write(|s| {
            if let Some(acked) = s.acked.get_mut(proxy).filter(|a| a.told.is_none()) {
                acked.told = Some(now);
            }
        });
    }

    /// Tells the peers what the proxies that are connected here have acknowledged: to be called every second.
    pub fn tell_all(&self) {
        let local: Vec<String> =
            self.read(|s| s.acked.iter().filter(|(_, a)| a.told.is_none()).map(|(n, _)| n.clone()).collect());
        for proxy in local {
            self.tell(&proxy);
        }
    }

    fn tell(&self, proxy: &str) {
        let message = self.read(|s| s.acked.get(proxy).map(|a| wire(proxy, &a.fleet, &a.acks)));
        if let Some(message) = message {
            // Nobody listens: there are no peers.
            let _ = self.0.direct.send(Arc::new(message));
        }
    }

    fn set_acks(&self, proxy: &str, next: Acked) {
        let changed = self.write(|s| {
            let none = Acks::default();
            let before = s.acked.get(proxy).map_or(&none, |a| &a.acks);
            let mut changed = BTreeSet::new();
            let names = before.listeners.keys().chain(next.acks.listeners.keys());
            for name in names {
                if before.listeners.get(name) != next.acks.listeners.get(name) {
                    changed.extend(snapshot::object_of(name));
                }
            }
            s.acked.insert(proxy.into(), next);
            changed
        });
        self.notify(changed);
    }

    /// Forgets proxies that are gone.
    pub fn forget<'a>(&self, gone: impl Iterator<Item = &'a String>) {
        self.write(|s| {
            for name in gone {
                s.proxies.remove(name);
                // One that is still connected tells again.
                if s.acked.get(name).is_some_and(|a| a.told.is_some()) {
                    s.acked.remove(name);
                }
            }
        });
    }

    /// Forgets proxies that nothing was heard of for long.
    pub fn forget_silent(&self, now: Time) {
        self.write(|s| {
            s.proxies.retain(|_, p| now.since(p.last) < FORGET_AFTER);
            s.acked.retain(|_, a| a.told.is_none_or(|at| now.since(at) < FORGET_AFTER));
        });
    }

    /// Takes an export in.
    pub fn ingest(&self, message: &ExportMetricsServiceRequest, relayed: bool) {
        let now = (self.0.clock)();
        let mut pass_on = false;
        for resource in &message.resource_metrics {
            let attributes = resource.resource.as_ref().map(|r| r.attributes.as_slice()).unwrap_or_default();
            let Some(proxy) = text(attributes, PROXY_ATTRIBUTE) else { continue };
            if let Some(acks) = read_acks(resource) {
                let fleet = text(attributes, FLEET_ATTRIBUTE).unwrap_or_default().to_owned();
                // What the proxy itself says here counts more than what a peer remembers.
                let local = self.read(|s| s.acked.get(proxy).is_some_and(|a| a.told.is_none()));
                if relayed && !local {
                    self.set_acks(proxy, Acked { acks, fleet, told: Some(now) });
                }
                continue;
            }
            let mut next = clusters(resource, now);
            let (changed, due) = self.write(|s| {
                let proxy = s.proxies.entry(proxy.to_owned()).or_default();
                keep_since(&proxy.clusters, &mut next);
                let changed = changed(&proxy.clusters, &next);
                let due = !changed.is_empty() || proxy.relayed.is_none_or(|at| now.since(at) >= RELAY_EVERY);
                let relayed = if due { Some(now) } else { proxy.relayed };
                let fleet = text(attributes, FLEET_ATTRIBUTE).unwrap_or_default().to_owned();
                *proxy = Proxy { fleet, last: now, relayed, clusters: next };
                (changed, due)
            });
            self.notify(changed);
            pass_on |= due;
        }
        if pass_on && !relayed {
            let _ = self.0.direct.send(Arc::new(message.clone()));
        }
    }

    fn notify(&self, changed: BTreeSet<ObjectKey>) {
        for key in changed {
            // Nobody listens yet: then nobody missed anything.
            let _ = self.0.changes.send(key);
        }
    }

    fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.0.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.key == key).and_then(|a| match a.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.as_str()),
        _ => None,
    })
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..KeyValue::default()
    }
}

fn metrics(resource: &ResourceMetrics) -> impl Iterator<Item = (&str, &NumberDataPoint)> {
    resource.scope_metrics.iter().flat_map(|s| &s.metrics).flat_map(|m| {
        let points = match &m.data {
            Some(Data::Gauge(gauge)) => gauge.data_points.as_slice(),
            _ => &[],
        };
        points.iter().map(|p| (m.name.as_str(), p))
    })
}

/// What was healthy before has been so since then.
fn keep_since(old: &Clusters, new: &mut Clusters) {
    for (name, endpoints) in new {
        let Some(old) = old.get(name) else { continue };
        for (key, report) in endpoints {
            let before = old.get(key).and_then(|r| r.healthy_since);
            report.healthy_since = report.healthy_since.map(|now| before.unwrap_or(now));
        }
    }
}

fn clusters(resource: &ResourceMetrics, now: Time) -> Clusters {
    let mut out = Clusters::new();
    for (name, point) in metrics(resource) {
        let Some((_, field)) = name.rsplit_once('.') else { continue };
        let Some((cluster, key)) = endpoint_of(point) else { continue };
        let value = value(point);
        let report = out.entry(cluster).or_default().entry(key).or_default();
        match field {
            "healthy" => report.healthy_since = (value > 0).then_some(now),
            "cx_active" => report.cx_active = value,
            "rq_active" => report.rq_active = value,
            _ => {}
        }
    }
    out
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A gauge of connections: a small whole number.
fn value(point: &NumberDataPoint) -> u64 {
    match point.value {
        Some(number_data_point::Value::AsInt(n)) => u64::try_from(n).unwrap_or(0),
        Some(number_data_point::Value::AsDouble(x)) => x.max(0.0) as u64,
        None => 0,
    }
}

fn endpoint_of(point: &NumberDataPoint) -> Option<(String, EndpointKey)> {
    let find = |suffix: &str| {
        let key = point.attributes.iter().find(|a| a.key.ends_with(suffix))?;
        text(&point.attributes, &key.key)
    };
    let address = find("endpoint_address")?.parse().ok()?;
    let uid = find("endpoint_hostname").unwrap_or_default().to_owned();
    Some((find("cluster_name")?.to_owned(), EndpointKey { address, uid }))
}

/// What a proxy acknowledged, as one replica tells another: a metric with a point for each listener.
fn wire(proxy: &str, fleet: &str, acks: &Acks) -> ExportMetricsServiceRequest {
    let point = |attributes| NumberDataPoint { attributes, ..NumberDataPoint::default() };
    let mut data_points: Vec<NumberDataPoint> = acks
        .listeners
        .iter()
        .map(|(name, version)| point(vec![attribute("listener", name), attribute("version", version)]))
        .collect();
    if let Some(detail) = &acks.rejected {
        data_points.push(point(vec![attribute("rejected", detail)]));
    }
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: vec![attribute(PROXY_ATTRIBUTE, proxy), attribute(FLEET_ATTRIBUTE, fleet)],
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![Metric {
                    name: ACKED.into(),
                    data: Some(Data::Gauge(Gauge { data_points })),
                    ..Metric::default()
                }],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn read_acks(resource: &ResourceMetrics) -> Option<Acks> {
    if !resource.scope_metrics.iter().flat_map(|s| &s.metrics).any(|m| m.name == ACKED) {
        return None;
    }
    let mut acks = Acks::default();
    for (_, point) in metrics(resource) {
        let get = |key| text(&point.attributes, key).map(str::to_owned);
        if let (Some(name), Some(version)) = (get("listener"), get("version")) {
            acks.listeners.insert(name, version);
        }
        acks.rejected = acks.rejected.or(get("rejected"));
    }
    Some(acks)
}

fn changed(old: &Clusters, new: &Clusters) -> BTreeSet<ObjectKey> {
    let mut out = BTreeSet::new();
    let names = old.keys().chain(new.keys().filter(|n| !old.contains_key(*n)));
    for name in names {
        let none = HashMap::new();
        let (was, is) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        let differs = was.len() != is.len()
            || is.iter().any(|(key, now)| {
                was.get(key).is_none_or(|before| {
                    before.healthy_since.is_some() != now.healthy_since.is_some()
                        || (now.healthy_since.is_none()
                            && ((before.cx_active > 0) != (now.cx_active > 0)
                                || (before.rq_active > 0) != (now.rq_active > 0)))
                })
            });
        if differs {
            out.extend(snapshot::object_of(name));
        }
    }
    out
}

#[tonic::async_trait]
impl MetricsService for Reports {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let relayed = request.metadata().contains_key(RELAYED);
        self.ingest(request.get_ref(), relayed);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLUSTER: &str = "shop/web/http/default/deployment.web";

    fn export(points: &[(&str, &str, &str, i64)]) -> ExportMetricsServiceRequest {
        let metric = |(field, address, uid, value): &(&str, &str, &str, i64)| Metric {
            name: format!("cluster.endpoint.{field}"),
            data: Some(Data::Gauge(Gauge {
                data_points: vec![NumberDataPoint {
                    attributes: vec![
                        attribute("envoy.cluster_name", CLUSTER),
                        attribute("envoy.endpoint_address", address),
                        attribute("envoy.endpoint_hostname", uid),
                    ],
                    value: Some(number_data_point::Value::AsInt(*value)),
                    ..NumberDataPoint::default()
                }],
            })),
            ..Metric::default()
        };
        let mut message = wire("edge1", "default", &Acks::default());
        message.resource_metrics[0].scope_metrics[0].metrics = points.iter().map(metric).collect();
        message
    }

    fn target(uid: &str) -> TargetId {
        TargetId { uid: uid.into(), ip: "10.0.0.1".parse().unwrap(), port: 80 }
    }

    fn reports() -> Reports {
        reports_at(7)
    }

    fn reports_at(ms: u64) -> Reports {
        Reports::new(Arc::new(move || Time(ms)))
    }

    #[test]
    fn an_export_replaces_the_one_before_and_tells_what_changed() {
        let reports = reports();
        let mut changes = reports.changes();
        let first = export(&[("healthy", "10.0.0.1:80", "u1", 0), ("rq_active", "10.0.0.1:80", "u1", 3)]);
        reports.ingest(&first, false);
        assert_eq!(changes.try_recv().unwrap(), ObjectKey::new("shop", "web"));
        let got = reports.endpoint("edge1", CLUSTER, &target("u1")).unwrap();
        assert_eq!(got, EndpointReport { healthy_since: None, cx_active: 0, rq_active: 3 });
        assert_eq!(reports.proxies()["edge1"].at, Time(7));
        // The same again tells nothing.
        reports.ingest(&first, false);
        assert!(changes.try_recv().is_err());
        reports.ingest(&export(&[("healthy", "10.0.0.1:80", "u1", 1)]), false);
        assert!(changes.try_recv().is_ok());
        reports.ingest(&export(&[]), false);
        assert!(changes.try_recv().is_ok());
        assert_eq!(reports.endpoint("edge1", CLUSTER, &target("u1")), None);
    }

    #[test]
    fn a_pod_at_the_same_address_inherits_nothing() {
        let reports = reports();
        reports.ingest(&export(&[("healthy", "10.0.0.1:80", "old", 1)]), false);
        assert!(reports.endpoint("edge1", CLUSTER, &target("old")).is_some());
        assert_eq!(reports.endpoint("edge1", CLUSTER, &target("new")), None);
    }

    #[test]
    fn only_direct_exports_are_passed_on() {
        let reports = reports();
        let mut direct = reports.direct().subscribe();
        reports.ingest(&export(&[]), true);
        assert!(direct.try_recv().is_err());
        let other = reports_at(1);
        let mut direct = other.direct().subscribe();
        other.ingest(&export(&[]), false);
        assert!(direct.try_recv().is_ok());
    }

    #[test]
    fn what_changes_nothing_is_passed_on_less_often() {
        let clock = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let now = clock.clone();
        let reports = Reports::new(Arc::new(move || Time(now.load(std::sync::atomic::Ordering::Relaxed))));
        let mut direct = reports.direct().subscribe();
        let healthy = |n| export(&[("healthy", "10.0.0.1:80", "u1", n)]);
        let mut passed = |second: u64, n| {
            clock.store(second * 1000, std::sync::atomic::Ordering::Relaxed);
            reports.ingest(&healthy(n), false);
            direct.try_recv().is_ok()
        };
        let got: Vec<bool> =
            [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)].map(|(s, n)| passed(s, n)).into();
        assert_eq!(got, [true, false, true, false, false, false, true, false]);
    }

    #[test]
    fn acknowledgements_reach_the_peers_and_do_not_come_back() {
        let (here, there) = (reports(), reports());
        let mut direct = here.direct().subscribe();
        let listeners = BTreeMap::from([("shop/web/http".to_owned(), "v1".to_owned())]);
        here.acked("edge1", "default", Acks { listeners, rejected: Some("bad".into()) });
        let mut changes = there.changes();
        there.ingest(&direct.try_recv().unwrap(), true);
        assert_eq!(changes.try_recv().unwrap(), ObjectKey::new("shop", "web"));
        assert!(there.carries("edge1", "shop/web/http", "v1"));
        assert!(!there.carries("edge1", "shop/web/http", "v2"));
        assert_eq!(there.rejected("edge1").as_deref(), Some("bad"));
        let mut back = there.direct().subscribe();
        there.tell_all();
        assert!(back.try_recv().is_err());
    }
}
