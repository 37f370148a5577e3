//! Every kind of target, and ports by name.

use e2e::{Namespace, client, eventually, need_cluster, secs, yaml};

#[test]
fn every_kind_of_target() {
    need_cluster!();
    let ns = Namespace::new("kinds");
    let lb = |name: &str, target: &str| {
        yaml::lb(
            name,
            &format!(
                "  target: {target}\n  listeners: [{{name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {{path: /lbhealth, interval: 1s}}}}]"
            ),
        )
    };
    let kinds = [
        ("deployment", "Deployment"),
        ("statefulset", "StatefulSet"),
        ("daemonset", "DaemonSet"),
        ("replicaset", "ReplicaSet"),
    ];
    for (app, kind) in kinds {
        ns.apply(&lb(app, &format!("{{workload: {{kind: {kind}, name: {app}}}}}")));
        ns.apply(&yaml::workload(kind, app, 2, &[]));
    }
    // By Service, whose port 80 names the target port; by labels.
    ns.apply("apiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {selector: {app: byservice}, ports: [{port: 80, targetPort: http}]}");
    ns.apply(&yaml::lb("service", "  target: {service: {name: svc}}\n  listeners: [{name: http, protocol: HTTP, port: 80, healthCheck: {path: /lbhealth, interval: 1s}}]"));
    // Which Pods a Service selects is known once the controller has written it down.
    eventually("the Service's selector in status", secs(30), || {
        let services = ns.get(&["directloadbalancer", "service"])["status"]["injection"]["services"].clone();
        if services[0]["name"] == "svc" { Ok(()) } else { Err(services.to_string()) }
    });
    ns.apply(&yaml::deployment("byservice", 2, &[]));
    ns.apply(&lb("selector", "{selector: {matchExpressions: [{key: app, operator: In, values: [sela, selb]}, {key: legacy, operator: DoesNotExist}]}}"));
    ns.apply(&yaml::deployment("sela", 1, &[]));
    ns.apply(&yaml::deployment("selb", 1, &[]));
    for (name, pods) in
        [("deployment", 2), ("statefulset", 2), ("daemonset", 2), ("replicaset", 2), ("service", 2), ("selector", 2)]
    {
        let a = ns.wait_ready(name, pods);
        let report = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "20"]).ok();
        assert_eq!(report.by_pod.len() as u64, pods, "{name}: {:?}", report.by_pod);
        let gated = ns.get(&["directloadbalancer", name])["status"]["targets"]["ungated"].clone();
        assert_eq!(gated, 0, "{name}: Pods without a gate");
    }
}

#[test]
fn a_named_port_that_differs_between_pods() {
    need_cluster!();
    let ns = Namespace::new("ports");
    let other = yaml::deployment("new", 1, &["--http=:8088"])
        .replace(r#""name":"http","containerPort":8080"#, r#""name":"http","containerPort":8088"#);
    ns.apply(&yaml::lb(
        "web",
        "  target: {selector: {matchExpressions: [{key: app, operator: In, values: [old, new]}]}}
  listeners: [{name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {path: /lbhealth, interval: 1s}}]",
    ));
    ns.apply(&yaml::deployment("old", 1, &[]));
    ns.apply(&other);
    let a = ns.wait_ready("web", 2);
    let report = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "20"]).ok();
    assert_eq!(report.by_pod.len(), 2, "{:?}", report.by_pod);
}
