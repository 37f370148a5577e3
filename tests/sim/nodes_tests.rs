//! Nodes that fail, Pods that vanish, addresses that are used again, containers that flap.

use serde_json::json;

use crate::{
    kubelet::{KubeletConfig, condition},
    world::{GATE, World, seconds, spec},
};

fn serving(w: &World) -> Vec<usize> {
    w.proxies.views().values().map(|v| v.endpoints.iter().filter(|e| !e.draining).count()).collect()
}

async fn three_ready(seed: u64) -> World {
    let w = World::serving(seed).await;
    assert_eq!(serving(&w), [3, 3]);
    w
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_failed_node_take_no_new_traffic_until_it_is_back() {
    let w = three_ready(400).await;
    let node = w.workloads.pods("web")[0]["spec"]["nodeName"].as_str().unwrap().to_owned();
    let there = w.workloads.pods("web").iter().filter(|p| p["spec"]["nodeName"] == node.as_str()).count();
    w.workloads.fail_node(&node);
    seconds(10).await;
    assert_eq!(serving(&w), [3 - there, 3 - there]);
    w.workloads.recover_node(&node);
    seconds(30).await;
    assert_eq!((w.ready(), serving(&w)), (3, vec![3, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_is_deregistered() {
    let w = three_ready(401).await;
    let pod = w.workloads.pods("web")[0].clone();
    let (name, uid) = (pod["metadata"]["name"].as_str().unwrap(), pod["metadata"]["uid"].as_str().unwrap());
    w.api.delete_with("Pod", name, json!({"gracePeriodSeconds": 0}));
    seconds(5).await;
    for view in w.proxies.views().values() {
        assert!(view.endpoints.iter().all(|e| e.uid != uid), "{:?}", view.endpoints);
    }
    seconds(40).await;
    assert_eq!((w.ready(), serving(&w)), (3, vec![3, 3]));
}

/// The address of a Pod that is just gone is given to another at once: it inherits nothing, and waits for its own checks.
#[tokio::test(start_paused = true)]
async fn an_address_that_is_used_again_brings_no_health_along() {
    let mut w = World::with_kubelet(KubeletConfig { seed: 402, reuse_addresses: true, ..KubeletConfig::default() });
    w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 2);
    seconds(40).await;
    assert_eq!(w.ready(), 2);
    for _ in 0..5 {
        let pod = w.workloads.pods("web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
        w.api.delete_with("Pod", &pod, json!({"gracePeriodSeconds": 0}));
        for _ in 0..100 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            for p in w.workloads.pods("web").iter().filter(|p| condition(p, GATE)) {
                let uid = p["metadata"]["uid"].as_str().unwrap();
                for (name, view) in w.proxies.views() {
                    let healthy = view.healthy.iter().any(|((_, u), ok)| u == uid && *ok);
                    assert!(healthy, "the gate of a new Pod is open, and {name} has not checked it");
                }
            }
        }
        seconds(30).await;
        assert_eq!(w.ready(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn containers_that_flap_end_up_serving() {
    let w = three_ready(403).await;
    let pod = w.workloads.pods("web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    for i in 0..40 {
        w.workloads.set_containers_ready(&pod, i % 2 == 1);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        for serving in serving(&w) {
            assert!(serving >= 2, "the others were touched");
        }
    }
    seconds(20).await;
    assert_eq!((w.ready(), serving(&w)), (3, vec![3, 3]));
}

/// Pods that have run to their end are no targets, and wait for nothing.
#[tokio::test(start_paused = true)]
async fn a_pod_that_has_completed_leaves() {
    let w = three_ready(404).await;
    let pod = w.workloads.pods("web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    w.api.edit_status("Pod", &pod, |p| p["status"]["phase"] = "Succeeded".into());
    seconds(3).await;
    assert!(serving(&w).iter().all(|n| *n == 2), "{:?}", serving(&w));
}
