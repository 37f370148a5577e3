//! A group's targets -> a load assignment.

use envoy_types::pb::envoy::config::{
    core::v3::HealthStatus,
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, endpoint::HealthCheckConfig,
        lb_endpoint::HostIdentifier,
    },
};

use super::wire::address;
use crate::{
    api::Protocol,
    model::{ObservedGroup, ObservedTarget, TargetId},
};

pub(super) fn assignment(name: &str, group: &ObservedGroup) -> ClusterLoadAssignment {
    // Two Pods at one address (one just gone, one just come) would be one endpoint to Envoy: the one that takes traffic
    // stands for both.
    let mut by_address = std::collections::BTreeMap::new();
    for (id, target) in &group.targets {
        let at = (id.ip, id.port);
        let replace =
            by_address.get(&at).is_none_or(|(_, other): &(&TargetId, &ObservedTarget)| other.draining_since.is_some());
        if replace {
            by_address.insert(at, (id, target));
        }
    }
    let lb_endpoints = by_address.into_values().map(|(id, target)| endpoint(group, id, target)).collect();
    ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![LocalityLbEndpoints { lb_endpoints, ..LocalityLbEndpoints::default() }],
        ..ClusterLoadAssignment::default()
    }
}

fn endpoint(group: &ObservedGroup, id: &TargetId, target: &ObservedTarget) -> LbEndpoint {
    let check_port = target.health_port.or(group.config.health_check.port).filter(|p| *p != id.port);
    // DRAINING: no new connections or requests, and those there are go on.
    let status = if target.draining_since.is_some() { HealthStatus::Draining } else { HealthStatus::Unknown };
    LbEndpoint {
        health_status: status.into(),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: address(&id.ip.to_string(), id.port, group.config.protocol == Protocol::UDP),
            health_check_config: check_port
                .map(|p| HealthCheckConfig { port_value: p.into(), ..HealthCheckConfig::default() }),
            // The Pod's UID: a new Pod at the same address is a new host to Envoy, and so are the reports about it.
            hostname: id.uid.clone(),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    }
}
