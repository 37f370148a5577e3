//! Each check met and not met; the exact text that a user sees is in `golden`. `UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Facts, Object, Verdict, check, text};

/// A cluster of today, of nobody's cloud, with nothing in it.
fn plain() -> Facts {
    Facts { version: (1, 36), policies: true, ..Facts::default() }
}

fn pod(name: &str, ip: &str, networks: Option<&str>) -> Arc<Pod> {
    let annotations = networks.map(|n| json!({"tke.cloud.tencent.com/networks": n}));
    let pod = json!({
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "status": {"podIP": ip},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn on_clb(pods: Vec<Arc<Pod>>) -> Object {
    Object { name: "shop/web".into(), tencent: true, pods, ..Object::default() }
}

fn config(text: &str) -> Option<BTreeMap<String, String>> {
    Some([("config".to_owned(), text.to_owned())].into())
}

fn cce(mode: &str, masquerade: Option<BTreeMap<String, String>>) -> Facts {
    let network = config(&format!("cniMode: {mode}\ncce:\n  clusterID: cce-4978a9dd\n"));
    Facts { cce_network: network, masquerade, ..plain() }
}

fn service(annotation: (&str, &str), kind: &str) -> Facts {
    let service = json!({
        "metadata": {"name": "web", "namespace": "shop", "annotations": {annotation.0: annotation.1}},
        "spec": {"type": kind},
    });
    let object = Object { name: "shop/web".into(), services: vec![("shop".into(), "web".into())], ..Object::default() };
    Facts { objects: vec![object], services: vec![Arc::new(serde_json::from_value(service).unwrap())], ..plain() }
}

fn scenarios() -> Vec<(&'static str, Verdict, Facts)> {
    use Verdict::{Failed, Ok, Warning};
    let off = "masqOutBound: false\nmasqOutBoundIPv6: false\n";
    let ranges = |mut object: Object| {
        object.vpc_cidrs = vec!["10.0.0.0/16".into(), "10.2.0.0/16".into()];
        Facts { objects: vec![object], ..plain() }
    };
    let clouds = |answer: Result<(), String>| Facts { clouds: vec![("clb".into(), answer)], ..plain() };
    let pods = |pods| Facts { objects: vec![on_clb(pods)], ..plain() };
    let two_keys: BTreeMap<String, String> = [("a".to_owned(), off.to_owned()), ("b".to_owned(), String::new())].into();
    let mut hosted = (*pod("web-1", "10.0.0.1", None)).clone();
    hosted.spec = Some(serde_json::from_value(json!({"containers": [], "hostNetwork": true})).unwrap());
    vec![
        ("cluster-today", Ok, plain()),
        ("cluster-1.29", Warning, Facts { version: (1, 29), policies: false, ..plain() }),
        ("cluster-1.11", Failed, Facts { version: (1, 11), policies: false, ..plain() }),
        ("tke-eni", Ok, pods(vec![pod("web-1", "10.0.0.1", Some("tke-route-eni"))])),
        ("tke-nothing-said", Ok, pods(vec![pod("web-1", "10.0.0.1", None)])),
        (
            "tke-bridge",
            Failed,
            pods(vec![pod("web-1", "10.0.0.1", Some("tke-route-eni")), pod("web-2", "172.16.0.2", Some("tke-bridge"))]),
        ),
        ("host-network", Warning, pods(vec![Arc::new(hosted)])),
        ("routes-in-the-vpc", Ok, ranges(on_clb(vec![pod("web-1", "10.2.0.1", None)]))),
        (
            "routes-elsewhere",
            Failed,
            ranges(on_clb(vec![pod("web-1", "10.2.0.1", None), pod("web-2", "172.16.0.2", None)])),
        ),
        ("cce-kubenet", Ok, cce("kubenet", None)),
        ("cce-veth", Ok, cce("vpc-route-veth", None)),
        ("cce-eni", Ok, cce("vpc-secondary-ip-veth", None)),
        ("cce-ipvlan", Ok, cce("vpc-route-ipvlan", config(off))),
        ("cce-auto-detect", Ok, cce("vpc-route-auto-detect", config(off))),
        ("cce-ipvlan-no-configmap", Failed, cce("vpc-route-ipvlan", None)),
        (
            "cce-ipvlan-masquerades",
            Failed,
            cce("vpc-route-ipvlan", config("masqOutBound: true\nmasqOutBoundIPv6: false")),
        ),
        ("cce-ipvlan-missing-keys", Failed, cce("vpc-route-ipvlan", config("resyncInterval: 60s"))),
        (
            "cce-ipvlan-text",
            Failed,
            cce("vpc-route-ipvlan", config("masqOutBound: \"false\"\nmasqOutBoundIPv6: false")),
        ),
        ("cce-ipvlan-no-yaml", Failed, cce("vpc-route-ipvlan", config("masqOutBound: [false"))),
        ("cce-ipvlan-a-list", Failed, cce("vpc-route-ipvlan", config("- masqOutBound"))),
        ("cce-ipvlan-other-keys", Failed, cce("vpc-route-ipvlan", Some(two_keys))),
        ("cce-ipvlan-empty", Failed, cce("vpc-route-ipvlan", Some(BTreeMap::new()))),
        ("cce-mode-unknown", Warning, cce("vpc-other", None)),
        ("cce-no-mode", Failed, Facts { cce_network: config("cce: {clusterID: cce-1}"), ..plain() }),
        ("cce-no-yaml", Failed, Facts { cce_network: config("{"), ..plain() }),
        (
            "cce-first-generation",
            Failed,
            Facts { cce_network: config("cniMode: kubenet\ncce: {clusterID: c-4978a9dd}"), ..plain() },
        ),
        ("cce-no-cluster-id", Warning, Facts { cce_network: config("cniMode: kubenet"), ..plain() }),
        ("other-tke", Warning, service(("service.cloud.tencent.com/direct-access", "true"), "LoadBalancer")),
        (
            "other-cce",
            Warning,
            service(("service.beta.kubernetes.io/cce-load-balancer-backend-type", "eni"), "LoadBalancer"),
        ),
        ("other-none", Ok, service(("service.cloud.tencent.com/direct-access", "true"), "ClusterIP")),
        ("cloud-answers", Ok, clouds(Result::Ok(()))),
        ("cloud-refuses", Failed, clouds(Err("DescribeQuota: wrong key (AuthFailure.SignatureFailure)".into()))),
    ]
}

#[test]
fn what_a_user_reads() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/prerequisites/golden");
    for (name, worst, facts) in scenarios() {
        let findings = check(&facts);
        assert_eq!(findings.iter().map(|f| f.verdict).max(), Some(worst), "{name}: {findings:#?}");
        let remedies = findings.iter().all(|f| f.remedy.is_empty() == (f.verdict == Verdict::Ok));
        assert!(remedies, "{name}: what is wrong has a remedy, and nothing else: {findings:#?}");
        let (got, path) = (text(&findings), dir.join(format!("{name}.txt")));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &got).unwrap();
        }
        let want = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(got, want, "{name} differs from {}; UPDATE_GOLDEN=1 accepts it", path.display());
    }
}

#[test]
fn machines_read_the_same() {
    let findings = check(&cce("vpc-route-ipvlan", None));
    let json = serde_json::to_value(&findings).unwrap();
    let failed = json.as_array().unwrap().iter().find(|f| f["verdict"] == "failed").unwrap();
    assert_eq!(failed["check"], "masquerade");
    assert!(failed["remedy"].as_str().unwrap().contains("create it"), "{failed}");
    assert!(json[0].get("remedy").is_none());
}
