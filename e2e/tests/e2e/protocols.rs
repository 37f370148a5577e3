//! Every protocol with real traffic.

use std::{path::PathBuf, process::Command};

use e2e::{Namespace, client, need_cluster, yaml};

/// A certificate for a name, made by openssl, as a Secret.
fn tls_secret(ns: &Namespace, secret: &str, host: &str) {
    let dir = std::env::temp_dir().join(format!("directlb-{}-{secret}", ns.name));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str| -> PathBuf { dir.join(name) };
    let done = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")])
        .arg("-keyout")
        .arg(file("tls.key"))
        .arg("-out")
        .arg(file("tls.crt"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (cert, key) = (file("tls.crt"), file("tls.key"));
    ns.kubectl(&["create", "secret", "tls", secret, "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The names in the certificate that a server shows for a server name.
fn shown(address: &str, port: u16, server_name: &str) -> String {
    let netns = e2e::cluster().client_netns().map(|n| format!("nsenter --net=/var/run/netns/{n} ")).unwrap_or_default();
    let script = format!(
        "{netns}openssl s_client -connect {address}:{port} -servername {server_name} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName"
    );
    let done = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The status and the Location of an answer, which is not followed.
fn location(address: &str, port: u16, host: &str, path: &str) -> String {
    let netns = e2e::cluster().client_netns().map(|n| format!("nsenter --net=/var/run/netns/{n} ")).unwrap_or_default();
    let python = format!(
        "import http.client as h; c = h.HTTPConnection('{address}', {port}, timeout=5); \
         c.request('GET', '{path}', headers={{'Host': '{host}'}}); r = c.getresponse(); \
         print(r.status, r.getheader('Location'))"
    );
    let done = Command::new("sh").args(["-c", &format!("{netns}python3 -c \"{python}\"")]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[test]
fn tcp_udp_tls_http_https() {
    need_cluster!();
    let ns = Namespace::new("protocols");
    tls_secret(&ns, "one", "one.example.com");
    tls_secret(&ns, "two", "two.example.com");
    let check = "healthCheck: {path: /lbhealth, port: http, interval: 1s}";
    ns.apply(&yaml::lb(
        "all",
        &format!(
            "  target: {{workload: {{kind: Deployment, name: echo}}}}
  listeners:
  - {{name: tcp, protocol: TCP, port: 9000, targetPort: tcp, {check}}}
  - {{name: udp, protocol: UDP, port: 9001, targetPort: udp}}
  - name: moved
    protocol: HTTP
    port: 8090
    redirect: {{listener: https, statusCode: 302}}
    rules:
    - {{path: /stay, targetPort: http, target: {{workload: {{kind: Deployment, name: echo}}}}, {check}}}
    - {{path: /old, redirect: {{listener: http}}}}
  - {{name: http, protocol: HTTP, port: 80, targetPort: http, accessLog: true, {check}}}
  - {{name: h2c, protocol: HTTP, port: 81, targetPort: http, targetProtocol: HTTP2, {check}}}
  - {{name: grpc, protocol: HTTP, port: 90, targetPort: grpc, targetProtocol: HTTP2, healthCheck: {{type: GRPC, interval: 1s}}}}
  - {{name: https, protocol: HTTPS, port: 443, targetPort: http, {check}, tls: {{secretNames: [one, two]}}}}
  - {{name: tls, protocol: TLS, port: 9443, targetPort: tcp, {check}, tls: {{mode: Terminate, secretNames: [one]}}}}
  - {{name: pass, protocol: TLS, port: 8443, targetPort: https, healthCheck: {{interval: 1s}}, tls: {{mode: Passthrough}}}}"
        ),
    ));
    ns.apply(&yaml::deployment("echo", 2, &["--https=:8443"]));
    ns.rolled_out("deployment/echo");
    let a = ns.wait_ready("all", 2);
    let at = |port: u16| format!("{a}:{port}");
    let url = |scheme: &str, port: u16, path: &str| format!("{scheme}://{a}:{port}{path}");

    let seen = client::run(&["tcp", "--addr", &at(9000), "--n", "20", "--new-conn"]).ok();
    assert_eq!(seen.by_pod.len(), 2, "TCP {:?}", seen.by_pod);
    let _ = client::run(&["udp", "--addr", &at(9001), "--n", "20"]).ok();
    assert_eq!(location(&a, 8090, "a.example", "/b?c=d"), "302 https://a.example:443/b?c=d");
    assert_eq!(location(&a, 8090, "a.example", "/old/b"), "301 http://a.example:80/old/b");
    let _ = client::run(&["http", "--url", &url("http", 8090, "/stay"), "--n", "20"]).ok();
    let seen = client::run(&["http", "--url", &url("http", 80, "/"), "--n", "20"]).ok();
    assert_eq!(seen.by_pod.len(), 2, "HTTP/1.1 {:?}", seen.by_pod);
    let _ = client::run(&["http", "--url", &url("http", 80, "/"), "--n", "20", "--http2"]).ok();
    let last = client::run(&["http", "--url", &url("http", 81, "/"), "--http2", "--last"]).ok().last();
    assert_eq!(last["proto"], "HTTP/2.0", "towards the Pod: {last}");
    let _ = client::run(&["ws", "--url", &url("ws", 80, "/ws"), "--n", "5"]).ok();
    let _ = client::run(&["grpc", "--addr", &at(90), "--n", "20"]).ok();

    let https = url("https", 443, "/");
    let _ = client::run(&["http", "--url", &https, "--insecure", "--n", "20", "--sni", "two.example.com"]).ok();
    let last = client::run(&["http", "--url", &https, "--insecure", "--http2", "--sni", "one.example.com", "--last"])
        .ok()
        .last();
    let proto = last["headers"].to_string();
    assert!(proto.to_lowercase().contains("x-forwarded-proto") && proto.contains("https"), "{last}");
    let names = |port, sni| shown(&a, port, sni);
    assert!(names(443, "one.example.com").contains("one.example.com"));
    assert!(names(443, "two.example.com").contains("two.example.com"));
    assert!(
        names(443, "unknown.example.com").contains("one.example.com"),
        "the first certificate serves unknown names"
    );
    let _ = client::run(&["tcp", "--addr", &at(9443), "--tls", "--insecure", "--n", "10"]).ok();
    let _ = client::run(&["http", "--url", &url("https", 8443, "/"), "--insecure", "--n", "10"]).ok();
    assert!(
        !names(8443, "one.example.com").contains("one.example.com"),
        "pass-through shows the Pod's own certificate"
    );
}

#[test]
fn the_backend_learns_the_clients_address() {
    need_cluster!();
    let ns = Namespace::new("clientip");
    let check = "healthCheck: {path: /lbhealth, port: 8081, interval: 1s}";
    ns.apply(&yaml::lb(
        "echo",
        &format!(
            "  target: {{workload: {{kind: Deployment, name: echo}}}}
  listeners:
  - {{name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {{interval: 1s}}}}
  - {{name: v1, protocol: TCP, port: 9001, targetPort: tcp, proxyProtocol: V1, {check}}}
  - {{name: v2, protocol: TCP, port: 9002, targetPort: tcp, proxyProtocol: V2, {check}}}"
        )
        .replace("port: 8081", "port: http"),
    ));
    ns.apply(&yaml::deployment("echo", 1, &["--proxy-protocol"]));
    ns.rolled_out("deployment/echo");
    let a = ns.wait_ready("echo", 1);
    let client_ip = "10.250.0.100";
    let last = client::run(&["http", "--url", &format!("http://{a}/"), "--last"]).ok().last();
    let headers = last["headers"].to_string();
    assert!(headers.contains(client_ip), "X-Forwarded-For: {last}");
    for port in [9001, 9002] {
        let report = client::run(&["tcp", "--addr", &format!("{a}:{port}"), "--last"]).ok();
        assert!(report.raw.to_string().contains(client_ip), "PROXY protocol on {port}: {}", report.raw);
    }
}
