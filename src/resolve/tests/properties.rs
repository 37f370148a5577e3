//! What holds for any Pods and any spec.

use k8s_openapi::api::core::v1::Pod;
use proptest::{option, prelude::*, sample::select};

use super::*;

/// A Pod with fields that matter set in any way, sensible or not.
fn any_pod() -> impl Strategy<Value = Pod> {
    let parts = (
        option::weighted(0.9, select(vec!["uid-1", "uid-2", "uid-3", "uid-4", "uid-5", ""])),
        select(vec!["web-aa", "web-bb", "db-aa", "web"]),
        option::weighted(0.9, select(vec!["aa", "bb", ""])),
        option::weighted(0.9, select(vec!["web", "db"])),
        option::weighted(0.9, select(vec!["ReplicaSet", "StatefulSet", "Job"])),
        option::weighted(0.9, select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "", "nonsense"])),
        option::weighted(0.9, select(vec!["Pending", "Running", "Succeeded", "Failed"])),
        (any::<bool>(), any::<bool>()),
        option::weighted(0.9, select(vec![("web", 8080), ("web", 0), ("web", 70000), ("other", 1)])),
    );
    parts.prop_map(|(uid, set, hash, app, owner_kind, ip, phase, (leaves, ready), port)| {
        let mut pod = deployment_pod("shop", "web", "aa", 1);
        pod.metadata.uid = uid.map(Into::into);
        pod.metadata.name = uid.map(|u| format!("pod-of-{u}"));
        let hash = hash.map(|h| ("pod-template-hash".to_string(), h.to_string()));
        let app = app.map(|a| ("app".to_string(), a.to_string()));
        pod.metadata.labels = Some(hash.into_iter().chain(app).collect());
        pod.metadata.owner_references = owner_kind.map(|k| vec![owner(k, set)]);
        let status = pod.status.as_mut().unwrap();
        status.pod_ip = ip.map(Into::into);
        status.phase = phase.map(Into::into);
        let ports = port.map(|(name, n)| json!([{"name": name, "containerPort": n}]));
        pod.spec.as_mut().unwrap().containers[0].ports = serde_json::from_value(json!(ports)).unwrap();
        let pod = with_ready(pod, ready);
        if leaves { terminating(pod) } else { pod }
    })
}

fn any_target() -> impl Strategy<Value = Value> {
    let kind = select(vec!["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]);
    let name = select(vec!["web", "db", "gone", ""]);
    prop_oneof![
        4 => (kind, name.clone()).prop_map(|(k, n)| json!({"workload": {"kind": k, "name": n}})),
        1 => name.clone().prop_map(|n| json!({"service": {"name": n}})),
        2 => name.prop_map(|n| json!({"selector": {"matchLabels": {"app": n}}})),
        1 => Just(json!({"selector": {}})),
        1 => Just(json!({})),
    ]
}

fn any_listener() -> impl Strategy<Value = Value> {
    let rule = (any_target(), select(vec!["*", "*.b.c", "a.b.c", "a:1"]), select(vec!["/", "/a", "a"]), any::<bool>());
    let rule = rule.prop_map(|(target, host, path, exact)| {
        json!({"host": host, "path": path, "pathType": if exact { "Exact" } else { "Prefix" }, "target": target})
    });
    let port =
        prop_oneof![Just(json!(null)), Just(json!(8080)), Just(json!("web")), Just(json!(-1)), Just(json!("UP"))];
    let check = prop_oneof![
        Just(json!(null)),
        Just(json!({"path": "/"})),
        Just(json!({"port": "web"})),
        Just(json!({"interval": "soon"})),
        Just(json!({"port": 0, "healthyThreshold": -5})),
    ];
    (
        select(vec!["a", "b", "c", "-"]),
        select(vec!["TCP", "UDP", "TLS", "HTTP", "HTTPS"]),
        select(vec![80, 81, 82, 0, -1, 65535, 65536, i32::MAX]),
        port,
        option::of(any_target()),
        option::of(proptest::collection::vec(rule, 0..4)),
        check,
        option::of(proptest::collection::vec((any_target(), any::<i32>()), 0..3)),
    )
        .prop_map(|(name, protocol, port, target_port, target, rules, check, targets)| {
            let weighted = targets.map(|all| {
                let with = |(mut t, w): (Value, i32)| {
                    t["weight"] = json!(w);
                    t
                };
                all.into_iter().map(with).collect::<Vec<_>>()
            });
            let tls = protocol.ends_with('S').then(|| json!({"mode": "Passthrough"}));
            json!({
                "name": name, "protocol": protocol, "port": port, "targetPort": target_port, "target": target,
                "rules": rules, "healthCheck": check, "targets": weighted, "tls": tls,
            })
        })
}

fn any_spec() -> impl Strategy<Value = Value> {
    let class = select(vec![Some("public"), Some("public"), Some("public"), None, Some("gold")]);
    (class, option::weighted(0.9, any_target()), proptest::collection::vec(any_listener(), 0..5))
        .prop_map(|(class, target, listeners)| json!({"className": class, "target": target, "listeners": listeners}))
}

fn any_cluster() -> impl Strategy<Value = MemoryCluster> {
    proptest::collection::vec(any_pod(), 0..6).prop_map(|pods| {
        let mut cluster = MemoryCluster { pods: pods.into_iter().map(Arc::new).collect(), ..cluster() };
        cluster.workloads.push(("shop".into(), WorkloadKind::StatefulSet, "web".into(), Workload::default()));
        let service = json!({"metadata": {"namespace": "shop", "name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}});
        cluster.services.push(Arc::new(serde_json::from_value(service).unwrap()));
        cluster
    })
}

/// Said again, in other words: a Pod that belongs to Deployment web by its owner and labels.
fn belongs_to_web(pod: &Pod) -> bool {
    let json = serde_json::to_value(pod).unwrap();
    let (labels, owner) = (&json["metadata"]["labels"], &json["metadata"]["ownerReferences"][0]);
    let hash = labels["pod-template-hash"].as_str();
    labels["app"] == "web"
        && owner["kind"] == "ReplicaSet"
        && hash.is_some_and(|h| owner["name"].as_str().unwrap() == format!("web-{h}"))
}

fn check_invariants(resolved: &Resolved) {
    let desired = &resolved.desired;
    let mut used = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (name, l) in &desired.listeners {
        assert_eq!(name, &l.name);
        assert!(!desired.keep.contains(name), "{name} is both resolved and frozen");
        assert!(ports.insert(PortKey::new(l.port, l.protocol)), "two listeners have port {}", l.port);
        for w in l.routes.groups() {
            assert_eq!(&w.group.listener, name);
            assert!(desired.groups.contains_key(&w.group), "no group {}", w.group);
            used.insert(&w.group);
        }
    }
    assert_eq!(used, desired.groups.keys().collect(), "every group is used, every used group exists");
    for (id, group) in &desired.groups {
        for target in group.targets.keys() {
            assert!(target.port > 0 && !target.uid.is_empty());
            assert!(!desired.departed.contains_key(target));
            assert_eq!(resolved.gate_pods[&target.uid].groups[id].as_ref(), Some(target));
        }
    }
    for p in &desired.problems {
        assert!(!p.message.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_spec_and_any_pods_resolve(first in any_spec(), second in any_spec(), before in any_cluster(), after in any_cluster()) {
        let new = fresh(first, &before);
        check_invariants(&new);
        let given = Given::after(&new);
        let next = given.resolve(&object(second.clone()), &after);
        check_invariants(&next);
        // Whatever was in force and the spec still names is there, as resolved or as frozen.
        for name in given.in_force.listeners.keys() {
            let named = second["listeners"].as_array().unwrap().iter().any(|l| l["name"] == json!(name));
            let there = next.desired.listeners.contains_key(name) || next.desired.keep.contains(name);
            prop_assert!(there || !named, "{name} was taken away");
        }
        // What has left is exactly what is registered and in no group.
        let registered: BTreeSet<_> = given.in_force.groups.values().flat_map(|g| g.targets.keys()).collect();
        let wanted: BTreeSet<_> = next.desired.groups.values().flat_map(|g| g.targets.keys()).collect();
        let left: BTreeSet<_> = next.desired.departed.keys().collect();
        prop_assert_eq!(left, registered.difference(&wanted).copied().collect::<BTreeSet<_>>());
        // Doing it again changes nothing.
        let again = given.resolve(&object(second), &after);
        prop_assert_eq!(again.desired, next.desired);
    }

    #[test]
    fn a_target_is_in_a_group_iff_its_pod_belongs(pods in proptest::collection::vec(any_pod(), 0..8)) {
        let mut pods = pods;
        let mut seen = BTreeSet::new();
        // A cache holds each UID once.
        pods.retain(|p| seen.insert(p.metadata.uid.clone()));
        let cluster = MemoryCluster { pods: pods.iter().cloned().map(Arc::new).collect(), ..cluster() };
        let resolved = good(json!({
            "className": "public", "target": {"workload": {"kind": "Deployment", "name": "web"}},
            "listeners": [{"name": "a", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        }), &cluster);
        let group = resolved.desired.groups.values().next().unwrap();
        let found: BTreeSet<&str> = group.targets.keys().map(|t| t.uid.as_str()).collect();
        let expected: BTreeSet<&str> = pods.iter().filter(|p| {
            let status = p.status.as_ref().unwrap();
            let address = status.pod_ip.as_deref().is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
            let lives = !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            belongs_to_web(p) && address && lives
        }).filter_map(|p| p.metadata.uid.as_deref()).filter(|u| !u.is_empty()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_order_of_the_caches_does_not_matter(spec in any_spec(), cluster in any_cluster()) {
        let mut seen = BTreeSet::new();
        let mut forwards = cluster;
        forwards.pods.retain(|p| seen.insert(p.metadata.uid.clone()));
        let mut backwards = forwards.clone();
        backwards.pods.reverse();
        backwards.classes.reverse();
        let (one, two) = (fresh(spec.clone(), &forwards), fresh(spec, &backwards));
        prop_assert_eq!(one.desired, two.desired);
        prop_assert_eq!(one.gate_pods, two.gate_pods);
    }
}
