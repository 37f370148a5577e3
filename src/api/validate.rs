//! The schema's rules again, in sentences: what a field holds, and what is allowed.
//!
//! The API server refuses most bad objects by the schema and its CEL rules. Nothing relies on that: the admission
//! webhook and the controller run these same checks. Checks that need the rest of the cluster (does the Secret
//! exist?) are in [`crate::resolve`].

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use garde::Validate as _;

use super::{
    AffinityKind, DirectLoadBalancerSpec, HealthCheckKind, HealthCheckSpec, HumanDuration, Listener, PortRef, Protocol,
    Target, TlsMode,
};

/// A field that holds something that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, such as `spec.listeners[1].port`.
    pub field: String,
    /// The listener that it belongs to; `None`: the whole object.
    pub listener: Option<String>,
    /// The value, and what is allowed.
    pub message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with a spec by itself, in the order of its fields.
#[must_use]
pub fn spec(spec: &DirectLoadBalancerSpec) -> Vec<Violation> {
    let mut out = Vec::new();
    if let Err(report) = spec.validate() {
        for (path, error) in report.iter() {
            let field = format!("spec.{}", camel_path(&path.to_string()));
            let listener = listener_of(spec, &field);
            out.push(Violation { field, listener, message: error.to_string() });
        }
    }
    across_fields(spec, &mut out);
    out
}

fn listener_of(spec: &DirectLoadBalancerSpec, field: &str) -> Option<String> {
    let index = field.strip_prefix("spec.listeners[")?.split(']').next()?.parse::<usize>().ok()?;
    spec.listeners.get(index).map(|l| l.name.clone())
}

/// garde reports Rust's field names; users know the camelCase ones.
fn camel_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out.replace("health_check.kind", "healthCheck.type").replace("sessionAffinity.kind", "sessionAffinity.type")
}

fn across_fields(spec: &DirectLoadBalancerSpec, out: &mut Vec<Violation>) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ports: BTreeMap<(i32, bool), usize> = BTreeMap::new();
    if spec.target.is_some() && spec.targets.is_some() {
        push(out, "spec.targets", None, "both target and targets are given: give one of them");
    }
    if let Some(target) = &spec.target {
        one_kind(target, "spec.target", None, out);
    }
    if let Some(many) = &spec.targets {
        size(many.len(), 16, "spec.targets", None, out);
        for (i, t) in many.iter().enumerate() {
            one_kind(&t.target, &format!("spec.targets[{i}]"), None, out);
        }
    }
    for (i, l) in spec.listeners.iter().enumerate() {
        let at = format!("spec.listeners[{i}]");
        let me = Some(l.name.as_str());
        if let Some(first) = names.insert(&l.name, i) {
            push(
                out,
                &format!("{at}.name"),
                me,
                &format!("\"{}\" is also the name of spec.listeners[{first}]: names must be unique", l.name),
            );
        }
        if let Some(first) = ports.insert((l.port, l.protocol.over_udp()), i) {
            let transport = if l.protocol.over_udp() { "UDP" } else { "TCP" };
            push(
                out,
                &format!("{at}.port"),
                me,
                &format!(
                    "{} over {transport} is also the port of spec.listeners[{first}]: each port and transport protocol may be used once",
                    l.port
                ),
            );
        }
        if spec.target.is_none() && spec.targets.is_none() && l.inherits_targets() {
            push(out, &format!("{at}.target"), me, "missing: give a target here or in spec");
        }
        if l.protocol == Protocol::UDP {
            one_for_udp(spec, l, &at, out);
        }
        listener(l, &at, out);
        redirects(spec, l, &at, out);
    }
}

fn redirects(spec: &DirectLoadBalancerSpec, l: &Listener, at: &str, out: &mut Vec<Violation>) {
    let me = Some(l.name.as_str());
    if l.redirect.is_some() {
        if !l.protocol.is_http() {
            let text = format!("given with protocol {}: it needs HTTP or HTTPS", l.protocol.as_str());
            push(out, &format!("{at}.redirect"), me, &text);
        }
        if l.target.is_some() || l.targets.is_some() {
            push(out, &format!("{at}.redirect"), me, "given with targets: give one of them");
        }
    }
    let of_rules = l.rules.iter().flatten().enumerate();
    let of_rules = of_rules.filter_map(|(i, r)| Some((format!("{at}.rules[{i}]"), r.redirect.as_ref()?)));
    for (at, redirect) in l.redirect.iter().map(|r| (at.to_owned(), r)).chain(of_rules) {
        let wanted = &redirect.listener;
        let text = match spec.listeners.iter().find(|t| t.name == *wanted) {
            _ if *wanted == l.name => format!("\"{wanted}\" is the listener itself: name another one"),
            None => format!("\"{wanted}\" is no listener of this object: name one with protocol HTTP or HTTPS"),
            Some(t) if !t.protocol.is_http() => {
                format!("\"{wanted}\" has protocol {}: name one with HTTP or HTTPS", t.protocol.as_str())
            }
            Some(t) if t.redirect.is_some() || t.rules.iter().flatten().any(|r| r.redirect.is_some()) => {
                format!("\"{wanted}\" redirects clients itself: name one that does not")
            }
            Some(_) => continue,
        };
        push(out, &format!("{at}.redirect.listener"), me, &text);
    }
}

/// Envoy's UDP proxy sends to one cluster.
fn one_for_udp(spec: &DirectLoadBalancerSpec, l: &Listener, at: &str, out: &mut Vec<Violation>) {
    let (many, field) = match (&l.target, &l.targets) {
        (None, None) => (&spec.targets, "spec.targets".to_owned()),
        (_, own) => (own, format!("{at}.targets")),
    };
    let n = many.iter().flatten().filter(|t| t.weight > 0).count();
    if n > 1 {
        let text = format!("{n} targets have a weight above 0: a UDP listener sends to one");
        push(out, &field, Some(l.name.as_str()), &text);
    }
}

fn listener(l: &Listener, at: &str, out: &mut Vec<Violation>) {
    let me = Some(l.name.as_str());
    let protocol = l.protocol.as_str();
    if l.target.is_some() && l.targets.is_some() {
        push(out, &format!("{at}.targets"), me, "both target and targets are given: give one of them");
    }
    targets(l.target.as_ref(), l.targets.as_deref(), at, me, out);
    if l.rules.is_some() && !l.protocol.is_http() {
        push(
            out,
            &format!("{at}.rules"),
            me,
            &format!("rules are given with protocol {protocol}: they need HTTP or HTTPS"),
        );
    }
    match (&l.tls, l.protocol) {
        (None, Protocol::HTTPS | Protocol::TLS | Protocol::QUIC) => {
            push(out, &format!("{at}.tls"), me, &format!("missing: protocol {protocol} needs it"))
        }
        (Some(_), Protocol::TCP | Protocol::UDP | Protocol::HTTP) => {
            push(
                out,
                &format!("{at}.tls"),
                me,
                &format!("given with protocol {protocol}: it needs HTTPS, TLS or QUIC"),
            );
        }
        (Some(tls), _) => match (tls.mode, tls.secret_names.is_some() || tls.certificate_id.is_some()) {
            (TlsMode::Terminate, false) => {
                push(out, &format!("{at}.tls.secretNames"), me, "missing: mode Terminate needs at least one Secret")
            }
            (TlsMode::Terminate, true) if tls.secret_names.is_some() && tls.certificate_id.is_some() => {
                push(out, &format!("{at}.tls.certificateId"), me, "given with secretNames: give one of them");
            }
            (TlsMode::Passthrough, true) => push(
                out,
                &format!("{at}.tls.secretNames"),
                me,
                "given with mode Passthrough: the Pod holds the certificate",
            ),
            (TlsMode::Passthrough, false) if l.protocol != Protocol::TLS => {
                let text = format!("Passthrough with protocol {protocol}: use protocol TLS, or mode Terminate");
                push(out, &format!("{at}.tls.mode"), me, &text);
            }
            _ => {}
        },
        (None, _) => {}
    }
    if l.protocol == Protocol::UDP && l.proxy_protocol.is_some() {
        push(out, &format!("{at}.proxyProtocol"), me, "given with protocol UDP: it needs a stream protocol");
    }
    if l.target_protocol != super::TargetProtocol::HTTP1 && !l.protocol.is_http() {
        push(
            out,
            &format!("{at}.targetProtocol"),
            me,
            &format!("HTTP2 with protocol {protocol}: it needs HTTP or HTTPS"),
        );
    }
    if let Some(a) = &l.session_affinity {
        if a.kind == AffinityKind::Cookie && !l.protocol.is_http() {
            push(
                out,
                &format!("{at}.sessionAffinity.type"),
                me,
                &format!("Cookie with protocol {protocol}: it needs HTTP or HTTPS"),
            );
        }
        if a.kind != AffinityKind::Cookie && a.cookie_name.is_some() {
            push(
                out,
                &format!("{at}.sessionAffinity.cookieName"),
                me,
                "given with type SourceAddress: it needs type Cookie",
            );
        }
    }
    if let Some(hc) = &l.health_check {
        health_check(hc, &format!("{at}.healthCheck"), me, out);
    }
    if let Some(rules) = &l.rules {
        size(rules.len(), 100, &format!("{at}.rules"), me, out);
    }
    let mut seen = BTreeMap::new();
    for (i, r) in l.rules.iter().flatten().enumerate() {
        let at = format!("{at}.rules[{i}]");
        if let Some(first) = seen.insert((&r.host, &r.path, r.path_type), i) {
            push(
                out,
                &at,
                me,
                &format!(
                    "host \"{}\", path \"{}\", pathType {:?} equal those of rules[{first}]: rules must differ",
                    r.host, r.path, r.path_type
                ),
            );
        }
        if [r.target.is_some(), r.targets.is_some(), r.redirect.is_some()].iter().filter(|given| **given).count() != 1 {
            push(out, &format!("{at}.target"), me, "give exactly one of target, targets and redirect");
        }
        targets(r.target.as_ref(), r.targets.as_deref(), &at, me, out);
        if let Some(hc) = &r.health_check {
            health_check(hc, &format!("{at}.healthCheck"), me, out);
        }
    }
}

fn targets(
    one: Option<&Target>,
    many: Option<&[super::WeightedTarget]>,
    at: &str,
    me: Option<&str>,
    out: &mut Vec<Violation>,
) {
    if let Some(t) = one {
        one_kind(t, &format!("{at}.target"), me, out);
    }
    if let Some(many) = many {
        size(many.len(), 16, &format!("{at}.targets"), me, out);
    }
    for (i, t) in many.into_iter().flatten().enumerate() {
        one_kind(&t.target, &format!("{at}.targets[{i}]"), me, out);
    }
}

fn size(len: usize, max: usize, field: &str, me: Option<&str>, out: &mut Vec<Violation>) {
    if len == 0 || len > max {
        push(out, field, me, &format!("{len} items: from 1 to {max} are allowed"));
    }
}

fn one_kind(t: &Target, at: &str, me: Option<&str>, out: &mut Vec<Violation>) {
    let n = usize::from(t.workload.is_some()) + usize::from(t.service.is_some()) + usize::from(t.selector.is_some());
    if n != 1 {
        push(out, at, me, &format!("{n} of workload, service and selector are given: give exactly one"));
    }
}

/// The rules of a health check that span fields.
pub(crate) fn health_check(hc: &HealthCheckSpec, at: &str, me: Option<&str>, out: &mut Vec<Violation>) {
    if let (Some(interval), Some(timeout)) = (&hc.interval, &hc.timeout)
        && timeout.get().zip(interval.get()).is_some_and(|(timeout, interval)| timeout > interval)
    {
        let message = format!("\"{timeout}\" is longer than the interval \"{interval}\": it must be at most that");
        push(out, &format!("{at}.timeout"), me, &message);
    }
    if hc.path.is_some() && hc.kind.is_some_and(|k| k != HealthCheckKind::HTTP) {
        push(out, &format!("{at}.path"), me, "a path is given with a type other than HTTP");
    }
    if hc.service.is_some() && hc.kind != Some(HealthCheckKind::GRPC) {
        push(out, &format!("{at}.service"), me, "a service is given with a type other than GRPC");
    }
}

fn push(out: &mut Vec<Violation>, field: &str, listener: Option<&str>, message: &str) {
    out.push(Violation { field: field.into(), listener: listener.map(Into::into), message: message.into() });
}

// The signature of these functions, with its reference to a unit context, is garde's.

fn between(value: &HumanDuration, low: Duration, high: Duration) -> garde::Result {
    match value.get() {
        None => Err(garde::Error::new(format!("\"{value}\" is no duration: write it like 500ms, 30s or 1m30s"))),
        Some(d) if d < low || d > high => Err(garde::Error::new(format!(
            "\"{value}\" is out of range: it must be from {} to {}",
            humantime::format_duration(low),
            humantime::format_duration(high)
        ))),
        Some(_) => Ok(()),
    }
}

pub(crate) fn duration(value: &HumanDuration, (): &()) -> garde::Result {
    between(value, Duration::ZERO, Duration::from_secs(10_000_000))
}
pub(crate) fn drain_timeout(value: &HumanDuration, (): &()) -> garde::Result {
    between(value, Duration::ZERO, Duration::from_secs(3600))
}
pub(crate) fn interval(value: &HumanDuration, (): &()) -> garde::Result {
    between(value, Duration::from_millis(100), Duration::from_secs(300))
}
pub(crate) fn slow_start(value: &HumanDuration, (): &()) -> garde::Result {
    between(value, Duration::from_secs(1), Duration::from_secs(900))
}

pub(crate) fn redirect_status(value: &i32, (): &()) -> garde::Result {
    if [301, 302, 307].contains(value) {
        return Ok(());
    }
    Err(garde::Error::new(format!("{value} is no status of a redirect: use 301, 302 or 307")))
}

pub(crate) fn cidr(value: &str, (): &()) -> garde::Result {
    match value.parse::<ipnet::IpNet>() {
        Ok(_) => Ok(()),
        Err(_) => Err(garde::Error::new(format!("\"{value}\" is no CIDR: write it like 10.0.0.0/16"))),
    }
}

pub(crate) fn quota(value: &i32, (): &()) -> garde::Result {
    in_range(*value, 1, 100_000)
}

pub(crate) fn rate(value: &i32, (): &()) -> garde::Result {
    in_range(*value, 1, 1000)
}

fn id_with(value: &str, prefix: &str) -> garde::Result {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if value.len() <= 64 && value.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(ok)) {
        return Ok(());
    }
    Err(garde::Error::new(format!("\"{value}\" is no id: write it like {prefix}1a2b3c4d")))
}
pub(crate) fn vpc_id(value: &str, (): &()) -> garde::Result {
    id_with(value, "vpc-")
}
pub(crate) fn subnet_id(value: &str, (): &()) -> garde::Result {
    id_with(value, "subnet-")
}
pub(crate) fn security_group(value: &str, (): &()) -> garde::Result {
    id_with(value, "sg-")
}
pub(crate) fn cloud_id(value: &str, (): &()) -> garde::Result {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if (1..=64).contains(&value.len()) && value.bytes().all(ok) {
        return Ok(());
    }
    Err(garde::Error::new(format!("\"{value}\" is no id: write it like lb-1a2b3c4d")))
}
pub(crate) fn endpoint(value: &str, (): &()) -> garde::Result {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let (host, port) = rest.map(|r| r.split_once(':').unwrap_or((r, "443"))).unwrap_or_default();
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if !host.is_empty() && host.bytes().all(ok) && port.parse::<u16>().is_ok() {
        return Ok(());
    }
    Err(garde::Error::new(format!("\"{value}\" is no endpoint: write it like https://clb.tencentcloudapi.com")))
}

pub(crate) fn dns_label(value: &str, (): &()) -> garde::Result {
    if is_label(value) {
        return Ok(());
    }
    Err(garde::Error::new(format!(
        "\"{value}\" is no name: use 1 to 63 lower-case letters, digits and -, and begin and end with a letter or digit"
    )))
}

fn is_label(value: &str) -> bool {
    (1..=63).contains(&value.len())
        && !value.starts_with('-')
        && !value.ends_with('-')
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

// garde's own `range` and `length` do not name the value.

fn in_range(value: i32, low: i32, high: i32) -> garde::Result {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(garde::Error::new(format!("{value} is out of range: it must be from {low} to {high}")))
}

pub(crate) fn port(value: &i32, (): &()) -> garde::Result {
    in_range(*value, 1, 65535)
}
pub(crate) fn weight(value: &i32, (): &()) -> garde::Result {
    in_range(*value, 0, 1000)
}
pub(crate) fn threshold(value: &i32, (): &()) -> garde::Result {
    in_range(*value, 1, 10)
}

fn count(len: usize, max: usize) -> garde::Result {
    if (1..=max).contains(&len) {
        return Ok(());
    }
    Err(garde::Error::new(format!("{len} items: from 1 to {max} are allowed")))
}

pub(crate) fn listener_count(value: &[Listener], (): &()) -> garde::Result {
    count(value.len(), 50)
}
pub(crate) fn secret_count(value: &[String], (): &()) -> garde::Result {
    count(value.len(), 16)
}

pub(crate) fn object_name(value: &str, (): &()) -> garde::Result {
    if (1..=253).contains(&value.len()) {
        return Ok(());
    }
    Err(garde::Error::new(format!("\"{value}\" is no name: use 1 to 253 characters")))
}

pub(crate) fn port_ref(value: &PortRef, (): &()) -> garde::Result {
    match value {
        PortRef::Number(n) if (1..=65535).contains(n) => Ok(()),
        PortRef::Name(n) if is_label(n) => Ok(()),
        other => Err(garde::Error::new(format!(
            "\"{other}\" is no port: use a number from 1 to 65535, or the name of a container port"
        ))),
    }
}

pub(crate) fn rule_host(value: &str, (): &()) -> garde::Result {
    let name = value.strip_prefix("*.").unwrap_or(value);
    if value == "*" || (value.len() <= 253 && name.split('.').all(is_label)) {
        return Ok(());
    }
    Err(garde::Error::new(format!(
        "\"{value}\" is no host: use a name like shop.example.com, *.example.com or *, without scheme and port"
    )))
}

pub(crate) fn rule_path(value: &str, (): &()) -> garde::Result {
    if value.starts_with('/') && value.len() <= 1024 && !value.contains(['#', ' ']) {
        return Ok(());
    }
    Err(garde::Error::new(format!("\"{value}\" is no path: it must begin with /")))
}

pub(crate) fn cookie_name(value: &str, (): &()) -> garde::Result {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=64).contains(&value.len()) && value.bytes().all(ok) {
        return Ok(());
    }
    Err(garde::Error::new(format!("\"{value}\" is no cookie name: use 1 to 64 letters, digits, - and _")))
}

pub(crate) fn ip_address(value: &str, (): &()) -> garde::Result {
    value
        .parse::<IpAddr>()
        .map(|_| ())
        .map_err(|_| garde::Error::new(format!("\"{value}\" is no IP address: write it like 192.0.2.7")))
}

pub(crate) fn pool_entry(value: &str, (): &()) -> garde::Result {
    crate::model::PoolRange::parse(value).map(|_| ()).map_err(garde::Error::new)
}

/// Everything that is wrong with a class by itself.
#[must_use]
pub fn class(spec: &super::DirectLoadBalancerClassSpec) -> Vec<Violation> {
    let mut out = Vec::new();
    if let Err(report) = spec.validate() {
        for (path, error) in report.iter() {
            out.push(Violation {
                field: format!("spec.{}", camel_path(&path.to_string())),
                listener: None,
                message: error.to_string(),
            });
        }
    }
    match (&spec.envoy, &spec.tencent) {
        (Some(_), Some(_)) => {
            push(&mut out, "spec.tencent", None, "both envoy and tencent are given: give one of them")
        }
        (None, None) => push(&mut out, "spec.envoy", None, "missing: give one of envoy and tencent"),
        _ => {}
    }
    if let Some(t) = &spec.tencent
        && t.endpoint.as_ref().is_some_and(|e| e.starts_with("http://"))
        && !t.insecure_http
    {
        let text =
            format!("\"{}\" has no TLS: use https://, or set insecureHttp", t.endpoint.clone().unwrap_or_default());
        push(&mut out, "spec.tencent.endpoint", None, &text);
    }
    if let Some(hc) = spec.defaults.as_ref().and_then(|d| d.health_check.as_ref()) {
        health_check(hc, "spec.defaults.healthCheck", None, &mut out);
    }
    out
}

/// Changes that are not allowed.
#[must_use]
pub fn transition(old: &DirectLoadBalancerSpec, new: &DirectLoadBalancerSpec) -> Vec<Violation> {
    let mut out = Vec::new();
    let show = |v: Option<&String>| v.map_or_else(|| "none".to_owned(), |v| format!("\"{v}\""));
    let mut immutable = |field: &str, was: Option<&String>, is: Option<&String>| {
        if was != is {
            let text = format!("{} was {}: it is immutable, delete the object and make it anew", show(is), show(was));
            push(&mut out, field, None, &text);
        }
    };
    immutable("spec.className", old.class_name.as_ref(), new.class_name.as_ref());
    immutable(
        "spec.loadBalancer.address",
        old.load_balancer.as_ref().and_then(|l| l.address.as_ref()),
        new.load_balancer.as_ref().and_then(|l| l.address.as_ref()),
    );
    immutable(
        "spec.loadBalancer.id",
        old.load_balancer.as_ref().and_then(|l| l.id.as_ref()),
        new.load_balancer.as_ref().and_then(|l| l.id.as_ref()),
    );
    let scheme = |s: &DirectLoadBalancerSpec| {
        s.load_balancer.as_ref().map_or(super::Scheme::Internet, |l| l.scheme).as_str().to_owned()
    };
    immutable("spec.loadBalancer.scheme", Some(&scheme(old)), Some(&scheme(new)));
    out
}
