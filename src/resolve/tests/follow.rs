//! Listeners that go on as they were: their membership, ports and certificates; and why targets have left.

use super::*;
use crate::model::Departed;

const GROUP: &str = "a/default/deployment.web";

fn bad_a() -> Value {
    let mut spec = base();
    spec["listeners"][0]["port"] = json!(0);
    spec
}

fn target(n: u8) -> TargetId {
    TargetId { uid: format!("uid-{n}"), ip: format!("10.0.0.{n}").parse().unwrap(), port: 8080 }
}

#[test]
fn membership_follows_the_pods_while_the_new_spec_is_bad() {
    let mut cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    // One Pod leaves, one comes.
    cluster.pods[0] = Arc::new(terminating(deployment_pod("shop", "web", "aa", 1)));
    cluster.pods.push(Arc::new(deployment_pod("shop", "web", "bb", 3)));
    let resolved = given.resolve(&object(bad_a()), &cluster);
    let states: Vec<_> = resolved
        .desired
        .groups
        .iter()
        .find(|(id, _)| id.to_string() == GROUP)
        .unwrap()
        .1
        .targets
        .iter()
        .map(|(id, t)| (id.uid.as_str(), t.state))
        .collect();
    use TargetState::{Serving, Terminating};
    assert_eq!(states, [("uid-1", Terminating), ("uid-2", Serving), ("uid-3", Serving)]);
    assert_eq!(resolved.desired.listeners["a"].port, 80);
}

#[test]
fn membership_follows_the_pods_while_the_class_is_gone_or_refuses() {
    let mut spec = base();
    spec["listeners"][1]["healthCheck"] = json!({"type": "None"});
    let mut with_default = class("public");
    with_default.spec.defaults = serde_json::from_value(json!({"healthCheck": {"path": "/class"}})).unwrap();
    let mut cluster = MemoryCluster { classes: vec![Arc::new(with_default)], ..cluster() };
    let before = good(spec.clone(), &cluster);
    cluster.classes.clear();
    cluster.pods.push(Arc::new(deployment_pod("shop", "web", "aa", 3)));
    let resolved = Given::after(&before).resolve(&object(spec), &cluster);
    says(&resolved, None, Reason::ClassNotFound, &["public", "there is none yet"]);
    assert_eq!(pods_of(&resolved, GROUP).len(), 3);
    for (id, group) in &resolved.desired.groups {
        assert_eq!(group.config(), before.desired.groups[id].config(), "the class' defaults stay as they were");
    }
}

#[test]
fn a_workload_that_is_gone_lets_its_pods_go() {
    let mut cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    cluster.workloads.clear();
    cluster.pods[0] = Arc::new(terminating(deployment_pod("shop", "web", "aa", 1)));
    let resolved = given.resolve(&object(base()), &cluster);
    says(&resolved, Some("a"), Reason::ReferenceNotFound, &["\"web\""]);
    let group = &resolved.desired.groups.iter().find(|(id, _)| id.to_string() == GROUP).unwrap().1;
    assert_eq!(group.targets[&target(1)].state, TargetState::Terminating);
    assert_eq!(group.targets[&target(2)].state, TargetState::Serving);
    assert_eq!(group.replicas, None, "not 0: nobody asked for no Pods");
}

#[test]
fn a_service_that_is_gone_keeps_the_registered_pods_that_live() {
    let mut cluster = cluster();
    let service = json!({"metadata": {"namespace": "shop", "name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}});
    cluster.services.push(Arc::new(serde_json::from_value(service).unwrap()));
    // 3 is registered too, and will have ended; 4 will be new.
    cluster.pods.push(Arc::new(deployment_pod("shop", "web", "aa", 3)));
    let mut spec = base();
    spec["target"] = json!({"service": {"name": "web"}});
    spec["listeners"][0].as_object_mut().unwrap().remove("targetPort");
    let given = Given::after(&good(spec.clone(), &cluster));
    cluster.services.clear();
    cluster.pods[0] = Arc::new(terminating(deployment_pod("shop", "web", "aa", 1)));
    Arc::make_mut(&mut cluster.pods[2]).status.as_mut().unwrap().phase = Some("Failed".into());
    cluster.pods.push(Arc::new(deployment_pod("shop", "web", "aa", 4)));
    let resolved = given.resolve(&object(spec), &cluster);
    says(&resolved, Some("a"), Reason::ReferenceNotFound, &["spec.target.service.name", "\"web\""]);
    let group = &resolved.desired.groups.iter().find(|(id, _)| id.to_string() == "a/default/service.web").unwrap().1;
    let states: Vec<_> = group.targets.iter().map(|(id, t)| (id.clone(), t.state)).collect();
    assert_eq!(states, [(target(1), TargetState::Terminating), (target(2), TargetState::Serving)]);
}

#[test]
fn a_listener_does_not_take_the_port_of_one_that_stays() {
    let cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    // `a` would move to 8000 but is bad there; `b` would take over its port 80; `c` would take over that of `b`.
    let mut spec = base();
    spec["listeners"][0] = json!({"name": "a", "protocol": "HTTP", "port": 8000, "targetPort": "nope"});
    spec["listeners"][1]["port"] = json!(80);
    spec["listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "c", "protocol": "TCP", "port": 81, "targetPort": 8080}));
    spec["listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "d", "protocol": "UDP", "port": 80, "targetPort": "dns"}));
    let resolved = given.resolve(&object(spec), &cluster);
    let ports: Vec<_> = resolved.desired.listeners.values().map(|l| (l.name.as_str(), l.port)).collect();
    assert_eq!(ports, [("a", 80), ("b", 81), ("d", 80)]);
    says(&resolved, Some("b"), Reason::Invalid, &["spec.listeners[1].port", "80 over TCP", "listener a"]);
    says(&resolved, Some("c"), Reason::Invalid, &["spec.listeners[2].port", "81 over TCP", "listener b"]);
}

#[test]
fn a_listener_renamed_into_a_bad_one_stays_under_its_old_name() {
    let cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    let mut spec = base();
    spec["listeners"][0] = json!({"name": "web", "protocol": "HTTP", "port": 80, "targetPort": "nope"});
    let resolved = given.resolve(&object(spec.clone()), &cluster);
    assert_eq!(names(resolved.desired.listeners.keys()), ["a", "b"]);
    let again = Given::after(&resolved).resolve(&object(spec.clone()), &cluster);
    assert_eq!(names(again.desired.listeners.keys()), ["a", "b"]);
    spec["listeners"][0]["targetPort"] = json!("web");
    let right = Given::after(&again).resolve(&object(spec), &cluster);
    assert_eq!(names(right.desired.listeners.keys()), ["b", "web"]);
}

#[test]
fn a_listener_that_the_spec_drops_goes() {
    let cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    let mut spec = base();
    spec["listeners"].as_array_mut().unwrap().pop();
    let resolved = given.resolve(&object(spec), &cluster);
    assert_eq!(names(resolved.desired.listeners.keys()), ["a"]);
    assert!(resolved.desired.keep.is_empty());
    assert_eq!(names(resolved.accepted.unwrap().listeners.iter().map(|l| &l.name)), ["a"]);
}

#[test]
fn what_was_accepted_of_a_half_good_spec_is_what_a_listener_goes_back_to() {
    let cluster = cluster();
    let first = Given::after(&good(base(), &cluster));
    // `a` is bad, `b` moves to 82 and uses a target of its own.
    let mut second = bad_a();
    second["listeners"][1]["port"] = json!(82);
    let second = first.resolve(&object(second), &cluster);
    // Now `b` is bad too, and the object's own target is another one.
    let mut third = bad_a();
    third["target"] = json!({"service": {"name": "nope"}});
    third["listeners"][1]["port"] = json!(83);
    let third_spec = third.clone();
    let third = Given::after(&second).resolve(&object(third), &cluster);
    assert_eq!(third.desired.listeners["a"].port, 80);
    assert_eq!(third.desired.listeners["b"].port, 82);
    assert_eq!(pods_of(&third, "b/default/deployment.web").len(), 2);
    // And again, by what is accepted now: the object's own target is the new one, these listeners' is not.
    let again = Given { previous: third.accepted.clone(), ..Given::default() }.resolve(&object(third_spec), &cluster);
    assert_eq!(again.desired, third.desired);
}

/// A controller that has just started knows of nothing in force, while the proxies serve what was accepted.
#[test]
fn what_was_accepted_goes_on_after_a_restart() {
    let mut cluster = cluster();
    let before = good(base(), &cluster);
    let restarted = Given { previous: before.accepted.clone(), ..Given::default() };
    let resolved = restarted.resolve(&object(bad_a()), &cluster);
    assert_eq!(resolved.desired.listeners, before.desired.listeners);
    assert_eq!(resolved.desired.groups, before.desired.groups);
    assert_eq!(resolved.accepted, before.accepted);

    let mut spec = base();
    spec["className"] = json!("gold");
    let blocked = restarted.resolve(&object(spec), &cluster);
    assert_eq!(blocked.desired.listeners, before.desired.listeners);

    let mut spec = base();
    spec["listeners"][0] = json!({"name": "web", "protocol": "HTTP", "port": 80, "targetPort": "nope"});
    let renamed = restarted.resolve(&object(spec), &cluster);
    assert_eq!(names(renamed.desired.listeners.keys()), ["a", "b"]);

    // Its class is gone, so nobody knows whether it has an address of its own.
    cluster.classes.clear();
    assert!(restarted.resolve(&object(base()), &cluster).desired.listeners.is_empty());
}

#[test]
fn without_its_class_a_listener_keeps_its_address() {
    let cluster = cluster();
    let ip = "192.0.2.7".parse().unwrap();
    let before = Given { address: Ok(Some(ip)), ..Given::default() }.resolve(&object(base()), &cluster);
    let gone = MemoryCluster { classes: Vec::new(), ..cluster };
    let resolved = Given::after(&before).resolve(&object(base()), &gone);
    assert_eq!(resolved.desired.listeners["a"].address, Some(ip));
}

#[test]
fn without_an_address_nothing_new_starts_and_nothing_in_force_stops() {
    let cluster = cluster();
    let ip = "192.0.2.7".parse().unwrap();
    let none = Problem { listener: None, reason: Reason::PoolExhausted, message: "no address is free".into() };
    let new = Given { address: Err(none.clone()), ..Given::default() }.resolve(&object(base()), &cluster);
    assert!(new.desired.listeners.is_empty());
    says(&new, None, Reason::PoolExhausted, &["no address is free"]);

    let before = Given { address: Ok(Some(ip)), ..Given::default() }.resolve(&object(base()), &cluster);
    assert_eq!(before.desired.listeners["a"].address, Some(ip));
    let after = Given { address: Err(none), ..Given::after(&before) }.resolve(&object(base()), &cluster);
    assert_eq!(after.desired.listeners, before.desired.listeners);
}

#[test]
fn a_port_conflict_concerns_its_listener_only() {
    let cluster = cluster();
    let problem =
        Problem { listener: Some("a".into()), reason: Reason::PortConflict, message: "held by shop/other".into() };
    let mut given = Given { port_conflicts: [("a".to_string(), problem)].into(), ..Given::default() };
    let new = given.resolve(&object(base()), &cluster);
    assert_eq!(names(new.desired.listeners.keys()), ["b"]);
    says(&new, Some("a"), Reason::PortConflict, &["held by shop/other"]);
    given.in_force = applied(&good(base(), &cluster).desired);
    assert_eq!(names(&given.resolve(&object(base()), &cluster).desired.keep), ["a"]);
}

#[test]
fn why_targets_have_left() {
    let mut cluster = MemoryCluster::default().class(class("public")).deployment("shop", "web", 9);
    for n in 1..=8 {
        cluster.pods.push(Arc::new(deployment_pod("shop", "web", "aa", n)));
    }
    let given = Given::after(&good(base(), &cluster));
    let pod = |n| deployment_pod("shop", "web", "aa", n);
    let unlabelled = |n| {
        let mut p = pod(n);
        p.metadata.labels.as_mut().unwrap().remove("app");
        p
    };
    let ended = |n, phase: &str| {
        let mut p = pod(n);
        p.status.as_mut().unwrap().phase = Some(phase.into());
        p
    };
    let mut moved = pod(6);
    moved.status.as_mut().unwrap().pod_ip = Some("10.0.0.66".into());
    let mut taken = deployment_pod("bank", "db", "xx", 7);
    taken.metadata.uid = Some("uid-77".into());
    let pods = vec![
        unlabelled(1),
        terminating(unlabelled(2)),
        ended(3, "Succeeded"),
        terminating(ended(4, "Failed")),
        pod(5),
        moved,
        taken,
        // 8 is in no cache, and nobody has its address.
    ];
    cluster.pods = pods.into_iter().map(Arc::new).collect();
    let left = given.resolve(&object(base()), &cluster).desired.departed;
    let left: Vec<_> = left.iter().map(|(t, d)| (t.uid.as_str(), *d)).collect();
    use Departed::{Dead, Terminating, Unknown, Unselected};
    assert_eq!(
        left,
        [
            ("uid-1", Unselected),
            ("uid-2", Terminating),
            ("uid-3", Dead),
            ("uid-4", Dead),
            ("uid-6", Dead),
            ("uid-7", Dead),
            ("uid-8", Unknown),
        ]
    );
}

#[test]
fn a_pod_on_the_host_network_is_not_taken_for_the_one_before_it() {
    let cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    let mut proxy = deployment_pod("kube-system", "proxy", "xx", 1);
    proxy.metadata.uid = Some("uid-proxy".into());
    proxy.spec.as_mut().unwrap().host_network = Some(true);
    let cluster = MemoryCluster { pods: vec![Arc::new(proxy)], ..cluster };
    let left = given.resolve(&object(base()), &cluster).desired.departed;
    assert_eq!(left[&target(1)], Departed::Unknown, "it shares the node's address with many");
}

#[test]
fn deletion_takes_everything_and_still_names_the_pods() {
    let cluster = cluster();
    let given = Given::after(&good(base(), &cluster));
    let mut lb = object(bad_a());
    lb.metadata.deletion_timestamp = Some(time(5));
    let resolved = given.resolve(&lb, &cluster);
    let desired = &resolved.desired;
    assert!(desired.deleting && desired.listeners.is_empty() && desired.groups.is_empty() && desired.keep.is_empty());
    assert_eq!(desired.problems, []);
    assert_eq!(names(resolved.gate_pods.keys()), ["uid-1", "uid-2"]);
    assert!(resolved.ungated.is_empty(), "nobody waits for a gate any more");
    assert_eq!(resolved.accepted, given.previous);
}
