//! A class of Tencent Cloud from the chart: real Pods, gates and drains, behind an emulated CLB over HTTP and TLS.

use std::collections::BTreeSet;

use e2e::{
    Namespace, chart,
    clb::{Clb, gone, lb},
    cluster, eventually,
    namespace::condition_of,
    need_cluster, secs, yaml,
};
use serde_json::Value;

/// The addresses of the Pods that are not leaving.
fn addresses(ns: &Namespace) -> BTreeSet<String> {
    ns.pods("app=web").iter().filter_map(|p| Some(p["status"]["podIP"].as_str()?.to_owned())).collect()
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
