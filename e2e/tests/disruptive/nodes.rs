//! A node that is cut off.

use std::collections::BTreeSet;

use e2e::{Namespace, client, cluster, eventually, need_cluster, secs, yaml};

/// The cable is in again, also when the test fails.
struct Cut(&'static str);

impl Cut {
    fn off(node: &'static str) -> Self {
        cluster().lab(&["cable", node, "down"]);
        Self(node)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        cluster().lab(&["cable", self.0, "up"]);
    }
}

/// Without health checks only the control plane knows that a node is lost: it marks the Pods there, which then get no new
/// traffic, and get it again when the node is back.
#[test]
fn pods_of_a_lost_node_get_no_traffic_until_it_is_back() {
    need_cluster!();
    let ns = Namespace::new("lostnode");
    ns.apply(&yaml::lb(
        "web",
        "  target: {workload: {kind: DaemonSet, name: web}}
  drain: {timeout: 5s}
  listeners:
  - {name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {type: None}}",
    ));
    ns.apply(&yaml::workload("DaemonSet", "web", 2, &[]));
    ns.rolled_out("daemonset/web");
    let a = ns.wait_ready("web", 2);
    let on = |node: &str| -> BTreeSet<String> {
        let pods = ns.pods("app=web");
        let there = pods.iter().filter(|p| p["spec"]["nodeName"] == node);
        there.map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let (here, lost) = (on("worker1"), on("worker2"));
    assert_eq!((here.len(), lost.len()), (1, 1));
    let cut = Cut::off("worker2");
    eventually("the lost Pod is out of service", secs(150), || {
        let status = ns.get(&["directloadbalancer", "web"])["status"].clone();
        if status["targets"]["healthy"] == 1 { Ok(()) } else { Err(status["targets"].to_string()) }
    });
    let report = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "100", "--new-conn"]).ok();
    assert!(report.by_pod.keys().all(|pod| here.contains(pod)), "{:?}", report.by_pod);
    drop(cut);
    eventually("both serve again", secs(120), || {
        let status = ns.get(&["directloadbalancer", "web"])["status"].clone();
        if status["targets"]["healthy"] == 2 { Ok(()) } else { Err(status["targets"].to_string()) }
    });
    let report = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "100", "--new-conn"]).ok();
    assert_eq!(report.by_pod.len(), 2, "{:?}", report.by_pod);
}
