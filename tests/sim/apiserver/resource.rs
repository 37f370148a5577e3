//! What is served: resource types, paths, discovery.

use std::sync::Arc;

use serde_json::{Value, json};

use super::error::ApiError;

/// A resource type.
#[derive(Clone, Debug)]
pub struct ResourceType {
    /// Index of its table.
    pub id: usize,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// The resource's name in paths.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it has a `status` subresource (then the main resource ignores `status`).
    pub status: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Whether it is a custom resource: no strategic merge, and a PUT needs a resource version.
    pub custom: bool,
}

impl ResourceType {
    /// A custom resource with a status subresource.
    pub fn custom(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Self {
        Self {
            id: 0,
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced,
            status: true,
            generation: true,
            custom: true,
        }
    }

    /// As it stands in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As error messages name it, such as `leases.coordination.k8s.io`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// Namespaced, has status, has generation.
type Flags = (bool, bool, bool);
const PLAIN: Flags = (true, false, false);
const CLUSTER_PLAIN: Flags = (false, false, false);
const FULL: Flags = (true, true, true);
const CLUSTER_SPEC: Flags = (false, false, true);

#[rustfmt::skip]
const BUILT_IN: &[(&str, &str, &str, &str, Flags)] = &[
    ("", "v1", "Pod", "pods", FULL),
    ("", "v1", "Node", "nodes", (false, true, false)),
    ("", "v1", "Namespace", "namespaces", (false, true, false)),
    ("", "v1", "Service", "services", (true, true, false)),
    ("", "v1", "Endpoints", "endpoints", PLAIN),
    ("", "v1", "Secret", "secrets", PLAIN),
    ("", "v1", "ConfigMap", "configmaps", PLAIN),
    ("", "v1", "ServiceAccount", "serviceaccounts", PLAIN),
    ("events.k8s.io", "v1", "Event", "events", PLAIN),
    ("", "v1", "Event", "events", PLAIN),
    ("apps", "v1", "Deployment", "deployments", FULL),
    ("apps", "v1", "ReplicaSet", "replicasets", FULL),
    ("apps", "v1", "StatefulSet", "statefulsets", FULL),
    ("apps", "v1", "DaemonSet", "daemonsets", FULL),
    ("batch", "v1", "Job", "jobs", FULL),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", (true, false, true)),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", FULL),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", FULL),
    ("coordination.k8s.io", "v1", "Lease", "leases", PLAIN),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", CLUSTER_PLAIN),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", (false, true, true)),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", CLUSTER_SPEC),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", CLUSTER_SPEC),
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", CLUSTER_SPEC),
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", CLUSTER_SPEC),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", (false, true, true)),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", CLUSTER_SPEC),
];

/// Every type that a cluster serves from the start: Kubernetes' own, and DirectLB's.
pub fn built_in() -> Vec<ResourceType> {
    let mut types: Vec<_> = BUILT_IN
        .iter()
        .map(|&(group, version, kind, plural, (namespaced, status, generation))| ResourceType {
            status,
            generation,
            custom: false,
            ..ResourceType::custom(group, version, kind, plural, namespaced)
        })
        .collect();
    let lb = ["directlb.io", "v1alpha1"];
    types.push(ResourceType::custom(lb[0], lb[1], "DirectLoadBalancer", "directloadbalancers", true));
    types.push(ResourceType::custom(lb[0], lb[1], "DirectLoadBalancerClass", "directloadbalancerclasses", false));
    types
}

/// What a path names.
#[derive(Clone, Debug)]
pub struct Route {
    /// The resource type.
    pub ty: Arc<ResourceType>,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The object's name; none: the collection.
    pub name: Option<String>,
    /// `status`, `scale`, `eviction`...
    pub sub: Option<String>,
}

/// A path's meaning: a resource, or a discovery document.
pub enum Target {
    /// A resource.
    Resource(Route),
    /// A finished document.
    Document(Value),
}

/// Finds what `path` names among `types`.
pub fn route(types: &[Arc<ResourceType>], path: &str) -> Result<Target, ApiError> {
    let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, version) = match parts.as_slice() {
        ["version"] => {
            return Ok(Target::Document(json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
            })));
        }
        ["api"] => {
            return Ok(Target::Document(
                json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
            ));
        }
        ["apis"] => return Ok(Target::Document(groups(types))),
        ["apis", group] => return group_document(types, group).map(Target::Document),
        ["api", version, ..] => ("", *version),
        ["apis", group, version, ..] => (*group, *version),
        _ => return Err(ApiError::no_such_path()),
    };
    parts.drain(..if group.is_empty() { 2 } else { 3 });
    let (namespace, rest): (Option<&str>, &[&str]) = match parts.as_slice() {
        [] => return resources(types, group, version).map(Target::Document),
        ["namespaces", _, "status" | "finalize"] => (None, &parts),
        ["namespaces", ns, _, ..] => (Some(ns), &parts[2..]),
        _ => (None, &parts),
    };
    let (plural, name, sub) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(name), None),
        [plural, name, sub] => (plural, Some(name), Some(sub)),
        _ => return Err(ApiError::no_such_path()),
    };
    let ty = types
        .iter()
        .find(|t| t.group == group && t.version == version && t.plural == *plural)
        .ok_or_else(ApiError::no_such_path)?;
    // A namespaced object is only reachable through its namespace; a cluster-scoped one never is.
    if (namespace.is_some() && !ty.namespaced) || (ty.namespaced && namespace.is_none() && name.is_some()) {
        return Err(ApiError::no_such_path());
    }
    if sub.is_some_and(|s| *s == "status" && !ty.status) {
        return Err(ApiError::no_such_path());
    }
    Ok(Target::Resource(Route {
        ty: Arc::clone(ty),
        namespace: namespace.map(Into::into),
        name: name.map(|n| (*n).into()),
        sub: sub.map(|s| (*s).into()),
    }))
}

fn versions_of(types: &[Arc<ResourceType>], group: &str) -> Vec<Value> {
    let mut versions: Vec<&str> = types.iter().filter(|t| t.group == group).map(|t| t.version.as_str()).collect();
    versions.dedup();
    versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect()
}

fn group_document(types: &[Arc<ResourceType>], group: &str) -> Result<Value, ApiError> {
    let versions = versions_of(types, group);
    let preferred = versions.first().cloned().ok_or_else(ApiError::no_such_path)?;
    Ok(
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": versions, "preferredVersion": preferred}),
    )
}

fn groups(types: &[Arc<ResourceType>]) -> Value {
    let mut names: Vec<&str> = types.iter().map(|t| t.group.as_str()).filter(|g| !g.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let groups: Vec<Value> = names.iter().filter_map(|g| group_document(types, g).ok()).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(types: &[Arc<ResourceType>], group: &str, version: &str) -> Result<Value, ApiError> {
    const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut found = Vec::new();
    for ty in types.iter().filter(|t| t.group == group && t.version == version) {
        let entry = |name: String, verbs: &[&str]| {
            json!({"name": name, "singularName": ty.kind.to_lowercase(), "namespaced": ty.namespaced,
                   "kind": ty.kind, "verbs": verbs})
        };
        found.push(entry(ty.plural.clone(), &VERBS));
        if ty.status {
            found.push(entry(format!("{}/status", ty.plural), &["get", "patch", "update"]));
        }
        if is_scalable(ty) {
            let mut scale = entry(format!("{}/scale", ty.plural), &["get", "patch", "update"]);
            scale["kind"] = "Scale".into();
            scale["group"] = "autoscaling".into();
            scale["version"] = "v1".into();
            found.push(scale);
        }
    }
    if found.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}))
}

/// Whether the type has a `scale` subresource: by kind, so that a custom `Rollout` counts too.
pub fn is_scalable(ty: &ResourceType) -> bool {
    matches!(ty.kind.as_str(), "Deployment" | "ReplicaSet" | "StatefulSet" | "Rollout")
}

/// The `scale` subresource of `object`.
pub fn scale_of(object: &Value) -> Value {
    let mut terms: Vec<String> = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .map(|m| m.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect())
        .unwrap_or_default();
    for e in object["spec"]["selector"]["matchExpressions"].as_array().into_iter().flatten() {
        let key = e["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match e["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    let m = &object["metadata"];
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": m["name"], "namespace": m["namespace"], "uid": m["uid"],
                     "resourceVersion": m["resourceVersion"], "creationTimestamp": m["creationTimestamp"]},
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(1)},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": terms.join(",")},
    })
}
