//! The world in which the controller runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use directlb::{
    api::DirectLoadBalancer,
    controller::{self, Caches, Setup, Triggers},
    gate::inject::{self, InjectSource},
    model::Time,
    provider::envoy::{EnvoyProvider, drains::Drains, reports::Reports},
    runtime::{clock::Clock, http::Health, telemetry::Metrics},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    apiserver::{ApiServer, ResourceType},
    kubelet::{KubeletConfig, condition},
    proxies::{Proxies, Replica, Replicas, SYSTEM},
    workloads::Workloads,
};

pub struct Running {
    pub leading: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A cluster with two proxies and a class, and the replicas of the controller that a test starts.
pub struct World {
    pub api: ApiServer,
    pub workloads: Arc<Workloads>,
    pub proxies: Proxies,
    replicas: Replicas,
    pub running: Vec<Running>,
    /// How many were ever started.
    started: usize,
}

/// Injection as the webhook does it, with the API server's own store for a cache.
struct Source(ApiServer);

impl InjectSource for Source {
    fn objects(&self, namespace: &str) -> Vec<Arc<DirectLoadBalancer>> {
        let all = self.0.list("directlb.io/DirectLoadBalancer");
        let here = all.iter().filter(|o| o["metadata"]["namespace"] == namespace);
        here.filter_map(|o| serde_json::from_value((***o).clone()).ok().map(Arc::new)).collect()
    }
    fn service_selector(&self, _: &str, _: &str) -> Option<BTreeMap<String, String>> {
        None
    }
    fn namespace_labels(&self, _: &str) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn drain(&self, object: &DirectLoadBalancer) -> directlb::api::DrainSpec {
        object.spec.drain.clone().unwrap_or_default()
    }
}

impl World {
    /// Without a controller yet.
    pub fn new(seed: u64) -> Self {
        Self::with_kubelet(KubeletConfig { seed, ..KubeletConfig::default() })
    }

    /// The same with another kubelet.
    pub fn with_kubelet(kubelet: KubeletConfig) -> Self {
        let api = ApiServer::new();
        let revisions = ("apps", "v1", "ControllerRevision", "controllerrevisions");
        api.register(ResourceType::custom(revisions.0, revisions.1, revisions.2, revisions.3, true));
        let workloads = Workloads::start(&api, 3, kubelet);
        let source = Source(api.clone());
        workloads.inject(move |pod| {
            let patch = inject::patch(pod, "default", &source);
            json_patch::patch(pod, &patch).unwrap();
        });
        for namespace in ["default", SYSTEM] {
            if api.get("Namespace", namespace).is_none() {
                api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
            }
        }
        api.create(json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancerClass", "metadata": {"name": "public"},
            "spec": {"default": true, "envoy": {"fleet": "default", "addressPool": ["192.0.2.0/28"]}},
        }));
        let replicas: Replicas = Arc::default();
        let proxies = Proxies::start(&api, &replicas, 2);
        Self { api, workloads: Arc::new(workloads), proxies, replicas, running: Vec::new(), started: 0 }
    }

    /// Two replicas, the usual object, and three Pods that are Ready behind it.
    pub async fn serving(seed: u64) -> Self {
        let mut w = Self::new(seed);
        w.replica(true);
        w.replica(false);
        w.lb(spec());
        w.workloads.deploy("web", &json!({"app": "web"}), 3);
        seconds(40).await;
        assert_eq!(w.ready(), 3, "seed {seed}: it did not even start");
        w
    }

    /// Starts a replica; its index.
    pub fn replica(&mut self, leads: bool) -> usize {
        let clock = Clock::starting_at(Time(u64::try_from(self.api.now().as_millisecond()).unwrap()));
        let client = self.api.client();
        let (triggers, changes) = Triggers::new();
        let (caches, feeds) = Caches::new(&client, SYSTEM, &triggers);
        let reports = Reports::new(clock.as_fn());
        let provider = EnvoyProvider::new(reports.clone(), Drains::default());
        let (leading, follow) = watch::channel(leads);
        let setup = Setup {
            client,
            caches,
            feeds,
            triggers,
            changes,
            provider: provider.clone(),
            connect: Arc::new(|_| Err("there is no cloud here".into())),
            clock: clock.clone(),
            leading: follow,
            metrics: Metrics::new().unwrap(),
            health: Health::new(clock),
            namespace: SYSTEM.into(),
            pod_name: format!("controller-{}", self.running.len()),
            proxy_timeout: Duration::from_secs(60),
        };
        let task = tokio::spawn(controller::run(setup, std::future::pending()));
        self.started += 1;
        self.replicas.lock().unwrap().push(Replica { id: self.started, provider, reports });
        self.running.push(Running { leading, task });
        self.running.len() - 1
    }

    /// A replica dies without a word.
    pub fn kill(&mut self, i: usize) {
        self.running[i].task.abort();
        self.running.remove(i);
        self.replicas.lock().unwrap().remove(i);
    }

    /// Makes the object `web`.
    pub fn lb(&self, spec: Value) {
        self.api.create(json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
            "metadata": {"name": "web", "namespace": "default"}, "spec": spec,
        }));
    }

    /// Its status.
    pub fn status(&self) -> Value {
        self.api.get("directlb.io/DirectLoadBalancer", "web").map(|o| o["status"].clone()).unwrap_or_default()
    }

    /// A condition of it: status and reason.
    pub fn condition(&self, type_: &str) -> String {
        let status = self.status();
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|c| c["type"] == type_);
        found
            .map(|c| format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
            .unwrap_or_default()
    }

    /// How many of its Pods are Ready.
    pub fn ready(&self) -> usize {
        let alive = |p: &Value| p["metadata"]["deletionTimestamp"].is_null();
        self.workloads.pods("web").iter().filter(|p| condition(p, "Ready") && alive(p)).count()
    }
}

/// The usual object: HTTP to the Deployment `web`.
pub fn spec() -> Value {
    json!({
        "target": {"workload": {"kind": "Deployment", "name": "web"}},
        "drain": {"timeout": "10s"},
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80, "targetPort": 8080}],
    })
}

/// Its gate.
pub const GATE: &str = "gate.directlb.io/web";

/// Virtual seconds.
pub async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}
