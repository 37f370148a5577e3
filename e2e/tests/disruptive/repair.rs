//! What others delete or damage is restored, while Pods are being created and none is refused.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use e2e::{Namespace, SYSTEM, chart::Injection, cluster, eventually, need_cluster, secs, yaml};
use serde_json::{Value, json};

/// Pods that are created all the while, at least twenty in each second.
struct Creating {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
    #[allow(clippy::disallowed_types)] // Tests of the real thing run on real time.
    begun: std::time::Instant,
}

impl Creating {
    fn start(namespace: &str) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..3).map(|_| {
            let (ended, count, namespace) = (stop.clone(), made.clone(), namespace.to_owned());
            std::thread::spawn(move || create_until(&ended, &count, &namespace))
        });
        #[allow(clippy::disallowed_methods)] // See above.
        let begun = std::time::Instant::now();
        Self { threads: threads.collect(), stop, made, begun }
    }

    fn end(self) {
        eventually("a hundred Pods", secs(60), || match self.made.load(Ordering::Relaxed) {
            n if n >= 100 => Ok(()),
            n => Err(n.to_string()),
        });
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let refused = thread.join().expect("a creating thread");
            assert_eq!(refused, Vec::<String>::new(), "Pods were refused");
        }
        let (made, took) = (self.made.load(Ordering::Relaxed), self.begun.elapsed());
        eprintln!("{made} Pods were created in {took:?}, none was refused");
    }
}

fn create_until(ended: &AtomicBool, count: &AtomicUsize, namespace: &str) -> Vec<String> {
    let pods: Vec<String> = (0..20)
        .map(|i| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}"), "labels": {"app": "web"}},
                   "spec": {"containers": [{"name": "c", "image": "registry.example/none:1"}]}})
            .to_string()
        })
        .collect();
    let mut refused = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        // Admission does all that it does for real; nothing has to run.
        let args = ["create", "--dry-run=server", "-o", "name", "-n", namespace, "-f", "-"];
        let done = cluster().kubectl_with(&args, &pods.join("\n---\n"));
        count.fetch_add(String::from_utf8_lossy(&done.stdout).lines().count(), Ordering::Relaxed);
        if !done.status.success() {
            refused.push(String::from_utf8_lossy(&done.stderr).into_owned());
        }
    }
    refused
}

const WEBHOOK_DAMAGE: &str = r#"[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"Cg=="}]"#;
const POLICY_DAMAGE: &str = r#"[{"op":"replace","path":"/spec/mutations/0/jsonPatch/expression",
    "value":"[JSONPatch{op: 'add', path: '/metadata/labels/damaged', value: 'yes'}]"}]"#;
const BINDING_DAMAGE: &str =
    r#"[{"op":"replace","path":"/spec/paramRef/selector","value":{"matchLabels":{"no":"body"}}}]"#;

/// The part of a configuration that matters, and how to damage it.
fn configurations(way: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut all = vec![("validatingwebhookconfiguration", "webhooks", WEBHOOK_DAMAGE)];
    if way == "Policy" {
        all.push(("mutatingadmissionpolicy", "spec", POLICY_DAMAGE));
        all.push(("mutatingadmissionpolicybinding", "spec", BINDING_DAMAGE));
    } else {
        all.push(("mutatingwebhookconfiguration", "webhooks", WEBHOOK_DAMAGE));
    }
    all
}

fn restored(kind: &str, field: &str, before: &Value, what: &str) {
    eventually(&format!("{kind} {what}: restored"), secs(5), || {
        let now = cluster().get(&[kind, "directlb"])[field].clone();
        if now == *before { Ok(()) } else { Err(now.to_string()) }
    });
}

const SECRETS: [&str; 2] = ["directlb-pki", "directlb-proxy-tls"];

fn secret(name: &str) -> Value {
    cluster().get(&["secret", name, "-n", SYSTEM])["data"].clone()
}

fn secret_restored(name: &str, before: &Value) {
    eventually(&format!("{name} deleted: restored"), secs(5), || {
        if secret(name) == *before { Ok(()) } else { Err("differs".into()) }
    });
}

#[test]
fn configurations_and_certificates_are_restored() {
    need_cluster!();
    for way in ["Webhook", "Policy"] {
        let _injection = Injection::by(way);
        let ns = Namespace::new(&format!("repair-{}", way.to_lowercase()));
        ns.apply(&yaml::http_lb("web"));
        let creating = Creating::start(&ns.name);
        let before: Vec<Value> = configurations(way)
            .iter()
            .map(|(kind, field, _)| cluster().get(&[kind, "directlb"])[field].clone())
            .collect();
        let secrets = SECRETS.map(secret);
        // One by one.
        for ((kind, field, damage), before) in configurations(way).into_iter().zip(&before) {
            assert!(!before.is_null(), "{kind}");
            cluster().kubectl(&["delete", kind, "directlb"]);
            restored(kind, field, before, "deleted");
            cluster().kubectl(&["patch", kind, "directlb", "--type=json", "-p", damage]);
            restored(kind, field, before, "damaged");
        }
        for (name, before) in SECRETS.iter().zip(&secrets) {
            cluster().kubectl(&["delete", "secret", name, "-n", SYSTEM]);
            secret_restored(name, before);
            let damage = r#"{"data":{"tls.crt":"eA=="}}"#;
            cluster().kubectl(&["patch", "secret", name, "-n", SYSTEM, "--type=merge", "-p", damage]);
            eventually(&format!("{name} damaged: restored"), secs(5), || {
                let now = secret(name)["tls.crt"].clone();
                if now != "eA==" && now.is_string() { Ok(()) } else { Err("still damaged".into()) }
            });
        }
        // The CA itself.
        let ca = secret("directlb-pki");
        let damage = r#"{"data":{"ca.crt":"eA==","ca.key":"eA=="}}"#;
        cluster().kubectl(&["patch", "secret", "directlb-pki", "-n", SYSTEM, "--type=merge", "-p", damage]);
        secret_restored("directlb-pki", &ca);
        // All together.
        let before: Vec<Value> = configurations(way)
            .iter()
            .map(|(kind, field, _)| cluster().get(&[kind, "directlb"])[field].clone())
            .collect();
        let secrets = SECRETS.map(secret);
        for (kind, _, _) in configurations(way) {
            cluster().kubectl(&["delete", kind, "directlb", "--wait=false"]);
        }
        for name in SECRETS {
            cluster().kubectl(&["delete", "secret", name, "-n", SYSTEM, "--wait=false"]);
        }
        for ((kind, field, _), before) in configurations(way).into_iter().zip(&before) {
            restored(kind, field, before, "deleted with all others");
        }
        for (name, before) in SECRETS.iter().zip(&secrets) {
            secret_restored(name, before);
        }
        creating.end();
        // And Pods get their gates again, once the API server has seen it all.
        eventually("injection is in effect again", secs(30), || {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "probe", "labels": {"app": "web", "pod-template-hash": "x"}, "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-x", "uid": "u", "controller": true}]},
                "spec": {"containers": [{"name": "c", "image": "registry.example/none:1"}]}});
            let args = ["create", "--dry-run=server", "-o", "json", "-n", &ns.name, "-f", "-"];
            let done = cluster().kubectl_with(&args, &pod.to_string());
            let made: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
            if made["spec"]["readinessGates"].is_array() { Ok(()) } else { Err(made.to_string()) }
        });
        ns.apply(&yaml::deployment("web", 2, &[]));
        ns.wait_ready("web", 2);
        assert_eq!(ns.get(&["directloadbalancer", "web"])["status"]["targets"]["ungated"], 0, "by {way}");
    }
}
