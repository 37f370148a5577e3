//! Carrying out calls: from parameters to effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::actions::{Action, Mode};
use super::certificates;
use super::clock::Clock;
use super::context::{Context, Others};
use super::error::{Answer, ApiError};
use super::ledger::Call;
use super::limits::{Deletions, Rates};
use super::random::Random;
use super::schema::{Params, Read};
use super::settings::Settings;
use super::state::{LoadBalancer, World};
use super::targets_describe::Table;
use super::tasks::{Outcome, Task, Tasks};
use super::{lb, lb_describe, listeners, rewrites, rules, targets, targets_describe};

/// Everything that there is.
pub(super) struct Engine {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) world: World,
    /// What load balancers were before their last changes, for describes that lag.
    past: VecDeque<(Duration, String, Option<LoadBalancer>)>,
    pub(super) tasks: Tasks,
    pub(super) rates: Rates,
    deletions: Deletions,
    /// The parameters and the reply of each call with a ClientToken.
    tokens: BTreeMap<String, (Params, Value)>,
    pub(super) ledger: Vec<Call>,
    pub(super) table: Table,
    pub(super) refused: BTreeSet<String>,
    pub(super) traffic: BTreeMap<String, f64>,
    /// Of identifiers.
    random: Random,
    /// Of everything else, so that faults leave identifiers as they are.
    pub(super) chance: Random,
}

impl Engine {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            clock: Clock::new(settings.start),
            random: Random::new(settings.seed),
            chance: Random::new(settings.seed ^ 0x00C0_FFEE),
            settings,
            world: World::new(),
            past: VecDeque::new(),
            tasks: Tasks::default(),
            rates: Rates::default(),
            deletions: Deletions::default(),
            tokens: BTreeMap::new(),
            ledger: Vec::new(),
            table: Table::new(),
            refused: BTreeSet::new(),
            traffic: BTreeMap::new(),
        }
    }

    /// An id for a request.
    pub(super) fn request(&mut self) -> String {
        self.random.request()
    }

    /// Whether a fault of this probability happens.
    pub(super) fn dice(&mut self, probability: f64) -> bool {
        let over = self.settings.faults.until.is_some_and(|until| self.clock.now() >= until);
        probability > 0.0 && !over && self.chance.unit() < probability
    }

    /// Ends the tasks whose time has come, each at its time.
    pub(super) fn settle(&mut self) {
        let now = self.clock.now();
        while let Some((n, task)) = self.tasks.due(now) {
            let result = if task.fails {
                if task.action == "CreateLoadBalancer" {
                    for id in &task.load_balancers {
                        self.replace(id, None, task.ends);
                    }
                }
                Err("the operation failed".to_owned())
            } else {
                self.finish(&task).map_err(|e| e.to_string())
            };
            self.tasks.end(n, result);
        }
        let keep = self.settings.consistency;
        while self.past.front().is_some_and(|(until, ..)| *until + keep < now) {
            self.past.pop_front();
        }
    }

    fn finish(&mut self, task: &Task) -> Result<(), ApiError> {
        if task.action == "CreateLoadBalancer" {
            for id in &task.load_balancers {
                if let Some(mut lb) = self.world.get(id).cloned() {
                    lb.status = 1;
                    self.replace(id, Some(lb), task.ends);
                }
            }
            return Ok(());
        }
        let (mut trial, mut random) = (self.part(&task.load_balancers), task.random.clone());
        self.apply(&mut trial, task.action, &task.params, &mut random, &task.doomed, task.ends)?;
        if task.action == "DeleteLoadBalancer" {
            self.deletions.record(task.load_balancers.len(), task.ends);
        }
        self.merge(&task.load_balancers, trial, task.ends);
        Ok(())
    }

    /// These load balancers alone.
    fn part(&self, ids: &[String]) -> World {
        ids.iter().filter_map(|id| Some((id.clone(), self.world.get(id)?.clone()))).collect()
    }

    fn merge(&mut self, ids: &[String], mut part: World, at: Duration) {
        for id in ids {
            let new = part.remove(id);
            self.replace(id, new, at);
        }
    }

    fn replace(&mut self, id: &str, new: Option<LoadBalancer>, at: Duration) {
        let old = match new {
            Some(lb) => self.world.insert(id.to_owned(), lb),
            None => self.world.remove(id),
        };
        if !self.settings.consistency.is_zero() {
            self.past.push_back((at, id.to_owned(), old));
        }
    }

    /// What is seen now: as it is, or as it was a while ago.
    fn view(&mut self) -> World {
        let mut view = self.world.clone();
        let lag = self.settings.consistency.mul_f64(self.chance.unit());
        let then = self.clock.now().saturating_sub(lag);
        for (_, id, old) in self.past.iter().rev().take_while(|(until, ..)| *until > then) {
            match old {
                Some(lb) => view.insert(id.clone(), lb.clone()),
                None => view.remove(id),
            };
        }
        view
    }

    /// Carries out a call whose parameters were checked. Gives its reply without the envelope.
    pub(super) fn call(&mut self, action: &'static Action, params: &Params, request: &str) -> Answer {
        match action.mode {
            Mode::Read => self.read(action.name, params),
            Mode::Write => self.write(action.name, params, request),
        }
    }

    pub(super) fn read(&mut self, action: &str, params: &Params) -> Answer {
        let millis = u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX);
        match action {
            "DescribeTaskStatus" => self.tasks.status(params),
            "DescribeAsyncJobs" => self.tasks.jobs(params),
            "DescribeQuota" => Ok(lb_describe::quota(&self.world, &self.settings)),
            _ => {
                let lagging = (!self.settings.consistency.is_zero()).then(|| self.view());
                let world = lagging.as_ref().unwrap_or(&self.world);
                match action {
                    "DescribeLoadBalancers" => lb_describe::load_balancers(world, params),
                    "DescribeListeners" => listeners::describe(world, params),
                    "DescribeRewrite" => rewrites::describe(world, params),
                    "DescribeTargets" => targets_describe::targets(world, params),
                    "DescribeTargetHealth" => {
                        targets_describe::health(world, params, self.settings.health, &self.table, millis)
                    }
                    _ => Err(unknown_action(action)),
                }
            }
        }
    }

    fn write(&mut self, action: &'static str, params: &Params, request: &str) -> Answer {
        let token = params.text("ClientToken");
        if !token.is_empty()
            && let Some(reply) = self.replayed(token, params, request)?
        {
            return Ok(reply);
        }
        let ids = self.about(action, params);
        if let Some(id) = ids.iter().find(|id| self.tasks.busy(id)) {
            let message = format!("{id} is in operating");
            return Err(ApiError::new("FailedOperation.ResourceInOperating", message));
        }
        if action == "DeleteLoadBalancer" && self.settings.delete_guards {
            lb::guard(&self.world, params, |id| self.traffic.get(id).copied().unwrap_or_default())?;
            self.deletions.allow(ids.len(), self.clock.now())?;
        }
        let mut doomed = BTreeSet::new();
        if matches!(action, "BatchRegisterTargets" | "BatchDeregisterTargets") {
            let all: BTreeSet<&str> = params.objects("Targets").map(|t| t.text("ListenerId")).collect();
            for id in all {
                if self.dice(self.settings.faults.partial_failure) {
                    doomed.insert(id.to_owned());
                }
            }
        }
        // Tried out first: what cannot be done is refused at once, and the reply needs the new identifiers.
        let now = self.clock.now();
        let (mut trial, mut random) = (self.part(&ids), self.random.clone());
        let mut reply = self.apply(&mut trial, action, params, &mut random, &doomed, now)?;
        let before = std::mem::replace(&mut self.random, random);

        let (mut load_balancers, mut deal) = (ids, None);
        if action == "CreateLoadBalancer" {
            load_balancers = trial.keys().cloned().collect();
            for (id, mut lb) in trial {
                lb.status = 0;
                self.replace(&id, Some(lb), now);
            }
            let name = self.random.id("deal");
            reply["DealName"] = json!(name);
            if !token.is_empty() {
                self.tokens.insert(token.to_owned(), (params.clone(), reply.clone()));
            }
            deal = Some(name);
        }
        let stuck = self.dice(self.settings.faults.task_stuck);
        let fails = self.dice(self.settings.faults.task_failed);
        let ends = now + if stuck { self.settings.stuck } else { self.settings.task };
        let task = Task {
            action,
            params: params.clone(),
            load_balancers,
            deal,
            ends,
            fails,
            doomed,
            random: before,
            outcome: Outcome::Running,
            message: String::new(),
        };
        self.tasks.begin(request, task);
        Ok(reply)
    }

    /// The reply that the same call got before.
    fn replayed(&mut self, token: &str, params: &Params, request: &str) -> Result<Option<Value>, ApiError> {
        let Some((before, reply)) = self.tokens.get(token) else { return Ok(None) };
        if before != params {
            return Err(ApiError::invalid(format!("ClientToken {token} was used with other parameters")));
        }
        let deal = reply["DealName"].as_str().unwrap_or_default().to_owned();
        if self.tasks.by_deal(&deal).is_some_and(|t| t.outcome == Outcome::Failed) {
            let message = format!("ClientToken {token} is of an order that failed");
            return Err(ApiError::new("InvalidParameter.ClientTokenLimitExceeded", message));
        }
        let reply = reply.clone();
        self.tasks.alias(request, &deal);
        Ok(Some(reply))
    }

    /// The load balancers that a write is about.
    fn about(&self, action: &str, params: &Params) -> Vec<String> {
        match action {
            "CreateLoadBalancer" => Vec::new(),
            "DeleteLoadBalancer" => params.texts("LoadBalancerIds").into_iter().map(str::to_owned).collect(),
            "ReplaceCertForLoadBalancers" => certificates::users(&self.world, params.text("OldCertificateId")),
            _ => vec![params.text("LoadBalancerId").to_owned()],
        }
    }

    /// Does it at once, as another user by hand might have done a while ago.
    pub(super) fn by_hand(&mut self, action: &'static Action, params: &Params) -> Answer {
        if action.mode == Mode::Read {
            let lag = std::mem::take(&mut self.settings.consistency);
            let answer = self.read(action.name, params);
            self.settings.consistency = lag;
            return answer;
        }
        let (ids, now) = (self.about(action.name, params), self.clock.now());
        let (mut trial, mut random) = (self.part(&ids), self.random.clone());
        let reply = self.apply(&mut trial, action.name, params, &mut random, &BTreeSet::new(), now)?;
        self.random = random;
        let ids = if ids.is_empty() { trial.keys().cloned().collect() } else { ids };
        self.merge(&ids, trial, now);
        Ok(reply)
    }

    fn apply(
        &self,
        world: &mut World,
        action: &str,
        params: &Params,
        random: &mut Random,
        doomed: &BTreeSet<String>,
        at: Duration,
    ) -> Answer {
        let mut others = Others::default();
        if action == "CreateLoadBalancer" {
            for lb in self.world.values() {
                *others.kinds.entry(lb.kind.clone()).or_default() += 1;
                others.vips.insert(lb.vip.clone());
                others.names.insert(lb.name.clone());
            }
        }
        let cx = &mut Context {
            settings: &self.settings,
            refused: &self.refused,
            doomed,
            others: &others,
            millis: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            unix: self.clock.unix(at),
            random,
        };
        match action {
            "CreateLoadBalancer" => lb::create(world, params, cx),
            "ModifyLoadBalancerAttributes" => lb::modify(world, params),
            "DeleteLoadBalancer" => lb::delete(world, params),
            "SetLoadBalancerSecurityGroups" => lb::security_groups(world, params),
            "ReplaceCertForLoadBalancers" => certificates::replace(world, params, cx),
            "CreateListener" => listeners::create(world, params, cx),
            "ModifyListener" => listeners::modify(world, params, cx),
            "DeleteListener" => listeners::delete(world, params),
            "DeleteLoadBalancerListeners" => listeners::delete_many(world, params),
            "CreateRule" => rules::create(world, params, cx),
            "ModifyRule" => rules::modify(world, params),
            "ModifyDomainAttributes" => rules::modify_domain(world, params, cx),
            "DeleteRule" => rules::delete(world, params),
            "ManualRewrite" => rewrites::create(world, params),
            "DeleteRewrite" => rewrites::delete(world, params),
            "BatchRegisterTargets" => targets::batch_register(world, params, cx),
            "BatchDeregisterTargets" => targets::batch_deregister(world, params, cx),
            "BatchModifyTargetWeight" => targets::batch_weigh(world, params),
            "RegisterTargets" => targets::register(world, params, cx),
            "DeregisterTargets" => targets::deregister(world, params, cx),
            "ModifyTargetWeight" => targets::weigh(world, params),
            _ => Err(unknown_action(action)),
        }
    }
}

pub(super) fn unknown_action(action: &str) -> ApiError {
    ApiError::new("InvalidAction", format!("there is no action {action:?}"))
}
