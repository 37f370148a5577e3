//! Objects as YAML.

/// A Pod template of the echo backend: JSON, which is YAML too. `extra` are more arguments.
#[must_use]
pub fn pod_template(app: &str, extra: &[&str]) -> String {
    let args = extra.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(",");
    let field =
        |name: &str, path: &str| format!(r#"{{"name":"{name}","valueFrom":{{"fieldRef":{{"fieldPath":"{path}"}}}}}}"#);
    let env = [
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        field("NODE_NAME", "spec.nodeName"),
    ]
    .join(",");
    let image = std::env::var("ECHO_IMAGE").unwrap_or_else(|_| "directlb.local/echo:dev".into());
    format!(
        r#"{{"metadata":{{"labels":{{"app":"{app}"}}}},"spec":{{"containers":[{{
        "name":"echo","image":"{image}","imagePullPolicy":"IfNotPresent","args":[{args}],"env":[{env}],
        "ports":[{{"name":"http","containerPort":8080}},{{"name":"https","containerPort":8443}},
                 {{"name":"grpc","containerPort":9090}},{{"name":"tcp","containerPort":9000}},
                 {{"name":"udp","containerPort":9001,"protocol":"UDP"}}],
        "readinessProbe":{{"httpGet":{{"path":"/healthz","port":"http"}},"periodSeconds":1}},
        "resources":{{"requests":{{"cpu":"20m"}}}}}}]}}}}"#
    )
}

/// A Deployment of the echo backend.
#[must_use]
pub fn deployment(app: &str, replicas: u32, extra: &[&str]) -> String {
    workload("Deployment", app, replicas, extra)
}

/// A workload of the echo backend, of any of the `apps` kinds.
#[must_use]
pub fn workload(kind: &str, app: &str, replicas: u32, extra: &[&str]) -> String {
    let template = pod_template(app, extra);
    let more = match kind {
        "DaemonSet" => String::new(),
        "StatefulSet" => format!("\n  replicas: {replicas}\n  serviceName: {app}\n  podManagementPolicy: Parallel"),
        _ => format!("\n  replicas: {replicas}"),
    };
    format!(
        "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {app}}}\nspec:{more}\n  selector: {{matchLabels: {{app: {app}}}}}\n  template: {template}\n"
    )
}

/// A DirectLoadBalancer whose spec is given as indented YAML.
#[must_use]
pub fn lb(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: directlb.io/v1alpha1\nkind: DirectLoadBalancer\nmetadata: {{name: {name}}}\nspec:\n{spec}\n"
    )
}

/// The usual one: HTTP on port 80 to the Deployment of the same name, checked each second, drained for up to 5 s.
#[must_use]
pub fn http_lb(app: &str) -> String {
    lb(
        app,
        &format!(
            "  target: {{workload: {{kind: Deployment, name: {app}}}}}
  drain: {{timeout: 5s}}
  listeners:
  - {{name: http, protocol: HTTP, port: 80, targetPort: http, healthCheck: {{path: /lbhealth, interval: 1s, timeout: 1s}}}}"
        ),
    )
}
