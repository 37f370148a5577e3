//! Whether a load balancer reaches the Pods that it should send to, and whether somebody else sends to them too.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;

use super::{Facts, Finding, Object};
use crate::resolve::{addresses_of, out_of_reach};

const NETWORK: &str = "pod-network";
const ROUTES: &str = "pod-routes";
const OTHERS: &str = "other-controllers";
/// Annotations by which other controllers know that a Service's Pods are the load balancer's backends.
const CLAIMS: [(&str, &str, &str); 2] = [
    ("service.cloud.tencent.com/direct-access", "true", "TKE's service controller"),
    ("service.beta.kubernetes.io/cce-load-balancer-backend-type", "eni", "CCE's cce-lb-controller"),
];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut out = Vec::new();
    for object in facts.objects.iter().filter(|o| o.tencent) {
        out.push(network(object));
        out.extend(routes(object));
    }
    for object in &facts.objects {
        out.extend(others(object, facts));
    }
    out
}

fn network(object: &Object) -> Finding {
    let name = &object.name;
    let away: Vec<String> = object.pods.iter().filter_map(|p| out_of_reach(p)).collect();
    let host = |p: &Pod| p.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false);
    let on_nodes: Vec<String> = object.pods.iter().filter(|p| host(p)).map(|p| p.name_any()).collect();
    match (away.first(), on_nodes.first()) {
        (Some(first), _) => Finding::failed(
            NETWORK,
            format!("{name}: {} of {} Pods may be out of reach: {first}", away.len(), object.pods.len()),
            "annotate the Pod template with tke.cloud.tencent.com/networks: tke-route-eni, and let the Pods be replaced; or, \
             for routed container networks, have direct access to them switched on for the account (it goes through CCN)",
        ),
        (None, Some(first)) => Finding::warning(
            NETWORK,
            format!(
                "{name}: {} of {} Pods are on their node's network, such as {first}",
                on_nodes.len(),
                object.pods.len()
            ),
            "direct access needs Pods with addresses of their own: take hostNetwork out of the Pod template",
        ),
        (None, None) => Finding::ok(NETWORK, format!("{name}: nothing is known against {} Pods", object.pods.len())),
    }
}

fn routes(object: &Object) -> Option<Finding> {
    let ranges: Vec<IpNet> = object.vpc_cidrs.iter().filter_map(|c| c.parse().ok()).collect();
    if ranges.is_empty() {
        return None;
    }
    let name = &object.name;
    let routed = |ip: &IpAddr| ranges.iter().any(|r| r.contains(ip));
    let away: Vec<String> = object
        .pods
        .iter()
        .filter_map(|p| Some((p, *addresses_of(p, true).first()?)))
        .filter(|(_, ip)| !routed(ip))
        .map(|(p, ip)| format!("{} at {ip}", p.name_any()))
        .collect();
    let all = object.vpc_cidrs.join(", ");
    Some(match away.first() {
        None => Finding::ok(ROUTES, format!("{name}: every Pod's address is in {all}")),
        Some(first) => Finding::failed(
            ROUTES,
            format!("{name}: the addresses of {} Pods are in none of {all}, such as {first}", away.len()),
            "give the Pods addresses of the VPC, or name the range in the class' tencent.vpcCidrs if the load balancer's \
             network has a route to it",
        ),
    })
}

fn others(object: &Object, facts: &Facts) -> Option<Finding> {
    let target = |s: &Service| object.services.contains(&(s.namespace().unwrap_or_default(), s.name_any()));
    let balanced = |s: &Service| s.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
    let mut theirs = facts.services.iter().filter(|s| target(s) && balanced(s));
    let (service, controller) = theirs.find_map(|s| {
        let by = CLAIMS.iter().find(|(key, value, _)| s.annotations().get(*key).is_some_and(|v| v == value));
        Some((s.name_any(), by?.2))
    })?;
    Some(Finding::warning(
        OTHERS,
        format!("{}: {controller} has a load balancer for Service {service}, which is its target, too", object.name),
        format!(
            "both send to the same Pods; to leave it to one, take the annotation off Service {service}, or make it a ClusterIP"
        ),
    ))
}
