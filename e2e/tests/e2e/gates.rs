//! Pods are Ready only when every proxy has them registered and healthy; and no Pod is stranded.

use std::collections::BTreeMap;

use e2e::{Namespace, client, cluster, eventually, namespace::condition_of, need_cluster, pause, secs, yaml};
use serde_json::Value;

/// The Pod's ContainersReady, gate and Ready conditions.
fn stand(pod: &Value, gate: &str) -> (bool, bool, bool) {
    let is = |type_: &str| condition_of(pod, type_).0 == "True";
    (is("ContainersReady"), is(gate), is("Ready"))
}

/// Every state of some Pods, as the API server tells it.
struct Watch {
    child: std::process::Child,
    states: std::thread::JoinHandle<Vec<Value>>,
}

impl Watch {
    fn pods(ns: &Namespace, selector: &str) -> Self {
        let mut kubectl = cluster().tool("kubectl");
        kubectl.args(["get", "pods", "-n", &ns.name, "-l", selector, "--watch", "-o", "json"]);
        let mut child = kubectl.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let states = std::thread::spawn(move || {
            let all = serde_json::Deserializer::from_reader(out).into_iter::<Value>();
            all.map_while(Result::ok).filter(|o| o["kind"] == "Pod").collect()
        });
        Self { child, states }
    }

    fn end(mut self) -> Vec<Value> {
        // What was written last is on its way.
        pause(secs(1));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.states.join().unwrap()
    }
}

#[test]
fn a_pod_is_ready_only_behind_its_gate() {
    need_cluster!();
    let ns = Namespace::new("gate");
    ns.apply(&yaml::http_lb("web"));
    ns.wait_condition("web", "Accepted", "False", "ReferenceNotFound");
    let watch = Watch::pods(&ns, "app=web");
    ns.apply(&yaml::deployment("web", 4, &[]));
    let gate = "gate.directlb.io/web";
    eventually("four Pods are Ready", secs(90), || {
        let ready = ns.pods("app=web").iter().filter(|p| stand(p, gate).2).count();
        if ready == 4 { Ok(()) } else { Err(format!("{ready} are Ready")) }
    });
    // Every state that there was: the kubelet and the controller write one after the other.
    let mut waited: BTreeMap<String, bool> = BTreeMap::new();
    for pod in watch.end() {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        assert_eq!(pod["spec"]["readinessGates"][0]["conditionType"], gate, "{name} has no gate");
        let (containers, open, ready) = stand(&pod, gate);
        assert!(!ready || open, "{name} is Ready though its gate is shut");
        *waited.entry(name).or_default() |= containers && !open;
    }
    assert_eq!(waited.len(), 4, "{waited:?}");
    assert!(waited.values().all(|w| *w), "Pods that never waited for the load balancer: {waited:?}");
    let address = ns.wait_ready("web", 4);
    let report = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "200"]).ok();
    assert_eq!(report.by_pod.len(), 4, "{:?}", report.by_pod);
    let columns = ns.kubectl(&["get", "pods", "-o", "wide"]);
    assert!(columns.contains("1/1"), "{columns}");
}

#[test]
fn a_failing_check_is_named_everywhere() {
    need_cluster!();
    let ns = Namespace::new("failing");
    // The kubelet's probe passes; nothing listens where the load balancer checks.
    ns.apply(&yaml::lb(
        "web",
        "  target: {workload: {kind: Deployment, name: web}}
  listeners:
  - {name: front, protocol: HTTP, port: 80, targetPort: http, healthCheck: {path: /lbhealth, port: 9999, interval: 1s, timeout: 1s}}",
    ));
    ns.apply(&yaml::deployment("web", 2, &[]));
    let gate = "gate.directlb.io/web";
    let message = eventually("the Pod's condition names the check", secs(60), || {
        let pods = ns.pods("app=web");
        let Some(pod) = pods.iter().find(|p| stand(p, gate).0) else {
            return Err("no Pod has ready containers".into());
        };
        let (status, reason, message) = condition_of(pod, gate);
        if reason == "HealthCheckFailing" && status == "False" {
            Ok(message)
        } else {
            Err(format!("{reason}: {message}"))
        }
    });
    for part in ["HTTP GET /lbhealth", "listener front", "proxy"] {
        assert!(message.contains(part), "{message}");
    }
    let message = ns.wait_condition("web", "TargetsReady", "False", "HealthCheckFailing");
    assert!(message.contains("HTTP GET /lbhealth") && message.contains("listener front"), "{message}");
    eventually("the event names the check", secs(30), || {
        let events = ns.kubectl(&["get", "events", "-o", "json"]);
        if events.contains("HealthCheckFailing") && events.contains("HTTP GET /lbhealth") {
            Ok(())
        } else {
            Err("none".into())
        }
    });
    for pod in ns.pods("app=web") {
        assert!(!stand(&pod, gate).2, "a Pod that fails the load balancer's check is Ready");
    }
}

#[test]
fn a_check_that_fails_later_shuts_the_gate_and_takes_the_traffic_away() {
    need_cluster!();
    let ns = Namespace::new("later");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 3, &[]));
    let address = ns.wait_ready("web", 3);
    let pod = ns.pods("app=web")[0].clone();
    let (name, ip) = (pod["metadata"]["name"].as_str().unwrap(), pod["status"]["podIP"].as_str().unwrap());
    client::set_failing(ip, "/lbhealth", true);
    eventually("its gate is shut", secs(30), || {
        let (status, reason, _) = condition_of(&ns.get(&["pod", name]), "gate.directlb.io/web");
        if status == "False" && reason == "HealthCheckFailing" { Ok(()) } else { Err(format!("{status} {reason}")) }
    });
    // The gate is shut as soon as one proxy says so; the other may still have to find out.
    eventually("it gets no traffic", secs(15), || {
        let report = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "100"]).ok();
        if report.by_pod.contains_key(name) { Err(format!("{:?}", report.by_pod)) } else { Ok(()) }
    });
    client::set_failing(ip, "/lbhealth", false);
    ns.wait_ready("web", 3);
}

#[test]
fn no_pod_is_stranded() {
    need_cluster!();
    let ns = Namespace::new("stranded");
    // Never healthy, so that the gates stay shut until something opens them.
    let failing = |name: &str, target: &str, more: &str| {
        yaml::lb(
            name,
            &format!(
                "  target: {{workload: {{kind: Deployment, name: {target}}}}}\n{more}  listeners:
  - {{name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {{path: /lbhealth, port: 9999, interval: 1s, timeout: 1s}}}}"
            ),
        )
    };
    for app in ["deleted", "disabled", "untargeted", "forced"] {
        ns.apply(&failing(app, app, ""));
        ns.apply(&yaml::deployment(app, 1, &[]));
    }
    let state = |app: &str| {
        let pods = ns.pods(&format!("app={app}"));
        pods.first().map(|p| condition_of(p, &format!("gate.directlb.io/{app}"))).unwrap_or_default()
    };
    for app in ["deleted", "disabled", "untargeted", "forced"] {
        eventually(&format!("{app}: the gate is shut"), secs(90), || {
            let (status, reason, _) = state(app);
            if status == "False" && reason == "HealthCheckFailing" { Ok(()) } else { Err(format!("{status} {reason}")) }
        });
    }
    ns.kubectl(&["delete", "directloadbalancer", "deleted", "--timeout=60s"]);
    ns.apply(&failing("disabled", "disabled", "  readinessGate: Disabled\n"));
    ns.apply(&yaml::deployment("other", 1, &[]));
    ns.apply(&failing("untargeted", "other", ""));
    // Somebody forces it away while nobody may honour the finalizer.
    let no_finalizer = r#"{"metadata":{"finalizers":null}}"#;
    ns.kubectl(&["delete", "directloadbalancer", "forced", "--wait=false"]);
    let _ = e2e::cluster().try_kubectl(&[
        "-n",
        &ns.name,
        "patch",
        "directloadbalancer",
        "forced",
        "--type=merge",
        "-p",
        no_finalizer,
    ]);
    for (app, reason) in [
        ("deleted", "LoadBalancerDeleted"),
        ("disabled", "GateDisabled"),
        ("untargeted", "NotTargeted"),
        ("forced", "LoadBalancerDeleted"),
    ] {
        eventually(&format!("{app}: the gate is open"), secs(60), || {
            let seen = state(app);
            if seen.0 == "True" && seen.1 == reason { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

#[test]
fn pods_older_than_the_object_are_counted_and_left_alone() {
    need_cluster!();
    let ns = Namespace::new("ungated");
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.rolled_out("deployment/web");
    let before: Vec<Value> = ns.pods("app=web").iter().map(|p| p["metadata"]["uid"].clone()).collect();
    ns.apply(&yaml::http_lb("web"));
    let address = ns.wait_ready("web", 2);
    let object = ns.get(&["directloadbalancer", "web"]);
    assert_eq!(object["status"]["targets"]["ungated"], 2);
    assert_eq!(condition_of(&object, "TargetsReady").1, "UngatedPods");
    let _ = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "20"]).ok();
    pause(secs(2));
    let after: Vec<Value> = ns.pods("app=web").iter().map(|p| p["metadata"]["uid"].clone()).collect();
    assert_eq!(before, after, "Pods were restarted");
}

#[test]
fn an_object_with_the_longest_name_works() {
    need_cluster!();
    let ns = Namespace::new("longname");
    let name = "a".repeat(253);
    let spec = "  target: {workload: {kind: Deployment, name: web}}
  listeners: [{name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {interval: 1s}}]";
    ns.apply(&yaml::lb(&name, spec));
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.rolled_out("deployment/web");
    let address = ns.wait_ready(&name, 1);
    let _ = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "10"]).ok();
}
