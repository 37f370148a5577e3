//! Every kind of bad input, with admission off: the sentence, and that nothing else is harmed.

use super::*;

/// One bad input.
struct Case {
    what: &'static str,
    spec: Value,
    /// The listener to blame; `None`: the whole object.
    listener: Option<&'static str>,
    reason: Reason,
    /// Field, value, and what is allowed.
    says: &'static [&'static str],
    /// The listeners of [`base`] that go on as the new spec says.
    go_on: &'static [&'static str],
}

fn change(pointer: &str, value: Value) -> Value {
    let mut spec = base();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[key] = value;
    spec
}

/// Listener `a` with these fields changed.
fn a(fields: Value) -> Value {
    let mut spec = base();
    for (key, value) in fields.as_object().unwrap() {
        spec["listeners"][0][key] = value.clone();
    }
    spec
}

fn more(listener: Value) -> Value {
    let mut spec = base();
    spec["listeners"].as_array_mut().unwrap().push(listener);
    spec
}

fn rule(fields: Value) -> Value {
    let mut rule = json!({"host": "shop.example.com", "path": "/cart", "target": {"service": {"name": "cart"}}});
    rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    rule
}

fn many_listeners() -> Value {
    let mut spec = base();
    let all = (0..62).map(|i| json!({"name": format!("l{i}"), "protocol": "TCP", "port": 1000 + i}));
    spec["listeners"].as_array_mut().unwrap().extend(all);
    spec
}

fn cases() -> Vec<Case> {
    use Reason::{Invalid, PortNotFound, ReferenceNotFound};
    let case = |what, spec, listener, reason, says, go_on| Case { what, spec, listener, reason, says, go_on };
    let listener_a = |what, spec, reason, says| case(what, spec, Some("a"), reason, says, &["b"][..]);
    let whole = |what, spec, reason, says| case(what, spec, None, reason, says, &[][..]);
    let web = json!({"workload": {"kind": "Deployment", "name": "web"}});
    vec![
        listener_a(
            "duplicate listener name",
            more(json!({"name": "a", "protocol": "TCP", "port": 90})),
            Invalid,
            &["spec.listeners[2].name", "\"a\"", "must be unique"],
        ),
        case(
            "the same port and protocol twice",
            more(json!({"name": "c", "protocol": "HTTP", "port": 81})),
            Some("c"),
            Invalid,
            &["spec.listeners[2].port", "81 over TCP", "spec.listeners[1]", "may be used once"],
            &["a", "b"],
        ),
        listener_a("port 0", a(json!({"port": 0})), Invalid, &["spec.listeners[0].port: 0 ", "from 1 to 65535"]),
        listener_a(
            "port 70000",
            a(json!({"port": 70000})),
            Invalid,
            &["spec.listeners[0].port: 70000", "from 1 to 65535"],
        ),
        listener_a(
            "target port 70000",
            a(json!({"targetPort": 70000})),
            Invalid,
            &["spec.listeners[0].targetPort", "70000", "from 1 to 65535"],
        ),
        listener_a(
            "rules on TCP",
            a(json!({"protocol": "TCP", "rules": [rule(json!({}))]})),
            Invalid,
            &["spec.listeners[0].rules", "protocol TCP", "HTTP or HTTPS"],
        ),
        listener_a(
            "two targets for UDP",
            a(json!({"protocol": "UDP", "targets": [
                {"weight": 1, "selector": {"matchLabels": {"app": "web"}}},
                {"weight": 1, "selector": {"matchLabels": {"app": "api"}}}]})),
            Invalid,
            &["spec.listeners[0].targets", "2 targets have a weight above 0", "UDP listener sends to one"],
        ),
        listener_a(
            "redirect to a listener that is not there",
            a(json!({"redirect": {"listener": "c"}})),
            Invalid,
            &["spec.listeners[0].redirect.listener", "\"c\" is no listener of this object", "HTTP or HTTPS"],
        ),
        listener_a(
            "redirect to itself",
            a(json!({"redirect": {"listener": "a"}})),
            Invalid,
            &["spec.listeners[0].redirect.listener", "\"a\" is the listener itself"],
        ),
        listener_a(
            "redirect to a listener of TCP",
            a(json!({"redirect": {"listener": "b"}})),
            Invalid,
            &["spec.listeners[0].redirect.listener", "\"b\" has protocol TCP", "HTTP or HTTPS"],
        ),
        listener_a(
            "redirect of a rule by a status that is none",
            a(json!({"rules": [{"path": "/old", "redirect": {"listener": "b", "statusCode": 200}}]})),
            Invalid,
            &["spec.listeners[0].rules[0].redirect.statusCode", "200", "301, 302 or 307"],
        ),
        listener_a(
            "redirect and target",
            a(json!({"redirect": {"listener": "b"}, "target": web})),
            Invalid,
            &["spec.listeners[0].redirect", "give one of them"],
        ),
        listener_a(
            "rule with redirect and target",
            a(json!({"rules": [rule(json!({"redirect": {"listener": "b"}}))]})),
            Invalid,
            &["spec.listeners[0].rules[0].target", "exactly one of target, targets and redirect"],
        ),
        case(
            "redirect in a circle",
            {
                let mut spec = a(json!({"redirect": {"listener": "c"}}));
                let c = json!({"name": "c", "protocol": "HTTP", "port": 82, "redirect": {"listener": "a"}});
                spec["listeners"].as_array_mut().unwrap().push(c);
                spec
            },
            Some("c"),
            Invalid,
            &["spec.listeners[2].redirect.listener", "\"a\" redirects clients itself"],
            &["b"],
        ),
        listener_a(
            "QUIC on proxies",
            a(json!({"protocol": "QUIC", "tls": {"secretNames": ["tls"]}})),
            Invalid,
            &["spec.listeners[0].protocol", "QUIC needs a class of Tencent"],
        ),
        listener_a(
            "QUIC without certificate",
            a(json!({"protocol": "QUIC"})),
            Invalid,
            &["spec.listeners[0].tls", "protocol QUIC needs it"],
        ),
        case(
            "QUIC and UDP at one port",
            {
                let mut spec = a(json!({"protocol": "QUIC", "tls": {"secretNames": ["tls"]}}));
                let c = json!({"name": "c", "protocol": "UDP", "port": 80});
                spec["listeners"].as_array_mut().unwrap().push(c);
                spec
            },
            Some("c"),
            Invalid,
            &["spec.listeners[2].port", "80 over UDP", "spec.listeners[0]"],
            &["b"],
        ),
        listener_a(
            "host with port",
            a(json!({"rules": [rule(json!({"host": "shop.example.com:8080"}))]})),
            Invalid,
            &["spec.listeners[0].rules[0].host", "\"shop.example.com:8080\"", "without scheme and port"],
        ),
        listener_a(
            "host with scheme",
            a(json!({"rules": [rule(json!({"host": "https://shop.example.com"}))]})),
            Invalid,
            &["spec.listeners[0].rules[0].host", "\"https://shop.example.com\"", "without scheme and port"],
        ),
        listener_a(
            "path without /",
            a(json!({"rules": [rule(json!({"path": "cart"}))]})),
            Invalid,
            &["spec.listeners[0].rules[0].path", "\"cart\"", "must begin with /"],
        ),
        listener_a(
            "two equal rules",
            a(json!({"rules": [rule(json!({})), rule(json!({"target": web}))]})),
            Invalid,
            &["spec.listeners[0].rules[1]", "\"shop.example.com\"", "\"/cart\"", "must differ"],
        ),
        whole(
            "unknown class",
            change("/className", json!("gold")),
            Reason::ClassNotFound,
            &["spec.className", "\"gold\"", "public"],
        ),
        whole(
            "no default class",
            change("/className", json!(null)),
            Reason::NoDefaultClass,
            &["spec.className", "missing", "public"],
        ),
        whole(
            "class not for this namespace",
            change("/className", json!("internal")),
            Reason::NamespaceNotAllowed,
            &["spec.className", "\"internal\"", "namespace shop", "bank", "team=payments"],
        ),
        listener_a(
            "workload missing",
            a(json!({"target": {"workload": {"kind": "StatefulSet", "name": "db"}}})),
            ReferenceNotFound,
            &["spec.listeners[0].target.workload.name", "\"db\"", "StatefulSet of that namespace"],
        ),
        listener_a(
            "workload of a rule missing",
            a(json!({"rules": [rule(json!({"target": {"workload": {"kind": "Deployment", "name": "cart"}}}))]})),
            ReferenceNotFound,
            &["spec.listeners[0].rules[0].target.workload.name", "\"cart\"", "Deployment of that namespace"],
        ),
        listener_a(
            "Service missing",
            a(json!({"targets": [{"service": {"name": "cart"}, "weight": 2}]})),
            ReferenceNotFound,
            &["spec.listeners[0].targets[0].service.name", "\"cart\"", "namespace shop"],
        ),
        listener_a(
            "Service without selector",
            a(json!({"target": {"service": {"name": "bare"}}})),
            Invalid,
            &["spec.listeners[0].target.service.name", "\"bare\"", "with a selector"],
        ),
        listener_a(
            "Service without that port",
            a(json!({"targetPort": null, "port": 82, "target": {"service": {"name": "web"}}})),
            PortNotFound,
            &["spec.listeners[0].targetPort", "82/TCP", "80/TCP, 53/UDP"],
        ),
        listener_a(
            "port name missing",
            a(json!({"targetPort": "grpc"})),
            PortNotFound,
            &["spec.listeners[0].targetPort", "\"grpc\"", "Deployment web", "web", "from 1 to 65535"],
        ),
        listener_a(
            "health-check port name missing",
            a(json!({"healthCheck": {"port": "dns"}})),
            PortNotFound,
            &["spec.listeners[0].healthCheck.port", "\"dns\"", "no TCP port", "web"],
        ),
        listener_a(
            "Secret missing",
            a(json!({"protocol": "HTTPS", "tls": {"secretNames": ["shop-tls"]}})),
            ReferenceNotFound,
            &["spec.listeners[0].tls.secretNames[0]", "\"shop-tls\"", "kubernetes.io/tls"],
        ),
        listener_a(
            "interval shorter than timeout",
            a(json!({"healthCheck": {"interval": "1s", "timeout": "2s"}})),
            Invalid,
            &["spec.listeners[0].healthCheck.timeout", "\"2s\"", "the interval \"1s\"", "at most"],
        ),
        listener_a(
            "a duration in parsecs",
            a(json!({"healthCheck": {"interval": "30 parsecs"}})),
            Invalid,
            &["spec.listeners[0].healthCheck.interval", "\"30 parsecs\"", "500ms, 30s or 1m30s"],
        ),
        listener_a(
            "threshold 0",
            a(json!({"healthCheck": {"healthyThreshold": 0}})),
            Invalid,
            &["spec.listeners[0].healthCheck.healthyThreshold", "0 is", "from 1 to 10"],
        ),
        listener_a(
            "weight below 0",
            a(json!({"targets": [{"workload": {"kind": "Deployment", "name": "web"}, "weight": -1}]})),
            Invalid,
            &["spec.listeners[0].targets[0].weight", "-1", "from 0 to 1000"],
        ),
        case(
            "drain in parsecs",
            change("/drain", json!({"timeout": "30 parsecs"})),
            None,
            Invalid,
            &["spec.drain.timeout", "\"30 parsecs\"", "500ms, 30s or 1m30s"],
            &["a", "b"],
        ),
        whole("64 listeners", many_listeners(), Invalid, &["spec.listeners", "64 items", "from 1 to 50"]),
        whole("no listener", change("/listeners", json!([])), Invalid, &["spec.listeners", "0 items", "from 1 to 50"]),
        whole(
            "address that is none",
            change("/loadBalancer", json!({"address": "192.0.2"})),
            Invalid,
            &["spec.loadBalancer.address", "\"192.0.2\"", "192.0.2.7"],
        ),
        listener_a(
            "selector that selects everything",
            a(json!({"target": {"selector": {}}})),
            Invalid,
            &["spec.listeners[0].target.selector", "{} selects every Pod", "at least one"],
        ),
        listener_a(
            "selector with an unknown operator",
            a(
                json!({"target": {"selector": {"matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]}}}),
            ),
            Invalid,
            &["spec.listeners[0].target.selector.matchExpressions", "\"Near\"", "In, NotIn, Exists or DoesNotExist"],
        ),
        listener_a(
            "selector In nothing",
            a(json!({"target": {"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}}})),
            Invalid,
            &["spec.listeners[0].target.selector.matchExpressions", "In on key \"app\"", "at least one"],
        ),
        listener_a(
            "two kinds of target",
            a(json!({"target": {"service": {"name": "web"}, "selector": {"matchLabels": {"app": "web"}}}})),
            Invalid,
            &["spec.listeners[0].target", "2 of workload, service and selector", "exactly one"],
        ),
        whole_target_case(),
    ]
}

/// A bad `spec.target` harms those listeners that use it; here all of them.
fn whole_target_case() -> Case {
    Case {
        what: "spec.target of no kind",
        spec: change("/target", json!({})),
        listener: None,
        reason: Reason::Invalid,
        says: &["spec.target", "0 of workload, service and selector", "exactly one"],
        go_on: &[],
    }
}

/// The cluster of [`super::cluster`] and what the cases need besides.
fn cluster_for_cases() -> MemoryCluster {
    let mut internal = class("internal");
    internal.spec.allowed_namespaces =
        serde_json::from_value(json!({"names": ["bank"], "selector": {"matchLabels": {"team": "payments"}}})).unwrap();
    let mut cluster = cluster().class(internal);
    cluster.namespaces.push(("shop".into(), [("team".to_string(), "shop".to_string())].into()));
    let service = |name: &str, spec: Value| {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})).unwrap(),
        )
    };
    cluster.services.push(service("bare", json!({"ports": [{"port": 80}]})));
    let ports = json!([{"port": 80, "targetPort": "web"}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]);
    cluster.services.push(service("web", json!({"selector": {"app": "web"}, "ports": ports})));
    cluster
}

#[test]
fn names_field_value_and_what_is_allowed() {
    let cluster = cluster_for_cases();
    for case in cases() {
        println!("case: {}", case.what);
        says(&fresh(case.spec, &cluster), case.listener, case.reason, case.says);
    }
}

#[test]
fn a_new_bad_listener_stays_out_and_the_good_ones_go_in() {
    let cluster = cluster_for_cases();
    for case in cases() {
        let resolved = fresh(case.spec, &cluster);
        assert_eq!(names(resolved.desired.listeners.keys()), case.go_on, "{}", case.what);
        assert!(resolved.desired.keep.is_empty(), "{}: nothing is in force that could be kept", case.what);
        let accepted: Vec<_> =
            resolved.accepted.iter().flat_map(|s| s.listeners.iter().map(|l| l.name.as_str())).collect();
        assert_eq!(accepted, case.go_on, "{}", case.what);
    }
}

#[test]
fn a_bad_listener_in_force_is_frozen_if_nothing_else_is_known() {
    let cluster = cluster_for_cases();
    let before = good(base(), &cluster);
    for case in cases() {
        let given = Given { previous: None, ..Given::after(&before) };
        let resolved = given.resolve(&object(case.spec.clone()), &cluster);
        let desired = &resolved.desired;
        let stays: Vec<&str> = ["a", "b"].into_iter().filter(|l| !case.go_on.contains(l)).collect();
        assert_eq!(names(&desired.keep), stays, "{}", case.what);
        assert_eq!(names(desired.listeners.keys()), case.go_on, "{}", case.what);
        assert!(desired.groups.keys().all(|g| case.go_on.contains(&g.listener.as_str())), "{}", case.what);
        // The gates of the frozen listeners' Pods still know where they belong.
        let groups = |r: &Resolved| {
            let of_a = |g: &&GroupId| g.listener == "a" && g.rule.is_none();
            r.gate_pods.values().map(|p| p.groups.keys().filter(of_a).count()).sum::<usize>()
        };
        assert_eq!(groups(&resolved), 2, "{}", case.what);
    }
}

#[test]
fn a_bad_listener_in_force_goes_on_as_it_was_accepted_before() {
    let cluster = cluster_for_cases();
    let before = good(base(), &cluster);
    for case in cases() {
        let object = object(case.spec);
        let mut given = Given::after(&before);
        // That the class changed is another error than that it went away; here it went away.
        given.previous.as_mut().unwrap().class_name = object.spec.class_name.clone();
        let resolved = given.resolve(&object, &cluster);
        let desired = &resolved.desired;
        assert!(desired.keep.is_empty(), "{}: {:?}", case.what, desired.keep);
        assert_eq!(names(desired.listeners.keys()), ["a", "b"], "{}", case.what);
        assert_eq!(desired.listeners["b"].routes, before.desired.listeners["b"].routes, "{}", case.what);
        if !case.go_on.contains(&"a") {
            assert_eq!(desired.listeners["a"], before.desired.listeners["a"], "{}", case.what);
        }
        assert_eq!(desired.departed, BTreeMap::new(), "{}", case.what);
        says(&resolved, case.listener, case.reason, case.says);
        // And once more, with what was accepted now: nothing moves.
        let again = Given::after(&resolved).resolve(&object, &cluster);
        assert_eq!(again.desired, resolved.desired, "{}", case.what);
        assert_eq!(again.accepted, resolved.accepted, "{}", case.what);
    }
}

#[test]
fn an_immutable_field_that_changed_leaves_everything_as_it_was() {
    let cluster = cluster().class(class("gold"));
    let before = good(base(), &cluster);
    for (field, spec, parts) in [
        ("className", change("/className", json!("gold")), ["spec.className", "\"gold\"", "\"public\"", "immutable"]),
        ("className", change("/className", json!(null)), ["spec.className", "absent", "\"public\"", "immutable"]),
        (
            "address",
            change("/loadBalancer", json!({"address": "192.0.2.9"})),
            ["spec.loadBalancer.address", "\"192.0.2.9\"", "absent", "immutable"],
        ),
    ] {
        let mut spec = spec;
        spec["listeners"][1]["port"] = json!(9999);
        let resolved = Given::after(&before).resolve(&object(spec), &cluster);
        says(&resolved, None, Reason::Invalid, &parts);
        assert_eq!(resolved.class_name.as_deref(), Some("public"), "{field}");
        assert_eq!(resolved.desired.listeners, before.desired.listeners, "{field}");
        assert_eq!(resolved.desired.groups, before.desired.groups, "{field}");
        assert_eq!(resolved.accepted, before.accepted, "{field}");
    }
}

#[test]
fn a_class_that_changed_is_seen_in_the_status_too() {
    let cluster = cluster().class(class("gold"));
    let before = good(base(), &cluster);
    let mut changed = object(change("/className", json!("gold")));
    changed.status.get_or_insert_default().class_name = Some("public".into());
    let resolved = Given { previous: None, ..Given::after(&before) }.resolve(&changed, &cluster);
    says(&resolved, None, Reason::Invalid, &["spec.className", "\"gold\"", "\"public\"", "immutable"]);
    assert_eq!(resolved.class_name.as_deref(), Some("public"));
    assert_eq!(names(&resolved.desired.keep), ["a", "b"]);
    assert_eq!(class_of(&changed, &cluster).unwrap().metadata.name.as_deref(), Some("public"));
}

#[test]
fn the_oldest_default_class_serves_and_stays_when_another_becomes_it() {
    let default = |name: &str, age: i64| {
        let mut class = class(name);
        class.spec.default = true;
        class.metadata.creation_timestamp = Some(time(age));
        class
    };
    let cluster = cluster().class(default("young", 30)).class(default("old", 10)).class(default("middle", 20));
    let mut lb = object(change("/className", json!(null)));
    let class_of = |lb: &DirectLoadBalancer| Given::default().resolve(lb, &cluster).class_name;
    assert_eq!(class_of(&lb).as_deref(), Some("old"));
    lb.status.get_or_insert_default().class_name = Some("middle".into());
    assert_eq!(class_of(&lb).as_deref(), Some("middle"), "in use already");
    lb.status.get_or_insert_default().class_name = Some("gone".into());
    assert_eq!(class_of(&lb).as_deref(), Some("old"), "the class in use is gone");
}

#[test]
fn a_class_admits_namespaces_by_name_and_by_label() {
    let admits = |allowed: Value| {
        let mut class = class("public");
        class.spec.allowed_namespaces = serde_json::from_value(allowed).unwrap();
        let mut cluster = MemoryCluster { classes: vec![Arc::new(class)], ..cluster() };
        cluster.namespaces.push(("shop".into(), [("team".to_string(), "shop".to_string())].into()));
        fresh(base(), &cluster).desired.problems.is_empty()
    };
    assert!(admits(json!(null)));
    assert!(admits(json!({"names": ["bank", "shop"]})));
    assert!(admits(json!({"names": ["bank"], "selector": {"matchLabels": {"team": "shop"}}})));
    assert!(admits(json!({"selector": {}})), "as everywhere in Kubernetes");
    assert!(!admits(json!({})));
    assert!(!admits(json!({"names": ["bank"]})));
    assert!(!admits(json!({"selector": {"matchLabels": {"team": "bank"}}})));
}
