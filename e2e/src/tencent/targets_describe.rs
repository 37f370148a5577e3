//! DescribeTargets and DescribeTargetHealth.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clock::written;
use super::error::{Answer, ApiError};
use super::health_check;
use super::listeners::chosen;
use super::schema::{Params, Read};
use super::settings::HealthSource;
use super::state::{Address, Bound, Listener, World, find};

pub(super) fn targets(world: &World, params: &Params) -> Answer {
    let lb = find(world, params.text("LoadBalancerId"))?;
    let (mut locations, mut ips, mut tags) = (None, None, None);
    for filter in params.objects("Filters") {
        let into = match filter.text("Name") {
            "location-id" => &mut locations,
            "private-ip-address" => &mut ips,
            "tag" => &mut tags,
            name => {
                let message = format!("there is no filter {name:?}");
                return Err(ApiError::new("InvalidParameter.InvalidFilter", message));
            }
        };
        *into = Some(filter.texts("Values"));
    }
    let passes = |filter: &Option<Vec<&str>>, value: &str| filter.as_ref().is_none_or(|f| f.contains(&value));
    let shown = |list: &[Bound]| {
        let fits = |b: &&Bound| passes(&ips, &private_ip(b)) && passes(&tags, b.tag.as_deref().unwrap_or_default());
        list.iter().filter(fits).map(backend).collect::<Vec<_>>()
    };
    let one = |l: &Listener| {
        let rules = l.rules.iter().filter(|r| passes(&locations, &r.id));
        let rules = rules.map(|r| {
            json!({
                "LocationId": r.id,
                "Domain": r.domains.first(),
                "Url": r.url,
                "Targets": shown(&r.targets),
                "FunctionTargets": [],
            })
        });
        json!({
            "ListenerId": l.id,
            "Protocol": l.protocol,
            "Port": l.port,
            "EndPort": l.end_port,
            "Rules": if l.layer7() { json!(rules.collect::<Vec<_>>()) } else { Value::Null },
            "Targets": if l.layer7() { Value::Null } else { json!(shown(&l.targets)) },
        })
    };
    let listeners: Vec<Value> = chosen(lb, params)?.into_iter().map(one).collect();
    Ok(json!({"Listeners": listeners}))
}

/// The address of an instance is of no matter here, and made from its name.
fn private_ip(bound: &Bound) -> String {
    match &bound.address {
        Address::Ip(ip) => ip.clone(),
        Address::Instance(id) => {
            let sum = id.bytes().fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)));
            format!("172.16.{}.{}", (sum >> 8) & 0xff, sum & 0xff)
        }
    }
}

fn backend(bound: &Bound) -> Value {
    let (kind, instance) = match &bound.address {
        Address::Ip(_) => ("ENI", ""),
        Address::Instance(id) => ("CVM", id.as_str()),
    };
    json!({
        "Type": kind,
        "InstanceId": instance,
        "InstanceName": Value::Null,
        "Port": bound.port,
        "Weight": bound.weight,
        "PublicIpAddresses": Value::Null,
        "PrivateIpAddresses": [private_ip(bound)],
        "RegisteredTime": written(bound.registered),
        "EniId": Value::Null,
        "Tag": bound.tag.as_deref().unwrap_or_default(),
        "Zone": Value::Null,
    })
}

/// What is known of the health of addresses and ports.
pub(super) type Table = BTreeMap<(String, i64), bool>;

pub(super) fn health(world: &World, params: &Params, source: HealthSource, table: &Table, millis: u64) -> Answer {
    let (listeners, locations) = (params.texts("ListenerIds"), params.texts("LocationIds"));
    let one_of = |ids: &[&str], id: &str| ids.is_empty() || ids.contains(&id);
    let mut load_balancers = Vec::new();
    for id in params.texts("LoadBalancerIds") {
        let lb = find(world, id)?;
        let shown = lb.listeners.iter().filter(|l| one_of(&listeners, &l.id)).map(|l| {
            let state = |list: &[Bound], check: &Params| {
                list.iter().map(|b| target(b, check, source, table, millis)).collect::<Vec<_>>()
            };
            let rules = match &l.health {
                Some(check) => {
                    vec![json!({"LocationId": "", "Domain": "", "Url": "", "Targets": state(&l.targets, check)})]
                }
                None => {
                    let rules = l.rules.iter().filter(|r| one_of(&locations, &r.id));
                    let rule = rules.map(|r| {
                        let targets = state(&r.targets, &r.health);
                        json!({"LocationId": r.id, "Domain": r.domains.first(), "Url": r.url, "Targets": targets})
                    });
                    rule.collect()
                }
            };
            json!({
                "ListenerId": l.id,
                "ListenerName": l.name,
                "Protocol": l.protocol,
                "Port": l.port,
                "Rules": rules,
            })
        });
        load_balancers.push(json!({
            "LoadBalancerId": lb.id,
            "LoadBalancerName": lb.name,
            "Listeners": shown.collect::<Vec<_>>(),
        }));
    }
    Ok(json!({"LoadBalancers": load_balancers}))
}

fn target(bound: &Bound, check: &Params, source: HealthSource, table: &Table, millis: u64) -> Value {
    let ip = private_ip(bound);
    let answers = source == HealthSource::Healthy || table.get(&(ip.clone(), bound.port)) == Some(&true);
    let detail = if !health_check::is_on(check) {
        "Close"
    } else if millis < bound.since + health_check::warm_up(check) {
        "Unknown"
    } else if answers {
        "Alive"
    } else {
        "Dead"
    };
    let instance = match &bound.address {
        Address::Ip(_) => "",
        Address::Instance(id) => id.as_str(),
    };
    json!({
        "IP": ip,
        "Port": bound.port,
        // Without checks, everything gets traffic.
        "HealthStatus": matches!(detail, "Alive" | "Close"),
        "TargetId": instance,
        "HealthStatusDetail": detail,
        "HealthStatusDetial": detail,
        "TargetGroupId": "",
        "Weight": bound.weight,
    })
}

/// The addresses and ports that DescribeTargetHealth is about to show.
pub(super) fn shown_addresses(world: &World, params: &Params) -> Vec<(String, i64)> {
    let lbs = params.texts("LoadBalancerIds").into_iter().filter_map(|id| world.get(id));
    let mut all: Vec<_> = lbs.flat_map(|lb| lb.targets()).map(|b| (private_ip(b), b.port)).collect();
    all.sort();
    all.dedup();
    all
}
