//! What CLB's API takes.

use std::{collections::BTreeMap, time::Duration};

use crate::sync::{Action, ActionLimits, Limits};

/// Requests per second for each action, from the API's documents.
const RATE: f64 = 20.0;

/// The batch of each action that takes more than one item, from the API's documents.
const BATCHES: &[(Action, usize)] = &[
    ("DescribeLoadBalancers", 20),
    ("DescribeTargets", 20),
    ("DescribeTargetHealth", 30),
    ("DescribeAsyncJobs", 100),
    // "Fewer than 50".
    ("CreateListener", 49),
    ("DeleteLoadBalancerListeners", 20),
    ("CreateRule", 50),
    ("DeleteRule", 50),
    // Not documented: as many as rules.
    ("ManualRewrite", 50),
    ("DeleteRewrite", 50),
    ("BatchRegisterTargets", 500),
    ("BatchDeregisterTargets", 500),
    ("BatchModifyTargetWeight", 500),
];

/// What CLB's API takes.
#[must_use]
pub fn limits() -> Limits {
    let of = |batch| ActionLimits { rate: RATE, burst: 1.0, batch };
    let actions: BTreeMap<Action, ActionLimits> = BATCHES.iter().map(|(action, batch)| (*action, of(*batch))).collect();
    Limits {
        actions,
        other: of(1),
        exclusive: true,
        in_flight: 64,
        tasks_per_poll: 100,
        call_timeout: Duration::from_secs(10),
        // Not documented; learned from the tasks seen.
        task_hint: Duration::from_secs(1),
        task_timeout: Duration::from_secs(120),
        deadline: Duration::from_secs(300),
        queue: 50_000,
        linger: Duration::from_millis(5),
    }
}
