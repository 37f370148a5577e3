//! Who has which port of shared addresses.

use super::*;

/// Object `shop/<name>`, made at `age`, with these listeners: name, protocol, port.
fn lb(name: &str, age: i64, listeners: &[(&str, &str, i32)]) -> Arc<DirectLoadBalancer> {
    let mut spec = base();
    spec["listeners"] =
        listeners.iter().map(|(n, protocol, port)| json!({"name": n, "protocol": protocol, "port": port})).collect();
    let mut object = object(spec);
    object.metadata.name = Some(name.into());
    object.metadata.creation_timestamp = Some(time(age));
    Arc::new(object)
}

type InForce = BTreeMap<ObjectKey, BTreeMap<PortKey, String>>;

fn in_force(all: &[(&str, &str, u16)]) -> InForce {
    let mut out = InForce::new();
    for (object, listener, port) in all {
        let key = PortKey { port: *port, udp: false };
        out.entry(ObjectKey::new("shop", *object)).or_default().insert(key, listener.to_string());
    }
    out
}

/// The losers, as `object/listener`, with the message.
fn losers(objects: &[Arc<DirectLoadBalancer>], in_force: &InForce) -> BTreeMap<String, String> {
    let out = port_conflicts(objects, in_force);
    let mut backwards = objects.to_vec();
    backwards.reverse();
    assert_eq!(port_conflicts(&backwards, in_force), out, "the order of the list must not matter");
    let flat = out.into_iter().flat_map(|(k, all)| all.into_iter().map(move |(l, p)| (format!("{}/{l}", k.name), p)));
    flat.map(|(who, p)| {
        assert_eq!(p.reason, Reason::PortConflict);
        assert_eq!(p.listener.as_deref(), who.split('/').nth(1));
        (who, p.message)
    })
    .collect()
}

#[test]
fn between_newcomers_the_older_wins() {
    let old = lb("z", 1, &[("web", "HTTP", 80), ("dns", "UDP", 53)]);
    let young = lb("a", 2, &[("x", "TCP", 80), ("y", "TCP", 53), ("w", "TCP", 81)]);
    let out = losers(&[young, old], &InForce::new());
    assert_eq!(names(out.keys()), ["a/x"]);
    let message = &out["a/x"];
    for part in ["spec.listeners[0].port: 80 over TCP", "held by shop/z listener web", "use another port"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn of_the_same_age_the_name_decides() {
    let out = losers(&[lb("b", 1, &[("x", "TCP", 80)]), lb("a", 1, &[("x", "TCP", 80)])], &InForce::new());
    assert_eq!(names(out.keys()), ["b/x"]);
}

#[test]
fn a_port_in_force_stays_with_its_holder() {
    let old = lb("old", 1, &[("web", "TCP", 80)]);
    let young = lb("young", 2, &[("web", "TCP", 80)]);
    let objects = [old, young];
    assert_eq!(names(losers(&objects, &in_force(&[("young", "web", 80)])).keys()), ["old/web"]);
    assert_eq!(names(losers(&objects, &in_force(&[("young", "web", 80), ("old", "web", 80)])).keys()), ["young/web"]);
}

#[test]
fn a_port_is_free_only_when_it_is_no_longer_in_force() {
    // `old` has moved to 81 in its spec, which is not in force yet (its new listener may be bad).
    let objects = [lb("old", 1, &[("web", "TCP", 81)]), lb("young", 2, &[("web", "TCP", 80)])];
    assert_eq!(names(losers(&objects, &in_force(&[("old", "web", 80)])).keys()), ["young/web"]);
    assert!(losers(&objects, &in_force(&[("old", "web", 81)])).is_empty());
}

#[test]
fn a_deleted_object_holds_what_is_in_force_and_wants_nothing() {
    let mut going = lb("going", 1, &[("web", "TCP", 80), ("more", "TCP", 81)]);
    Arc::make_mut(&mut going).metadata.deletion_timestamp = Some(time(9));
    let objects = [going, lb("young", 2, &[("web", "TCP", 80), ("more", "TCP", 81)])];
    assert_eq!(names(losers(&objects, &in_force(&[("going", "web", 80)])).keys()), ["young/web"]);
    let gone_from_cache = &objects[1..];
    assert_eq!(names(losers(gone_from_cache, &in_force(&[("going", "web", 80)])).keys()), ["young/web"]);
}

#[test]
fn an_object_does_not_conflict_with_itself_nor_by_a_bad_port() {
    let twice = lb("a", 1, &[("x", "TCP", 80), ("y", "TCP", 80), ("z", "TCP", 0)]);
    assert!(losers(&[twice, lb("b", 2, &[("z", "TCP", 0)])], &InForce::new()).is_empty());
}

#[test]
fn ports_in_force_are_read_from_what_is_registered() {
    let resolved = good(base(), &cluster());
    let ports = ports_in_force(&applied(&resolved.desired));
    let ports: Vec<_> = ports.iter().map(|(k, l)| (k.to_string(), l.as_str())).collect();
    assert_eq!(ports, [("80 over TCP".to_string(), "a"), ("81 over TCP".to_string(), "b")]);
}
