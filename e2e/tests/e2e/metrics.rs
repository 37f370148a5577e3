//! Metrics and probes.

use std::io::Write as _;
use std::process::Stdio;

use e2e::{SYSTEM, cluster, need_cluster};

fn raw(path: &str) -> String {
    let pods = cluster().get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller"]);
    let name = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster().kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy{path}")])
}

#[test]
fn metrics_are_clean_and_probes_answer() {
    need_cluster!();
    assert_eq!(raw("/healthz"), "ok\n");
    assert_eq!(raw("/readyz"), "ok\n");
    let metrics = raw("/metrics");
    for name in ["directlb_reconciles_total", "directlb_leader", "directlb_reconcile_duration_seconds_bucket"] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    let mut promtool = cluster()
        .tool("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let done = promtool.wait_with_output().unwrap();
    let words = [done.stdout, done.stderr].concat();
    assert!(done.status.success() && words.is_empty(), "{}", String::from_utf8_lossy(&words));
}

#[test]
fn a_real_prometheus_scrapes_them() {
    need_cluster!();
    let c = cluster();
    let pods = c.get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller"]);
    let targets: Vec<String> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{}:8080", p["status"]["podIP"].as_str().unwrap()))
        .collect();
    let dir = c.root.join("target/reports/prometheus");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let config = serde_json::json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "directlb", "static_configs": [{"targets": targets}]}],
    });
    std::fs::write(dir.join("prometheus.yml"), config.to_string()).unwrap();
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut prometheus = c
        .tool("prometheus")
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg("--web.listen-address=127.0.0.1:19190")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("prometheus");
    let query = || {
        let done = c
            .tool("promtool")
            .args(["query", "instant", "http://127.0.0.1:19190", "sum(directlb_leader)"])
            .output()
            .expect("promtool");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let seen = std::panic::catch_unwind(|| {
        e2e::eventually("one replica leads, says Prometheus", e2e::secs(40), || {
            let answer = query();
            if answer.contains("=> 1 ") { Ok(()) } else { Err(answer) }
        });
    });
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    if let Err(panic) = seen {
        std::panic::resume_unwind(panic);
    }
}
