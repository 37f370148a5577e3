//! The sync engine: many load balancers over one slow, asynchronous, rate-limited API.
//!
//! One engine for each cloud account. It knows no cloud: a provider implements [`Cloud`], and says in [`Limits`] what its
//! API takes.
//! - **Reads** are merged across load balancers, and shared by all who wait for them (`reads`).
//! - **Writes** go through one lane for each load balancer: sent at once if the lane is idle, collected while a write is
//!   under way, up to what a call takes (`lanes`, `batch`).
//! - **Tasks** of all lanes are polled together, when they are likely to be done (`tasks`, `estimate`).
//! - **Rates**: a token bucket for each action, which slows down when the cloud throttles; first come, first served, and a
//!   lane has one call under way, so that a large load balancer cannot starve the small ones (`pacer`, `bucket`).
//! - **Partial failures** are isolated: a refused batch is halved until it is known which item is refused; that item waits
//!   in quarantine, the rest goes on (`lanes`, `quarantine`).
//!
//! Nothing here is kept over a restart: callers look at what is, and ask for what is missing.

mod batch;
mod bucket;
mod cloud;
mod engine;
mod error;
mod estimate;
mod lanes;
mod limits;
mod pacer;
mod quarantine;
mod random;
mod reads;
mod tasks;
#[cfg(test)]
mod tests;

pub use bucket::Bucket;
pub use cloud::{Cloud, Item, Query, TaskState, Written};
pub use engine::{Engine, Load};
pub use error::{CallError, ErrorKind};
pub use estimate::Estimate;
pub use lanes::{Outcome, WriteError};
pub use limits::{Action, ActionLimits, Limits};
pub use pacer::Observer;
pub use quarantine::Quarantine;
pub use random::Jitter;
