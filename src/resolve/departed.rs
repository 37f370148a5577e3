//! Why targets that are in force are no targets any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;

use super::{Cluster, pods, tke};
use crate::model::{Departed, Desired, Observed, TargetId};

/// The reason for each target in force that is in no group of `desired`. A target of a frozen listener
/// ([`Desired::keep`]) is there too: the planner leaves it alone, unless it has reason not to.
pub(super) fn departed(
    desired: &Desired,
    in_force: &Observed,
    cluster: &dyn Cluster,
    by_uid: &BTreeMap<&str, &Arc<Pod>>,
) -> BTreeMap<TargetId, Departed> {
    let wanted: BTreeSet<&TargetId> = desired.groups.values().flat_map(|g| g.targets.keys()).collect();
    let registered: BTreeSet<&TargetId> = in_force.groups.values().flat_map(|g| g.targets.keys()).collect();
    let left = registered.difference(&wanted);
    left.map(|t| ((*t).clone(), reason(t, cluster, by_uid.get(t.uid.as_str()).copied()))).collect()
}

fn reason(target: &TargetId, cluster: &dyn Cluster, pod: Option<&Arc<Pod>>) -> Departed {
    let Some(pod) = pod else {
        let taken = cluster.pod_by_ip(target.ip).is_some_and(|uid| uid != target.uid);
        return if taken { Departed::Dead } else { Departed::Unknown };
    };
    let addresses = pods::addresses(pod);
    // A Pod whose sandbox was made anew has another address; nothing of it is left at the old one.
    let has = addresses.contains(&target.ip) || tke::vpc_addresses(pod).contains(&target.ip);
    if pods::ended(pod) || (!addresses.is_empty() && !has) {
        Departed::Dead
    } else if pod.metadata.deletion_timestamp.is_some() {
        Departed::Terminating
    } else {
        Departed::Unselected
    }
}
