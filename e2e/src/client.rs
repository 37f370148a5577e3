//! Traffic from the client's network, by the echo backend's client.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::cluster;

/// What a client saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests (or connections, or lines).
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// Answers by Pod.
    pub by_pod: BTreeMap<String, u64>,
    /// Everything.
    pub raw: Value,
}

impl Report {
    fn of(raw: Value) -> Self {
        let n = |key: &str| raw[key].as_u64().unwrap_or(0);
        let by_pod = raw["by_pod"].as_object().into_iter().flatten();
        Self {
            requests: n("requests"),
            failures: n("failures"),
            by_pod: by_pod.map(|(k, v)| (k.clone(), v.as_u64().unwrap_or(0))).collect(),
            raw,
        }
    }

    /// Panics unless there were requests and every one was answered.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.requests > 0 && self.failures == 0, "{}", self.raw);
        self
    }

    /// The last answer, with `--last`: JSON for HTTP, text for the rest.
    #[must_use]
    pub fn last(&self) -> Value {
        match &self.raw["last_response"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            other => other.clone(),
        }
    }
}

/// A client that runs.
pub struct Running(Option<Child>);

impl Running {
    /// Waits for its end.
    #[must_use]
    pub fn report(mut self) -> Report {
        let child = self.0.take().expect("running");
        let done = child.wait_with_output().expect("client");
        let text = String::from_utf8_lossy(&done.stdout);
        let raw = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("client: {e}: {text}{}", String::from_utf8_lossy(&done.stderr)));
        Report::of(raw)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn in_client_network(program: &std::path::Path) -> Command {
    match cluster().client_netns() {
        None => Command::new(program),
        Some(netns) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/var/run/netns/{netns}")).arg(program);
            command
        }
    }
}

/// Starts a client: `["http", "--url", ...]`.
#[must_use]
pub fn start(args: &[&str]) -> Running {
    let mut command = in_client_network(&cluster().echo());
    command.arg("client").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(Some(command.spawn().expect("client")))
}

/// Runs a client to its end.
#[must_use]
pub fn run(args: &[&str]) -> Report {
    start(args).report()
}

/// Makes the backend at a Pod's address fail, or pass, a path.
pub fn set_failing(pod_ip: &str, path: &str, on: bool) {
    let url = format!("http://{pod_ip}:8080/admin/fail?path={path}&on={on}");
    let _ = run(&["http", "--method", "POST", "--url", &url]).ok();
}
