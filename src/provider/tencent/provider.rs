//! The provider: one engine for each account, one worker for each object.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::JoinHandle};

use super::{
    client::{Client, Transport},
    cloud::Tencent,
    limits::limits,
    sign::Credentials,
    state::{Goal, Incident, Report, State},
    worker::{AccountQuotas, Shared, Worker},
};
use crate::{
    model::{Desired, ObjectKey, Observed, Plan, Time, short_hash},
    runtime::clock::Clock,
    sync::{Engine, Observer},
};

/// A [`Transport`] of whatever kind.
#[derive(Clone)]
pub struct AnyTransport(Arc<dyn Post>);

type Reply<'a> = Pin<Box<dyn Future<Output = Result<(u16, Vec<u8>), String>> + Send + 'a>>;

trait Post: Send + Sync + 'static {
    fn post(&self, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Reply<'_>;
}

impl<T: Transport> Post for T {
    fn post(&self, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Reply<'_> {
        Box::pin(Transport::post(self, headers, body))
    }
}

impl AnyTransport {
    /// This one.
    pub fn new(transport: impl Transport) -> Self {
        Self(Arc::new(transport))
    }
}

impl Transport for AnyTransport {
    async fn post(&self, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Result<(u16, Vec<u8>), String> {
        self.0.post(headers, body).await
    }
}

/// Where an account's API is, and what it may be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// PEM; `None`: the certificates that the system trusts.
    pub ca_bundle: Option<String>,
    /// The region.
    pub region: String,
    /// Calls per second of each action; `None`: what the API lets through.
    pub rate: Option<u32>,
}

impl Endpoint {
    /// The host, with its port where that is given: what requests name, and what their signature covers.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest)
    }
}

/// Makes transports.
pub type Connect = dyn Fn(&Endpoint) -> Result<AnyTransport, String> + Send + Sync;

/// What the provider needs from outside.
pub struct Outside {
    /// Makes transports.
    pub connect: Arc<Connect>,
    /// The clock.
    pub clock: Clock,
    /// Hears of every call.
    pub observer: Arc<dyn Observer>,
    /// Is told that something about an object has changed.
    pub tell: Arc<dyn Fn(&ObjectKey) + Send + Sync>,
}

/// The provider. Cheap to clone.
#[derive(Clone)]
pub struct TencentProvider(Arc<Inner>);

struct Inner {
    outside: Outside,
    accounts: Mutex<BTreeMap<AccountKey, Account>>,
    balancers: Mutex<BTreeMap<ObjectKey, Balancer>>,
}

/// An endpoint, and the name of the Secret with its credentials: what shares rate limits.
type AccountKey = (Endpoint, String);

struct Account {
    engine: Engine<Tencent<AnyTransport>>,
    quotas: Arc<AccountQuotas>,
    credentials: Credentials,
}

struct Balancer {
    account: AccountKey,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TencentProvider {
    /// A provider without accounts.
    #[must_use]
    pub fn new(outside: Outside) -> Self {
        Self(Arc::new(Inner { outside, accounts: Mutex::default(), balancers: Mutex::default() }))
    }

    fn balancers(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Balancer>> {
        self.0.balancers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object wants this: its worker is started, or told if something changed.
    ///
    /// # Errors
    /// The endpoint cannot be used, in words.
    pub fn sync(
        &self,
        key: &ObjectKey,
        goal: Goal,
        endpoint: &Endpoint,
        secret: &str,
        credentials: &Credentials,
    ) -> Result<(), String> {
        let account = (endpoint.clone(), secret.to_owned());
        let (engine, quotas) = self.account(&account, credentials)?;
        let mut balancers = self.balancers();
        if let Some(b) = balancers.get(key) {
            let mut state = b.shared.lock();
            if b.account == account && state.goal.uid == goal.uid {
                if state.goal != goal {
                    state.goal = goal;
                    b.shared.changed.notify_one();
                }
                return Ok(());
            }
        }
        let state = State::new(key.clone(), goal);
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), retry: Notify::new() });
        let (tell, object) = (self.0.outside.tell.clone(), key.clone());
        let worker =
            Worker::new(shared.clone(), quotas, engine, self.0.outside.clock.clone(), Arc::new(move || tell(&object)));
        let task = tokio::spawn(worker.run());
        balancers.insert(key.clone(), Balancer { account, shared, task });
        Ok(())
    }

    fn account(
        &self,
        key: &AccountKey,
        credentials: &Credentials,
    ) -> Result<(Engine<Tencent<AnyTransport>>, Arc<AccountQuotas>), String> {
        let balancers = self.balancers();
        let mut accounts = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get_mut(key) {
            if account.credentials != *credentials {
                tracing::info!(secret = %key.1, "new credentials");
                account.engine.cloud().client().set_credentials(credentials.clone());
                account.credentials = credentials.clone();
                balancers.values().filter(|b| b.account == *key).for_each(|b| b.shared.retry.notify_one());
            }
            return Ok((account.engine.clone(), account.quotas.clone()));
        }
        let (endpoint, secret) = key;
        let transport = (self.0.outside.connect)(endpoint)?;
        let clock = &self.0.outside.clock;
        let client = Client::new(transport, endpoint.host(), &endpoint.region, credentials.clone(), clock.as_fn());
        let mut limits = limits();
        if let Some(rate) = endpoint.rate {
            limits.other.rate = f64::from(rate);
            limits.actions.values_mut().for_each(|a| a.rate = f64::from(rate));
        }
        let seed = short_hash(&format!("{}{secret}{}", endpoint.url, clock.now().0));
        let seed = u64::from_str_radix(&seed, 16).unwrap_or_default();
        let engine = Engine::new(Tencent::new(client), limits, seed, clock.clone(), self.0.outside.observer.clone());
        let quotas = Arc::<AccountQuotas>::default();
        let account = Account { engine: engine.clone(), quotas: quotas.clone(), credentials: credentials.clone() };
        accounts.insert(key.clone(), account);
        Ok((engine, quotas))
    }

    fn with<R>(&self, key: &ObjectKey, f: impl FnOnce(&Shared, &mut State) -> R) -> Option<R> {
        let balancers = self.balancers();
        let shared = &balancers.get(key)?.shared;
        let mut state = shared.lock();
        Some(f(shared, &mut state))
    }

    /// Whether what is in force has been worked out.
    #[must_use]
    pub fn started(&self, key: &ObjectKey) -> bool {
        self.with(key, |_, state| state.started()).unwrap_or(false)
    }

    /// Works out what is in force, once the load balancer was looked at; whether that is known now.
    pub fn start(&self, key: &ObjectKey, desired: &Desired, now: Time) -> bool {
        let start = |shared: &Shared, state: &mut State| {
            state.start(desired, now);
            shared.changed.notify_one();
            state.started()
        };
        self.with(key, start).unwrap_or(false)
    }

    /// What is in force for the object, with what the cloud says about each target; `None`: not known yet.
    #[must_use]
    pub fn observe(&self, key: &ObjectKey, now: Time) -> Option<Observed> {
        self.with(key, |_, state| state.observe(now)).flatten()
    }

    /// Applies a plan.
    pub fn apply(&self, key: &ObjectKey, plan: &Plan) {
        self.with(key, |shared, state| {
            if state.apply(plan) {
                shared.changed.notify_one();
            }
        });
    }

    /// What there is to show; `None`: the object has no worker.
    #[must_use]
    pub fn report(&self, key: &ObjectKey) -> Option<Report> {
        self.with(key, |_, state| state.report())
    }

    /// What happened since the last time.
    #[must_use]
    pub fn incidents(&self, key: &ObjectKey) -> Vec<Incident> {
        self.with(key, |_, state| std::mem::take(&mut state.incidents)).unwrap_or_default()
    }

    /// The object is gone, or is not ours to drive any more: its worker stops. Whether it had one.
    pub fn forget(&self, key: &ObjectKey) -> bool {
        let mut balancers = self.balancers();
        let had = balancers.remove(key).is_some();
        if had {
            let mut accounts = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|a, _| balancers.values().any(|b| b.account == *a));
        }
        had
    }

    /// Objects that have a worker.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectKey> {
        self.balancers().keys().cloned().collect()
    }
}
