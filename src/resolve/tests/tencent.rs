//! What a Tencent CLB does not take is said, by field, value and what is allowed; the other listener goes on.

use super::*;
use crate::{
    api::{SecretRef, TencentClass},
    model::Tls,
};

fn clb() -> MemoryCluster {
    let mut class = class("public");
    class.spec.envoy = None;
    class.spec.tencent = Some(TencentClass {
        region: "ap-guangzhou".into(),
        vpc_id: "vpc-1a2b3c4d".into(),
        credentials_secret_ref: SecretRef { name: "tencent".into() },
        adoptable_load_balancers: vec!["lb-ours0001".into()],
        ..TencentClass::default()
    });
    cluster().class(class)
}

/// Listener `a` (HTTP) or `b` (TCP) with these fields changed.
fn with(index: usize, fields: Value) -> Value {
    let mut spec = base();
    for (key, value) in fields.as_object().unwrap() {
        spec["listeners"][index][key] = value.clone();
    }
    spec
}

#[test]
fn what_a_listener_may_not_ask_for() {
    let check = |fields: Value| json!({"healthCheck": fields});
    let long = "x".repeat(60);
    let host = format!("{long}.{long}.example");
    let web = json!({"workload": {"kind": "Deployment", "name": "web"}});
    let cases = [
        (
            0,
            check(json!({"interval": "1s"})),
            "healthCheck.interval",
            "\"1s\" is out of a Tencent CLB's range: whole seconds from 2s to 300s",
        ),
        (0, check(json!({"interval": "2500ms"})), "healthCheck.interval", "whole seconds"),
        (1, check(json!({"timeout": "1s"})), "healthCheck.timeout", "from 2s to 60s"),
        (
            1,
            check(json!({"interval": "5s", "timeout": "5s"})),
            "healthCheck.timeout",
            "\"5s\" must be less than the interval \"5s\"",
        ),
        (
            1,
            check(json!({"healthyThreshold": 1})),
            "healthCheck.healthyThreshold",
            "1 is out of a Tencent CLB's range: 2 to 10",
        ),
        (1, check(json!({"unhealthyThreshold": 1})), "healthCheck.unhealthyThreshold", "2 to 10"),
        (0, check(json!({"port": 9000})), "healthCheck.port", "for TCP and UDP alone"),
        (1, check(json!({"type": "GRPC"})), "healthCheck.type", "HTTPS"),
        (1, json!({"scheduler": "SourceHash"}), "scheduler", "sessionAffinity"),
        (0, json!({"slowStart": "10s"}), "slowStart", "no slow start"),
        (1, json!({"proxyProtocol": "V2"}), "proxyProtocol", "not offered"),
        (0, json!({"accessLog": true}), "accessLog", "CLS"),
        (0, json!({"targetProtocol": "HTTP2"}), "targetProtocol", "HTTPS"),
        (0, json!({"sessionAffinity": {"type": "SourceAddress"}}), "sessionAffinity.type", "SourceHash"),
        (0, json!({"sessionAffinity": {"type": "Cookie", "ttl": "5s"}}), "sessionAffinity.ttl", "30s to 1day"),
        (0, json!({"rules": [{"host": host, "target": web}]}), "rules[0].host", "80"),
        (0, json!({"rules": [{"path": format!("/{}", "x".repeat(200)), "target": web}]}), "rules[0].path", "198"),
        (1, json!({"protocol": "UDP", "healthCheck": {"type": "TCP"}}), "healthCheck", "type None"),
    ];
    for (index, fields, field, text) in cases {
        let resolved = fresh(with(index, fields), &clb());
        let (bad, other) = [("a", "b"), ("b", "a")][index];
        says(&resolved, Some(bad), Reason::Invalid, &[&format!("spec.listeners[{index}].{field}"), text]);
        assert_eq!(names(resolved.desired.listeners.keys()), [other], "{field}");
    }
}

#[test]
fn checks_that_give_no_numbers_get_those_that_fit() {
    let resolved = good(base(), &clb());
    for group in resolved.desired.groups.values() {
        let check = &group.health_check;
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs()), (3, 2));
    }
    // One of the two given: the other gives way, as far as it can.
    let resolved = good(with(1, json!({"healthCheck": {"interval": "10s"}})), &clb());
    let check = &resolved.desired.groups.iter().find(|(id, _)| id.listener == "b").unwrap().1.health_check;
    assert_eq!((check.interval.as_secs(), check.timeout.as_secs()), (10, 2));
}

#[test]
fn what_the_object_as_a_whole_may_not_ask_for() {
    let spec = |load_balancer: Value| {
        let mut spec = base();
        spec["loadBalancer"] = load_balancer;
        spec
    };
    let resolved = fresh(spec(json!({"id": "lb-theirs01"})), &clb());
    let parts = ["spec.loadBalancer.id", "lb-theirs01", "allows lb-ours0001"];
    says(&resolved, None, Reason::AdoptionNotAllowed, &parts);
    assert_eq!(good(spec(json!({"id": "lb-ours0001"})), &clb()).desired.listeners.len(), 2);
    let resolved = fresh(spec(json!({"scheme": "Internal"})), &clb());
    says(&resolved, None, Reason::Invalid, &["spec.loadBalancer.scheme", "subnetId"]);
    // On proxies neither means anything.
    let resolved = fresh(spec(json!({"id": "lb-ours0001"})), &cluster());
    says(&resolved, None, Reason::Invalid, &["spec.loadBalancer.id", "no cloud's"]);
    let resolved = fresh(spec(json!({"scheme": "Internal"})), &cluster());
    says(&resolved, None, Reason::Invalid, &["spec.loadBalancer.scheme"]);
}

#[test]
fn a_certificate_by_its_id_is_a_clouds() {
    let tls = || with(1, json!({"protocol": "TLS", "tls": {"certificateId": "abcd1234"}}));
    let resolved = good(tls(), &clb());
    assert_eq!(resolved.desired.listeners["b"].tls, Some(Tls::Stored("abcd1234".into())));
    let resolved = fresh(tls(), &cluster());
    says(&resolved, Some("b"), Reason::Invalid, &["spec.listeners[1].tls.certificateId", "abcd1234", "secretNames"]);
    let both = with(1, json!({"protocol": "TLS", "tls": {"certificateId": "abcd1234", "secretNames": ["x"]}}));
    says(&fresh(both, &clb()), Some("b"), Reason::Invalid, &["spec.listeners[1].tls.certificateId", "one of them"]);
}

#[test]
fn quic_ends_at_the_load_balancer() {
    let tls = json!({"certificateId": "abcd1234"});
    let resolved = good(with(1, json!({"protocol": "QUIC", "tls": tls})), &clb());
    assert_eq!(resolved.desired.listeners["b"].protocol, crate::api::Protocol::QUIC);
    // Its targets speak TCP, and are checked so.
    let (_, group) = resolved.desired.groups.iter().find(|(id, _)| id.listener == "b").unwrap();
    assert_eq!(group.health_check.probe, crate::model::HealthProbe::Tcp);
    for (fields, field) in [
        (json!({"sessionAffinity": {"type": "SourceAddress"}}), "sessionAffinity.type"),
        (json!({"healthCheck": {"port": 9000}}), "healthCheck.port"),
    ] {
        let mut spec = with(1, json!({"protocol": "QUIC", "tls": tls}));
        spec["listeners"][1].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        says(&fresh(spec, &clb()), Some("b"), Reason::Invalid, &[&format!("spec.listeners[1].{field}"), "TCP"]);
    }
}

#[test]
fn a_pod_on_several_networks_is_reached_by_its_address_of_the_vpc() {
    let status = r#"[{"name": "tke-bridge", "ips": ["10.0.0.2"], "default": true},
        {"name": "tke-route-eni", "ips": ["10.1.0.2"]}]"#;
    let on_both = |mut cluster: MemoryCluster| {
        let mut pod = deployment_pod("shop", "web", "aa", 2);
        pod.metadata.annotations = Some([(NETWORKS_STATUS.to_owned(), status.to_owned())].into());
        cluster.pods[1] = std::sync::Arc::new(pod);
        cluster
    };
    let addresses = |resolved: &Resolved| -> Vec<String> {
        let (_, group) = resolved.desired.groups.iter().find(|(id, _)| id.listener == "b").unwrap();
        group.targets.keys().map(|t| t.ip.to_string()).collect()
    };
    let before = good(base(), &on_both(clb()));
    assert_eq!(addresses(&before), ["10.0.0.1", "10.1.0.2"]);
    assert_eq!(addresses(&good(base(), &on_both(cluster()))), ["10.0.0.1", "10.0.0.2"], "proxies are in the cluster");
    // Not a target any more, it is drained: it is still there.
    let mut cluster = on_both(clb());
    let mut pod = (*cluster.pods[1]).clone();
    pod.metadata.labels.as_mut().unwrap().insert("app".into(), "other".into());
    pod.metadata.owner_references = None;
    cluster.pods[1] = std::sync::Arc::new(pod);
    let resolved = Given::after(&before).resolve(&object(base()), &cluster);
    let (target, why) = resolved.desired.departed.iter().next().unwrap();
    assert_eq!((target.ip.to_string().as_str(), *why), ("10.1.0.2", crate::model::Departed::Unselected));
}

#[test]
fn a_class_has_one_provider() {
    for (envoy, tencent) in [(false, false), (true, true)] {
        let mut both = class("public");
        both.spec.envoy = envoy.then(EnvoyClass::default);
        both.spec.tencent = tencent.then(TencentClass::default);
        let resolved = fresh(base(), &cluster().class(both));
        says(&resolved, None, Reason::Invalid, &["class public has", "one of them"]);
    }
}
