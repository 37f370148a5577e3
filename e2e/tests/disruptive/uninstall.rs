//! `helm uninstall` leaves the CRDs and the users' objects, no stuck finalizer, and no webhook that blocks Pods.

use std::process::Command;

use e2e::{Namespace, cluster, namespace::condition_of, need_cluster, yaml};
use serde_json::Value;

struct Reinstall;
impl Drop for Reinstall {
    fn drop(&mut self) {
        let root = &cluster().root;
        let script = "import sys; sys.path.insert(0, 'e2e'); import setup; setup.install()";
        let done = Command::new("python3").args(["-c", script]).current_dir(root).output().expect("python3");
        if !done.status.success() {
            eprintln!("installing again: {}", String::from_utf8_lossy(&done.stdout));
        }
    }
}

#[test]
fn uninstalling_leaves_nothing_stuck() {
    need_cluster!();
    let ns = Namespace::new("uninstall");
    ns.apply(&yaml::lb(
        "web",
        "  target: {workload: {kind: Deployment, name: web}}
  listeners:
  - {name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {path: /lbhealth, port: 9999, interval: 1s, timeout: 1s}}",
    ));
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.wait_condition("web", "TargetsReady", "False", "HealthCheckFailing");
    let again = Reinstall;
    let done = cluster()
        .tool("helm")
        .args(["uninstall", "directlb", "-n", e2e::SYSTEM, "--timeout", "180s"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    assert!(cluster().get(&["crd", "directloadbalancers.directlb.io"]).is_object());
    let object = ns.get(&["directloadbalancer", "web"]);
    assert!(object.is_object(), "the user's object is gone");
    assert_eq!(object["metadata"]["finalizers"], Value::Null, "a finalizer is left");
    for kind in [
        "mutatingwebhookconfiguration",
        "validatingwebhookconfiguration",
        "mutatingadmissionpolicy",
        "mutatingadmissionpolicybinding",
    ] {
        assert_eq!(cluster().get(&[kind, "directlb"]), Value::Null, "{kind}");
    }
    let pod = ns.pods("app=web")[0].clone();
    assert_eq!(condition_of(&pod, "gate.directlb.io/web").0, "True", "a gate is left shut");
    // New Pods are admitted, ungated.
    ns.kubectl(&["rollout", "restart", "deployment/web"]);
    ns.rolled_out("deployment/web");
    drop(again);
    // Found again as it was.
    ns.wait_condition("web", "TargetsReady", "False", "HealthCheckFailing");
}
