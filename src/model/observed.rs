//! What the load balancer is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Group, GroupId, ListenerConfig, TargetId, Time};

/// What is in force for one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Listeners in force, by name.
    pub listeners: BTreeMap<String, ListenerConfig>,
    /// Groups in force.
    pub groups: BTreeMap<GroupId, ObservedGroup>,
}

/// A group in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedGroup {
    /// Its configuration (without targets).
    pub config: Group,
    /// Its targets.
    pub targets: BTreeMap<TargetId, ObservedTarget>,
}

/// A registered target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedTarget {
    /// The Pod's name.
    pub pod: String,
    /// Since when it takes no new connections; `None`: it takes them (weight above 0).
    pub draining_since: Option<Time>,
    /// A health-check port of its own.
    pub health_port: Option<u16>,
    /// What the proxies or the cloud say about it.
    pub health: Health,
    /// At least one proxy has it healthy and sends there, whatever the others say.
    pub answering: bool,
    /// Since when every proxy has it healthy; `None`: not every one has.
    pub healthy_since: Option<Time>,
    /// Open connections and requests in progress, over all proxies; `None`: not reported.
    pub active: Option<u64>,
}

/// What the proxies or the cloud say about a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody has said anything yet.
    #[default]
    Unknown,
    /// Healthy everywhere.
    Healthy,
    /// Not (yet) healthy on these proxies.
    Unhealthy {
        /// Their names; for a cloud the load balancer's id.
        on: BTreeSet<String>,
    },
    /// Some proxies have not confirmed it yet; none says it is unhealthy.
    Pending {
        /// Their names.
        on: BTreeSet<String>,
    },
}

/// What a provider can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It says how many connections a draining target still has.
    pub reports_active: bool,
    /// Time between reports: how long a drain must have lasted before "no connections" is believed.
    pub report_interval: std::time::Duration,
    /// It checks the targets of a rule before the listener has that rule. Where it does not, a new rule cannot wait until
    /// its targets serve.
    pub checks_unrouted: bool,
}
