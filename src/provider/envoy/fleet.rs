//! The Envoy provider's state: what is in force for each object, and what each fleet is served.
//!
//! Every replica of the controller keeps this state for itself, from the same watches and the same reports, and so
//! serves the same resources. It is an [`Observed`] for each object; a plan's steps change it ([`crate::plan::apply`])
//! and the snapshot is rendered from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    drains::Drains,
    reports::Reports,
    snapshot::{self, Resources},
};
use crate::{
    model::{Group, GroupId, Health, HealthProbe, Limits, ObjectKey, Observed, Plan, Step, TargetId, Time},
    plan::apply,
};

/// How often proxies report.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What the planner may expect of Envoy.
pub const LIMITS: Limits = Limits { reports_active: true, report_interval: REPORT_INTERVAL, checks_unrouted: true };

/// What each fleet is served, by the fleet's name; `None` until every object was planned once, so that a controller that
/// has just started never serves less than what the proxies already carry.
pub type Snapshot = Option<Arc<BTreeMap<String, Arc<Resources>>>>;

/// The provider. Cheap to clone.
#[derive(Clone)]
pub struct EnvoyProvider {
    state: Arc<Mutex<State>>,
    snapshot: Arc<watch::Sender<Snapshot>>,
    reports: Reports,
    drains: Drains,
}

struct State {
    objects: BTreeMap<ObjectKey, Entry>,
    /// Objects not planned yet since the start; `None`: the start is not over.
    unplanned: Option<BTreeSet<ObjectKey>>,
}

struct Entry {
    fleet: String,
    in_force: Observed,
    rendered: Resources,
    registered: HashMap<(GroupId, TargetId), Registered>,
}

#[derive(Clone, Copy)]
struct Registered {
    at: Time,
    healthy_once: bool,
}

/// A proxy that counts: one that is neither left out nor leaving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedProxy {
    /// Its name.
    pub name: String,
    /// It reported lately; what it says is believed.
    pub reporting: bool,
}

impl EnvoyProvider {
    /// An empty provider.
    #[must_use]
    pub fn new(reports: Reports, drains: Drains) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { objects: BTreeMap::new(), unplanned: None })),
            snapshot: Arc::new(watch::Sender::new(None)),
            reports,
            drains,
        }
    }

    /// What the xDS server serves.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// What the proxies say.
    #[must_use]
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The caches are in sync and hold these objects: once each was planned, the first snapshot is served.
    pub fn start(&self, objects: BTreeSet<ObjectKey>) {
        let mut state = self.lock();
        state.unplanned = Some(objects);
        self.publish(&state);
    }

    /// Whether every object was planned at least once.
    #[must_use]
    pub fn started(&self) -> bool {
        self.lock().unplanned.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// The object was planned, or cannot be: the start need not wait for it.
    pub fn planned(&self, key: &ObjectKey) {
        let mut state = self.lock();
        if let Some(unplanned) = &mut state.unplanned
            && unplanned.remove(key)
            && unplanned.is_empty()
        {
            self.publish(&state);
        }
    }

    /// What is in force for the object, with what the proxies say about each target.
    #[must_use]
    pub fn observe(&self, key: &ObjectKey, proxies: &[ExpectedProxy], now: Time) -> Observed {
        let mut state = self.lock();
        let Some(entry) = state.objects.get_mut(key) else { return Observed::default() };
        let mut observed = entry.in_force.clone();
        for (id, group) in &mut observed.groups {
            let cluster = snapshot::cluster_name(key, id);
            for (target, t) in &mut group.targets {
                let registered = entry
                    .registered
                    .entry((id.clone(), target.clone()))
                    .or_insert(Registered { at: now, healthy_once: false });
                let verdict = judge(&self.reports, proxies, &cluster, target, &group.config, registered, now);
                t.health = verdict.health;
                t.answering = verdict.answering;
                t.healthy_since = verdict.healthy_since;
                t.active = verdict.active;
            }
        }
        observed
    }

    /// Listeners of the object that the proxy does not carry yet.
    #[must_use]
    pub fn missing_listeners(&self, key: &ObjectKey, proxy: &str) -> Vec<String> {
        let state = self.lock();
        let Some(entry) = state.objects.get(key) else { return Vec::new() };
        entry
            .in_force
            .listeners
            .keys()
            .filter(|name| {
                let full = snapshot::listener_name(key, name);
                let rendered = entry.rendered.of(snapshot::Kind::Listener).get(&full);
                rendered.is_some_and(|r| !self.reports.carries(proxy, &full, &r.version))
            })
            .cloned()
            .collect()
    }

    /// What is in force for the object, without what the proxies say; `None`: it was never planned.
    #[must_use]
    pub fn in_force(&self, key: &ObjectKey) -> Option<Observed> {
        self.lock().objects.get(key).map(|e| e.in_force.clone())
    }

    /// The fleet that carries the object.
    #[must_use]
    pub fn fleet_of(&self, key: &ObjectKey) -> Option<String> {
        self.lock().objects.get(key).map(|e| e.fleet.clone())
    }

    /// Listeners of the object that are in force.
    #[must_use]
    pub fn in_force_listeners(&self, key: &ObjectKey) -> Vec<String> {
        self.lock().objects.get(key).map(|e| e.in_force.listeners.keys().cloned().collect()).unwrap_or_default()
    }

    /// Applies a plan and serves the result.
    pub fn apply(&self, key: &ObjectKey, fleet: &str, plan: &Plan, now: Time) {
        let mut state = self.lock();
        let entry = state.objects.entry(key.clone()).or_insert_with(|| Entry {
            fleet: fleet.into(),
            in_force: Observed::default(),
            rendered: Resources::default(),
            registered: HashMap::new(),
        });
        let moved = entry.fleet != fleet;
        entry.fleet = fleet.into();
        if plan.steps.is_empty() && !moved {
            return;
        }
        for step in &plan.steps {
            match step {
                Step::Register { group, target, .. } | Step::Undrain { group, target, .. } => {
                    let fresh = Registered { at: now, healthy_once: false };
                    entry.registered.insert((group.clone(), target.clone()), fresh);
                }
                Step::Deregister { group, target, .. } => {
                    entry.registered.remove(&(group.clone(), target.clone()));
                }
                _ => {}
            }
            apply(&mut entry.in_force, step);
        }
        let rendered = snapshot::render(&BTreeMap::from([(key.clone(), entry.in_force.clone())]));
        self.note_drains(key, plan, &entry.rendered, &rendered, now);
        entry.rendered = rendered;
        self.publish(&state);
    }

    /// Remembers which versions of endpoints make targets drain.
    fn note_drains(&self, key: &ObjectKey, plan: &Plan, before: &Resources, after: &Resources, now: Time) {
        let draining: BTreeSet<String> = plan
            .steps
            .iter()
            .filter_map(|s| match s {
                Step::Drain { group, .. } => Some(snapshot::cluster_name(key, group)),
                _ => None,
            })
            .collect();
        let (before, after) = (before.of(snapshot::Kind::Endpoints), after.of(snapshot::Kind::Endpoints));
        for (cluster, resource) in after {
            if before.get(cluster).is_none_or(|old| old.version != resource.version) {
                self.drains.published(cluster, &resource.version, draining.contains(cluster), now);
            }
        }
        before.keys().filter(|c| !after.contains_key(*c)).for_each(|c| self.drains.forget(c));
    }

    /// Forgets an object that is gone; returns whether it was known.
    pub fn forget(&self, key: &ObjectKey) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.objects.remove(key) else { return false };
        entry.rendered.of(snapshot::Kind::Endpoints).keys().for_each(|c| self.drains.forget(c));
        self.publish(&state);
        true
    }

    /// Objects that are in force.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectKey> {
        self.lock().objects.keys().cloned().collect()
    }

    fn publish(&self, state: &State) {
        if state.unplanned.as_ref().is_none_or(|u| !u.is_empty()) {
            return;
        }
        let mut fleets: BTreeMap<String, Resources> = BTreeMap::new();
        for entry in state.objects.values() {
            // Resource names begin with the object's key, so those of two objects never meet.
            fleets.entry(entry.fleet.clone()).or_default().merge(&entry.rendered);
        }
        let fleets = fleets.into_iter().map(|(name, r)| (name, Arc::new(r))).collect();
        self.snapshot.send_replace(Some(Arc::new(fleets)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug that was logged; the data is replaced by whole values only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the fields of `ObservedTarget`.
struct Verdict {
    health: Health,
    answering: bool,
    healthy_since: Option<Time>,
    active: Option<u64>,
}

/// What the proxies, taken together, say about a target.
fn judge(
    reports: &Reports,
    proxies: &[ExpectedProxy],
    cluster: &str,
    target: &TargetId,
    config: &Group,
    registered: &mut Registered,
    now: Time,
) -> Verdict {
    let mut unhealthy = BTreeSet::new();
    let mut pending = BTreeSet::new();
    let mut active = Some(0);
    let mut reported = false;
    let mut answering = false;
    let mut healthy_since = None;
    for proxy in proxies {
        let report = if proxy.reporting { reports.endpoint(&proxy.name, cluster, target) } else { None };
        let Some(report) = report else {
            pending.insert(proxy.name.clone());
            active = None;
            continue;
        };
        reported = true;
        if let Some(since) = report.healthy_since {
            answering = true;
            healthy_since = healthy_since.max(Some(since));
        } else {
            unhealthy.insert(proxy.name.clone());
        }
        // An HTTP proxy keeps idle connections for later requests; only requests count there.
        let n = if config.protocol.is_http() { report.rq_active } else { report.cx_active };
        active = active.map(|sum| sum + n);
    }
    // Envoy calls a target unhealthy until its first check has passed; only when it had the time to pass does that mean
    // that it fails.
    let hc = &config.health_check;
    let patience = hc.interval + hc.timeout + REPORT_INTERVAL * 2;
    let new = !registered.healthy_once && now.since(registered.at) < patience;
    let health = if !unhealthy.is_empty() {
        if new || hc.probe == HealthProbe::None {
            unhealthy.append(&mut pending);
            Health::Pending { on: unhealthy }
        } else {
            Health::Unhealthy { on: unhealthy }
        }
    } else if !reported {
        Health::Unknown
    } else if !pending.is_empty() {
        Health::Pending { on: pending }
    } else {
        registered.healthy_once = true;
        Health::Healthy
    };
    let healthy_since = healthy_since.filter(|_| health == Health::Healthy);
    Verdict { health, answering, healthy_since, active }
}
