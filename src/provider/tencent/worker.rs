//! Makes one load balancer what it should be: looks, writes what is missing, asks after its targets' health, and begins
//! again. It runs beside the reconcile, which never waits for the cloud.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::Notify;

use super::{
    client::Transport,
    cloud::Tencent,
    diff::{Found, Work},
    names,
    ops::{Answer, Binding, LoadBalancer, Quotas, Read, TargetHealth, Write},
    quota,
    state::{Incident, State, Trouble},
};
use crate::{
    api::Reason,
    model::Time,
    runtime::clock::Clock,
    sync::{CallError, Engine, ErrorKind, Item as _, Outcome, WriteError},
};

/// Against what others change behind our back.
const DRIFT: Duration = Duration::from_secs(300);
/// Health, while a target waits for it, and otherwise.
const POLL_SOON: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(30);
/// Quotas, and while something waits for one to grow.
const QUOTAS: Duration = Duration::from_secs(240);
const QUOTAS_SOON: Duration = Duration::from_secs(60);
/// A load balancer that was just made may not show for so long.
const APPEARS: u32 = 60;
/// What was never seen is looked for once more after so long before it counts as not there.
const SURE: Duration = Duration::from_secs(5);
/// Items of one submission: what a call takes at most.
const CHUNK: usize = 500;
/// The longest pause after failures in a row.
const LONGEST: Duration = Duration::from_secs(60);
/// How many incidents are kept until the reconcile tells them.
const INCIDENTS: usize = 20;

/// What the worker and the reconcile share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The reconcile has changed something.
    pub(super) changed: Notify,
    /// Pauses are over: new credentials, for example.
    pub(super) retry: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an account's quotas were when they were last read.
#[derive(Default)]
pub(super) struct AccountQuotas(Mutex<Option<(Time, Quotas)>>);

impl AccountQuotas {
    fn lock(&self) -> MutexGuard<'_, Option<(Time, Quotas)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn quotas(&self) -> Quotas {
        self.lock().as_ref().map(|(_, quotas)| quotas.clone()).unwrap_or_default()
    }
    fn older(&self, age: Duration, now: Time) -> bool {
        self.lock().as_ref().is_none_or(|(at, _)| now.since(*at) >= age)
    }
}

struct Done {
    work: Vec<Work>,
    outcomes: Vec<Outcome<String>>,
}

enum Located {
    At(LoadBalancer),
    No,
    Unsure,
}

type Health = Result<BTreeMap<Binding, TargetHealth>, CallError>;

pub(super) struct Worker<T: Transport> {
    shared: Arc<Shared>,
    account: Arc<AccountQuotas>,
    engine: Engine<Tencent<T>>,
    clock: Clock,
    /// Tells the reconcile that something changed.
    tell: Arc<dyn Fn() + Send + Sync>,
    writes: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Items that are being written.
    busy: BTreeSet<String>,
    /// Items that failed, and when they may be tried again.
    later: BTreeMap<String, Time>,
    poll: Option<BoxFuture<'static, Health>>,
    /// When the poll under way began, and when each target was registered: in counts of events.
    count: u64,
    polled: u64,
    registered: BTreeMap<Binding, u64>,
    look_at: Time,
    poll_at: Time,
    /// Nothing is tried before.
    paused_until: Time,
    failures: u32,
    /// Creations that came to nothing.
    attempt: u32,
    /// Since when no load balancer was found for an object that goes.
    absent_since: Option<Time>,
    /// Since when the load balancer that there was does not show.
    missing_since: Option<Time>,
    /// The load balancer was seen.
    seen: bool,
    /// Everything was as it should be when it was last looked at.
    settled: bool,
}

impl<T: Transport> Worker<T> {
    pub(super) fn new(
        shared: Arc<Shared>,
        account: Arc<AccountQuotas>,
        engine: Engine<Tencent<T>>,
        clock: Clock,
        tell: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            shared,
            account,
            engine,
            tell,
            writes: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            later: BTreeMap::new(),
            poll: None,
            count: 0,
            polled: 0,
            registered: BTreeMap::new(),
            look_at: clock.now(),
            poll_at: together(clock.now(), POLL_SOON),
            paused_until: Time(0),
            failures: 0,
            attempt: 0,
            absent_since: None,
            missing_since: None,
            seen: false,
            settled: false,
            clock,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.clock.now();
            if now >= self.paused_until {
                self.step(now).await;
            }
            self.wait().await;
        }
    }

    async fn step(&mut self, now: Time) {
        if self.shared.lock().waits_for_quota() {
            if self.account.older(QUOTAS_SOON, now) {
                self.read_quotas(now).await;
            }
            self.shared.lock().account = self.account.quotas();
        }
        if now >= self.look_at && self.writes.is_empty() {
            match self.look().await {
                Ok(()) => self.succeeded(),
                Err(error) => {
                    // Where there is no such region, nothing was ever made.
                    if error.code == "UnsupportedRegion" && self.shared.lock().goal.deleting {
                        self.look_at = now.plus(DRIFT);
                        return self.cleaned();
                    }
                    return self.failed("look", "look at the load balancer", &error);
                }
            }
        }
        // What was found has to be looked at first, so that nothing is written twice.
        if self.look_at <= self.clock.now() {
            return;
        }
        let (id, needed, deleting) = {
            let state = self.shared.lock();
            (state.id.clone(), state.needed(), state.goal.deleting)
        };
        match id {
            None if needed && self.shared.lock().goal.adopt.is_none() => self.create().await,
            None if deleting => self.gone(),
            None => {}
            Some(_) => {
                self.submit();
                if deleting {
                    self.delete().await;
                }
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let now = self.clock.now();
        let waiting = self.shared.lock().waiting(now);
        let registered = self.shared.lock().found.as_ref().is_some_and(|f| !f.targets.is_empty());
        if waiting || !self.writes.is_empty() {
            self.poll_at = self.poll_at.min(together(now, POLL_SOON));
        }
        if self.poll.is_none() && registered && now >= self.poll_at.max(self.paused_until) {
            self.begin_poll();
        }
        // A look waits for the writes that are under way.
        let mut next = if self.writes.is_empty() { self.look_at } else { now.plus(DRIFT) }.max(self.paused_until);
        if registered && self.poll.is_none() {
            next = next.min(self.poll_at.max(self.paused_until));
        }
        if self.shared.lock().waits_for_quota() {
            next = next.min(now.plus(QUOTAS_SOON).max(self.paused_until));
        }
        if let Some(first) = self.later.values().min() {
            next = next.min((*first).max(self.paused_until));
        }
        // A little late rather than a little early.
        let pause = next.since(now) + Duration::from_millis(20);
        let poll = async {
            match &mut self.poll {
                Some(poll) => poll.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.writes.next(), if !self.writes.is_empty() => self.done(done),
            health = poll => self.end_poll(health),
            () = self.shared.changed.notified() => {}
            () = self.shared.retry.notified() => {
                self.paused_until = Time(0);
                self.later.clear();
                self.look_at = self.clock.now();
            }
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        let was = {
            let mut state = self.shared.lock();
            ["look", "create", "delete"].iter().any(|k| state.troubles.remove(*k).is_some())
        };
        if was {
            (self.tell)();
        }
    }

    /// A failure of the whole: everything waits.
    fn failed(&mut self, key: &str, what: &str, error: &CallError) {
        self.failures += 1;
        let pause = Duration::from_secs(1).saturating_mul(1 << (self.failures - 1).min(6)).min(LONGEST);
        self.paused_until = self.clock.now().plus(pause);
        self.look_at = self.paused_until;
        self.trouble(key.into(), Trouble::new(None, what, error));
    }

    fn trouble(&self, key: String, trouble: Trouble) {
        let mut state = self.shared.lock();
        let known = state.troubles.get(&key).is_some_and(|t| (t.kind, &t.message) == (trouble.kind, &trouble.message));
        if known {
            return;
        }
        tracing::warn!(
            object = %state.object, what = %trouble.what, kind = trouble.kind.as_str(),
            request_id = trouble.request_id.as_deref().unwrap_or("-"), "{}", trouble.message
        );
        if state.incidents.len() < INCIDENTS {
            let request = trouble.request_id.as_ref().map(|id| format!(" (RequestId {id})")).unwrap_or_default();
            let note = format!("{}: {}{request}", trouble.what, trouble.message);
            state.incidents.push(Incident { reason: trouble.reason(), note });
        }
        state.troubles.insert(key, trouble);
        drop(state);
        (self.tell)();
    }

    /// Somebody else has changed what is the object's.
    fn drifted(&self, note: String) {
        let mut state = self.shared.lock();
        tracing::warn!(object = %state.object, "{note}");
        if state.incidents.len() < INCIDENTS {
            state.incidents.push(Incident { reason: Reason::DriftRepaired, note });
        }
    }

    /// Reads everything that there is of the object.
    async fn look(&mut self) -> Result<(), CallError> {
        self.count += 1;
        let now = self.clock.now();
        if self.account.older(QUOTAS, now) {
            self.read_quotas(now).await;
        }
        let found = match self.locate().await? {
            Located::No => Found::default(),
            Located::At(lb) if lb.running => {
                let uid = self.shared.lock().goal.uid.clone();
                let found = read(&self.engine, &lb.id, &uid).await?;
                let security_groups = lb.security_groups.into_iter().collect();
                Found { security_groups, pass_to_target: lb.pass_to_target, ..found }
            }
            Located::At(_) | Located::Unsure => {
                self.look_at = self.clock.now().plus(POLL_SOON);
                return Ok(());
            }
        };
        let now = self.clock.now();
        self.look_at = now.plus(DRIFT.mul_f64(0.9 + 0.2 * spread(&self.shared.lock().goal.uid)));
        let (before, drift) = {
            let mut state = self.shared.lock();
            state.account = self.account.quotas();
            let before = state.found.replace(found);
            if state.id.is_none() {
                // What was there was told of; what is made anew is no drift.
                self.settled = false;
            }
            let drift: Vec<String> = state.work().into_iter().map(|w| w.what).collect();
            (before, drift)
        };
        if before.is_none() {
            self.poll_at = together(now, POLL_SOON);
        }
        if before.is_some() && self.settled && !drift.is_empty() {
            let shown: Vec<&str> = drift.iter().take(5).map(String::as_str).collect();
            let more = if drift.len() > 5 { format!(" and {} more", drift.len() - 5) } else { String::new() };
            self.drifted(format!("changed by others, and put right: {}{more}", shown.join("; ")));
        }
        self.settled = drift.is_empty() && self.seen;
        (self.tell)();
        Ok(())
    }

    /// Without them everything is tried, and what is too much is refused then.
    async fn read_quotas(&mut self, now: Time) {
        match self.engine.read(Read::Quotas).await {
            Ok(Answer::Quotas(quotas)) => *self.account.lock() = Some((now, quotas)),

            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "quotas not read"),
        }
    }

    /// The object's load balancer, if there is one.
    async fn locate(&mut self) -> Result<Located, CallError> {
        let (goal, id) = {
            let state = self.shared.lock();
            (state.goal.clone(), state.id.clone())
        };
        let own = |lb: &LoadBalancer| {
            lb.tag(names::CLUSTER_TAG) == Some(&goal.cluster) && lb.tag(names::OBJECT_TAG) == Some(&goal.uid)
        };
        let mut found = None;
        if let Some(known) = goal.adopt.clone().or(id.clone()).or(goal.known.clone())
            && let Answer::LoadBalancer(lb) = self.engine.read(Read::LoadBalancer(known)).await?
        {
            found = lb.filter(|lb| goal.adopt.is_some() || own(lb));
        }
        if found.is_none()
            && goal.adopt.is_none()
            && let Answer::LoadBalancers(all) = self.engine.read(Read::Owned(goal.uid.clone())).await?
        {
            // The one that was there first, if there should ever be several.
            found = all.into_iter().filter(own).min_by(|a, b| a.id.cmp(&b.id));
        }
        if found.is_none() && (id.is_some() || goal.adopt.is_some()) {
            // Replies may lag behind: what was there a moment ago is not gone at once.
            let now = self.clock.now();
            if id.is_some() && now.since(*self.missing_since.get_or_insert(now)) < SURE {
                return Ok(Located::Unsure);
            }
            self.lost(id.as_deref(), goal.adopt.as_deref());
        }
        self.missing_since = None;
        let mut state = self.shared.lock();
        match found {
            Some(lb) => {
                self.seen = true;
                self.absent_since = None;
                state.own = goal.adopt.is_none();
                state.id = Some(lb.id.clone());
                state.addresses.clone_from(&lb.addresses);
                state.troubles.remove("adopt");
                Ok(Located::At(lb))
            }
            None => {
                state.id = None;
                state.addresses.clear();
                Ok(Located::No)
            }
        }
    }

    /// The load balancer is gone, or the one to adopt is not there.
    fn lost(&mut self, id: Option<&str>, adopt: Option<&str>) {
        if let Some(adopt) = adopt {
            let error = CallError {
                kind: ErrorKind::NotFound,
                whole: true,
                action: "DescribeLoadBalancers",
                code: "NotFound".into(),
                message: format!("there is no load balancer {adopt} in this account and region"),
                request_id: None,
            };
            self.trouble("adopt".into(), Trouble::new(None, "adopt", &error));
        } else if let Some(id) = id
            && !self.shared.lock().goal.deleting
        {
            self.attempt += 1;
            self.drifted(format!("load balancer {id} was deleted by others: another one is made"));
        }
    }

    /// Makes the load balancer.
    async fn create(&mut self) {
        let goal = self.shared.lock().goal.clone();
        let token = names::client_token(&goal.cluster, &goal.uid, self.attempt);
        let mut new = goal.new.clone();
        new.client_token.clone_from(&token);
        let outcome = self.engine.write(&token, vec![Write::CreateLoadBalancer(Box::new(new))]).await.pop();
        let id = match outcome {
            Some(Ok(id)) => id,
            Some(Err(error)) => {
                let call = call_error(error);
                if call.code == "InvalidParameter.ClientTokenLimitExceeded" {
                    // What this token was used for has failed, and always will have.
                    self.attempt += 1;
                }
                return self.failed("create", "create the load balancer", &call);
            }
            None => return,
        };
        for _ in 0..APPEARS {
            match self.engine.read(Read::LoadBalancer(id.clone())).await {
                Ok(Answer::LoadBalancer(Some(lb))) if lb.running => {
                    let mut state = self.shared.lock();
                    tracing::info!(object = %state.object, %id, "load balancer created");
                    state.id = Some(id);
                    state.own = true;
                    drop(state);
                    self.settled = false;
                    self.look_at = self.clock.now();
                    return self.succeeded();
                }
                Ok(_) => {}
                Err(error) => return self.failed("create", "create the load balancer", &error),
            }
            tokio::time::sleep(POLL_SOON).await;
        }
        // The token is of one that was there once.
        self.attempt += 1;
        self.look_at = self.clock.now();
    }

    /// The object goes, and there is no load balancer.
    fn gone(&mut self) {
        let now = self.clock.now();
        let adopted = self.shared.lock().goal.adopt.is_some();
        let since = *self.absent_since.get_or_insert(now);
        if !adopted && !self.seen && now.since(since) < SURE {
            // One that was made a moment ago, by a controller that was killed, may not show yet.
            self.look_at = now.plus(SURE);
            return;
        }
        self.cleaned();
    }

    /// Nothing of the object is there any more.
    fn cleaned(&mut self) {
        let mut state = self.shared.lock();
        if !state.clean {
            state.clean = true;
            drop(state);
            (self.tell)();
        }
    }

    /// Deletes the load balancer, or what was made on one that was adopted, once nothing is asked for any more.
    async fn delete(&mut self) {
        let (id, own) = {
            let state = self.shared.lock();
            let left = state.found.as_ref().is_some_and(|f| f.of(&state.goal.uid).next().is_some());
            if state.clean || !state.emptied() || left || !self.writes.is_empty() {
                return;
            }
            (state.id.clone(), state.own)
        };
        let Some(id) = id else { return };
        if own {
            match self.engine.write(&id, vec![Write::DeleteLoadBalancer]).await.pop() {
                Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                    return self.failed("delete", "delete the load balancer", &call_error(error));
                }
                _ => tracing::info!(object = %self.shared.lock().object, %id, "load balancer deleted"),
            }
            // It may still show for a moment, but is looked for no more.
            self.shared.lock().id = None;
            self.succeeded();
        }
        self.shared.lock().clean = true;
        (self.tell)();
    }

    /// Writes what can be written now, and is not being written already.
    fn submit(&mut self) {
        let now = self.clock.now();
        let (id, work, held) = {
            let mut state = self.shared.lock();
            if !state.goal.enforce && !state.goal.deleting || state.clean {
                return;
            }
            let (work, held) = match &state.found {
                Some(found) => quota::fit(found, state.work(), &state.quotas()),
                None => Default::default(),
            };
            let known = |k: &String, t: &Trouble| held.get(k).is_some_and(|h| h.message == t.message);
            state.troubles.retain(|k, t| !k.starts_with(quota::KEY) || known(k, t));
            // What is not to be done any more goes wrong no more.
            let ids: BTreeSet<String> = work.iter().map(|w| w.write.id()).collect();
            let whole = ["look", "create", "delete", "adopt"];
            state.troubles.retain(|k, _| whole.contains(&k.as_str()) || ids.contains(k) || held.contains_key(k));
            self.later.retain(|k, _| ids.contains(k));
            (state.id.clone(), work, held)
        };
        let waits = !held.is_empty();
        held.into_iter().for_each(|(key, trouble)| self.trouble(key, trouble));
        let Some(id) = id else { return };
        self.settled = work.is_empty() && !waits && self.writes.is_empty();
        let mut batches: BTreeMap<&'static str, Vec<Work>> = BTreeMap::new();
        for w in work {
            let key = w.write.id();
            if self.busy.contains(&key) || self.later.get(&key).is_some_and(|at| *at > now) {
                continue;
            }
            self.busy.insert(key);
            batches.entry(w.write.action()).or_default().push(w);
        }
        for (_, mut batch) in batches {
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(CHUNK));
                let work = std::mem::replace(&mut batch, rest);
                let (engine, id) = (self.engine.clone(), id.clone());
                self.writes.push(Box::pin(async move {
                    let items = work.iter().map(|w| w.write.clone()).collect();
                    let outcomes = engine.write(&id, items).await;
                    Done { work, outcomes }
                }));
            }
        }
    }

    /// Writes have ended.
    fn done(&mut self, Done { work, outcomes }: Done) {
        self.count += 1;
        let now = self.clock.now();
        for (w, outcome) in work.iter().zip(outcomes) {
            let key = w.write.id();
            self.busy.remove(&key);
            match outcome {
                Ok(made) => {
                    self.later.remove(&key);
                    let mut state = self.shared.lock();
                    state.troubles.remove(&key);
                    if let Some(found) = &mut state.found {
                        found.apply(&w.write, &made);
                    }
                    if let Write::Register { binding, .. } | Write::Deregister(binding) = &w.write {
                        self.registered.insert(binding.clone(), self.count);
                        state.forget_health(binding);
                    }
                    if let Write::Deregister(binding) = &w.write {
                        self.registered.remove(binding);
                    }
                }
                Err(error) => {
                    let wait = match &error {
                        WriteError::Held { wait, .. } => *wait,
                        other => pause(other.kind()),
                    };
                    self.later.insert(key.clone(), now.plus(wait));
                    // What there is may not be what is believed.
                    let sure = matches!(
                        error.kind(),
                        ErrorKind::Throttled | ErrorKind::Busy | ErrorKind::Denied | ErrorKind::Quota
                    );
                    if !sure && !matches!(error, WriteError::Held { .. }) {
                        self.look_at = self.look_at.min(now.plus(POLL_SOON));
                    }
                    let listener = Some(w.listener.as_str()).filter(|l| !l.is_empty());
                    let trouble = Trouble::new(listener, &w.what, &call_error(error));
                    self.trouble(key, Trouble { target: w.is_target(), pods: w.pods(), ..trouble });
                }
            }
        }
        self.poll_at = self.poll_at.min(together(now, POLL_SOON));
        (self.tell)();
    }

    fn begin_poll(&mut self) {
        let Some(id) = self.shared.lock().id.clone() else { return };
        self.count += 1;
        self.polled = self.count;
        let engine = self.engine.clone();
        self.poll = Some(Box::pin(async move {
            match engine.read(Read::Health(id)).await? {
                Answer::Health(health) => Ok(health),
                _ => Err(CallError::short("DescribeTargetHealth")),
            }
        }));
    }

    fn end_poll(&mut self, health: Health) {
        self.poll = None;
        let now = self.clock.now();
        match health {
            Ok(health) => {
                let (polled, registered) = (self.polled, &self.registered);
                let changed =
                    self.shared.lock().set_health(health, |b| registered.get(b).is_none_or(|at| *at < polled));
                let waiting = self.shared.lock().waiting(now);
                self.poll_at = together(now, if waiting || !self.writes.is_empty() { POLL_SOON } else { POLL });
                if changed {
                    (self.tell)();
                }
            }
            Err(error) => {
                self.poll_at = now.plus(pause(error.kind));
                if error.kind == ErrorKind::NotFound {
                    self.look_at = self.look_at.min(now);
                }
                tracing::debug!(%error, "health not read");
            }
        }
    }
}

/// Every listener of a load balancer, and the targets of the object's.
async fn read<T: Transport>(engine: &Engine<Tencent<T>>, id: &str, uid: &str) -> Result<Found, CallError> {
    let Answer::Listeners(listeners) = engine.read(Read::Listeners(id.into())).await? else {
        return Err(CallError::short("DescribeListeners"));
    };
    let mut found = Found { listeners, ..Found::default() };
    let query = |listener: &str| Read::Targets { load_balancer: id.into(), listener: listener.into() };
    let queries: Vec<Read> = found.of(uid).map(|(_, l)| query(&l.id)).collect();
    for answer in futures::future::join_all(queries.into_iter().map(|q| engine.read(q))).await {
        if let Answer::Targets(targets) = answer? {
            found.targets.extend(targets);
        }
    }
    Ok(found)
}

/// The next time at which all workers ask, so that a call asks for many load balancers.
fn together(now: Time, every: Duration) -> Time {
    let step = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    Time((now.0 / step + 1).saturating_mul(step))
}

/// When an item that failed is tried again, if the engine does not say.
const fn pause(kind: ErrorKind) -> Duration {
    Duration::from_secs(match kind {
        ErrorKind::Throttled | ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::NotFound => 1,
        ErrorKind::Conflict | ErrorKind::Invalid => 10,
        ErrorKind::Denied | ErrorKind::Quota => 30,
    })
}

fn call_error(error: WriteError) -> CallError {
    match error {
        WriteError::Call(error) | WriteError::Held { error, .. } => error,
        full @ WriteError::Full(_) => CallError {
            kind: ErrorKind::Busy,
            whole: true,
            action: "-",
            code: "QueueFull".into(),
            message: full.to_string(),
            request_id: None,
        },
    }
}

/// From 0 to 1, by the object: so that not all look at the same time.
fn spread(uid: &str) -> f64 {
    let sum = uid.bytes().fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)));
    f64::from(sum % 1000) / 1000.0
}
