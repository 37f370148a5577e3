//! The embedded provider: a fleet of real Envoy proxies on the cluster's edge nodes.
//!
//! [`snapshot`] (pure) renders what is in force into Envoy's resources; [`xds`] serves them (delta ADS); [`reports`] takes
//! what the proxies say about each endpoint (metrics service); [`relay`] tells it to the other replicas; [`fleet`] holds
//! what is in force and ties these together.

pub mod drains;
pub mod fleet;
pub mod relay;
pub mod reports;
pub mod server;
pub mod snapshot;
pub mod xds;

pub use fleet::{EnvoyProvider, ExpectedProxy, LIMITS, REPORT_INTERVAL, Snapshot};
