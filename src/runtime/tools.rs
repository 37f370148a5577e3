//! `directlb crds` and `directlb cleanup`: what the chart's hooks run.

use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingWebhookConfiguration,
        },
        apps::v1::Deployment,
        core::v1::Pod,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::json;

use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, FINALIZER, GATE_PREFIX, GateReason},
    controller::CLASS_FINALIZER,
    gate::{configuration, flip},
    runtime::clock::Clock,
};

/// What stops a tool: told to a person.
pub type ToolError = Box<dyn std::error::Error + Send + Sync>;

/// Prints the definitions as YAML documents.
///
/// # Errors
/// When a definition cannot be written as YAML: a programming error.
pub fn print_crds() -> Result<(), ToolError> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for crd in crate::api::crds() {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&crd)?)?;
    }
    Ok(())
}

/// Applies the definitions by server-side apply.
///
/// # Errors
/// When the API server cannot be reached or refuses.
pub async fn apply_crds() -> Result<(), ToolError> {
    let api: Api<CustomResourceDefinition> = Api::all(Client::try_default().await?);
    // In Helm's name: it applied them first, and would be in conflict with anybody else at the next installation.
    let params = PatchParams::apply("helm").force();
    for crd in crate::api::crds() {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd)).await?;
        tracing::info!(%name, "applied");
    }
    Ok(())
}

/// Undoes what would outlive the controller: first it is stopped, then nobody injects gates any more, then every gate is
/// opened, then no finalizer waits for a controller that does not come back. The users' objects stay.
///
/// # Errors
/// When the API server cannot be reached or refuses.
pub async fn cleanup(namespace: &str, deployment: &str) -> Result<(), ToolError> {
    let client = Client::try_default().await?;
    stop_controller(&client, namespace, deployment).await?;
    let gone = |result: Result<_, kube::Error>| match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(e) => Err(e),
    };
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(client.clone());
    gone(bindings.delete(configuration::NAME, &DeleteParams::default()).await.map(|_| ()))?;
    let policies: Api<MutatingAdmissionPolicy> = Api::all(client.clone());
    gone(policies.delete(configuration::NAME, &DeleteParams::default()).await.map(|_| ()))?;
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    gone(mutating.delete(configuration::NAME, &DeleteParams::default()).await.map(|_| ()))?;
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    gone(validating.delete(configuration::NAME, &DeleteParams::default()).await.map(|_| ()))?;

    let now = Clock::system().now();
    let pods: Api<Pod> = Api::all(client.clone());
    for pod in pods.list(&ListParams::default()).await?.items {
        let shut: Vec<String> = flip::gates(&pod)
            .filter(|g| g.starts_with(GATE_PREFIX) && !flip::is_open(&pod, g))
            .map(str::to_owned)
            .collect();
        for gate in shut {
            let reason = GateReason::LoadBalancerDeleted;
            let Some(body) = flip::needs(&pod, &gate, true, reason, "DirectLB is being uninstalled", now) else {
                continue;
            };
            if let Some(pod_ref) = flip::PodRef::of(&pod) {
                flip::set(&client, &pod_ref, body).await?;
                tracing::info!(pod = %pod.name_any(), %gate, "opened");
            }
        }
    }
    // As dynamic objects: one that cannot be read must not keep its finalizer.
    strip::<DirectLoadBalancer>(&client, FINALIZER).await?;
    strip::<DirectLoadBalancerClass>(&client, CLASS_FINALIZER).await
}

/// Scales the controller to 0 and waits until its Pods are gone.
async fn stop_controller(client: &Client, namespace: &str, deployment: &str) -> Result<(), ToolError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let to_zero = json!({"spec": {"replicas": 0}});
    let scaled = match deployments.patch_scale(deployment, &PatchParams::default(), &Patch::Merge(to_zero)).await {
        Ok(scaled) => scaled,
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    tracing::info!(%deployment, "scaled to 0");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // Whatever the chart's labels are called.
    let selector = scaled.status.and_then(|s| s.selector).ok_or("the Deployment has no selector")?;
    let ours = ListParams::default().labels(&selector);
    for _ in 0..120 {
        if pods.list(&ours).await?.items.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    Err("the controller's Pods are still there after a minute".into())
}

async fn strip<K: kube::Resource<DynamicType = ()>>(client: &Client, finalizer: &str) -> Result<(), ToolError> {
    let resource = kube::core::ApiResource::erase::<K>(&());
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    for object in all.list(&ListParams::default()).await?.items {
        if !object.finalizers().iter().any(|f| f == finalizer) {
            continue;
        }
        let rest: Vec<&String> = object.finalizers().iter().filter(|f| *f != finalizer).collect();
        let api: Api<DynamicObject> = match object.namespace() {
            Some(ns) => Api::namespaced_with(client.clone(), &ns, &resource),
            None => all.clone(),
        };
        let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": object.resource_version()}});
        match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => tracing::info!(kind = %K::kind(&()), name = %object.name_any(), "finalizer removed"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
