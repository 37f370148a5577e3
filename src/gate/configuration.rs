//! The admission configurations (webhooks, or a policy): made by the controller, kept as they should be, gone with the
//! chart.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhook, MutatingWebhookConfiguration,
            RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
            WebhookClientConfig,
        },
        rbac::v1::ClusterRole,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, PostParams},
    runtime::watcher,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{inject::OPT_OUT_LABEL, policy};

/// The name of all of them.
pub const NAME: &str = "directlb";

/// How Pods should get their gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Injection {
    /// By a policy where the API server serves them (1.36 and later), else by the webhook.
    #[default]
    Auto,
    /// By a MutatingAdmissionPolicy: the API server does it alone.
    Policy,
    /// By the webhook.
    Webhook,
}

/// What puts gates into Pods at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Injector {
    Webhook,
    /// The policy is new: until every API server has it in effect, the webhook stays. What one has added the other does
    /// not add again.
    Both,
    Policy,
}

/// How long the webhook stays beside a new policy.
const OVERLAP: Duration = Duration::from_secs(30);

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

pub(super) fn meta(owner: Option<&OwnerReference>) -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.into()),
        labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "directlb".to_owned())])),
        owner_references: owner.map(|o| vec![o.clone()]),
        ..ObjectMeta::default()
    }
}

/// Which namespaces and Pods are touched: not kube-system, not the controller's own, not what opts out.
pub(super) fn scope(params: &Params) -> (LabelSelector, LabelSelector) {
    let opt_out = || not_in(OPT_OUT_LABEL, &["disabled"]);
    let namespaces =
        not_in("kubernetes.io/metadata.name", &["kube-system", "kube-node-lease", "kube-public", &params.namespace]);
    let selector = |expressions| LabelSelector { match_expressions: Some(expressions), match_labels: None };
    (selector(vec![namespaces, opt_out()]), selector(vec![opt_out()]))
}

/// The webhook that puts gates into Pods. It never stands in anybody's way: if the controller does not answer, Pods are
/// admitted as they are; kube-system and the controller's own namespace are not asked about.
#[must_use]
pub fn mutating(params: &Params, ca_pem: &str, owner: Option<&OwnerReference>) -> MutatingWebhookConfiguration {
    let (namespaces, pods) = scope(params);
    MutatingWebhookConfiguration {
        metadata: meta(owner),
        webhooks: Some(vec![MutatingWebhook {
            name: "pods.directlb.io".into(),
            admission_review_versions: vec!["v1".into()],
            client_config: client(params, "/mutate-pods", ca_pem),
            failure_policy: Some("Ignore".into()),
            match_policy: Some("Equivalent".into()),
            match_conditions: None,
            namespace_selector: Some(namespaces),
            object_selector: Some(pods),
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

/// Keeps all of them as they should be: within a moment when somebody deletes or edits one, or when the CA changes. Only
/// the leader writes. Replaces them whole, so that what others added goes too.
pub async fn keep(
    kube: Client,
    params: Params,
    injection: Injection,
    leading: watch::Receiver<bool>,
    ca: watch::Receiver<Arc<str>>,
) {
    let (decide, injector) = watch::channel(Injector::Webhook);
    let keeper = Keeper { kube: kube.clone(), params, leading, ca, injector };
    let m = keeper.clone().keep(Kind {
        make: mutating,
        same: |a, b| a.webhooks == b.webhooks,
        wanted: |i| i != Injector::Policy,
        needs_policy: false,
    });
    let v = keeper.clone().keep(Kind {
        make: validating,
        same: |a, b| a.webhooks == b.webhooks,
        wanted: |_| true,
        needs_policy: false,
    });
    let p = keeper.clone().keep(Kind {
        make: |params, _, owner| policy::policy(params, owner),
        same: |a, b| a.spec == b.spec,
        wanted: |i| i != Injector::Webhook,
        needs_policy: false,
    });
    let b = keeper.keep(Kind {
        make: |_, _, owner| policy::binding(owner),
        same: |a, b| a.spec == b.spec,
        wanted: |i| i != Injector::Webhook,
        needs_policy: true,
    });
    tokio::join!(decisions(kube, injection, decide), m, v, p, b);
}

/// Decides what injects, and again from time to time: API servers are upgraded.
async fn decisions(kube: Client, injection: Injection, out: watch::Sender<Injector>) {
    loop {
        match decision(&kube, injection).await {
            Ok(injector) => {
                out.send_if_modified(|old| {
                    let new = *old != injector;
                    if new {
                        tracing::info!(?injector, "injection of gates");
                    }
                    *old = injector;
                    new
                });
            }
            Err(error) => tracing::warn!(%error, "cannot find out how to inject gates yet"),
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Whether the API server puts gates into Pods itself, if it is told to.
///
/// # Errors
/// The API server does not answer.
pub(crate) async fn policies_served(kube: &Client) -> Result<bool, kube::Error> {
    let served = kube.list_api_group_resources("admissionregistration.k8s.io/v1").await?;
    Ok(served.resources.iter().any(|r| r.name == "mutatingadmissionpolicies"))
}

async fn decision(kube: &Client, injection: Injection) -> Result<Injector, kube::Error> {
    let by_policy = match injection {
        Injection::Webhook => false,
        Injection::Policy => true,
        Injection::Auto => policies_served(kube).await?,
    };
    if !by_policy {
        return Ok(Injector::Webhook);
    }
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(kube.clone());
    let policies: Api<MutatingAdmissionPolicy> = Api::all(kube.clone());
    let (policy, binding) = tokio::try_join!(policies.get_opt(NAME), bindings.get_opt(NAME))?;
    // By the API server's clock, against this machine's: an overlap too short or too long does no harm.
    let old = |at: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        at.is_some_and(|t| jiff::Timestamp::now().duration_since(t.0).unsigned_abs() >= OVERLAP)
    };
    let both = policy.is_some_and(|p| old(p.metadata.creation_timestamp.as_ref()))
        && binding.is_some_and(|b| old(b.metadata.creation_timestamp.as_ref()));
    Ok(if both { Injector::Policy } else { Injector::Both })
}

const PAUSE: Duration = Duration::from_secs(1);

/// What a kind of configuration should be.
struct Kind<K> {
    make: fn(&Params, &str, Option<&OwnerReference>) -> K,
    /// Whether the part that matters is the same.
    same: fn(&K, &K) -> bool,
    wanted: fn(Injector) -> bool,
    /// The API server refuses it as long as there is no policy.
    needs_policy: bool,
}

#[derive(Clone)]
struct Keeper {
    kube: Client,
    params: Params,
    leading: watch::Receiver<bool>,
    ca: watch::Receiver<Arc<str>>,
    injector: watch::Receiver<Injector>,
}

impl Keeper {
    async fn keep<K>(mut self, kind: Kind<K>)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize + Send + 'static,
    {
        let api: Api<K> = Api::all(self.kube.clone());
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let events = watcher::watcher(api.clone(), config);
        let mut events = std::pin::pin!(events);
        loop {
            let wanted = (kind.wanted)(*self.injector.borrow_and_update());
            if *self.leading.borrow_and_update() {
                let pem = self.ca.borrow_and_update().clone();
                let result = if wanted { self.ensure(&api, &pem, &kind).await } else { remove(&api).await };
                if let Err(error) = result {
                    tracing::warn!(kind = %K::kind(&()), %error, "admission configuration not written yet");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            tokio::select! {
                // What is not wanted may not even be served.
                event = events.next(), if wanted => match event {
                    Some(Err(error)) => {
                        tracing::debug!(%error, "watch of an admission configuration");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Some(Ok(_)) => {}
                    None => return,
                },
                changed = self.leading.changed() => if changed.is_err() { return },
                changed = self.ca.changed() => if changed.is_err() { return },
                changed = self.injector.changed() => if changed.is_err() { return },
                // Against what a watch may miss.
                () = tokio::time::sleep(Duration::from_secs(30)) => {}
            }
        }
    }

    async fn ensure<K>(&self, api: &Api<K>, ca_pem: &str, kind: &Kind<K>) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
    {
        if kind.needs_policy {
            let policies: Api<MutatingAdmissionPolicy> = Api::all(self.kube.clone());
            for _ in 0..20 {
                if policies.get_opt(NAME).await?.is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let roles: Api<ClusterRole> = Api::all(self.kube.clone());
        let owner = roles.get_opt(&self.params.cluster_role).await?.and_then(|r| r.owner_ref(&()));
        let mut want = (kind.make)(&self.params, ca_pem, owner.as_ref());
        match api.get_opt(NAME).await? {
            None => {
                api.create(&PostParams::default(), &want).await?;
                tracing::info!(kind = %K::kind(&()), "admission configuration made");
            }
            Some(have) if (kind.same)(&have, &want) && have.owner_references() == want.owner_references() => {}
            Some(have) => {
                want.meta_mut().resource_version = have.resource_version();
                api.replace(NAME, &PostParams::default(), &want).await?;
                tracing::info!(kind = %K::kind(&()), "admission configuration restored");
            }
        }
        Ok(())
    }
}

async fn remove<K>(api: &Api<K>) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    if api.get_opt(NAME).await?.is_none() {
        return Ok(());
    }
    match api.delete(NAME, &DeleteParams::default()).await {
        Ok(_) => tracing::info!(kind = %K::kind(&()), "admission configuration removed: the other one injects"),
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(e) => return Err(e),
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
