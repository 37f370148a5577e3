//! Tencent's CLB in the lab: the emulator behind TLS at an address that the controllers reach, with a class and credentials.

use std::{net::UdpSocket, process::Command};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{
    Namespace, SYSTEM, cluster, eventually, secs,
    tencent::{Emulator, Faults, HealthSource, Settings},
    yaml,
};

/// What the emulator knows at first.
pub const KEYS: (&str, &str) = ("AKIDemulator", "emulator-secret");

/// The emulator, and a class of which it is the cloud. Whatever uses the class must be deleted before it is dropped, or
/// just have been: it waits for that, and is the cloud meanwhile.
pub struct Clb {
    // Before the runtime, which is the cloud that objects need to go.
    _class: Class,
    /// The emulator.
    pub emulator: Emulator,
    /// The class' name, and the Secret's.
    pub name: String,
    /// Its API's URL.
    pub endpoint: String,
    /// PEM; `None`: it is without TLS.
    pub ca: Option<String>,
    _runtime: Runtime,
}

impl Clb {
    /// Starts the emulator; `name` is the class', which is not made yet.
    #[must_use]
    pub fn start(name: &str, tls: bool) -> Self {
        Self::start_with(name, tls, |_| {})
    }

    /// The same, with other settings.
    #[must_use]
    pub fn start_with(name: &str, tls: bool, change: impl FnOnce(&mut Settings)) -> Self {
        let ip = reachable();
        let mut settings = Settings {
            latency: std::time::Duration::from_millis(50),
            task: std::time::Duration::from_millis(200),
            health: HealthSource::Connect,
            start: unix_now(),
            ..Settings::default()
        };
        change(&mut settings);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ca, config) = if tls { issue(name, &ip) } else { (None, None) };
        let (emulator, port) = runtime.block_on(async {
            let emulator = Emulator::new(settings);
            let listener = TcpListener::bind((ip.as_str(), 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(emulator.clone().serve(listener, config));
            (emulator, port)
        });
        let scheme = if tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://{ip}:{port}");
        secret(name, KEYS);
        Self { _class: Class(name.into()), emulator, name: name.into(), endpoint, ca, _runtime: runtime }
    }

    /// Writes the Secret.
    pub fn credentials(&self, keys: (&str, &str)) {
        secret(&self.name, keys);
    }

    /// Another class of the same cloud, with a Secret of its own name.
    #[must_use]
    pub fn another(&self, name: &str, keys: (&str, &str), change: impl FnOnce(&mut Value)) -> Class {
        let mut spec = self.spec();
        spec["tencent"]["credentialsSecretRef"]["name"] = name.into();
        change(&mut spec["tencent"]);
        secret(name, keys);
        let class = Class(name.into());
        class.apply(&spec).unwrap();
        class
    }

    /// The class' spec.
    #[must_use]
    pub fn spec(&self) -> Value {
        let mut spec = serde_json::json!({
            "region": "ap-guangzhou", "vpcId": "vpc-emulator", "subnetId": "subnet-emulator", "endpoint": self.endpoint,
            "credentialsSecretRef": {"name": self.name},
        });
        match &self.ca {
            Some(ca) => spec["caBundle"] = ca.as_str().into(),
            None => spec["insecureHttp"] = true.into(),
        }
        serde_json::json!({"tencent": spec})
    }

    /// Makes the class; the API server's words if it refuses.
    ///
    /// # Errors
    /// What the API server says.
    pub fn class(&self, spec: &Value) -> Result<(), String> {
        self._class.apply(spec)
    }

    /// What is bound at listeners of layer 4: address and weight.
    #[must_use]
    pub fn bound(&self) -> Vec<(String, u64)> {
        let dump = self.emulator.dump();
        let balancers = dump["LoadBalancers"].as_object().unwrap().values();
        let listeners = balancers.flat_map(|lb| lb["listeners"].as_array().unwrap().clone());
        let targets = listeners.flat_map(|l| l["targets"].as_array().unwrap().clone());
        targets.map(|t| (t["address"]["Ip"].as_str().unwrap().to_owned(), t["weight"].as_u64().unwrap())).collect()
    }

    /// How many load balancers there are.
    #[must_use]
    pub fn balancers(&self) -> usize {
        self.emulator.dump()["LoadBalancers"].as_object().unwrap().len()
    }
}

/// An object of a class: TCP to the Deployment `web`, drained for up to 4 s.
#[must_use]
pub fn lb(class: &str) -> String {
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

/// Deletes the object `web`; nothing of it may be left in the cloud.
pub fn gone(ns: &Namespace, clb: &Clb) {
    ns.kubectl(&["delete", "directloadbalancer", "web", "--timeout=60s"]);
    assert_eq!(clb.balancers(), 0, "left behind: {:#}", clb.emulator.dump());
}

impl Drop for Clb {
    fn drop(&mut self) {
        // Whatever the test has broken, the objects can go.
        self.emulator.replace_keys(vec![(KEYS.0.into(), KEYS.1.into())], Vec::new());
        self.emulator.set_faults(Faults::default());
    }
}

/// A class and the Secret with its credentials, both of this name.
pub struct Class(String);

impl Class {
    fn apply(&self, spec: &Value) -> Result<(), String> {
        let class = serde_json::json!({
            "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancerClass",
            "metadata": {"name": self.0}, "spec": spec,
        });
        cluster().try_apply(&class.to_string())
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        let name = &self.0;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            secret(name, KEYS);
            eventually("nothing uses the class any more", secs(90), || {
                let all = cluster().get(&["directloadbalancers", "-A"]);
                let all = all["items"].as_array().cloned().unwrap_or_default();
                let n = all.iter().filter(|o| o["spec"]["className"] == name.as_str()).count();
                if n == 0 { Ok(()) } else { Err(format!("{n} objects")) }
            });
        }));
        let c = cluster();
        let _ = c.try_kubectl(&["delete", "directloadbalancerclass", name, "--ignore-not-found", "--timeout=30s"]);
        let _ = c.try_kubectl(&["delete", "secret", name, "-n", SYSTEM, "--ignore-not-found"]);
        assert!(done.is_ok() || std::thread::panicking(), "objects of class {name} are still there");
    }
}

fn secret(name: &str, (id, key): (&str, &str)) {
    cluster().apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {SYSTEM}}}\nstringData: {{secretId: {id}, secretKey: {key}}}\n"
    ));
}

/// The time that the controller's signatures carry, in Unix seconds.
fn unix_now() -> u64 {
    #[allow(clippy::disallowed_methods)] // The real time is what it is about.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The address by which the lab's nodes, and the Pods on them, reach this machine.
fn reachable() -> String {
    let edge = cluster().edge_ips().remove(0);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the system only looks for a way.
    socket.connect((edge.as_str(), 9)).unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

/// A CA of its own, and a certificate for the address.
fn issue(name: &str, ip: &str) -> (Option<String>, Option<ServerConfig>) {
    let dir = cluster().root.join("target/clb").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(&dir).output().expect("openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[&["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=clb test", "-days", "2"], &new[..]]
            .concat(),
    );
    openssl(&[&["req", "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=clb"], &new[..]].concat());
    std::fs::write(dir.join("san"), format!("subjectAltName=IP:{ip}")).unwrap();
    let sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"];
    openssl(&[&["x509", "-req", "-in", "tls.csr", "-out", "tls.pem"], &sign[..]].concat());
    let chain = CertificateDer::pem_file_iter(dir.join("tls.pem")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap();
    let provider = rustls::crypto::ring::default_provider().into();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let ca = std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    (Some(ca), Some(config))
}
