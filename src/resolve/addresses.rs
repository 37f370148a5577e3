//! Who has which address of a pool, and which port of shared addresses.
//!
//! Both are decided over all objects at once, and in the same way by every replica of the controller: who has
//! something keeps it, and between newcomers the older object wins (creationTimestamp, then namespace and name).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kube::ResourceExt as _;

use super::pods::port_number;
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, Protocol, Reason},
    model::{AddressPool, ObjectKey, Observed, PoolRange, Problem},
};

/// The object's key.
pub(crate) fn key_of(object: &DirectLoadBalancer) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// The objects with their keys, oldest first.
fn by_age(objects: &[Arc<DirectLoadBalancer>]) -> Vec<(ObjectKey, &DirectLoadBalancer)> {
    let mut sorted: Vec<_> = objects.iter().map(|o| (key_of(o), o.as_ref())).collect();
    sorted.sort_by(|(a_key, a), (b_key, b)| {
        // An object without a timestamp has not been created yet: it is the youngest.
        let age = |o: &DirectLoadBalancer| o.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let (a_age, b_age) = (age(a), age(b));
        (a_age.is_none(), a_age, a_key).cmp(&(b_age.is_none(), b_age, b_key))
    });
    sorted
}

/// Gives each object of a class with an address pool its address.
///
/// 1. An address in an object's status stays its own while it is in the pool (two objects with the same address in
///    their status: the older keeps it). That an object is being deleted changes nothing: its listeners may still be
///    in force.
/// 2. Then, oldest object first, addresses that objects ask for.
/// 3. Then, oldest object first, the first free address.
///
/// An object that is missing in the answer has no address of its own: its class has no pool, or it is being deleted and
/// never had one. Bad entries of the pool are passed over.
#[must_use]
pub fn assign(
    class: &DirectLoadBalancerClass,
    objects: &[Arc<DirectLoadBalancer>],
) -> BTreeMap<ObjectKey, Result<IpAddr, Problem>> {
    let entries: Vec<&String> = class.spec.address_pool().iter().filter(|e| PoolRange::parse(e).is_ok()).collect();
    let pool = AddressPool::parse(&entries).unwrap_or_default();
    let describe = || match entries.as_slice() {
        [] => format!("class {} has no address pool", class.name_any()),
        some => {
            let entries: Vec<&str> = some.iter().map(|s| s.as_str()).collect();
            format!("the pool of class {} is {}", class.name_any(), entries.join(", "))
        }
    };
    let objects = by_age(objects);
    let mut holders: BTreeMap<IpAddr, ObjectKey> = BTreeMap::new();
    let mut out: BTreeMap<ObjectKey, Result<IpAddr, Problem>> = BTreeMap::new();

    for (key, object) in &objects {
        let held = object.status.iter().flat_map(|s| &s.load_balancer.addresses).filter_map(|a| a.value.parse().ok());
        if let Some(ip) = held.into_iter().find(|ip| pool.contains(*ip) && !holders.contains_key(ip)) {
            holders.insert(ip, key.clone());
            out.insert(key.clone(), Ok(ip));
        }
    }
    let waiting = |out: &BTreeMap<_, _>, key: &ObjectKey, object: &DirectLoadBalancer| {
        !out.contains_key(key) && object.metadata.deletion_timestamp.is_none()
    };
    for (key, object) in &objects {
        let Some(asked) = object.spec.load_balancer.as_ref().and_then(|l| l.address.as_deref()) else { continue };
        if !waiting(&out, key, object) {
            continue;
        }
        let answer = match asked.parse::<IpAddr>() {
            Err(_) => Err(problem(Reason::Invalid, asked, "is no IP address: write it like 192.0.2.7")),
            Ok(ip) if !pool.contains(ip) => {
                Err(problem(Reason::AddressNotInPool, asked, &format!("cannot be had: {}", describe())))
            }
            Ok(ip) => match holders.get(&ip) {
                Some(holder) => Err(problem(
                    Reason::AddressInUse,
                    asked,
                    &format!("belongs to {holder}: ask for another one, or for none to get a free one"),
                )),
                None => {
                    holders.insert(ip, key.clone());
                    Ok(ip)
                }
            },
        };
        out.insert(key.clone(), answer);
    }
    if entries.is_empty() {
        return out;
    }
    for (key, object) in &objects {
        if !waiting(&out, key, object) {
            continue;
        }
        let answer = match pool.first_free(|ip| holders.contains_key(&ip)) {
            Some(ip) => {
                holders.insert(ip, key.clone());
                Ok(ip)
            }
            None => Err(Problem {
                listener: None,
                reason: Reason::PoolExhausted,
                message: format!("no address is free: {}, all in use; ask for the pool to be enlarged", describe()),
            }),
        };
        out.insert(key.clone(), answer);
    }
    out
}

fn problem(reason: Reason, asked: &str, what: &str) -> Problem {
    Problem { listener: None, reason, message: format!("spec.loadBalancer.address: \"{asked}\" {what}") }
}

/// An object's address as [`Input::address`](super::Input::address) wants it.
///
/// # Errors
/// Why the object gets none.
pub fn address_of(
    assigned: &BTreeMap<ObjectKey, Result<IpAddr, Problem>>,
    object: &ObjectKey,
) -> Result<Option<IpAddr>, Problem> {
    assigned.get(object).cloned().transpose()
}

/// A port and its transport: what can be had once on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// The port.
    pub port: u16,
    /// UDP; else TCP, whatever is spoken on it.
    pub udp: bool,
}

impl PortKey {
    /// The port that a listener of this protocol takes.
    #[must_use]
    pub fn new(port: u16, protocol: Protocol) -> Self {
        Self { port, udp: protocol.over_udp() }
    }
}

impl std::fmt::Display for PortKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} over {}", self.port, if self.udp { "UDP" } else { "TCP" })
    }
}

/// The ports that an object holds now, each with the listener's name.
#[must_use]
pub fn ports_in_force(observed: &Observed) -> BTreeMap<PortKey, String> {
    observed.listeners.values().map(|l| (PortKey::new(l.port, l.protocol), l.name.clone())).collect()
}

/// The listeners that cannot have their port, because another object on the same shared addresses has it.
///
/// `objects` are all objects that share the addresses; `in_force` are the ports that each of them holds now
/// ([`ports_in_force`]). A port in force stays with its holder, whatever the holder's age, and whatever its new spec
/// says: a serving listener is never taken away for another's sake. (So a port that an object gives up is free for
/// others once it is no longer in force.) Between two newcomers, and should two hold the same port, the older object
/// wins. An object that is being deleted holds what it has in force and asks for nothing.
#[must_use]
pub fn port_conflicts(
    objects: &[Arc<DirectLoadBalancer>],
    in_force: &BTreeMap<ObjectKey, BTreeMap<PortKey, String>>,
) -> BTreeMap<ObjectKey, BTreeMap<String, Problem>> {
    let objects = by_age(objects);
    let mut holders: BTreeMap<PortKey, (ObjectKey, String)> = BTreeMap::new();
    let known: BTreeSet<&ObjectKey> = objects.iter().map(|(k, _)| k).collect();
    // What is in force for an object that the cache has lost is still in force; it comes last.
    let lost = in_force.keys().filter(|k| !known.contains(k));
    for key in objects.iter().map(|(k, _)| k).chain(lost) {
        for (port, listener) in in_force.get(key).into_iter().flatten() {
            holders.entry(*port).or_insert_with(|| (key.clone(), listener.clone()));
        }
    }
    let mut out: BTreeMap<ObjectKey, BTreeMap<String, Problem>> = BTreeMap::new();
    for (key, object) in &objects {
        if object.metadata.deletion_timestamp.is_some() {
            continue;
        }
        for (i, l) in object.spec.listeners.iter().enumerate() {
            let Some(port) = port_number(l.port).map(|p| PortKey::new(p, l.protocol)) else { continue };
            let (holder, listener) = holders.entry(port).or_insert_with(|| (key.clone(), l.name.clone()));
            if holder != key {
                let message = format!(
                    "spec.listeners[{i}].port: {port} is held by {holder} listener {listener} on the same addresses: \
                     use another port, or a class with an address pool"
                );
                out.entry(key.clone()).or_default().insert(
                    l.name.clone(),
                    Problem { listener: Some(l.name.clone()), reason: Reason::PortConflict, message },
                );
            }
        }
    }
    out
}
