//! Health checks as they are configured: what may be said of which protocol, and what is meant when nothing is.

use serde_json::{Value, json};

use super::error::ApiError;
use super::schema::{Params, Read};

/// The whole check: what was there, with what is given instead. `kind` is the listener's protocol, or for a rule
/// how its targets are spoken to, with `rule` set.
pub(super) fn merged(
    before: Option<&Params>,
    given: Option<&Params>,
    kind: &str,
    rule: bool,
    v6: bool,
) -> Result<Params, ApiError> {
    let default = match (rule, kind) {
        (true, "GRPC" | "GRPCS") => "GRPC",
        (true, "HTTPS") => "HTTPS",
        (true, _) => "HTTP",
        (false, "UDP") => "PING",
        (false, _) => "TCP",
    };
    let mut all = before.cloned().unwrap_or_default();
    all.extend(given.cloned().unwrap_or_default());
    if !all.has("CheckType") {
        all.insert("CheckType".to_owned(), json!(default));
    }
    for (name, value) in [
        ("HealthSwitch", 1),
        ("TimeOut", 2),
        ("IntervalTime", 5),
        ("HealthNum", 3),
        ("UnHealthNum", 3),
        ("SourceIpType", 0),
    ] {
        all.entry(name).or_insert(json!(value));
    }
    let check = all.text("CheckType").to_owned();
    let allowed: &[&str] = match (rule, kind) {
        (true, "HTTPS" | "GRPCS") => &["HTTP", "HTTPS", "GRPC"],
        (true, _) => &["HTTP", "GRPC"],
        (false, "UDP") => &["PING", "CUSTOM"],
        (false, "TCP") => &["TCP", "HTTP", "CUSTOM"],
        (false, _) => &["TCP", "HTTP"],
    };
    if !allowed.contains(&check.as_str()) {
        let message = format!("HealthCheck.CheckType is {check}, and may be one of {} here", allowed.join(", "));
        return Err(ApiError::value(message));
    }
    range(&all, v6)?;
    by_kind(&mut all, given, &check, kind, rule)?;
    Ok(all)
}

fn range(check: &Params, v6: bool) -> Result<(), ApiError> {
    let (timeout, interval) = (check.int("TimeOut").unwrap_or(2), check.int("IntervalTime").unwrap_or(5));
    if timeout >= interval {
        let message = format!("HealthCheck.TimeOut is {timeout}, and must be less than IntervalTime, {interval}");
        return Err(ApiError::value(message));
    }
    if v6 && interval < 5 {
        let message = format!("HealthCheck.IntervalTime is {interval}, and may be from 5 on with IPv6");
        return Err(ApiError::new("InvalidParameterValue.Range", message));
    }
    Ok(())
}

fn by_kind(all: &mut Params, given: Option<&Params>, check: &str, kind: &str, rule: bool) -> Result<(), ApiError> {
    let http = matches!(check, "HTTP" | "HTTPS" | "GRPC");
    let given = |name: &str| given.is_some_and(|g| g.has(name));
    let parts: [(&[&str], bool, &str); 5] = [
        (&["HttpCode", "HttpCheckPath", "HttpCheckDomain", "HttpCheckMethod"], http, "checks by HTTP"),
        (&["HttpVersion"], check == "HTTP" && !rule, "checks of a TCP listener by HTTP"),
        (&["ContextType", "SendContext", "RecvContext"], check == "CUSTOM", "checks of type CUSTOM"),
        (&["ExtendedCode"], check == "GRPC", "checks by gRPC"),
        (&["CheckPort"], !rule && matches!(kind, "TCP" | "UDP"), "listeners of TCP and UDP"),
    ];
    for (names, fits, of) in parts {
        if let Some(name) = names.iter().find(|n| given(n) && !fits) {
            return Err(ApiError::combination(format!("HealthCheck.{name} is for {of} only")));
        }
        if !fits {
            all.retain(|name, _| !names.contains(&name.as_str()));
        }
    }
    let needed: &[&str] = match check {
        "CUSTOM" => &["ContextType", "SendContext", "RecvContext"],
        "HTTP" if !rule && kind == "TCP" => &["HttpCheckDomain", "HttpVersion"],
        _ => &[],
    };
    if let Some(name) = needed.iter().find(|n| !all.has(n)) {
        return Err(ApiError::missing(&format!("HealthCheck.{name}")));
    }
    if all.int("CheckPort") == Some(0) {
        return Err(ApiError::new("InvalidParameterValue.Range", "HealthCheck.CheckPort is 0"));
    }
    let http_defaults = [("HttpCode", json!(31)), ("HttpCheckPath", json!("/")), ("HttpCheckMethod", json!("HEAD"))];
    for (name, value) in http_defaults.into_iter().filter(|_| http) {
        all.entry(name).or_insert(value);
    }
    Ok(())
}

/// After how many milliseconds a target that was bound is known to be healthy or not.
pub(super) fn warm_up(check: &Params) -> u64 {
    let seconds = check.int("HealthNum").unwrap_or(3) * check.int("IntervalTime").unwrap_or(5);
    u64::try_from(seconds).unwrap_or_default() * 1_000
}

/// Whether it is on.
pub(super) fn is_on(check: &Params) -> bool {
    check.get("HealthSwitch").and_then(Value::as_i64) != Some(0)
}
