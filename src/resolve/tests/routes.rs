//! Rules: order, identity, weights; and the fields that are only copied.

use super::*;
use crate::{
    api::{ProxyProtocol, Scheduler, TargetProtocol},
    model::{AccessLog, Affinity},
};

fn rules(rules: Value) -> Resolved {
    let mut spec = base();
    spec["listeners"][0]["rules"] = rules;
    good(spec, &cluster())
}

#[test]
fn a_redirect_takes_the_place_of_targets() {
    let mut spec = base();
    spec["listeners"][1] = json!({"name": "b", "protocol": "HTTP", "port": 81});
    spec["listeners"][0]["redirect"] = json!({"listener": "b", "statusCode": 302});
    let to_b = |status| crate::model::Redirect { listener: "b".into(), port: 81, https: false, status };
    let resolved = good(spec.clone(), &cluster());
    let routes = &resolved.desired.listeners["a"].routes;
    assert_eq!((&routes.redirect, routes.default.len()), (&Some(to_b(302)), 0), "the object's target is not its own");
    assert!(resolved.desired.groups.keys().all(|id| id.listener == "b"));
    // Of a rule, with the usual status; the default keeps its targets.
    spec["listeners"][0].as_object_mut().unwrap().remove("redirect");
    spec["listeners"][0]["rules"] = json!([{"path": "/old", "redirect": {"listener": "b"}}]);
    let resolved = good(spec, &cluster());
    let routes = &resolved.desired.listeners["a"].routes;
    assert_eq!((&routes.rules[0].redirect, routes.rules[0].groups.len()), (&Some(to_b(301)), 0));
    assert_eq!((&routes.redirect, routes.default.len()), (&None, 1));
}

#[test]
fn the_most_specific_rule_comes_first() {
    let web = json!({"workload": {"kind": "Deployment", "name": "web"}});
    let given = [
        ("*", "/", "Prefix"),
        ("*", "/long/path", "Prefix"),
        ("*.example.com", "/", "Prefix"),
        ("*.shop.example.com", "/", "Prefix"),
        ("shop.example.com", "/", "Prefix"),
        ("shop.example.com", "/cart", "Prefix"),
        ("shop.example.com", "/cart", "Exact"),
        ("shop.example.com", "/a", "Exact"),
        ("a.example.com", "/", "Prefix"),
    ];
    let order = |given: &[(&str, &str, &str)]| -> Vec<String> {
        let all = given.iter().map(|(h, p, t)| json!({"host": h, "path": p, "pathType": t, "target": web}));
        let resolved = rules(all.collect());
        let routes = &resolved.desired.listeners["a"].routes;
        routes.rules.iter().map(|r| format!("{}{}{}", r.host, r.path, if r.exact { "!" } else { "" })).collect()
    };
    let expected = [
        "a.example.com/",
        "shop.example.com/cart!",
        "shop.example.com/a!",
        "shop.example.com/cart",
        "shop.example.com/",
        "*.shop.example.com/",
        "*.example.com/",
        "*/long/path",
        "*/",
    ];
    assert_eq!(order(&given), expected);
    let mut backwards = given;
    backwards.reverse();
    assert_eq!(order(&backwards), expected);
}

#[test]
fn a_group_is_known_by_what_it_is_for() {
    let mut cluster = cluster();
    cluster.workloads.push(("shop".into(), WorkloadKind::StatefulSet, "web".into(), Workload::default()));
    let ids =
        |spec: Value| -> Vec<String> { good(spec, &cluster).desired.groups.keys().map(ToString::to_string).collect() };
    let mut spec = base();
    assert_eq!(ids(spec.clone()), ["a/default/deployment.web", "b/default/deployment.web"]);
    let before = {
        spec["listeners"][0]["rules"] =
            json!([{"path": "/cart", "target": {"workload": {"kind": "StatefulSet", "name": "web"}}}]);
        ids(spec.clone())
    };
    let hash = &crate::model::short_hash("*|Prefix|/cart")[..8];
    assert_eq!(before[1], format!("a/{hash}/statefulset.web"));
    // Editing ports, weights and policies keeps the groups.
    spec["listeners"][0]["rules"][0]["targetPort"] = json!(9);
    spec["listeners"][0]["rules"][0]["healthCheck"] = json!({"type": "None"});
    spec["listeners"][0]["scheduler"] = json!("LeastRequest");
    spec["listeners"][0]["port"] = json!(8000);
    assert_eq!(ids(spec), before);
}

#[test]
fn equal_selectors_are_one_group_in_whatever_order_they_are_written() {
    let expressions = |swap: bool| {
        let mut all = vec![
            json!({"key": "app", "operator": "In", "values": if swap { ["x", "web"] } else { ["web", "x"] }}),
            json!({"key": "app", "operator": "Exists"}),
        ];
        if swap {
            all.reverse();
        }
        json!({"selector": {"matchExpressions": all}})
    };
    let mut spec = base();
    let with = |mut target: Value, weight: i32| {
        target["weight"] = json!(weight);
        target
    };
    spec.as_object_mut().unwrap().remove("target");
    spec["targets"] = json!([with(expressions(false), 3), with(expressions(true), 4)]);
    let resolved = good(spec, &cluster());
    let default = &resolved.desired.listeners["a"].routes.default;
    assert_eq!(default.len(), 1);
    assert_eq!(default[0].weight, 7);
    assert_eq!(default[0].group.target.len(), "selector.".len() + 8);
    assert_eq!(resolved.desired.groups[&default[0].group].targets.len(), 2);
}

#[test]
fn weights_are_kept_and_0_is_a_weight() {
    let mut cluster = cluster();
    cluster.workloads.push(("shop".into(), WorkloadKind::Deployment, "canary".into(), Workload::default()));
    let mut spec = base();
    spec.as_object_mut().unwrap().remove("target");
    let target = |name: &str, weight: i32| json!({"workload": {"kind": "Deployment", "name": name}, "weight": weight});
    spec["targets"] = json!([target("web", 99), target("canary", 0)]);
    let resolved = good(spec, &cluster);
    let shares: Vec<_> =
        resolved.desired.listeners["b"].routes.default.iter().map(|w| (w.group.target.as_str(), w.weight)).collect();
    assert_eq!(shares, [("deployment.web", 99), ("deployment.canary", 0)]);
}

#[test]
fn a_listeners_own_target_replaces_the_objects() {
    let mut cluster = cluster();
    cluster.workloads.push(("shop".into(), WorkloadKind::Deployment, "other".into(), Workload::default()));
    let mut spec = base();
    spec["listeners"][1]["target"] = json!({"workload": {"kind": "Deployment", "name": "other"}});
    let resolved = good(spec, &cluster);
    let ids: Vec<_> = resolved.desired.groups.keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["a/default/deployment.web", "b/default/deployment.other"]);
}

#[test]
fn the_other_fields_are_copied() {
    let mut spec = base();
    let fields = json!({
        "scheduler": "LeastRequest", "targetProtocol": "HTTP2", "slowStart": "30s", "proxyProtocol": "V2", "accessLog": true,
        "sessionAffinity": {"type": "Cookie", "ttl": "1h"},
    });
    spec["listeners"][0].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec["listeners"][1]["sessionAffinity"] = json!({"type": "SourceAddress"});
    let resolved = good(spec, &cluster());
    let (a, b) = (&resolved.desired.listeners["a"], &resolved.desired.listeners["b"]);
    let cookie = Affinity::Cookie { name: "directlb".into(), ttl: Some(std::time::Duration::from_secs(3600)) };
    assert_eq!((a.affinity.clone(), a.access_log), (Some(cookie.clone()), AccessLog::Stdout));
    assert_eq!((b.affinity.clone(), b.access_log), (Some(Affinity::SourceAddress), AccessLog::Off));
    let group = &resolved.desired.groups[&a.routes.default[0].group];
    assert_eq!(group.scheduler, Scheduler::LeastRequest);
    assert_eq!(group.target_protocol, TargetProtocol::HTTP2);
    assert_eq!(group.slow_start, Some(std::time::Duration::from_secs(30)));
    assert_eq!(group.proxy_protocol, Some(ProxyProtocol::V2));
    assert_eq!(group.affinity, Some(cookie));
}
