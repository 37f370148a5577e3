//! The simulated cluster: Deployments, Pods, nodes.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    apiserver::ApiServer,
    kubelet::{KubeletConfig, condition, set_condition},
    workloads::Workloads,
};

fn cluster(config: KubeletConfig) -> (ApiServer, Workloads) {
    let api = ApiServer::new();
    let workloads = Workloads::start(&api, 3, config);
    (api, workloads)
}

fn ready(workloads: &Workloads) -> usize {
    workloads.pods("web").iter().filter(|p| condition(p, "Ready")).count()
}

#[tokio::test(start_paused = true)]
async fn pods_come_and_go_with_the_scale() {
    let (api, workloads) = cluster(KubeletConfig::default());
    workloads.deploy("web", &json!({"app": "web"}), 3);
    assert_eq!(workloads.pods("web").len(), 3);
    assert_eq!(ready(&workloads), 0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(ready(&workloads), 3);
    assert_eq!(api.get("Deployment", "web").unwrap()["status"]["readyReplicas"], 3);
    let addresses: BTreeSet<_> = workloads.pods("web").iter().map(|p| p["status"]["podIP"].to_string()).collect();
    assert_eq!(addresses.len(), 3);
    let pod = &workloads.pods("web")[0];
    let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], format!("web-{hash}"));

    workloads.scale("web", 1);
    let leaving = workloads.pods("web").iter().filter(|p| !p["metadata"]["deletionTimestamp"].is_null()).count();
    assert_eq!((workloads.pods("web").len(), leaving), (3, 2), "they leave in their own time");
    sleep(Duration::from_secs(31)).await;
    assert_eq!(workloads.pods("web").len(), 1);
    api.delete("Pod", &format!("default/{}", workloads.pods("web")[0]["metadata"]["name"].as_str().unwrap()));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ready(&workloads), 1, "a Pod that somebody deleted is replaced");
    api.delete("Deployment", "web");
    sleep(Duration::from_secs(60)).await;
    assert!(api.list("Pod").is_empty() && api.list("ReplicaSet").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_gate_holds_readiness_and_a_rolling_update() {
    let (api, workloads) = cluster(KubeletConfig::default());
    workloads.inject(|pod| pod["spec"]["readinessGates"] = json!([{"conditionType": "gate"}]));
    workloads.deploy("web", &json!({"app": "web"}), 3);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ready(&workloads), 0, "no gate is open");
    let open = |only_old: bool| {
        for pod in workloads.pods("web") {
            if !(only_old && pod["spec"]["containers"][0]["image"] == "app:2") {
                let key = format!("default/{}", pod["metadata"]["name"].as_str().unwrap());
                api.edit_status("Pod", &key, |p| set_condition(p, "gate", true, jiff::Timestamp::UNIX_EPOCH));
            }
        }
    };
    open(false);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ready(&workloads), 3);

    workloads.roll("web", |template| template["spec"]["containers"][0]["image"] = "app:2".into());
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        open(true);
        assert!(ready(&workloads) >= 3, "a closed gate stops the update before it takes Pods away");
    }
    let new = |p: &Value| p["spec"]["containers"][0]["image"] == "app:2";
    assert_eq!(workloads.pods("web").iter().filter(|p| new(p)).count(), 1);
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        open(false);
        let serving = workloads
            .pods("web")
            .iter()
            .filter(|p| condition(p, "Ready") && p["metadata"]["deletionTimestamp"].is_null())
            .count();
        assert!(serving >= 3);
    }
    assert!(workloads.pods("web").iter().all(|p| new(p)));
    assert_eq!(workloads.pods("web").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_address_may_come_back_at_once() {
    let (_, workloads) = cluster(KubeletConfig { reuse_addresses: true, ..KubeletConfig::default() });
    workloads.deploy("web", &json!({"app": "web"}), 2);
    sleep(Duration::from_secs(10)).await;
    let addresses =
        || -> BTreeSet<String> { workloads.pods("web").iter().map(|p| p["status"]["podIP"].to_string()).collect() };
    let before = addresses();
    workloads.scale("web", 0);
    sleep(Duration::from_secs(60)).await;
    workloads.scale("web", 2);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(addresses(), before);
}

#[tokio::test(start_paused = true)]
async fn a_failed_nodes_pods_are_unready_until_it_is_back() {
    let (api, workloads) = cluster(KubeletConfig::default());
    workloads.deploy("web", &json!({"app": "web"}), 3);
    sleep(Duration::from_secs(10)).await;
    workloads.fail_node("node-1");
    workloads.scale("web", 5);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ready(&workloads), 4);
    let lost = workloads.pods("web").into_iter().find(|p| p["spec"]["nodeName"] == "node-1").unwrap();
    let key = format!("default/{}", lost["metadata"]["name"].as_str().unwrap());
    api.delete("Pod", &key);
    sleep(Duration::from_secs(600)).await;
    assert!(api.get("Pod", &key).is_some(), "nobody is there to end it");
    workloads.recover_node("node-1");
    sleep(Duration::from_secs(60)).await;
    assert!(api.get("Pod", &key).is_none());
    let pod = format!("default/{}", workloads.pods("web")[0]["metadata"]["name"].as_str().unwrap());
    workloads.set_containers_ready(&pod, false);
    assert_eq!(ready(&workloads), 4);
}
