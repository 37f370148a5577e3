//! Certificates.

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

use super::*;
use crate::model::{Certificate, Tls};

/// A certificate for these names, valid for a year around [`NOW`], and its key; PEM.
fn pair(names: &[&str], algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.not_before = rcgen::date_time_ymd(2025, 7, 1);
    params.not_after = rcgen::date_time_ymd(2026, 7, 1);
    let key = KeyPair::generate_for(algorithm).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn ecdsa(names: &[&str]) -> (String, String) {
    pair(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

fn secret(name: &str, data: &[(&str, &str)]) -> Arc<k8s_openapi::api::core::v1::Secret> {
    let bytes = |v: &str| k8s_openapi::ByteString(v.as_bytes().to_vec());
    let mut secret = k8s_openapi::api::core::v1::Secret::default();
    secret.metadata.namespace = Some("shop".into());
    secret.metadata.name = Some(name.into());
    secret.data = Some(data.iter().map(|(k, v)| (k.to_string(), bytes(v))).collect());
    Arc::new(secret)
}

fn https(secrets: &[&str]) -> Value {
    let mut spec = base();
    spec["listeners"][0]["protocol"] = json!("HTTPS");
    spec["listeners"][0]["tls"] = json!({ "secretNames": secrets });
    spec
}

fn with(secrets: Vec<Arc<k8s_openapi::api::core::v1::Secret>>) -> MemoryCluster {
    MemoryCluster { secrets, ..cluster() }
}

fn certificates(resolved: &Resolved) -> &[Certificate] {
    match &resolved.desired.listeners["a"].tls {
        Some(Tls::Terminate(certificates)) => certificates,
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_certificates_come_in_the_order_of_the_spec() {
    let (one, one_key) = ecdsa(&["shop.example.com", "*.shop.example.com"]);
    let (two, two_key) = pair(&["bank.example.com"], &rcgen::PKCS_ECDSA_P384_SHA384);
    let chain = format!("{one}{two}");
    let cluster = with(vec![
        secret("two", &[("tls.crt", &two), ("tls.key", &two_key)]),
        secret("one", &[("tls.crt", &chain), ("tls.key", &one_key)]),
    ]);
    let resolved = good(https(&["one", "two"]), &cluster);
    let found = certificates(&resolved);
    assert_eq!(found[0].secret, "one");
    assert_eq!(found[0].names, ["shop.example.com", "*.shop.example.com"]);
    assert_eq!((&found[0].chain_pem, &found[0].key_pem), (&chain, &one_key));
    assert_eq!(found[1].names, ["bank.example.com"]);
}

#[test]
fn pass_through_needs_no_secret() {
    let mut spec = base();
    spec["listeners"][1]["protocol"] = json!("TLS");
    spec["listeners"][1]["tls"] = json!({"mode": "Passthrough"});
    assert_eq!(good(spec, &cluster()).desired.listeners["b"].tls, Some(Tls::Passthrough));
}

#[test]
fn bad_certificates_are_refused() {
    let (crt, key) = ecdsa(&["shop.example.com"]);
    let (_, other_key) = ecdsa(&["shop.example.com"]);
    let (ed_crt, ed_key) = pair(&["shop.example.com"], &rcgen::PKCS_ED25519);
    let garbage = crt.replace("MII", "AAA");
    let before = Time(1_700_000_000_000);
    let after = Time(1_800_000_000_000);
    for (what, data, now, expected) in [
        (
            "another key",
            vec![("tls.crt", &crt), ("tls.key", &other_key)],
            NOW,
            ["tls.key does not match tls.crt", "the key that it was made for"],
        ),
        ("expired", vec![("tls.crt", &crt), ("tls.key", &key)], after, ["expired on Jul  1", "a valid one"]),
        (
            "not yet valid",
            vec![("tls.crt", &crt), ("tls.key", &key)],
            before,
            ["not valid before Jul  1", "a valid one"],
        ),
        ("no key", vec![("tls.crt", &crt)], NOW, ["lacks tls.key (it has tls.crt)", "kubernetes.io/tls"]),
        (
            "no certificate",
            vec![("tls.crt", &key), ("tls.key", &key)],
            NOW,
            ["holds no certificate", "PEM blocks CERTIFICATE"],
        ),
        (
            "key that is none",
            vec![("tls.crt", &crt), ("tls.key", &crt)],
            NOW,
            ["holds no private key", "PEM block PRIVATE KEY"],
        ),
        ("garbage", vec![("tls.crt", &garbage), ("tls.key", &key)], NOW, ["tls.crt holds", "X.509"]),
        (
            "Ed25519",
            vec![("tls.crt", &ed_crt), ("tls.key", &ed_key)],
            NOW,
            ["Ed25519", "ECDSA P-256 or P-384 are allowed"],
        ),
    ] {
        println!("case: {what}");
        let data: Vec<(&str, &str)> = data.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let cluster = with(vec![secret("shop-tls", &data)]);
        let resolved = Given { now, ..Given::default() }.resolve(&object(https(&["shop-tls"])), &cluster);
        let parts = ["spec.listeners[0].tls.secretNames[0]", "\"shop-tls\"", expected[0], expected[1]];
        says(&resolved, Some("a"), Reason::InvalidCertificate, &parts);
        assert_eq!(names(resolved.desired.listeners.keys()), ["b"], "{what}");
        for p in &resolved.desired.problems {
            assert!(!p.message.contains("PRIVATE KEY-") && !p.message.contains(&key[40..60]), "{what}: {}", p.message);
        }
    }
}

#[test]
fn a_certificate_in_force_stays_when_it_expires_and_its_pods_are_followed() {
    let (crt, key) = ecdsa(&["shop.example.com"]);
    let mut cluster = with(vec![secret("shop-tls", &[("tls.crt", &crt), ("tls.key", &key)])]);
    let before = good(https(&["shop-tls"]), &cluster);
    let late = Given { now: Time(1_800_000_000_000), ..Given::after(&before) };
    cluster.pods.push(Arc::new(deployment_pod("shop", "web", "aa", 3)));
    let resolved = late.resolve(&object(https(&["shop-tls"])), &cluster);
    says(&resolved, Some("a"), Reason::InvalidCertificate, &["expired"]);
    assert_eq!(resolved.desired.listeners["a"], before.desired.listeners["a"]);
    assert_eq!(pods_of(&resolved, "a/default/deployment.web").len(), 3);
    // The Secret goes too, or is replaced by a bad one: the same.
    for secrets in [Vec::new(), vec![secret("shop-tls", &[("tls.crt", "x"), ("tls.key", "y")])]] {
        let cluster = MemoryCluster { secrets, ..cluster.clone() };
        let resolved = late.resolve(&object(https(&["shop-tls"])), &cluster);
        assert_eq!(certificates(&resolved), certificates(&before));
    }
    // After a restart nothing is known to be in force: then the expired one of the Secret goes on.
    let restarted = Given { in_force: Observed::default(), ..late.clone() };
    let resolved = restarted.resolve(&object(https(&["shop-tls"])), &cluster);
    assert_eq!(resolved.desired.listeners["a"], before.desired.listeners["a"]);
    let resolved = restarted.resolve(&object(https(&["shop-tls"])), &with(Vec::new()));
    assert_eq!(names(resolved.desired.listeners.keys()), ["b"], "no certificate at all");
    assert_eq!(resolved.accepted, before.accepted, "and still it is not forgotten");
    // And a good new one replaces it.
    let (new, new_key) = ecdsa(&["shop.example.com"]);
    let cluster = with(vec![secret("shop-tls", &[("tls.crt", &new), ("tls.key", &new_key)])]);
    let resolved = Given::after(&before).resolve(&object(https(&["shop-tls"])), &cluster);
    assert_eq!(certificates(&resolved)[0].chain_pem, new);
}
