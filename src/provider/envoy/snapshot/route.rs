//! A listener's rules -> a route configuration.

use std::{collections::BTreeSet, time::Duration};

use envoy_types::pb::envoy::{
    config::{
        core::v3::{DataSource, data_source::Specifier},
        route::v3::{
            DirectResponseAction, RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
            VirtualHost, WeightedCluster,
            redirect_action::{RedirectResponseCode, SchemeRewriteSpecifier},
            retry_policy::{RetryHostPredicate, retry_host_predicate},
            route::Action,
            route_action::{ClusterSpecifier, HashPolicy, hash_policy},
            route_match::PathSpecifier,
            weighted_cluster::ClusterWeight,
        },
    },
    extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
};

use super::{
    cluster_name,
    wire::{duration, flag, number, pack},
};
use crate::{
    api::Protocol,
    model::{ListenerConfig, ObjectKey, Redirect, RouteRule, WeightedGroup},
};

pub(super) fn routes(object: &ObjectKey, name: &str, listener: &ListenerConfig) -> RouteConfiguration {
    let table = &listener.routes;
    let mut hosts: BTreeSet<&str> = table.rules.iter().map(|r| r.host.as_str()).collect();
    hosts.insert("*");
    let virtual_hosts = hosts
        .into_iter()
        .map(|host| {
            // Envoy looks into one virtual host only: it holds its own rules, those of every wider host, and the default,
            // so that a path without a rule of this host falls through.
            let mut routes: Vec<Route> =
                table.rules.iter().filter(|r| r.covers(host)).map(|r| rule(object, listener, r)).collect();
            routes.push(Route {
                r#match: path(PathSpecifier::Prefix("/".into())),
                action: Some(action(object, listener, table.redirect.as_ref(), &table.default)),
                ..Route::default()
            });
            VirtualHost { name: host.into(), domains: vec![host.into()], routes, ..VirtualHost::default() }
        })
        .collect();
    RouteConfiguration {
        name: name.into(),
        virtual_hosts,
        // A route may be here a moment before its cluster, and outlive it by a moment.
        validate_clusters: flag(false),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    }
}

fn path(specifier: PathSpecifier) -> Option<RouteMatch> {
    Some(RouteMatch { path_specifier: Some(specifier), ..RouteMatch::default() })
}

fn rule(object: &ObjectKey, listener: &ListenerConfig, rule: &RouteRule) -> Route {
    let specifier = if rule.exact {
        PathSpecifier::Path(rule.path.clone())
    } else {
        match rule.path.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".into()),
            // By whole segments: /a matches /a and /a/b, not /ab.
            path => PathSpecifier::PathSeparatedPrefix(path.into()),
        }
    };
    let action = action(object, listener, rule.redirect.as_ref(), &rule.groups);
    Route { r#match: path(specifier), action: Some(action), ..Route::default() }
}

fn action(object: &ObjectKey, listener: &ListenerConfig, to: Option<&Redirect>, groups: &[WeightedGroup]) -> Action {
    to.map_or_else(|| send(object, groups), |to| redirect(listener, to))
}

/// To the same host, path and query at another listener.
fn redirect(listener: &ListenerConfig, to: &Redirect) -> Action {
    let usual = |https: bool| if https { 443 } else { 80 };
    // Left out, the port is that of the request, which Envoy drops where the scheme changes and it is the usual one.
    let implied = listener.port == usual(listener.protocol == Protocol::HTTPS) && to.port == usual(to.https);
    Action::Redirect(RedirectAction {
        port_redirect: if implied { 0 } else { to.port.into() },
        response_code: match to.status {
            302 => RedirectResponseCode::Found,
            307 => RedirectResponseCode::TemporaryRedirect,
            _ => RedirectResponseCode::MovedPermanently,
        }
        .into(),
        scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect(
            if to.https { "https" } else { "http" }.into(),
        )),
        ..RedirectAction::default()
    })
}

fn send(object: &ObjectKey, groups: &[WeightedGroup]) -> Action {
    let used: Vec<&WeightedGroup> = groups.iter().filter(|g| g.weight > 0).collect();
    let cluster = match used.as_slice() {
        [] => {
            let (status, text) = if groups.is_empty() {
                (404, "no rule matches\n")
            } else {
                (503, "every target of this rule has weight 0\n")
            };
            return Action::DirectResponse(DirectResponseAction {
                status,
                body: Some(DataSource { specifier: Some(Specifier::InlineString(text.into())), ..Default::default() }),
                ..DirectResponseAction::default()
            });
        }
        [one] => ClusterSpecifier::Cluster(cluster_name(object, &one.group)),
        many => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: many
                .iter()
                .map(|g| ClusterWeight {
                    name: cluster_name(object, &g.group),
                    weight: number(g.weight),
                    ..ClusterWeight::default()
                })
                .collect(),
            ..WeightedCluster::default()
        }),
    };
    Action::Route(RouteAction {
        cluster_specifier: Some(cluster),
        // No limit on a request's length: that is the application's business. Idle streams end by the listener's limit.
        timeout: duration(Duration::ZERO),
        // Used by clusters that hash, ignored by the others.
        hash_policy: vec![HashPolicy {
            policy_specifier: Some(hash_policy::PolicySpecifier::ConnectionProperties(
                hash_policy::ConnectionProperties { source_ip: true },
            )),
            terminal: false,
        }],
        retry_policy: Some(retry()),
        ..RouteAction::default()
    })
}

/// Retries only what has certainly not reached the application: no connection, a stream refused, or a connection that the
/// Pod closed before the request was sent on it. Safe for every method.
fn retry() -> RetryPolicy {
    RetryPolicy {
        retry_on: "connect-failure,refused-stream,reset-before-request".into(),
        num_retries: number(3),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".into(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(&PreviousHostsPredicate {}))),
        }],
        host_selection_retry_max_attempts: 3,
        ..RetryPolicy::default()
    }
}
