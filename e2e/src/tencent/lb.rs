//! Load balancers: create, change and delete.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::context::Context;
use super::error::{Answer, ApiError};
use super::schema::{Params, Read};
use super::state::{LoadBalancer, World, find, find_mut};

/// Targets from which on a load balancer is not deleted without force.
const MANY_TARGETS: usize = 20;
/// Parameters that have a place of their own.
const PLACED: [&str; 10] = [
    "LoadBalancerType",
    "LoadBalancerName",
    "VpcId",
    "SubnetId",
    "AddressIPVersion",
    "Number",
    "Tags",
    "Vip",
    "ClientToken",
    "Forward",
];

pub(super) fn create(world: &mut World, params: &Params, cx: &mut Context<'_>) -> Answer {
    let kind = params.text("LoadBalancerType");
    let number = usize::try_from(params.int("Number").unwrap_or(1)).unwrap_or(1);
    let v6 = match params.text("AddressIPVersion").to_ascii_lowercase().as_str() {
        "" | "ipv4" => false,
        "ipv6fullchain" => true,
        // NAT64 is of no use to Pods, so that nothing here tries it.
        other => return Err(ApiError::value(format!("AddressIPVersion {other} is neither IPV4 nor IPv6FullChain"))),
    };
    network_fits(params, kind, v6)?;
    let (vpc, subnet) = network(params, cx)?;
    if params.has("Vip") && number > 1 {
        return Err(ApiError::combination("Vip is for one load balancer, and Number asks for more"));
    }
    let tags = params.objects("Tags").map(|t| (t.text("TagKey").to_owned(), t.text("TagValue").to_owned()));
    let tags: std::collections::BTreeMap<_, _> = tags.collect();
    if tags.len() != params.list("Tags").len() {
        return Err(ApiError::new("InvalidParameterValue.Duplicate", "Tags has a key twice"));
    }
    let quota = if kind == "OPEN" { "TOTAL_OPEN_CLB_QUOTA" } else { "TOTAL_INTERNAL_CLB_QUOTA" };
    let there = cx.others.kinds.get(kind).copied().unwrap_or_default();
    if i64::try_from(there + number).unwrap_or(i64::MAX) > cx.quota(quota) {
        return Err(ApiError::limit(format!("{quota} is {}, and {there} are there", cx.quota(quota))));
    }

    let mut ids = Vec::new();
    let mut taken: Vec<String> = cx.others.vips.iter().cloned().collect();
    for _ in 0..number {
        let id = cx.id("lb");
        let vip = vip(params, kind, v6, subnet.as_deref(), &taken, cx)?;
        taken.push(vip.clone());
        // As documented: a name that there is already is replaced by one of the cloud's own.
        let wanted = params.text("LoadBalancerName");
        let name =
            if wanted.is_empty() || cx.others.names.contains(wanted) || number > 1 { id.as_str() } else { wanted };
        let mut attributes = params.clone();
        attributes.retain(|k, _| !PLACED.contains(&k.as_str()));
        let lb = LoadBalancer {
            name: name.to_owned(),
            kind: kind.to_owned(),
            vpc: vpc.clone(),
            subnet: subnet.clone(),
            vip,
            family: if v6 { "ipv6" } else { "ipv4" },
            status: 1,
            created: cx.unix,
            delete_protect: false,
            tags: tags.clone(),
            security_groups: Vec::new(),
            attributes,
            listeners: Vec::new(),
            id: id.clone(),
        };
        world.insert(id.clone(), lb);
        ids.push(id);
    }
    Ok(json!({"LoadBalancerIds": ids}))
}

fn network_fits(params: &Params, kind: &str, v6: bool) -> Result<(), ApiError> {
    if kind == "INTERNAL" {
        if let Some(name) = ["VpcId", "SubnetId"].iter().find(|n| !params.has(n)) {
            return Err(ApiError::missing(name));
        }
        if let Some(name) = ["VipIsp", "MasterZoneId", "ZoneId", "SlaveZoneId"].iter().find(|n| params.has(n)) {
            return Err(ApiError::combination(format!("{name} is for public load balancers only")));
        }
    } else if v6 && !params.has("SubnetId") {
        return Err(ApiError::missing("SubnetId"));
    } else if !v6 && params.has("SubnetId") {
        return Err(ApiError::combination("SubnetId is not for public load balancers of IPv4"));
    }
    Ok(())
}

/// The ids of the network and of its part, which must exist.
fn network(params: &Params, cx: &Context<'_>) -> Result<(String, Option<String>), ApiError> {
    let wanted = params.text("VpcId");
    let mut vpcs = cx.settings.vpcs.iter();
    let vpc = if wanted.is_empty() { vpcs.next() } else { vpcs.find(|v| v.id == wanted) };
    let vpc = vpc.ok_or_else(|| ApiError::value(format!("the VPC {wanted:?} does not exist")))?;
    let subnet = params.text("SubnetId");
    if params.has("SubnetId") && !vpc.subnets.iter().any(|s| s.id == subnet) {
        return Err(ApiError::value(format!("the subnet {subnet:?} is not in the VPC {}", vpc.id)));
    }
    Ok((vpc.id.clone(), params.has("SubnetId").then(|| subnet.to_owned())))
}

fn vip(
    params: &Params,
    kind: &str,
    v6: bool,
    subnet: Option<&str>,
    taken: &[String],
    cx: &Context<'_>,
) -> Result<String, ApiError> {
    let range = cx.settings.vpcs.iter().flat_map(|v| &v.subnets).find(|s| Some(s.id.as_str()) == subnet);
    let range = if kind == "OPEN" { None } else { range };
    if params.has("Vip") {
        let wanted = params.text("Vip");
        let address: IpAddr = wanted.parse().map_err(|_| ApiError::value(format!("Vip {wanted:?} is no address")))?;
        if address.is_ipv6() != v6 || range.is_some_and(|r| !v6 && !r.cidr.contains(address)) {
            return Err(ApiError::value(format!("Vip {wanted} is not of the subnet")));
        }
        if taken.iter().any(|t| t == wanted) {
            return Err(ApiError::new("ResourceInUse", format!("Vip {wanted} is in use")));
        }
        return Ok(wanted.to_owned());
    }
    let free = |address: &String| !taken.contains(address);
    let address = if v6 {
        (1..=u32::MAX).map(|n| format!("2001:db8::{n:x}")).find(free)
    } else {
        range.map_or(super::network::Cidr::PUBLIC, |s| s.cidr).hosts().map(|a| a.to_string()).find(free)
    };
    address.ok_or_else(|| ApiError::new("ResourceInsufficient", "no address is left"))
}

pub(super) fn modify(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    if params.len() < 2 {
        return Err(ApiError::invalid("nothing is to be modified"));
    }
    for (name, value) in params {
        match name.as_str() {
            "LoadBalancerId" => {}
            "LoadBalancerName" => params.text(name).clone_into(&mut lb.name),
            "DeleteProtect" => lb.delete_protect = params.flag(name).unwrap_or_default(),
            "InternetChargeInfo" => {
                let now = lb.attributes.entry("InternetAccessible").or_insert_with(|| json!({}));
                if let (Some(now), Some(new)) = (now.as_object_mut(), value.as_object()) {
                    now.extend(new.clone());
                }
            }
            _ => {
                lb.attributes.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(json!({"DealName": Value::Null}))
}

/// What stands against deleting them by the API; `traffic` tells the Mbit/s of a load balancer.
pub(super) fn guard(world: &World, params: &Params, traffic: impl Fn(&str) -> f64) -> Result<(), ApiError> {
    for id in params.texts("LoadBalancerIds") {
        let lb = find(world, id)?;
        let targets = lb.targets().count();
        if params.flag("ForceDelete") == Some(true) {
            continue;
        }
        if targets >= MANY_TARGETS {
            let message = format!("{id} has {targets} targets");
            return Err(ApiError::new("FailedOperation.TargetNumCheckRisk", message));
        }
        if targets > 0 && traffic(id) > 10.0 {
            return Err(ApiError::new("FailedOperation.TrafficCheckRisk", format!("{id} has traffic")));
        }
    }
    Ok(())
}

pub(super) fn delete(world: &mut World, params: &Params) -> Answer {
    for id in params.texts("LoadBalancerIds") {
        if find(world, id)?.delete_protect {
            return Err(ApiError::new("OperationDenied", format!("{id} is protected from deletion")));
        }
    }
    for id in params.texts("LoadBalancerIds") {
        world.remove(id);
    }
    Ok(json!({}))
}

pub(super) fn security_groups(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    lb.security_groups = params.texts("SecurityGroups").into_iter().map(str::to_owned).collect();
    Ok(json!({}))
}
