//! What users do with kubectl and GitOps tools.

use e2e::{Namespace, client, cluster, need_cluster, yaml};

#[test]
fn apply_diff_wait_explain_scale() {
    need_cluster!();
    let ns = Namespace::new("kubectl");
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.apply(&yaml::http_lb("web"));
    ns.kubectl(&["wait", "--for=condition=Ready", "directloadbalancer/web", "--timeout=90s"]);
    let address = ns.wait_ready("web", 2);

    // Nothing in the object differs from Git after it was reconciled.
    let args = ["diff", "--server-side", "--force-conflicts", "-n", &ns.name, "-f", "-"];
    let diff = cluster().kubectl_with(&args, &yaml::http_lb("web"));
    assert!(
        diff.status.success(),
        "{}{}",
        String::from_utf8_lossy(&diff.stdout),
        String::from_utf8_lossy(&diff.stderr)
    );

    let explained = cluster().kubectl(&["explain", "directloadbalancer.spec.listeners"]);
    for field in ["healthCheck", "targetPort", "sessionAffinity", "What the load balancer listens on"] {
        assert!(explained.contains(field), "{explained}");
    }
    let columns = ns.kubectl(&["get", "dlb"]);
    for word in ["CLASS", "ADDRESS", "TARGETS", "READY", "public", &address, "2/2", "True"] {
        assert!(columns.contains(word), "{columns}");
    }
    let wide = ns.kubectl(&["get", "directloadbalancers", "-o", "wide"]);
    assert!(wide.contains("REASON") && wide.contains("LB-ID"), "{wide}");

    for replicas in [5, 1, 3] {
        ns.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]);
        ns.wait_ready("web", replicas);
        let report = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "60"]).ok();
        assert_eq!(report.by_pod.len() as u64, replicas, "{:?}", report.by_pod);
    }
}

#[test]
fn plan_mode_shows_and_changes_nothing() {
    need_cluster!();
    let ns = Namespace::new("plan");
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.apply(&yaml::http_lb("web"));
    let address = ns.wait_ready("web", 2);
    let edited = yaml::http_lb("web").replace("port: 80,", "port: 8080,").replace("spec:\n", "spec:\n  mode: Plan\n");
    ns.apply(&edited);
    ns.wait_condition("web", "Programmed", "False", "PlanOnly");
    let object = ns.get(&["directloadbalancer", "web"]);
    assert!(
        object["status"]["plan"]["steps"].to_string().contains("set listener http"),
        "{}",
        object["status"]["plan"]
    );
    let _ = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "10"]).ok();
    let refused = client::run(&["http", "--url", &format!("http://{address}:8080/")]);
    assert_eq!(refused.failures, 1, "the planned port answers");
}
