//! Rules of listeners of layer 7, and the domains that they share.

use serde_json::{Value, json};

use super::certificates;
use super::clock::written;
use super::context::Context;
use super::error::{Answer, ApiError};
use super::health_check;
use super::schema::{Params, Read};
use super::state::{Listener, Rule, World, find_mut};

/// Parameters that stay as they are given.
const KEPT: [&str; 6] = ["SessionExpireTime", "Scheduler", "ForwardType", "TargetType", "CookieName", "OAuth"];

pub(super) fn create(world: &mut World, params: &Params, cx: &mut Context<'_>) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let v6 = lb.family == "ipv6";
    let listener = lb.listener_mut(params.text("ListenerId"))?;
    if !listener.layer7() {
        let message = format!("{} is of {}, which has no rules", listener.id, listener.protocol);
        return Err(ApiError::new("InvalidParameter.ProtocolCheckFailed", message));
    }
    let quota = cx.quota("TOTAL_LISTENER_RULE_QUOTA");
    let wanted = listener.rules.len() + params.list("Rules").len();
    if i64::try_from(wanted).unwrap_or(i64::MAX) > quota {
        let there = listener.rules.len();
        return Err(ApiError::limit(format!("TOTAL_LISTENER_RULE_QUOTA is {quota}, and {there} are there")));
    }
    let mut ids = Vec::new();
    for input in params.objects("Rules") {
        ids.push(add(listener, input, v6, cx)?);
    }
    Ok(json!({"LocationIds": ids}))
}

fn add(listener: &mut Listener, input: &Params, v6: bool, cx: &mut Context<'_>) -> Result<String, ApiError> {
    let domains: Vec<String> = match (input.has("Domain"), input.has("Domains")) {
        (true, true) => return Err(ApiError::combination("Domain and Domains cannot be given both")),
        (true, false) => vec![input.text("Domain").to_owned()],
        (false, true) => input.texts("Domains").into_iter().map(str::to_owned).collect(),
        (false, false) => return Err(ApiError::missing("Rules.Domain")),
    };
    let url = input.text("Url");
    free(listener, &domains, url, None)?;
    session_fits(input)?;
    https_only(listener, input)?;
    let sibling = listener.rules.iter().find(|r| r.domains.iter().any(|d| domains.contains(d))).cloned();
    if sibling.as_ref().is_some_and(|s| s.domains != domains) {
        return Err(ApiError::value("one of the Domains is in another set of domains"));
    }
    let certificate = certificates::given(input, cx)?;
    if certificate.is_some() && !listener.sni {
        return Err(ApiError::combination("Certificate is for domains of listeners with SNI only"));
    }
    let certificate = certificate.or_else(|| sibling.as_ref().and_then(|s| s.certificate.clone()));
    if listener.sni && certificate.is_none() {
        return Err(ApiError::missing("Rules.Certificate"));
    }
    let forward = forward_type(listener, input)?;
    let health = health_check::merged(None, input.object("HealthCheck"), &forward, true, v6)?;
    let default = input.flag("DefaultServer").unwrap_or(false)
        || listener.rules.is_empty()
        || sibling.as_ref().is_some_and(|s| s.default_server);
    let id = cx.id("loc");
    let mut attributes = input.clone();
    attributes.retain(|k, _| KEPT.contains(&k.as_str()));
    listener.rules.push(Rule {
        url: url.to_owned(),
        created: cx.unix,
        default_server: false,
        http2: input.flag("Http2").unwrap_or_else(|| sibling.as_ref().is_some_and(|s| s.http2)),
        quic: input.flag("Quic").unwrap_or_else(|| sibling.as_ref().is_some_and(|s| s.quic)),
        health,
        certificate,
        attributes,
        rewrite: None,
        targets: Vec::new(),
        domains: domains.clone(),
        id: id.clone(),
    });
    if default {
        make_default(listener, &domains[0])?;
    }
    Ok(id)
}

/// A domain and a path are there once.
fn free(listener: &Listener, domains: &[String], url: &str, but: Option<&str>) -> Result<(), ApiError> {
    let taken = listener.rules.iter().filter(|r| but != Some(r.id.as_str()) && r.url == url);
    match taken.flat_map(|r| &r.domains).find(|d| domains.contains(d)) {
        Some(domain) => {
            let message = format!("{} has a rule for {domain}{url} already", listener.id);
            Err(ApiError::new("InvalidParameterValue.Duplicate", message))
        }
        None => Ok(()),
    }
}

fn session_fits(params: &Params) -> Result<(), ApiError> {
    if params.int("SessionExpireTime").is_some_and(|t| t != 0 && t < 30) {
        return Err(ApiError::new("InvalidParameterValue.Range", "SessionExpireTime may be 0, or from 30 to 86400"));
    }
    Ok(())
}

fn https_only(listener: &Listener, params: &Params) -> Result<(), ApiError> {
    let asked = ["Http2", "Quic"].into_iter().find(|n| params.flag(n) == Some(true));
    match asked {
        Some(name) if listener.protocol != "HTTPS" => {
            Err(ApiError::combination(format!("{name} is for listeners of HTTPS only")))
        }
        _ => Ok(()),
    }
}

fn forward_type(listener: &Listener, params: &Params) -> Result<String, ApiError> {
    let forward = if params.has("ForwardType") { params.text("ForwardType") } else { "HTTP" };
    let h2c = listener.attributes.flag("H2cSwitch") == Some(true);
    if forward != "HTTP" && listener.protocol != "HTTPS" && !(h2c && forward.starts_with("GRPC")) {
        return Err(ApiError::combination(format!("ForwardType {forward} is for listeners of HTTPS only")));
    }
    Ok(forward.to_owned())
}

fn make_default(listener: &mut Listener, domain: &str) -> Result<(), ApiError> {
    if !listener.rules.iter().any(|r| r.domains.iter().any(|d| d == domain)) {
        return Err(ApiError::no_location(domain));
    }
    for rule in &mut listener.rules {
        rule.default_server = rule.domains.iter().any(|d| d == domain);
    }
    Ok(())
}

pub(super) fn modify(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let v6 = lb.family == "ipv6";
    let listener = lb.listener_mut(params.text("ListenerId"))?;
    let mut new = listener.rule_mut(params.text("LocationId"))?.clone();
    if params.len() < 4 {
        return Err(ApiError::invalid("nothing is to be modified"));
    }
    session_fits(params)?;
    new.attributes
        .extend(params.iter().filter(|(k, _)| KEPT.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())));
    if params.has("Url") {
        params.text("Url").clone_into(&mut new.url);
        free(listener, &new.domains, &new.url, Some(&new.id))?;
    }
    let forward = forward_type(listener, &new.attributes)?;
    if let Some(given) = params.object("HealthCheck") {
        new.health = health_check::merged(Some(&new.health), Some(given), &forward, true, v6)?;
    }
    *listener.rule_mut(params.text("LocationId"))? = new;
    Ok(json!({}))
}

pub(super) fn modify_domain(world: &mut World, params: &Params, cx: &mut Context<'_>) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let listener = lb.listener_mut(params.text("ListenerId"))?;
    let domain = params.text("Domain");
    let of = |r: &Rule| r.domains.iter().any(|d| d == domain);
    let was_default = listener.rules.iter().any(|r| of(r) && r.default_server);
    if !listener.rules.iter().any(of) {
        return Err(ApiError::no_location(domain));
    }
    https_only(listener, params)?;
    let renamed: Option<Vec<String>> = match (params.has("NewDomain"), params.has("NewDomains")) {
        (true, true) => return Err(ApiError::combination("NewDomain and NewDomains cannot be given both")),
        (true, false) => Some(vec![params.text("NewDomain").to_owned()]),
        (false, true) => Some(params.texts("NewDomains").into_iter().map(str::to_owned).collect()),
        (false, false) => None,
    };
    if let Some(domains) = &renamed
        && listener.rules.iter().any(|r| !of(r) && r.domains.iter().any(|d| domains.contains(d)))
    {
        return Err(ApiError::new("InvalidParameterValue.Duplicate", "the new domain is there already"));
    }
    let certificate = certificates::given(params, cx)?;
    if certificate.is_some() && !listener.sni {
        return Err(ApiError::combination("Certificate is for domains of listeners with SNI only"));
    }
    match params.flag("DefaultServer") {
        Some(true) => make_default(listener, domain)?,
        Some(false) if was_default && !params.has("NewDefaultServerDomain") => {
            return Err(ApiError::missing("NewDefaultServerDomain"));
        }
        _ => {}
    }
    if params.has("NewDefaultServerDomain") {
        make_default(listener, params.text("NewDefaultServerDomain"))?;
    }
    for rule in listener.rules.iter_mut().filter(|r| of(r)) {
        rule.http2 = params.flag("Http2").unwrap_or(rule.http2);
        rule.quic = params.flag("Quic").unwrap_or(rule.quic);
        if certificate.is_some() {
            rule.certificate.clone_from(&certificate);
        }
        if let Some(domains) = &renamed {
            rule.domains.clone_from(domains);
        }
    }
    Ok(json!({}))
}

pub(super) fn delete(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let listener = lb.listener_mut(params.text("ListenerId"))?;
    let (ids, domain, url) = (params.texts("LocationIds"), params.text("Domain"), params.text("Url"));
    if ids.is_empty() && domain.is_empty() {
        return Err(ApiError::missing("LocationIds"));
    }
    for id in &ids {
        listener.rule_mut(id)?;
    }
    let named = |r: &Rule| r.domains.iter().any(|d| d == domain) && (url.is_empty() || url == r.url);
    let goes = |r: &Rule| if ids.is_empty() { named(r) } else { ids.contains(&r.id.as_str()) };
    if !listener.rules.iter().any(goes) {
        return Err(ApiError::no_location(&format!("{domain}{url}")));
    }
    listener.rules.retain(|r| !goes(r));
    if params.has("NewDefaultServerDomain") {
        make_default(listener, params.text("NewDefaultServerDomain"))?;
    } else if !listener.rules.is_empty() && !listener.rules.iter().any(|r| r.default_server) {
        // A listener with rules has a default domain always.
        return Err(ApiError::missing("NewDefaultServerDomain"));
    }
    lb.drop_dangling_rewrites();
    Ok(json!({}))
}

/// As describes show it.
pub(super) fn shown(listener: &Listener, rule: &Rule) -> Value {
    let attribute = |name: &str, other: Value| rule.attributes.get(name).cloned().unwrap_or(other);
    let rewrite = rule.rewrite.as_ref();
    json!({
        "LocationId": rule.id,
        "ListenerId": listener.id,
        "Domain": rule.domains.first(),
        "Domains": rule.domains,
        "Url": rule.url,
        "SessionExpireTime": attribute("SessionExpireTime", json!(0)),
        "HealthCheck": rule.health,
        "Certificate": certificates::shown(rule.certificate.as_ref()),
        "Scheduler": attribute("Scheduler", json!("WRR")),
        "ForwardType": attribute("ForwardType", json!("HTTP")),
        "TargetType": attribute("TargetType", json!("NODE")),
        "CookieName": attribute("CookieName", json!("")),
        "DefaultServer": rule.default_server,
        "Http2": rule.http2,
        "QuicStatus": if rule.quic { "QUIC_ACTIVE" } else { "QUIC_INACTIVE" },
        "HttpGzip": true,
        "BeAutoCreated": false,
        "CreateTime": written(rule.created),
        "RewriteTarget": {
            "TargetListenerId": rewrite.map(|r| &r.listener),
            "TargetLocationId": rewrite.map(|r| &r.location),
            "RewriteCode": rewrite.and_then(|r| r.code),
            "TakeUrl": rewrite.and_then(|r| r.take_url),
            "RewriteType": rewrite.map(|_| "Manual"),
        },
    })
}
