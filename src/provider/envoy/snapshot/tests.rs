//! The same input gives the same bytes, and nothing refers to what is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::{
    cluster::v3::Cluster,
    core::v3::HealthStatus,
    endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier},
    listener::v3::Listener,
    route::v3::{RouteConfiguration, route::Action, route_action::ClusterSpecifier},
};
use prost::Message as _;

use super::{Kind, Resources, render, sample};
use crate::{
    api::Protocol,
    model::{ObjectKey, Observed, Redirect, RouteRule, Time, WeightedGroup},
};

fn of(observed: &Observed) -> Resources {
    render(&BTreeMap::from([(ObjectKey::new("shop", "web"), observed.clone())]))
}

#[test]
fn the_same_input_gives_the_same_versions() {
    let observed = sample(&[("a", 1), ("b", 2)]);
    assert_eq!(of(&observed), of(&observed.clone()));
    let mut other = observed.clone();
    other.groups.values_mut().next().unwrap().targets.values_mut().next().unwrap().draining_since = Some(Time(1));
    let (before, after) = (of(&observed), of(&other));
    assert_ne!(before.of(Kind::Endpoints), after.of(Kind::Endpoints));
    assert_eq!(before.of(Kind::Cluster), after.of(Kind::Cluster), "a drain changes endpoints only");
    assert_eq!(before.of(Kind::Listener), after.of(Kind::Listener));
}

#[test]
fn endpoints_carry_the_pods_uid_and_drain() {
    let mut observed = sample(&[("a", 1)]);
    observed.groups.values_mut().next().unwrap().targets.values_mut().next().unwrap().draining_since = Some(Time(1));
    let resources = of(&observed);
    let body = &resources.of(Kind::Endpoints).values().next().unwrap().body;
    let assignment = ClusterLoadAssignment::decode(body.value.as_slice()).unwrap();
    let endpoint = &assignment.endpoints[0].lb_endpoints[0];
    assert_eq!(endpoint.health_status, i32::from(HealthStatus::Draining));
    let Some(HostIdentifier::Endpoint(e)) = &endpoint.host_identifier else { panic!("no endpoint") };
    assert_eq!(e.hostname, "uid-1");
}

#[test]
fn clusters_never_panic_and_report_each_endpoint() {
    let resources = of(&sample(&[("a", 1)]));
    let body = &resources.of(Kind::Cluster).values().next().unwrap().body;
    let cluster = Cluster::decode(body.value.as_slice()).unwrap();
    let lb = cluster.common_lb_config.unwrap();
    assert_eq!(lb.healthy_panic_threshold.unwrap().value, 0.0);
    assert_eq!(lb.update_merge_window.unwrap().seconds, 0);
    assert!(cluster.track_cluster_stats.unwrap().per_endpoint_stats);
    assert_eq!(cluster.health_checks.len(), 1);
}

#[test]
fn routes_name_only_clusters_that_are_there_and_fall_through() {
    let mut observed = sample(&[("a", 1), ("b", 2)]);
    let groups: Vec<_> = observed.groups.keys().cloned().collect();
    let listener = observed.listeners.get_mut("a").unwrap();
    let to = |i: usize| vec![WeightedGroup { group: groups[i].clone(), weight: 1 }];
    listener.routes.rules = vec![
        RouteRule {
            host: "shop.example.com".into(),
            path: "/cart".into(),
            exact: false,
            groups: to(1),
            redirect: None,
        },
        RouteRule { host: "*".into(), path: "/any".into(), exact: true, groups: to(1), redirect: None },
    ];
    let resources = of(&observed);
    let body = &resources.of(Kind::Routes)["shop/web/a"].body;
    let routes = RouteConfiguration::decode(body.value.as_slice()).unwrap();
    let shop = routes.virtual_hosts.iter().find(|v| v.name == "shop.example.com").unwrap();
    assert_eq!(shop.routes.len(), 3, "its own rule, the one for any host, and the default");
    for route in routes.virtual_hosts.iter().flat_map(|v| &v.routes) {
        let Some(Action::Route(action)) = &route.action else { panic!("{route:?}") };
        let Some(ClusterSpecifier::Cluster(name)) = &action.cluster_specifier else { panic!("{action:?}") };
        assert!(resources.of(Kind::Cluster).contains_key(name), "{name}");
    }
}

#[test]
fn a_redirect_keeps_host_and_path_and_names_a_port_that_is_not_the_usual_one() {
    let mut observed = sample(&[("a", 1)]);
    let (from, to) = (80, 443);
    for (from, to, https, port) in
        [(from, to, true, 0), (8080, to, true, 443), (from, 8443, true, 8443), (443, from, false, 0)]
    {
        let listener = observed.listeners.get_mut("a").unwrap();
        listener.port = from;
        listener.protocol = if from == 443 { Protocol::HTTPS } else { Protocol::HTTP };
        listener.routes.redirect = Some(Redirect { listener: "b".into(), port: to, https, status: 307 });
        let resources = of(&observed);
        let body = &resources.of(Kind::Routes)["shop/web/a"].body;
        let routes = RouteConfiguration::decode(body.value.as_slice()).unwrap();
        let Some(Action::Redirect(redirect)) = &routes.virtual_hosts[0].routes[0].action else { panic!("{routes:?}") };
        assert_eq!((redirect.port_redirect, redirect.response_code), (port, 3), "{from} to {to}");
        assert_eq!((redirect.host_redirect.as_str(), &redirect.path_rewrite_specifier), ("", &None));
    }
}

#[test]
fn a_listener_on_a_pool_address_binds_it_though_no_interface_has_it() {
    let mut observed = sample(&[("a", 1)]);
    let bound = |o: &Observed| {
        let resources = of(o);
        let body = &resources.of(Kind::Listener).values().next().unwrap().body;
        Listener::decode(body.value.as_slice()).unwrap().freebind.is_some_and(|f| f.value)
    };
    assert!(!bound(&observed));
    observed.listeners.get_mut("a").unwrap().address = Some("192.0.2.7".parse().unwrap());
    assert!(bound(&observed));
}

#[test]
fn weights_of_zero_answer_503_and_no_target_404() {
    let mut observed = sample(&[("a", 1)]);
    let status = |o: &Observed| {
        let resources = of(o);
        let body = &resources.of(Kind::Routes).values().next().unwrap().body;
        let routes = RouteConfiguration::decode(body.value.as_slice()).unwrap();
        match &routes.virtual_hosts[0].routes[0].action {
            Some(Action::DirectResponse(d)) => d.status,
            other => panic!("{other:?}"),
        }
    };
    observed.listeners.get_mut("a").unwrap().routes.default[0].weight = 0;
    assert_eq!(status(&observed), 503);
    observed.listeners.get_mut("a").unwrap().routes.default.clear();
    assert_eq!(status(&observed), 404);
}
