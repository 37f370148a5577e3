//! The whole controller: scenarios, and seeded faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

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
    apiserver::{ApiServer, Faults, ResourceType, Rng},
    kubelet::{KubeletConfig, condition},
    proxies::{Proxies, Replica, Replicas, SYSTEM, View},
    workloads::Workloads,
};

struct Running {
    leading: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct World {
    api: ApiServer,
    workloads: Arc<Workloads>,
    proxies: Proxies,
    replicas: Replicas,
    running: Vec<Running>,
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
    fn new(seed: u64) -> Self {
        let api = ApiServer::new();
        let revisions = ("apps", "v1", "ControllerRevision", "controllerrevisions");
        api.register(ResourceType::custom(revisions.0, revisions.1, revisions.2, revisions.3, true));
        let workloads = Workloads::start(&api, 3, KubeletConfig { seed, ..KubeletConfig::default() });
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

    fn replica(&mut self, leads: bool) -> usize {
        let clock = Clock::starting_at(Time(u64::try_from(self.api.now().as_millisecond()).unwrap()));
        let client = self.api.client();
        let (triggers, changes) = Triggers::new();
        let (caches, feeds) = Caches::new(&client, &triggers);
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
    fn kill(&mut self, i: usize) {
        self.running[i].task.abort();
        self.running.remove(i);
        self.replicas.lock().unwrap().remove(i);
    }

    fn lb(&self, spec: Value) {
        self.api.create(json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
            "metadata": {"name": "web", "namespace": "default"}, "spec": spec,
        }));
    }

    fn status(&self) -> Value {
        self.api.get("directlb.io/DirectLoadBalancer", "web").map(|o| o["status"].clone()).unwrap_or_default()
    }

    fn condition(&self, type_: &str) -> String {
        let status = self.status();
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|c| c["type"] == type_);
        found
            .map(|c| format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
            .unwrap_or_default()
    }

    fn ready(&self) -> usize {
        let alive = |p: &Value| p["metadata"]["deletionTimestamp"].is_null();
        self.workloads.pods("web").iter().filter(|p| condition(p, "Ready") && alive(p)).count()
    }
}

fn spec() -> Value {
    json!({
        "target": {"workload": {"kind": "Deployment", "name": "web"}},
        "drain": {"timeout": "10s"},
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80, "targetPort": 8080}],
    })
}

const GATE: &str = "gate.directlb.io/web";

async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_become_ready_behind_both_proxies_and_then_nothing_is_written_for_an_hour() {
    let mut w = World::new(1);
    w.replica(true);
    w.replica(false);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 3);
    for _ in 0..240 {
        sleep(Duration::from_millis(250)).await;
        for pod in w.workloads.pods("web") {
            let everywhere = w.proxies.views().values().all(|v| {
                v.healthy.iter().any(|((_, uid), ok)| *ok && *uid == pod["metadata"]["uid"].as_str().unwrap())
            });
            assert!(everywhere || !condition(&pod, GATE), "a gate is open before every proxy has the Pod healthy");
        }
    }
    assert_eq!(w.ready(), 3);
    assert_eq!(w.condition("Ready"), "True Ready");
    assert_eq!(w.status()["targets"]["healthy"], 3);
    w.api.clear_requests();
    seconds(3600).await;
    let writes: Vec<String> =
        w.api.writes().into_iter().filter(|l| l.contains("directlb") || l.contains("/pods/")).collect();
    assert_eq!(writes, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn deleting_removes_everything_and_opens_gates() {
    let mut w = World::new(2);
    w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 2);
    seconds(30).await;
    assert_eq!(w.ready(), 2);
    w.api.delete("directlb.io/DirectLoadBalancer", "web");
    seconds(10).await;
    assert!(w.api.get("directlb.io/DirectLoadBalancer", "web").is_none(), "the finalizer is stuck");
    assert!(w.proxies.views().values().all(|v| v.listeners.is_empty() && v.endpoints.is_empty()));
    w.workloads.scale("web", 3);
    seconds(60).await;
    assert_eq!(w.ready(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_object_forced_away_leaves_no_gate_shut_even_if_nobody_was_there() {
    let mut w = World::new(3);
    let only = w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 1);
    seconds(30).await;
    w.kill(only);
    w.workloads.scale("web", 3);
    seconds(30).await;
    assert_eq!(w.ready(), 1, "new Pods wait");
    w.api.delete("directlb.io/DirectLoadBalancer", "web");
    w.api.edit("directlb.io/DirectLoadBalancer", "web", |o| o["metadata"]["finalizers"] = json!([]));
    seconds(5).await;
    w.replica(true);
    seconds(30).await;
    assert_eq!(w.ready(), 3);
    let pod = w.workloads.pods("web").into_iter().find(|p| condition(p, GATE)).unwrap();
    assert!(pod["status"]["conditions"].to_string().contains("LoadBalancerDeleted"));
}

#[tokio::test(start_paused = true)]
async fn a_bad_edit_keeps_the_listener_through_a_restart_of_everything() {
    let mut w = World::new(4);
    w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 2);
    seconds(30).await;
    w.api.edit("directlb.io/DirectLoadBalancer", "web", |o| {
        o["spec"]["target"]["workload"]["name"] = "nope".into();
    });
    seconds(5).await;
    assert_eq!(w.condition("Accepted"), "False ReferenceNotFound");
    w.kill(0);
    w.replica(true);
    seconds(10).await;
    // A new Pod is registered behind the listener that stayed, an old one drained.
    w.workloads.scale("web", 3);
    seconds(40).await;
    for (name, view) in w.proxies.views() {
        assert_eq!(view.listeners.len(), 1, "{name}");
        assert_eq!(view.endpoints.iter().filter(|e| !e.draining).count(), 3, "{name}: {:?}", view.endpoints);
    }
    assert_eq!(w.ready(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_stalls_nobody() {
    let mut w = World::new(5);
    w.api.create(json!({
        "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
        "metadata": {"name": "unreadable", "namespace": "default"}, "spec": {"listeners": "none"},
    }));
    w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 2);
    seconds(30).await;
    assert_eq!(w.ready(), 2);
    let said = w.api.get("directlb.io/DirectLoadBalancer", "unreadable").unwrap()["status"].to_string();
    assert!(said.contains("cannot be read"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_takes_no_target_away() {
    let mut w = World::new(6);
    w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 3);
    seconds(30).await;
    // All Pods unready at once, by the kubelet; the load balancer's checks go on passing.
    for pod in w.workloads.pods("web") {
        w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), false);
    }
    seconds(10).await;
    for view in w.proxies.views().values() {
        assert_eq!(view.endpoints.iter().filter(|e| !e.draining).count(), 3);
    }
    assert_eq!(w.status()["plan"]["holds"][0]["reason"], "MassRemoval");
    w.workloads.scale("web", 0);
    seconds(90).await;
    assert!(w.proxies.views().values().all(|v| v.endpoints.is_empty()), "scaled to 0 is meant to be empty");
}

/// What the steps before have shown.
#[derive(Default)]
struct Seen {
    /// By proxy and Pod: the step since which a gate is open that the proxy does not have healthy.
    sick_since: BTreeMap<String, u64>,
    /// The proxies, a step ago.
    views: BTreeMap<String, View>,
}

/// Runs one seed: random work under faults, with safety asserted at each step and liveness once the faults stop.
async fn run_seed(seed: u64) {
    if std::env::var_os("SIM_TRACE").is_some() {
        let _ = tracing_subscriber::fmt().with_ansi(false).without_time().with_test_writer().try_init();
    }
    let mut rng = Rng::new(seed);
    let mut w = World::new(seed);
    w.replica(true);
    w.replica(false);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 3);
    seconds(40).await;
    assert_eq!(w.ready(), 3, "seed {seed}: it did not even start");
    w.api.set_faults(Faults::rough(seed));
    let mut seen = Seen::default();
    for step in 0..240u64 {
        sleep(Duration::from_millis(500)).await;
        if step % 20 == 5 {
            match rng.below(6) {
                0 => w.workloads.scale("web", usize::try_from(1 + rng.below(5)).unwrap()),
                1 => w.workloads.roll("web", |t| t["spec"]["containers"][0]["image"] = format!("app:{step}").into()),
                2 => {
                    for pod in w.workloads.pods("web") {
                        w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), false);
                    }
                }
                3 => {
                    // The other one leads from now on.
                    let was = *w.running[0].leading.borrow();
                    w.running[0].leading.send_replace(!was);
                    w.running[1].leading.send_replace(was);
                }
                4 => {
                    let dead = usize::try_from(rng.below(2)).unwrap();
                    let led = *w.running[dead].leading.borrow();
                    w.kill(dead);
                    if led {
                        w.running[0].leading.send_replace(true);
                    }
                    w.replica(false);
                }
                _ => w.api.cut_watches(),
            }
        }
        if step % 20 == 15 {
            for pod in w.workloads.pods("web") {
                w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), true);
            }
        }
        safety(&w, seed, step, &mut seen);
    }
    w.api.heal();
    for pod in w.workloads.pods("web") {
        w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), true);
    }
    w.workloads.scale("web", 3);
    // A watch that stalled is given up after five minutes: kube's idle timeout.
    seconds(700).await;
    assert_eq!(w.ready(), 3, "seed {seed}: not everything became ready once the faults stopped: {}", w.status());
    for (name, view) in w.proxies.views() {
        let serving = view.endpoints.iter().filter(|e| !e.draining).count();
        assert_eq!(serving, 3, "seed {seed}: {name} has {:?}", view.endpoints);
    }
}

fn safety(w: &World, seed: u64, step: u64, seen: &mut Seen) {
    let pods = w.workloads.pods("web");
    let views = w.proxies.views();
    let alive: BTreeMap<&str, &Arc<_>> =
        pods.iter().filter_map(|p| Some((p["metadata"]["uid"].as_str()?, p))).collect();
    for (name, view) in &views {
        // No gate is open for a Pod that a proxy does not have healthy. (Nothing here makes a healthy Pod sick, so there is
        // no time to settle.)
        for (uid, pod) in &alive {
            if !pod["metadata"]["deletionTimestamp"].is_null() || !condition(pod, GATE) {
                continue;
            }
            let healthy = view.healthy.iter().any(|((_, u), ok)| u == uid && *ok);
            let key = format!("{name}/{uid}");
            if healthy {
                seen.sick_since.remove(&key);
            } else {
                // A proxy that has just moved to another replica may be behind for a moment.
                let since = *seen.sick_since.entry(key).or_insert(step);
                assert!(step - since < 20, "seed {seed}, step {step}: a gate is open that {name} never had healthy");
            }
        }
        // As long as one of the Pods that took traffic a step ago is there, some Pod takes traffic. (When all of them were
        // deleted within a step, nothing can help.)
        let of = |v: &View| -> BTreeSet<String> {
            let serving = v.endpoints.iter().filter(|e| !e.draining && alive.contains_key(e.uid.as_str()));
            serving.map(|e| e.uid.clone()).collect()
        };
        let mut had = seen.views.get(name).map(of).unwrap_or_default();
        if seen.views.get(name).is_some_and(|v| v.served_by != view.served_by) {
            // A replica that has just started knows the Pods that are ready, and by their gates those that were.
            had.retain(|uid| {
                alive.get(uid.as_str()).is_some_and(|p| condition(p, "ContainersReady") || condition(p, GATE))
            });
        }
        let has = of(view);
        assert!(
            !has.is_empty() || had.is_empty(),
            "seed {seed}, step {step}: {name} had {had:?} serving and now none: {:?}",
            view.endpoints
        );
    }
    seen.views = views;
}

/// `SIM_SEEDS` seeds from `SIM_FIRST` on, over as many threads as there are cores. `SIM_TRACE=1` shows what the
/// controller logs.
#[test]
fn seeded_faults() {
    let env = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, count) = (env("SIM_FIRST", 1), env("SIM_SEEDS", 100));
    let next = Arc::new(Mutex::new(first));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let next = next.clone();
            std::thread::spawn(move || {
                loop {
                    let seed = {
                        let mut next = next.lock().unwrap();
                        let seed = *next;
                        *next += 1;
                        seed
                    };
                    if seed >= first + count {
                        return;
                    }
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
                    runtime.block_on(run_seed(seed));
                }
            })
        })
        .collect();
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
