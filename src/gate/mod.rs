//! Readiness gates: put into Pods at their creation, and flipped afterwards (KEP-580).

pub mod configuration;
pub mod flip;
pub mod inject;
pub mod policy;
pub mod webhook;
