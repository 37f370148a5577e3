//! What the Kubernetes version brings.

use super::{Facts, Finding};

/// Readiness gates are there from this minor version of 1 on (KEP-580).
const GATES: u32 = 12;
/// A container may sleep before it is told to stop, without a shell (KEP-3960, on by default).
const SLEEP: u32 = 30;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let (major, minor) = facts.version;
    let at_least = |wanted: u32| (major, minor) >= (1, wanted);
    let is = format!("Kubernetes {major}.{minor}");
    let gates = if at_least(GATES) {
        Finding::ok("readiness-gates", format!("{is}: Pods may wait for the load balancer"))
    } else {
        Finding::failed(
            "readiness-gates",
            format!("{is} has no readiness gates: Pods count as ready before the load balancer has them"),
            format!("bring the cluster to 1.{GATES} or later"),
        )
    };
    let sleep = if at_least(SLEEP) {
        Finding::ok("native-sleep", format!("{is}: containers may sleep while they drain"))
    } else {
        Finding::warning(
            "native-sleep",
            format!("{is} has no native sleep: containers are told to stop as soon as their Pod is deleted"),
            format!(
                "give containers a preStop hook that lasts as long as the drain, or bring the cluster to 1.{SLEEP} or later"
            ),
        )
    };
    let injection = if facts.policies {
        Finding::ok("injection", "MutatingAdmissionPolicy is served: the API server itself puts gates into Pods")
    } else {
        Finding::warning(
            "injection",
            "MutatingAdmissionPolicy is not served: a webhook puts gates into Pods, and Pods that are made while no \
             controller runs get none",
            "run two controllers or more, or bring the cluster to a version that serves admissionregistration.k8s.io/v1 \
             mutatingadmissionpolicies (1.36)",
        )
    };
    vec![gates, sleep, injection]
}
