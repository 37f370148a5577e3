//! Table and property tests; the golden plans are in `tests/golden`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use proptest::prelude::*;

use super::{apply, plan};
use crate::{
    api::{Protocol, Scheduler, TargetProtocol},
    model::{
        AccessLog, Departed, Desired, DesiredTarget, Group, GroupId, Health, HealthCheck, HealthProbe, HoldReason,
        Limits, ListenerConfig, ObjectKey, Observed, Redirect, RouteTable, Step, TargetId, TargetState, Time,
        WeightedGroup,
    },
};

const LIMITS: Limits = Limits { reports_active: true, report_interval: Duration::from_secs(1), checks_unrouted: true };
const NOW: Time = Time(1_000_000);

fn group_id(name: &str) -> GroupId {
    GroupId { listener: "http".into(), rule: None, target: format!("deployment.{name}") }
}

fn target_id(n: u8) -> TargetId {
    TargetId { uid: format!("uid-{n}"), ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)), port: 80 }
}

fn target(n: u8, state: TargetState) -> (TargetId, DesiredTarget) {
    let t = DesiredTarget { pod: format!("web-{n}"), node: "n".into(), state, gate_open: false, health_port: None };
    (target_id(n), t)
}

fn group(targets: impl IntoIterator<Item = (TargetId, DesiredTarget)>) -> Group {
    Group {
        protocol: Protocol::HTTP,
        target_protocol: TargetProtocol::HTTP1,
        scheduler: Scheduler::RoundRobin,
        affinity: None,
        health_check: HealthCheck {
            probe: HealthProbe::Tcp,
            port: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
        },
        slow_start: None,
        proxy_protocol: None,
        targets: targets.into_iter().collect(),
        replicas: Some(3),
    }
}

fn listener(groups: &[(&str, u32)]) -> ListenerConfig {
    ListenerConfig {
        name: "http".into(),
        protocol: Protocol::HTTP,
        address: None,
        port: 80,
        tls: None,
        routes: RouteTable {
            rules: vec![],
            default: groups.iter().map(|(n, w)| WeightedGroup { group: group_id(n), weight: *w }).collect(),
            redirect: None,
        },
        affinity: None,
        access_log: AccessLog::Off,
    }
}

fn desired(weights: &[(&str, u32)], groups: Vec<(&str, Group)>) -> Desired {
    Desired {
        object: ObjectKey::new("shop", "web"),
        listeners: BTreeMap::from([("http".to_owned(), listener(weights))]),
        keep: BTreeSet::new(),
        groups: groups.into_iter().map(|(n, g)| (group_id(n), g)).collect(),
        departed: BTreeMap::new(),
        drain_timeout: Duration::from_secs(30),
        deleting: false,
        problems: vec![],
    }
}

fn text(d: &Desired, o: &Observed, now: Time) -> String {
    let p = plan(d, o, &LIMITS, now);
    let mut lines: Vec<String> = p.steps.iter().map(ToString::to_string).collect();
    lines.extend(p.holds.iter().map(ToString::to_string));
    if let Some(at) = p.wake_at {
        lines.push(format!("wake in {:?}", at.since(now)));
    }
    lines.join("\n") + "\n"
}

fn run(d: &Desired, o: &mut Observed, now: Time) {
    for step in plan(d, o, &LIMITS, now).steps {
        apply(o, &step);
    }
}

fn all_healthy(o: &mut Observed) {
    for t in o.groups.values_mut().flat_map(|g| g.targets.values_mut()) {
        if t.draining_since.is_none() {
            t.health = Health::Healthy;
            t.answering = true;
        }
    }
}

use TargetState::{NotReady, Serving, Terminating};

fn three(states: [TargetState; 3]) -> Group {
    group(states.into_iter().zip(1..).map(|(s, n)| target(n, s)))
}

/// In force: three healthy targets.
fn serving() -> (Desired, Observed) {
    let d = desired(&[("web", 1)], vec![("web", three([Serving; 3]))]);
    let mut o = Observed::default();
    run(&d, &mut o, NOW);
    all_healthy(&mut o);
    (d, o)
}

/// A redirect serves by itself: it goes at once for nothing, and comes at once in the place of targets, which drain.
#[test]
fn a_redirect_stays_until_what_comes_instead_serves() {
    let (with_targets, serving) = serving();
    let mut redirecting = desired(&[], vec![]);
    let to = Redirect { listener: "https".into(), port: 443, https: true, status: 301 };
    redirecting.listeners.get_mut("http").unwrap().routes.redirect = Some(to);
    let mut o = serving;
    run(&redirecting, &mut o, NOW);
    assert!(o.listeners["http"].routes.redirect.is_some());
    assert!(o.groups.values().flat_map(|g| g.targets.values()).all(|t| t.draining_since.is_some()), "{o:?}");

    let mut o = Observed::default();
    run(&redirecting, &mut o, NOW);
    run(&with_targets, &mut o, NOW);
    assert!(o.listeners["http"].routes.redirect.is_some(), "no target serves yet");
    all_healthy(&mut o);
    run(&with_targets, &mut o, NOW);
    assert!(o.listeners["http"].routes.redirect.is_none());
}

/// The golden plans: each scenario as text, compared with the file of its name. `UPDATE_GOLDEN=1` writes them anew.
#[test]
fn golden_plans() {
    let mut got = BTreeMap::new();
    let (d, o) = serving();
    got.insert("first", text(&d, &Observed::default(), NOW));
    got.insert("nothing-to-do", text(&d, &o, NOW));

    let mut rollout = d.clone();
    rollout.groups.insert(
        group_id("web"),
        group([
            target(1, Serving),
            target(2, Serving),
            target(3, Terminating),
            target(4, Serving),
            target(5, NotReady),
        ]),
    );
    got.insert("rollout", text(&rollout, &o, NOW));
    let mut drained = o.clone();
    run(&rollout, &mut drained, NOW);
    drained.groups.get_mut(&group_id("web")).unwrap().targets.get_mut(&target_id(3)).unwrap().active = Some(0);
    got.insert("rollout-drain-not-settled", text(&rollout, &drained, NOW.plus(Duration::from_secs(1))));
    got.insert("rollout-drained", text(&rollout, &drained, NOW.plus(Duration::from_secs(4))));
    drained.groups.get_mut(&group_id("web")).unwrap().targets.get_mut(&target_id(3)).unwrap().active = Some(7);
    got.insert("rollout-still-connected", text(&rollout, &drained, NOW.plus(Duration::from_secs(4))));
    got.insert("rollout-drain-timeout", text(&rollout, &drained, NOW.plus(Duration::from_secs(30))));

    let mut unready = d.clone();
    unready.groups.insert(group_id("web"), three([NotReady; 3]));
    got.insert("all-unready", text(&unready, &o, NOW));
    let mut vanished = d.clone();
    vanished.groups.insert(group_id("web"), group([]));
    got.insert("all-vanished", text(&vanished, &o, NOW));
    let mut zero = vanished.clone();
    zero.groups.get_mut(&group_id("web")).unwrap().replicas = Some(0);
    got.insert("scaled-to-zero", text(&zero, &o, NOW));
    let mut last = d.clone();
    last.groups.insert(group_id("web"), three([Serving, Terminating, Terminating]));
    let mut one = o.clone();
    for t in [1, 2] {
        let t = one.groups.get_mut(&group_id("web")).unwrap().targets.get_mut(&target_id(t)).unwrap();
        t.health = Health::Unhealthy { on: BTreeSet::from(["p1".to_owned()]) };
        t.answering = false;
    }
    got.insert("last-serving-target", text(&last, &one, NOW));
    // One proxy knows the new Pods, the other does not yet: what serves on one of them stays there.
    let mut lagging = o.clone();
    for t in lagging.groups.values_mut().flat_map(|g| g.targets.values_mut()) {
        t.health = Health::Pending { on: BTreeSet::from(["p1".to_owned()]) };
    }
    got.insert("all-unready-one-proxy-behind", text(&unready, &lagging, NOW));

    let green = desired(&[("green", 1)], vec![("green", group([target(9, Serving)]))]);
    got.insert("move-to-green-not-serving", text(&green, &o, NOW));
    let both = desired(
        &[("web", 1), ("green", 0)],
        vec![("web", three([Serving; 3])), ("green", group([target(9, Serving)]))],
    );
    let mut warm = o.clone();
    run(&both, &mut warm, NOW);
    all_healthy(&mut warm);
    got.insert("move-to-green-warm", text(&green, &warm, NOW));

    let mut bad = d.clone();
    bad.listeners.clear();
    bad.groups.clear();
    bad.keep.insert("http".into());
    got.insert("bad-spec-keeps", text(&bad, &o, NOW));
    bad.departed.insert(target_id(1), Departed::Terminating);
    bad.departed.insert(target_id(2), Departed::Dead);
    got.insert("bad-spec-pods-go", text(&bad, &o, NOW));
    let mut deleting = d.clone();
    deleting.deleting = true;
    got.insert("deleting", text(&deleting, &o, NOW));
    let mut reused = d.clone();
    let mut taken = target(1, Serving);
    taken.0.uid = "uid-new".into();
    reused.groups.insert(group_id("web"), group([taken]));
    got.insert("address-reused", text(&reused, &o, NOW));

    // A controller that has just started, and Pods that an earlier one had opened the gates of.
    let open = |states: [TargetState; 3]| {
        let opened = states.into_iter().zip(1..).map(|(s, n)| {
            let (id, t) = target(n, s);
            (id, DesiredTarget { gate_open: true, ..t })
        });
        desired(&[("web", 1)], vec![("web", group(opened))])
    };
    got.insert("restart-all-unready", text(&open([NotReady; 3]), &Observed::default(), NOW));
    got.insert("restart-one-unready", text(&open([Serving, Serving, NotReady]), &Observed::default(), NOW));
    got.insert("restart-all-terminating", text(&open([Terminating; 3]), &Observed::default(), NOW));
    got.insert("restart-one-terminating", text(&open([Serving, Serving, Terminating]), &Observed::default(), NOW));

    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/golden");
    for (name, text) in got {
        let path = dir.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let want = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, want, "plan `{name}` differs from {}; UPDATE_GOLDEN=1 accepts it", path.display());
    }
}

#[test]
fn holds_say_which_pods() {
    let (mut d, o) = serving();
    d.groups.insert(group_id("web"), three([NotReady; 3]));
    let p = plan(&d, &o, &LIMITS, NOW);
    assert!(p.steps.is_empty(), "{:?}", p.steps);
    assert_eq!(p.holds[0].reason, HoldReason::MassRemoval);
    assert_eq!(p.holds[0].what, ["web-1", "web-2", "web-3"]);
}

// Generated inputs.

fn any_state() -> impl Strategy<Value = TargetState> {
    prop_oneof![4 => Just(Serving), 1 => Just(NotReady), 1 => Just(TargetState::NodeLost), 2 => Just(Terminating)]
}

fn any_health() -> impl Strategy<Value = Health> {
    let on = || BTreeSet::from(["p1".to_owned()]);
    prop_oneof![
        4 => Just(Health::Healthy),
        1 => Just(Health::Unknown),
        2 => Just(Health::Unhealthy { on: on() }),
        1 => Just(Health::Pending { on: on() })
    ]
}

prop_compose! {
    fn any_group()(
        targets in prop::collection::btree_map(1u8..7, (any_state(), any::<bool>()), 0..6),
        replicas in prop_oneof![Just(None), Just(Some(0)), Just(Some(3))],
        slow in any::<bool>(),
    ) -> Group {
        let mut g = group(targets.into_iter().map(|(n, (s, gate_open))| {
            let (id, t) = target(n, s);
            (id, DesiredTarget { gate_open, ..t })
        }));
        g.replicas = replicas;
        g.slow_start = slow.then(|| Duration::from_secs(5));
        g
    }
}

prop_compose! {
    fn any_desired()(
        groups in prop::collection::vec(any_group(), 2),
        weights in (0u32..3, 0u32..3),
        timeout in prop_oneof![Just(0u64), Just(30)],
        deleting in prop::bool::weighted(0.1),
        keep in prop::bool::weighted(0.2),
        departed in prop::collection::btree_map(1u8..7, prop_oneof![
            Just(Departed::Dead), Just(Departed::Unknown), Just(Departed::Unselected), Just(Departed::Terminating)], 0..4),
        only_one in any::<bool>(),
    ) -> Desired {
        let mut groups = groups;
        let b = groups.pop().unwrap();
        let a = groups.pop().unwrap();
        let mut d = if only_one {
            desired(&[("a", weights.0)], vec![("a", a)])
        } else {
            desired(&[("a", weights.0), ("b", weights.1)], vec![("a", a), ("b", b)])
        };
        d.drain_timeout = Duration::from_secs(timeout);
        d.deleting = deleting;
        if keep {
            d.listeners.clear();
            d.groups.clear();
            d.keep.insert("http".into());
        }
        d.departed = departed.into_iter().map(|(n, why)| (target_id(n), why)).collect();
        d
    }
}

prop_compose! {
    /// What an earlier desired state left in force, with arbitrary health and drains.
    fn any_observed()(
        before in any_desired(),
        facts in prop::collection::vec(
            (any_health(), any::<bool>(), prop::option::of(0u64..40), prop::option::of(0u64..3)), 12),
    ) -> Observed {
        let mut o = Observed::default();
        let mut before = before;
        before.deleting = false;
        run(&before, &mut o, Time(0));
        let mut facts = facts.into_iter();
        for t in o.groups.values_mut().flat_map(|g| g.targets.values_mut()) {
            if let Some((health, answering, drain, active)) = facts.next() {
                t.answering = health == Health::Healthy || (answering && health != Health::Unknown);
                t.health = health;
                t.draining_since = drain.map(|s| Time(NOW.0 - s * 1000));
                t.active = active;
            }
        }
        o
    }
}

/// Serving as a client sees it: takes traffic, and a proxy says it is healthy.
fn truly_serving(o: &Observed, id: &GroupId) -> BTreeSet<TargetId> {
    o.groups
        .get(id)
        .map(|g| {
            let ok = |t: &crate::model::ObservedTarget| t.draining_since.is_none() && t.answering;
            g.targets.iter().filter(|(_, t)| ok(t)).map(|(id, _)| id.clone()).collect()
        })
        .unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fixpoint(d in any_desired(), o in any_observed()) {
        let mut o = o;
        run(&d, &mut o, NOW);
        let again = plan(&d, &o, &LIMITS, NOW);
        prop_assert!(again.steps.is_empty(), "{:?}", again.steps);
    }

    /// Step by step, a group that a listener sends to never loses its last serving target, unless the target is dead,
    /// its workload is meant to be empty, or the object is being deleted.
    #[test]
    fn never_worse(d in any_desired(), o in any_observed()) {
        let mut o = o;
        for step in plan(&d, &o, &LIMITS, NOW).steps {
            let before = o.clone();
            apply(&mut o, &step);
            let (Step::Drain { group, target, .. } | Step::Deregister { group, target, .. }) = &step else { continue };
            let was = truly_serving(&before, group);
            if !was.contains(target) || !truly_serving(&o, group).is_empty() {
                continue;
            }
            let in_use = before.listeners.values().flat_map(|l| l.routes.groups()).any(|g| g.group == *group);
            let meant = d.groups.get(group).is_some_and(|g| g.replicas == Some(0));
            let dead = d.departed.get(target) == Some(&Departed::Dead);
            // Another Pod that stands in by its open gate has not been reported on yet.
            let stands_in = d.groups.get(group).is_some_and(|g| {
                g.targets.values().any(|t| t.gate_open && t.state == Serving)
            });
            let taken = d.groups.get(group).is_some_and(|g| g.targets.keys().any(|t| t.ip == target.ip && t.uid != target.uid));
            prop_assert!(!in_use || meant || dead || d.deleting || stands_in || taken, "{step} took the last serving target");
        }
    }

    /// Every step is about something desired or in force.
    #[test]
    fn ownership(d in any_desired(), o in any_observed()) {
        for step in plan(&d, &o, &LIMITS, NOW).steps {
            let known = |g: &GroupId| d.groups.contains_key(g) || o.groups.contains_key(g);
            let ok = match &step {
                Step::CreateGroup { group, .. } | Step::UpdateGroup { group, .. } => d.groups.contains_key(group),
                Step::Register { group, target, .. } => d.groups[group].targets.contains_key(target),
                Step::Drain { group, target, .. } | Step::Undrain { group, target, .. } | Step::Deregister { group, target, .. } => {
                    let registered = o.groups.get(group).is_some_and(|g| g.targets.contains_key(target));
                    let wanted = d.groups.get(group).is_some_and(|g| g.targets.contains_key(target));
                    known(group) && (registered || wanted)
                }
                Step::DeleteGroup { group } => o.groups.contains_key(group),
                Step::SetListener { config } => d.listeners.contains_key(&config.name),
                Step::DeleteListener { listener } => o.listeners.contains_key(listener),
            };
            prop_assert!(ok, "{step}");
        }
    }

    /// No listener in force ever sends to a group that is not in force.
    #[test]
    fn routes_never_dangle(d in any_desired(), o in any_observed()) {
        let mut o = o;
        for step in plan(&d, &o, &LIMITS, NOW).steps {
            apply(&mut o, &step);
            for g in o.listeners.values().flat_map(|l| l.routes.groups()) {
                prop_assert!(o.groups.contains_key(&g.group), "after `{step}`: {} is gone", g.group);
            }
        }
    }
}
