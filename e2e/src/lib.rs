//! The harness of the end-to-end tests: the lab (or a cluster of the user's), one namespace for each test, traffic from the
//! client's network, and waiting.
//!
//! [`tencent`] is apart: an emulator of a cloud, which needs no cluster.
//!
//! Tests talk to the cluster as users do, through `kubectl`. They do nothing unless `DIRECTLB_E2E=1`: `make test-e2e` sets it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test that cannot go on stops.

pub mod chart;
pub mod clb;
pub mod client;
pub mod cluster;
pub mod namespace;
pub mod tencent;
pub mod yaml;

use std::time::{Duration, Instant};

pub use client::Report;
pub use cluster::{Cluster, cluster};
pub use namespace::Namespace;

/// The controller's namespace.
pub const SYSTEM: &str = "directlb-system";

/// Ends the test at once unless the end-to-end tests are wanted.
#[macro_export]
macro_rules! need_cluster {
    () => {
        if std::env::var_os("DIRECTLB_E2E").is_none() {
            eprintln!("skipped: DIRECTLB_E2E is not set; `make test-e2e` runs this");
            return;
        }
    };
}

/// Asks until the answer is there; else panics with what was seen last.
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    #[allow(clippy::disallowed_methods)] // Tests of the real thing run on real time.
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) if begun.elapsed() > within => panic!("{what}: not within {within:?}; last seen: {seen}"),
            Err(_) => pause(Duration::from_millis(200)),
        }
    }
}

/// Sleeps.
pub fn pause(d: Duration) {
    #[allow(clippy::disallowed_methods)] // See above.
    std::thread::sleep(d);
}

/// Seconds.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
