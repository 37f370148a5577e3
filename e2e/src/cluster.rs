//! The cluster under test.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// The cluster under test, and how to reach it.
#[derive(Debug)]
pub struct Cluster {
    /// The repository.
    pub root: PathBuf,
    env: Option<Value>,
}

/// The lab of this checkout; with `CLUSTER=current` the kubeconfig's current context.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned();
        if std::env::var("CLUSTER").as_deref() == Ok("current") {
            return Cluster { root, env: None };
        }
        let path = root.join(".lab/env.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: is the lab up?", path.display()));
        Cluster { root, env: Some(serde_json::from_str(&text).expect("env.json")) }
    })
}

impl Cluster {
    /// Whether this is the lab, whose nodes and processes tests may disturb.
    #[must_use]
    pub fn is_lab(&self) -> bool {
        self.env.is_some()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.env.as_ref()?.get(key)?.as_str()
    }

    /// A tool, such as kubectl.
    #[must_use]
    pub fn tool(&self, name: &str) -> Command {
        let mut command = match self.text("bin") {
            Some(bin) => Command::new(Path::new(bin).join(name)),
            None => Command::new(name),
        };
        if let Some(kubeconfig) = self.text("kubeconfig") {
            command.env("KUBECONFIG", kubeconfig);
        }
        command.stdin(Stdio::null());
        command
    }

    /// The lab's own command, such as `cable edge1 down`.
    pub fn lab(&self, args: &[&str]) {
        let done = Command::new("python3").arg(self.root.join("e2e/lab/lab.py")).args(args).output().expect("lab.py");
        assert!(done.status.success(), "lab {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The network namespace that load comes from; `None`: this one.
    #[must_use]
    pub fn client_netns(&self) -> Option<&str> {
        self.text("client_netns")
    }

    /// The echo binary, which is also the client.
    #[must_use]
    pub fn echo(&self) -> PathBuf {
        self.text("echo").map_or_else(|| "lab-echo".into(), PathBuf::from)
    }

    /// The addresses of the edge nodes.
    #[must_use]
    pub fn edge_ips(&self) -> Vec<String> {
        let nodes = self.env.as_ref().and_then(|e| e["nodes"].as_array()).cloned().unwrap_or_default();
        nodes.iter().filter(|n| n["edge"] == true).filter_map(|n| n["ip"].as_str().map(str::to_owned)).collect()
    }

    /// Runs kubectl.
    #[must_use]
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.tool("kubectl").args(args).output().expect("kubectl")
    }

    /// Runs kubectl, which must succeed; its output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let done = self.try_kubectl(args);
        assert!(done.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Runs kubectl with input.
    #[must_use]
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .tool("kubectl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("write");
        child.wait_with_output().expect("kubectl")
    }

    /// Applies objects, which must be accepted.
    pub fn apply(&self, yaml: &str) {
        if let Err(error) = self.try_apply(yaml) {
            panic!("apply: {error}\n{yaml}");
        }
    }

    /// Applies objects; the API server's words if it refuses.
    pub fn try_apply(&self, yaml: &str) -> Result<(), String> {
        let done = self.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], yaml);
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// An object or a list as JSON; null if there is none.
    #[must_use]
    pub fn get(&self, args: &[&str]) -> Value {
        let done = self.try_kubectl(&[&["get", "-o", "json"], args].concat());
        if !done.status.success() {
            return Value::Null;
        }
        serde_json::from_slice(&done.stdout).unwrap_or(Value::Null)
    }
}
