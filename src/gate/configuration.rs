//! The webhook configurations: made by the controller, kept as they should be, gone with the chart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, ValidatingWebhook,
            ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        rbac::v1::ClusterRole,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference},
};
use kube::{Api, Client, Resource, ResourceExt as _, api::PostParams, runtime::watcher};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::inject::OPT_OUT_LABEL;

/// The name of both configurations.
pub const NAME: &str = "directlb";

/// What the configurations say about this installation.
#[derive(Clone, Debug)]
pub struct Params {
    /// The controller's namespace, whose Pods are never touched.
    pub namespace: String,
    /// The webhook's Service there.
    pub service: String,
    /// The ClusterRole that owns the configurations.
    pub cluster_role: String,
}

fn client(params: &Params, path: &str, ca_pem: &str) -> WebhookClientConfig {
    WebhookClientConfig {
        ca_bundle: Some(ByteString(ca_pem.as_bytes().to_vec())),
        service: Some(ServiceReference {
            name: params.service.clone(),
            namespace: params.namespace.clone(),
            path: Some(path.into()),
            port: Some(443),
        }),
        url: None,
    }
}

fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let list = |items: &[&str]| Some(items.iter().map(|s| (*s).to_owned()).collect());
    RuleWithOperations {
        api_groups: list(&[group]),
        api_versions: list(&[version]),
        resources: list(resources),
        operations: list(operations),
        scope: Some("*".into()),
    }
}

fn not_in(key: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.into(),
        operator: "NotIn".into(),
        values: Some(values.iter().map(|s| (*s).to_owned()).collect()),
    }
}

fn meta(owner: Option<&OwnerReference>) -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.into()),
        labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "directlb".to_owned())])),
        owner_references: owner.map(|o| vec![o.clone()]),
        ..ObjectMeta::default()
    }
}

/// The webhook that puts gates into Pods. It never stands in anybody's way: if the controller does not answer, Pods are
/// admitted as they are; kube-system and the controller's own namespace are not asked about.
#[must_use]
pub fn mutating(params: &Params, ca_pem: &str, owner: Option<&OwnerReference>) -> MutatingWebhookConfiguration {
    let opt_out = || not_in(OPT_OUT_LABEL, &["disabled"]);
    let namespaces =
        not_in("kubernetes.io/metadata.name", &["kube-system", "kube-node-lease", "kube-public", &params.namespace]);
    MutatingWebhookConfiguration {
        metadata: meta(owner),
        webhooks: Some(vec![MutatingWebhook {
            name: "pods.directlb.io".into(),
            admission_review_versions: vec!["v1".into()],
            client_config: client(params, "/mutate-pods", ca_pem),
            failure_policy: Some("Ignore".into()),
            match_policy: Some("Equivalent".into()),
            match_conditions: None,
            namespace_selector: Some(LabelSelector {
                match_expressions: Some(vec![namespaces, opt_out()]),
                match_labels: None,
            }),
            object_selector: Some(LabelSelector { match_expressions: Some(vec![opt_out()]), match_labels: None }),
            reinvocation_policy: Some("IfNeeded".into()),
            rules: Some(vec![rule("", "v1", &["pods"], &["CREATE"])]),
            side_effects: "None".into(),
            timeout_seconds: Some(5),
        }]),
    }
}

/// The webhook that checks users' objects. The schema guards them too, and the controller checks again: so it need not stand
/// in the way either.
#[must_use]
pub fn validating(params: &Params, ca_pem: &str, owner: Option<&OwnerReference>) -> ValidatingWebhookConfiguration {
    ValidatingWebhookConfiguration {
        metadata: meta(owner),
        webhooks: Some(vec![ValidatingWebhook {
            name: "objects.directlb.io".into(),
            admission_review_versions: vec!["v1".into()],
            client_config: client(params, "/validate", ca_pem),
            failure_policy: Some("Ignore".into()),
            match_policy: Some("Equivalent".into()),
            match_conditions: None,
            namespace_selector: Some(LabelSelector::default()),
            object_selector: Some(LabelSelector::default()),
            rules: Some(vec![
                rule("directlb.io", "v1alpha1", &["directloadbalancers"], &["CREATE", "UPDATE"]),
                rule("directlb.io", "v1alpha1", &["directloadbalancerclasses"], &["CREATE", "UPDATE", "DELETE"]),
            ]),
            side_effects: "None".into(),
            timeout_seconds: Some(5),
        }]),
    }
}

/// Keeps both as they should be: within a moment when somebody deletes or edits one, or when the CA changes. Only the
/// leader writes. Replaces them whole, so that what others added goes too.
pub async fn keep(kube: Client, params: Params, leading: watch::Receiver<bool>, ca: watch::Receiver<Arc<str>>) {
    let m = keep_one(&kube, &params, leading.clone(), ca.clone(), mutating, |a, b| a.webhooks == b.webhooks);
    let v = keep_one(&kube, &params, leading, ca, validating, |a, b| a.webhooks == b.webhooks);
    tokio::join!(m, v);
}

const PAUSE: Duration = Duration::from_secs(1);

async fn keep_one<K>(
    kube: &Client,
    params: &Params,
    mut leading: watch::Receiver<bool>,
    mut ca: watch::Receiver<Arc<str>>,
    make: fn(&Params, &str, Option<&OwnerReference>) -> K,
    same: fn(&K, &K) -> bool,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let api: Api<K> = Api::all(kube.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let events = watcher::watcher(api.clone(), config);
    let mut events = std::pin::pin!(events);
    loop {
        if *leading.borrow_and_update() {
            let pem = ca.borrow_and_update().clone();
            if let Err(error) = ensure(kube, &api, params, &pem, make, same).await {
                tracing::warn!(kind = %K::kind(&()), %error, "webhook configuration not written yet");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        tokio::select! {
            event = events.next() => match event {
                Some(Err(error)) => {
                    tracing::debug!(%error, "watch of a webhook configuration");
                    tokio::time::sleep(PAUSE).await;
                }
                Some(Ok(_)) => {}
                None => return,
            },
            changed = leading.changed() => if changed.is_err() { return },
            changed = ca.changed() => if changed.is_err() { return },
            // Against what a watch may miss.
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
    }
}

async fn ensure<K>(
    kube: &Client,
    api: &Api<K>,
    params: &Params,
    ca_pem: &str,
    make: fn(&Params, &str, Option<&OwnerReference>) -> K,
    same: fn(&K, &K) -> bool,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let roles: Api<ClusterRole> = Api::all(kube.clone());
    let owner = roles.get_opt(&params.cluster_role).await?.and_then(|r| r.owner_ref(&()));
    let mut want = make(params, ca_pem, owner.as_ref());
    match api.get_opt(NAME).await? {
        None => {
            api.create(&PostParams::default(), &want).await?;
            tracing::info!(kind = %K::kind(&()), "webhook configuration made");
        }
        Some(have) if same(&have, &want) && have.owner_references() == want.owner_references() => {}
        Some(have) => {
            want.meta_mut().resource_version = have.resource_version();
            api.replace(NAME, &PostParams::default(), &want).await?;
            tracing::info!(kind = %K::kind(&()), "webhook configuration restored");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_blocked() {
        let params = Params { namespace: "directlb-system".into(), service: "s".into(), cluster_role: "r".into() };
        let m = mutating(&params, "CA", None).webhooks.unwrap_or_default();
        assert_eq!(m.len(), 1);
        assert_eq!(m[0].failure_policy.as_deref(), Some("Ignore"));
        let text = serde_json::to_string(&m[0].namespace_selector).unwrap_or_default();
        assert!(text.contains("kube-system") && text.contains("directlb-system"), "{text}");
        let v = validating(&params, "CA", None).webhooks.unwrap_or_default();
        assert_eq!(v[0].failure_policy.as_deref(), Some("Ignore"));
    }
}
