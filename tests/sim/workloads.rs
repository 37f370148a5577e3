//! Nodes and Deployments: Pods come, are replaced, are rolled, and go.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    apiserver::{ApiServer, Object, mix},
    kubelet::{KubeletConfig, Kubelets, condition, set_condition, set_containers_ready},
};

/// How many Pods a rolling update may add or miss.
#[derive(Clone, Copy, Debug)]
pub struct Rolling {
    /// More Pods than wanted.
    pub surge: usize,
    /// Fewer ready Pods than wanted.
    pub unavailable: usize,
}

/// A cluster's workload controllers and nodes; clones are the same cluster.
#[derive(Clone)]
pub struct Workloads {
    api: ApiServer,
    kubelets: Kubelets,
    rolling: Rolling,
    turn: Arc<Mutex<u64>>,
    /// The hash of each template, by the Deployment's UID and generation.
    hashes: Arc<Mutex<HashMap<(String, String), String>>>,
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn key(object: &Value) -> String {
    format!("{}/{}", text(object, "namespace"), text(object, "name"))
}

fn owned_by(object: &Value, owner: &Value) -> bool {
    let mut refs = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    refs.any(|r| r["uid"] == owner["metadata"]["uid"])
}

fn owner_reference(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

fn leaving(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

impl Workloads {
    /// A cluster of `nodes` nodes, whose controllers run as long as the runtime.
    pub fn start(api: &ApiServer, nodes: usize, config: KubeletConfig) -> Self {
        Self::with_rolling(api, nodes, config, Rolling { surge: 1, unavailable: 0 })
    }

    /// The same, with this way of rolling updates.
    pub fn with_rolling(api: &ApiServer, nodes: usize, config: KubeletConfig, rolling: Rolling) -> Self {
        for n in 1..=nodes {
            api.create(json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("node-{n}"), "labels": {"kubernetes.io/hostname": format!("node-{n}")}},
                "spec": {},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{n}")}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }));
        }
        let kubelets = Kubelets::start(api, config);
        let this = Self { api: api.clone(), kubelets, rolling, turn: Arc::default(), hashes: Arc::default() };
        tokio::spawn(this.clone().run());
        this
    }

    /// Runs `mutate` on each Pod that is created from now on: where readiness gates are put in.
    pub fn inject(&self, mutate: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.api.on_create(move |ty, object| {
            if ty.kind == "Pod" {
                mutate(object);
            }
            Ok(())
        });
    }

    /// A Deployment `namespace/name` whose Pods carry `labels` and listen on a port named `web`, 8080.
    pub fn deploy(&self, name: &str, labels: &Value, replicas: usize) -> Arc<Object> {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let made = self.api.create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        "containers": [{"name": "app", "image": "app:1", "ports": [{"name": "web", "containerPort": 8080}]}],
                    },
                },
            },
        }));
        self.sync();
        made
    }

    /// How many Pods the Deployment shall have.
    pub fn scale(&self, deployment: &str, replicas: usize) {
        self.api.patch("Deployment", deployment, json!({"spec": {"replicas": replicas}}));
        self.sync();
    }

    /// Changes the Deployment's Pod template, which starts a rolling update.
    pub fn roll(&self, deployment: &str, change: impl FnOnce(&mut Value)) {
        self.api.edit("Deployment", deployment, |d| change(&mut d["spec"]["template"]));
        self.sync();
    }

    /// The Pods of the Deployment, those that leave included.
    pub fn pods(&self, deployment: &str) -> Vec<Arc<Object>> {
        let Some(deployment) = self.api.get("Deployment", deployment) else { return Vec::new() };
        let sets: Vec<_> = self.api.list("ReplicaSet").into_iter().filter(|rs| owned_by(rs, &deployment)).collect();
        self.api.list("Pod").into_iter().filter(|p| sets.iter().any(|rs| owned_by(p, rs))).collect()
    }

    /// The containers of the Pod `namespace/name` become ready, or cease to be.
    pub fn set_containers_ready(&self, pod: &str, ready: bool) {
        set_containers_ready(&self.api, pod, ready);
    }

    /// The node fails: its kubelet is silent, and the control plane calls its Pods not ready.
    pub fn fail_node(&self, node: &str) {
        self.kubelets.set_dead(node, true);
        let now = self.api.now();
        self.api.edit_status("Node", node, |n| n["status"]["conditions"][0]["status"] = "Unknown".into());
        for pod in self.api.list("Pod").iter().filter(|p| p["spec"]["nodeName"] == node) {
            if condition(pod, "Ready") {
                self.api.edit_status("Pod", &key(pod), |p| set_condition(p, "Ready", false, now));
            }
        }
    }

    /// The node is back, and so is its kubelet.
    pub fn recover_node(&self, node: &str) {
        self.kubelets.set_dead(node, false);
        self.api.edit_status("Node", node, |n| n["status"]["conditions"][0]["status"] = "True".into());
        for pod in self.api.list("Pod").iter().filter(|p| p["spec"]["nodeName"] == node) {
            // A touch, so that the kubelet looks at each of its Pods again.
            let beat = self.api.now().to_string();
            self.api.edit_status("Pod", &key(pod), |p| p["status"]["message"] = beat.into());
        }
    }

    async fn run(self) {
        let (mut pods, mut deployments) = (self.api.subscribe("Pod"), self.api.subscribe("Deployment"));
        loop {
            pods.mark_unchanged();
            deployments.mark_unchanged();
            self.sync();
            let changed = tokio::select! {
                biased;
                changed = deployments.changed() => changed,
                changed = pods.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            // A controller's queue gathers what comes at once.
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the Deployment and ReplicaSet controllers do, for all Deployments.
    fn sync(&self) {
        let (sets, pods) = (self.api.list("ReplicaSet"), self.api.list("Pod"));
        for deployment in self.api.list("Deployment").iter().filter(|d| !leaving(d)) {
            self.sync_deployment(deployment, &sets, &pods);
        }
    }

    fn sync_deployment(&self, deployment: &Arc<Object>, sets: &[Arc<Object>], pods: &[Arc<Object>]) {
        let template = &deployment["spec"]["template"];
        let hash = self.template_hash(deployment);
        let mine: Vec<_> = sets.iter().filter(|rs| owned_by(rs, deployment)).cloned().collect();
        let current = mine.iter().find(|rs| rs["metadata"]["labels"]["pod-template-hash"] == hash).cloned();
        let current = current.unwrap_or_else(|| self.new_set(deployment, &hash));
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize;

        let live = |set: &Arc<Object>| -> Vec<Arc<Object>> {
            pods.iter().filter(|p| owned_by(p, set) && !leaving(p)).cloned().collect()
        };
        let mut new = live(&current);
        let mut old: Vec<_> =
            mine.iter().filter(|rs| rs["metadata"]["uid"] != current["metadata"]["uid"]).flat_map(live).collect();
        let ready = |pod: &Arc<Object>| condition(pod, "Ready");
        let surge = if old.is_empty() { 0 } else { self.rolling.surge };
        while new.len() < wanted && new.len() + old.len() < wanted + surge {
            new.push(self.new_pod(&current, template));
        }
        // The unready go first: nobody misses them.
        old.sort_by_key(ready);
        new.sort_by_key(|p| (ready(p), std::cmp::Reverse(p["metadata"]["creationTimestamp"].to_string())));
        let mut available = new.iter().chain(&old).filter(|p| ready(p)).count();
        let floor = wanted.saturating_sub(self.rolling.unavailable);
        let surplus = new.len().saturating_sub(wanted);
        for (pod, always) in new.drain(..surplus).map(|p| (p, true)).chain(old.drain(..).map(|p| (p, false))) {
            if ready(&pod) && !always && available <= floor {
                continue;
            }
            available -= usize::from(ready(&pod));
            self.api.delete("Pod", &key(&pod));
        }
        let all: Vec<_> = pods.iter().filter(|p| !leaving(p) && mine.iter().any(|rs| owned_by(p, rs))).collect();
        let ready = all.iter().filter(|p| condition(p, "Ready")).count();
        let status = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": all.len(),
                            "readyReplicas": ready, "availableReplicas": ready});
        if deployment["status"] != status {
            self.api.patch_status("Deployment", &key(deployment), status);
        }
    }

    fn template_hash(&self, deployment: &Value) -> String {
        let meta = &deployment["metadata"];
        let of = (text(deployment, "uid").to_owned(), meta["generation"].to_string());
        let mut hashes = self.hashes.lock().unwrap();
        let hash = hashes.entry(of).or_insert_with(|| {
            let template = deployment["spec"]["template"].to_string();
            format!("{:010x}", template.bytes().fold(0_u64, |h, b| mix(h ^ u64::from(b))) >> 24)
        });
        hash.clone()
    }

    fn new_set(&self, deployment: &Value, hash: &str) -> Arc<Object> {
        let mut template = deployment["spec"]["template"].clone();
        template["metadata"]["labels"]["pod-template-hash"] = hash.into();
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = hash.into();
        self.api.create(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "namespace": text(deployment, "namespace"), "name": format!("{}-{hash}", text(deployment, "name")),
                "labels": template["metadata"]["labels"], "ownerReferences": owner_reference(deployment),
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }))
    }

    fn new_pod(&self, set: &Value, template: &Value) -> Arc<Object> {
        let nodes: BTreeSet<String> = self
            .api
            .list("Node")
            .iter()
            .filter(|n| n["status"]["conditions"][0]["status"] == "True" && n["spec"]["unschedulable"] != true)
            .map(|n| text(n, "name").to_owned())
            .collect();
        let turn = {
            let mut turn = self.turn.lock().unwrap();
            *turn += 1;
            *turn
        };
        let mut spec = template["spec"].clone();
        // With no node to go to it stays pending, as it would.
        if let Some(node) = nodes.iter().nth(turn as usize % nodes.len().max(1)) {
            spec["nodeName"] = node.clone().into();
        }
        let mut metadata = set["spec"]["template"]["metadata"].clone();
        metadata["namespace"] = text(set, "namespace").into();
        metadata["generateName"] = format!("{}-", text(set, "name")).into();
        metadata["ownerReferences"] = owner_reference(set);
        self.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    }
}
