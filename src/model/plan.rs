//! Steps from what is to what should be, and what is held back.

use std::fmt;

use super::{Group, GroupId, ListenerConfig, ObservedTarget, TargetId, Time};

/// Everything to do now, in order, and everything that is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// What is not done now, and why.
    pub holds: Vec<Hold>,
    /// When to plan again though nothing changed (a drain ends by time).
    pub wake_at: Option<Time>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a group, without targets.
    CreateGroup {
        /// Which.
        group: GroupId,
        /// Its configuration.
        config: Box<Group>,
    },
    /// Change a group's configuration.
    UpdateGroup {
        /// Which.
        group: GroupId,
        /// Its new configuration.
        config: Box<Group>,
    },
    /// Register a target.
    Register {
        /// Where.
        group: GroupId,
        /// Which.
        target: TargetId,
        /// As what: taking connections, or draining from the start.
        as_: ObservedTarget,
    },
    /// Let a target take no new connections.
    Drain {
        /// Where.
        group: GroupId,
        /// Which.
        target: TargetId,
        /// The Pod's name.
        pod: String,
        /// Since when.
        since: Time,
    },
    /// Let a draining target take new connections again.
    Undrain {
        /// Where.
        group: GroupId,
        /// Which.
        target: TargetId,
        /// The Pod's name.
        pod: String,
    },
    /// Remove a target.
    Deregister {
        /// Where.
        group: GroupId,
        /// Which.
        target: TargetId,
        /// The Pod's name.
        pod: String,
    },
    /// Make or change a listener; its groups exist.
    SetListener {
        /// What it should be.
        config: Box<ListenerConfig>,
    },
    /// Remove a listener.
    DeleteListener {
        /// Its name.
        listener: String,
    },
    /// Remove a group that no listener uses.
    DeleteGroup {
        /// Which.
        group: GroupId,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |t: &TargetId| std::net::SocketAddr::new(t.ip, t.port);
        match self {
            Self::CreateGroup { group, .. } => write!(f, "create group {group}"),
            Self::UpdateGroup { group, .. } => write!(f, "update group {group}"),
            Self::Register { group, target, as_ } if as_.draining_since.is_some() => {
                write!(f, "register {} ({}) in {group}, draining", as_.pod, at(target))
            }
            Self::Register { group, target, as_ } => write!(f, "register {} ({}) in {group}", as_.pod, at(target)),
            Self::Drain { group, target, pod, .. } => write!(f, "drain {pod} ({}) in {group}", at(target)),
            Self::Undrain { group, target, pod } => write!(f, "undrain {pod} ({}) in {group}", at(target)),
            Self::Deregister { group, target, pod } => write!(f, "deregister {pod} ({}) from {group}", at(target)),
            Self::SetListener { config } => {
                write!(f, "set listener {} ({} {})", config.name, config.protocol.as_str(), config.port)
            }
            Self::DeleteListener { listener } => write!(f, "delete listener {listener}"),
            Self::DeleteGroup { group } => write!(f, "delete group {group}"),
        }
    }
}

/// A step held back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// The group that is protected, or that is waited for.
    pub group: GroupId,
    /// The Pods whose removal is held back; for a listener's change: its name.
    pub what: Vec<String>,
}

/// Why a step is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    /// No other target of the group serves.
    LastServingTarget,
    /// All targets of the group vanished or went unready at once.
    MassRemoval,
    /// What a listener should send to instead does not serve yet.
    ReplacementNotServing,
}

impl HoldReason {
    /// As it stands in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LastServingTarget => "LastServingTarget",
            Self::MassRemoval => "MassRemoval",
            Self::ReplacementNotServing => "ReplacementNotServing",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hold {} in {}: {}", self.reason.as_str(), self.group, self.what.join(", "))
    }
}
