//! The API server itself, seen through kube's own client.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams},
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use serde_json::json;
use tokio::time::sleep;

use crate::apiserver::ApiServer;

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"key": value}})).unwrap()
}

fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("not an API error: {other}"),
    }
}

fn pod(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}], "readinessGates": [{"conditionType": "g"}]},
    })
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_changes_in_order() {
    let server = ApiServer::new();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let start = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &start).await.unwrap().boxed();

    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let mut next = made.clone();
    next.data = Some(BTreeMap::from([("key".into(), "2".into())]));
    maps.replace("a", &PostParams::default(), &next).await.unwrap();
    let gone = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(gone.right().is_some_and(|s| s.is_success()), "gone at once: a Status, not the object");

    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(m) => seen.push(("added", m.data.unwrap()["key"].clone())),
            WatchEvent::Modified(m) => seen.push(("modified", m.data.unwrap()["key"].clone())),
            WatchEvent::Deleted(m) => {
                assert!(m.metadata.resource_version > made.metadata.resource_version);
                seen.push(("deleted", m.data.unwrap()["key"].clone()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [("added", "1".into()), ("modified", "2".into()), ("deleted", "2".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_brings_bookmarks_and_ends_at_its_timeout() {
    let server = ApiServer::new();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let events = maps.watch(&WatchParams::default().timeout(200), "1").await.unwrap();
    let bookmarks = events.filter(|e| std::future::ready(matches!(e, Ok(WatchEvent::Bookmark(_)))));
    assert_eq!(bookmarks.count().await, 4, "three, and one at the end");
    assert_eq!(server.elapsed().as_secs(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_object_leaves_a_selecting_watch_with_its_label() {
    let server = ApiServer::new();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let params = WatchParams::default().labels("v in (1, 3),!absent").timeout(10);
    let events = maps.watch(&params, "0").await.unwrap();
    for value in ["2", "3"] {
        server.patch("ConfigMap", "a", json!({"metadata": {"labels": {"v": value}}}));
    }
    let kinds: Vec<&str> = events
        .filter_map(|e| {
            std::future::ready(match e.unwrap() {
                WatchEvent::Added(_) => Some("added"),
                WatchEvent::Deleted(_) => Some("deleted"),
                WatchEvent::Modified(_) => Some("modified"),
                _ => None,
            })
        })
        .collect()
        .await;
    // The first change came before the stream was read, which is when it lists what there is.
    assert_eq!(kinds, ["added"]);

    let rv = server.get("ConfigMap", "a").unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let events = maps.watch(&params, &rv).await.unwrap();
    server.patch("ConfigMap", "a", json!({"metadata": {"labels": {"v": "2"}}}));
    server.patch("ConfigMap", "a", json!({"metadata": {"labels": {"v": "1"}}}));
    let kinds: Vec<bool> = events
        .filter_map(|e| {
            std::future::ready(match e.unwrap() {
                WatchEvent::Deleted(m) => Some(m.data.unwrap()["key"] == "1"),
                WatchEvent::Added(_) => Some(false),
                _ => None,
            })
        })
        .collect()
        .await;
    assert_eq!(kinds, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_reflector_follows_and_resyncs_after_410() {
    let server = ApiServer::new();
    let maps: Api<ConfigMap> = Api::all(server.client());
    let (reader, writer) = reflector::store();
    let events = watcher(maps, watcher::Config::default()).default_backoff().reflect(writer);
    tokio::spawn(events.for_each(|_| std::future::ready(())));
    let names = || {
        let mut names: Vec<String> = reader.state().iter().map(|m| m.name_any()).collect();
        names.sort();
        names.join(",")
    };
    server.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    server.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(names(), "a,b");

    server.set_down(true);
    server.delete("ConfigMap", "a");
    server.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}));
    server.compact();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(names(), "a,b", "nothing is heard of a server that is down");
    server.set_down(false);
    server.clear_requests();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(names(), "b,c");
    let verbs: Vec<&str> = server.requests().iter().map(|r| r.asked.verb).collect();
    assert_eq!(verbs, ["watch", "list", "watch"], "the first is told 410");
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_its_bookmark() {
    let server = ApiServer::new();
    server.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    let maps: Api<ConfigMap> = Api::all(server.client());
    let events = watcher(maps, watcher::Config::default().streaming_lists());
    let first: Vec<_> = events
        .take(3)
        .map(|e| match e.unwrap() {
            watcher::Event::Init => "init".to_owned(),
            watcher::Event::InitApply(m) => m.name_any(),
            watcher::Event::InitDone => "done".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(first, ["init", "a", "done"]);
}

#[tokio::test(start_paused = true)]
async fn pages_are_of_one_version() {
    let server = ApiServer::new();
    for n in 0..5 {
        server.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}}));
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    server.delete("ConfigMap", "m3");
    let token = first.metadata.continue_.unwrap();
    let rest = maps.list(&ListParams::default().limit(9).continue_token(&token)).await.unwrap();
    let names: Vec<_> = first.items.iter().chain(&rest.items).map(|m| m.name_any()).collect();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    assert!(rest.metadata.continue_.is_none());
    server.compact();
    let late = maps.list(&ListParams::default().limit(2).continue_token(&token)).await;
    assert_eq!(code(late.unwrap_err()), (410, "Expired".into()));
    let unknown = maps.list(&ListParams::default().fields("data.key=1")).await;
    assert_eq!(code(unknown.unwrap_err()).0, 400);
    let one = maps.list(&ListParams::default().fields("metadata.name=m4")).await.unwrap();
    assert_eq!(one.items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn names_and_versions_are_guarded() {
    let server = ApiServer::new();
    let leases: Api<Lease> = Api::default_namespaced(server.client());
    let lease: Lease =
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).unwrap();
    let made = leases.create(&PostParams::default(), &lease).await.unwrap();
    assert_eq!(made.creation_timestamp().unwrap().0, server.now());
    let again = leases.create(&PostParams::default(), &lease).await;
    assert_eq!(code(again.unwrap_err()), (409, "AlreadyExists".into()));

    let mut mine = made.clone();
    mine.spec.as_mut().unwrap().holder_identity = Some("b".into());
    let new = leases.replace("l", &PostParams::default(), &mine).await.unwrap();
    let lost = leases.replace("l", &PostParams::default(), &mine).await;
    assert_eq!(code(lost.unwrap_err()), (409, "Conflict".into()));
    let same = leases.replace("l", &PostParams::default(), &new).await.unwrap();
    assert_eq!(same.resource_version(), new.resource_version(), "what changes nothing makes no version");

    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let refused = leases.delete("l", &DeleteParams::default().preconditions(other)).await;
    assert_eq!(code(refused.unwrap_err()), (409, "Conflict".into()));
    assert_eq!(code(leases.get("absent").await.unwrap_err()), (404, "NotFound".into()));
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_a_deleted_object() {
    let server = ApiServer::new();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    // As kube's `finalizer` does it: a test for null where there is nothing.
    let add = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["x/y"]},
    ]);
    let patch = |ops| Patch::<ConfigMap>::Json(serde_json::from_value(ops).unwrap());
    maps.patch("a", &PatchParams::default(), &patch(add.clone())).await.unwrap();
    assert_eq!(code(maps.patch("a", &PatchParams::default(), &patch(add)).await.unwrap_err()).0, 422);

    let going = maps.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    let more = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "z/z"}]);
    assert_eq!(code(maps.patch("a", &PatchParams::default(), &patch(more)).await.unwrap_err()).0, 422);
    let remove = json!([{"op": "remove", "path": "/metadata/finalizers/0"}]);
    maps.patch("a", &PatchParams::default(), &patch(remove)).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pod_stays_for_its_grace_and_its_spec_is_fixed() {
    let server = ApiServer::new();
    server.create(pod("p"));
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let merge = |v| Patch::<serde_json::Value>::Merge(v);
    let gates = merge(json!({"spec": {"readinessGates": [{"conditionType": "h"}]}}));
    assert_eq!(code(pods.patch("p", &PatchParams::default(), &gates).await.unwrap_err()).0, 422);

    let going = pods.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    assert_eq!(going.metadata.generation, Some(2), "a deletion mark is a new generation");
    let again = pods.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(again.resource_version(), going.resource_version());
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_status_patch_keeps_to_the_status_and_to_the_uid() {
    let server = ApiServer::new();
    server.create(pod("p"));
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let uid = pods.get("p").await.unwrap().uid().unwrap();
    let conditions = |uid: &str, kind: &str, status: &str| {
        Patch::Strategic(json!({
            "metadata": {"uid": uid, "labels": {"ignored": "here"}},
            "status": {"conditions": [{"type": kind, "status": status}]},
        }))
    };
    pods.patch_status("p", &PatchParams::default(), &conditions(&uid, "g", "False")).await.unwrap();
    pods.patch_status("p", &PatchParams::default(), &conditions(&uid, "Ready", "False")).await.unwrap();
    let now = pods.patch_status("p", &PatchParams::default(), &conditions(&uid, "g", "True")).await.unwrap();
    let found: Vec<_> =
        now.status.unwrap().conditions.unwrap().into_iter().map(|c| format!("{}={}", c.type_, c.status)).collect();
    assert_eq!(found, ["g=True", "Ready=False"], "merged by type");
    assert!(!now.metadata.labels.unwrap().contains_key("ignored"));
    let twin = pods.patch_status("p", &PatchParams::default(), &conditions("other", "g", "False")).await;
    assert_eq!(code(twin.unwrap_err()), (409, "Conflict".into()), "a Pod of the same name is another Pod");
    let kept = pods.patch("p", &PatchParams::default(), &Patch::Merge(json!({"status": {"phase": "Failed"}}))).await;
    assert_eq!(kept.unwrap().status.unwrap().phase.as_deref(), Some("Pending"), "the main resource ignores status");
}

#[tokio::test(start_paused = true)]
async fn dependents_go_with_their_last_owner() {
    let server = ApiServer::new();
    let map = |name: &str, owners: serde_json::Value| {
        server.create(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners},
        }))
    };
    let (a, b) = (map("a", json!([])), map("b", json!([])));
    let owner = |o: &serde_json::Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": o["metadata"]["uid"]});
    map("child", json!([owner(&a), owner(&b)]));
    server.delete("ConfigMap", "a");
    assert!(server.get("ConfigMap", "child").is_some());
    server.delete("ConfigMap", "b");
    assert!(server.get("ConfigMap", "child").is_none());
}

#[tokio::test(start_paused = true)]
async fn discovery_says_what_is_served() {
    let server = ApiServer::new();
    let client = server.client();
    let policies = |found: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList| {
        found.resources.iter().any(|r| r.name == "mutatingadmissionpolicies")
    };
    let group = "admissionregistration.k8s.io/v1";
    assert!(policies(client.list_api_group_resources(group).await.unwrap()));
    assert_eq!(client.apiserver_version().await.unwrap().minor, "36");
    server.unregister("MutatingAdmissionPolicy");
    assert!(!policies(client.list_api_group_resources(group).await.unwrap()));
    let ar = kube::core::ApiResource::erase::<directlb::api::DirectLoadBalancer>(&());
    let lbs: Api<kube::core::DynamicObject> = Api::all_with(client, &ar);
    assert!(lbs.list(&ListParams::default()).await.unwrap().items.is_empty());
    server.unregister("DirectLoadBalancer");
    assert_eq!(code(lbs.list(&ListParams::default()).await.unwrap_err()).0, 404);
}
