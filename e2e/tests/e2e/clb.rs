//! A class of Tencent Cloud, behind an emulated CLB: what goes wrong, and that it is put right.

use std::collections::BTreeSet;

use e2e::{
    Namespace, SYSTEM,
    clb::{Clb, KEYS, gone, lb},
    cluster, eventually, need_cluster, pause, secs, yaml,
};
use serde_json::Value;

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
    ns.wait_event("an event with the request's id", secs(30), |e| {
        e["reason"] == "CredentialsRefused" && e["message"].as_str().is_some_and(|m| m.contains("RequestId"))
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
