//! What a cluster must have for its Pods to be reached, and what to do where it has not. Pure: the facts are handed in.
//!
//! The vendors' guides are lists of traps that users walk into by hand; each is a check here. A check that fails does not
//! take away what serves: it tells.

mod cce;
mod cluster;
mod pods;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, Service};
use serde::Serialize;

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its version: 1 and 36.
    pub version: (u32, u32),
    /// It serves MutatingAdmissionPolicies (`admissionregistration.k8s.io/v1`).
    pub policies: bool,
    /// Data of ConfigMap `kube-system/cce-cni-node-agent`, which every cluster of Baidu's CCE has; `None`: there is none.
    pub cce_network: Option<BTreeMap<String, String>>,
    /// Data of ConfigMap `kube-system/cce-ip-masq-agent`; `None`: there is none.
    pub masquerade: Option<BTreeMap<String, String>>,
    /// Every object of ours.
    pub objects: Vec<Object>,
    /// Every Service.
    pub services: Vec<Arc<Service>>,
    /// Classes of clouds, and what their APIs say to a question that changes nothing.
    pub clouds: Vec<(String, Result<(), String>)>,
}

/// An object of ours.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Its namespace and name.
    pub name: String,
    /// Its load balancer is in Tencent Cloud.
    pub tencent: bool,
    /// The ranges of its class' network; empty: not known.
    pub vpc_cidrs: Vec<String>,
    /// Its target Pods.
    pub pods: Vec<Arc<Pod>>,
    /// Its namespace, and the Services that are its targets.
    pub services: Vec<(String, String)>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is met.
    Ok,
    /// It works, with less than there could be.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check: a word that stays the same.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do about it; empty: nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, message: message.into(), remedy: String::new() }
    }
    fn warning(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, message: message.into(), remedy: remedy.into() }
    }
    fn failed(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failed, message: message.into(), remedy: remedy.into() }
    }
}

/// Every check that applies to the cluster.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut out = cluster::check(facts);
    out.extend(cce::check(facts));
    out.extend(pods::check(facts));
    out.extend(facts.clouds.iter().map(|(class, answer)| match answer {
        Ok(()) => Finding::ok("cloud-api", format!("class {class}: the API answers, and takes the credentials")),
        Err(why) => Finding::failed(
            "cloud-api",
            format!("class {class}: {why}"),
            "correct the class (endpoint, region, caBundle) or its Secret; what serves goes on meanwhile",
        ),
    }));
    out
}

/// The findings as a person reads them.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.check.len()).max().unwrap_or_default();
    let mut out = String::new();
    for f in findings {
        // Writing to a String never fails.
        _ = writeln!(out, "{:<7}  {:<width$}  {}", f.verdict.as_str(), f.check, f.message);
        if !f.remedy.is_empty() {
            _ = writeln!(out, "{:<7}  {:<width$}  to do: {}", "", "", f.remedy);
        }
    }
    out
}
