//! One namespace for each test: removed at the end, and its story written down if the test failed.

use std::time::Duration;

use serde_json::Value;

use crate::{SYSTEM, cluster, eventually, secs};

/// A namespace.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// A new namespace, named after its topic.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        let name = format!("e2e-{topic}");
        // One of an earlier run that was cut short.
        if cluster().get(&["namespace", &name]) != Value::Null {
            cluster().kubectl(&["delete", "namespace", &name, "--timeout=120s"]);
        }
        cluster().kubectl(&["create", "namespace", &name]);
        eventually("the namespace's service account", secs(30), || {
            let account = cluster().get(&["serviceaccount", "default", "-n", &name]);
            if account == Value::Null { Err("none".into()) } else { Ok(()) }
        });
        Self { name }
    }

    /// Applies objects to it.
    pub fn apply(&self, yaml: &str) {
        if let Err(error) = self.try_apply(yaml) {
            panic!("apply: {error}\n{yaml}");
        }
    }

    /// Applies objects to it; the API server's words if it refuses.
    pub fn try_apply(&self, yaml: &str) -> Result<(), String> {
        let args = ["apply", "--server-side", "--force-conflicts", "-n", &self.name, "-f", "-"];
        let done = cluster().kubectl_with(&args, yaml);
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// Runs kubectl in it.
    pub fn kubectl(&self, args: &[&str]) -> String {
        cluster().kubectl(&[&["-n", self.name.as_str()], args].concat())
    }

    /// An object or a list in it.
    #[must_use]
    pub fn get(&self, args: &[&str]) -> Value {
        cluster().get(&[&["-n", self.name.as_str()], args].concat())
    }

    /// The Pods with a label, those that are leaving left out.
    #[must_use]
    pub fn pods(&self, selector: &str) -> Vec<Value> {
        let list = self.get(&["pods", "-l", selector]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    /// A condition of a DirectLoadBalancer: status, reason, message.
    #[must_use]
    pub fn condition(&self, lb: &str, type_: &str) -> (String, String, String) {
        condition_of(&self.get(&["directloadbalancer", lb]), type_)
    }

    /// Waits until a condition has this status and reason; its message.
    pub fn wait_condition(&self, lb: &str, type_: &str, status: &str, reason: &str) -> String {
        eventually(&format!("{lb}: {type_}={status} {reason}"), secs(60), || {
            let object = self.get(&["directloadbalancer", lb]);
            let (s, r, m) = condition_of(&object, type_);
            if s == status && (reason.is_empty() || r == reason) { Ok(m) } else { Err(object["status"].to_string()) }
        })
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.get(&["events"])["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until there is such an event.
    pub fn wait_event(&self, what: &str, within: Duration, is: impl Fn(&Value) -> bool) {
        eventually(what, within, || {
            let all = self.events();
            if all.iter().any(&is) { Ok(()) } else { Err(format!("{} events", all.len())) }
        });
    }

    /// Waits until a DirectLoadBalancer's current generation is Ready with so many targets; its address.
    pub fn wait_ready(&self, lb: &str, targets: u64) -> String {
        self.wait_ready_within(lb, targets, secs(90))
    }

    /// The same with a limit.
    pub fn wait_ready_within(&self, lb: &str, targets: u64, within: Duration) -> String {
        eventually(&format!("{lb} is Ready with {targets} targets"), within, || {
            let object = self.get(&["directloadbalancer", lb]);
            let ready = condition_of(&object, "Ready").0 == "True";
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let counts = &object["status"]["targets"];
            let all = counts["healthy"].as_u64() == Some(targets) && counts["desired"].as_u64() == Some(targets);
            match object["status"]["loadBalancer"]["addresses"][0]["value"].as_str() {
                Some(address) if ready && current && all => Ok(address.to_owned()),
                _ => Err(object["status"].to_string()),
            }
        })
    }

    /// Waits until a workload has rolled out.
    pub fn rolled_out(&self, workload: &str) {
        self.kubectl(&["rollout", "status", workload, "--timeout=180s"]);
    }

    fn dump(&self) {
        let dir = cluster().root.join("target/reports/e2e").join(&self.name);
        let _ = std::fs::create_dir_all(&dir);
        let save = |file: &str, args: &[&str]| {
            let done = cluster().try_kubectl(args);
            let _ = std::fs::write(dir.join(file), [done.stdout, done.stderr].concat());
        };
        let n = self.name.as_str();
        save("objects.yaml", &["get", "directloadbalancers,pods,deployments,services", "-n", n, "-o", "yaml"]);
        save("events.txt", &["get", "events", "-n", n, "--sort-by=.lastTimestamp"]);
        save(
            "controller.log",
            &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller", "--tail=2000", "--prefix"],
        );
        save(
            "proxies.log",
            &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=proxy", "--tail=500", "--prefix"],
        );
        save("system.txt", &["get", "pods", "-n", SYSTEM, "-o", "wide"]);
        eprintln!("the story of {n} is in {}", dir.display());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dump();
        }
        let _ = cluster().try_kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// A condition of an object: status, reason, message; empty if there is none.
#[must_use]
pub fn condition_of(object: &Value, type_: &str) -> (String, String, String) {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    all.iter()
        .find(|c| c["type"] == type_)
        .map(|c| (text(&c["status"]), text(&c["reason"]), text(&c["message"])))
        .unwrap_or_default()
}
