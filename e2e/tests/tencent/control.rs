//! The product's workers and planner on the emulator, with a reconcile loop of the test's own: what is desired is made by
//! hand, so that a test says exactly what it is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use directlb::{
    api::{Protocol, Scheduler},
    model::{
        AccessLog, Departed, Desired, DesiredTarget, Group, GroupId, Health, HealthCheck, HealthProbe, ListenerConfig,
        ObjectKey, Observed, Redirect, RouteRule, RouteTable, TargetId, TargetState, Time, WeightedGroup,
    },
    plan::plan,
    provider::tencent::{
        AnyTransport, CLUSTER_TAG, Credentials, Endpoint, Goal, LIMITS, NewLoadBalancer, OBJECT_TAG, Outside, Report,
        Tag, TencentProvider, Transport,
    },
    runtime::clock::Clock,
};
use e2e::tencent::{Emulator, Settings};
use serde_json::Value;

use super::{ID, KEY, in_process::InProcess};

/// The Secret of the account.
const SECRET: &str = "tencent";

/// Where the controller dies: at the `at`th call, before it is sent or after it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    pub(super) at: usize,
    pub(super) after: bool,
}

/// A transport of a controller that dies.
#[derive(Clone)]
struct Mortal {
    inner: InProcess,
    calls: Arc<AtomicUsize>,
    crash: Option<Crash>,
    dead: Arc<AtomicBool>,
}

impl Transport for Mortal {
    async fn post(&self, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Result<(u16, Vec<u8>), String> {
        if self.dead.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let dies = self.crash.is_some_and(|c| c.at == n);
        if dies && self.crash.is_some_and(|c| !c.after) {
            self.dead.store(true, Ordering::SeqCst);
            return std::future::pending().await;
        }
        let reply = self.inner.post(headers, body).await;
        if dies {
            self.dead.store(true, Ordering::SeqCst);
            return std::future::pending().await;
        }
        reply
    }
}

/// A listener as tests describe it.
#[derive(Clone)]
pub(super) struct Listen {
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// Host, path, and which Pods.
    pub(super) rules: Vec<(&'static str, &'static str, Vec<Pod>)>,
    /// The Pods of its default.
    pub(super) pods: Vec<Pod>,
    pub(super) interval: u64,
    pub(super) certificate: Option<&'static str>,
    /// To which listener clients are sent, and by which status.
    pub(super) redirect: Option<(&'static str, u16)>,
}

impl Listen {
    pub(super) fn tcp(name: &'static str, port: u16, pods: &[u8]) -> Self {
        let pods = pods.iter().map(|n| Pod::new(*n)).collect();
        Self {
            name,
            protocol: Protocol::TCP,
            port,
            rules: Vec::new(),
            pods,
            interval: 3,
            certificate: None,
            redirect: None,
        }
    }
    pub(super) fn http(name: &'static str, port: u16, pods: &[u8]) -> Self {
        Self { protocol: Protocol::HTTP, ..Self::tcp(name, port, pods) }
    }
    pub(super) fn https(name: &'static str, port: u16, certificate: &'static str, pods: &[u8]) -> Self {
        Self { protocol: Protocol::HTTPS, certificate: Some(certificate), ..Self::http(name, port, pods) }
    }
    pub(super) fn redirect(name: &'static str, port: u16, to: &'static str, status: u16) -> Self {
        Self { redirect: Some((to, status)), ..Self::http(name, port, &[]) }
    }
    pub(super) fn rule(mut self, host: &'static str, path: &'static str, pods: &[u8]) -> Self {
        self.rules.push((host, path, pods.iter().map(|n| Pod::new(*n)).collect()));
        self
    }
}

/// A Pod, by the last part of its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Pod {
    pub(super) n: u8,
    pub(super) leaving: bool,
}

impl Pod {
    pub(super) const fn new(n: u8) -> Self {
        Self { n, leaving: false }
    }
    fn target(self) -> TargetId {
        TargetId { uid: format!("uid-{}", self.n), ip: [10, 0, 0, self.n].into(), port: 8080 }
    }
}

/// What one object asks for.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) name: &'static str,
    pub(super) listeners: Vec<Listen>,
    pub(super) deleting: bool,
    pub(super) adopt: Option<String>,
    pub(super) drain: Duration,
}

impl Object {
    pub(super) fn new(name: &'static str, listeners: Vec<Listen>) -> Self {
        Self { name, listeners, deleting: false, adopt: None, drain: Duration::from_secs(5) }
    }
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::new("default", self.name)
    }
    pub(super) fn uid(&self) -> String {
        format!("uid-of-{}", self.name)
    }
}

/// A controller, its objects, and the cloud.
pub(super) struct World {
    pub(super) cloud: Emulator,
    clock: Clock,
    provider: TencentProvider,
    transport: Mortal,
    pub(super) credentials: Credentials,
    pub(super) objects: BTreeMap<&'static str, Object>,
    /// Gates that are open: Pods keep them when a controller dies.
    pub(super) open: BTreeSet<(String, String)>,
    pub(super) incidents: Vec<String>,
    changed: Arc<Mutex<BTreeSet<ObjectKey>>>,
    /// Ids as they stand in status.
    known: BTreeMap<&'static str, String>,
    pub(super) goal: Goal,
    pub(super) region: String,
    /// What the class says of the rate.
    pub(super) rate: Option<u32>,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let clock = Clock::starting_at(Time(settings.start * 1000));
        Self::on(Emulator::new(settings), clock, None)
    }

    fn on(cloud: Emulator, clock: Clock, crash: Option<Crash>) -> Self {
        let credentials = Credentials { secret_id: ID.into(), secret_key: KEY.into(), token: None };
        let goal = Goal {
            cluster: "cluster".into(),
            enforce: true,
            new: NewLoadBalancer {
                load_balancer_type: "INTERNAL".into(),
                load_balancer_name: "web".into(),
                vpc_id: "vpc-emulator".into(),
                subnet_id: Some("subnet-emulator".into()),
                ..NewLoadBalancer::default()
            },
            ..Goal::default()
        };
        let changed = Arc::default();
        let (provider, transport) = start(&cloud, &clock, crash, &changed);
        Self {
            cloud,
            clock,
            provider,
            transport,
            credentials,
            objects: BTreeMap::new(),
            open: BTreeSet::new(),
            incidents: Vec::new(),
            changed,
            known: BTreeMap::new(),
            goal,
            region: "ap-guangzhou".into(),
            rate: None,
        }
    }

    /// The controller's clock is ahead by so many seconds.
    pub(super) fn skew(&mut self, seconds: u64) {
        self.clock = Clock::starting_at(self.clock.now().plus(Duration::from_secs(seconds)));
        self.restart(None);
    }

    /// The controller is gone, and another one begins with nothing but the cluster and the cloud.
    pub(super) fn restart(&mut self, crash: Option<Crash>) {
        (self.provider, self.transport) = start(&self.cloud, &self.clock, crash, &self.changed);
    }

    pub(super) fn dead(&self) -> bool {
        self.transport.dead.load(Ordering::SeqCst)
    }
    pub(super) fn calls(&self) -> usize {
        self.transport.calls.load(Ordering::SeqCst)
    }

    pub(super) fn put(&mut self, object: Object) {
        self.objects.insert(object.name, object);
    }

    fn goal(&self, object: &Object) -> Goal {
        let mut goal = self.goal.clone();
        goal.uid = object.uid();
        goal.adopt.clone_from(&object.adopt);
        goal.deleting = object.deleting;
        goal.known = self.known.get(object.name).cloned();
        let tag = |key: &str, value: &str| Tag { tag_key: key.into(), tag_value: value.into() };
        goal.new.tags = vec![tag(CLUSTER_TAG, &goal.cluster), tag(OBJECT_TAG, &goal.uid)];
        goal
    }

    /// What a reconcile does with each object.
    pub(super) fn reconcile(&mut self) {
        self.reconcile_those(self.objects.clone().into_values().collect());
    }

    /// The same for those of which a worker has told something.
    pub(super) fn reconcile_changed(&mut self) {
        let keys = std::mem::take(&mut *self.changed.lock().unwrap());
        self.reconcile_those(self.objects.values().filter(|o| keys.contains(&o.key())).cloned().collect());
    }

    fn reconcile_those(&mut self, objects: Vec<Object>) {
        let now = self.clock.now();
        let endpoint = Endpoint {
            url: format!("https://{}", super::HOST),
            ca_bundle: None,
            region: self.region.clone(),
            rate: self.rate,
        };
        for object in objects {
            let key = object.key();
            self.provider.sync(&key, self.goal(&object), &endpoint, SECRET, &self.credentials).unwrap();
            let report = self.provider.report(&key).unwrap();
            if !self.provider.started(&key) {
                if !report.looked {
                    continue;
                }
                self.provider.start(&key, &self.desired(&object, &Observed::default()), now);
            }
            let in_force = self.provider.observe(&key, now).unwrap();
            let desired = self.desired(&object, &in_force);
            let plan = plan(&desired, &in_force, &LIMITS, now);
            self.provider.apply(&key, &plan);
            let in_force = self.provider.observe(&key, now).unwrap();
            self.gates(&object, &in_force);
            self.incidents
                .extend(self.provider.incidents(&key).into_iter().map(|i| i.note).filter(|n| n.contains("others")));
            if !report.id.is_empty() {
                self.known.insert(object.name, report.id);
            }
            if report.clean {
                self.provider.forget(&key);
                self.objects.remove(object.name);
            }
        }
    }

    /// Opens the gates of Pods that are healthy wherever they are targets.
    fn gates(&mut self, object: &Object, in_force: &Observed) {
        let mut healthy: BTreeMap<String, bool> = BTreeMap::new();
        for (id, group) in &self.desired(object, in_force).groups {
            for target in group.targets.keys() {
                let is = in_force.groups.get(id).and_then(|g| g.targets.get(target));
                let is = is.is_some_and(|t| t.health == Health::Healthy);
                *healthy.entry(target.uid.clone()).or_insert(true) &= is;
            }
        }
        for (uid, _) in healthy.into_iter().filter(|(_, is)| *is) {
            self.open.insert((object.name.to_owned(), uid));
        }
    }

    pub(super) fn report(&self, name: &'static str) -> Report {
        self.provider.report(&ObjectKey::new("default", name)).unwrap_or_default()
    }

    fn desired(&self, object: &Object, in_force: &Observed) -> Desired {
        let mut desired = Desired {
            object: object.key(),
            listeners: BTreeMap::new(),
            keep: BTreeSet::new(),
            groups: BTreeMap::new(),
            departed: BTreeMap::new(),
            drain_timeout: object.drain,
            deleting: object.deleting,
            problems: Vec::new(),
        };
        if !object.deleting {
            for listen in &object.listeners {
                self.listener(object, listen, &mut desired);
            }
        }
        let wanted: BTreeSet<TargetId> = desired.groups.values().flat_map(|g| g.targets.keys().cloned()).collect();
        let registered = in_force.groups.values().flat_map(|g| g.targets.keys());
        desired.departed = registered.filter(|t| !wanted.contains(t)).map(|t| (t.clone(), Departed::Dead)).collect();
        desired
    }

    fn listener(&self, object: &Object, listen: &Listen, desired: &mut Desired) {
        let mut group = |rule: Option<String>, pods: &[Pod]| {
            let id = GroupId { listener: listen.name.into(), rule, target: "deployment.web".into() };
            let targets = pods.iter().map(|pod| {
                let target = DesiredTarget {
                    pod: format!("pod-{}", pod.n),
                    node: "node".into(),
                    state: if pod.leaving { TargetState::Terminating } else { TargetState::Serving },
                    gate_open: self.open.contains(&(object.name.to_owned(), format!("uid-{}", pod.n))),
                    health_port: None,
                };
                (pod.target(), target)
            });
            let group = Group {
                protocol: listen.protocol,
                target_protocol: Default::default(),
                scheduler: Scheduler::RoundRobin,
                affinity: None,
                health_check: HealthCheck {
                    probe: HealthProbe::Tcp,
                    port: None,
                    interval: Duration::from_secs(listen.interval),
                    timeout: Duration::from_secs(2),
                    healthy_threshold: 2,
                    unhealthy_threshold: 2,
                },
                slow_start: None,
                proxy_protocol: None,
                targets: targets.collect(),
                replicas: Some(u32::try_from(pods.len()).unwrap()),
            };
            desired.groups.insert(id.clone(), group);
            vec![WeightedGroup { group: id, weight: 1 }]
        };
        let default = if listen.redirect.is_some() { Vec::new() } else { group(None, &listen.pods) };
        let redirect = listen.redirect.map(|(to, status)| {
            let to = object.listeners.iter().find(|l| l.name == to).unwrap();
            let https = to.protocol == Protocol::HTTPS;
            Redirect { listener: to.name.into(), port: to.port, https, status }
        });
        let rules = listen.rules.iter().map(|(host, path, pods)| RouteRule {
            host: (*host).into(),
            path: (*path).into(),
            exact: false,
            groups: group(Some(directlb::model::short_hash(&format!("{host}{path}"))[..8].into()), pods),
            redirect: None,
        });
        let rules: Vec<RouteRule> = rules.collect();
        let tls = listen.certificate.map(|pem| {
            if let Some(id) = pem.strip_prefix("id:") {
                return directlb::model::Tls::Stored(id.into());
            }
            let certificate = directlb::model::Certificate {
                secret: "cert".into(),
                chain_pem: pem.into(),
                key_pem: format!("key of {pem}"),
                names: Vec::new(),
            };
            directlb::model::Tls::Terminate(vec![certificate])
        });
        let config = ListenerConfig {
            name: listen.name.into(),
            protocol: listen.protocol,
            address: None,
            port: listen.port,
            tls,
            routes: RouteTable { redirect, ..RouteTable::new(rules, default) },
            affinity: None,
            access_log: AccessLog::Off,
        };
        desired.listeners.insert(listen.name.into(), config);
    }

    /// Lets time pass, with a reconcile ten times a second, until `done`; whether it came to that within the time.
    pub(super) async fn until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.clock.elapsed() + limit;
        while self.clock.elapsed() < end {
            self.reconcile();
            if done(self) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// Nothing is left to do: what is there is what is asked for, and every target serves.
    pub(super) fn settled(&mut self) -> bool {
        let now = self.clock.now();
        self.objects.values().all(|object| {
            if object.deleting {
                return false;
            }
            let key = object.key();
            let report = self.provider.report(&key).unwrap_or_default();
            let Some(in_force) = self.provider.observe(&key, now) else { return false };
            let desired = self.desired(object, &in_force);
            let plan = plan(&desired, &in_force, &LIMITS, now);
            let leaving = in_force.groups.values().flat_map(|g| g.targets.values()).any(|t| t.draining_since.is_some());
            let healthy =
                in_force.groups.values().flat_map(|g| g.targets.values()).all(|t| t.health == Health::Healthy);
            plan.steps.is_empty()
                && plan.holds.is_empty()
                && !leaving
                && healthy
                && report.looked
                && report.missing.is_empty()
                && report.troubles.is_empty()
                && in_force.listeners.len() == object.listeners.len()
                && self.there(object)
        })
    }

    /// Whether the cloud has exactly the targets that the object asks for.
    fn there(&self, object: &Object) -> bool {
        let mut wanted: BTreeSet<(u16, u8)> = BTreeSet::new();
        for l in &object.listeners {
            let pods = l.pods.iter().chain(l.rules.iter().flat_map(|(_, _, pods)| pods));
            wanted.extend(pods.map(|p| (l.port, p.n)));
        }
        let found: BTreeSet<(u16, u8)> = self
            .bound(object.name)
            .into_iter()
            .filter(|b| b.weight > 0 && object.listeners.iter().any(|l| l.port == b.port))
            .map(|b| (b.port, b.pod))
            .collect();
        wanted == found
    }

    /// Every load balancer in the cloud, by its id.
    pub(super) fn load_balancers(&self) -> BTreeMap<String, Value> {
        let dump = self.cloud.dump();
        dump["LoadBalancers"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// What is bound at the listeners of an object.
    pub(super) fn bound(&self, name: &'static str) -> Vec<BoundAt> {
        let id = self.known.get(name).cloned().unwrap_or_default();
        let answer = self.cloud.plain("DescribeTargets", serde_json::json!({"LoadBalancerId": id}));
        let health = self.cloud.plain("DescribeTargetHealth", serde_json::json!({"LoadBalancerIds": [id]}));
        let (Ok(answer), Ok(health)) = (answer, health) else { return Vec::new() };
        let mut alive = BTreeSet::new();
        for l in health["LoadBalancers"][0]["Listeners"].as_array().unwrap() {
            for r in l["Rules"].as_array().unwrap() {
                for t in r["Targets"].as_array().unwrap() {
                    if t["HealthStatusDetail"] == "Alive" {
                        alive.insert((
                            l["ListenerId"].as_str().unwrap().to_owned(),
                            r["LocationId"].as_str().unwrap_or_default().to_owned(),
                            t["IP"].as_str().unwrap().to_owned(),
                        ));
                    }
                }
            }
        }
        let mut out = Vec::new();
        for l in answer["Listeners"].as_array().unwrap() {
            let port = u16::try_from(l["Port"].as_u64().unwrap()).unwrap();
            let listener = l["ListenerId"].as_str().unwrap();
            let mut add = |location: &str, rule: String, targets: &Value| {
                for t in targets.as_array().unwrap() {
                    let ip = t["PrivateIpAddresses"][0].as_str().unwrap();
                    out.push(BoundAt {
                        port,
                        rule: rule.clone(),
                        pod: ip.rsplit('.').next().unwrap().parse().unwrap(),
                        weight: t["Weight"].as_u64().unwrap(),
                        alive: alive.contains(&(listener.to_owned(), location.to_owned(), ip.to_owned())),
                    });
                }
            };
            if let Some(rules) = l["Rules"].as_array() {
                for r in rules {
                    let rule = format!("{}{}", r["Domain"].as_str().unwrap(), r["Url"].as_str().unwrap());
                    add(r["LocationId"].as_str().unwrap(), rule, &r["Targets"]);
                }
            } else {
                add("", String::new(), &l["Targets"]);
            }
        }
        out
    }

    /// How many targets serve at each port and rule.
    pub(super) fn serving(&self, name: &'static str) -> BTreeMap<(u16, String), usize> {
        let mut out: BTreeMap<(u16, String), usize> = BTreeMap::new();
        for b in self.bound(name) {
            *out.entry((b.port, b.rule)).or_default() += usize::from(b.alive && b.weight > 0);
        }
        out
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BoundAt {
    pub(super) port: u16,
    pub(super) rule: String,
    pub(super) pod: u8,
    pub(super) weight: u64,
    pub(super) alive: bool,
}

fn start(
    cloud: &Emulator,
    clock: &Clock,
    crash: Option<Crash>,
    changed: &Arc<Mutex<BTreeSet<ObjectKey>>>,
) -> (TencentProvider, Mortal) {
    let transport = Mortal { inner: InProcess(cloud.clone()), calls: Arc::default(), crash, dead: Arc::default() };
    let (shared, changed) = (transport.clone(), changed.clone());
    let provider = TencentProvider::new(Outside {
        connect: Arc::new(move |_| Ok(AnyTransport::new(shared.clone()))),
        clock: clock.clone(),
        observer: Arc::new(()),
        tell: Arc::new(move |key| _ = changed.lock().unwrap().insert(key.clone())),
    });
    (provider, transport)
}
