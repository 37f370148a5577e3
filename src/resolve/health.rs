//! From a health check as users write it to the one in force.

use std::time::Duration;

use garde::Validate as _;

use crate::{
    api::{DirectLoadBalancerClass, HealthCheckKind, HealthCheckSpec, HumanDuration, PortRef, Protocol, validate},
    model::{HealthCheck, HealthProbe},
};

/// A health check; `port_name`: its port, where that goes by a name.
#[derive(Clone)]
pub(super) struct Check {
    pub(super) check: HealthCheck,
    pub(super) port_name: Option<String>,
}

/// The health check of a listener or rule: its own, else the class' default, else that a TCP connection is accepted.
/// For UDP only its own, else none: a default meant for TCP would fail everywhere.
///
/// # Errors
/// What is wrong with the class' default, or (only where `own` was never validated) with `own`.
pub(super) fn health_check(
    own: Option<&HealthCheckSpec>,
    class: Option<&DirectLoadBalancerClass>,
    protocol: Protocol,
) -> Result<Check, String> {
    let udp = protocol == Protocol::UDP;
    if let Some(own) = own {
        return convert(own, class, udp).ok_or_else(|| "healthCheck: a number or duration is out of range".into());
    }
    let default = class.and_then(|c| c.spec.defaults.as_ref()?.health_check.as_ref()).filter(|_| !udp);
    let Some(default) = default else {
        return convert(&HealthCheckSpec::default(), class, udp)
            .ok_or_else(|| "healthCheck: the standard check is invalid".into());
    };
    let at = "spec.defaults.healthCheck";
    let mut found = Vec::new();
    validate::health_check(default, at, None, &mut found);
    let mut wrong: Vec<String> = found.iter().map(ToString::to_string).collect();
    if let Err(report) = default.validate() {
        wrong.extend(report.iter().map(|(path, error)| format!("{at}.{path}: {error}")));
    }
    match convert(default, class, udp) {
        Some(check) if wrong.is_empty() => Ok(check),
        _ => Err(format!("the class' default cannot be used: {}", wrong.join("; "))),
    }
}

/// Interval and timeout of a check that gives none: the shortest that each provider takes without strain.
fn pace(class: Option<&DirectLoadBalancerClass>) -> (Duration, Duration) {
    let seconds = Duration::from_secs;
    if class.is_some_and(|c| c.spec.tencent.is_some()) { (seconds(3), seconds(2)) } else { (seconds(2), seconds(1)) }
}

fn convert(spec: &HealthCheckSpec, class: Option<&DirectLoadBalancerClass>, udp: bool) -> Option<Check> {
    let inferred = match (&spec.path, udp) {
        (Some(_), _) => HealthCheckKind::HTTP,
        (None, false) => HealthCheckKind::TCP,
        (None, true) => HealthCheckKind::None,
    };
    let probe = match spec.kind.unwrap_or(inferred) {
        HealthCheckKind::None => HealthProbe::None,
        HealthCheckKind::TCP => HealthProbe::Tcp,
        HealthCheckKind::HTTP => {
            HealthProbe::Http { path: spec.path.clone().unwrap_or_else(|| "/".into()), host: spec.host.clone() }
        }
        HealthCheckKind::GRPC => HealthProbe::Grpc { service: spec.service.clone().unwrap_or_default() },
    };
    let (port, port_name) = match &spec.port {
        None => (None, None),
        Some(PortRef::Number(n)) => (Some(super::pods::port_number(*n)?), None),
        Some(PortRef::Name(name)) => (None, Some(name.clone())),
    };
    let (interval, timeout) = pace(class);
    let interval = spec.interval.as_ref().map_or(Some(interval), HumanDuration::get)?;
    // Where only one of the two is given, the other gives way.
    let timeout = spec.timeout.as_ref().map_or(Some(timeout.min(interval)), HumanDuration::get)?;
    let check = HealthCheck {
        probe,
        port,
        interval: if spec.interval.is_none() { interval.max(timeout) } else { interval },
        timeout,
        healthy_threshold: u32::try_from(spec.healthy_threshold.unwrap_or(2)).ok()?,
        unhealthy_threshold: u32::try_from(spec.unhealthy_threshold.unwrap_or(2)).ok()?,
    };
    Some(Check { check, port_name })
}
