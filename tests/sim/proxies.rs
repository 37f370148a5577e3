//! Simulated proxies: each takes what its replica serves, checks each endpoint's Pod every second, and reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use directlb::provider::envoy::{
    EnvoyProvider,
    reports::{Acks, FLEET_ATTRIBUTE, PROXY_ATTRIBUTE, Reports},
    snapshot::Kind,
};
use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster,
    core::v3::{HealthStatus, address::Address, socket_address::PortSpecifier},
    endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as AttributeValue},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point},
    resource::v1::Resource,
};
use prost::Message as _;
use serde_json::json;

use crate::apiserver::ApiServer;

/// An endpoint as a proxy has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub cluster: String,
    pub address: String,
    pub uid: String,
    pub draining: bool,
}

/// What a proxy has applied, and found out.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub endpoints: BTreeSet<Endpoint>,
    pub listeners: BTreeMap<String, String>,
    /// By cluster and UID: its last check passed.
    pub healthy: BTreeMap<(String, String), bool>,
    /// Clusters without health checks: whatever is in them counts as healthy.
    pub unchecked: BTreeSet<String>,
    /// The replica that it has them from.
    pub served_by: usize,
}

/// The replicas of the controller that proxies can talk to.
pub type Replicas = Arc<Mutex<Vec<Replica>>>;

/// A replica of the controller, as the proxies know it.
#[derive(Clone)]
pub struct Replica {
    /// No two ever have the same.
    pub id: usize,
    pub provider: EnvoyProvider,
    pub reports: Reports,
}

/// A fleet of proxies.
#[derive(Clone)]
pub struct Proxies {
    views: Arc<Mutex<BTreeMap<String, View>>>,
}

pub const SYSTEM: &str = "directlb-system";

impl Proxies {
    /// Starts `n` proxies and makes their Pods.
    pub fn start(api: &ApiServer, replicas: &Replicas, n: usize) -> Self {
        let this = Self { views: Arc::default() };
        for i in 0..n {
            let name = format!("proxy-{i}");
            api.create(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": SYSTEM, "labels": {"directlb.io/fleet": "default"}},
                "spec": {"containers": [{"name": "envoy", "image": "envoy"}], "hostNetwork": true, "nodeName": "edge"},
            }));
            tokio::spawn(this.clone().run(name, api.clone(), replicas.clone(), i));
        }
        this
    }

    /// What each proxy has.
    pub fn views(&self) -> BTreeMap<String, View> {
        self.views.lock().unwrap().clone()
    }

    async fn run(self, name: String, api: ApiServer, replicas: Replicas, offset: usize) {
        let mut ticks = offset as u64;
        loop {
            // Two proxies are never in step.
            tokio::time::sleep(Duration::from_millis(100 + 37 * offset as u64)).await;
            ticks += 1;
            let all = replicas.lock().unwrap().clone();
            let mut view = self.views.lock().unwrap().get(&name).cloned().unwrap_or_default();
            if !all.is_empty() {
                apply(&all[offset % all.len()], &mut view);
            }
            if ticks.is_multiple_of(8) {
                check(&api, &mut view);
                let message = export(&name, &view);
                for (i, Replica { reports, .. }) in all.iter().enumerate() {
                    reports.ingest(&message, i != offset % all.len());
                    let acks = Acks { listeners: view.listeners.clone(), rejected: None };
                    reports.acked(&name, "default", acks);
                }
            }
            self.views.lock().unwrap().insert(name.clone(), view);
        }
    }
}

fn apply(replica: &Replica, view: &mut View) {
    let Some(fleets) = replica.provider.snapshots().borrow().clone() else { return };
    view.served_by = replica.id;
    let none = Arc::default();
    let resources = fleets.get("default").unwrap_or(&none);
    view.unchecked = resources
        .of(Kind::Cluster)
        .iter()
        .filter(|(_, r)| Cluster::decode(r.body.value.as_slice()).unwrap().health_checks.is_empty())
        .map(|(name, _)| name.clone())
        .collect();
    view.endpoints.clear();
    for resource in resources.of(Kind::Endpoints).values() {
        let assignment = ClusterLoadAssignment::decode(resource.body.value.as_slice()).unwrap();
        for e in assignment.endpoints.iter().flat_map(|l| &l.lb_endpoints) {
            let Some(HostIdentifier::Endpoint(endpoint)) = &e.host_identifier else { panic!("no endpoint") };
            let Some(Address::SocketAddress(socket)) = endpoint.address.as_ref().and_then(|a| a.address.clone()) else {
                panic!("no address")
            };
            let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { panic!("no port") };
            view.endpoints.insert(Endpoint {
                cluster: assignment.cluster_name.clone(),
                address: format!("{}:{port}", socket.address),
                uid: endpoint.hostname.clone(),
                draining: e.health_status == i32::from(HealthStatus::Draining),
            });
        }
    }
    view.listeners = resources.of(Kind::Listener).iter().map(|(n, r)| (n.clone(), r.version.clone())).collect();
    let known: BTreeSet<_> = view.endpoints.iter().map(|e| (e.cluster.clone(), e.uid.clone())).collect();
    view.healthy.retain(|key, _| known.contains(key));
}

/// A Pod answers as long as it is there and was ready once, whatever the kubelet's probe says now, unless it is marked sick.
fn check(api: &ApiServer, view: &mut View) {
    let answering: BTreeSet<String> = api
        .list("Pod")
        .iter()
        .filter(|p| p["metadata"]["annotations"]["sick"].is_null())
        .filter(|p| !p["status"]["podIP"].is_null())
        .filter_map(|p| p["metadata"]["uid"].as_str().map(str::to_owned))
        .collect();
    for e in &view.endpoints {
        let passes = view.unchecked.contains(&e.cluster) || answering.contains(&e.uid);
        view.healthy.insert((e.cluster.clone(), e.uid.clone()), passes);
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(AttributeValue::StringValue(value.into())) }),
        ..KeyValue::default()
    }
}

/// The gauges of each endpoint, as Envoy exports them.
fn export(proxy: &str, view: &View) -> ExportMetricsServiceRequest {
    let metrics = view
        .endpoints
        .iter()
        .flat_map(|e| {
            let passes = view.healthy.get(&(e.cluster.clone(), e.uid.clone())) == Some(&true);
            [("healthy", i64::from(passes && !e.draining)), ("cx_active", 0), ("rq_active", 0)].map(|(field, value)| {
                Metric {
                    name: format!("cluster.endpoint.{field}"),
                    data: Some(Data::Gauge(Gauge {
                        data_points: vec![NumberDataPoint {
                            attributes: vec![
                                attribute("envoy.cluster_name", &e.cluster),
                                attribute("envoy.endpoint_address", &e.address),
                                attribute("envoy.endpoint_hostname", &e.uid),
                            ],
                            value: Some(number_data_point::Value::AsInt(value)),
                            ..NumberDataPoint::default()
                        }],
                    })),
                    ..Metric::default()
                }
            })
        })
        .collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: vec![attribute(PROXY_ATTRIBUTE, proxy), attribute(FLEET_ATTRIBUTE, "default")],
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}
