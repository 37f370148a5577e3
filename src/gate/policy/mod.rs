//! Injection without a webhook: a MutatingAdmissionPolicy (KEP-3962, v1 since Kubernetes 1.36) whose parameters are the
//! users' objects. The API server puts the gates in, also while no controller runs.

mod expressions;

use k8s_openapi::{
    api::admissionregistration::v1::{
        JSONPatch, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
        MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, Mutation, NamedRuleWithOperations, ParamKind,
        ParamRef, Variable,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference},
};
use kube::Resource as _;

use super::configuration::{self, NAME, Params};
use crate::api::DirectLoadBalancer;

/// The policy: the same Pods as the webhook, the same patch.
#[must_use]
pub fn policy(params: &Params, owner: Option<&OwnerReference>) -> MutatingAdmissionPolicy {
    let (namespaces, pods) = configuration::scope(params);
    let variables = expressions::variables();
    MutatingAdmissionPolicy {
        metadata: configuration::meta(owner),
        spec: Some(MutatingAdmissionPolicySpec {
            failure_policy: Some("Ignore".into()),
            match_conditions: None,
            match_constraints: Some(MatchResources {
                exclude_resource_rules: None,
                match_policy: Some("Equivalent".into()),
                namespace_selector: Some(namespaces),
                object_selector: Some(pods),
                resource_rules: Some(vec![NamedRuleWithOperations {
                    api_groups: Some(vec![String::new()]),
                    api_versions: Some(vec!["v1".into()]),
                    operations: Some(vec!["CREATE".into()]),
                    resource_names: None,
                    resources: Some(vec!["pods".into()]),
                    scope: Some("*".into()),
                }]),
            }),
            mutations: Some(vec![Mutation {
                apply_configuration: None,
                json_patch: Some(JSONPatch { expression: Some(expressions::patch()) }),
                patch_type: "JSONPatch".into(),
            }]),
            param_kind: Some(ParamKind {
                api_version: Some(DirectLoadBalancer::api_version(&()).into()),
                kind: Some(DirectLoadBalancer::kind(&()).into()),
            }),
            reinvocation_policy: Some("IfNeeded".into()),
            variables: Some(
                variables.into_iter().map(|(name, expression)| Variable { name: name.into(), expression }).collect(),
            ),
        }),
    }
}

/// The binding: every object of the Pod's own namespace is a parameter.
#[must_use]
pub fn binding(owner: Option<&OwnerReference>) -> MutatingAdmissionPolicyBinding {
    MutatingAdmissionPolicyBinding {
        metadata: configuration::meta(owner),
        spec: Some(MutatingAdmissionPolicyBindingSpec {
            match_resources: None,
            param_ref: Some(ParamRef {
                name: None,
                namespace: None,
                parameter_not_found_action: Some("Allow".into()),
                selector: Some(LabelSelector::default()),
            }),
            policy_name: Some(NAME.into()),
        }),
    }
}
