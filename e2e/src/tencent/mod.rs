//! An emulator of Tencent's CLB API, version 2018-03-17: strict about what it takes, and as slow, as exclusive and as
//! unreliable as it is told to be.
//!
//! It shares nothing with DirectLB's own provider, so that a mistake cannot be made in both and cancel out. What it
//! takes and gives is checked by Tencent's own SDK: `make oracle`.
//!
//! ```text
//! serve (HTTP) ─> gateway (signature, limits, faults) ─> engine ─> lb, listeners, rules, targets, ...
//!                                                          └─> tasks: effects come when a task ends
//! ```
//!
//! All waiting is by tokio's clock: under a paused one, a simulation of hours takes moments. Nothing is left running:
//! tasks end when somebody looks.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod actions;
mod certificates;
mod clock;
mod context;
mod engine;
mod error;
mod gateway;
mod health_check;
mod lb;
mod lb_describe;
mod ledger;
mod limits;
mod listeners;
mod network;
mod probe;
mod random;
mod rewrites;
mod rules;
mod schema;
mod serve;
mod settings;
pub mod signature;
mod state;
mod targets;
mod targets_describe;
mod tasks;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use serde_json::{Value, json};

use engine::Engine;
pub use error::ApiError;
pub use ledger::Call;
pub use network::Cidr;
pub use settings::{Faults, HealthSource, Settings, Subnet, Vpc};

/// The emulator; clones are the same one.
#[derive(Clone)]
pub struct Emulator(Arc<Mutex<Engine>>);

impl Emulator {
    /// The names of all actions.
    pub const ACTIONS: &'static [&'static str] = &NAMES;

    /// One without any load balancer, whose clock starts now.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Engine::new(settings))))
    }

    /// Handles a request to `POST /`: gives the HTTP status and the body. A call whose future is dropped in its first
    /// half has no effect.
    pub async fn handle(&self, headers: &HeaderMap, body: &[u8]) -> (u16, Vec<u8>) {
        self.answer(headers, body).await
    }

    /// Does something as another user would by hand: at once, without signature, limits, faults, guards and tasks.
    /// It is not in the ledger. What runs meanwhile at the same load balancer goes on.
    ///
    /// # Errors
    /// As the API's.
    pub fn plain(&self, action: &str, params: Value) -> Result<Value, ApiError> {
        let Value::Object(params) = params else { return Err(ApiError::invalid("the parameters are not an object")) };
        let action = gateway::named(action)?;
        schema::check(action.fields, &params, "")?;
        let mut engine = self.lock();
        engine.settle();
        engine.by_hand(action, &params)
    }

    /// What was called since the start, or since it was cleared; what had no valid action is not in it.
    #[must_use]
    pub fn ledger(&self) -> Vec<Call> {
        self.lock().ledger.clone()
    }

    /// Forgets what was called.
    pub fn clear_ledger(&self) {
        self.lock().ledger.clear();
    }

    /// Everything that there is, in order, and the tasks that run.
    #[must_use]
    pub fn dump(&self) -> Value {
        let mut engine = self.lock();
        engine.settle();
        json!({"LoadBalancers": engine.world, "Tasks": engine.tasks.dump()})
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().settings.faults = faults;
    }

    /// Whether a target is healthy, where the source is the table.
    pub fn set_health(&self, ip: &str, port: u16, healthy: bool) {
        self.lock().table.insert((ip.to_owned(), i64::from(port)), healthy);
    }

    /// Whether an address cannot be bound.
    pub fn set_refused_address(&self, ip: &str, refused: bool) {
        let mut engine = self.lock();
        if refused {
            engine.refused.insert(ip.to_owned());
        } else {
            engine.refused.remove(ip);
        }
    }

    /// One of the limits that DescribeQuota lists.
    pub fn set_quota(&self, id: &str, limit: i64) {
        self.lock().settings.quotas.insert(id.to_owned(), limit);
    }

    /// The traffic of a load balancer in Mbit/s, for the guard against deletion.
    pub fn set_traffic(&self, load_balancer: &str, mbits: f64) {
        self.lock().traffic.insert(load_balancer.to_owned(), mbits);
    }

    /// Puts its clock forward by so many seconds.
    pub fn put_clock_forward(&self, seconds: u64) {
        self.lock().clock.put_forward(seconds);
    }

    /// Other keys, and which of them may do nothing.
    pub fn replace_keys(&self, keys: Vec<(String, String)>, denied: Vec<String>) {
        let mut engine = self.lock();
        engine.settings.keys = keys;
        engine.settings.denied = denied;
    }

    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NAMES: [&str; actions::NUMBER] = {
    let mut names = [""; actions::NUMBER];
    let mut i = 0;
    while i < names.len() {
        names[i] = actions::ALL[i].name;
        i += 1;
    }
    names
};
