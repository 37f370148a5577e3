//! What the cloud allows at best.
//!
//! One looks first (a call), writes, and looks whether all is there (a call). With latency `L` (a call takes effect after
//! `L/2`), task time `T`, and `R` calls a second for each action:
//! - a load balancer takes one write at a time, so the last of its `w` writes has come to pass `L/2 + w T` after the first
//!   was sent, if each one arrives at the moment at which the one before has ended;
//! - of `W` writes of one action, the last is sent `(W - R) / R` after the first at the soonest, as a second may begin with
//!   `R` of them.
//!
//! `bound = L + max(L/2 + w T, (W - R) / R + L/2 + T) + L/2`.
//!
//! The fewest calls: each look, each write, and a poll for each write of a lane, as the next one may not be sent before.

use std::time::Duration;

const LATENCY: f64 = 0.1;
const TASK: f64 = 1.0;
const RATE: f64 = 20.0;

/// The least time for `all` writes, of which one load balancer has `longest`.
pub(crate) fn seconds(longest: usize, all: usize) -> f64 {
    if all == 0 {
        return LATENCY;
    }
    let (longest, all) = (longest as f64, all as f64);
    let lane = LATENCY / 2.0 + longest * TASK;
    let rate = ((all - RATE) / RATE).max(0.0) + LATENCY / 2.0 + TASK;
    LATENCY + lane.max(rate) + LATENCY / 2.0
}

/// The writes for so many bindings.
pub(crate) const fn batches(bindings: usize) -> usize {
    bindings.div_ceil(500)
}

/// Seconds of a duration.
pub(crate) fn exact(d: Duration) -> f64 {
    (d.as_secs_f64() * 1000.0).round() / 1000.0
}
