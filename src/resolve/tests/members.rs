//! Which Pods belong to a target, on which port, in which state.

use super::*;

/// The Pods of `target` behind listener `a`.
fn members(target: Value, cluster: &MemoryCluster) -> Vec<String> {
    let mut spec = base();
    spec["target"] = target;
    let resolved = good(spec, cluster);
    let mut pods: Vec<String> = resolved
        .desired
        .groups
        .iter()
        .filter(|(id, _)| id.listener == "a")
        .flat_map(|(_, g)| g.targets.values().map(|t| t.pod.clone()))
        .collect();
    pods.sort();
    pods
}

fn owned(n: u8, kind: &str, name: &str) -> k8s_openapi::api::core::v1::Pod {
    let mut pod = deployment_pod("shop", "web", "aa", n);
    pod.metadata.name = Some(format!("{kind}-{n}"));
    pod.metadata.owner_references = Some(vec![owner(kind, name)]);
    pod
}

#[test]
fn a_deployments_pods_are_those_of_its_replica_sets() {
    let mut cluster = cluster();
    // Of another Deployment whose name begins the same; its Pods' labels match as well.
    let mut other = deployment_pod("shop", "web-x", "aa", 3);
    other.metadata.labels.as_mut().unwrap().insert("app".into(), "web".into());
    // A Pod by hand with the right labels; one with the labels changed; one of a foreign kind; one elsewhere.
    let mut by_hand = deployment_pod("shop", "web", "aa", 4);
    by_hand.metadata.owner_references = None;
    let mut relabelled = deployment_pod("shop", "web", "aa", 5);
    relabelled.metadata.labels.as_mut().unwrap().insert("app".into(), "debug".into());
    let mut rehashed = deployment_pod("shop", "web", "aa", 6);
    rehashed.metadata.labels.as_mut().unwrap().insert("pod-template-hash".into(), "bb".into());
    let mut foreign = deployment_pod("shop", "web", "aa", 7);
    foreign.metadata.owner_references.as_mut().unwrap()[0].api_version = "example.com/v1".into();
    let mut not_controller = deployment_pod("shop", "web", "aa", 8);
    not_controller.metadata.owner_references.as_mut().unwrap()[0].controller = None;
    let elsewhere = deployment_pod("bank", "web", "aa", 9);
    let second_set = deployment_pod("shop", "web", "bb", 10);
    for pod in [other, by_hand, relabelled, rehashed, foreign, not_controller, elsewhere, second_set] {
        cluster.pods.push(Arc::new(pod));
    }
    let found = members(json!({"workload": {"kind": "Deployment", "name": "web"}}), &cluster);
    assert_eq!(found, ["web-aa-1", "web-aa-2", "web-bb-10"]);
}

#[test]
fn other_workloads_own_their_pods_by_kind_and_name() {
    let mut cluster = cluster();
    for kind in [WorkloadKind::StatefulSet, WorkloadKind::DaemonSet, WorkloadKind::ReplicaSet] {
        cluster.workloads.push(("shop".into(), kind, "web".into(), Workload::default()));
    }
    for (n, kind, name) in
        [(11, "StatefulSet", "web"), (12, "DaemonSet", "web"), (13, "ReplicaSet", "web"), (14, "StatefulSet", "db")]
    {
        cluster.pods.push(Arc::new(owned(n, kind, name)));
    }
    let of = |kind: &str| members(json!({"workload": {"kind": kind, "name": "web"}}), &cluster);
    assert_eq!(of("StatefulSet"), ["StatefulSet-11"]);
    assert_eq!(of("DaemonSet"), ["DaemonSet-12"]);
    assert_eq!(of("ReplicaSet"), ["ReplicaSet-13"]);
}

#[test]
fn selectors_follow_labels_and_expressions() {
    let mut cluster = MemoryCluster::default().class(class("public"));
    for (n, labels) in
        [(1, json!({"app": "web", "tier": "front"})), (2, json!({"app": "web"})), (3, json!({"app": "db"}))]
    {
        let mut pod = deployment_pod("shop", "x", "aa", n);
        pod.metadata.labels = serde_json::from_value(labels).unwrap();
        cluster.pods.push(Arc::new(pod));
    }
    let of = |selector: Value| members(json!({ "selector": selector }), &cluster);
    let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    assert_eq!(of(json!({"matchLabels": {"app": "web"}})), ["x-aa-1", "x-aa-2"]);
    assert_eq!(of(json!({"matchLabels": {"app": "web", "tier": "front"}})), ["x-aa-1"]);
    assert_eq!(of(expression("app", "In", json!(["db", "cache"]))), ["x-aa-3"]);
    assert_eq!(of(expression("tier", "NotIn", json!(["front"]))), ["x-aa-2", "x-aa-3"]);
    assert_eq!(of(expression("tier", "Exists", json!(null))), ["x-aa-1"]);
    assert_eq!(of(expression("tier", "DoesNotExist", json!([]))), ["x-aa-2", "x-aa-3"]);
}

#[test]
fn a_service_gives_pods_and_port() {
    let mut cluster = cluster();
    let ports = json!([
        {"port": 80, "targetPort": "web"}, {"port": 80, "protocol": "UDP", "targetPort": "dns"},
        {"port": 81, "targetPort": 9090}, {"port": 82},
    ]);
    let service =
        json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}});
    cluster.services.push(Arc::new(serde_json::from_value(service).unwrap()));
    let port_of = |protocol: &str, port: i32, target_port: Value| {
        let resolved = good(
            json!({
                "className": "public", "target": {"service": {"name": "web"}},
                "listeners": [{"name": "a", "protocol": protocol, "port": port, "targetPort": target_port}],
            }),
            &cluster,
        );
        let group = resolved.desired.groups.into_values().next().unwrap();
        assert_eq!(group.replicas, None);
        assert_eq!(group.targets.len(), 2);
        group.targets.into_keys().next().unwrap().port
    };
    assert_eq!(port_of("TCP", 80, json!(null)), 8080);
    assert_eq!(port_of("UDP", 80, json!(null)), 5353);
    assert_eq!(port_of("TCP", 81, json!(null)), 9090);
    assert_eq!(port_of("TCP", 82, json!(null)), 82);
    assert_eq!(port_of("TCP", 83, json!("web")), 8080, "the listener's own wins");
}

#[test]
fn a_named_port_is_looked_up_in_each_pod() {
    let mut cluster = cluster();
    let mut sidecar = deployment_pod("shop", "web", "aa", 3);
    let spec = sidecar.spec.as_mut().unwrap();
    let mut container = spec.containers[0].clone();
    container.ports.as_mut().unwrap()[0].container_port = 9999;
    container.restart_policy = Some("Always".into());
    spec.init_containers = Some(vec![container]);
    spec.containers[0].ports = None;
    let mut init_only = sidecar.clone();
    init_only.metadata.name = Some("init-only".into());
    init_only.metadata.uid = Some("uid-4".into());
    init_only.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].restart_policy = None;
    let mut wrong_protocol = deployment_pod("shop", "web", "aa", 5);
    wrong_protocol.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
    for pod in [sidecar, init_only, wrong_protocol] {
        cluster.pods.push(Arc::new(pod));
    }
    let resolved = good(base(), &cluster);
    let group = &resolved.desired.groups.iter().find(|(id, _)| id.listener == "a").unwrap().1;
    let ports: Vec<_> = group.targets.keys().map(|t| (t.uid.as_str(), t.port)).collect();
    assert_eq!(ports, [("uid-1", 8080), ("uid-2", 8080), ("uid-3", 9999)]);
    assert_eq!(names(&resolved.portless), ["init-only", "web-aa-5"]);
    // They are targets all the same: their gates stay closed, rather than that they count as not targeted.
    let groups = &resolved.gate_pods["uid-4"].groups;
    let of = |l: &str| groups.iter().find(|(g, _)| g.listener == l).unwrap().1.is_some();
    assert_eq!((of("a"), of("b")), (false, true));
}

#[test]
fn no_pods_at_all_is_no_missing_port() {
    let cluster = MemoryCluster { pods: Vec::new(), ..cluster() };
    let resolved = good(base(), &cluster);
    assert_eq!(pods_of(&resolved, "a/default/deployment.web"), Vec::<String>::new());
    assert!(resolved.gate_pods.is_empty());
}

#[test]
fn a_pods_state_is_that_of_its_containers() {
    let mut cluster = cluster();
    let pod = |n| deployment_pod("shop", "web", "aa", n);
    let mut no_condition = pod(4);
    no_condition.status.as_mut().unwrap().conditions = None;
    let mut ready_only = pod(5);
    ready_only.status.as_mut().unwrap().conditions = Some(vec![condition("Ready", true)]);
    let mut no_address = pod(6);
    no_address.status.as_mut().unwrap().pod_ip = None;
    let mut ended = pod(7);
    ended.status.as_mut().unwrap().phase = Some("Failed".into());
    let mut host = pod(8);
    host.spec.as_mut().unwrap().host_network = Some(true);
    let more = [terminating(with_ready(pod(3), true)), no_condition, ready_only, no_address, ended, host];
    cluster.pods[1] = Arc::new(with_ready(pod(2), false));
    cluster.pods.extend(more.map(Arc::new));
    let resolved = good(base(), &cluster);
    let group = &resolved.desired.groups.iter().find(|(id, _)| id.listener == "a").unwrap().1;
    let states: Vec<_> = group.targets.iter().map(|(id, t)| (id.uid.as_str(), t.state)).collect();
    use TargetState::{NotReady, Serving, Terminating};
    assert_eq!(
        states,
        [
            ("uid-1", Serving),
            ("uid-2", NotReady),
            ("uid-3", Terminating),
            ("uid-4", NotReady),
            ("uid-5", NotReady),
            ("uid-8", Serving),
        ]
    );
    assert_eq!(group.replicas, Some(2));
    let gated: Vec<_> = resolved.gate_pods.keys().map(String::as_str).collect();
    assert_eq!(gated, ["uid-1", "uid-2", "uid-3", "uid-4", "uid-5", "uid-6", "uid-8"]);
    assert!(resolved.gate_pods["uid-6"].groups.values().all(Option::is_none), "no address yet");
}

#[test]
fn gates_are_read_from_the_pod() {
    let mut cluster = cluster();
    let pod = |n| deployment_pod("shop", "web", "aa", n);
    let mut condition_only = pod(4);
    condition_only.status.as_mut().unwrap().conditions.as_mut().unwrap().push(condition("gate.directlb.io/lb", true));
    let more =
        [with_gate(pod(3), "lb", true), condition_only, with_gate(pod(5), "other", true), with_ready(pod(6), false)];
    cluster.pods[1] = Arc::new(with_gate(pod(2), "lb", false));
    cluster.pods.extend(more.map(Arc::new));
    let mut spec = base();
    let resolved = good(spec.clone(), &cluster);
    let group = &resolved.desired.groups.iter().find(|(id, _)| id.listener == "a").unwrap().1;
    let open: Vec<_> = group.targets.iter().filter(|(_, t)| t.gate_open).map(|(id, _)| id.uid.as_str()).collect();
    assert_eq!(open, ["uid-3"]);
    assert_eq!(names(&resolved.ungated), ["web-aa-1", "web-aa-4", "web-aa-5"], "6 should not serve yet");
    spec["readinessGate"] = json!("Disabled");
    assert!(good(spec, &cluster).ungated.is_empty());
}
