//! What others delete or damage is restored.

use e2e::{Namespace, SYSTEM, cluster, eventually, need_cluster, secs, yaml};

#[test]
fn configurations_and_certificates_are_restored() {
    need_cluster!();
    let kinds = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"];
    for kind in kinds {
        let before = cluster().get(&[kind, "directlb"])["webhooks"].clone();
        assert!(before.is_array(), "{kind}");
        cluster().kubectl(&["delete", kind, "directlb"]);
        let restored = |what: &str| {
            eventually(&format!("{kind} {what}: restored"), secs(5), || {
                let now = cluster().get(&[kind, "directlb"])["webhooks"].clone();
                if now == before { Ok(()) } else { Err(now.to_string()) }
            });
        };
        restored("deleted");
        let damage = r#"[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"Cg=="}]"#;
        cluster().kubectl(&["patch", kind, "directlb", "--type=json", "-p", damage]);
        restored("damaged");
    }
    for secret in ["directlb-pki", "directlb-proxy-tls"] {
        let before = cluster().get(&["secret", secret, "-n", SYSTEM])["data"].clone();
        let restored = |what: &str| {
            eventually(&format!("{secret} {what}: restored"), secs(5), || {
                let now = cluster().get(&["secret", secret, "-n", SYSTEM])["data"].clone();
                if now == before { Ok(()) } else { Err("differs".into()) }
            });
        };
        cluster().kubectl(&["delete", "secret", secret, "-n", SYSTEM]);
        restored("deleted");
        cluster().kubectl(&[
            "patch",
            "secret",
            secret,
            "-n",
            SYSTEM,
            "--type=merge",
            "-p",
            r#"{"data":{"tls.crt":"eA=="}}"#,
        ]);
        eventually(&format!("{secret} damaged: restored"), secs(5), || {
            let now = cluster().get(&["secret", secret, "-n", SYSTEM])["data"]["tls.crt"].clone();
            if now != "eA==" && now.is_string() { Ok(()) } else { Err("still damaged".into()) }
        });
    }
    // And Pods still get their gates.
    let ns = Namespace::new("repair");
    ns.apply(&yaml::http_lb("web"));
    ns.wait_condition("web", "Accepted", "False", "ReferenceNotFound");
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.wait_ready("web", 2);
    assert_eq!(ns.get(&["directloadbalancer", "web"])["status"]["targets"]["ungated"], 0);
}
