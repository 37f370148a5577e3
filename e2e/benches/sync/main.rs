//! How long the sync engine takes for the grid of TKE's report and for other cases, beside simpler strategies and beside
//! what the cloud allows at best. Under virtual time, so the figures are exact, and the same on every machine.
//!
//! `make bench-sync`; writes `target/reports/sync.json` and `docs/sync.svg`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

mod bound;
#[path = "../../tests/tencent/control.rs"]
#[allow(dead_code)] // Tests use the rest.
mod control;
#[path = "../../tests/tencent/in_process.rs"]
mod in_process;
mod report;
mod scenarios;
mod usage;
mod world;

use std::path::Path;

use report::Row;
use world::Strategy;

// What `control` goes by.
const ID: &str = "AKIDemulator";
const KEY: &str = "emulator-secret";
const HOST: &str = "clb.tencentcloudapi.com";

/// Runs a scenario in a runtime of its own, whose clock goes only when there is nothing to do.
fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(scenario)
}

fn main() {
    // `cargo test --all-targets` runs benchmarks too, and only wants to know whether they work.
    let quick = !std::env::args().any(|a| a == "--bench");
    let mut rows: Vec<Row> = Vec::new();
    let grid: Vec<(usize, usize)> = if quick {
        vec![(1, 10)]
    } else {
        [10, 20, 30, 40, 50].map(|b| (b, 200)).into_iter().chain([100, 300, 400].map(|r| (50, r))).collect()
    };
    for (backends, rules) in grid {
        for strategy in [Strategy::Naive, Strategy::Batched, Strategy::Engine] {
            eprintln!("==> {rules} rules, {backends} backends, {}", strategy.as_str());
            rows.push(run(scenarios::grid(strategy, backends, rules)));
        }
    }
    if !quick {
        for strategy in [Strategy::Naive, Strategy::Batched, Strategy::Engine] {
            eprintln!("==> first rollout, {}", strategy.as_str());
            rows.push(run(scenarios::first_rollout(strategy)));
        }
        eprintln!("==> scale-out, many load balancers, cold start, fairness, throttle storm");
        for strategy in [Strategy::Batched, Strategy::Engine] {
            rows.push(run(scenarios::scale_out(strategy)));
        }
        rows.extend(run(scenarios::many_and_cold_start()));
        rows.push(run(scenarios::cold_start_of_workers()));
        rows.extend(run(scenarios::fairness()));
        rows.extend(run(scenarios::throttle_storm()));
    }
    println!("{}", report::table(&rows));
    if !quick {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        report::write(&rows, &root.join("target/reports/sync.json"), &root.join("docs/sync.svg")).unwrap();
        println!("written to target/reports/sync.json and docs/sync.svg");
    }
}
