//! Listeners.

use serde_json::{Value, json};

use super::certificates;
use super::clock::written;
use super::context::Context;
use super::error::{Answer, ApiError};
use super::health_check;
use super::rules;
use super::schema::{Params, Read};
use super::state::{Listener, LoadBalancer, World, find, find_mut, is_layer7};

/// Parameters that have a place of their own.
const PLACED: [&str; 12] = [
    "LoadBalancerId",
    "ListenerId",
    "Ports",
    "Protocol",
    "ListenerNames",
    "ListenerName",
    "HealthCheck",
    "Certificate",
    "MultiCertInfo",
    "SniSwitch",
    "EndPort",
    "FullEndPorts",
];

/// Which protocols a parameter is for.
const FOR: [(&str, &[&str]); 19] = [
    ("HealthCheck", &["TCP", "UDP", "TCP_SSL", "QUIC"]),
    ("Certificate", &["TCP_SSL", "HTTPS", "QUIC"]),
    ("MultiCertInfo", &["TCP_SSL", "HTTPS", "QUIC"]),
    ("SessionExpireTime", &["TCP", "UDP"]),
    ("Scheduler", &["TCP", "UDP", "TCP_SSL", "QUIC"]),
    ("SniSwitch", &["HTTPS"]),
    ("TargetType", &["TCP", "UDP"]),
    ("SessionType", &["TCP", "UDP"]),
    ("KeepaliveEnable", &["HTTP", "HTTPS"]),
    ("DeregisterTargetRst", &["TCP", "UDP"]),
    ("IdleConnectTimeout", &["TCP", "UDP"]),
    ("ProxyProtocol", &["TCP_SSL", "QUIC"]),
    ("H2cSwitch", &["HTTP"]),
    ("SslCloseSwitch", &["TCP_SSL"]),
    ("RescheduleTargetZeroWeight", &["TCP", "UDP"]),
    ("RescheduleUnhealthy", &["TCP", "UDP"]),
    ("RescheduleExpandTarget", &["TCP", "UDP"]),
    ("RescheduleStartTime", &["TCP", "UDP"]),
    ("RescheduleInterval", &["TCP", "UDP"]),
];

pub(super) fn create(world: &mut World, params: &Params, cx: &mut Context<'_>) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let protocol = params.text("Protocol");
    let ports: Vec<i64> = params.list("Ports").iter().filter_map(Value::as_i64).collect();
    let names = params.texts("ListenerNames");
    if params.has("ListenerNames") && names.len() != ports.len() {
        return Err(ApiError::invalid(format!("ListenerNames are {}, and Ports {}", names.len(), ports.len())));
    }
    fits(params, protocol)?;
    let end = params.int("EndPort").unwrap_or(0);
    if end != 0 && (ports.len() > 1 || end <= ports[0]) {
        return Err(ApiError::value("EndPort is for one port, and comes after it"));
    }
    let quota = cx.quota("TOTAL_LISTENER_QUOTA");
    if i64::try_from(lb.listeners.len() + ports.len()).unwrap_or(i64::MAX) > quota {
        let there = lb.listeners.len();
        return Err(ApiError::limit(format!("TOTAL_LISTENER_QUOTA is {quota}, and {there} are there")));
    }
    let sni = params.int("SniSwitch") == Some(1);
    let certificate = certificates::given(params, cx)?;
    let encrypted = matches!(protocol, "TCP_SSL" | "QUIC") || protocol == "HTTPS" && !sni;
    if encrypted && certificate.is_none() {
        return Err(ApiError::missing("Certificate"));
    }
    if sni && certificate.is_some() {
        return Err(ApiError::combination("with SNI, certificates are those of the domains"));
    }
    let health = if is_layer7(protocol) {
        None
    } else {
        Some(health_check::merged(None, params.object("HealthCheck"), protocol, false, lb.family == "ipv6")?)
    };
    let mut attributes = params.clone();
    attributes.retain(|k, _| !PLACED.contains(&k.as_str()));

    let mut ids = Vec::new();
    for (n, port) in ports.into_iter().enumerate() {
        clash(lb, protocol, port, end)?;
        let id = cx.id("lbl");
        lb.listeners.push(Listener {
            name: names.get(n).map_or_else(|| id.clone(), ToString::to_string),
            protocol: protocol.to_owned(),
            port,
            end_port: end,
            created: cx.unix,
            health: health.clone(),
            certificate: certificate.clone(),
            sni,
            attributes: attributes.clone(),
            rules: Vec::new(),
            targets: Vec::new(),
            id: id.clone(),
        });
        ids.push(id);
    }
    Ok(json!({"ListenerIds": ids}))
}

fn fits(params: &Params, protocol: &str) -> Result<(), ApiError> {
    for (name, protocols) in FOR {
        if params.has(name) && !protocols.contains(&protocol) {
            let message = format!("{name} is for listeners of {} only", protocols.join(", "));
            return Err(ApiError::combination(message));
        }
    }
    if params.int("SessionExpireTime").is_some_and(|t| t != 0 && t < 30) {
        return Err(ApiError::new("InvalidParameterValue.Range", "SessionExpireTime may be 0, or from 30 to 3600"));
    }
    if params.text("SessionType") == "QUIC_CID" && protocol != "UDP" {
        return Err(ApiError::combination("SessionType QUIC_CID is for listeners of UDP only"));
    }
    Ok(())
}

/// One port is taken once over TCP, and once over UDP.
fn clash(lb: &LoadBalancer, protocol: &str, port: i64, end: i64) -> Result<(), ApiError> {
    let over_udp = |protocol: &str| matches!(protocol, "UDP" | "QUIC");
    let taken = lb.listeners.iter().find(|l| {
        over_udp(&l.protocol) == over_udp(protocol) && port <= l.port.max(l.end_port) && l.port <= port.max(end)
    });
    match taken {
        Some(l) => Err(ApiError::new(
            "InvalidParameter.PortCheckFailed",
            format!("the port {port} of {protocol} is taken by {} ({})", l.id, l.protocol),
        )),
        None => Ok(()),
    }
}

pub(super) fn modify(world: &mut World, params: &Params, cx: &mut Context<'_>) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let v6 = lb.family == "ipv6";
    let listener = lb.listener_mut(params.text("ListenerId"))?;
    if params.len() < 3 {
        return Err(ApiError::invalid("nothing is to be modified"));
    }
    fits(params, &listener.protocol)?;
    match params.int("SniSwitch") {
        Some(0) if listener.sni => return Err(ApiError::invalid("SNI cannot be switched off again")),
        Some(1) => {
            listener.sni = true;
            // Domains have certificates of their own from now on.
            let shared = listener.certificate.take();
            for rule in &mut listener.rules {
                rule.certificate.clone_from(&shared);
            }
        }
        _ => {}
    }
    if let Some(certificate) = certificates::given(params, cx)? {
        if listener.sni {
            return Err(ApiError::combination("with SNI, certificates are those of the domains"));
        }
        listener.certificate = Some(certificate);
    }
    if let Some(given) = params.object("HealthCheck") {
        let merged = health_check::merged(listener.health.as_ref(), Some(given), &listener.protocol, false, v6)?;
        listener.health = Some(merged);
    }
    if params.has("ListenerName") {
        params.text("ListenerName").clone_into(&mut listener.name);
    }
    let rest = params.iter().filter(|(k, _)| !PLACED.contains(&k.as_str()));
    listener.attributes.extend(rest.map(|(k, v)| (k.clone(), v.clone())));
    Ok(json!({}))
}

pub(super) fn delete(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let id = params.text("ListenerId");
    lb.listener(id)?;
    lb.listeners.retain(|l| l.id != id);
    lb.drop_dangling_rewrites();
    Ok(json!({}))
}

pub(super) fn delete_many(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let ids = params.texts("ListenerIds");
    if ids.iter().any(|id| lb.listener(id).is_err()) {
        // The cloud has a code for this, and does not use it here.
        return Err(ApiError::invalid("some ListenerId not found"));
    }
    lb.listeners.retain(|l| params.has("ListenerIds") && !ids.contains(&l.id.as_str()));
    lb.drop_dangling_rewrites();
    Ok(json!({}))
}

/// The listeners that `ListenerIds`, `Protocol` and `Port` choose; unknown ids are refused.
pub(super) fn chosen<'a>(lb: &'a LoadBalancer, params: &Params) -> Result<Vec<&'a Listener>, ApiError> {
    let ids = params.texts("ListenerIds");
    for id in &ids {
        lb.listener(id)?;
    }
    let fits = |l: &&Listener| {
        (ids.is_empty() || ids.contains(&l.id.as_str()))
            && (!params.has("Protocol") || params.text("Protocol") == l.protocol)
            && params.int("Port").is_none_or(|p| p == l.port)
    };
    Ok(lb.listeners.iter().filter(fits).collect())
}

pub(super) fn describe(world: &World, params: &Params) -> Answer {
    let lb = find(world, params.text("LoadBalancerId"))?;
    let listeners: Vec<Value> = chosen(lb, params)?.into_iter().map(shown).collect();
    Ok(json!({"TotalCount": listeners.len(), "Listeners": listeners}))
}

fn shown(l: &Listener) -> Value {
    let attribute = |name: &str, other: Value| l.attributes.get(name).cloned().unwrap_or(other);
    let idle = match l.protocol.as_str() {
        "TCP" => json!(900),
        "UDP" => json!(300),
        _ => Value::Null,
    };
    let flags =
        ["RescheduleTargetZeroWeight", "RescheduleUnhealthy", "RescheduleExpandTarget", "SnatEnable", "ProxyProtocol"];
    let flags: Vec<&str> = flags.into_iter().filter(|name| l.attributes.flag(name) == Some(true)).collect();
    let rules: Vec<Value> = l.rules.iter().map(|r| rules::shown(l, r)).collect();
    json!({
        "ListenerId": l.id,
        "ListenerName": l.name,
        "Protocol": l.protocol,
        "Port": l.port,
        "EndPort": l.end_port,
        "CreateTime": written(l.created),
        "Certificate": certificates::shown(l.certificate.as_ref()),
        "HealthCheck": l.health,
        "Scheduler": if l.layer7() { Value::Null } else { attribute("Scheduler", json!("WRR")) },
        "SessionExpireTime": attribute("SessionExpireTime", json!(0)),
        "SessionType": attribute("SessionType", json!("NORMAL")),
        "SniSwitch": i64::from(l.sni),
        "KeepaliveEnable": attribute("KeepaliveEnable", json!(0)),
        "TargetType": attribute("TargetType", json!("NODE")),
        "DeregisterTargetRst": attribute("DeregisterTargetRst", json!(false)),
        "RescheduleStartTime": attribute("RescheduleStartTime", json!(0)),
        "RescheduleInterval": attribute("RescheduleInterval", json!(0)),
        "MaxConn": attribute("MaxConn", json!(-1)),
        "MaxCps": attribute("MaxCps", json!(-1)),
        "IdleConnectTimeout": attribute("IdleConnectTimeout", idle),
        "DataCompressMode": attribute("DataCompressMode", json!("transparent")),
        "AttrFlags": flags,
        "Toa": false,
        "Rules": if l.layer7() { json!(rules) } else { Value::Null },
    })
}
