//! One stream, without a network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    google::rpc::Status,
};

use super::{
    super::snapshot::{Kind, Resources, render},
    stream::StreamState,
};
use crate::model::{ObjectKey, Time};

/// What is in force with these listeners, each with a group of one target at `10.0.0.<n>`.
fn resources(listeners: &[(&str, u8)]) -> Resources {
    let observed = super::super::snapshot::sample(listeners);
    render(&BTreeMap::from([(ObjectKey::new("shop", "web"), observed)]))
}

fn ask(kind: Kind, names: &[String], nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: "edge1".into(), cluster: "default".into(), ..Node::default() }),
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.to_vec(),
        response_nonce: nonce.into(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn kinds(responses: &[DeltaDiscoveryResponse]) -> Vec<Kind> {
    responses.iter().map(|r| Kind::of(&r.type_url).unwrap()).collect()
}

fn names(resources: &Resources, kind: Kind) -> Vec<String> {
    resources.of(kind).keys().cloned().collect()
}

/// A stream on which a proxy has subscribed to everything and acknowledged it.
fn settled(resources: &Resources) -> StreamState {
    let mut s = StreamState::default();
    s.request(&ask(Kind::Cluster, &[], ""));
    s.request(&ask(Kind::Listener, &[], ""));
    let first = s.respond(resources, Time(0));
    s.request(&ask(Kind::Endpoints, &names(resources, Kind::Endpoints), ""));
    let _ = s.respond(resources, Time(0));
    for r in first {
        s.request(&ask(Kind::of(&r.type_url).unwrap(), &[], &r.nonce));
    }
    for r in s.respond(resources, Time(0)) {
        s.request(&ask(Kind::of(&r.type_url).unwrap(), &[], &r.nonce));
    }
    assert!(s.respond(resources, Time(0)).is_empty(), "settled");
    s
}

#[test]
fn an_empty_snapshot_is_answered() {
    let mut s = StreamState::default();
    s.request(&ask(Kind::Cluster, &[], ""));
    let got = s.respond(&Resources::default(), Time(0));
    assert_eq!(kinds(&got), [Kind::Cluster], "a proxy waits for its first answer");
    assert!(s.respond(&Resources::default(), Time(0)).is_empty(), "and for no second one");
}

#[test]
fn listeners_wait_for_their_clusters_but_not_for_ever() {
    let all = resources(&[("a", 1)]);
    let mut s = StreamState::default();
    s.request(&ask(Kind::Cluster, &[], ""));
    s.request(&ask(Kind::Listener, &[], ""));
    let first = s.respond(&all, Time(0));
    assert_eq!(kinds(&first), [Kind::Cluster]);
    s.request(&ask(Kind::Endpoints, &names(&all, Kind::Endpoints), ""));
    assert_eq!(kinds(&s.respond(&all, Time(1_000))), [Kind::Endpoints]);
    assert!(s.wake_at().is_some());
    let mut late = StreamState::default();
    late.request(&ask(Kind::Cluster, &[], ""));
    late.request(&ask(Kind::Listener, &[], ""));
    let _ = late.respond(&all, Time(0));
    assert_eq!(
        kinds(&late.respond(&all, Time(16_000))),
        [Kind::Listener],
        "a proxy that says nothing gets it all the same"
    );
    // The clusters are warm.
    s.request(&ask(Kind::Cluster, &[], &first[0].nonce));
    assert_eq!(kinds(&s.respond(&all, Time(2_000))), [Kind::Listener]);
}

#[test]
fn a_drain_never_waits_for_a_cluster_that_warms() {
    let before = resources(&[("a", 1)]);
    let mut s = settled(&before);
    // A new listener's cluster warms, and an old endpoint changes at the same time.
    let after = resources(&[("a", 2), ("b", 3)]);
    let got = s.respond(&after, Time(0));
    assert!(kinds(&got).contains(&Kind::Endpoints), "{:?}", kinds(&got));
    assert!(!kinds(&got).contains(&Kind::Listener));
}

#[test]
fn clusters_go_after_their_listeners() {
    let before = resources(&[("a", 1), ("b", 2)]);
    let mut s = settled(&before);
    let after = resources(&[("a", 1)]);
    let got = s.respond(&after, Time(0));
    let order = kinds(&got);
    let at = |k: Kind| order.iter().rposition(|x| *x == k).unwrap();
    assert!(at(Kind::Listener) < at(Kind::Cluster), "{order:?}");
    let removed: BTreeSet<_> = got.iter().flat_map(|r| r.removed_resources.clone()).collect();
    assert!(removed.contains("shop/web/b"), "{removed:?}");
}

#[test]
fn a_proxy_that_comes_from_another_replica_is_sent_nothing_anew() {
    let all = resources(&[("a", 1)]);
    let mut s = StreamState::default();
    for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener] {
        let mut request = ask(kind, &[], "");
        if kind == Kind::Endpoints {
            request.resource_names_subscribe = names(&all, kind);
        }
        request.initial_resource_versions = all.of(kind).iter().map(|(n, r)| (n.clone(), r.version.clone())).collect();
        s.request(&request);
    }
    let got = s.respond(&all, Time(0));
    assert!(got.iter().all(|r| r.resources.is_empty() && r.removed_resources.is_empty()), "{got:?}");
    assert_eq!(s.acks().listeners.len(), 1, "what it has it has");
    // And what is gone meanwhile is removed.
    let got = s.respond(&Resources::default(), Time(0));
    let removed: BTreeSet<_> = got.iter().flat_map(|r| r.removed_resources.clone()).collect();
    assert!(removed.contains("shop/web/a"), "{removed:?}");
}

#[test]
fn what_is_refused_is_remembered_until_it_is_accepted() {
    let all = resources(&[("a", 1)]);
    let mut s = settled(&all);
    let next = resources(&[("a", 1), ("b", 2)]);
    let got = s.respond(&next, Time(0));
    for r in got {
        s.request(&ask(Kind::of(&r.type_url).unwrap(), &[], &r.nonce));
    }
    let got = s.respond(&next, Time(0));
    let listener = got.iter().find(|r| r.type_url == Kind::Listener.type_url()).unwrap();
    let mut refusal = ask(Kind::Listener, &[], &listener.nonce);
    refusal.error_detail = Some(Status { message: "no such filter".into(), ..Status::default() });
    s.request(&refusal);
    assert_eq!(s.acks().rejected.as_deref(), Some("no such filter"));
    assert_eq!(s.acks().listeners.len(), 1, "the new listener is not carried");
    assert!(s.respond(&next, Time(0)).is_empty(), "the same is not sent again and again");
}

#[test]
fn a_name_that_does_not_exist_is_answered() {
    let mut s = StreamState::default();
    s.request(&ask(Kind::Endpoints, &["nope".into()], ""));
    let got = s.respond(&Resources::default(), Time(0));
    assert_eq!(got[0].removed_resources, ["nope"]);
}
