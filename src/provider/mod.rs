//! Providers: what carries the load balancers.
//!
//! A provider encodes, decodes, batches and classifies errors; it decides nothing. What differs between providers is told
//! to the planner by [`crate::model::Limits`].

pub mod envoy;
pub mod tencent;
