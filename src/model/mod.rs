//! What the pure stages exchange: [`Desired`], [`Observed`], [`Limits`] and [`Plan`].
//!
//! Plain data: no client, no clock, no runtime. A point in time is a [`Time`] that the caller hands in.

mod address;
mod desired;
mod ids;
mod observed;
mod plan;

pub use address::{AddressPool, PoolRange};
pub use desired::{
    AccessLog, Affinity, Certificate, Departed, Desired, DesiredTarget, Group, HealthCheck, HealthProbe,
    ListenerConfig, Problem, Redirect, RouteRule, RouteTable, TargetState, Tls, WeightedGroup,
};
pub use ids::{GroupId, ObjectKey, TargetId, short_hash};
pub use observed::{Health, Limits, Observed, ObservedGroup, ObservedTarget};
pub use plan::{Hold, HoldReason, Plan, Step};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Time passed since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
    /// This time and a duration more.
    #[must_use]
    pub fn plus(self, d: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}
