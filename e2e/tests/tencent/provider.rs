//! The product's provider and its engine, on the emulator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use directlb::{
    model::Time,
    provider::tencent::{
        self, Answer, Binding, Client, Credentials, HealthCheck, HealthState, ListenerSettings, NewListener,
        NewLoadBalancer, NewRule, Place, Read, Tag, Tencent, Write, limits,
    },
    runtime::clock::Clock,
    sync::{Cloud as _, Engine, ErrorKind},
};
use e2e::tencent::{Emulator, Faults, Settings};
use serde_json::json;

use super::{ID, KEY, in_process::InProcess};

type Product = Engine<Tencent<InProcess>>;

fn credentials(key: &str) -> Credentials {
    Credentials { secret_id: ID.into(), secret_key: key.into(), token: None }
}

fn product(cloud: &Emulator) -> Product {
    let clock = Clock::starting_at(Time(Settings::default().start * 1000));
    let transport = InProcess(cloud.clone());
    let client = Client::new(transport, super::HOST, "ap-guangzhou", credentials(KEY), clock.as_fn());
    Engine::new(Tencent::new(client), limits(), 1, clock, Arc::new(()))
}

async fn one(product: &Product, lane: &str, item: Write) -> String {
    product.write(lane, vec![item]).await.remove(0).unwrap()
}

fn new_load_balancer(token: &str) -> Write {
    Write::CreateLoadBalancer(Box::new(NewLoadBalancer {
        load_balancer_type: "INTERNAL".into(),
        load_balancer_name: "web".into(),
        vpc_id: "vpc-emulator".into(),
        subnet_id: Some("subnet-emulator".into()),
        load_balancer_pass_to_target: None,
        tags: vec![Tag { tag_key: "directlb.io/cluster".into(), tag_value: "c".into() }],
        client_token: token.into(),
    }))
}

fn tcp(port: u16) -> Write {
    let settings = ListenerSettings {
        protocol: "TCP".into(),
        scheduler: Some("WRR".into()),
        session_expire_time: Some(0),
        health_check: Some(HealthCheck {
            health_switch: Some(1),
            time_out: Some(2),
            interval_time: Some(5),
            health_num: Some(2),
            un_health_num: Some(2),
            check_type: Some("TCP".into()),
            ..HealthCheck::default()
        }),
        ..ListenerSettings::default()
    };
    Write::CreateListener(Box::new(NewListener { name: format!("tcp-{port}"), port, settings }))
}

fn binding(place: &Place, n: u8) -> Binding {
    Binding { place: place.clone(), ip: [10, 0, 0, n].into(), port: 8080 }
}

fn register(binding: &Binding) -> Write {
    Write::Register { binding: binding.clone(), weight: 100, tag: format!("uid-{}", binding.ip) }
}

async fn bound(product: &Product, lb: &str, place: &Place) -> BTreeMap<Binding, tencent::Bound> {
    let query = Read::Targets { load_balancer: lb.into(), listener: place.listener.clone() };
    match product.read(query).await.unwrap() {
        Answer::Targets(targets) => targets,
        other => panic!("{other:?}"),
    }
}

async fn health(product: &Product, lb: &str) -> BTreeMap<Binding, HealthState> {
    match product.read(Read::Health(lb.into())).await.unwrap() {
        Answer::Health(all) => all.into_iter().map(|(b, h)| (b, h.state)).collect(),
        other => panic!("{other:?}"),
    }
}

/// A load balancer with a TCP listener.
async fn world() -> (Emulator, Product, String, Place) {
    let cloud = Emulator::new(Settings::default());
    let product = product(&cloud);
    let lb = one(&product, "create/a", new_load_balancer("a")).await;
    let listener = one(&product, &lb, tcp(443)).await;
    (cloud, product, lb, Place { listener, location: None })
}

#[test]
fn every_action_in_use_is_checked_by_the_sdk() {
    for action in tencent::ACTIONS.iter().chain([&Tencent::<InProcess>::TASKS]) {
        assert!(Emulator::ACTIONS.contains(action), "{action}: the oracle does not cover it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_from_making_to_deleting() {
    let (cloud, product, lb, place) = world().await;
    match product.read(Read::LoadBalancer(lb.clone())).await.unwrap() {
        Answer::LoadBalancer(Some(found)) => {
            assert!(found.running);
            assert_eq!(found.addresses.len(), 1);
            assert_eq!(found.tags[0].tag_value, "c");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(product.read(Read::LoadBalancer("lb-unknown0".into())).await.unwrap(), Answer::LoadBalancer(None));

    let (a, b) = (binding(&place, 1), binding(&place, 2));
    assert!(product.write(&lb, vec![register(&a), register(&b)]).await.iter().all(Result::is_ok));
    assert_eq!(bound(&product, &lb, &place).await[&a].tag.as_deref(), Some("uid-10.0.0.1"));
    assert_eq!(health(&product, &lb).await[&a], HealthState::Unknown);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(health(&product, &lb).await[&a], HealthState::Alive);

    one(&product, &lb, Write::Weight { binding: a.clone(), weight: 0 }).await;
    assert_eq!(bound(&product, &lb, &place).await[&a].weight, 0);
    one(&product, &lb, Write::Deregister(a.clone())).await;
    assert_eq!(bound(&product, &lb, &place).await.into_keys().collect::<Vec<_>>(), std::slice::from_ref(&b));

    one(&product, &lb, Write::Deregister(b)).await;
    one(&product, &lb, Write::DeleteListener(place.listener)).await;
    one(&product, &lb, Write::DeleteLoadBalancer).await;
    assert_eq!(cloud.dump()["LoadBalancers"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn rules_and_their_targets() {
    let (_, product, lb, _) = world().await;
    let settings = ListenerSettings { protocol: "HTTP".into(), ..ListenerSettings::default() };
    let new = NewListener { name: "http".into(), port: 80, settings };
    let listener = one(&product, &lb, Write::CreateListener(Box::new(new))).await;
    let rule = |url: &str| Write::CreateRule {
        listener: listener.clone(),
        rule: Box::new(NewRule { domain: "shop.example.com".into(), url: url.into(), ..NewRule::default() }),
    };
    let ids = product.write(&lb, vec![rule("/"), rule("/cart")]).await;
    let places: Vec<Place> =
        ids.into_iter().map(|id| Place { listener: listener.clone(), location: Some(id.unwrap()) }).collect();
    let all: Vec<Binding> = places.iter().map(|p| binding(p, 1)).collect();
    assert!(product.write(&lb, all.iter().map(register).collect()).await.iter().all(Result::is_ok));
    assert_eq!(bound(&product, &lb, &places[0]).await.len(), 2);
    assert_eq!(health(&product, &lb).await.len(), 2);

    one(&product, &lb, Write::DeleteRule(places[1].clone())).await;
    let Answer::Listeners(listeners) = product.read(Read::Listeners(lb)).await.unwrap() else { panic!() };
    let http = listeners.iter().find(|l| l.id == listener).unwrap();
    let left: Vec<_> = http.rules.iter().map(|r| (Some(&r.id), r.domain.as_str(), r.url.as_str())).collect();
    assert_eq!(left, [(places[0].location.as_ref(), "shop.example.com", "/")]);
    assert_eq!((http.name.as_str(), http.port), ("http", 80));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_refused_keeps_no_other_out() {
    let (cloud, product, lb, place) = world().await;
    cloud.set_refused_address("10.0.0.7", true);
    let all: Vec<Binding> = (1..=40).map(|n| binding(&place, n)).collect();
    let results = product.write(&lb, all.iter().map(register).collect()).await;
    let failed: Vec<usize> = results.iter().enumerate().filter(|(_, r)| r.is_err()).map(|(n, _)| n).collect();
    assert_eq!(failed, [6]);
    assert_eq!(bound(&product, &lb, &place).await.len(), 39);

    cloud.set_refused_address("10.0.0.7", false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    one(&product, &lb, register(&all[6])).await;
    assert_eq!(bound(&product, &lb, &place).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn the_same_token_makes_one_load_balancer_even_if_the_reply_is_lost() {
    let cloud = Emulator::new(Settings::default());
    let product = product(&cloud);
    cloud.set_faults(Faults { reply_lost_after_commit: 1.0, ..Faults::default() });
    let lost = product.write("create/a", vec![new_load_balancer("a")]).await;
    assert_eq!(lost[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    cloud.set_faults(Faults::default());
    one(&product, "create/a", new_load_balancer("a")).await;
    assert_eq!(cloud.dump()["LoadBalancers"].as_object().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_are_said_to_be_wrong_and_new_ones_are_used_at_once() {
    let (_, product, lb, place) = world().await;
    product.cloud().client().set_credentials(credentials("wrong"));
    let result = product.write(&lb, vec![register(&binding(&place, 1))]).await.remove(0);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied);
    let result = product.read(Read::Health(lb.clone())).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Denied);
    product.cloud().client().set_credentials(credentials(KEY));
    one(&product, &lb, register(&binding(&place, 1))).await;
}

#[tokio::test(start_paused = true)]
async fn all_is_there_in_the_end_whatever_goes_wrong() {
    for seed in 0..20 {
        let cloud = Emulator::new(Settings { seed, ..Settings::default() });
        let product = product(&cloud);
        let lb = one(&product, "create/a", new_load_balancer("a")).await;
        let place = Place { listener: one(&product, &lb, tcp(443)).await, location: None };
        cloud.set_faults(Faults {
            throttle: 0.2,
            internal_error: 0.1,
            reply_lost_after_commit: 0.1,
            task_failed: 0.1,
            partial_failure: 0.1,
            ..Faults::default()
        });
        let wanted: Vec<Binding> = (1..=150).map(|n| binding(&place, n)).collect();
        let mut rounds = 0;
        // What a reconcile does: look, do what is missing, look again.
        loop {
            rounds += 1;
            assert!(rounds < 200, "seed {seed}");
            let query = Read::Targets { load_balancer: lb.clone(), listener: place.listener.clone() };
            let Ok(Answer::Targets(there)) = product.read(query).await else { continue };
            let missing: Vec<Write> = wanted.iter().filter(|b| !there.contains_key(b)).map(register).collect();
            if missing.is_empty() {
                break;
            }
            product.write(&lb, missing).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
