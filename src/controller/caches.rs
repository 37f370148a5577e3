//! The caches: one watch for each kind, trimmed to what is needed, and who is told when something changes.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, future::BoxFuture};
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        core::v1::{Namespace, Pod, Secret, Service},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use super::trigger::{Change, Triggers};
use crate::{
    api::{DirectLoadBalancer, DirectLoadBalancerClass, DrainSpec, WorkloadKind},
    gate::{inject::InjectSource, webhook::WebhookSource},
    model::ObjectKey,
    resolve::{self, Cluster, Workload, class_of},
};

/// The watched form of the users' objects: one that does not deserialise is an error of its own, and no obstacle to the rest.
pub type Guarded = DeserializeGuard<DirectLoadBalancer>;

/// Label of the ControllerRevisions that hold accepted specs.
pub const REVISION_LABEL: &str = "directlb.io/accepted-spec-of";

/// The caches. Cheap to clone.
#[derive(Clone)]
pub struct Caches {
    /// The users' objects.
    pub objects: Store<Guarded>,
    /// The classes.
    pub classes: Store<DirectLoadBalancerClass>,
    /// All Pods, trimmed.
    pub pods: Store<Pod>,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    daemon_sets: Store<DaemonSet>,
    replica_sets: Store<ReplicaSet>,
    pub(crate) services: Store<Service>,
    namespaces: Store<Namespace>,
    secrets: Store<Secret>,
    /// Secrets of the controller's own namespace: credentials of clouds.
    own_secrets: Store<Secret>,
    /// Accepted specs.
    pub revisions: Store<ControllerRevision>,
}

/// The watches that fill the caches: to be polled as long as the controller runs.
pub type Feeds = Vec<BoxFuture<'static, ()>>;

impl Caches {
    /// Makes the caches and their watches.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, triggers: &Triggers) -> (Self, Feeds) {
        let mut feeds: Feeds = Vec::new();
        let all = watcher::Config::default;
        let tls = all().fields("type=kubernetes.io/tls");
        let opaque = all().fields("type=Opaque");
        let ours = all().labels(REVISION_LABEL);
        let caches = Self {
            objects: feed(client, all(), triggers, &mut feeds, |_| {}, |o: &Guarded| Change::Object(key(o))),
            classes: feed(
                client,
                all(),
                triggers,
                &mut feeds,
                |_| {},
                |_: &DirectLoadBalancerClass| Change::Everything,
            ),
            pods: feed(client, all(), triggers, &mut feeds, trim_pod, |p: &Pod| {
                Change::Pod(ns(p), p.name_any(), p.labels().clone())
            }),
            deployments: feed(client, all(), triggers, &mut feeds, trim_deployment, |o: &Deployment| {
                Change::Namespace(ns(o))
            }),
            stateful_sets: feed(client, all(), triggers, &mut feeds, trim_stateful_set, |o: &StatefulSet| {
                Change::Namespace(ns(o))
            }),
            daemon_sets: feed(client, all(), triggers, &mut feeds, trim_daemon_set, |o: &DaemonSet| {
                Change::Namespace(ns(o))
            }),
            replica_sets: feed(client, all(), triggers, &mut feeds, trim_replica_set, |o: &ReplicaSet| {
                Change::Namespace(ns(o))
            }),
            services: feed(client, all(), triggers, &mut feeds, |_| {}, |o: &Service| Change::Namespace(ns(o))),
            namespaces: feed(
                client,
                all(),
                triggers,
                &mut feeds,
                |_| {},
                |o: &Namespace| Change::Namespace(o.name_any()),
            ),
            own_secrets: feed_from(
                Api::namespaced(client.clone(), namespace),
                opaque,
                triggers,
                &mut feeds,
                |_| {},
                |_: &Secret| Change::Everything,
            ),
            secrets: feed(client, tls, triggers, &mut feeds, |_| {}, |o: &Secret| Change::Namespace(ns(o))),
            revisions: feed(client, ours, triggers, &mut feeds, |_| {}, |_: &ControllerRevision| Change::Nothing),
        };
        (caches, feeds)
    }

    /// Waits until every cache holds its first list.
    ///
    /// # Errors
    /// When a watch has ended for good, which only a shutdown makes happen.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.objects.wait_until_ready().await?;
        self.classes.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.stateful_sets.wait_until_ready().await?;
        self.daemon_sets.wait_until_ready().await?;
        self.replica_sets.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.secrets.wait_until_ready().await?;
        self.own_secrets.wait_until_ready().await?;
        self.revisions.wait_until_ready().await
    }

    /// A Secret of the controller's namespace, of type `Opaque`.
    #[must_use]
    pub fn credentials(&self, name: &str) -> Option<Arc<Secret>> {
        self.own_secrets.find(|s| s.metadata.name.as_deref() == Some(name))
    }

    /// What names the cluster in a cloud: the UID of namespace `kube-system`, which lives as long as the cluster does.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        self.namespaces.get(&ObjectRef::new("kube-system"))?.metadata.uid.clone()
    }

    /// The users' objects that deserialise.
    #[must_use]
    pub fn load_balancers(&self) -> Vec<Arc<DirectLoadBalancer>> {
        self.objects.state().iter().filter_map(|o| o.0.as_ref().ok().map(|o| Arc::new(o.clone()))).collect()
    }

    /// The users' objects of a namespace that deserialise.
    #[must_use]
    pub fn load_balancers_in(&self, namespace: &str) -> Vec<Arc<DirectLoadBalancer>> {
        self.objects
            .state_filter(|o: &Guarded| o.namespace().as_deref() == Some(namespace))
            .iter()
            .filter_map(|o| o.0.as_ref().ok().map(|o| Arc::new(o.clone())))
            .collect()
    }
}

fn key(o: &Guarded) -> crate::model::ObjectKey {
    crate::model::ObjectKey::new(o.namespace().unwrap_or_default(), o.name_any())
}

fn ns<K: Resource>(o: &K) -> String {
    o.meta().namespace.clone().unwrap_or_default()
}

fn feed<K>(
    client: &Client,
    config: watcher::Config,
    triggers: &Triggers,
    feeds: &mut Feeds,
    trim: fn(&mut K),
    change: fn(&K) -> Change,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    feed_from(Api::all(client.clone()), config, triggers, feeds, trim, change)
}

fn feed_from<K>(
    api: Api<K>,
    config: watcher::Config,
    triggers: &Triggers,
    feeds: &mut Feeds,
    trim: fn(&mut K),
    change: fn(&K) -> Change,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store::<K>();
    let triggers = triggers.clone();
    let kind = K::kind(&());
    let stream = watcher(api, config)
        .default_backoff()
        .modify(move |o| {
            o.meta_mut().managed_fields = None;
            trim(o);
        })
        .reflect(writer);
    feeds.push(Box::pin(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Apply(o)) => triggers.send(change(&o)),
                Ok(watcher::Event::Delete(o)) => {
                    triggers.send(change(&o));
                    triggers.send(Change::Deleted(ObjectRef::from_obj(&o).erase()));
                }
                // A new list may lack what was deleted while the watch was broken, and tells nobody.
                Ok(watcher::Event::InitDone) => triggers.send(Change::Everything),
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Err(error) => tracing::warn!(%kind, %error, "watch"),
            }
        }
    }));
    reader
}

/// Of a Pod, what membership, ports and gates need.
fn trim_pod(pod: &mut Pod) {
    pod.metadata.annotations.take_if(|all| {
        all.retain(|k, _| [resolve::NETWORKS, resolve::NETWORKS_STATUS].contains(&k.as_str()));
        all.is_empty()
    });
    if let Some(spec) = &mut pod.spec {
        for c in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            *c = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut c.name),
                ports: c.ports.take(),
                lifecycle: c.lifecycle.take(),
                restart_policy: c.restart_policy.take(),
                ..Default::default()
            };
        }
        *spec = k8s_openapi::api::core::v1::PodSpec {
            containers: std::mem::take(&mut spec.containers),
            init_containers: spec.init_containers.take(),
            node_name: spec.node_name.take(),
            host_network: spec.host_network,
            readiness_gates: spec.readiness_gates.take(),
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            ..Default::default()
        };
    }
    if let Some(status) = &mut pod.status {
        *status = k8s_openapi::api::core::v1::PodStatus {
            conditions: status.conditions.take(),
            phase: status.phase.take(),
            pod_ip: status.pod_ip.take(),
            pod_ips: status.pod_ips.take(),
            host_ip: status.host_ip.take(),
            ..Default::default()
        };
    }
}

macro_rules! trim_workload {
    ($name:ident, $kind:ty) => {
        fn $name(o: &mut $kind) {
            o.metadata.annotations = None;
            if let Some(spec) = &mut o.spec {
                spec.template = Default::default();
            }
        }
    };
}
trim_workload!(trim_deployment, Deployment);
trim_workload!(trim_stateful_set, StatefulSet);
trim_workload!(trim_daemon_set, DaemonSet);

fn trim_replica_set(o: &mut ReplicaSet) {
    o.metadata.annotations = None;
    if let Some(spec) = &mut o.spec {
        spec.template = None;
    }
}

fn replicas(n: Option<i32>) -> Option<u32> {
    // Absent means one, as the API server's default says.
    u32::try_from(n.unwrap_or(1)).ok()
}

impl Cluster for Caches {
    fn class(&self, name: &str) -> Option<Arc<DirectLoadBalancerClass>> {
        self.classes.get(&ObjectRef::new(name))
    }
    fn classes(&self) -> Vec<Arc<DirectLoadBalancerClass>> {
        self.classes.state()
    }
    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.get(&ObjectRef::new(namespace)).map(|n| n.labels().clone())
    }
    fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|p: &Pod| p.metadata.namespace.as_deref() == Some(namespace))
    }
    fn pod_by_ip(&self, ip: std::net::IpAddr) -> Option<String> {
        let text = ip.to_string();
        self.pods
            .state_filter(|p: &Pod| {
                let status = p.status.as_ref();
                let ended = matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
                !ended && status.and_then(|s| s.pod_ip.as_deref()) == Some(&text)
            })
            .first()
            .and_then(|p| p.metadata.uid.clone())
    }
    fn workload(&self, namespace: &str, kind: WorkloadKind, name: &str) -> Option<Workload> {
        fn selected(selector: LabelSelector, replicas: Option<u32>) -> Option<Workload> {
            Some(Workload { selector, replicas })
        }
        match kind {
            WorkloadKind::Deployment => {
                let o = self.deployments.get(&ObjectRef::new(name).within(namespace))?;
                let spec = o.spec.as_ref()?;
                selected(spec.selector.clone(), replicas(spec.replicas))
            }
            WorkloadKind::StatefulSet => {
                let o = self.stateful_sets.get(&ObjectRef::new(name).within(namespace))?;
                let spec = o.spec.as_ref()?;
                selected(spec.selector.clone(), replicas(spec.replicas))
            }
            WorkloadKind::DaemonSet => {
                let o = self.daemon_sets.get(&ObjectRef::new(name).within(namespace))?;
                let wanted = o.status.as_ref().and_then(|s| u32::try_from(s.desired_number_scheduled).ok());
                selected(o.spec.as_ref()?.selector.clone(), wanted)
            }
            WorkloadKind::ReplicaSet => {
                let o = self.replica_sets.get(&ObjectRef::new(name).within(namespace))?;
                let spec = o.spec.as_ref()?;
                selected(spec.selector.clone(), replicas(spec.replicas))
            }
        }
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&ObjectRef::new(name).within(namespace))
    }
    fn tls_secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(&ObjectRef::new(name).within(namespace))
    }
}

impl InjectSource for Caches {
    fn objects(&self, namespace: &str) -> Vec<Arc<DirectLoadBalancer>> {
        self.load_balancers_in(namespace)
    }
    fn service_selector(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
        self.service(namespace, name)?.spec.as_ref()?.selector.clone()
    }
    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        Cluster::namespace_labels(self, namespace).unwrap_or_default()
    }
    fn drain(&self, object: &DirectLoadBalancer) -> DrainSpec {
        let of_class = || class_of(object, self)?.spec.defaults.as_ref()?.drain.clone();
        object.spec.drain.clone().or_else(of_class).unwrap_or_default()
    }
}

impl WebhookSource for Caches {
    fn class_users(&self, class: &str) -> Vec<ObjectKey> {
        self.load_balancers()
            .iter()
            .filter(|o| class_of(o, self).is_some_and(|c| c.name_any() == class))
            .map(|o| ObjectKey::new(o.namespace().unwrap_or_default(), o.name_any()))
            .collect()
    }
}
