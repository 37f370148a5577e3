//! Random work under seeded faults: safety at each step, liveness once the faults stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    apiserver::{Faults, Rng},
    kubelet::condition,
    proxies::View,
    world::{GATE, World, seconds},
};

/// What the steps before have shown.
#[derive(Default)]
struct Seen {
    /// By proxy and Pod: the step since which a gate is open that the proxy does not have healthy.
    sick_since: BTreeMap<String, u64>,
    /// The proxies, a step ago.
    views: BTreeMap<String, View>,
}

/// Runs one seed: random work under faults, with safety asserted at each step and liveness once the faults stop.
async fn run_seed(seed: u64) {
    if std::env::var_os("SIM_TRACE").is_some() {
        let _ = tracing_subscriber::fmt().with_ansi(false).without_time().with_test_writer().try_init();
    }
    let mut rng = Rng::new(seed);
    let mut w = World::serving(seed).await;
    w.api.set_faults(Faults::rough(seed));
    let mut seen = Seen::default();
    for step in 0..240u64 {
        sleep(Duration::from_millis(500)).await;
        if step % 20 == 5 {
            match rng.below(6) {
                0 => w.workloads.scale("web", usize::try_from(1 + rng.below(5)).unwrap()),
                1 => w.workloads.roll("web", |t| t["spec"]["containers"][0]["image"] = format!("app:{step}").into()),
                2 => {
                    for pod in w.workloads.pods("web") {
                        w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), false);
                    }
                }
                3 => {
                    // The other one leads from now on.
                    let was = *w.running[0].leading.borrow();
                    w.running[0].leading.send_replace(!was);
                    w.running[1].leading.send_replace(was);
                }
                4 => {
                    let dead = usize::try_from(rng.below(2)).unwrap();
                    let led = *w.running[dead].leading.borrow();
                    w.kill(dead);
                    if led {
                        w.running[0].leading.send_replace(true);
                    }
                    w.replica(false);
                }
                _ => w.api.cut_watches(),
            }
        }
        if step % 20 == 15 {
            for pod in w.workloads.pods("web") {
                w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), true);
            }
        }
        safety(&w, seed, step, &mut seen);
    }
    w.api.heal();
    for pod in w.workloads.pods("web") {
        w.workloads.set_containers_ready(pod["metadata"]["name"].as_str().unwrap(), true);
    }
    w.workloads.scale("web", 3);
    // A watch that stalled is given up after five minutes: kube's idle timeout.
    seconds(700).await;
    assert_eq!(w.ready(), 3, "seed {seed}: not everything became ready once the faults stopped: {}", w.status());
    for (name, view) in w.proxies.views() {
        let serving = view.endpoints.iter().filter(|e| !e.draining).count();
        assert_eq!(serving, 3, "seed {seed}: {name} has {:?}", view.endpoints);
    }
}

fn safety(w: &World, seed: u64, step: u64, seen: &mut Seen) {
    let pods = w.workloads.pods("web");
    let views = w.proxies.views();
    let alive: BTreeMap<&str, &Arc<_>> =
        pods.iter().filter_map(|p| Some((p["metadata"]["uid"].as_str()?, p))).collect();
    for (name, view) in &views {
        // No gate is open for a Pod that a proxy does not have healthy. (Nothing here makes a healthy Pod sick, so there is
        // no time to settle.)
        for (uid, pod) in &alive {
            if !pod["metadata"]["deletionTimestamp"].is_null() || !condition(pod, GATE) {
                continue;
            }
            let healthy = view.healthy.iter().any(|((_, u), ok)| u == uid && *ok);
            let key = format!("{name}/{uid}");
            if healthy {
                seen.sick_since.remove(&key);
            } else {
                // A proxy that has just moved to another replica may be behind for a moment.
                let since = *seen.sick_since.entry(key).or_insert(step);
                assert!(step - since < 20, "seed {seed}, step {step}: a gate is open that {name} never had healthy");
            }
        }
        // As long as one of the Pods that took traffic a step ago is there, some Pod takes traffic. (When all of them were
        // deleted within a step, nothing can help.)
        let of = |v: &View| -> BTreeSet<String> {
            let serving = v.endpoints.iter().filter(|e| !e.draining && alive.contains_key(e.uid.as_str()));
            serving.map(|e| e.uid.clone()).collect()
        };
        let mut had = seen.views.get(name).map(of).unwrap_or_default();
        if seen.views.get(name).is_some_and(|v| v.served_by != view.served_by) {
            // A replica that has just started knows the Pods that are ready, and by their gates those that were.
            had.retain(|uid| {
                alive.get(uid.as_str()).is_some_and(|p| condition(p, "ContainersReady") || condition(p, GATE))
            });
        }
        let has = of(view);
        assert!(
            !has.is_empty() || had.is_empty(),
            "seed {seed}, step {step}: {name} had {had:?} serving and now none: {:?}",
            view.endpoints
        );
    }
    seen.views = views;
}

/// `SIM_SEEDS` seeds from `SIM_FIRST` on, over as many threads as there are cores. `SIM_TRACE=1` shows what the
/// controller logs.
#[test]
fn seeded_faults() {
    let env = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, count) = (env("SIM_FIRST", 1), env("SIM_SEEDS", 100));
    let next = Arc::new(Mutex::new(first));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let next = next.clone();
            std::thread::spawn(move || {
                loop {
                    let seed = {
                        let mut next = next.lock().unwrap();
                        let seed = *next;
                        *next += 1;
                        seed
                    };
                    if seed >= first + count {
                        return;
                    }
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
                    runtime.block_on(run_seed(seed));
                }
            })
        })
        .collect();
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
