//! The kubelets of all nodes: start Pods, tell whether they are ready, end them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::apiserver::{ApiServer, Rng};

/// How the simulated kubelets behave.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// Decides the times within the ranges.
    pub seed: u64,
    /// From a Pod's creation until its containers run (and it has an address).
    pub start: std::ops::RangeInclusive<Duration>,
    /// From then until its containers are ready.
    pub ready: std::ops::RangeInclusive<Duration>,
    /// From the deletion mark until the containers have ended; cut to the grace period.
    pub stop: std::ops::RangeInclusive<Duration>,
    /// Whether the address of a Pod just gone is the next one given out: the worst that a network may do.
    pub reuse_addresses: bool,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            seed: 0,
            start: secs(1)..=secs(3),
            ready: secs(1)..=secs(5),
            stop: secs(1)..=secs(60),
            reuse_addresses: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Start,
    Ready,
    End,
}

#[derive(Default)]
struct State {
    queue: BTreeMap<(Instant, u64), (String, String, Act)>,
    planned: BTreeSet<(String, Act)>,
    sequence: u64,
    next_address: u32,
    free: Vec<String>,
    dead: BTreeSet<String>,
    /// Acts that were due while their node was dead.
    parked: Vec<(String, String, Act)>,
}

/// All kubelets; clones are the same.
#[derive(Clone)]
pub struct Kubelets {
    api: ApiServer,
    config: KubeletConfig,
    state: Arc<Mutex<State>>,
}

/// Sets the condition in a Pod's status; its transition time changes with the status only.
pub fn set_condition(pod: &mut Value, kind: &str, status: bool, now: jiff::Timestamp) {
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let status = if status { "True" } else { "False" };
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(found) if found["status"] == status => {}
        Some(found) => (found["status"], found["lastTransitionTime"]) = (status.into(), at.into()),
        None => conditions.push(json!({"type": kind, "status": status, "lastTransitionTime": at})),
    }
}

/// Sets Ready as the kubelet does: with a reason where it is False.
fn set_ready(pod: &mut Value, now: jiff::Timestamp) {
    let ready = computed_ready(pod);
    set_condition(pod, "Ready", ready, now);
    let reason = match (ready, condition(pod, "ContainersReady")) {
        (true, _) => Value::Null,
        (false, true) => "ReadinessGatesNotReady".into(),
        (false, false) => "ContainersNotReady".into(),
    };
    let conditions = pod["status"]["conditions"].as_array_mut().into_iter().flatten();
    for c in conditions.filter(|c| c["type"] == "Ready") {
        c["reason"] = reason.clone();
    }
}

/// Whether the Pod's condition of this type is True.
pub fn condition(pod: &Value, kind: &str) -> bool {
    let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|c| c["type"] == kind && c["status"] == "True")
}

/// Ready as the kubelet computes it (KEP-580): the containers are, and every readiness gate is True.
pub fn computed_ready(pod: &Value) -> bool {
    let gates = pod["spec"]["readinessGates"].as_array();
    condition(pod, "ContainersReady")
        && gates.into_iter().flatten().all(|g| condition(pod, g["conditionType"].as_str().unwrap_or_default()))
}

fn key_of(pod: &Value) -> String {
    let text = |f: &str| pod["metadata"][f].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn uid_of(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

impl Kubelets {
    /// Starts them; they run as long as the runtime.
    pub fn start(api: &ApiServer, config: KubeletConfig) -> Self {
        let this = Self { api: api.clone(), config, state: Arc::default() };
        tokio::spawn(this.clone().run());
        this
    }

    /// Stops or restarts the kubelet of a node: its Pods keep their state, whatever happens.
    pub fn set_dead(&self, node: &str, dead: bool) {
        let mut state = self.state.lock().unwrap();
        if dead {
            state.dead.insert(node.into());
        } else {
            state.dead.remove(node);
            // Those of nodes still dead are parked again.
            for act in std::mem::take(&mut state.parked) {
                state.sequence += 1;
                let at = (Instant::now(), state.sequence);
                state.queue.insert(at, act);
            }
        }
    }

    async fn run(self) {
        let mut signal = self.api.subscribe("Pod");
        let mut seen = 0;
        loop {
            signal.mark_unchanged();
            let (changes, rv) = self.api.changes("Pod", seen);
            seen = rv;
            // The newest version of each Pod is what counts, and the address of each that went.
            let mut latest = BTreeSet::new();
            for change in &changes {
                if change.deleted {
                    self.release(&change.object);
                }
                latest.insert(key_of(&change.object));
            }
            latest.iter().for_each(|key| self.look_at(key));
            let next = self.state.lock().unwrap().queue.first_key_value().map(|((at, _), _)| *at);
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = signal.changed() => if changed.is_err() { return },
                () = due => self.act_on_due(),
            }
        }
    }

    fn release(&self, pod: &Value) {
        if self.config.reuse_addresses
            && let Some(ip) = pod["status"]["podIP"].as_str()
        {
            self.state.lock().unwrap().free.push(ip.into());
        }
    }

    fn is_dead(&self, pod: &Value) -> bool {
        self.state.lock().unwrap().dead.contains(pod["spec"]["nodeName"].as_str().unwrap_or_default())
    }

    fn look_at(&self, key: &str) {
        let Some(pod) = self.api.get("Pod", key) else { return };
        if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() || self.is_dead(&pod) {
            return;
        }
        let mut rng = Rng::new(
            self.config.seed ^ crate::apiserver::mix(key.bytes().fold(7, |h, b| h * 31 % 0xffff_ffff + u64::from(b))),
        );
        let (start, ready, stop) =
            (rng.between(&self.config.start), rng.between(&self.config.ready), rng.between(&self.config.stop));
        if pod["metadata"].get("deletionTimestamp").is_some() {
            let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
            self.plan(&pod, Act::End, stop.min(Duration::from_secs(grace)));
        } else if pod["status"]["podIP"].is_null() {
            self.plan(&pod, Act::Start, start);
            self.plan(&pod, Act::Ready, start + ready);
        }
        if !pod["status"]["podIP"].is_null() && condition(&pod, "Ready") != computed_ready(&pod) {
            let now = self.api.now();
            self.api.edit_status("Pod", key, |p| set_ready(p, now));
        }
    }

    fn plan(&self, pod: &Value, act: Act, after: Duration) {
        let mut state = self.state.lock().unwrap();
        if state.planned.insert((uid_of(pod), act)) {
            state.sequence += 1;
            let at = (Instant::now() + after, state.sequence);
            state.queue.insert(at, (key_of(pod), uid_of(pod), act));
        }
    }

    fn act_on_due(&self) {
        let now = Instant::now();
        loop {
            let (key, uid, act) = {
                let mut state = self.state.lock().unwrap();
                let Some(entry) = state.queue.first_entry().filter(|e| e.key().0 <= now) else { return };
                entry.remove()
            };
            let Some(pod) = self.api.get("Pod", &key).filter(|p| uid_of(p) == uid) else { continue };
            if self.is_dead(&pod) {
                self.state.lock().unwrap().parked.push((key, uid, act));
                continue;
            }
            self.act(&pod, &key, act);
        }
    }

    fn act(&self, pod: &Value, key: &str, act: Act) {
        let leaving = pod["metadata"].get("deletionTimestamp").is_some();
        let now = self.api.now();
        match act {
            Act::Start if !leaving => {
                let ip = self.address();
                self.api.edit_status("Pod", key, |p| {
                    p["status"]["phase"] = "Running".into();
                    p["status"]["podIP"] = ip.clone().into();
                    p["status"]["podIPs"] = json!([{"ip": ip}]);
                    p["status"]["hostIP"] = "192.0.2.1".into();
                    for (kind, status) in [("PodScheduled", true), ("Initialized", true), ("ContainersReady", false)] {
                        set_condition(p, kind, status, now);
                    }
                    set_ready(p, now);
                });
            }
            Act::Ready if !leaving => set_containers_ready(&self.api, key, true),
            Act::Start | Act::Ready => {}
            Act::End => {
                if !pod["status"]["podIP"].is_null() {
                    set_containers_ready(&self.api, key, false);
                }
                let uid = &pod["metadata"]["uid"];
                let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
                self.api.delete_with("Pod", key, options);
                // With a finalizer left it is still there, without grace; the server removes it with the last one.
            }
        }
    }

    fn address(&self) -> String {
        let mut state = self.state.lock().unwrap();
        if let Some(ip) = state.free.pop() {
            return ip;
        }
        state.next_address += 1;
        let n = state.next_address;
        format!("10.{}.{}.{}", n >> 14 & 0xff, n >> 7 & 0x7f, (n & 0x7f) + 1)
    }
}

/// Says whether a Pod's containers are ready, and with it whether the Pod is.
pub fn set_containers_ready(api: &ApiServer, key: &str, ready: bool) {
    let now = api.now();
    api.edit_status("Pod", key, |p| {
        set_condition(p, "ContainersReady", ready, now);
        set_ready(p, now);
    });
}
