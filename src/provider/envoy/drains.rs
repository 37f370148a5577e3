//! How long it takes until a target that should drain takes no new traffic: from the plan to each proxy's acknowledgement
//! of the endpoints in which it drains.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::model::Time;

/// Versions of one cluster's endpoints that are remembered: a proxy that has not acknowledged one of these is so far behind
/// that it says nothing about how fast drains are.
const REMEMBERED: usize = 32;

/// Told how long a drain took to be in force on a proxy.
type Hook = Arc<dyn Fn(Duration) + Send + Sync>;

/// Drains that are not yet in force everywhere. Cheap to clone.
#[derive(Clone)]
pub struct Drains {
    clusters: Arc<Mutex<HashMap<String, VecDeque<Version>>>>,
    hook: Hook,
}

struct Version {
    version: String,
    published: Time,
    /// A target began to drain in it.
    drains: bool,
    acked_by: BTreeSet<String>,
}

impl Default for Drains {
    fn default() -> Self {
        Self::new(Arc::new(|_| {}))
    }
}

impl Drains {
    /// Tells the hook.
    #[must_use]
    pub fn new(hook: Hook) -> Self {
        Self { clusters: Arc::default(), hook }
    }

    /// A cluster's endpoints have a new version.
    pub(super) fn published(&self, cluster: &str, version: &str, drains: bool, now: Time) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = clusters.entry(cluster.into()).or_default();
        if versions.len() == REMEMBERED {
            versions.pop_front();
        }
        versions.push_back(Version { version: version.into(), published: now, drains, acked_by: BTreeSet::new() });
    }

    /// A cluster is gone.
    pub(super) fn forget(&self, cluster: &str) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    /// A proxy has these versions in force, and with them all that was published before.
    pub(super) fn acked(&self, proxy: &str, endpoints: &BTreeMap<String, String>, now: Time) {
        let mut took = Vec::new();
        {
            let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            for (cluster, version) in endpoints {
                let Some(versions) = clusters.get_mut(cluster) else { continue };
                let Some(last) = versions.iter().rposition(|v| v.version == *version) else { continue };
                for v in versions.iter_mut().take(last + 1) {
                    if v.acked_by.insert(proxy.into()) && v.drains {
                        took.push(now.since(v.published));
                    }
                }
            }
        }
        took.into_iter().for_each(|d| (self.hook)(d));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_later_version_says_that_the_drain_is_in_force_too() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let drains = Drains::new(Arc::new(move |d: Duration| sink.lock().unwrap().push(d.as_millis())));
        let ack = |proxy: &str, version: &str, at: u64| {
            drains.acked(proxy, &BTreeMap::from([("c".to_owned(), version.to_owned())]), Time(at));
        };
        drains.published("c", "v1", false, Time(0));
        drains.published("c", "v2", true, Time(100));
        drains.published("c", "v3", false, Time(150));
        ack("p1", "v1", 160);
        assert!(seen.lock().unwrap().is_empty());
        ack("p1", "v2", 170);
        ack("p2", "v3", 190);
        // Each proxy once.
        ack("p1", "v3", 200);
        ack("p2", "v3", 210);
        assert_eq!(*seen.lock().unwrap(), [70, 90]);
    }
}
