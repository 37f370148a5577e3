//! The chart, installed another way for a while.

use serde_json::Value;

use crate::{SYSTEM, cluster, eventually, namespace::condition_of, secs};

/// Upgrades the release to the lab's values and these, and waits until the controllers have been replaced.
pub fn upgrade(set: &[&str]) {
    upgrade_to(set, None);
}

/// The same with values as JSON.
pub fn upgrade_with(values: &Value) {
    upgrade_to(&[], Some(values));
}

fn upgrade_to(set: &[&str], values: Option<&Value>) {
    let root = &cluster().root;
    let mut helm = cluster().tool("helm");
    helm.args(["upgrade", "--install", "directlb"]).arg(root.join("charts/directlb"));
    helm.args(["-n", SYSTEM, "--timeout", "180s", "--values"]).arg(root.join("e2e/values.yaml"));
    for value in set {
        helm.args(["--set", value]);
    }
    let file = root.join("target").join(format!("values-{}.json", std::process::id()));
    if let Some(values) = values {
        std::fs::write(&file, values.to_string()).expect("a file of values");
        helm.arg("--values").arg(&file);
    }
    let done = helm.output().expect("helm");
    let _ = std::fs::remove_file(&file);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let args = ["rollout", "status", "deployment/directlb-controller", "-n", SYSTEM, "--timeout=180s"];
    cluster().kubectl(&args);
}

/// Waits until so many controllers are there and ready, and no other: those that are stopping serve to the end.
pub fn controllers_run(n: usize) {
    eventually(&format!("{n} controllers are ready"), secs(90), || {
        let pods = cluster().get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller"]);
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        let ready = items.iter().filter(|p| condition_of(p, "Ready").0 == "True").count();
        if ready == n && items.len() == n { Ok(()) } else { Err(format!("{ready} of {} Pods", items.len())) }
    });
}

/// Scales the controller, and waits until it is so.
pub fn scale_controllers(n: usize) {
    cluster().kubectl(&["scale", "deployment/directlb-controller", "-n", SYSTEM, &format!("--replicas={n}")]);
    controllers_run(n);
}

/// Has gates put into Pods by `Policy` or `Webhook` alone; back to what the chart does by itself when it is dropped.
pub struct Injection;

impl Injection {
    /// Returns once the other way is gone: for half a minute both are there.
    #[must_use]
    pub fn by(way: &str) -> Self {
        upgrade(&[&format!("injection={way}")]);
        let this = Self;
        let is = |resource: &str| cluster().get(&[resource, "directlb"]) != Value::Null;
        eventually(&format!("injection by {way} alone"), secs(90), || {
            let (policy, webhook) = (is("mutatingadmissionpolicy"), is("mutatingwebhookconfiguration"));
            if (policy, webhook) == (way == "Policy", way == "Webhook") {
                Ok(())
            } else {
                Err(format!("policy: {policy}, webhook: {webhook}"))
            }
        });
        this
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            upgrade(&[]);
        }
    }
}
