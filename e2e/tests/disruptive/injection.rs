//! Gates by policy and by webhook: the same Pods; and what happens while no controller runs.

use std::collections::{BTreeMap, BTreeSet};

use e2e::{
    Namespace,
    chart::{self, Injection},
    cluster, eventually,
    namespace::condition_of,
    need_cluster, secs, yaml,
};
use serde_json::{Value, json};

/// The table that the unit tests use, too.
fn cases() -> Vec<Value> {
    let path = cluster().root.join("tests/injection.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("tests/injection.json")).expect("JSON")
}

fn yaml_of(case: &Value, namespace: &str) -> String {
    let mut all = Vec::new();
    for o in case["objects"].as_array().expect("objects") {
        all.push(json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
            "metadata": {"name": o["name"], "namespace": namespace}, "spec": o["spec"],
        }));
    }
    for (name, selector) in case["services"].as_object().into_iter().flatten() {
        all.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": selector, "ports": [{"port": 80}]},
        }));
    }
    let labels = case["namespaceLabels"].clone();
    if labels.is_object() {
        all.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}));
    }
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The Pod as the API server would make it.
fn made(namespace: &str, pod: &Value) -> Value {
    let args = ["create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-"];
    let done = cluster().kubectl_with(&args, &pod.to_string());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut made: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    // What the API server adds differs from one request to the next.
    made.as_object_mut().expect("a Pod").remove("status");
    for field in ["uid", "creationTimestamp", "managedFields"] {
        made["metadata"].as_object_mut().expect("metadata").remove(field);
    }
    made
}

/// Whether the Pod has what the case says, and nothing else of this project.
fn check(case: &Value, way: &str, made: &Value) {
    let name = &case["name"];
    let expect = &case["expect"];
    let gates: Vec<&Value> =
        made["spec"]["readinessGates"].as_array().into_iter().flatten().map(|g| &g["conditionType"]).collect();
    let want: Vec<&Value> = expect["gates"].as_array().expect("gates").iter().collect();
    // A case without effect leaves what the Pod brought along.
    if !want.is_empty() || case["pod"]["spec"]["readinessGates"].is_null() {
        assert_eq!(gates, want, "{name} by {way}");
    }
    for list in ["containers", "initContainers"] {
        for (i, c) in made["spec"][list].as_array().into_iter().flatten().enumerate() {
            let before = &case["pod"]["spec"][list][i]["lifecycle"];
            let want = expect["lifecycles"].get(c["name"].as_str().expect("name")).unwrap_or(before);
            assert_eq!(&c["lifecycle"], want, "{name} by {way}: {}", c["name"]);
        }
    }
    let own = &case["pod"]["spec"]["terminationGracePeriodSeconds"];
    let own = if own.is_null() { json!(30) } else { own.clone() };
    let grace = if expect["grace"].is_null() { &own } else { &expect["grace"] };
    assert_eq!(&made["spec"]["terminationGracePeriodSeconds"], grace, "{name} by {way}");
    for (annotation, field) in [("drain-seconds", "seconds"), ("drain-containers", "containers")] {
        let said = &made["metadata"]["annotations"][format!("directlb.io/{annotation}")];
        assert_eq!(said, &expect[field], "{name} by {way}: {annotation}");
    }
}

#[test]
fn both_ways_make_the_same_pods() {
    need_cluster!();
    let cases = cases();
    // Cases of a group have names of their own, and share a namespace.
    let group = |c: &Value| c.get("group").unwrap_or(&c["name"]).as_str().expect("a name").to_owned();
    let names: BTreeSet<String> = cases.iter().map(&group).collect();
    let groups: BTreeMap<String, Namespace> =
        names.into_iter().map(|g| (g.clone(), Namespace::new(&format!("inject-{g}")))).collect();
    for case in &cases {
        cluster().apply(&yaml_of(case, &groups[&group(case)].name));
    }
    let mut by: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for way in ["Webhook", "Policy"] {
        let _injection = Injection::by(way);
        for case in &cases {
            let namespace = &groups[&group(case)];
            // Both look at the objects through caches.
            for o in case["objects"].as_array().expect("objects") {
                let name = o["name"].as_str().expect("name");
                eventually("status.injection", secs(30), || {
                    let said = namespace.get(&["directloadbalancer", name])["status"]["injection"].clone();
                    let services = case["services"].as_object().map_or(0, serde_json::Map::len);
                    if said.is_object() && said["services"].as_array().map_or(0, Vec::len) >= services.min(1) {
                        Ok(())
                    } else {
                        Err(said.to_string())
                    }
                });
            }
            let pod = eventually("the case's Pod", secs(20), || {
                let pod = made(&namespace.name, &case["pod"]);
                let wanted = case["expect"]["gates"].as_array().map_or(0, Vec::len);
                let has = pod["spec"]["readinessGates"].as_array().map_or(0, Vec::len);
                if has >= wanted { Ok(pod) } else { Err(pod["spec"].to_string()) }
            });
            check(case, way, &pod);
            by.entry(way).or_default().push(pod);
        }
    }
    for (i, case) in cases.iter().enumerate() {
        assert_eq!(by["Webhook"][i], by["Policy"][i], "{}: the Pods differ", case["name"]);
    }
}

/// With the policy, Pods made while no controller runs have their gates, which open when one is back; with the webhook
/// they have none, are admitted all the same, and are counted and named.
#[test]
fn pods_made_while_no_controller_runs() {
    need_cluster!();
    for (way, gated, ungated) in [("Policy", 3, 0), ("Webhook", 1, 2)] {
        let _injection = Injection::by(way);
        let ns = Namespace::new(&format!("away-{}", way.to_lowercase()));
        ns.apply(&yaml::http_lb("web"));
        ns.apply(&yaml::deployment("web", 1, &[]));
        ns.wait_ready("web", 1);
        chart::scale_controllers(0);
        ns.kubectl(&["scale", "deployment/web", "--replicas=3"]);
        let pods = eventually("Pods are admitted", secs(60), || {
            let pods = ns.pods("app=web");
            let ready = pods.iter().filter(|p| condition_of(p, "ContainersReady").0 == "True").count();
            if ready == 3 { Ok(pods) } else { Err(format!("{ready} of {} Pods", pods.len())) }
        });
        let has_gate = |p: &&Value| p["spec"]["readinessGates"].is_array();
        assert_eq!(pods.iter().filter(has_gate).count(), gated, "by {way}");
        if way == "Policy" {
            let open = pods.iter().filter(|p| condition_of(p, "Ready").0 == "True").count();
            assert_eq!(open, 1, "nobody was there to open the new Pods' gates");
        }
        chart::scale_controllers(2);
        ns.wait_ready("web", 3);
        ns.rolled_out("deployment/web");
        let object = ns.get(&["directloadbalancer", "web"]);
        assert_eq!(object["status"]["targets"]["ungated"], ungated, "by {way}: {}", object["status"]);
        let reason = if ungated == 0 { "AllHealthy" } else { "UngatedPods" };
        assert_eq!(condition_of(&object, "TargetsReady").1, reason, "by {way}");
    }
}
