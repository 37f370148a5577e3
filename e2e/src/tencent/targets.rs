//! Binding, unbinding and weighing targets, in batches and one place at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::json;

use super::context::Context;
use super::error::{Answer, ApiError};
use super::schema::{Params, Read};
use super::state::{Address, Bound, Listener, LoadBalancer, World, find_mut};

/// What a target has when nothing else is said.
const WEIGHT: i64 = 10;
/// What the weights of one call may add up to in targets.
const WEIGHED: usize = 500;

/// Where targets are bound: a listener of layer 4, or a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    listener: String,
    location: Option<String>,
}

impl Place {
    /// What `ListenerId` with `LocationId`, or with `Domain` and `Url`, says.
    fn of(lb: &LoadBalancer, params: &Params) -> Result<Self, ApiError> {
        let listener = lb.listener(params.text("ListenerId"))?;
        let location = if !listener.layer7() {
            if params.has("LocationId") {
                return Err(ApiError::no_location(params.text("LocationId")));
            }
            None
        } else if params.has("LocationId") {
            Some(params.text("LocationId").to_owned())
        } else if params.has("Domain") && params.has("Url") {
            let (domain, url) = (params.text("Domain"), params.text("Url"));
            let found = listener.rules.iter().find(|r| r.url == url && r.domains.iter().any(|d| d == domain));
            Some(found.ok_or_else(|| ApiError::no_location(&format!("{domain}{url}")))?.id.clone())
        } else {
            return Err(ApiError::missing("LocationId"));
        };
        if let Some(id) = &location
            && !listener.rules.iter().any(|r| r.id == *id)
        {
            return Err(ApiError::no_location(id));
        }
        Ok(Self { listener: listener.id.clone(), location })
    }

    fn list<'a>(&self, listener: &'a mut Listener) -> Result<&'a mut Vec<Bound>, ApiError> {
        match &self.location {
            Some(id) => Ok(&mut listener.rule_mut(id)?.targets),
            None => Ok(&mut listener.targets),
        }
    }
}

fn address(target: &Params) -> Result<Address, ApiError> {
    match (target.has("EniIp"), target.has("InstanceId")) {
        (true, false) => {
            let ip = target.text("EniIp");
            ip.parse::<IpAddr>().map_err(|_| ApiError::value(format!("EniIp {ip:?} is no address")))?;
            Ok(Address::Ip(ip.to_owned()))
        }
        (false, true) => Ok(Address::Instance(target.text("InstanceId").to_owned())),
        (true, true) => Err(ApiError::combination("EniIp and InstanceId cannot be given both")),
        (false, false) => Err(ApiError::missing("EniIp")),
    }
}

fn port(target: &Params) -> i64 {
    target.int("Port").unwrap_or_default()
}

type Parts = BTreeMap<String, Vec<(Place, Address, Params)>>;

/// A batch's parts, by listener. What is wrong here is wrong with the whole call.
fn parts(lb: &LoadBalancer, params: &Params) -> Result<Parts, ApiError> {
    let mut seen = BTreeSet::new();
    let mut parts = Parts::new();
    for target in params.objects("Targets") {
        let (place, address) = (Place::of(lb, target)?, address(target)?);
        if !seen.insert((place.clone(), address.clone(), port(target))) {
            let message = format!("Targets has {address:?}, port {}, of one place twice", port(target));
            return Err(ApiError::new("InvalidParameterValue.Duplicate", message));
        }
        parts.entry(place.listener.clone()).or_default().push((place, address, target.clone()));
    }
    Ok(parts)
}

/// Changes each listener by its part; a listener whose part fails stays as it was.
fn batch(
    world: &mut World,
    params: &Params,
    cx: &Context<'_>,
    change: impl Fn(&mut Vec<Bound>, &Address, &Params, &'static str) -> Result<(), ApiError>,
) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let family = lb.family;
    let (mut failed, mut messages) = (Vec::new(), Vec::new());
    for (id, part) in parts(lb, params)? {
        let listener = lb.listener_mut(&id)?;
        let before = listener.clone();
        let mut done =
            part.iter().try_for_each(|(place, address, target)| change(place.list(listener)?, address, target, family));
        if cx.doomed.contains(&id) {
            done = Err(ApiError::new("FailedOperation", "try again"));
        }
        if let Err(error) = done {
            *listener = before;
            messages.push(format!("{id}: {error}"));
            failed.push(id);
        }
    }
    Ok(json!({"FailListenerIdSet": failed, "Message": messages.join("; ")}))
}

/// Binds a target; one that is bound already stays as it is.
fn bind(
    list: &mut Vec<Bound>,
    address: &Address,
    target: &Params,
    family: &str,
    cx: &Context<'_>,
) -> Result<(), ApiError> {
    if list.iter().any(|b| b.address == *address && b.port == port(target)) {
        return Ok(());
    }
    if let Address::Ip(ip) = address {
        if cx.refused.contains(ip) {
            return Err(ApiError::invalid(format!("{ip} is not an address of the VPC")));
        }
        if ip.contains(':') != (family == "ipv6") {
            return Err(ApiError::invalid(format!("{ip} is not of {family}")));
        }
    }
    let quota = cx.quota("TOTAL_TARGET_BIND_QUOTA");
    if i64::try_from(list.len()).unwrap_or(i64::MAX) >= quota {
        return Err(ApiError::limit(format!("TOTAL_TARGET_BIND_QUOTA is {quota}")));
    }
    list.push(Bound {
        address: address.clone(),
        port: port(target),
        weight: target.int("Weight").unwrap_or(WEIGHT),
        tag: target.has("Tag").then(|| target.text("Tag").to_owned()),
        since: cx.millis,
        registered: cx.unix,
    });
    Ok(())
}

fn unbind(list: &mut Vec<Bound>, address: &Address, target: &Params, strict: bool) -> Result<(), ApiError> {
    let before = list.len();
    list.retain(|b| b.address != *address || b.port != port(target));
    if strict && list.len() == before {
        return Err(not_bound(address, port(target)));
    }
    Ok(())
}

fn not_bound(address: &Address, port: i64) -> ApiError {
    ApiError::invalid(format!("{address:?}, port {port}, is not bound"))
}

pub(super) fn batch_register(world: &mut World, params: &Params, cx: &Context<'_>) -> Answer {
    batch(world, params, cx, |list, address, target, family| bind(list, address, target, family, cx))
}

pub(super) fn batch_deregister(world: &mut World, params: &Params, cx: &Context<'_>) -> Answer {
    let strict = cx.settings.strict_deregister;
    batch(world, params, cx, |list, address, target, _| unbind(list, address, target, strict))
}

/// Binds targets to one place: all of them, or none.
pub(super) fn register(world: &mut World, params: &Params, cx: &Context<'_>) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let (place, family) = (Place::of(lb, params)?, lb.family);
    let list = place.list(lb.listener_mut(&place.listener)?)?;
    for target in params.objects("Targets") {
        bind(list, &address(target)?, target, family, cx)?;
    }
    Ok(json!({}))
}

pub(super) fn deregister(world: &mut World, params: &Params, cx: &Context<'_>) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let place = Place::of(lb, params)?;
    let list = place.list(lb.listener_mut(&place.listener)?)?;
    for target in params.objects("Targets") {
        unbind(list, &address(target)?, target, cx.settings.strict_deregister)?;
    }
    Ok(json!({}))
}

/// Weighs targets of one place.
pub(super) fn weigh(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    weigh_place(lb, params)?;
    Ok(json!({}))
}

fn weigh_place(lb: &mut LoadBalancer, params: &Params) -> Result<(), ApiError> {
    let place = Place::of(lb, params)?;
    let list = place.list(lb.listener_mut(&place.listener)?)?;
    for target in params.objects("Targets") {
        let (address, port) = (address(target)?, port(target));
        let bound = list.iter_mut().find(|b| b.address == address && b.port == port);
        // A target's own weight comes before that of all.
        let weight = target.int("Weight").or_else(|| params.int("Weight")).unwrap_or(WEIGHT);
        bound.ok_or_else(|| not_bound(&address, port))?.weight = weight;
    }
    Ok(())
}

/// Weighs targets of many places: all of them, or none.
pub(super) fn batch_weigh(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let all: usize = params.objects("ModifyList").map(|m| m.list("Targets").len()).sum();
    if all > WEIGHED {
        let message = format!("ModifyList has {all} targets, and may have up to {WEIGHED}");
        return Err(ApiError::new("InvalidParameterValue.Length", message));
    }
    params.objects("ModifyList").try_for_each(|one| weigh_place(lb, one))?;
    Ok(json!({}))
}
