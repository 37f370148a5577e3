//! The tasks of writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::error::{Answer, ApiError};
use super::random::Random;
use super::schema::{Params, Read};

/// Finished tasks that are remembered.
const REMEMBERED: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Running,
    Succeeded,
    Failed,
}

/// A write that goes on.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) action: &'static str,
    pub(super) params: Params,
    pub(super) load_balancers: Vec<String>,
    pub(super) deal: Option<String>,
    pub(super) ends: Duration,
    /// It ends without effect.
    pub(super) fails: bool,
    pub(super) doomed: BTreeSet<String>,
    /// As it was when the reply's identifiers were made, so that the effect has the same ones.
    pub(super) random: Random,
    pub(super) outcome: Outcome,
    pub(super) message: String,
}

/// All of them, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    all: BTreeMap<u64, Task>,
    next: u64,
    requests: BTreeMap<String, u64>,
    deals: BTreeMap<String, u64>,
}

impl Tasks {
    pub(super) fn begin(&mut self, request: &str, task: Task) {
        let n = self.next;
        self.next += 1;
        self.requests.insert(request.to_owned(), n);
        if let Some(deal) = &task.deal {
            self.deals.insert(deal.clone(), n);
        }
        self.all.insert(n, task);
        if self.all.len() > REMEMBERED {
            let old = self.all.iter().find(|(_, t)| t.outcome != Outcome::Running).map(|(n, _)| *n);
            if let Some(old) = old {
                self.all.remove(&old);
                self.requests.retain(|_, n| *n != old);
                self.deals.retain(|_, n| *n != old);
            }
        }
    }

    /// Lets another request stand for the same task.
    pub(super) fn alias(&mut self, request: &str, deal: &str) {
        if let Some(n) = self.deals.get(deal) {
            self.requests.insert(request.to_owned(), *n);
        }
    }

    pub(super) fn by_deal(&self, deal: &str) -> Option<&Task> {
        self.deals.get(deal).and_then(|n| self.all.get(n))
    }

    /// The running task that ended first by now.
    pub(super) fn due(&self, now: Duration) -> Option<(u64, Task)> {
        let running = self.all.iter().filter(|(_, t)| t.outcome == Outcome::Running && t.ends <= now);
        running.min_by_key(|(n, t)| (t.ends, **n)).map(|(n, t)| (*n, t.clone()))
    }

    pub(super) fn end(&mut self, n: u64, result: Result<(), String>) {
        if let Some(task) = self.all.get_mut(&n) {
            task.outcome = if result.is_ok() { Outcome::Succeeded } else { Outcome::Failed };
            task.message = result.err().unwrap_or_default();
        }
    }

    fn running(&self) -> impl Iterator<Item = &Task> {
        self.all.values().filter(|t| t.outcome == Outcome::Running)
    }

    /// Whether something goes on at a load balancer.
    pub(super) fn busy(&self, load_balancer: &str) -> bool {
        self.running().any(|t| t.load_balancers.iter().any(|id| id == load_balancer))
    }

    /// Those that run, for a dump.
    pub(super) fn dump(&self) -> Value {
        self.running().map(|t| json!({"Action": t.action, "LoadBalancerIds": t.load_balancers})).collect()
    }

    pub(super) fn status(&self, params: &Params) -> Answer {
        let n = match (params.has("TaskId"), params.has("DealName")) {
            (true, false) => self.requests.get(params.text("TaskId")),
            (false, true) => self.deals.get(params.text("DealName")),
            _ => return Err(ApiError::combination("one of TaskId and DealName must be given")),
        };
        let task = n.and_then(|n| self.all.get(n));
        let task = task.ok_or_else(|| ApiError::new("ResourceNotFound", "there is no such task"))?;
        let status = match task.outcome {
            Outcome::Succeeded => 0,
            Outcome::Failed => 1,
            Outcome::Running => 2,
        };
        Ok(json!({"Status": status, "LoadBalancerIds": task.load_balancers, "Message": task.message}))
    }

    pub(super) fn jobs(&self, params: &Params) -> Answer {
        let ids = params.texts("RequestIds");
        let offset: usize = match params.text("NextToken") {
            "" => 0,
            token => token.parse().map_err(|_| ApiError::value("NextToken is not of this API"))?,
        };
        let size = params.int("MaxResults").and_then(|n| usize::try_from(n).ok()).unwrap_or(20);
        // A request that is unknown, such as one that was a read, is left out.
        let mut found: Vec<(&String, u64)> = self.requests.iter().map(|(id, n)| (id, *n)).collect();
        found.retain(|(id, _)| !params.has("RequestIds") || ids.contains(&id.as_str()));
        found.sort_by_key(|(_, n)| *n);
        let page = found.iter().skip(offset).take(size).filter_map(|(id, n)| {
            let task = self.all.get(n)?;
            let status = match task.outcome {
                Outcome::Succeeded => "Succeeded",
                Outcome::Failed => "Failed",
                Outcome::Running => "Processing",
            };
            let (name, resources) = (task.action, &task.load_balancers);
            Some(json!({"ApiName": name, "RequestId": id, "Status": status, "ResourceIds": resources}))
        });
        let page: Vec<Value> = page.collect();
        let next = if offset + size < found.len() { (offset + size).to_string() } else { String::new() };
        Ok(json!({"Jobs": page, "NextToken": next, "MaxResults": size, "TotalCount": found.len()}))
    }
}
