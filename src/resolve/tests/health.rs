//! Health checks: whose, which kind, which port; and how long Pods drain.

use std::time::Duration;

use super::*;
use crate::model::{HealthCheck, HealthProbe};

fn with_default(health_check: Value) -> MemoryCluster {
    let mut class = class("public");
    class.spec.defaults = serde_json::from_value(json!({ "healthCheck": health_check })).unwrap();
    MemoryCluster { classes: vec![Arc::new(class)], ..cluster() }
}

fn check(protocol: &str, own: Value, cluster: &MemoryCluster) -> HealthCheck {
    let target_port = if protocol == "UDP" { "dns" } else { "web" };
    let spec = json!({
        "className": "public", "target": {"workload": {"kind": "Deployment", "name": "web"}},
        "listeners": [{"name": "a", "protocol": protocol, "port": 80, "targetPort": target_port, "healthCheck": own}],
    });
    good(spec, cluster).desired.groups.into_values().next().unwrap().health_check
}

#[test]
fn the_kind_is_inferred() {
    let cluster = cluster();
    let http = |path: &str, host: Option<&str>| HealthProbe::Http { path: path.into(), host: host.map(Into::into) };
    for (protocol, own, expected) in [
        ("TCP", json!(null), HealthProbe::Tcp),
        ("HTTP", json!(null), HealthProbe::Tcp),
        ("UDP", json!(null), HealthProbe::None),
        ("UDP", json!({}), HealthProbe::None),
        ("UDP", json!({"type": "TCP", "port": 8080}), HealthProbe::Tcp),
        ("TCP", json!({}), HealthProbe::Tcp),
        ("TCP", json!({"type": "None"}), HealthProbe::None),
        ("HTTP", json!({"path": "/up", "host": "shop"}), http("/up", Some("shop"))),
        ("HTTP", json!({"type": "HTTP"}), http("/", None)),
        ("HTTP", json!({"type": "GRPC"}), HealthProbe::Grpc { service: String::new() }),
        ("HTTP", json!({"type": "GRPC", "service": "cart"}), HealthProbe::Grpc { service: "cart".into() }),
    ] {
        assert_eq!(check(protocol, own.clone(), &cluster).probe, expected, "{protocol} {own}");
    }
}

#[test]
fn the_class_default_serves_all_but_udp() {
    let cluster = with_default(json!({"path": "/class", "interval": "7s"}));
    assert_eq!(check("HTTP", json!(null), &cluster).probe, HealthProbe::Http { path: "/class".into(), host: None });
    assert_eq!(check("TCP", json!(null), &cluster).interval, Duration::from_secs(7));
    assert_eq!(check("UDP", json!(null), &cluster).probe, HealthProbe::None, "nothing answers a TCP check there");
    let own = check("TCP", json!({}), &cluster);
    assert_eq!((own.probe, own.interval), (HealthProbe::Tcp, Duration::from_secs(2)), "own wins as a whole");
}

#[test]
fn a_class_default_that_is_bad_is_said() {
    let cluster = with_default(json!({"interval": "1s", "timeout": "2s", "healthyThreshold": 99}));
    let resolved = fresh(base(), &cluster);
    let parts =
        ["spec.listeners[0].healthCheck", "class", "spec.defaults.healthCheck.timeout", "\"2s\"", "99", "from 1 to 10"];
    says(&resolved, Some("a"), Reason::Invalid, &parts);
}

#[test]
fn a_rule_has_its_own_check_or_the_listeners() {
    let mut spec = base();
    let web = json!({"workload": {"kind": "Deployment", "name": "web"}});
    spec["listeners"][0]["healthCheck"] = json!({"path": "/listener"});
    spec["listeners"][0]["rules"] = json!([
        {"path": "/own", "target": web, "healthCheck": {"path": "/rule"}},
        {"path": "/inherits", "target": web, "targetPort": 8081},
    ]);
    let resolved = good(spec, &cluster());
    let of_path = |path: &str| {
        let rule = resolved.desired.listeners["a"].routes.rules.iter().find(|r| r.path == path).unwrap();
        let group = &resolved.desired.groups[&rule.groups[0].group];
        (group.health_check.probe.describe(), group.targets.keys().next().unwrap().port)
    };
    assert_eq!(of_path("/own"), ("HTTP GET /rule".into(), 8080));
    assert_eq!(of_path("/inherits"), ("HTTP GET /listener".into(), 8081));
}

#[test]
fn a_check_goes_to_another_port_by_number_or_by_name() {
    let mut cluster = cluster();
    let mut other = deployment_pod("shop", "web", "aa", 3);
    other.spec.as_mut().unwrap().containers[0].ports.as_mut().unwrap()[0].container_port = 9090;
    cluster.pods.push(Arc::new(other));
    let group = |port: Value| {
        let mut spec = base();
        spec["listeners"][1]["healthCheck"] = json!({ "port": port });
        let resolved = good(spec, &cluster);
        resolved.desired.groups.into_iter().find(|(id, _)| id.listener == "b").unwrap().1
    };
    let by_number = group(json!(9000));
    assert_eq!(by_number.health_check.port, Some(9000));
    assert!(by_number.targets.values().all(|t| t.health_port.is_none()));
    let by_name = group(json!("web"));
    assert_eq!(by_name.health_check.port, None);
    let ports: Vec<_> = by_name.targets.iter().map(|(id, t)| (id.port, t.health_port)).collect();
    assert_eq!(ports, [(8080, None), (8080, None), (8080, Some(9090))], "none of its own where they are the same");
}

#[test]
fn drain_is_the_objects_then_the_classs_then_30s() {
    let drain = |own: Value, class_default: Value, previous: Option<&str>| {
        let mut class = class("public");
        class.spec.defaults = serde_json::from_value(json!({ "drain": class_default })).unwrap();
        let cluster = MemoryCluster { classes: vec![Arc::new(class)], ..cluster() };
        let mut spec = base();
        let previous = previous.map(|timeout| {
            spec["drain"] = json!({ "timeout": timeout });
            serde_json::from_value(spec.clone()).unwrap()
        });
        spec["drain"] = own;
        Given { previous, ..Given::default() }.resolve(&object(spec), &cluster).desired.drain_timeout.as_secs()
    };
    assert_eq!(drain(json!(null), json!(null), None), 30);
    assert_eq!(drain(json!(null), json!({"timeout": "1m"}), None), 60);
    assert_eq!(drain(json!({"timeout": "5s"}), json!({"timeout": "1m"}), None), 5);
    assert_eq!(drain(json!({"timeout": "0s"}), json!({"timeout": "1m"}), None), 0);
    assert_eq!(drain(json!({"timeout": "2h"}), json!(null), Some("90s")), 90, "as before, since the new one is bad");
    assert_eq!(drain(json!({"timeout": "2h"}), json!({"timeout": "1m"}), None), 60);
    assert_eq!(drain(json!(null), json!({"timeout": "soon"}), None), 30);
}
