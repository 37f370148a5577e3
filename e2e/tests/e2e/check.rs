//! `directlb check` in a real cluster: what it finds, what breaks later, and what it says then.

use std::process::Output;

use e2e::{
    Namespace,
    clb::{Clb, gone, lb},
    cluster, need_cluster, yaml,
};
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    let directlb = cluster().root.join("target/debug/directlb");
    // An absolute path stays as it is.
    cluster().tool(directlb.to_str().unwrap()).arg("check").args(args).output().unwrap()
}

/// The findings of a check whose message contains a text.
fn findings(check: &str, text: &str) -> Vec<Value> {
    let done = run(&["-o", "json"]);
    let all: Vec<Value> = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&[done.stdout, done.stderr].concat())));
    all.into_iter().filter(|f| f["check"] == check && f["message"].as_str().unwrap().contains(text)).collect()
}

#[track_caller]
fn verdict(check: &str, text: &str, expected: &str) -> String {
    let found = findings(check, text);
    assert!(found.len() == 1 && found[0]["verdict"] == expected, "{check} {text}: {found:#?}");
    found[0]["remedy"].as_str().unwrap_or_default().to_owned()
}

/// A ConfigMap of `kube-system`, removed at the end.
struct ConfigMap(&'static str);

impl ConfigMap {
    fn put(&self, config: &str) {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.0, "namespace": "kube-system"},
            "data": {"config": config},
        });
        cluster().apply(&object.to_string());
    }
}

impl Drop for ConfigMap {
    fn drop(&mut self) {
        let _ = cluster().try_kubectl(&["delete", "configmap", self.0, "-n", "kube-system", "--ignore-not-found"]);
    }
}

#[test]
fn prerequisites_are_checked_and_what_breaks_later_is_found() {
    need_cluster!();
    if !cluster().is_lab() {
        return eprintln!("skipped: it puts ConfigMaps into kube-system, and needs an emulated cloud");
    }
    verdict("readiness-gates", "Kubernetes 1.", "ok");
    verdict("native-sleep", "Kubernetes 1.", "ok");

    // Pods of a CLB: one comes to be on a network that is not of the VPC.
    let clb = Clb::start("clb-check", true);
    let mut spec = clb.spec();
    spec["tencent"]["vpcCidrs"] = serde_json::json!(["0.0.0.0/0"]);
    clb.class(&spec).unwrap();
    let ns = Namespace::new("check");
    ns.apply(&lb("clb-check"));
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.wait_ready("web", 2);
    verdict("cloud-api", "class clb-check", "ok");
    verdict("pod-network", "e2e-check/web", "ok");
    verdict("pod-routes", "e2e-check/web", "ok");
    let pod = ns.pods("app=web").remove(0)["metadata"]["name"].as_str().unwrap().to_owned();
    ns.kubectl(&["annotate", "pod", &pod, "tke.cloud.tencent.com/networks=tke-bridge"]);
    let remedy = verdict("pod-network", "e2e-check/web", "failed");
    assert!(remedy.contains("tke-route-eni"), "{remedy}");
    spec["tencent"]["vpcCidrs"] = serde_json::json!(["192.0.2.0/24"]);
    clb.class(&spec).unwrap();
    verdict("pod-routes", "e2e-check/web", "failed");
    clb.credentials(("AKIDother", "wrong"));
    verdict("cloud-api", "class clb-check", "failed");
    clb.credentials(e2e::clb::KEYS);
    // It tells, and takes nothing away.
    ns.wait_ready("web", 2);
    let done = run(&[]);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(
        !done.status.success() && text.contains("failed   pod-network") && text.contains("to do: annotate"),
        "{text}"
    );

    // CCE: what masquerades is changed behind everybody's back.
    assert_eq!(findings("cluster-id", ""), Vec::<Value>::new(), "this is no cluster of CCE");
    let (network, masquerade) = (ConfigMap("cce-cni-node-agent"), ConfigMap("cce-ip-masq-agent"));
    network.put("cniMode: vpc-route-ipvlan\ncce: {clusterID: cce-4978a9dd}\n");
    verdict("cluster-id", "cce-4978a9dd", "ok");
    verdict("masquerade", "there is no ConfigMap", "failed");
    masquerade.put("masqOutBound: false\nmasqOutBoundIPv6: false\n");
    verdict("masquerade", "not masqueraded", "ok");
    masquerade.put("masqOutBound: true\nmasqOutBoundIPv6: false\n");
    let remedy = verdict("masquerade", "masqOutBound is true", "failed");
    assert!(remedy.contains("masqOutBound: false"), "{remedy}");
    gone(&ns, &clb);
}
