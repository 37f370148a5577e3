//! A listener -> a listener: address, TLS, and the filter that speaks its protocol.

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::{
            accesslog::v3::{AccessLog, access_log},
            core::v3::{HttpProtocolOptions, TransportSocket, transport_socket},
            listener::v3::{Filter, FilterChain, Listener, ListenerFilter, UdpListenerConfig, filter, listener_filter},
        },
        extensions::{
            access_loggers::stream::v3::StdoutAccessLog,
            filters::{
                http::{router::v3::Router, stateful_session::v3::StatefulSession},
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager, HttpFilter, Rds,
                        http_connection_manager::{
                            CodecType, RouteSpecifier, ServerHeaderTransformation, StripPortMode, UpgradeConfig,
                        },
                        http_filter,
                    },
                    tcp_proxy::v3::{
                        TcpProxy,
                        tcp_proxy::{self, WeightedCluster, weighted_cluster::ClusterWeight},
                    },
                },
                udp::udp_proxy::v3::{Route as UdpRoute, UdpProxyConfig, udp_proxy_config},
            },
            http::stateful_session::cookie::v3::CookieBasedSessionState,
            transport_sockets::tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters, tls_parameters,
            },
        },
        r#type::{
            http::v3::Cookie,
            v3::{HashPolicy, hash_policy},
        },
    },
    xds::{
        core::v3::TypedExtensionConfig as XdsExtension,
        r#type::matcher::v3::{
            Matcher,
            matcher::{OnMatch, on_match},
        },
    },
};

use super::{
    cluster_name, secret,
    wire::{address, ads, duration, flag, number, pack},
};
use crate::{
    api::Protocol,
    model::{AccessLog as AccessLogChoice, Affinity, ListenerConfig, ObjectKey, WeightedGroup},
};

/// A client or a target that says nothing for so long is gone.
const TCP_IDLE: Duration = Duration::from_secs(3600);
const STREAM_IDLE: Duration = Duration::from_secs(300);
const UDP_IDLE: Duration = Duration::from_secs(60);

pub(super) fn listener(object: &ObjectKey, name: &str, config: &ListenerConfig) -> Listener {
    let udp = config.protocol == Protocol::UDP;
    let ip = config.address.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    Listener {
        name: name.into(),
        stat_prefix: name.into(),
        address: address(&ip, config.port, udp),
        // The pool's addresses are routed to the edge node and stand on none of its interfaces.
        freebind: config.address.is_some().then(|| flag(true)).flatten(),
        enable_reuse_port: flag(true),
        tcp_backlog_size: if udp { None } else { number(16_384) },
        filter_chains: if udp { Vec::new() } else { vec![filter_chain(object, name, config)] },
        listener_filters: if udp { udp_filter(object, name, config).into_iter().collect() } else { Vec::new() },
        udp_listener_config: udp.then(UdpListenerConfig::default),
        ..Listener::default()
    }
}

fn filter_chain(object: &ObjectKey, name: &str, config: &ListenerConfig) -> FilterChain {
    let (filter_name, body) = if config.protocol.is_http() {
        ("envoy.filters.network.http_connection_manager", pack(&http(name, config)))
    } else {
        ("envoy.filters.network.tcp_proxy", pack(&tcp(object, name, config)))
    };
    FilterChain {
        filters: vec![Filter { name: filter_name.into(), config_type: Some(filter::ConfigType::TypedConfig(body)) }],
        transport_socket: tls(object, config),
        ..FilterChain::default()
    }
}

fn tls(object: &ObjectKey, config: &ListenerConfig) -> Option<TransportSocket> {
    let certificates = secret::certificates(config);
    if certificates.is_empty() {
        return None;
    }
    let alpn = if config.protocol == Protocol::HTTPS { vec!["h2".into(), "http/1.1".into()] } else { Vec::new() };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: tls_parameters::TlsProtocol::TlSv12.into(),
                ..TlsParameters::default()
            }),
            // Envoy chooses among them by server name; the first serves all others.
            tls_certificate_sds_secret_configs: certificates
                .iter()
                .map(|c| SdsSecretConfig { name: secret::name(object, c), sds_config: ads() })
                .collect(),
            alpn_protocols: alpn,
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    Some(TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(&context))),
    })
}

fn http(name: &str, config: &ListenerConfig) -> HttpConnectionManager {
    let mut filters = Vec::new();
    let filter = |name: &str, body| HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(body)),
        ..HttpFilter::default()
    };
    if let Some(Affinity::Cookie { name, ttl }) = &config.affinity {
        // The cookie holds the target itself, so that a client stays where it is while other targets come and go. A target
        // that drains or fails is not followed.
        let state = CookieBasedSessionState {
            cookie: Some(Cookie {
                name: name.clone(),
                ttl: ttl.and_then(duration),
                path: "/".into(),
                ..Cookie::default()
            }),
        };
        let session = StatefulSession {
            session_state: Some(envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig {
                name: "envoy.http.stateful_session.cookie".into(),
                typed_config: Some(pack(&state)),
            }),
            ..StatefulSession::default()
        };
        filters.push(filter("envoy.filters.http.stateful_session", pack(&session)));
    }
    filters.push(filter("envoy.filters.http.router", pack(&Router::default())));
    HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: name.into(),
        // This is the edge: the peer is the client, and X-Forwarded-For says so to the Pods.
        use_remote_address: flag(true),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        normalize_path: flag(true),
        merge_slashes: false,
        strip_port_mode: Some(StripPortMode::StripAnyHostPort(false)),
        preserve_external_request_id: true,
        stream_idle_timeout: duration(STREAM_IDLE),
        request_headers_timeout: duration(Duration::from_secs(60)),
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: duration(TCP_IDLE),
            ..HttpProtocolOptions::default()
        }),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..UpgradeConfig::default() }],
        http_filters: filters,
        access_log: access_log(config),
        route_specifier: Some(RouteSpecifier::Rds(Rds { config_source: ads(), route_config_name: name.into() })),
        ..HttpConnectionManager::default()
    }
}

fn tcp(object: &ObjectKey, name: &str, config: &ListenerConfig) -> TcpProxy {
    let used: Vec<&WeightedGroup> = config.routes.default.iter().filter(|g| g.weight > 0).collect();
    let specifier = match used.as_slice() {
        // Envoy closes connections to a cluster that it does not know, which is what "no target" means.
        [] => tcp_proxy::ClusterSpecifier::Cluster(format!("{name}/no-target")),
        [one] => tcp_proxy::ClusterSpecifier::Cluster(cluster_name(object, &one.group)),
        many => tcp_proxy::ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: many
                .iter()
                .map(|g| ClusterWeight {
                    name: cluster_name(object, &g.group),
                    weight: g.weight,
                    ..ClusterWeight::default()
                })
                .collect(),
        }),
    };
    TcpProxy {
        stat_prefix: name.into(),
        idle_timeout: duration(TCP_IDLE),
        // Another target, if one refuses the connection.
        max_connect_attempts: number(3),
        hash_policy: vec![HashPolicy {
            policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
        }],
        access_log: access_log(config),
        cluster_specifier: Some(specifier),
        ..TcpProxy::default()
    }
}

fn udp_filter(object: &ObjectKey, name: &str, config: &ListenerConfig) -> Option<ListenerFilter> {
    // A UDP listener has one target: validation refuses more.
    let group = config.routes.default.iter().find(|g| g.weight > 0).or(config.routes.default.first())?;
    let route = UdpRoute { cluster: cluster_name(object, &group.group) };
    let always = OnMatch {
        on_match: Some(on_match::OnMatch::Action(XdsExtension {
            name: "route".into(),
            typed_config: Some(pack(&route)),
        })),
        ..OnMatch::default()
    };
    let proxy = UdpProxyConfig {
        stat_prefix: name.into(),
        idle_timeout: duration(UDP_IDLE),
        hash_policies: vec![udp_proxy_config::HashPolicy {
            policy_specifier: Some(udp_proxy_config::hash_policy::PolicySpecifier::SourceIp(true)),
        }],
        access_log: access_log(config),
        route_specifier: Some(udp_proxy_config::RouteSpecifier::Matcher(Matcher {
            on_no_match: Some(Box::new(always)),
            matcher_type: None,
        })),
        ..UdpProxyConfig::default()
    };
    Some(ListenerFilter {
        name: "envoy.filters.udp_listener.udp_proxy".into(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack(&proxy))),
        ..ListenerFilter::default()
    })
}

fn access_log(config: &ListenerConfig) -> Vec<AccessLog> {
    match config.access_log {
        AccessLogChoice::Off => Vec::new(),
        AccessLogChoice::Stdout => vec![AccessLog {
            name: "envoy.access_loggers.stdout".into(),
            config_type: Some(access_log::ConfigType::TypedConfig(pack(&StdoutAccessLog::default()))),
            ..AccessLog::default()
        }],
    }
}
