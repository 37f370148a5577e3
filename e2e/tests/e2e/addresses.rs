//! Addresses: from a pool, and shared.

use e2e::{Namespace, client, cluster, eventually, need_cluster, secs, yaml};

fn lb(name: &str, class: &str, more: &str) -> String {
    yaml::lb(
        name,
        &format!(
            "  className: {class}\n{more}  target: {{workload: {{kind: Deployment, name: web}}}}
  drain: {{timeout: 2s}}
  listeners: [{{name: http, protocol: HTTP, port: {port}, targetPort: http, healthCheck: {{path: /lbhealth, interval: 1s}}}}]",
            port = if class == "shared" { 8181 } else { 80 }
        ),
    )
}

#[test]
fn two_objects_with_the_same_port_side_by_side() {
    need_cluster!();
    let ns = Namespace::new("sidebyside");
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.apply(&lb("a", "public", ""));
    ns.apply(&lb("b", "public", ""));
    let (a, b) = (ns.wait_ready("a", 1), ns.wait_ready("b", 1));
    assert_ne!(a, b);
    for address in [a, b] {
        let _ = client::run(&["http", "--url", &format!("http://{address}/"), "--n", "5"]).ok();
    }
}

#[test]
fn on_shared_addresses_the_older_keeps_the_port_until_it_goes() {
    need_cluster!();
    let ns = Namespace::new("shared");
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.apply(&lb("older", "shared", ""));
    ns.wait_ready("older", 1);
    ns.apply(&lb("newer", "shared", ""));
    let message = ns.wait_condition("newer", "Accepted", "False", "PortConflict");
    assert!(message.contains(&format!("{}/older", ns.name)) && message.contains("8181"), "{message}");
    for edge in cluster().edge_ips() {
        let _ = client::run(&["http", "--url", &format!("http://{edge}:8181/"), "--n", "5"]).ok();
    }
    ns.kubectl(&["delete", "directloadbalancer", "older", "--timeout=60s"]);
    ns.wait_ready("newer", 1);
    for edge in cluster().edge_ips() {
        let _ = client::run(&["http", "--url", &format!("http://{edge}:8181/"), "--n", "5"]).ok();
    }
}

#[test]
fn pools_run_out_and_addresses_are_asked_for() {
    need_cluster!();
    let ns = Namespace::new("pools");
    let class = "e2e-tiny";
    // At the far end of the lab's pool, which the default class hands out from the near end.
    cluster().apply(&format!(
        "apiVersion: directlb.io/v1alpha1\nkind: DirectLoadBalancerClass\nmetadata: {{name: {class}}}\nspec: {{envoy: {{addressPool: [10.250.100.240-10.250.100.241]}}}}"
    ));
    ns.apply(&yaml::deployment("web", 1, &[]));
    ns.apply(&lb("asked", class, "  loadBalancer: {address: 10.250.100.241}\n"));
    assert_eq!(ns.wait_ready("asked", 1), "10.250.100.241");
    ns.apply(&lb("taken", class, "  loadBalancer: {address: 10.250.100.241}\n"));
    let message = ns.wait_condition("taken", "Accepted", "False", "AddressInUse");
    assert!(message.contains("10.250.100.241") && message.contains("asked"), "{message}");
    ns.apply(&lb("outside", class, "  loadBalancer: {address: 192.0.2.1}\n"));
    let message = ns.wait_condition("outside", "Accepted", "False", "AddressNotInPool");
    assert!(message.contains("192.0.2.1") && message.contains("10.250.100.240-10.250.100.241"), "{message}");
    ns.apply(&lb("free", class, ""));
    assert_eq!(ns.wait_ready("free", 1), "10.250.100.240");
    ns.apply(&lb("toomany", class, ""));
    ns.wait_condition("toomany", "Accepted", "False", "PoolExhausted");
    // An address given back is given out again.
    ns.kubectl(&["delete", "directloadbalancer", "free", "--timeout=60s"]);
    assert_eq!(ns.wait_ready("toomany", 1), "10.250.100.240");

    // A class in use is not deleted.
    let refused = cluster().try_kubectl(&["delete", "directloadbalancerclass", class, "--wait=false"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("used by"), "{words}");
    ns.kubectl(&["delete", "directloadbalancer", "--all", "--timeout=60s"]);
    eventually("the unused class can be deleted", secs(30), || {
        let done = cluster().try_kubectl(&["delete", "directloadbalancerclass", class, "--timeout=20s"]);
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    });
}
