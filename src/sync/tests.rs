//! The engine under virtual time, against a small cloud that has the traits of the large ones: latency, tasks, one write
//! at a time for each load balancer, rates, and refusals.
// The cloud has a clock of its own, which is paused like all of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::*;
use crate::{model::Time, runtime::clock::Clock};

const LATENCY: Duration = Duration::from_millis(100);
const TASK: Duration = Duration::from_secs(1);

/// `Add(n)` and `Remove(n)` of a load balancer; `Get(lb)`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    Add(u32),
    Remove(u32),
}

impl Item for Op {
    fn action(&self) -> Action {
        match self {
            Self::Add(_) => "Add",
            Self::Remove(_) => "Remove",
        }
    }
    fn group(&self) -> String {
        String::new()
    }
    fn id(&self) -> String {
        let (Self::Add(n) | Self::Remove(n)) = self;
        n.to_string()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Get(String);

impl Query for Get {
    fn action(&self) -> Action {
        "Get"
    }
    fn group(&self) -> String {
        String::new()
    }
}

#[derive(Default)]
struct State {
    sets: BTreeMap<String, BTreeSet<u32>>,
    /// Until when a load balancer is at work.
    busy: HashMap<String, Instant>,
    tasks: HashMap<String, (Instant, bool)>,
    calls: Vec<(Action, usize)>,
    /// Items that are refused, and how many calls are throttled first.
    bad: BTreeSet<u32>,
    throttle: usize,
    /// Tasks that fail, by their number.
    fails: BTreeSet<usize>,
    lost: usize,
    collisions: usize,
}

#[derive(Clone, Default)]
struct Cloudlet(Arc<Mutex<State>>);

fn error(action: Action, kind: ErrorKind) -> CallError {
    CallError { kind, whole: false, action, code: kind.as_str().into(), message: "refused".into(), request_id: None }
}

impl Cloudlet {
    fn with(change: impl FnOnce(&mut State)) -> Self {
        let cloud = Self::default();
        change(&mut cloud.0.lock().unwrap());
        cloud
    }
    fn count(&self, action: Action) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|c| c.0 == action).count()
    }
    fn set(&self, lb: &str) -> BTreeSet<u32> {
        self.0.lock().unwrap().sets.get(lb).cloned().unwrap_or_default()
    }
}

impl Cloud for Cloudlet {
    type Item = Op;
    type Made = u32;
    type Query = Get;
    type Answer = BTreeSet<u32>;
    const TASKS: Action = "Tasks";

    async fn write(&self, lane: &str, items: &[Op]) -> Result<Written<u32>, CallError> {
        let action = items[0].action();
        tokio::time::sleep(LATENCY / 2).await;
        let result = {
            let mut s = self.0.lock().unwrap();
            s.calls.push((action, items.len()));
            let now = Instant::now();
            if s.throttle > 0 {
                s.throttle -= 1;
                Err(error(action, ErrorKind::Throttled))
            } else if s.busy.get(lane).is_some_and(|until| *until > now) {
                s.collisions += 1;
                Err(error(action, ErrorKind::Busy))
            } else if items.iter().any(|i| matches!(i, Op::Add(n) if s.bad.contains(n))) {
                Err(error(action, ErrorKind::Invalid))
            } else {
                let number = s.tasks.len();
                let fails = s.fails.contains(&number);
                let id = format!("task-{number}");
                s.busy.insert(lane.into(), now + TASK);
                s.tasks.insert(id.clone(), (now + TASK, !fails));
                let set = s.sets.entry(lane.into()).or_default();
                for item in items.iter().filter(|_| !fails) {
                    match item {
                        Op::Add(n) => _ = set.insert(*n),
                        Op::Remove(n) => _ = set.remove(n),
                    }
                }
                if s.lost > 0 {
                    s.lost -= 1;
                    Err(error(action, ErrorKind::Unavailable))
                } else {
                    let ids = items.iter().map(|i| i.id().parse().map_err(|_| error(action, ErrorKind::Invalid)));
                    Ok(Written { task: Some(id), items: ids.collect(), exact: false })
                }
            }
        };
        tokio::time::sleep(LATENCY / 2).await;
        result
    }

    async fn read(&self, queries: &[Get]) -> Result<Vec<Result<BTreeSet<u32>, CallError>>, CallError> {
        tokio::time::sleep(LATENCY).await;
        self.0.lock().unwrap().calls.push(("Get", queries.len()));
        Ok(queries.iter().map(|q| Ok(self.set(&q.0))).collect())
    }

    async fn tasks(&self, ids: &[String]) -> Result<Vec<TaskState>, CallError> {
        tokio::time::sleep(LATENCY / 2).await;
        let states = {
            let mut s = self.0.lock().unwrap();
            s.calls.push(("Tasks", ids.len()));
            let now = Instant::now();
            ids.iter()
                .map(|id| match s.tasks.get(id) {
                    None => TaskState::Unknown,
                    Some((until, _)) if *until > now => TaskState::Running,
                    Some((_, true)) => TaskState::Done,
                    Some((_, false)) => TaskState::Failed("it failed".into()),
                })
                .collect()
        };
        tokio::time::sleep(LATENCY / 2).await;
        Ok(states)
    }
}

fn limits() -> Limits {
    let of = |batch| ActionLimits { rate: 20.0, burst: 1.0, batch };
    Limits {
        actions: BTreeMap::from([("Add", of(500)), ("Remove", of(500)), ("Get", of(30)), ("Tasks", of(100))]),
        other: of(1),
        exclusive: true,
        in_flight: 64,
        tasks_per_poll: 100,
        call_timeout: Duration::from_secs(10),
        task_hint: TASK,
        task_timeout: Duration::from_secs(60),
        deadline: Duration::from_secs(120),
        queue: 50_000,
        linger: Duration::from_millis(5),
    }
}

fn engine(cloud: &Cloudlet) -> Engine<Cloudlet> {
    Engine::new(cloud.clone(), limits(), 1, clock(), Arc::new(()))
}

fn clock() -> Clock {
    Clock::starting_at(Time(0))
}

fn adds(range: std::ops::Range<u32>) -> Vec<Op> {
    range.map(Op::Add).collect()
}

#[tokio::test(start_paused = true)]
async fn many_items_go_in_full_batches_one_after_the_other() {
    let cloud = Cloudlet::default();
    let begun = Instant::now();
    let results = engine(&cloud).write("lb", adds(0..2000)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(cloud.set("lb").len(), 2000);
    assert_eq!(cloud.count("Add"), 4);
    assert!(cloud.count("Tasks") <= 6, "{} polls", cloud.count("Tasks"));
    // Each: the call, then its task until it is found done.
    assert!(begun.elapsed() <= 4 * (LATENCY + TASK + LATENCY) + LATENCY, "{:?}", begun.elapsed());
    assert_eq!(cloud.0.lock().unwrap().collisions, 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_sends_at_once_and_a_busy_one_collects() {
    let cloud = Cloudlet::default();
    let engine = engine(&cloud);
    let first = tokio::spawn({
        let engine = engine.clone();
        async move { engine.write("lb", adds(0..1)).await }
    });
    tokio::time::sleep(LATENCY).await;
    assert_eq!(cloud.count("Add"), 1, "the first one did not wait");
    let more: Vec<_> = (1..40)
        .map(|n| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.write("lb", adds(n..n + 1)).await })
        })
        .collect();
    for task in more {
        assert!(task.await.unwrap()[0].is_ok());
    }
    first.await.unwrap();
    assert_eq!(cloud.count("Add"), 2, "39 callers shared a call");
}

#[tokio::test(start_paused = true)]
async fn a_large_load_balancer_does_not_starve_small_ones() {
    let alone = {
        let cloud = Cloudlet::default();
        fifty(&engine(&cloud)).await
    };
    let cloud = Cloudlet::default();
    let engine = engine(&cloud);
    let huge = tokio::spawn({
        let engine = engine.clone();
        async move { engine.write("huge", adds(0..20_000)).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let beside = fifty(&engine).await;
    assert!(beside <= alone * 3, "{beside:?} beside the large one, {alone:?} alone");
    assert!(huge.await.unwrap().iter().all(Result::is_ok));
}

/// How long the slowest of fifty load balancers takes for ten items.
async fn fifty(engine: &Engine<Cloudlet>) -> Duration {
    let begun = Instant::now();
    let all: Vec<_> = (0..50)
        .map(|n| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.write(&format!("small-{n}"), adds(0..10)).await })
        })
        .collect();
    for task in all {
        assert!(task.await.unwrap().iter().all(Result::is_ok));
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn reads_are_merged_and_shared() {
    let cloud = Cloudlet::with(|s| _ = s.sets.insert("lb-7".into(), [7].into()));
    let engine = engine(&cloud);
    let all: Vec<_> = (0..200)
        .chain(0..200)
        .map(|n| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.read(Get(format!("lb-{n}"))).await })
        })
        .collect();
    for (n, task) in all.into_iter().enumerate() {
        assert_eq!(task.await.unwrap().unwrap().len(), usize::from(n % 200 == 7));
    }
    assert_eq!(cloud.count("Get"), 7, "200 load balancers, 30 to a call, each asked for twice");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_no_older_than_its_question() {
    let cloud = Cloudlet::default();
    let engine = engine(&cloud);
    let early = tokio::spawn({
        let engine = engine.clone();
        async move { engine.read(Get("lb".into())).await }
    });
    // The read is under way when the write has come to pass.
    tokio::time::sleep(Duration::from_millis(50)).await;
    cloud.0.lock().unwrap().sets.insert("lb".into(), [1].into());
    assert_eq!(engine.read(Get("lb".into())).await.unwrap().len(), 1);
    early.await.unwrap().unwrap();
    assert_eq!(cloud.count("Get"), 2);
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_is_found_held_back_and_tried_again_later() {
    let cloud = Cloudlet::with(|s| _ = s.bad.insert(137));
    let engine = engine(&cloud);
    let results = engine.write("lb", adds(0..500)).await;
    let failed: Vec<usize> = results.iter().enumerate().filter(|(_, r)| r.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [137]);
    assert_eq!(cloud.set("lb").len(), 499);
    assert!(cloud.count("Add") <= 20, "{} calls to find it", cloud.count("Add"));

    let calls = cloud.count("Add");
    let again = engine.write("lb", adds(137..138)).await;
    assert!(matches!(&again[0], Err(WriteError::Held { error, .. }) if error.kind == ErrorKind::Invalid));
    assert_eq!(cloud.count("Add"), calls, "no call was made for it");

    cloud.0.lock().unwrap().bad.clear();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(engine.write("lb", adds(137..138)).await[0].is_ok());
    assert_eq!(engine.load(), Load::default());
}

#[tokio::test(start_paused = true)]
async fn where_all_are_bad_the_search_ends() {
    let cloud = Cloudlet::with(|s| s.bad.extend(0..500));
    let results = engine(&cloud).write("lb", adds(0..500)).await;
    assert!(results.iter().all(|r| matches!(r, Err(WriteError::Call(_)))));
    assert!(cloud.count("Add") <= 65, "{}", cloud.count("Add"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_tried_again_in_halves() {
    let cloud = Cloudlet::with(|s| _ = s.fails.insert(0));
    let results = engine(&cloud).write("lb", adds(0..10)).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(cloud.count("Add"), 3);
    assert_eq!(cloud.set("lb").len(), 10);
}

#[tokio::test(start_paused = true)]
async fn throttled_calls_are_made_again_more_slowly() {
    let cloud = Cloudlet::with(|s| s.throttle = 5);
    let results = engine(&cloud).write("lb", adds(0..10)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(cloud.count("Add"), 6);
}

#[tokio::test(start_paused = true)]
async fn what_the_cloud_did_without_saying_so_is_left_to_the_caller() {
    let cloud = Cloudlet::with(|s| s.lost = 1);
    let engine = engine(&cloud);
    let results = engine.write("lb", adds(0..10)).await;
    assert!(results.iter().all(|r| r.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unavailable)));
    assert_eq!(cloud.count("Add"), 1);
    // The load balancer is still at work on what was lost.
    assert!(engine.write("lb", adds(10..11)).await[0].is_ok());
    assert_eq!(engine.load().refused, 0, "nobody is to blame");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_ends_is_given_up_and_the_lane_goes_on() {
    let cloud = Cloudlet::default();
    let engine = engine(&cloud);
    let stuck = tokio::spawn({
        let engine = engine.clone();
        async move { engine.write("lb", adds(0..1)).await }
    });
    tokio::time::sleep(LATENCY).await;
    {
        let mut s = cloud.0.lock().unwrap();
        let never = Instant::now() + Duration::from_secs(100_000);
        s.tasks.values_mut().for_each(|t| t.0 = never);
        s.busy.clear();
    }
    let begun = Instant::now();
    assert_eq!(stuck.await.unwrap()[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(begun.elapsed() < Duration::from_secs(75), "{:?}", begun.elapsed());
    assert!(engine.write("lb", adds(1..2)).await[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_withdraws_what_was_not_sent() {
    let cloud = Cloudlet::default();
    let engine = engine(&cloud);
    let gone = tokio::time::timeout(LATENCY, engine.write("lb", adds(0..1200))).await;
    assert!(gone.is_err());
    assert!(engine.write("lb", vec![Op::Remove(700)]).await[0].is_ok());
    assert_eq!(cloud.set("lb"), (0..500).collect(), "only the batch that was under way");
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_says_so() {
    let cloud = Cloudlet::default();
    let engine = Engine::new(cloud.clone(), Limits { queue: 10, ..limits() }, 1, clock(), Arc::new(()));
    let results = engine.write("lb", adds(0..12)).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 10);
    assert!(matches!(results[11], Err(WriteError::Full(_))));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_engine_ends_all_its_parts() {
    let cloud = Cloudlet::default();
    let engine = engine(&cloud);
    let task = tokio::spawn({
        let engine = engine.clone();
        async move { engine.write("lb", adds(0..2000)).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    task.abort();
    drop(engine);
    _ = task.await;
    let calls = cloud.count("Add");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cloud.count("Add"), calls);
}
