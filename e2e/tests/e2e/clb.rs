//! A class of Tencent Cloud: real Pods, gates and drains, behind an emulated CLB over HTTP and TLS.

use std::collections::BTreeSet;

use e2e::{
    Namespace, SYSTEM, chart,
    clb::{Clb, KEYS},
    cluster, eventually,
    namespace::condition_of,
    need_cluster, pause, secs, yaml,
};
use serde_json::Value;

fn lb(class: &str) -> String {
    yaml::lb(
        "web",
        &format!(
            "  className: {class}
  loadBalancer: {{scheme: Internal}}
  target: {{workload: {{kind: Deployment, name: web}}}}
  drain: {{timeout: 4s}}
  listeners:
  - {{name: tcp, protocol: TCP, port: 9000, targetPort: tcp}}"
        ),
    )
}

/// The addresses of the Pods that are not leaving.
fn addresses(ns: &Namespace) -> BTreeSet<String> {
    ns.pods("app=web").iter().filter_map(|p| Some(p["status"]["podIP"].as_str()?.to_owned())).collect()
}

fn gone(ns: &Namespace, clb: &Clb) {
    ns.kubectl(&["delete", "directloadbalancer", "web", "--timeout=60s"]);
    assert_eq!(clb.balancers(), 0, "left behind: {:#}", clb.emulator.dump());
}

#[test]
fn pods_behind_a_clb_from_the_chart_to_deletion() {
    need_cluster!();
    if !cluster().is_lab() {
        return eprintln!("skipped: a cluster's controllers cannot reach an emulator here");
    }
    let clb = Clb::start("clb-chart", true);
    chart::upgrade_with(&serde_json::json!({"classes": {"clb-chart": clb.spec()}}));
    let ns = Namespace::new("clb");
    ns.apply(&lb("clb-chart"));
    ns.apply(&yaml::deployment("web", 2, &[]));
    // No gate opens before the Pod is bound, and the check has passed.
    let gate = "gate.directlb.io/web";
    eventually("two gates are open", secs(90), || {
        let bound: BTreeSet<String> = clb.bound().into_iter().filter(|(_, w)| *w > 0).map(|(ip, _)| ip).collect();
        let open: Vec<Value> = ns.pods("app=web").into_iter().filter(|p| condition_of(p, gate).0 == "True").collect();
        for pod in &open {
            let ip = pod["status"]["podIP"].as_str().unwrap();
            assert!(bound.contains(ip) || clb.bound().iter().any(|(b, _)| b == ip), "{ip} is Ready and not bound");
        }
        if open.len() == 2 { Ok(()) } else { Err(format!("{} are open", open.len())) }
    });
    let address = ns.wait_ready("web", 2);
    let object = ns.get(&["directloadbalancer", "web"]);
    assert!(object["status"]["loadBalancer"]["id"].as_str().unwrap().starts_with("lb-"), "{object:#}");
    assert!(address.starts_with("10.0.0."), "{address}");
    let old = addresses(&ns);

    ns.kubectl(&["rollout", "restart", "deployment/web"]);
    let mut drained = BTreeSet::new();
    eventually("only new Pods are bound", secs(120), || {
        let bound = clb.bound();
        assert!(bound.iter().any(|(_, w)| *w > 0), "nothing serves: {bound:?}");
        drained.extend(bound.iter().filter(|(_, w)| *w == 0).map(|(ip, _)| ip.clone()));
        let now: BTreeSet<String> = bound.into_iter().map(|(ip, _)| ip).collect();
        if now.len() == 2 && now.is_disjoint(&old) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert!(old.is_subset(&drained), "unbound without a drain: {:?}", old.difference(&drained));
    ns.rolled_out("deployment/web");
    assert_eq!(clb.bound().into_iter().map(|(ip, _)| ip).collect::<BTreeSet<_>>(), addresses(&ns));

    gone(&ns, &clb);
    // The gates of those that stay are open.
    assert!(ns.pods("app=web").iter().all(|p| condition_of(p, "Ready").0 == "True"));
    chart::upgrade(&[]);
}

#[test]
fn rotated_credentials_are_picked_up_without_a_restart() {
    need_cluster!();
    if !cluster().is_lab() {
        return eprintln!("skipped: a cluster's controllers cannot reach an emulator here");
    }
    let clb = Clb::start("clb-rotated", true);
    clb.class(&clb.spec()).unwrap();
    let ns = Namespace::new("clbrotated");
    ns.apply(&lb("clb-rotated"));
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.wait_ready("web", 1);
    let controllers = || -> BTreeSet<String> {
        let pods = cluster().get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller"]);
        let one =
            |p: &Value| format!("{} {}", p["metadata"]["uid"], p["status"]["containerStatuses"][0]["restartCount"]);
        pods["items"].as_array().unwrap().iter().map(one).collect()
    };
    let before = controllers();

    let new = ("AKIDrotated", "another-secret");
    clb.emulator.replace_keys(vec![(new.0.into(), new.1.into())], Vec::new());
    ns.kubectl(&["scale", "deployment/web", "--replicas=2"]);
    let message = ns.wait_condition("web", "TargetsReady", "False", "CredentialsRefused");
    assert!(message.contains("AuthFailure") && !message.contains("RequestId"), "{message}");
    eventually("an event with the request's id", secs(30), || {
        let events = ns.get(&["events"]);
        let all = events["items"].as_array().cloned().unwrap_or_default();
        let told = |e: &Value| {
            e["reason"] == "CredentialsRefused" && e["message"].as_str().is_some_and(|m| m.contains("RequestId"))
        };
        if all.iter().any(told) { Ok(()) } else { Err(format!("{} events", all.len())) }
    });
    clb.credentials(new);
    ns.wait_ready("web", 2);
    assert_eq!(controllers(), before, "a controller was restarted");

    clb.credentials(KEYS);
    clb.emulator.replace_keys(vec![(KEYS.0.into(), KEYS.1.into())], Vec::new());
    gone(&ns, &clb);
}

#[test]
fn plain_http_only_where_the_class_says_so_and_bad_classes_are_said() {
    need_cluster!();
    if !cluster().is_lab() {
        return eprintln!("skipped: a cluster's controllers cannot reach an emulator here");
    }
    let clb = Clb::start("clb-plain", false);
    let mut spec = clb.spec();
    spec["tencent"]["insecureHttp"] = false.into();
    let refused = clb.class(&spec).unwrap_err();
    assert!(refused.contains("insecureHttp"), "{refused}");
    let both = serde_json::json!({"envoy": {"fleet": "default"}, "tencent": clb.spec()["tencent"]});
    let refused = clb.class(&both).unwrap_err();
    assert!(refused.contains("exactly one of envoy and tencent"), "{refused}");

    // Without the Secret: said, and no harm to anybody.
    let mut spec = clb.spec();
    spec["tencent"]["credentialsSecretRef"]["name"] = "nowhere".into();
    clb.class(&spec).unwrap();
    let ns = Namespace::new("clbplain");
    ns.apply(&lb("clb-plain"));
    ns.apply(&yaml::deployment("web", 1, &[]));
    let message = ns.wait_condition("web", "Programmed", "False", "CredentialsMissing");
    assert!(message.contains("nowhere"), "{message}");
    clb.class(&clb.spec()).unwrap();
    ns.wait_ready("web", 1);

    // Only shown: nothing is written.
    clb.emulator.clear_ledger();
    let planned = lb("clb-plain").replace("name: web}", "name: shown}").replace("  drain:", "  mode: Plan\n  drain:");
    ns.apply(&planned.replace("kind: Deployment, name: shown", "kind: Deployment, name: web"));
    ns.wait_condition("shown", "Programmed", "False", "PlanOnly");
    let steps = eventually("the plan", secs(30), || {
        let steps = ns.get(&["directloadbalancer", "shown"])["status"]["plan"]["steps"].clone();
        if steps[0] == "create load balancer" { Ok(steps.to_string()) } else { Err(steps.to_string()) }
    });
    assert!(steps.contains("set listener tcp (TCP 9000)"), "{steps}");
    assert!(clb.emulator.ledger().iter().all(|c| c.action.starts_with("Describe")), "{:?}", clb.emulator.ledger());
    ns.kubectl(&["delete", "directloadbalancer", "shown", "--timeout=60s"]);

    // What a CLB does not take is said by field, and what is in force stays.
    ns.kubectl(&[
        "patch",
        "directloadbalancer",
        "web",
        "--type=json",
        "-p",
        r#"[{"op": "add", "path": "/spec/listeners/0/healthCheck", "value": {"interval": "1s", "timeout": "1s"}}]"#,
    ]);
    let message = ns.wait_condition("web", "Accepted", "False", "Invalid");
    assert!(message.contains("spec.listeners[0].healthCheck.interval"), "{message}");
    pause(secs(2));
    assert_eq!(clb.bound().len(), 1);
    gone(&ns, &clb);
}
