//! Server-side apply.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use crate::apiserver::ApiServer;

fn setup() -> (ApiServer, Api<DynamicObject>) {
    let server = ApiServer::new();
    server.create(json!({
        "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
        "metadata": {"name": "web"}, "spec": {"className": "c"},
    }));
    let resource = ApiResource::erase::<directlb::api::DirectLoadBalancer>(&());
    let api = Api::default_namespaced_with(server.client(), &resource);
    (server, api)
}

fn config(body: Value) -> Patch<Value> {
    let mut config = json!({"apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer"});
    json_patch::merge(&mut config, &body);
    Patch::Apply(config)
}

fn by(manager: &str) -> PatchParams {
    PatchParams::apply(manager).force()
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status})
}

async fn apply_status(api: &Api<DynamicObject>, manager: &str, status: Value) -> DynamicObject {
    api.patch_status("web", &by(manager), &config(json!({"status": status}))).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_same_status_again_makes_no_version() {
    let (server, api) = setup();
    let status = json!({"readyTargets": "1/2", "conditions": [condition("Ready", "False")]});
    let first = apply_status(&api, "m", status.clone()).await;
    let again = apply_status(&api, "m", status).await;
    assert_eq!(first.metadata.resource_version, again.metadata.resource_version);
    assert_eq!(again.metadata.generation, Some(1), "a status is no new generation");
    let changed: Vec<bool> = server.requests().iter().map(|r| r.changed).collect();
    assert_eq!(changed, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn what_a_manager_no_longer_states_goes() {
    let (_, api) = setup();
    let full = json!({
        "readyTargets": "1/2", "loadBalancer": {"id": "x"},
        "conditions": [condition("A", "True"), condition("B", "True")],
    });
    apply_status(&api, "m", full).await;
    apply_status(&api, "other", json!({"conditions": [condition("C", "True")]})).await;
    let now = apply_status(&api, "m", json!({"conditions": [condition("A", "False")]})).await;
    let want = json!({"conditions": [condition("A", "False"), condition("C", "True")]});
    assert_eq!(now.data["status"], want, "the other manager's stays");
}

#[tokio::test(start_paused = true)]
async fn what_two_managers_state_stays_while_one_does() {
    let (_, api) = setup();
    for manager in ["m", "n"] {
        apply_status(&api, manager, json!({"conditions": [condition("A", "True")]})).await;
    }
    let now = apply_status(&api, "m", json!({})).await;
    assert_eq!(now.data["status"]["conditions"], json!([condition("A", "True")]));
    let now = apply_status(&api, "n", json!({})).await;
    assert!(now.data["status"]["conditions"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_conflict_needs_force() {
    let (_, api) = setup();
    apply_status(&api, "m", json!({"readyTargets": "1/2"})).await;
    let polite = PatchParams::apply("n");
    let body = config(json!({"status": {"readyTargets": "2/2"}}));
    let refused = api.patch_status("web", &polite, &body).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(s) if s.is_conflict()));
    apply_status(&api, "n", json!({"readyTargets": "2/2"})).await;
    let now = apply_status(&api, "m", json!({})).await;
    assert_eq!(now.data["status"]["readyTargets"], "2/2", "it is n's now");
}

#[tokio::test(start_paused = true)]
async fn a_field_that_another_write_changed_is_no_longer_the_managers() {
    let (server, api) = setup();
    apply_status(&api, "m", json!({"readyTargets": "1/2", "className": "c"})).await;
    server.patch_status("DirectLoadBalancer", "web", json!({"readyTargets": "edited"}));
    let now = apply_status(&api, "m", json!({})).await;
    assert_eq!(now.data["status"], json!({"readyTargets": "edited"}));
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_keep_apart_and_a_uid_is_a_precondition() {
    let (server, api) = setup();
    let both = config(json!({"spec": {"className": "d"}, "status": {"readyTargets": "x"}}));
    let now = api.patch("web", &by("m"), &both).await.unwrap();
    assert_eq!(now.metadata.generation, Some(2));
    assert_eq!((&now.data["spec"]["className"], now.data.get("status")), (&json!("d"), None));
    let now = api.patch_status("web", &by("m"), &config(json!({"spec": {"className": "e"}}))).await.unwrap();
    assert_eq!(now.data["spec"]["className"], "d");
    let twin = config(json!({"metadata": {"uid": "other"}, "status": {"readyTargets": "x"}}));
    let refused = api.patch_status("web", &by("m"), &twin).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(s) if s.is_conflict()));

    let fresh =
        api.patch("new", &by("m"), &config(json!({"metadata": {"name": "new"}, "spec": {"className": "c"}}))).await;
    assert_eq!(fresh.unwrap().metadata.generation, Some(1));
    let absent = api.patch_status("absent", &by("m"), &config(json!({"status": {}}))).await.unwrap_err();
    assert!(matches!(absent, kube::Error::Api(s) if s.is_not_found()));
    assert_eq!(server.list("DirectLoadBalancer").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn finalizers_and_labels_are_applied_beside_those_of_others() {
    let (server, api) = setup();
    server.patch("DirectLoadBalancer", "web", json!({"metadata": {"finalizers": ["a/a"], "labels": {"x": "1"}}}));
    let mine = json!({"metadata": {"finalizers": ["b/b"], "labels": {"y": "2"}}});
    let now = api.patch("web", &by("m"), &config(mine)).await.unwrap();
    assert_eq!(now.metadata.finalizers.unwrap(), ["a/a", "b/b"]);
    let now = api.patch("web", &by("m"), &config(json!({}))).await.unwrap();
    assert_eq!(now.metadata.finalizers.unwrap(), ["a/a"]);
    assert_eq!(now.metadata.labels.unwrap().into_iter().collect::<Vec<_>>(), [("x".into(), "1".into())]);
}
