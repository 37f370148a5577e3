#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{CONTAINERS_ANNOTATION, InjectSource, SECONDS_ANNOTATION, patch, status};
use crate::{
    api::{DirectLoadBalancer, DrainSpec},
    model::ObjectKey,
};

struct Source {
    objects: Vec<Arc<DirectLoadBalancer>>,
    namespace: BTreeMap<String, String>,
    services: BTreeMap<String, BTreeMap<String, String>>,
}

impl InjectSource for Source {
    fn objects(&self, _: &str) -> Vec<Arc<DirectLoadBalancer>> {
        self.objects.clone()
    }
    fn service_selector(&self, _: &str, name: &str) -> Option<BTreeMap<String, String>> {
        self.services.get(name).cloned()
    }
    fn namespace_labels(&self, _: &str) -> BTreeMap<String, String> {
        self.namespace.clone()
    }
    fn drain(&self, object: &DirectLoadBalancer) -> DrainSpec {
        object.spec.drain.clone().unwrap_or_default()
    }
}

/// A row of `tests/injection.json`, which the end-to-end tests run against a real API server, by webhook and by policy.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    name: String,
    /// Cases that share a namespace in the end-to-end test.
    #[serde(default, rename = "group")]
    _group: Option<String>,
    objects: Vec<Value>,
    #[serde(default)]
    services: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    namespace_labels: BTreeMap<String, String>,
    pod: Value,
    expect: Expect,
}

/// What the Pod has afterwards; where nothing is said it is as it was.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    gates: Vec<String>,
    #[serde(default)]
    lifecycles: BTreeMap<String, Value>,
    grace: Option<i64>,
    seconds: Option<String>,
    containers: Option<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/injection.json")).unwrap()
}

fn object(case: &Value) -> Arc<DirectLoadBalancer> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
            "metadata": {"name": case["name"], "namespace": "shop"}, "spec": case["spec"],
        }))
        .unwrap(),
    )
}

fn source(case: &Case) -> Source {
    Source {
        objects: case.objects.iter().map(object).collect(),
        namespace: case.namespace_labels.clone(),
        services: case.services.clone(),
    }
}

fn expected(case: &Case) -> Value {
    let mut want = case.pod.clone();
    if !case.expect.gates.is_empty() {
        want["spec"]["readinessGates"] = case.expect.gates.iter().map(|g| json!({"conditionType": g})).collect();
    }
    for list in ["containers", "initContainers"] {
        for c in want["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(lifecycle) = case.expect.lifecycles.get(c["name"].as_str().unwrap()) {
                c["lifecycle"] = lifecycle.clone();
            }
        }
    }
    if let Some(grace) = case.expect.grace {
        want["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    }
    let said = [(SECONDS_ANNOTATION, &case.expect.seconds), (CONTAINERS_ANNOTATION, &case.expect.containers)];
    for (annotation, value) in said {
        if let Some(value) = value {
            want["metadata"]["annotations"][annotation] = json!(value);
        }
    }
    want
}

#[test]
fn the_table() {
    for case in cases() {
        let source = source(&case);
        let mut got = case.pod.clone();
        json_patch::patch(&mut got, &patch(&case.pod, "shop", &source)).unwrap();
        assert_eq!(got, expected(&case), "case {}", case.name);
        assert_eq!(patch(&got, "shop", &source).0, [], "case {}: a second pass adds something", case.name);
    }
}

/// One object at a time, in any order, as an admission policy does it: the same Pod.
#[test]
fn the_order_of_objects_does_not_matter() {
    for case in cases().into_iter().filter(|c| c.objects.len() > 1) {
        for order in [[0, 1], [1, 0]] {
            let mut got = case.pod.clone();
            for i in order {
                let one = Source { objects: vec![object(&case.objects[i])], ..source(&case) };
                let step = patch(&got, "shop", &one);
                json_patch::patch(&mut got, &step).unwrap();
            }
            assert_eq!(got, expected(&case), "case {}, order {order:?}", case.name);
        }
    }
}

fn first() -> (Value, Source) {
    let case = cases().remove(0);
    (case.pod.clone(), source(&case))
}

#[test]
fn fields_that_nobody_knows_yet_survive() {
    let (mut pod, source) = first();
    pod["spec"]["containers"][0]["fromTheFuture"] = json!({"kept": true});
    let mut got = pod.clone();
    json_patch::patch(&mut got, &patch(&pod, "shop", &source)).unwrap();
    assert_eq!(got["spec"]["containers"][0]["fromTheFuture"], json!({"kept": true}));
    assert_eq!(got["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
}

#[test]
fn a_sidecar_that_comes_later_sleeps_too() {
    let (pod, source) = first();
    let mut got = pod.clone();
    json_patch::patch(&mut got, &patch(&pod, "shop", &source)).unwrap();
    // Another webhook adds its container; the API server asks again.
    got["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "mesh", "image": "x"}));
    let again = patch(&got, "shop", &source);
    json_patch::patch(&mut got, &again).unwrap();
    assert_eq!(got["spec"]["containers"][1]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
    assert_eq!(got["spec"]["terminationGracePeriodSeconds"], 40, "raised once");
    assert_eq!(got["metadata"]["annotations"][CONTAINERS_ANNOTATION], "app,mesh");
}

#[test]
fn nonsense_in_the_annotation_is_nothing() {
    let (mut pod, source) = first();
    pod["metadata"]["annotations"] = json!({SECONDS_ANNOTATION: "-5", CONTAINERS_ANNOTATION: "nobody"});
    let mut got = pod.clone();
    json_patch::patch(&mut got, &patch(&pod, "shop", &source)).unwrap();
    assert_eq!(got["spec"]["terminationGracePeriodSeconds"], 40);
    assert_eq!(got["metadata"]["annotations"][SECONDS_ANNOTATION], "10");
}

#[test]
fn an_object_that_is_being_deleted_adds_nothing() {
    let (pod, mut source) = first();
    let mut leaving = (*source.objects[0]).clone();
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    source.objects = vec![Arc::new(leaving)];
    assert_eq!(patch(&pod, "shop", &source).0, []);
}

#[test]
fn status_says_what_a_policy_cannot_look_up() {
    let case = cases().into_iter().find(|c| c.name == "plain-service").unwrap();
    let source = source(&case);
    let said = status(&source.objects[0], &ObjectKey::new("shop", "web"), &source);
    assert_eq!(said.gate.as_deref(), Some("gate.directlb.io/web"));
    assert_eq!(said.sleep_seconds, 10);
    assert_eq!(said.services[0].selector, BTreeMap::from([("app".to_owned(), "web-service".to_owned())]));
}
