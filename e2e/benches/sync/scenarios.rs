//! What is measured. Making the load balancers, listeners and rules is not, except where it says so.

use std::time::Duration;

use directlb::provider::tencent::{Binding, Write};
use e2e::tencent::{Faults, Settings};
use futures::future::join_all;

use crate::{
    bound,
    control::{self, Listen, Object},
    report::Row,
    world::{Calls, Strategy, World, bindings, measured},
};

fn row(
    scenario: &'static str,
    (backends, rules): (usize, usize),
    strategy: Strategy,
    (took, calls): (Duration, Calls),
    (bound_seconds, least_calls): (f64, usize),
) -> Row {
    Row {
        scenario,
        backends,
        rules,
        strategy: strategy.as_str(),
        seconds: bound::exact(took),
        calls: calls.all,
        writes: calls.writes,
        bound_seconds: (bound_seconds * 1000.0).round() / 1000.0,
        least_calls,
        ratio_to_alone: None,
        cpu_seconds: None,
        peak_rss_mib: None,
    }
}

/// A cell of TKE's grid: so many backends are registered in each of so many rules of one load balancer.
pub(crate) async fn grid(strategy: Strategy, backends: usize, rules: usize) -> Row {
    let world = World::new(strategy);
    let lb = world.load_balancer("grid").await;
    let wanted = bindings(&world.rules(&lb, rules).await, backends);
    let measured = measured(&world, world.converge(&lb, &wanted)).await;
    let w = bound::batches(wanted.len());
    row("grid", (backends, rules), strategy, measured, (bound::seconds(w, w), 2 + 2 * w))
}

/// 400 rules of one load balancer, from nothing: listeners, rules, and a backend in each.
pub(crate) async fn first_rollout(strategy: Strategy) -> Row {
    let world = World::new(strategy);
    let lb = world.load_balancer("first").await;
    let work = async {
        let wanted = bindings(&world.rules(&lb, 400).await, 1);
        world.converge(&lb, &wanted).await;
    };
    let measured = measured(&world, work).await;
    // One call for the listeners, one for the rules of each, one for the targets.
    let w = 1 + 8 + 1;
    row("first-rollout", (1, 400), strategy, measured, (bound::seconds(w, 1), 2 + 2 * w))
}

/// 20,000 bindings on one load balancer.
pub(crate) async fn scale_out(strategy: Strategy) -> Row {
    let world = World::new(strategy);
    let lb = world.load_balancer("scale-out").await;
    let wanted = bindings(&world.rules(&lb, 100).await, 200);
    let measured = measured(&world, world.converge(&lb, &wanted)).await;
    let w = bound::batches(wanted.len());
    row("scale-out", (200, 100), strategy, measured, (bound::seconds(w, w), 2 + 2 * w))
}

async fn many(world: &World, count: usize, targets: usize) -> Vec<(String, Vec<Binding>)> {
    let mut all = Vec::new();
    for n in 0..count {
        let lb = world.load_balancer(&format!("many-{n}")).await;
        let place = world.tcp(&lb).await;
        all.push((lb, bindings(&[place], targets)));
    }
    all
}

async fn converge_all(world: &World, all: &[(String, Vec<Binding>)]) {
    join_all(all.iter().map(|(lb, wanted)| world.converge(lb, wanted))).await;
}

/// 200 load balancers with 50 targets each, all at once; then a controller that starts, and finds nothing to do.
pub(crate) async fn many_and_cold_start() -> Vec<Row> {
    let strategy = Strategy::Engine;
    let world = World::new(strategy);
    let all = many(&world, 200, 50).await;
    let at_once = measured(&world, converge_all(&world, &all)).await;
    // 7 looks of 30 load balancers before and after; 200 writes, of whose tasks 100 go in a poll.
    let least = 7 + 200 + 2 + 7;
    let mut rows = vec![row("200-load-balancers", (50, 1), strategy, at_once, (bound::seconds(1, 200), least))];

    let restarted = world.restarted(strategy);
    let cpu = crate::usage::cpu();
    let cold = measured(&restarted, async {
        let missing = join_all(all.iter().map(|(lb, wanted)| restarted.missing(lb, wanted))).await;
        assert!(missing.iter().all(Vec::is_empty), "a restart finds everything in place");
    })
    .await;
    let cpu = crate::usage::cpu() - cpu;
    let bound = 6.0_f64.mul_add(1.0 / 20.0, 0.1);
    let mut cold = row("cold-start", (50, 1), strategy, cold, (bound, 7));
    cold.cpu_seconds = Some((cpu * 1000.0).round() / 1000.0);
    cold.peak_rss_mib = crate::usage::peak_rss_mib();
    rows.push(cold);
    rows
}

/// The same with the controller's workers and planner on top: until each load balancer was looked at, by which what is in
/// force is known.
pub(crate) async fn cold_start_of_workers() -> Row {
    const BALANCERS: usize = 200;
    let mut world = control::World::new(Settings { rate: 1000, ..Settings::default() });
    world.cloud.set_quota("TOTAL_INTERNAL_CLB_QUOTA", 1000);
    world.rate = Some(1000);
    let pods: Vec<u8> = (1..=50).collect();
    let names: Vec<&'static str> = (0..BALANCERS).map(|n| &*format!("lb-{n}").leak()).collect();
    names.iter().for_each(|name| world.put(Object::new(name, vec![Listen::tcp("tcp", 443, &pods)])));
    world.reconcile();
    while world.open.len() < BALANCERS * 50 {
        world.reconcile_changed();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.cloud.clear_ledger();
    world.rate = None;
    #[allow(clippy::disallowed_methods)] // The paused clock.
    let begun = tokio::time::Instant::now();
    let cpu = crate::usage::cpu();
    world.restart(None);
    world.reconcile();
    while !names.iter().all(|name| world.report(name).looked) {
        world.reconcile_changed();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.reconcile_changed();
    let (cpu, took) = (crate::usage::cpu() - cpu, begun.elapsed());
    let calls = world.cloud.ledger();
    let writes = calls.iter().filter(|c| !c.action.starts_with("Describe")).count();
    let calls = Calls { all: calls.len(), writes };
    // Quotas; 20 load balancers in a call; listeners and targets of one; health of 30, each second until all are known.
    let least = 1 + BALANCERS / 20 + 2 * BALANCERS + 7;
    let bound = ((BALANCERS - 1) as f64).mul_add(1.0 / 20.0, 0.3);
    let mut row = row("cold-start-workers", (50, 1), Strategy::Engine, (took, calls), (bound, least));
    row.cpu_seconds = Some((cpu * 1000.0).round() / 1000.0);
    row.peak_rss_mib = crate::usage::peak_rss_mib();
    row
}

/// 50 load balancers with 10 new targets each: alone, and beside one that has 20,000 bindings to register.
pub(crate) async fn fairness() -> Vec<Row> {
    let strategy = Strategy::Engine;
    let bound = (bound::seconds(1, 50), 2 + 50 + 1 + 2);
    let small = async |world: &World, all: &[(String, Vec<Binding>)]| {
        let begun = world.age();
        let mut took: Vec<Duration> = join_all(all.iter().map(async |(lb, wanted)| {
            world.converge(lb, wanted).await;
            world.age() - begun
        }))
        .await;
        took.sort();
        // Of 50, the slowest is the 99th percentile.
        took.last().copied().unwrap_or_default()
    };
    let alone = {
        let world = World::new(strategy);
        let all = many(&world, 50, 10).await;
        let before = world.calls();
        let took = small(&world, &all).await;
        (took, since(&world, before))
    };
    let world = World::new(strategy);
    let all = many(&world, 50, 10).await;
    let huge = world.load_balancer("huge").await;
    let wanted = bindings(&world.rules(&huge, 100).await, 200);
    let before = world.calls();
    let ((), beside) = tokio::join!(world.converge(&huge, &wanted), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        small(&world, &all).await
    });
    let mut rows = vec![
        row("50-small-alone-p99", (10, 1), strategy, alone, bound),
        row("50-small-beside-20000-p99", (10, 1), strategy, (beside, since(&world, before)), bound),
    ];
    rows[1].ratio_to_alone = Some((beside.as_secs_f64() / alone.0.as_secs_f64() * 100.0).round() / 100.0);
    rows
}

fn since(world: &World, before: Calls) -> Calls {
    let after = world.calls();
    Calls { all: after.all - before.all, writes: after.writes - before.writes }
}

/// Rounds of the storm's work. At 20 writes a second, 50 load balancers take 2.5 s for each.
const ROUNDS: usize = 100;

/// 50 load balancers whose targets' weights change a hundred times, while for five minutes three calls in ten are refused
/// as too many.
pub(crate) async fn throttle_storm() -> Vec<Row> {
    let strategy = Strategy::Engine;
    let writes = 50 * ROUNDS;
    let bound = (bound::seconds(ROUNDS, writes), writes + 2 * ROUNDS + ROUNDS);
    let mut rows = Vec::new();
    for (name, throttle) in [("calm", 0.0), ("throttle-storm", 0.3)] {
        let world = World::new(strategy);
        let all = many(&world, 50, 10).await;
        converge_all(&world, &all).await;
        let until = Some(world.age() + Duration::from_secs(300));
        world.emulator.set_faults(Faults { throttle, until, ..Faults::default() });
        let work = join_all(all.iter().map(async |(lb, bindings)| {
            for round in 0..ROUNDS {
                let weight = if round % 2 == 0 { 50 } else { 100 };
                world
                    .write(lb, bindings.iter().cloned().map(|binding| Write::Weight { binding, weight }).collect())
                    .await;
                assert!(world.missing(lb, bindings).await.is_empty());
            }
        }));
        let measured = measured(&world, async { _ = work.await }).await;
        rows.push(row(name, (10, 1), strategy, measured, bound));
    }
    rows
}
