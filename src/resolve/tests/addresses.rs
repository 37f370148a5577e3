//! Who has which address of the pool.

use super::*;
use crate::api::AddressStatus;

const POOL: &str = "192.0.2.10-192.0.2.12";

/// Object `shop/<name>`, made at `age`, asking for an address, holding one.
fn lb(name: &str, age: i64, asks: Option<&str>, holds: Option<&str>) -> Arc<DirectLoadBalancer> {
    let mut spec = base();
    spec["loadBalancer"] = json!({ "address": asks });
    let mut object = object(spec);
    object.metadata.name = Some(name.into());
    object.metadata.creation_timestamp = Some(time(age));
    if let Some(ip) = holds {
        let addresses = vec![AddressStatus { value: ip.into(), type_: "IPv4".into() }];
        object.status.get_or_insert_default().load_balancer.addresses = addresses;
    }
    Arc::new(object)
}

fn pool(entries: &[&str]) -> DirectLoadBalancerClass {
    let mut class = class("public");
    class.spec.envoy.get_or_insert_default().address_pool = entries.iter().map(ToString::to_string).collect();
    class
}

/// The outcome by name: an address, or reason and message.
fn assigned(entries: &[&str], objects: &[Arc<DirectLoadBalancer>]) -> BTreeMap<String, String> {
    let text = |r: Result<IpAddr, Problem>| match r {
        Ok(ip) => ip.to_string(),
        Err(p) => format!("{}: {}", p.reason.as_str(), p.message),
    };
    let class = pool(entries);
    let out = assign(&class, objects);
    let mut backwards = objects.to_vec();
    backwards.reverse();
    assert_eq!(assign(&class, &backwards), out, "the order of the list must not matter");
    out.into_iter().map(|(k, v)| (k.name, text(v))).collect()
}

fn starts_with(out: &BTreeMap<String, String>, name: &str, expected: &str) {
    assert!(out[name].starts_with(expected), "{name}: {}", out[name]);
}

#[test]
fn free_addresses_go_by_age_then_name() {
    let out = assigned(
        &[POOL],
        &[lb("c", 1, None, None), lb("b", 2, None, None), lb("a", 2, None, None), lb("d", 3, None, None)],
    );
    starts_with(&out, "c", "192.0.2.10");
    starts_with(&out, "a", "192.0.2.11");
    starts_with(&out, "b", "192.0.2.12");
    starts_with(&out, "d", "PoolExhausted: no address is free: the pool of class public is 192.0.2.10-192.0.2.12");
}

#[test]
fn an_address_that_is_held_stays_whoever_comes() {
    let young_holder = lb("young", 9, None, Some("192.0.2.10"));
    let old_asks = lb("old", 1, Some("192.0.2.10"), None);
    let older_any = lb("any", 2, None, None);
    let out = assigned(&[POOL], &[young_holder, old_asks, older_any]);
    assert_eq!(out["young"], "192.0.2.10");
    starts_with(&out, "old", "AddressInUse: spec.loadBalancer.address: \"192.0.2.10\" belongs to shop/young");
    assert_eq!(out["any"], "192.0.2.11");
}

#[test]
fn of_two_that_hold_the_same_the_older_keeps_it() {
    let out = assigned(&[POOL], &[lb("young", 2, None, Some("192.0.2.11")), lb("old", 1, None, Some("192.0.2.11"))]);
    assert_eq!(out["old"], "192.0.2.11");
    assert_eq!(out["young"], "192.0.2.10");
}

#[test]
fn what_is_asked_for_goes_before_what_is_free() {
    let out = assigned(&[POOL], &[lb("old", 1, None, None), lb("asks", 2, Some("192.0.2.10"), None)]);
    assert_eq!(out["asks"], "192.0.2.10");
    assert_eq!(out["old"], "192.0.2.11");
}

#[test]
fn what_cannot_be_had_is_said() {
    let out = assigned(
        &[POOL, "nonsense"],
        &[lb("outside", 1, Some("198.51.100.1"), None), lb("broken", 2, Some("1.2.3"), None)],
    );
    starts_with(
        &out,
        "outside",
        "AddressNotInPool: spec.loadBalancer.address: \"198.51.100.1\" cannot be had: the pool of class public is 192.0.2.10-192.0.2.12",
    );
    starts_with(
        &out,
        "broken",
        "Invalid: spec.loadBalancer.address: \"1.2.3\" is no IP address: write it like 192.0.2.7",
    );
}

#[test]
fn an_address_that_left_the_pool_is_replaced() {
    let out = assigned(&[POOL], &[lb("a", 1, None, Some("203.0.113.1"))]);
    assert_eq!(out["a"], "192.0.2.10");
}

#[test]
fn a_deleted_object_keeps_its_own_and_gets_no_new_one() {
    let deleted = |mut o: Arc<DirectLoadBalancer>| {
        Arc::make_mut(&mut o).metadata.deletion_timestamp = Some(time(9));
        o
    };
    let out = assigned(
        &[POOL],
        &[
            deleted(lb("going", 5, None, Some("192.0.2.10"))),
            deleted(lb("never", 1, None, None)),
            lb("new", 6, None, None),
        ],
    );
    assert_eq!(out["going"], "192.0.2.10");
    assert_eq!(out["new"], "192.0.2.11");
    assert!(!out.contains_key("never"));
}

#[test]
fn without_a_pool_nobody_has_an_address() {
    let objects = [lb("plain", 1, None, None), lb("asks", 2, Some("192.0.2.10"), None)];
    let out = assign(&pool(&[]), &objects);
    let of = |name: &str| address_of(&out, &ObjectKey::new("shop", name));
    assert_eq!(of("plain"), Ok(None));
    let problem = of("asks").unwrap_err();
    assert_eq!(problem.reason, Reason::AddressNotInPool);
    assert!(
        problem.message.contains("\"192.0.2.10\" cannot be had: class public has no address pool"),
        "{}",
        problem.message
    );
}

#[test]
fn ipv6_pools_work() {
    let out = assigned(&["2001:db8::/126"], &[lb("a", 1, None, None), lb("b", 2, Some("2001:db8:0::1"), None)]);
    assert_eq!(out["a"], "2001:db8::");
    assert_eq!(out["b"], "2001:db8::1");
}

proptest::proptest! {
    #![proptest_config(super::properties::config(256))]

    /// Nobody shares an address, everybody's is in the pool, and doing it again with the outcome in the status changes
    /// nothing, whoever joins.
    #[test]
    fn assignments_are_exclusive_and_stable(
        ages in proptest::collection::vec((0_i64..4, proptest::option::of(8_u8..16), proptest::option::of(8_u8..16)), 0..8),
        joins in 0_i64..4,
    ) {
        let ip = |n: Option<u8>| n.map(|n| format!("192.0.2.{n}"));
        let make = |i: usize, age, asks: Option<u8>, holds: Option<u8>| lb(&format!("lb{i}"), age, ip(asks).as_deref(), ip(holds).as_deref());
        let objects: Vec<_> = ages.iter().enumerate().map(|(i, (age, asks, holds))| make(i, *age, *asks, *holds)).collect();
        let class = pool(&[POOL]);
        let first = assign(&class, &objects);
        let had: Vec<IpAddr> = first.values().filter_map(|r| r.clone().ok()).collect();
        let distinct: BTreeSet<_> = had.iter().collect();
        assert_eq!(distinct.len(), had.len());
        assert!(had.iter().all(|ip| crate::model::AddressPool::parse(&[POOL]).unwrap().contains(*ip)));
        assert_eq!(first.len(), objects.len());
        let mut later: Vec<_> = objects.iter().map(|o| {
            let held = first[&super::super::addresses::key_of(o)].clone().ok().map(|ip| ip.to_string());
            let asks = o.spec.load_balancer.as_ref().and_then(|l| l.address.clone());
            let age = o.metadata.creation_timestamp.as_ref().unwrap().0.as_second();
            lb(o.metadata.name.as_deref().unwrap(), age, asks.as_deref(), held.as_deref())
        }).collect();
        later.push(lb("joins", joins, None, None));
        let second = assign(&class, &later);
        for (key, answer) in first.iter().filter(|(_, a)| a.is_ok()) {
            assert_eq!(&second[key], answer);
        }
    }
}
