//! No Pod is stranded behind a gate that nobody opens, whatever happens to its object, and whoever was there to see it.

use serde_json::{Value, json};

use crate::{
    apiserver::Object,
    kubelet::condition,
    world::{GATE, World, seconds, spec},
};

/// What happens to the object, and the reason with which gates then open. Pods that are new at that time are behind a check
/// that never passes, so nothing else opens them.
type Case = (&'static str, fn(&World), &'static str);

fn edit(w: &World, change: fn(&mut Value)) {
    w.api.edit("directlb.io/DirectLoadBalancer", "web", change);
}

const CASES: &[Case] = &[
    ("deleted", |w| _ = w.api.delete("directlb.io/DirectLoadBalancer", "web"), "LoadBalancerDeleted"),
    ("gate disabled", |w| edit(w, |o| o["spec"]["readinessGate"] = "Disabled".into()), "GateDisabled"),
    (
        "no longer targeted",
        |w| edit(w, |o| o["spec"]["target"] = json!({"selector": {"matchLabels": {"app": "other"}}})),
        "NotTargeted",
    ),
    (
        "its listener removed",
        |w| {
            edit(w, |o| {
                o["spec"]["listeners"] = json!([{"name": "other", "protocol": "HTTP", "port": 81,
                    "target": {"selector": {"matchLabels": {"app": "other"}}}}]);
            });
        },
        "NotTargeted",
    ),
    (
        "health check removed",
        |w| edit(w, |o| o["spec"]["listeners"][0]["healthCheck"] = json!({"type": "None"})),
        "Healthy",
    ),
    (
        "finalizer forced away",
        |w| {
            w.api.delete("directlb.io/DirectLoadBalancer", "web");
            edit(w, |o| o["metadata"]["finalizers"] = json!([]));
        },
        "LoadBalancerDeleted",
    ),
];

/// Two Pods serve; a third is there, sick, behind its gate.
async fn with_a_shut_gate(seed: u64) -> World {
    let mut w = World::new(seed);
    w.replica(true);
    w.lb(spec());
    w.workloads.deploy("web", &json!({"app": "web"}), 2);
    seconds(30).await;
    assert_eq!(w.ready(), 2);
    w.workloads.roll("web", |t| t["metadata"]["annotations"] = json!({"sick": "yes"}));
    seconds(40).await;
    assert!(shut(&w) > 0, "no Pod waits: {:?}", w.status());
    w
}

fn alive(w: &World) -> impl Iterator<Item = std::sync::Arc<Object>> {
    w.workloads.pods("web").into_iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null())
}

fn shut(w: &World) -> usize {
    let gated = |p: &Object| p["spec"]["readinessGates"].to_string().contains(GATE);
    alive(w).filter(|p| gated(p) && !condition(p, GATE)).count()
}

fn reasons(w: &World) -> Vec<String> {
    let of = |p: &Value| {
        let all = p["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().find(|c| c["type"] == GATE).map(|c| c["reason"].as_str().unwrap_or_default().to_owned())
    };
    alive(w).filter_map(|p| of(&p)).collect()
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_stranded() {
    for (i, (what, act, reason)) in CASES.iter().enumerate() {
        let w = with_a_shut_gate(100 + i as u64).await;
        act(&w);
        seconds(60).await;
        assert_eq!(shut(&w), 0, "{what}: a gate is shut");
        assert!(reasons(&w).iter().any(|r| r == reason), "{what}: {:?}", reasons(&w));
    }
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_stranded_though_no_controller_was_there() {
    for (i, (what, act, reason)) in CASES.iter().enumerate() {
        let mut w = with_a_shut_gate(200 + i as u64).await;
        w.kill(0);
        seconds(5).await;
        act(&w);
        seconds(60).await;
        assert!(shut(&w) > 0, "{what}: who opened it?");
        w.replica(true);
        seconds(60).await;
        assert_eq!(shut(&w), 0, "{what}: a gate is shut");
        assert!(reasons(&w).iter().any(|r| r == reason), "{what}: {:?}", reasons(&w));
    }
}

/// An object whose class is gone serves what it served; where it never served anything, its Pods do not wait for it.
#[tokio::test(start_paused = true)]
async fn an_object_without_a_class_holds_nobody_up() {
    for there in [true, false] {
        let mut w = World::new(300);
        w.api.edit("directlb.io/DirectLoadBalancerClass", "public", |o| o["metadata"]["finalizers"] = json!([]));
        w.api.delete("directlb.io/DirectLoadBalancerClass", "public");
        if there {
            w.replica(true);
        }
        w.lb(spec());
        w.workloads.deploy("web", &json!({"app": "web"}), 2);
        seconds(20).await;
        if !there {
            assert_eq!(w.ready(), 0, "Pods wait while nobody can say why");
            w.replica(true);
        }
        seconds(90).await;
        assert_eq!(w.ready(), 2, "there: {there}");
        assert!(reasons(&w).iter().all(|r| r == "NotAccepted"), "{:?}", reasons(&w));
    }
}
