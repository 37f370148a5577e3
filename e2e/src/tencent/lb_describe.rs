//! DescribeLoadBalancers and DescribeQuota.

use serde_json::{Value, json};

use super::clock::written;
use super::error::{Answer, ApiError};
use super::schema::{Params, Read};
use super::settings::Settings;
use super::state::{Address, LoadBalancer, World};

pub(super) fn load_balancers(world: &World, params: &Params) -> Answer {
    let mut found = Vec::new();
    for lb in world.values() {
        if matches(lb, params)? {
            found.push(lb);
        }
    }
    found.sort_by(|a, b| match params.text("OrderBy") {
        "LoadBalancerName" => (&a.name, &a.id).cmp(&(&b.name, &b.id)),
        "LoadBalancerType" => (&a.kind, &a.id).cmp(&(&b.kind, &b.id)),
        _ => (a.created, &a.id).cmp(&(b.created, &b.id)),
    });
    if params.int("OrderType") != Some(0) {
        found.reverse();
    }
    let size = |name: &str, other: usize| params.int(name).and_then(|n| usize::try_from(n).ok()).unwrap_or(other);
    let counted = params.has("AdditionalFields");
    let page = found.iter().skip(size("Offset", 0)).take(size("Limit", 20));
    let page: Vec<Value> = page.map(|lb| shown(lb, counted)).collect();
    Ok(json!({"TotalCount": found.len(), "LoadBalancerSet": page}))
}

fn matches(lb: &LoadBalancer, params: &Params) -> Result<bool, ApiError> {
    let given = |name: &str| params.has(name).then(|| params.text(name));
    let listed = |name: &str, value: &str| !params.has(name) || params.texts(name).contains(&value);
    let bound = lb.targets().next().is_some();
    let ip = |wanted: &str| lb.targets().any(|t| matches!(&t.address, Address::Ip(ip) if ip == wanted));
    let attribute = |name: &str| lb.attributes.get(name).and_then(Value::as_str).unwrap_or_default();
    let fits = listed("LoadBalancerIds", &lb.id)
        && listed("LoadBalancerVips", &lb.vip)
        && given("LoadBalancerType").is_none_or(|k| k == lb.kind)
        && params.int("Forward").is_none_or(|f| f == 1)
        && given("LoadBalancerName").is_none_or(|n| lb.name.contains(n))
        && given("Domain").is_none_or(str::is_empty)
        && given("SearchKey").is_none_or(|k| [&lb.name, &lb.vip, &lb.id].iter().any(|s| s.contains(k)))
        && given("VpcId").is_none_or(|v| v == lb.vpc)
        && given("SecurityGroup").is_none_or(|s| lb.security_groups.iter().any(|g| g == s))
        && given("MasterZone").is_none_or(|z| z == attribute("MasterZoneId"))
        && params.int("ProjectId").is_none_or(|p| p == lb.attributes.int("ProjectId").unwrap_or(0))
        && params.int("WithRs").is_none_or(|w| w == -1 || (w == 1) == bound)
        && !params.has("BackendPublicIps")
        && (!params.has("BackendPrivateIps") || params.texts("BackendPrivateIps").into_iter().any(ip));
    for filter in params.objects("Filters") {
        let values = filter.texts("Values");
        let one = |value: &str| values.contains(&value);
        let passes = match filter.text("Name") {
            "charge-type" => one(charge(lb)),
            "internet-charge-type" => {
                one(lb.attributes.object("InternetAccessible").map_or("", |i| i.text("InternetChargeType")))
            }
            "master-zone-id" => one(attribute("MasterZoneId")),
            "tag-key" => lb.tags.keys().any(|k| one(k)),
            "vip-isp" => one(isp(lb)),
            "sla-type" => one(attribute("SlaType")),
            "exclusive" => one("0"),
            "function-name" => false,
            name => match name.strip_prefix("tag:") {
                Some(key) => lb.tags.get(key).is_some_and(|v| one(v)),
                None => {
                    let message = format!("there is no filter {name:?}");
                    return Err(ApiError::new("InvalidParameter.InvalidFilter", message));
                }
            },
        };
        if !passes {
            return Ok(false);
        }
    }
    Ok(fits)
}

fn charge(lb: &LoadBalancer) -> &str {
    if lb.attributes.has("LBChargeType") { lb.attributes.text("LBChargeType") } else { "POSTPAID_BY_HOUR" }
}

fn isp(lb: &LoadBalancer) -> &str {
    match (lb.kind.as_str(), lb.attributes.text("VipIsp")) {
        ("INTERNAL", _) => "INTERNAL",
        (_, "") => "BGP",
        (_, isp) => isp,
    }
}

fn shown(lb: &LoadBalancer, counted: bool) -> Value {
    let tags: Vec<Value> = lb.tags.iter().map(|(k, v)| json!({"TagKey": k, "TagValue": v})).collect();
    let attribute = |name: &str, other: Value| lb.attributes.get(name).cloned().unwrap_or(other);
    let v6 = lb.family == "ipv6";
    let flags: &[&str] = if lb.delete_protect { &["DeleteProtect"] } else { &[] };
    let mut shown = json!({
        "LoadBalancerId": lb.id,
        "LoadBalancerName": lb.name,
        "LoadBalancerType": lb.kind,
        "Forward": 1,
        "Domain": "",
        "LoadBalancerDomain": "",
        "LoadBalancerVips": if v6 { vec![] } else { vec![&lb.vip] },
        "AddressIPv6": if v6 { json!(lb.vip) } else { Value::Null },
        "IPv6Mode": if v6 { json!("IPv6FullChain") } else { json!("") },
        "AddressIPVersion": lb.family,
        "Status": lb.status,
        "CreateTime": written(lb.created),
        "StatusTime": written(lb.created),
        "ProjectId": attribute("ProjectId", json!(0)),
        "VpcId": lb.vpc,
        "SubnetId": lb.subnet.as_deref().unwrap_or_default(),
        "OpenBgp": 0,
        "Snat": false,
        "Isolation": 0,
        "Tags": tags,
        "SecureGroups": lb.security_groups,
        "VipIsp": isp(lb),
        "ChargeType": charge(lb),
        "NetworkAttributes": attribute("InternetAccessible", Value::Null),
        "LoadBalancerPassToTarget": attribute("LoadBalancerPassToTarget", json!(false)),
        "SnatPro": attribute("SnatPro", json!(false)),
        "SnatIps": attribute("SnatIps", json!([])),
        "SlaType": attribute("SlaType", json!("")),
        "ClusterIds": attribute("ClusterIds", json!([])),
        "AttributeFlags": flags,
        "Egress": attribute("Egress", json!("")),
        "IsBlock": false,
        "Exclusive": 0,
    });
    if counted {
        shown["TargetCount"] = json!(lb.targets().count());
    }
    shown
}

pub(super) fn quota(world: &World, settings: &Settings) -> Value {
    let count = |kind: &str| world.values().filter(|lb| lb.kind == kind).count();
    let set = settings.quotas.iter().map(|(id, limit)| {
        let current = match id.as_str() {
            "TOTAL_OPEN_CLB_QUOTA" => json!(count("OPEN")),
            "TOTAL_INTERNAL_CLB_QUOTA" => json!(count("INTERNAL")),
            _ => Value::Null,
        };
        json!({"QuotaId": id, "QuotaCurrent": current, "QuotaLimit": limit})
    });
    json!({"QuotaSet": set.collect::<Vec<_>>()})
}
