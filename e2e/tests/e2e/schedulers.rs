//! Schedulers, affinity, weights and rules.

use e2e::{Namespace, client, eventually, need_cluster, secs, yaml};

const CHECK: &str = "healthCheck: {path: /lbhealth, interval: 1s}";

#[test]
fn round_robin_is_even() {
    need_cluster!();
    let ns = Namespace::new("even");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 8, &[]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 8);
    let report = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "10000", "--concurrency", "8"]).ok();
    let (most, least) = (report.by_pod.values().max().unwrap(), report.by_pod.values().min().unwrap());
    assert_eq!(report.by_pod.len(), 8, "{:?}", report.by_pod);
    assert!(*most as f64 / *least as f64 <= 1.10, "{:?}", report.by_pod);
}

#[test]
fn least_request_source_hash_and_affinity() {
    need_cluster!();
    let ns = Namespace::new("affinity");
    let listener = |name: &str, port: u16, more: &str| {
        format!("  - {{name: {name}, protocol: HTTP, port: {port}, targetPort: http, {CHECK}, {more}}}\n")
    };
    ns.apply(&yaml::lb(
        "web",
        &[
            "  target: {workload: {kind: Deployment, name: web}}\n  listeners:\n".to_owned(),
            listener("least", 80, "scheduler: LeastRequest"),
            listener("hash", 81, "scheduler: SourceHash"),
            listener("source", 82, "sessionAffinity: {type: SourceAddress}"),
            listener("cookie", 83, "sessionAffinity: {type: Cookie, cookieName: stick, ttl: 10m}"),
            listener("slow", 84, "slowStart: 2s"),
            "  - {name: tcphash, protocol: TCP, port: 85, targetPort: tcp, scheduler: SourceHash, healthCheck: {interval: 1s}}".to_owned(),
        ]
        .concat(),
    ));
    ns.apply(&yaml::deployment("web", 4, &[]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 4);
    let pods = |port: u16, more: &[&str]| {
        let url = format!("http://{a}:{port}/");
        let args = [&["http", "--url", &url, "--n", "80", "--new-conn"], more].concat();
        client::run(&args).ok().by_pod.len()
    };
    assert_eq!(pods(80, &[]), 4, "least request uses every Pod");
    assert_eq!(pods(81, &[]), 1, "source hash keeps to one Pod");
    assert_eq!(pods(82, &[]), 1, "affinity by source address keeps to one Pod");
    assert_eq!(pods(83, &["--cookie-jar"]), 1, "affinity by cookie keeps to one Pod");
    assert_eq!(pods(83, &[]), 4, "without the cookie every Pod is used");
    assert_eq!(pods(84, &[]), 4, "slow start");
    let tcp = client::run(&["tcp", "--addr", &format!("{a}:85"), "--n", "20", "--new-conn"]).ok();
    assert_eq!(tcp.by_pod.len(), 1, "source hash over TCP");
}

#[test]
fn weights_and_moving_them_under_load() {
    need_cluster!();
    let ns = Namespace::new("weights");
    let lb = |blue: u32, green: u32| {
        yaml::lb(
            "web",
            &format!(
                "  targets:
  - {{weight: {blue}, workload: {{kind: Deployment, name: blue}}}}
  - {{weight: {green}, workload: {{kind: Deployment, name: green}}}}
  drain: {{timeout: 5s}}
  listeners: [{{name: http, protocol: HTTP, port: 80, targetPort: http, {CHECK}}}]"
            ),
        )
    };
    ns.apply(&yaml::deployment("blue", 2, &[]));
    ns.apply(&yaml::deployment("green", 2, &[]));
    ns.apply(&lb(90, 10));
    ns.rolled_out("deployment/blue");
    ns.rolled_out("deployment/green");
    let a = ns.wait_ready("web", 4);
    let url = format!("http://{a}/");
    let share = |report: &client::Report| {
        let green: u64 = report.by_pod.iter().filter(|(p, _)| p.starts_with("green")).map(|(_, n)| n).sum();
        green as f64 / report.requests as f64 * 100.0
    };
    let report = client::run(&["http", "--url", &url, "--n", "10000", "--concurrency", "8"]).ok();
    let got = share(&report);
    assert!((got - 10.0).abs() <= 2.0, "green got {got} % of the requests");

    let load = client::start(&["http", "--url", &url, "--rate", "200", "--duration", "8s"]);
    e2e::pause(secs(2));
    ns.apply(&lb(0, 100));
    let report = load.report().ok();
    assert!(share(&report) > 30.0, "{:?}", report.by_pod);
    eventually("only green is used", secs(20), || {
        let report = client::run(&["http", "--url", &url, "--n", "200"]).ok();
        let got = share(&report);
        if got > 99.9 { Ok(()) } else { Err(format!("{got} %")) }
    });
}

#[test]
fn rules_by_host_and_path() {
    need_cluster!();
    let ns = Namespace::new("rules");
    let to = |app: &str| format!("target: {{workload: {{kind: Deployment, name: {app}}}}}");
    ns.apply(&yaml::lb(
        "web",
        &format!(
            "  {}
  listeners:
  - name: http
    protocol: HTTP
    port: 80
    targetPort: http
    {CHECK}
    rules:
    - {{host: shop.example.com, path: /cart, {}}}
    - {{host: shop.example.com, path: /cart/exact, pathType: Exact, {}}}
    - {{host: \"*.example.com\", {}}}
    - {{path: /any, {}}}",
            to("main"),
            to("cart"),
            to("exact"),
            to("wild"),
            to("any")
        ),
    ));
    for app in ["main", "cart", "exact", "wild", "any"] {
        ns.apply(&yaml::deployment(app, 1, &[]));
    }
    for app in ["main", "cart", "exact", "wild", "any"] {
        ns.rolled_out(&format!("deployment/{app}"));
    }
    let a = ns.wait_ready("web", 5);
    for (host, path, want) in [
        ("shop.example.com", "/cart", "cart"),
        ("shop.example.com:8080", "/cart/items", "cart"),
        ("shop.example.com", "/cart/exact", "exact"),
        ("shop.example.com", "/cart/exact/more", "cart"),
        ("shop.example.com", "/cartoon", "wild"),
        ("other.example.com", "/cart", "wild"),
        ("example.com", "/", "main"),
        ("elsewhere.net", "/any/thing", "any"),
        ("elsewhere.net", "/", "main"),
    ] {
        let report = client::run(&["http", "--url", &format!("http://{a}{path}"), "--host", host]).ok();
        let pod = report.by_pod.keys().next().cloned().unwrap_or_default();
        assert!(pod.starts_with(want), "{host}{path} went to {pod}, not to {want}");
    }
}
