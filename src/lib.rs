//! DirectLB: a Kubernetes load-balancer controller whose backends are the Pods.
//!
//! Data flows one way: `resolve` (pure) makes [`model::Desired`] from a snapshot of the cluster, `observe` reads what a
//! provider has in force, [`plan`] (pure) makes the steps from one to the other, `apply` does them, and [`status`]
//! (pure) projects all of it into status, conditions, events and the Pods' gate conditions. See ARCHITECTURE.md.

pub mod api;
pub mod controller;
pub mod gate;
pub mod model;
pub mod plan;
pub mod prerequisites;
pub mod provider;
pub mod resolve;
pub mod runtime;
pub mod status;
pub mod sync;
