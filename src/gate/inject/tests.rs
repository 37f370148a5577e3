#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{InjectSource, patch};
use crate::api::{DirectLoadBalancer, DrainSpec};

struct Source {
    objects: Vec<Arc<DirectLoadBalancer>>,
    namespace: BTreeMap<String, String>,
}

impl InjectSource for Source {
    fn objects(&self, _: &str) -> Vec<Arc<DirectLoadBalancer>> {
        self.objects.clone()
    }
    fn service_selector(&self, _: &str, name: &str) -> Option<BTreeMap<String, String>> {
        (name == "web").then(|| BTreeMap::from([("app".to_owned(), "web".to_owned())]))
    }
    fn namespace_labels(&self, _: &str) -> BTreeMap<String, String> {
        self.namespace.clone()
    }
    fn drain(&self, object: &DirectLoadBalancer) -> DrainSpec {
        object.spec.drain.clone().unwrap_or_default()
    }
}

fn object(name: &str, target: Value, drain: &str) -> Arc<DirectLoadBalancer> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"target": target, "drain": {"timeout": drain},
                     "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]},
        }))
        .unwrap(),
    )
}

/// The Pod of each kind of target.
fn pod(kind: &str) -> Value {
    let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "o", "controller": true}]);
    let owners = match kind {
        "Deployment" => owner("ReplicaSet", "web-5d8f"),
        "none" => json!([]),
        other => owner(other, "web"),
    };
    json!({
        "metadata": {"generateName": "web-", "labels": {"app": "web", "pod-template-hash": "5d8f"}, "ownerReferences": owners},
        "spec": {"containers": [{"name": "app", "image": "x", "fromTheFuture": {"kept": true}}]},
    })
}

fn workload(kind: &str) -> Value {
    json!({"workload": {"kind": kind, "name": "web"}})
}

fn run(pod: &Value, objects: Vec<Arc<DirectLoadBalancer>>) -> Value {
    let source = Source { objects, namespace: BTreeMap::new() };
    let mut out = pod.clone();
    json_patch::patch(&mut out, &patch(pod, "shop", &source)).unwrap();
    // Idempotent: what is there already is not added again.
    assert_eq!(patch(&out, "shop", &source).0, [], "a second pass adds something");
    out
}

#[test]
fn every_kind_of_target() {
    let table = [
        ("Deployment", workload("Deployment")),
        ("StatefulSet", workload("StatefulSet")),
        ("DaemonSet", workload("DaemonSet")),
        ("ReplicaSet", workload("ReplicaSet")),
        ("none", json!({"service": {"name": "web"}})),
        ("none", json!({"selector": {"matchLabels": {"app": "web"}}})),
        (
            "none",
            json!({"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]},
                                                            {"key": "legacy", "operator": "DoesNotExist"}]}}),
        ),
    ];
    for (kind, target) in table {
        let got = run(&pod(kind), vec![object("web", target.clone(), "30s")]);
        assert_eq!(got["spec"]["readinessGates"], json!([{"conditionType": "gate.directlb.io/web"}]), "{target}");
        assert_eq!(got["spec"]["containers"][0]["fromTheFuture"], json!({"kept": true}));
        assert_eq!(got["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 30);
        assert_eq!(got["spec"]["terminationGracePeriodSeconds"], 60);
    }
}

#[test]
fn other_pods_are_left_alone() {
    let table = [
        (pod("Deployment"), json!({"workload": {"kind": "Deployment", "name": "api"}})),
        // A ReplicaSet that only begins like the Deployment's.
        (pod("ReplicaSet"), workload("Deployment")),
        (pod("none"), workload("Deployment")),
        (pod("none"), json!({"service": {"name": "other"}})),
        (pod("none"), json!({"selector": {"matchLabels": {"app": "api"}}})),
        (
            pod("none"),
            json!({"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}}),
        ),
        (pod("none"), json!({"selector": {}})),
    ];
    for (pod, target) in table {
        assert_eq!(run(&pod, vec![object("web", target.clone(), "30s")]), pod, "{target}");
    }
}

#[test]
fn other_gates_stay_and_two_objects_add_one_each() {
    let mut p = pod("Deployment");
    p["spec"]["readinessGates"] = json!([{"conditionType": "example.com/x"}]);
    let long = "a".repeat(80);
    let got =
        run(&p, vec![object("web", workload("Deployment"), "5s"), object(&long, workload("Deployment"), "1500ms")]);
    let gates: Vec<&str> = got["spec"]["readinessGates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["conditionType"].as_str().unwrap())
        .collect();
    assert_eq!(gates.len(), 3);
    assert_eq!(gates[0], "example.com/x");
    assert!(gates[1].starts_with("gate.directlb.io/aaa") && gates[1].len() <= "gate.directlb.io/".len() + 63);
    assert_eq!(gates[2], "gate.directlb.io/web");
    // The longer drain counts.
    assert_eq!(got["spec"]["terminationGracePeriodSeconds"], 35);
}

#[test]
fn own_hooks_and_grace_periods_are_respected() {
    let mut p = pod("Deployment");
    p["spec"]["terminationGracePeriodSeconds"] = json!(120);
    p["spec"]["containers"] = json!([
        {"name": "own", "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}},
        {"name": "post", "lifecycle": {"postStart": {"exec": {"command": ["y"]}}}},
    ]);
    p["spec"]["initContainers"] = json!([{"name": "setup"}, {"name": "mesh", "restartPolicy": "Always"}]);
    let got = run(&p, vec![object("web", workload("Deployment"), "10s")]);
    let spec = &got["spec"];
    assert_eq!(spec["containers"][0], p["spec"]["containers"][0]);
    assert_eq!(spec["containers"][1]["lifecycle"]["preStop"], json!({"sleep": {"seconds": 10}}));
    assert!(spec["containers"][1]["lifecycle"]["postStart"].is_object());
    assert_eq!(spec["initContainers"][0], json!({"name": "setup"}));
    assert_eq!(spec["initContainers"][1]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
    assert_eq!(spec["terminationGracePeriodSeconds"], 130);
}

#[test]
fn only_own_hooks_raise_nothing() {
    let mut p = pod("Deployment");
    p["spec"]["containers"] = json!([{"name": "own", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}]);
    let got = run(&p, vec![object("web", workload("Deployment"), "10s")]);
    assert_eq!(got["spec"].get("terminationGracePeriodSeconds"), None);
}

#[test]
fn opting_out() {
    let web = || vec![object("web", workload("Deployment"), "10s")];
    let mut p = pod("Deployment");
    p["metadata"]["labels"]["directlb.io/inject"] = json!("disabled");
    assert_eq!(run(&p, web()), p);
    let namespace = BTreeMap::from([("directlb.io/inject".to_owned(), "disabled".to_owned())]);
    assert_eq!(patch(&pod("Deployment"), "shop", &Source { objects: web(), namespace }).0, []);
    for edit in [
        json!({"spec": {"readinessGate": "Disabled", "drain": {"timeout": "0s"}}}),
        json!({"spec": {"mode": "Plan"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ] {
        let mut o = serde_json::to_value(&*web()[0]).unwrap();
        json_patch::merge(&mut o, &edit);
        let o: DirectLoadBalancer = serde_json::from_value(o).unwrap();
        assert_eq!(run(&pod("Deployment"), vec![Arc::new(o)]), pod("Deployment"), "{edit}");
    }
}
