//! Bad input, as the API server refuses it: the field, the value or what is allowed.

use e2e::{Namespace, need_cluster, yaml};

const TARGET: &str = "  target: {workload: {kind: Deployment, name: web}}\n";

fn listeners(list: &str) -> String {
    yaml::lb("bad", &format!("{TARGET}  listeners:\n{list}"))
}

#[test]
fn the_api_server_refuses_what_is_bad() {
    need_cluster!();
    let ns = Namespace::new("badinput");
    let one = |l: &str| listeners(&format!("  - {{{l}}}"));
    let http = "name: http, protocol: HTTP, port: 80";
    let rule = |r: &str| listeners(&format!("  - {{{http}, rules: [{{target: {{service: {{name: x}}}}, {r}}}]}}"));
    let many: String = (0..64).map(|i| format!("  - {{name: l{i}, protocol: TCP, port: {}}}\n", 1000 + i)).collect();
    let table: Vec<(&str, String, &[&str])> = vec![
        (
            "duplicate name",
            listeners(&format!("  - {{{http}}}\n  - {{name: http, protocol: HTTP, port: 81}}")),
            &["listeners", "http"],
        ),
        (
            "port and protocol twice",
            listeners(&format!("  - {{{http}}}\n  - {{name: b, protocol: TCP, port: 80}}")),
            &["same port"],
        ),
        ("port 0", one("name: a, protocol: TCP, port: 0"), &["port", "1"]),
        ("port 70000", one("name: a, protocol: TCP, port: 70000"), &["port", "65535"]),
        ("unknown protocol", one("name: a, protocol: FTP, port: 80"), &["protocol", "FTP"]),
        (
            "rules on TCP",
            one("name: a, protocol: TCP, port: 80, rules: [{path: /a, target: {service: {name: x}}}]"),
            &["rules need protocol HTTP"],
        ),
        (
            "redirect of TCP",
            one("name: a, protocol: TCP, port: 80, redirect: {listener: b}"),
            &["redirect needs protocol HTTP"],
        ),
        ("redirect to itself", one("name: a, protocol: HTTP, port: 80, redirect: {listener: a}"), &["itself"]),
        (
            "redirect to nowhere",
            one("name: a, protocol: HTTP, port: 80, redirect: {listener: b}"),
            &["no listener of this object"],
        ),
        (
            "redirect by another status",
            one("name: a, protocol: HTTP, port: 80, redirect: {listener: b, statusCode: 308}"),
            &["301, 302 or 307"],
        ),
        ("rule with redirect and target", rule("redirect: {listener: b}"), &["one of target, targets and redirect"]),
        ("QUIC without certificate", one("name: a, protocol: QUIC, port: 443"), &["protocol QUIC needs tls"]),
        (
            "QUIC and UDP at one port",
            listeners(
                "  - {name: a, protocol: UDP, port: 443}\n  - {name: b, protocol: QUIC, port: 443, tls: {secretNames: [x]}}",
            ),
            &["same port"],
        ),
        ("host with port", rule("host: \"shop.example.com:80\""), &["host"]),
        ("host with scheme", rule("host: \"http://shop.example.com\""), &["host"]),
        ("path without slash", rule("path: cart"), &["path"]),
        (
            "two equal rules",
            listeners(&format!(
                "  - {{{http}, rules: [{{path: /a, target: {{service: {{name: x}}}}}}, {{path: /a, target: {{service: {{name: y}}}}}}]}}"
            )),
            &["rules", "/a"],
        ),
        (
            "timeout over interval",
            one(&format!("{http}, healthCheck: {{interval: 1s, timeout: 2s}}")),
            &["timeout must not be longer than interval"],
        ),
        (
            "no duration",
            yaml::lb("bad", &format!("{TARGET}  drain: {{timeout: 30 parsecs}}\n  listeners: [{{{http}}}]")),
            &["timeout", "30 parsecs"],
        ),
        (
            "two targets for UDP",
            one(
                "name: a, protocol: UDP, port: 53, targets: [{weight: 1, selector: {matchLabels: {a: b}}}, {weight: 1, selector: {matchLabels: {a: c}}}]",
            ),
            &["UDP listener sends to one target"],
        ),
        ("64 listeners", listeners(&many), &["listeners", "50"]),
        ("no target", yaml::lb("bad", &format!("  listeners: [{{{http}}}]")), &["give a target"]),
        ("HTTPS without certificate", one("name: a, protocol: HTTPS, port: 443"), &["HTTPS needs tls"]),
        (
            "target of two kinds",
            yaml::lb(
                "bad",
                &format!(
                    "  target: {{service: {{name: a}}, workload: {{kind: Deployment, name: b}}}}\n  listeners: [{{{http}}}]"
                ),
            ),
            &["exactly one"],
        ),
        ("name of 254 characters", yaml::lb(&"a".repeat(254), &format!("{TARGET}  listeners: [{{{http}}}]")), &["253"]),
    ];
    for (what, object, words) in table {
        let Err(said) = ns.try_apply(&object) else { panic!("{what}: accepted") };
        for word in words {
            assert!(said.contains(word), "{what}: {word:?} is missing in: {said}");
        }
    }
}

#[test]
fn immutable_fields_and_missing_things() {
    need_cluster!();
    let ns = Namespace::new("immutable");
    let with_class = |class: &str| {
        yaml::lb(
            "web",
            &format!(
                "  className: {class}\n{TARGET}  listeners: [{{name: http, protocol: HTTP, port: 80, targetPort: http}}]"
            ),
        )
    };
    ns.apply(&with_class("public"));
    let said = ns.try_apply(&with_class("shared")).expect_err("className was changed");
    assert!(said.contains("className is immutable"), "{said}");
    // What only the cluster can tell is a condition; other objects go on meanwhile.
    ns.apply(&yaml::lb(
        "unknown",
        &format!("  className: nope\n{TARGET}  listeners: [{{name: http, protocol: HTTP, port: 80}}]"),
    ));
    let message = ns.wait_condition("unknown", "Accepted", "False", "ClassNotFound");
    assert!(message.contains("spec.className") && message.contains("nope") && message.contains("public"), "{message}");
    ns.apply(&yaml::lb(
        "nosvc",
        "  target: {service: {name: nope}}\n  listeners: [{name: http, protocol: HTTP, port: 80}]",
    ));
    ns.wait_condition("nosvc", "Accepted", "False", "ReferenceNotFound");
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.wait_ready("web", 1);
}
