//! What was called.

use std::time::Duration;

use serde::Serialize;

use super::schema::{Params, Read};

/// A call that came with an action that there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// Since the emulator's start: when it took effect, or was refused.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Such as `BatchRegisterTargets`.
    pub action: String,
    /// The first that it names.
    pub load_balancer: Option<String>,
    /// How many targets, rules, listeners or load balancers it is about.
    pub items: usize,
    /// `OK`, `PartialFailure`, `ReplyLost` (it took effect), or an error's code.
    pub outcome: String,
}

impl Call {
    pub(super) fn new(at: Duration, action: &str, params: &Params, outcome: &str) -> Self {
        let one = params.has("LoadBalancerId").then(|| params.text("LoadBalancerId"));
        let first = one.or_else(|| params.texts("LoadBalancerIds").first().copied());
        let lists = ["Targets", "Rules", "Ports", "RewriteInfos", "ListenerIds", "LocationIds", "LoadBalancerIds"];
        let items = match params.objects("ModifyList").map(|m| m.list("Targets").len()).sum::<usize>() {
            0 => lists.iter().map(|name| params.list(name).len()).find(|n| *n > 0).unwrap_or(1),
            weights => weights,
        };
        Self {
            at,
            action: action.to_owned(),
            load_balancer: first.map(str::to_owned),
            items,
            outcome: outcome.to_owned(),
        }
    }
}

fn seconds<S: serde::Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(value.as_secs_f64())
}
