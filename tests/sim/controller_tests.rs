//! The whole controller: scenarios.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::{
    apiserver::Faults,
    kubelet::condition,
    world::{GATE, World, seconds, spec},
};

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
async fn a_list_that_comes_back_empty_takes_no_target_away() {
    let w = World::serving(7).await;
    // Every Pod seems to be gone, the proxies' too.
    let relist = |empty_list: fn(&str) -> bool| {
        w.api.set_faults(Faults { empty_list, ..Faults::default() });
        w.api.compact();
        w.api.cut_watches();
    };
    relist(|path| path.ends_with("/pods"));
    for _ in 0..60 {
        seconds(1).await;
        for (name, view) in w.proxies.views() {
            assert_eq!(view.endpoints.iter().filter(|e| !e.draining).count(), 3, "{name}: {:?}", view.endpoints);
        }
    }
    assert_eq!(w.status()["plan"]["holds"][0]["reason"], "MassRemoval", "{}", w.status());
    relist(|_| false);
    seconds(20).await;
    assert_eq!((w.ready(), w.condition("Ready").as_str()), (3, "True Ready"));
    assert_eq!(w.status()["plan"]["holds"], json!(null));
}

#[tokio::test(start_paused = true)]
async fn pods_that_all_become_unready_keep_serving_and_scaling_to_zero_empties() {
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
