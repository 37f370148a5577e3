//! A group -> a cluster: how a target is chosen and checked.

use std::{collections::HashMap, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, TrackClusterStats, UpstreamConnectionOptions,
                circuit_breakers::Thresholds,
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbConfig, LbPolicy,
                    LeastRequestLbConfig, MaglevLbConfig, RoundRobinLbConfig, SlowStartConfig,
                },
            },
            core::v3::{
                HealthCheck, Http1ProtocolOptions, Http2ProtocolOptions, ProxyProtocolConfig, RoutingPriority,
                TcpKeepalive, TransportSocket, health_check, proxy_protocol_config, transport_socket,
            },
        },
        extensions::{
            transport_sockets::{proxy_protocol::v3::ProxyProtocolUpstreamTransport, raw_buffer::v3::RawBuffer},
            upstreams::http::v3::{HttpProtocolOptions, http_protocol_options as http},
        },
        r#type::v3::{Int64Range, Percent},
    },
    google::protobuf::UInt64Value,
};

use super::wire::{ads, duration, number, pack};
use crate::{
    api::{Protocol, ProxyProtocol, Scheduler, TargetProtocol},
    model::{Affinity, Group, HealthProbe},
};

/// Envoy's default limits (1,024 of each) are for service meshes; a load balancer must not refuse what its targets can take.
const UNLIMITED: u32 = 10_000_000;

/// The host of health checks that name none. Envoy's default is the cluster's name, whose slashes servers refuse.
const CHECK_HOST: &str = "directlb";

pub(super) fn cluster(name: &str, group: &Group) -> Cluster {
    let hashed = hashed(group);
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: ads(), ..EdsClusterConfig::default() }),
        connect_timeout: duration(Duration::from_secs(5)),
        lb_policy: policy(group, hashed).into(),
        lb_config: lb_config(group, hashed),
        common_lb_config: Some(CommonLbConfig {
            // Never send to a target that has not passed, not even when none has: the planner's holds are the answer.
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            // By default health and drain updates reach the workers up to a second late, merged: a draining target would go
            // on taking requests, and a target would be reported healthy before it takes any.
            update_merge_window: duration(Duration::ZERO),
            ..CommonLbConfig::default()
        }),
        // The planner has drained a target before it removes it: Envoy need not wait until its check fails.
        ignore_health_on_host_removal: true,
        health_checks: health_check(group).into_iter().collect(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: [RoutingPriority::Default, RoutingPriority::High]
                .map(|priority| Thresholds {
                    priority: priority.into(),
                    max_connections: number(UNLIMITED),
                    max_pending_requests: number(UNLIMITED),
                    max_requests: number(UNLIMITED),
                    max_retries: number(UNLIMITED),
                    ..Thresholds::default()
                })
                .into(),
            per_host_thresholds: Vec::new(),
        }),
        // Health and activity of each endpoint, reported through the metrics service.
        track_cluster_stats: Some(TrackClusterStats { per_endpoint_stats: true, ..TrackClusterStats::default() }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: number(3),
                keepalive_time: number(60),
                keepalive_interval: number(10),
            }),
            ..UpstreamConnectionOptions::default()
        }),
        typed_extension_protocol_options: http_options(group),
        transport_socket: group.proxy_protocol.map(proxy_protocol),
        ..Cluster::default()
    }
}

fn hashed(group: &Group) -> bool {
    // A cookie pins a client to a target by itself; what is not pinned yet is spread by the scheduler.
    group.scheduler == Scheduler::SourceHash || group.affinity == Some(Affinity::SourceAddress)
}

fn policy(group: &Group, hashed: bool) -> LbPolicy {
    match group.scheduler {
        _ if hashed => LbPolicy::Maglev,
        Scheduler::LeastRequest => LbPolicy::LeastRequest,
        Scheduler::RoundRobin | Scheduler::SourceHash => LbPolicy::RoundRobin,
    }
}

fn lb_config(group: &Group, hashed: bool) -> Option<LbConfig> {
    let slow_start = group
        .slow_start
        .map(|window| SlowStartConfig { slow_start_window: duration(window), ..SlowStartConfig::default() });
    match policy(group, hashed) {
        LbPolicy::Maglev => Some(LbConfig::MaglevLbConfig(MaglevLbConfig {
            // Prime; a hundred entries for each of 600 targets keeps the shares within a few per cent.
            table_size: Some(UInt64Value { value: 65_537 }),
        })),
        LbPolicy::LeastRequest => Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
            slow_start_config: slow_start,
            ..LeastRequestLbConfig::default()
        })),
        _ => slow_start.map(|s| LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(s) })),
    }
}

fn health_check(group: &Group) -> Option<HealthCheck> {
    use health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck};
    let hc = &group.health_check;
    let checker = match &hc.probe {
        HealthProbe::None => return None,
        HealthProbe::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        HealthProbe::Http { path, host } => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            path: path.clone(),
            host: host.clone().unwrap_or_else(|| CHECK_HOST.into()),
            expected_statuses: vec![Int64Range { start: 200, end: 300 }],
            ..HttpHealthCheck::default()
        }),
        HealthProbe::Grpc { service } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.clone(),
            authority: CHECK_HOST.into(),
            ..GrpcHealthCheck::default()
        }),
    };
    Some(HealthCheck {
        timeout: duration(hc.timeout),
        interval: duration(hc.interval),
        // Targets that came together need not be checked in the same moment for ever.
        interval_jitter_percent: 5,
        unhealthy_threshold: number(hc.unhealthy_threshold),
        healthy_threshold: number(hc.healthy_threshold),
        // Envoy checks a target without traffic only once a minute by default; a new Pod cannot wait for that.
        no_traffic_interval: duration(hc.interval),
        no_traffic_healthy_interval: duration(hc.interval),
        health_checker: Some(checker),
        ..HealthCheck::default()
    })
}

fn http_options(group: &Group) -> HashMap<String, envoy_types::pb::google::protobuf::Any> {
    // A gRPC check needs an HTTP/2 cluster whatever the traffic is.
    let grpc = matches!(group.health_check.probe, HealthProbe::Grpc { .. });
    if group.protocol == Protocol::UDP || !(group.protocol.is_http() || grpc) {
        return HashMap::new();
    }
    let config = if group.target_protocol == TargetProtocol::HTTP2 || grpc {
        http::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
    } else {
        http::explicit_http_config::ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(http::UpstreamProtocolOptions::ExplicitHttpConfig(http::ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..HttpProtocolOptions::default()
    };
    // One entry only: a map's order must not decide the bytes.
    HashMap::from([("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), pack(&options))])
}

fn proxy_protocol(version: ProxyProtocol) -> TransportSocket {
    let version = match version {
        ProxyProtocol::V1 => proxy_protocol_config::Version::V1,
        ProxyProtocol::V2 => proxy_protocol_config::Version::V2,
    };
    let plain = TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(&RawBuffer {}))),
    };
    TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(&ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig { version: version.into(), ..ProxyProtocolConfig::default() }),
            transport_socket: Some(plain),
            ..ProxyProtocolUpstreamTransport::default()
        }))),
    }
}
