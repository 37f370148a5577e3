//! The admission webhooks: Pods get their gates, users' objects are checked in sentences.
//!
//! Whatever goes wrong while a Pod is admitted, the Pod is admitted: a load balancer controller must not keep others from
//! working. (An object that is refused is refused with every reason at once.)

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
};
use serde_json::Value;

use super::inject::{self, InjectSource};
use crate::{
    api::{DirectLoadBalancerClassSpec, DirectLoadBalancerSpec, validate},
    model::ObjectKey,
    runtime::telemetry::Metrics,
};

/// What the webhooks need to know of the cluster.
pub trait WebhookSource: InjectSource + Send + Sync {
    /// The objects that use a class.
    fn class_users(&self, class: &str) -> Vec<ObjectKey>;
}

#[derive(Clone)]
struct Webhook {
    source: Arc<dyn WebhookSource>,
    metrics: Metrics,
}

/// The routes: `/mutate-pods` and `/validate`.
pub fn router(source: Arc<dyn WebhookSource>, metrics: Metrics) -> Router {
    Router::new()
        .route("/mutate-pods", post(mutate_pods))
        .route("/validate", post(validate_objects))
        // etcd takes objects of up to 1.5 MiB; a review holds two of them.
        .layer(DefaultBodyLimit::max(4 << 20))
        .with_state(Webhook { source, metrics })
}

type Review = Json<AdmissionReview<DynamicObject>>;

async fn mutate_pods(State(webhook): State<Webhook>, Json(review): Json<AdmissionReview<DynamicObject>>) -> Review {
    let request: AdmissionRequest<DynamicObject> = match review.try_into() {
        Ok(request) => request,
        Err(error) => return Json(AdmissionResponse::invalid(error).into_review()),
    };
    let response = AdmissionResponse::from(&request);
    let namespace = request.namespace.clone().unwrap_or_default();
    let raw = request.object.as_ref().and_then(|o| serde_json::to_value(o).ok());
    let (outcome, response) = match raw {
        Some(pod) if request.operation == Operation::Create => {
            let patch = inject::patch(&pod, &namespace, &*webhook.source);
            if patch.0.is_empty() {
                ("unchanged", response)
            } else {
                match response.with_patch(patch) {
                    Ok(response) => ("injected", response),
                    Err(error) => {
                        tracing::error!(%namespace, %error, "a Pod was admitted without its gate");
                        ("error", AdmissionResponse::from(&request))
                    }
                }
            }
        }
        _ => ("unchanged", response),
    };
    webhook.metrics.admission("pods", outcome);
    Json(response.into_review())
}

async fn validate_objects(
    State(webhook): State<Webhook>,
    Json(review): Json<AdmissionReview<DynamicObject>>,
) -> Review {
    let request: AdmissionRequest<DynamicObject> = match review.try_into() {
        Ok(request) => request,
        Err(error) => return Json(AdmissionResponse::invalid(error).into_review()),
    };
    let problems = problems(&request, &*webhook.source);
    webhook.metrics.admission("validate", if problems.is_empty() { "allowed" } else { "denied" });
    let response = AdmissionResponse::from(&request);
    let response = if problems.is_empty() { response } else { response.deny(problems.join("; ")) };
    Json(response.into_review())
}

/// Everything that speaks against a request.
fn problems(request: &AdmissionRequest<DynamicObject>, source: &dyn WebhookSource) -> Vec<String> {
    let class = request.kind.kind == "DirectLoadBalancerClass";
    if request.operation == Operation::Delete {
        let users = if class { source.class_users(&request.name) } else { Vec::new() };
        if users.is_empty() {
            return Vec::new();
        }
        let shown: Vec<String> = users.iter().take(5).map(ToString::to_string).collect();
        return vec![format!(
            "class {} is used by {} DirectLoadBalancers ({}): delete them first",
            request.name,
            users.len(),
            shown.join(", ")
        )];
    }
    let Some(object) = &request.object else { return Vec::new() };
    // What is being deleted may lose its finalizer whatever its spec says.
    if object.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
    if class {
        return match read::<DirectLoadBalancerClassSpec>(spec) {
            Ok(spec) => validate::class(&spec).iter().map(ToString::to_string).collect(),
            Err(problem) => vec![problem],
        };
    }
    let spec = match read::<DirectLoadBalancerSpec>(spec) {
        Ok(spec) => spec,
        Err(problem) => return vec![problem],
    };
    let mut out: Vec<String> = validate::spec(&spec).iter().map(ToString::to_string).collect();
    let old = request.old_object.as_ref().and_then(|o| o.data.get("spec").cloned());
    if let Some(Ok(old)) = old.map(read::<DirectLoadBalancerSpec>) {
        out.extend(validate::transition(&old, &spec).iter().map(ToString::to_string));
    }
    out
}

fn read<T: serde::de::DeserializeOwned>(spec: Value) -> Result<T, String> {
    serde_json::from_value(spec).map_err(|e| format!("spec: {e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::BTreeMap;

    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::*;
    use crate::api::{DirectLoadBalancer, DrainSpec};

    struct Source(Vec<Arc<DirectLoadBalancer>>);

    impl InjectSource for Source {
        fn objects(&self, _: &str) -> Vec<Arc<DirectLoadBalancer>> {
            self.0.clone()
        }
        fn service_selector(&self, _: &str, _: &str) -> Option<BTreeMap<String, String>> {
            None
        }
        fn namespace_labels(&self, _: &str) -> BTreeMap<String, String> {
            BTreeMap::new()
        }
        fn drain(&self, _: &DirectLoadBalancer) -> DrainSpec {
            DrainSpec::default()
        }
    }
    impl WebhookSource for Source {
        fn class_users(&self, class: &str) -> Vec<ObjectKey> {
            if class == "used" { vec![ObjectKey::new("shop", "web")] } else { vec![] }
        }
    }

    async fn call(path: &str, kind: &str, operation: &str, object: Value, old: Value) -> Value {
        let web = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
            "target": {"selector": {"matchLabels": {"app": "web"}}},
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]}});
        let source = Source(vec![Arc::new(serde_json::from_value(web).unwrap())]);
        let name = object.pointer("/metadata/name").or(old.pointer("/metadata/name")).cloned().unwrap_or(json!("p"));
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "kind": {"group": "", "version": "v1", "kind": kind},
                "resource": {"group": "", "version": "v1", "resource": "x"},
                "name": name, "namespace": "shop", "operation": operation, "userInfo": {},
                "object": object, "oldObject": old, "dryRun": false,
            },
        });
        let request =
            http::Request::post(path).header("content-type", "application/json").body(Body::from(review.to_string()));
        let router = router(Arc::new(source), Metrics::new().unwrap());
        let answer = router.oneshot(request.unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    fn pod(labels: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", "labels": labels},
               "spec": {"containers": [{"name": "c"}], "newField": 1}})
    }

    #[tokio::test]
    async fn pods_get_their_gate() {
        let response = call("/mutate-pods", "Pod", "CREATE", pod(json!({"app": "web"})), Value::Null).await;
        assert_eq!(response["allowed"], true);
        assert_eq!(response["patchType"], "JSONPatch");
        let response = call("/mutate-pods", "Pod", "CREATE", pod(json!({"app": "x"})), Value::Null).await;
        assert_eq!(response["allowed"], true);
        assert!(response.get("patch").is_none_or(Value::is_null), "{response}");
    }

    fn lb(spec: Value) -> Value {
        json!({"apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
               "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    }

    #[tokio::test]
    async fn objects_are_refused_with_every_reason() {
        let good = json!({"target": {"selector": {"matchLabels": {"a": "b"}}}, "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]});
        let response = call("/validate", "DirectLoadBalancer", "CREATE", lb(good.clone()), Value::Null).await;
        assert_eq!(response["allowed"], true, "{response}");
        let bad = json!({"target": {"selector": {}}, "drain": {"timeout": "30 parsecs"},
                         "listeners": [{"name": "http", "protocol": "HTTP", "port": 70000}]});
        let response = call("/validate", "DirectLoadBalancer", "CREATE", lb(bad), Value::Null).await;
        let message = response["status"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(response["allowed"], false);
        assert!(message.contains("spec.listeners[0].port") && message.contains("30 parsecs"), "{message}");
        let unreadable = json!({"listeners": [{"name": "http", "protocol": "FTP", "port": 80}]});
        let response = call("/validate", "DirectLoadBalancer", "CREATE", lb(unreadable), Value::Null).await;
        assert!(response["status"]["message"].as_str().unwrap().contains("FTP"), "{response}");
    }

    #[tokio::test]
    async fn immutable_fields() {
        let with = |class: &str| {
            json!({"className": class, "target": {"selector": {"matchLabels": {"a": "b"}}},
                                        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]})
        };
        let response = call("/validate", "DirectLoadBalancer", "UPDATE", lb(with("b")), lb(with("a"))).await;
        assert_eq!(response["allowed"], false);
        assert!(response["status"]["message"].as_str().unwrap().contains("className"), "{response}");
    }

    #[tokio::test]
    async fn a_class_in_use_cannot_be_deleted() {
        let class = |name: &str| json!({"apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancerClass", "metadata": {"name": name}, "spec": {}});
        let response = call("/validate", "DirectLoadBalancerClass", "DELETE", Value::Null, class("used")).await;
        assert_eq!(response["allowed"], false);
        assert!(response["status"]["message"].as_str().unwrap().contains("shop/web"));
        let response = call("/validate", "DirectLoadBalancerClass", "DELETE", Value::Null, class("free")).await;
        assert_eq!(response["allowed"], true);
    }
}
