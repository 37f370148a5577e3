//! Rolling updates that lose nothing.

use e2e::{Namespace, client, need_cluster, pause, secs, yaml};

fn lb() -> String {
    yaml::lb(
        "web",
        "  target: {workload: {kind: Deployment, name: web}}
  drain: {timeout: 6s}
  listeners:
  - {name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {path: /lbhealth, interval: 1s, timeout: 1s}}
  - {name: tcp, protocol: TCP, port: 9000, targetPort: tcp, healthCheck: {path: /lbhealth, port: http, interval: 1s, timeout: 1s}}",
    )
}

#[test]
fn nothing_is_lost_though_the_app_exits_at_once() {
    need_cluster!();
    let ns = Namespace::new("rollout");
    ns.apply(&lb());
    // The worst of apps: it ends the moment it is told to.
    ns.apply(&yaml::deployment("web", 4, &["--exit-on-term"]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 4);
    let url = format!("http://{a}/");
    let tcp = format!("{a}:9000");
    let loads = [
        client::start(&["http", "--url", &url, "--rate", "100", "--duration", "60s"]),
        client::start(&["http", "--url", &url, "--rate", "100", "--new-conn", "--duration", "60s"]),
        client::start(&["tcp", "--addr", &tcp, "--rate", "50", "--new-conn", "--duration", "60s"]),
    ];
    pause(secs(1));
    for _ in 0..2 {
        ns.kubectl(&["rollout", "restart", "deployment/web"]);
        ns.rolled_out("deployment/web");
    }
    for replicas in [1, 4] {
        ns.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]);
        ns.wait_ready("web", replicas);
    }
    let pod = ns.pods("app=web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    ns.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    for load in loads {
        let report = load.report().ok();
        assert!(report.by_pod.len() >= 9, "the load did not span the rollouts: {:?}", report.by_pod);
    }
}

#[test]
fn open_connections_live_until_the_drain_ends() {
    need_cluster!();
    let ns = Namespace::new("longlived");
    ns.apply(&lb());
    ns.apply(&yaml::deployment("web", 1, &["--exit-on-term"]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 1);
    // A line each half second over one connection for four seconds; the Pod is told to leave after one.
    let held = ["--lines", "8", "--interval", "500ms"];
    let ws_url = format!("ws://{a}/ws");
    let tcp_addr = format!("{a}:9000");
    let ws = client::start(&[&["ws", "--url", &ws_url], &held[..]].concat());
    let tcp = client::start(&[&["tcp", "--addr", &tcp_addr], &held[..]].concat());
    pause(secs(1));
    let old = ns.pods("app=web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    ns.kubectl(&["rollout", "restart", "deployment/web"]);
    ns.rolled_out("deployment/web");
    let ws = ws.report().ok();
    let tcp = tcp.report().ok();
    assert!(ws.by_pod.contains_key(&old) && tcp.by_pod.contains_key(&old), "{:?} {:?}", ws.by_pod, tcp.by_pod);
    pause(secs(1));
    // And no new request reaches the Pod that drains.
    let report = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "50", "--new-conn"]).ok();
    assert!(!report.by_pod.contains_key(&old), "{:?}", report.by_pod);
}
