//! Which class an object uses, and whether it may.

use std::sync::Arc;

use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

use super::Cluster;
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, Reason},
    model::Problem,
};

/// The class of an object.
pub(super) struct Choice {
    pub(super) class: Option<Arc<DirectLoadBalancerClass>>,
    pub(super) name: Option<String>,
    pub(super) problem: Option<Problem>,
}

/// The class called `wanted`; without one the class in use (`in_use`: an object does not move when another class becomes
/// the default), else the oldest default.
pub(super) fn choose(cluster: &dyn Cluster, namespace: &str, wanted: Option<&str>, in_use: Option<&str>) -> Choice {
    let problem = |reason, message| Some(Problem { listener: None, reason, message });
    let class = match wanted {
        Some(name) => cluster.class(name),
        None => in_use.and_then(|name| cluster.class(name)).or_else(|| default(cluster)),
    };
    let Some(class) = class else {
        let mut all: Vec<String> = cluster.classes().iter().map(|c| c.name_any()).collect();
        all.sort();
        let all = if all.is_empty() { "there is none yet".into() } else { format!("there are {}", all.join(", ")) };
        let (reason, message) = match wanted {
            Some(name) => {
                (Reason::ClassNotFound, format!("spec.className: \"{name}\" is no DirectLoadBalancerClass: {all}"))
            }
            None => (
                Reason::NoDefaultClass,
                format!("spec.className: missing, and no DirectLoadBalancerClass is the default: name a class ({all})"),
            ),
        };
        return Choice { class: None, name: wanted.map(Into::into), problem: problem(reason, message) };
    };
    let name = class.name_any();
    let refused = (!admits(cluster, &class, namespace)).then(|| {
        let message =
            format!("spec.className: \"{name}\" does not admit namespace {namespace}: it admits {}", admitted(&class));
        Problem { listener: None, reason: Reason::NamespaceNotAllowed, message }
    });
    Choice { class: Some(class), name: Some(name), problem: refused }
}

/// The class that an object uses, or would use if it may; `None`: there is no such class.
///
/// The class in use goes before the one in the spec: `className` is immutable, so where they differ the change is
/// refused (see [`resolve`](super::resolve())).
#[must_use]
pub fn class_of(object: &DirectLoadBalancer, cluster: &dyn Cluster) -> Option<Arc<DirectLoadBalancerClass>> {
    let in_use = object.status.as_ref().and_then(|s| s.class_name.as_deref());
    let wanted = object.spec.class_name.as_deref();
    let namespace = object.namespace().unwrap_or_default();
    in_use.and_then(|name| cluster.class(name)).or_else(|| choose(cluster, &namespace, wanted, None).class)
}

fn default(cluster: &dyn Cluster) -> Option<Arc<DirectLoadBalancerClass>> {
    let age = |c: &DirectLoadBalancerClass| {
        let created = c.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (created.is_none(), created, c.name_any())
    };
    cluster.classes().into_iter().filter(|c| c.spec.default).min_by_key(|c| age(c))
}

fn admits(cluster: &dyn Cluster, class: &DirectLoadBalancerClass, namespace: &str) -> bool {
    let Some(allowed) = &class.spec.allowed_namespaces else { return true };
    if allowed.names.iter().any(|n| n == namespace) {
        return true;
    }
    // As everywhere in Kubernetes, an empty selector admits every namespace, and an invalid one admits none.
    let selector = allowed.selector.clone().and_then(|s| Selector::try_from(s).ok());
    selector.is_some_and(|s| cluster.namespace_labels(namespace).is_some_and(|labels| s.matches(&labels)))
}

fn admitted(class: &DirectLoadBalancerClass) -> String {
    let allowed = class.spec.allowed_namespaces.clone().unwrap_or_default();
    let mut parts = Vec::new();
    if !allowed.names.is_empty() {
        parts.push(format!("the namespaces {}", allowed.names.join(", ")));
    }
    if let Some(selector) = allowed.selector {
        let text = Selector::try_from(selector).map_or_else(|e| format!("(invalid: {e})"), |s| s.to_string());
        parts.push(format!("namespaces with the labels {text}"));
    }
    if parts.is_empty() { "none".into() } else { parts.join(" and ") }
}
