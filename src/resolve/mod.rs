//! From a snapshot of the cluster to [`Desired`]: what an object's load balancer should be. Pure and total: no client,
//! no clock, and bad input becomes [`Problem`]s.
//!
//! Every listener stands on its own. One whose spec is bad, or names something missing, harms no other; if it was good
//! before, it goes on as last accepted, and its membership goes on following its Pods:
//!
//! 1. the listener as it stands in the spec, checked strictly; if that fails:
//! 2. the listener as it stands in [`Input::previous_spec`], leniently: what can no longer be found (a certificate, a
//!    Service) is taken from what is in force; if there is no such listener, but it is in force:
//! 3. it is frozen: its name goes to [`Desired::keep`].
//!
//! What is wrong with the object as a whole (its class, its address, an immutable field) sends all of its listeners
//! that way. A listener that goes on holds its port: another listener to which the new spec gives that port is bad in
//! turn, until the first one is corrected.

mod addresses;
mod certificate;
mod class;
mod cluster;
mod departed;
mod health;
mod listener;
mod object;
mod pods;
mod review;
mod routes;
mod select;
mod tencent;
pub mod testing;
#[cfg(test)]
mod tests;
mod tke;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

pub use addresses::{PortKey, address_of, assign, port_conflicts, ports_in_force};
pub use class::class_of;
pub use cluster::{Cluster, Workload};
pub use object::resolve;
pub use pods::addresses_of;
pub use tke::{NETWORKS, NETWORKS_STATUS, out_of_reach};

use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, DirectLoadBalancerSpec},
    model::{Desired, GroupId, ObjectKey, Observed, Problem, TargetId, TargetState, Time},
};

/// What [`resolve`] needs to know beyond the cluster.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The object.
    pub object: &'a DirectLoadBalancer,
    /// What is registered now.
    pub in_force: &'a Observed,
    /// The address that its listeners listen on ([`address_of`]); `None`: the edge nodes' own addresses.
    pub address: Result<Option<IpAddr>, Problem>,
    /// Listeners whose port another object holds on the shared addresses ([`port_conflicts`]), by name.
    pub port_conflicts: &'a BTreeMap<String, Problem>,
    /// Now: certificates expire.
    pub now: Time,
    /// [`Resolved::accepted`] of the last time, as far as it is known.
    pub previous_spec: Option<&'a DirectLoadBalancerSpec>,
}

/// What [`resolve`] found.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the load balancer should be.
    pub desired: Desired,
    /// The class in use; also where the object may not use it (then `desired.problems` says so).
    pub class: Option<Arc<DirectLoadBalancerClass>>,
    /// The name of the class asked for or in use; `None`: there is no default class.
    pub class_name: Option<String>,
    /// Every Pod that a listener or rule of the object targets, by UID; also those that cannot serve now. Pods that
    /// have ended are left out.
    pub gate_pods: BTreeMap<String, GatePod>,
    /// Names of Pods that should serve ([`TargetState::Serving`]) and carry no gate of this object, though it asks for
    /// one.
    pub ungated: BTreeSet<String>,
    /// Names of target Pods that cannot be registered somewhere, because they lack the named port that others have.
    pub portless: BTreeSet<String>,
    /// The spec as far as it is accepted: bad listeners as they were accepted before, or left out. To be handed in as
    /// [`Input::previous_spec`] the next time. `None`: nothing was ever accepted.
    pub accepted: Option<DirectLoadBalancerSpec>,
}

/// A Pod that an object targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePod {
    /// Its namespace and name.
    pub pod: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// What its own state asks for.
    pub state: TargetState,
    /// The groups that it belongs to, and as which target; `None`: it cannot be registered there (it has no address
    /// yet, or lacks the named port).
    pub groups: BTreeMap<GroupId, Option<TargetId>>,
}
