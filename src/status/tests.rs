#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Cloud, CloudTrouble, Facts, Fleet, GateContext, Proxy, ProxyState, gate, status, transitions};
use crate::{
    api::{
        DirectLoadBalancer, DirectLoadBalancerSpec, DirectLoadBalancerStatus, GateReason, InjectionStatus, Mode,
        Protocol, QuotaStatus, Reason, Scheduler, TargetProtocol,
    },
    model::{
        AccessLog, Desired, DesiredTarget, Group, GroupId, Health, HealthCheck, HealthProbe, Hold, HoldReason,
        ListenerConfig, ObjectKey, Observed, ObservedGroup, ObservedTarget, Plan, Problem, RouteTable, TargetId,
        TargetState, Time, WeightedGroup,
    },
};

fn id() -> GroupId {
    GroupId { listener: "http".into(), rule: None, target: "deployment.web".into() }
}

fn target(n: u8) -> TargetId {
    TargetId { uid: format!("u{n}"), ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)), port: 80 }
}

struct World {
    object: DirectLoadBalancer,
    desired: Desired,
    in_force: Observed,
    plan: Plan,
    fleet: Fleet,
    cloud: Option<Cloud>,
    ungated: Vec<String>,
    injection: InjectionStatus,
}

impl World {
    /// Two healthy targets, one listener, two proxies: all is well.
    fn well() -> Self {
        let mut object = DirectLoadBalancer::new("web", DirectLoadBalancerSpec::default());
        object.metadata.generation = Some(3);
        let config = Group {
            protocol: Protocol::HTTP,
            target_protocol: TargetProtocol::HTTP1,
            scheduler: Scheduler::RoundRobin,
            affinity: None,
            health_check: HealthCheck {
                probe: HealthProbe::Http { path: "/lbhealth".into(), host: None },
                port: None,
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                healthy_threshold: 2,
                unhealthy_threshold: 2,
            },
            slow_start: None,
            proxy_protocol: None,
            targets: BTreeMap::new(),
            replicas: None,
        };
        let want = |n: u8| DesiredTarget {
            pod: format!("web-{n}"),
            node: "n".into(),
            state: TargetState::Serving,
            gate_open: false,
            health_port: None,
        };
        let have = |n: u8| ObservedTarget {
            pod: format!("web-{n}"),
            draining_since: None,
            health_port: None,
            health: Health::Healthy,
            answering: true,
            healthy_since: None,
            active: Some(0),
        };
        let mut group = config.clone();
        group.replicas = Some(2);
        group.targets = [1, 2].map(|n| (target(n), want(n))).into();
        let listener = ListenerConfig {
            name: "http".into(),
            protocol: Protocol::HTTP,
            address: None,
            port: 80,
            tls: None,
            routes: RouteTable {
                rules: vec![],
                default: vec![WeightedGroup { group: id(), weight: 1 }],
                redirect: None,
            },
            affinity: None,
            access_log: AccessLog::Off,
        };
        let proxy = || Proxy { state: ProxyState::Reporting, missing: vec![], rejected: None };
        Self {
            object,
            desired: Desired {
                object: ObjectKey::new("shop", "web"),
                listeners: BTreeMap::from([("http".to_owned(), listener.clone())]),
                keep: BTreeSet::new(),
                groups: BTreeMap::from([(id(), group)]),
                departed: BTreeMap::new(),
                drain_timeout: Duration::from_secs(30),
                deleting: false,
                problems: vec![],
            },
            in_force: Observed {
                listeners: BTreeMap::from([("http".to_owned(), listener)]),
                groups: BTreeMap::from([(
                    id(),
                    ObservedGroup { config, targets: [1, 2].map(|n| (target(n), have(n))).into() },
                )]),
            },
            plan: Plan::default(),
            fleet: Fleet {
                id: "default".into(),
                proxies: BTreeMap::from([("edge1".to_owned(), proxy()), ("edge2".to_owned(), proxy())]),
            },
            cloud: None,
            ungated: vec![],
            injection: InjectionStatus::default(),
        }
    }

    /// The same in a cloud.
    fn in_cloud() -> Self {
        let cloud = Cloud { id: "lb-1".into(), looked: true, ..Cloud::default() };
        let cloud = Cloud { listeners: BTreeMap::from([("http".to_owned(), "lbl-1".to_owned())]), ..cloud };
        Self { cloud: Some(cloud), fleet: Fleet::default(), ..Self::well() }
    }

    fn trouble(&mut self, listener: Option<&str>, target: bool, reason: Reason, message: &str) {
        let listener = listener.map(Into::into);
        let trouble = CloudTrouble { listener, target, pods: BTreeSet::new(), reason, message: message.into() };
        self.cloud.as_mut().unwrap().troubles.push(trouble);
    }

    fn target(&mut self, n: u8) -> &mut ObservedTarget {
        self.in_force.groups.get_mut(&id()).unwrap().targets.get_mut(&target(n)).unwrap()
    }

    fn want(&mut self, n: u8) -> &mut DesiredTarget {
        self.desired.groups.get_mut(&id()).unwrap().targets.get_mut(&target(n)).unwrap()
    }

    fn status(&self, at: u64) -> DirectLoadBalancerStatus {
        status(&Facts {
            object: &self.object,
            class_name: Some("public"),
            desired: &self.desired,
            in_force: &self.in_force,
            plan: &self.plan,
            addresses: &[IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))],
            fleet: &self.fleet,
            cloud: self.cloud.as_ref(),
            ungated: &self.ungated,
            portless: &[],
            short_hooks: &[],
            injection: &self.injection,
            now: Time(at),
        })
    }

    fn gate(&self, n: u8, is_open: bool) -> Option<(bool, GateReason, String)> {
        let ctx = GateContext {
            desired: &self.desired,
            in_force: &self.in_force,
            disabled: false,
            not_accepted: false,
            proxies: true,
            cloud: self.cloud.as_ref(),
        };
        gate(&ctx, &format!("u{n}"), &BTreeSet::from([id()]), is_open).map(|v| (v.open, v.reason, v.message))
    }
}

fn condition<'a>(s: &'a DirectLoadBalancerStatus, type_: &str) -> &'a Condition {
    s.conditions.iter().find(|c| c.type_ == type_).unwrap()
}

fn brief(s: &DirectLoadBalancerStatus) -> Vec<String> {
    s.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
}

#[test]
fn all_is_well() {
    let s = World::well().status(5_000);
    assert_eq!(s.ready_targets, "2/2");
    assert_eq!(s.observed_generation, Some(3));
    assert_eq!(s.load_balancer.addresses[0].value, "192.0.2.7");
    assert_eq!(s.listeners[0].id, "shop/web/http");
    assert_eq!(
        brief(&s),
        [
            "Accepted=True Accepted",
            "Programmed=True Programmed",
            "ProxiesReady=True AllReporting",
            "TargetsReady=True AllHealthy",
            "Ready=True Ready",
            "Reconciling=False UpToDate",
            "Stalled=False Progressing",
        ]
    );
}

#[test]
fn unchanged_facts_give_an_equal_status() {
    let mut w = World::well();
    w.object.status = Some(w.status(5_000));
    assert_eq!(w.status(99_000), w.object.status.clone().unwrap(), "only the time has passed");
}

#[test]
fn a_transition_gets_the_time_and_the_rest_keeps_its_own() {
    let mut w = World::well();
    let first = w.status(5_000);
    w.object.status = Some(first.clone());
    w.target(1).health = Health::Unhealthy { on: BTreeSet::from(["edge1".to_owned()]) };
    let second = w.status(9_000);
    assert_eq!(condition(&second, "Accepted").last_transition_time, condition(&first, "Accepted").last_transition_time);
    assert_ne!(condition(&second, "Ready").last_transition_time, condition(&first, "Ready").last_transition_time);
}

#[test]
fn a_failing_check_is_named_with_listener_and_proxy_in_condition_gate_and_event() {
    let mut w = World::well();
    let before = w.status(1_000);
    w.target(1).health = Health::Unhealthy { on: BTreeSet::from(["edge1".to_owned()]) };
    let after = w.status(2_000);
    let want = "web-1 fails HTTP GET /lbhealth on edge1, listener http (deployment.web)";
    assert_eq!(condition(&after, "TargetsReady").reason, "HealthCheckFailing");
    assert_eq!(condition(&after, "TargetsReady").message, want);
    assert_eq!(after.ready_targets, "1/2");
    assert_eq!(w.gate(1, true), Some((false, GateReason::HealthCheckFailing, want.to_owned())));
    let events = transitions(Some(&before), &after);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].warning);
    assert_eq!(events[0].note, want);
}

#[test]
fn gates() {
    let mut w = World::well();
    assert_eq!(w.gate(1, false).unwrap().1, GateReason::Healthy);
    // Unknown: shut stays shut, open stays open.
    w.target(1).health = Health::Unknown;
    assert_eq!(w.gate(1, false).unwrap().1, GateReason::Registering);
    assert_eq!(w.gate(1, true), None);
    w.target(1).health = Health::Pending { on: BTreeSet::from(["edge2".to_owned()]) };
    let (open, _, message) = w.gate(1, false).unwrap();
    assert!(!open && message.contains("edge2"), "{message}");
    assert_eq!(w.gate(1, true), None);
    // Leaving.
    w.want(1).state = TargetState::Terminating;
    assert_eq!(w.gate(1, true), None);
    // Not ready: shut as soon as it takes no traffic, open as long as it is held in service.
    w.want(1).state = TargetState::NotReady;
    assert_eq!(w.gate(1, false).unwrap().1, GateReason::ContainersNotReady);
    assert_eq!(w.gate(1, true), None);
    w.target(1).draining_since = Some(Time(1));
    assert_eq!(w.gate(1, true).unwrap().1, GateReason::ContainersNotReady);
    // Not registered yet.
    w.want(2).state = TargetState::Serving;
    w.in_force.groups.get_mut(&id()).unwrap().targets.remove(&target(2));
    assert_eq!(w.gate(2, false).unwrap().1, GateReason::Registering);
}

#[test]
fn no_pod_is_stranded() {
    let mut w = World::well();
    w.target(1).health = Health::Unhealthy { on: BTreeSet::new() };
    let ctx = |d, n| GateContext {
        desired: d,
        in_force: &w.in_force,
        disabled: false,
        not_accepted: n,
        proxies: true,
        cloud: None,
    };
    let one = BTreeSet::from([id()]);
    let reason = |c: &GateContext<'_>, groups: &BTreeSet<GroupId>| gate(c, "u1", groups, false).unwrap().reason;
    let mut deleting = w.desired.clone();
    deleting.deleting = true;
    assert_eq!(reason(&ctx(&deleting, false), &one), GateReason::LoadBalancerDeleted);
    assert_eq!(reason(&GateContext { disabled: true, ..ctx(&w.desired, false) }, &one), GateReason::GateDisabled);
    assert_eq!(reason(&ctx(&w.desired, true), &one), GateReason::NotAccepted);
    assert_eq!(reason(&ctx(&w.desired, false), &BTreeSet::new()), GateReason::NotTargeted);
}

#[test]
fn conditions_by_what_is_wrong() {
    type Edit = fn(&mut World);
    let table: &[(&str, Edit, &[&str])] = &[
        (
            "problem",
            |w| {
                w.desired.problems = vec![Problem {
                    listener: Some("http".into()),
                    reason: Reason::ReferenceNotFound,
                    message: "spec.listeners[0].target: Deployment \"nope\" does not exist".into(),
                }];
            },
            &["Accepted=False ReferenceNotFound", "Ready=False ReferenceNotFound", "Stalled=True ReferenceNotFound"],
        ),
        (
            "proxy left out",
            |w| w.fleet.proxies.get_mut("edge2").unwrap().state = ProxyState::LeftOut,
            &["ProxiesReady=False ProxyLeftOut", "Ready=True Ready"],
        ),
        (
            "proxy waited for",
            |w| {
                let p = w.fleet.proxies.get_mut("edge2").unwrap();
                p.state = ProxyState::Waiting;
                p.missing = vec!["http".into()];
            },
            &[
                "ProxiesReady=False WaitingForProxies",
                "Programmed=False Pending",
                "Ready=False Pending",
                "Reconciling=True Progressing",
            ],
        ),
        ("no proxy", |w| w.fleet.proxies.clear(), &["ProxiesReady=False NoProxies", "Programmed=False NoProxies"]),
        (
            "proxy refused",
            |w| w.fleet.proxies.get_mut("edge1").unwrap().rejected = Some("bad".into()),
            &["Programmed=False ProxyRejected"],
        ),
        (
            "registering",
            |w| w.target(2).health = Health::Pending { on: BTreeSet::from(["edge1".to_owned()]) },
            &["TargetsReady=False Registering", "Ready=False Registering"],
        ),
        ("ungated", |w| w.ungated = vec!["web-1".into()], &["TargetsReady=True UngatedPods", "Ready=True Ready"]),
        (
            "no target",
            |w| w.desired.groups.get_mut(&id()).unwrap().targets.clear(),
            &["TargetsReady=False NoTargets", "Ready=False NoTargets"],
        ),
        (
            "held",
            |w| {
                w.plan.holds = vec![Hold {
                    reason: HoldReason::ReplacementNotServing,
                    group: id(),
                    what: vec!["listener http".into()],
                }];
            },
            &["Programmed=False ReplacementNotServing"],
        ),
    ];
    for (name, edit, want) in table {
        let mut w = World::well();
        edit(&mut w);
        let got = brief(&w.status(1_000));
        for line in *want {
            assert!(got.contains(&(*line).to_owned()), "{name}: want {line}, got {got:?}");
        }
    }
}

#[test]
fn holds_are_told_once() {
    let mut w = World::well();
    let before = w.status(1_000);
    w.plan.holds =
        vec![Hold { reason: HoldReason::MassRemoval, group: id(), what: vec!["web-1".into(), "web-2".into()] }];
    let after = w.status(2_000);
    assert_eq!(after.plan.holds[0].reason, "MassRemoval");
    assert!(transitions(Some(&before), &after).iter().any(|t| t.reason == "MassRemoval" && t.warning));
    assert!(transitions(Some(&after), &after).is_empty());
}

#[test]
fn a_new_object_that_comes_up_tells_only_that_it_is_ready() {
    let mut w = World::well();
    w.target(1).health = Health::Unknown;
    let first = w.status(1_000);
    assert!(transitions(None, &first).is_empty(), "{:?}", transitions(None, &first));
    w.target(1).health = Health::Healthy;
    let events = transitions(Some(&first), &w.status(2_000));
    assert_eq!(events.iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(), ["Ready"]);
}

#[test]
fn draining_pods_are_counted_once() {
    let mut w = World::well();
    w.want(1).state = TargetState::Terminating;
    w.target(1).draining_since = Some(Time(0));
    let s = w.status(1_000);
    assert_eq!((s.targets.desired, s.targets.healthy, s.targets.draining), (1, 1, 1));
}

#[test]
fn a_cloud_has_no_proxies_and_its_load_balancer_an_id() {
    let mut w = World::in_cloud();
    let s = w.status(1_000);
    let well = [
        "Accepted=True Accepted",
        "Programmed=True Programmed",
        "TargetsReady=True AllHealthy",
        "Ready=True Ready",
        "Reconciling=False UpToDate",
        "Stalled=False Progressing",
    ];
    assert_eq!(brief(&s), well);
    assert_eq!(s.load_balancer.id, "lb-1");
    assert_eq!(s.listeners[0].id, "lbl-1");
    w.cloud.as_mut().unwrap().looked = false;
    assert_eq!(condition(&w.status(1_000), "Programmed").reason, "Pending");
    w.cloud.as_mut().unwrap().looked = true;
    w.cloud.as_mut().unwrap().missing.insert("http".into());
    let s = w.status(1_000);
    assert!(condition(&s, "Programmed").message.contains("listeners http"), "{s:?}");
    assert_eq!(s.listeners[0].reason, "Pending");
}

#[test]
fn trouble_in_a_cloud_is_said_where_it_belongs() {
    // Of the whole: nothing gets better without a person.
    let mut w = World::in_cloud();
    w.trouble(Some("http"), false, Reason::CloudRejected, "create listener http: no");
    w.trouble(None, false, Reason::CredentialsRefused, "look at the load balancer: AuthFailure");
    let s = w.status(1_000);
    for type_ in ["Programmed", "Ready"] {
        assert_eq!(condition(&s, type_).reason, "CredentialsRefused", "{type_}");
        assert_eq!(condition(&s, type_).message, "look at the load balancer: AuthFailure");
    }
    assert_eq!(condition(&s, "Stalled").status, "True");
    assert_eq!(
        (s.listeners[0].reason.as_str(), s.listeners[0].message.as_str()),
        ("CloudRejected", "create listener http: no")
    );
    // What passes by itself is no reason to call anybody.
    let mut w = World::in_cloud();
    w.trouble(None, false, Reason::CloudUnavailable, "look: no answer");
    assert_eq!(condition(&w.status(1_000), "Stalled").status, "False");
    // Of targets: the listeners are there all the same.
    let mut w = World::in_cloud();
    (1..=8).for_each(|n| w.trouble(Some("http"), true, Reason::QuotaExceeded, &format!("register 10.0.0.{n}")));
    let s = w.status(1_000);
    assert_eq!(condition(&s, "Programmed").status, "True");
    assert_eq!(condition(&s, "TargetsReady").reason, "QuotaExceeded");
    assert!(condition(&s, "TargetsReady").message.ends_with("and 3 more"));
}

#[test]
fn quotas_are_told_before_they_are_used_up() {
    let quota = |used| QuotaStatus { resource: "Targets".into(), listener: "http".into(), used, limit: 50 };
    let mut w = World::in_cloud();
    w.cloud.as_mut().unwrap().quotas = vec![quota(39)];
    let before = w.status(1_000);
    assert_eq!((condition(&before, "WithinQuota").status.as_str(), before.quotas.len()), ("True", 1));
    w.cloud.as_mut().unwrap().quotas = vec![quota(40)];
    let near = w.status(2_000);
    let within = condition(&near, "WithinQuota");
    assert_eq!((within.status.as_str(), within.reason.as_str()), ("False", "QuotaNearlyUsed"));
    assert_eq!(within.message, "targets of listener http: 40 of 50");
    assert_eq!(condition(&near, "Ready").status, "True", "it serves");
    let told = transitions(Some(&before), &near);
    assert_eq!((told.len(), told[0].reason.as_str(), told[0].warning), (1, "QuotaNearlyUsed", true), "{told:?}");
    let again = transitions(Some(&near), &before);
    assert_eq!((again.len(), again[0].warning), (1, false), "{again:?}");
    w.trouble(Some("http"), true, Reason::QuotaExceeded, "quota: 3 are waiting");
    assert_eq!(condition(&w.status(3_000), "WithinQuota").message, "quota: 3 are waiting");
}

#[test]
fn a_pod_that_the_cloud_refuses_is_told_why_its_gate_stays_shut() {
    let mut w = World::in_cloud();
    w.target(1).health = Health::Pending { on: BTreeSet::from(["lb-1".to_owned()]) };
    assert_eq!(w.gate(1, false).unwrap().1, GateReason::Registering);
    for (reason, expected) in
        [(Reason::QuotaExceeded, GateReason::QuotaExceeded), (Reason::CloudRejected, GateReason::CloudRejected)]
    {
        w.cloud.as_mut().unwrap().troubles.clear();
        w.trouble(Some("http"), true, reason, "quota: 3 are waiting");
        assert_eq!(w.gate(1, false).unwrap().1, GateReason::Registering, "it is about other Pods");
        w.cloud.as_mut().unwrap().troubles[0].pods.insert("u1".into());
        assert_eq!(w.gate(1, false), Some((false, expected, "quota: 3 are waiting".into())));
        assert_eq!(w.gate(1, true), None, "an open gate is shut by a health check alone");
    }
}

#[test]
fn what_a_cloud_refuses_is_told_once_by_the_call_itself() {
    let mut w = World::in_cloud();
    let before = w.status(1_000);
    w.trouble(None, false, Reason::CredentialsRefused, "AuthFailure");
    assert_eq!(transitions(Some(&before), &w.status(2_000)), []);
    // A missing Secret was no call.
    let mut w = World::in_cloud();
    w.trouble(None, false, Reason::CredentialsMissing, "Secret x: there is none");
    let told = transitions(Some(&before), &w.status(2_000));
    assert_eq!(told.iter().map(|t| t.reason.as_str()).collect::<Vec<_>>(), ["CredentialsMissing"]);
}

#[test]
fn a_plan_for_a_cloud_begins_with_the_load_balancer() {
    let mut w = World::in_cloud();
    w.object.spec.mode = Mode::Plan;
    w.cloud.as_mut().unwrap().id.clear();
    w.plan.steps.push(crate::model::Step::DeleteListener { listener: "old".into() });
    let s = w.status(1_000);
    assert_eq!(s.plan.steps, ["create load balancer", "delete listener old"]);
    assert_eq!(s.plan.pending, 2);
}
