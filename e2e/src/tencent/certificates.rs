//! Certificates of listeners and domains.

use serde_json::{Value, json};

use super::context::Context;
use super::error::{Answer, ApiError};
use super::schema::{Params, Read};
use super::state::{Certificate, World};

/// The certificate that is given as `Certificate` or as `MultiCertInfo`, if one is.
pub(super) fn given(params: &Params, cx: &mut Context<'_>) -> Result<Option<Certificate>, ApiError> {
    match (params.object("Certificate"), params.object("MultiCertInfo")) {
        (Some(_), Some(_)) => Err(ApiError::combination("Certificate and MultiCertInfo cannot be given both")),
        (Some(one), None) => single(one, cx).map(Some),
        (None, Some(many)) => {
            let mut list = Vec::new();
            for certificate in many.objects("CertList") {
                list.push(identity(certificate, ["CertId", "CertName", "CertContent"], cx)?);
            }
            let mutual = many.text("SSLMode") == "MUTUAL";
            let ca = if mutual { list.pop() } else { None };
            if list.is_empty() {
                return Err(ApiError::invalid("MultiCertInfo.CertList has no certificate of a server"));
            }
            let id = list.remove(0);
            Ok(Some(Certificate { mode: many.text("SSLMode").to_owned(), verify: verify(many), id, ca, more: list }))
        }
        (None, None) => Ok(None),
    }
}

fn single(params: &Params, cx: &mut Context<'_>) -> Result<Certificate, ApiError> {
    let mode = if params.has("SSLMode") { params.text("SSLMode") } else { "UNIDIRECTIONAL" };
    let id = identity(params, ["CertId", "CertName", "CertContent"], cx)?;
    if !params.has("CertId") && !params.has("CertKey") {
        return Err(ApiError::missing("Certificate.CertKey"));
    }
    let ca =
        if mode == "MUTUAL" { Some(identity(params, ["CertCaId", "CertCaName", "CertCaContent"], cx)?) } else { None };
    Ok(Certificate { mode: mode.to_owned(), verify: verify(params), id, ca, more: Vec::new() })
}

fn verify(params: &Params) -> Option<String> {
    params.has("SSLVerifyClient").then(|| params.text("SSLVerifyClient").to_owned())
}

/// Its id, or a new one for what is uploaded.
fn identity(params: &Params, [id, name, content]: [&str; 3], cx: &mut Context<'_>) -> Result<String, ApiError> {
    if params.has(id) {
        return Ok(params.text(id).to_owned());
    }
    match [name, content].iter().find(|n| !params.has(n)) {
        Some(missing) => Err(ApiError::missing(&format!("Certificate.{missing}"))),
        None => Ok(cx.id("cert").replace("cert-", "")),
    }
}

/// As describes show it.
pub(super) fn shown(certificate: Option<&Certificate>) -> Value {
    let Some(c) = certificate else { return Value::Null };
    json!({
        "SSLMode": c.mode,
        "SSLVerifyClient": c.verify.as_deref().unwrap_or("ON"),
        "CertId": c.id,
        "CertCaId": c.ca,
        "ExtCertIds": c.more,
    })
}

/// The load balancers that use a certificate.
pub(super) fn users(world: &World, id: &str) -> Vec<String> {
    let uses = |c: &Certificate| c.id == id || c.ca.as_deref() == Some(id) || c.more.iter().any(|m| m == id);
    let using = world.values().filter(|lb| {
        lb.listeners.iter().any(|l| {
            l.certificate.as_ref().is_some_and(uses) || l.rules.iter().any(|r| r.certificate.as_ref().is_some_and(uses))
        })
    });
    using.map(|lb| lb.id.clone()).collect()
}

pub(super) fn replace(world: &mut World, params: &Params, cx: &mut Context<'_>) -> Answer {
    let old = params.text("OldCertificateId");
    let Some(new) = given(params, cx)? else { return Err(ApiError::missing("Certificate")) };
    let mut found = false;
    let listeners = world.values_mut().flat_map(|lb| &mut lb.listeners);
    let all =
        listeners.flat_map(|l| l.certificate.iter_mut().chain(l.rules.iter_mut().flat_map(|r| &mut r.certificate)));
    for certificate in all {
        for id in std::iter::once(&mut certificate.id).chain(&mut certificate.ca).chain(&mut certificate.more) {
            if id == old {
                id.clone_from(&new.id);
                found = true;
            }
        }
    }
    if found { Ok(json!({})) } else { Err(ApiError::value(format!("no load balancer uses the certificate {old}"))) }
}
