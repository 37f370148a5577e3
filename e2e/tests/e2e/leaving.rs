//! Deletion: of the object, of its namespace; targets that vanish or go unready.

use e2e::{Namespace, client, cluster, eventually, namespace::condition_of, need_cluster, pause, secs, yaml};

#[test]
fn deleting_the_object_removes_its_listeners() {
    need_cluster!();
    let ns = Namespace::new("delete");
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.apply(&yaml::http_lb("web"));
    let address = ns.wait_ready("web", 1);
    ns.kubectl(&["delete", "directloadbalancer", "web", "--timeout=60s"]);
    eventually("nobody answers there any more", secs(30), || {
        let report = client::run(&["http", "--url", &format!("http://{address}/"), "--new-conn", "--timeout", "2s"]);
        if report.failures == 1 { Ok(()) } else { Err("it answers".into()) }
    });
}

#[test]
fn deleting_the_namespace_does_not_hang() {
    need_cluster!();
    let ns = Namespace::new("nsdelete");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.wait_ready("web", 2);
    cluster().kubectl(&["delete", "namespace", &ns.name, "--timeout=90s"]);
}

#[test]
fn targets_that_all_go_unready_at_once_keep_serving() {
    need_cluster!();
    let ns = Namespace::new("mass");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 3, &[]));
    ns.rolled_out("deployment/web");
    let address = ns.wait_ready("web", 3);
    // The kubelet's probe fails everywhere, while the load balancer's check goes on passing.
    for pod in ns.pods("app=web") {
        client::set_failing(pod["status"]["podIP"].as_str().unwrap(), "/healthz", true);
    }
    eventually("the hold is in status", secs(60), || {
        let object = ns.get(&["directloadbalancer", "web"]);
        let holds = object["status"]["plan"]["holds"].to_string();
        let unready = ns.pods("app=web").iter().filter(|p| condition_of(p, "ContainersReady").0 == "False").count();
        let held = holds.contains("MassRemoval") || holds.contains("LastServingTarget");
        if unready == 3 && held { Ok(()) } else { Err(format!("{unready} unready, holds {holds}")) }
    });
    let _ = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "50"]).ok();
    for pod in ns.pods("app=web") {
        client::set_failing(pod["status"]["podIP"].as_str().unwrap(), "/healthz", false);
    }
    ns.wait_ready("web", 3);
    let object = ns.get(&["directloadbalancer", "web"]);
    assert!(object["status"]["plan"]["holds"].as_array().is_none_or(Vec::is_empty), "{}", object["status"]["plan"]);
    // Scaled to 0 the group is meant to be empty.
    ns.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    eventually("no target is left", secs(60), || {
        let object = ns.get(&["directloadbalancer", "web"]);
        let targets = object["status"]["targets"].clone();
        if targets["desired"] == 0 && targets["draining"] == 0 { Ok(()) } else { Err(targets.to_string()) }
    });
    let refused = client::run(&["http", "--url", &format!("http://{address}/")]);
    assert_eq!(refused.failures, 1);
}

#[test]
fn a_bad_edit_leaves_the_traffic_as_it_is() {
    need_cluster!();
    let ns = Namespace::new("badedit");
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.apply(&yaml::http_lb("web"));
    let address = ns.wait_ready("web", 2);
    let url = format!("http://{address}/");
    let good = yaml::http_lb("web");
    let edits = [
        (good.replace("name: web}}\n  drain", "name: nope}}\n  drain"), "ReferenceNotFound", "nope"),
        (good.replace("targetPort: http,", "targetPort: nope,"), "PortNotFound", "nope"),
        (
            good.replace("protocol: HTTP, port: 80,", "protocol: HTTPS, port: 80, tls: {secretNames: [nope]},"),
            "ReferenceNotFound",
            "nope",
        ),
    ];
    for (bad, reason, value) in edits {
        assert_ne!(bad, good);
        ns.apply(&bad);
        let message = ns.wait_condition("web", "Accepted", "False", reason);
        assert!(message.contains("spec.") && message.contains(value), "{message}");
        let _ = client::run(&["http", "--url", &url, "--n", "20"]).ok();
        // Pods still come and go behind the listener that stayed.
        ns.kubectl(&["rollout", "restart", "deployment/web"]);
        ns.rolled_out("deployment/web");
        let _ = client::run(&["http", "--url", &url, "--n", "20"]).ok();
        ns.apply(&good);
        ns.wait_ready("web", 2);
    }
    pause(secs(1));
}
