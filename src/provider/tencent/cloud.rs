//! From items to calls, and from replies to answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    client::{Client, Transport},
    error,
    names::OBJECT_TAG,
    ops::{Answer, Binding, Bound, Place, Read, TargetHealth, Write},
    replies::{
        AsyncJobs, Created, DescribedHealth, DescribedListeners, DescribedLoadBalancers, DescribedQuotas,
        DescribedTargets, Nothing, PartlyDone,
    },
};
use crate::sync::{Action, CallError, Cloud, Item as _, Query as _, TaskState, Written};

/// CLB's API of one account in one region.
pub struct Tencent<T>(Client<T>);

impl<T: Transport> Tencent<T> {
    /// With this client.
    pub const fn new(client: Client<T>) -> Self {
        Self(client)
    }

    /// The client.
    pub const fn client(&self) -> &Client<T> {
        &self.0
    }

    /// A call whose reply names one id for each item.
    async fn create(&self, action: Action, request: &Value, items: usize) -> Result<Written<String>, CallError> {
        let (reply, task) = self.0.call::<Created>(action, request).await?;
        let mut ids = reply.ids.into_iter();
        let made = (0..items).map(|_| ids.next().ok_or_else(|| CallError::short(action)));
        Ok(Written { task: Some(task), items: made.collect(), exact: true })
    }

    /// A call whose items are done, or the call is refused.
    async fn all(&self, action: Action, request: &Value, items: usize) -> Result<Written<String>, CallError> {
        let (_, task) = self.0.call::<Nothing>(action, request).await?;
        Ok(Written { task: Some(task), items: vec![Ok(String::new()); items], exact: true })
    }

    /// A call about targets: those of a listener are done, or refused together.
    async fn targets(
        &self,
        action: Action,
        request: &Value,
        bindings: &[&Binding],
    ) -> Result<Written<String>, CallError> {
        let (reply, task) = self.0.call::<PartlyDone>(action, request).await?;
        let failed: BTreeSet<&str> = reply.fail_listener_id_set.iter().flatten().map(String::as_str).collect();
        let message = reply.message.unwrap_or_default();
        let items = bindings.iter().map(|b| {
            if failed.contains(b.place.listener.as_str()) {
                Err(CallError {
                    kind: error::partial(&message),
                    whole: false,
                    action,
                    code: "PartialFailure".into(),
                    message: message.clone(),
                    request_id: Some(task.clone()),
                })
            } else {
                Ok(String::new())
            }
        });
        Ok(Written { items: items.collect(), task: Some(task), exact: false })
    }
}

impl<T: Transport> Cloud for Tencent<T> {
    type Item = Write;
    /// The id of what was made; empty where nothing is made.
    type Made = String;
    type Query = Read;
    type Answer = Answer;
    const TASKS: Action = "DescribeAsyncJobs";

    async fn write(&self, lane: &str, items: &[Write]) -> Result<Written<String>, CallError> {
        let Some(first) = items.first() else {
            return Ok(Written { task: None, items: Vec::new(), exact: true });
        };
        let action = first.action();
        let n = items.len();
        match first {
            Write::CreateLoadBalancer(new) => {
                let request =
                    serde_json::to_value(new).map_err(|e| error::no_reply(action, "Unwritable", e.to_string()))?;
                self.create(action, &request, n).await
            }
            Write::DeleteLoadBalancer => self.all(action, &json!({"LoadBalancerIds": [lane]}), n).await,
            Write::PassToTarget(pass) => {
                self.all(action, &json!({"LoadBalancerId": lane, "LoadBalancerPassToTarget": pass}), n).await
            }
            Write::SecurityGroups(groups) => {
                self.all(action, &json!({"LoadBalancerId": lane, "SecurityGroups": groups}), n).await
            }
            Write::CreateListener(listener) => {
                let mut request = serde_json::to_value(&listener.settings)
                    .map_err(|e| error::no_reply(action, "Unwritable", e.to_string()))?;
                let all = || items.iter().filter_map(|i| if let Write::CreateListener(l) = i { Some(l) } else { None });
                request["LoadBalancerId"] = lane.into();
                request["Ports"] = all().map(|l| l.port).collect();
                request["ListenerNames"] = all().map(|l| l.name.clone()).collect();
                self.create(action, &request, n).await
            }
            Write::ModifyListener { listener, name, settings } => {
                let mut request =
                    serde_json::to_value(settings).map_err(|e| error::no_reply(action, "Unwritable", e.to_string()))?;
                // A listener's protocol stays what it is.
                request.as_object_mut().map(|r| r.remove("Protocol"));
                request["LoadBalancerId"] = lane.into();
                request["ListenerId"] = listener.as_str().into();
                request["ListenerName"] = name.as_str().into();
                self.all(action, &request, n).await
            }
            Write::ModifyRule { place, rule } => {
                let mut request =
                    serde_json::to_value(rule).map_err(|e| error::no_reply(action, "Unwritable", e.to_string()))?;
                if let Some(request) = request.as_object_mut() {
                    ["Domain", "Url", "DefaultServer"].iter().for_each(|k| _ = request.remove(*k));
                }
                request["LoadBalancerId"] = lane.into();
                request["ListenerId"] = place.listener.as_str().into();
                request["LocationId"] = place.location.as_deref().unwrap_or_default().into();
                self.all(action, &request, n).await
            }
            Write::DefaultDomain { listener, domain } => {
                let request = json!({
                    "LoadBalancerId": lane, "ListenerId": listener, "Domain": domain, "DefaultServer": true,
                });
                self.all(action, &request, n).await
            }
            Write::DeleteListener(_) => {
                let ids: Vec<&String> = items
                    .iter()
                    .filter_map(|i| if let Write::DeleteListener(id) = i { Some(id) } else { None })
                    .collect();
                self.all(action, &json!({"LoadBalancerId": lane, "ListenerIds": ids}), n).await
            }
            Write::CreateRule { listener, .. } => {
                let rules: Vec<_> = items
                    .iter()
                    .filter_map(|i| if let Write::CreateRule { rule, .. } = i { Some(rule) } else { None })
                    .collect();
                let request = json!({"LoadBalancerId": lane, "ListenerId": listener, "Rules": rules});
                self.create(action, &request, n).await
            }
            Write::DeleteRule(place) => {
                let ids: Vec<_> = items
                    .iter()
                    .filter_map(|i| if let Write::DeleteRule(p) = i { p.location.as_ref() } else { None })
                    .collect();
                let request = json!({"LoadBalancerId": lane, "ListenerId": place.listener, "LocationIds": ids});
                self.all(action, &request, n).await
            }
            Write::Redirect { from, to, .. } | Write::Unredirect { from, to } => {
                let infos: Vec<Value> = items.iter().filter_map(redirect).collect();
                let request = json!({
                    "LoadBalancerId": lane, "SourceListenerId": from.listener, "TargetListenerId": to.listener,
                    "RewriteInfos": infos,
                });
                self.all(action, &request, n).await
            }
            Write::Register { .. } | Write::Deregister(_) => {
                let (targets, bindings): (Vec<Value>, Vec<&Binding>) = items.iter().filter_map(target).unzip();
                self.targets(action, &json!({"LoadBalancerId": lane, "Targets": targets}), &bindings).await
            }
            Write::Weight { .. } => self.all(action, &weights(lane, items), n).await,
        }
    }

    async fn read(&self, queries: &[Read]) -> Result<Vec<Result<Answer, CallError>>, CallError> {
        let Some(first) = queries.first() else { return Ok(Vec::new()) };
        let action = first.action();
        match first {
            Read::Quotas => {
                let (reply, _) = self.0.call::<DescribedQuotas>(action, &json!({})).await?;
                let quotas = reply.quotas();
                Ok(queries.iter().map(|_| Ok(Answer::Quotas(quotas.clone()))).collect())
            }
            Read::LoadBalancer(_) => {
                let ids: Vec<&String> = queries
                    .iter()
                    .filter_map(|q| if let Read::LoadBalancer(id) = q { Some(id) } else { None })
                    .collect();
                let request = json!({"LoadBalancerIds": ids, "Limit": 100});
                let (reply, _) = self.0.call::<DescribedLoadBalancers>(action, &request).await?;
                let mut all: BTreeMap<_, _> = reply.load_balancers().map(|lb| (lb.id.clone(), lb)).collect();
                Ok(ids.into_iter().map(|id| Ok(Answer::LoadBalancer(all.remove(id)))).collect())
            }
            Read::Owned(_) => {
                let uids: Vec<&String> =
                    queries.iter().filter_map(|q| if let Read::Owned(uid) = q { Some(uid) } else { None }).collect();
                let filter = json!({"Name": format!("tag:{OBJECT_TAG}"), "Values": uids});
                let request = json!({"Filters": [filter], "Limit": 100});
                let (reply, _) = self.0.call::<DescribedLoadBalancers>(action, &request).await?;
                let all: Vec<_> = reply.load_balancers().collect();
                let of = |uid: &String| all.iter().filter(|lb| lb.tag(OBJECT_TAG) == Some(uid)).cloned().collect();
                Ok(uids.into_iter().map(|uid| Ok(Answer::LoadBalancers(of(uid)))).collect())
            }
            Read::Listeners(id) => {
                let (reply, _) = self.0.call::<DescribedListeners>(action, &json!({"LoadBalancerId": id})).await?;
                Ok(queries.iter().map(|_| Ok(Answer::Listeners(reply.listeners()))).collect())
            }
            Read::Targets { load_balancer, .. } => {
                let ids: Vec<&String> = queries
                    .iter()
                    .filter_map(|q| if let Read::Targets { listener, .. } = q { Some(listener) } else { None })
                    .collect();
                let request = json!({"LoadBalancerId": load_balancer, "ListenerIds": ids});
                let (reply, _) = self.0.call::<DescribedTargets>(action, &request).await?;
                let mut all: BTreeMap<String, BTreeMap<Binding, Bound>> = BTreeMap::new();
                for (binding, bound) in reply.targets() {
                    all.entry(binding.place.listener.clone()).or_default().insert(binding, bound);
                }
                Ok(ids.into_iter().map(|id| Ok(Answer::Targets(all.remove(id).unwrap_or_default()))).collect())
            }
            Read::Health(_) => {
                let ids: Vec<&String> =
                    queries.iter().filter_map(|q| if let Read::Health(id) = q { Some(id) } else { None }).collect();
                let (reply, _) = self.0.call::<DescribedHealth>(action, &json!({"LoadBalancerIds": ids})).await?;
                let mut all: BTreeMap<String, BTreeMap<Binding, TargetHealth>> = BTreeMap::new();
                for (load_balancer, binding, health) in reply.targets() {
                    all.entry(load_balancer).or_default().insert(binding, health);
                }
                Ok(ids.into_iter().map(|id| Ok(Answer::Health(all.remove(id).unwrap_or_default()))).collect())
            }
        }
    }

    async fn tasks(&self, ids: &[String]) -> Result<Vec<TaskState>, CallError> {
        let request = json!({"RequestIds": ids, "MaxResults": 100});
        let (reply, _) = self.0.call::<AsyncJobs>(Self::TASKS, &request).await?;
        let states = reply.states();
        Ok(ids.iter().map(|id| states.get(id).cloned().unwrap_or(TaskState::Unknown)).collect())
    }
}

/// A redirect as its actions take it.
fn redirect(item: &Write) -> Option<Value> {
    let (from, to, mut value) = match item {
        Write::Redirect { from, to, domain, code } => {
            (from, to, json!({"RewriteCode": code, "TakeUrl": true, "SourceDomain": domain}))
        }
        Write::Unredirect { from, to } => (from, to, json!({})),
        _ => return None,
    };
    value["SourceLocationId"] = from.location.as_deref()?.into();
    value["TargetLocationId"] = to.location.as_deref()?.into();
    Some(value)
}

/// A target as the batch actions take it.
fn target(item: &Write) -> Option<(Value, &Binding)> {
    let (binding, mut value) = match item {
        Write::Register { binding, weight, tag } => (binding, json!({"Weight": weight, "Tag": tag})),
        Write::Deregister(binding) => (binding, json!({})),
        _ => return None,
    };
    value["ListenerId"] = binding.place.listener.as_str().into();
    if let Some(location) = &binding.place.location {
        value["LocationId"] = location.as_str().into();
    }
    value["EniIp"] = binding.ip.to_string().into();
    value["Port"] = binding.port.into();
    Some((value, binding))
}

/// The request of `BatchModifyTargetWeight`: one entry for each place.
fn weights(lane: &str, items: &[Write]) -> Value {
    let mut places: BTreeMap<&Place, Vec<Value>> = BTreeMap::new();
    for item in items {
        if let Write::Weight { binding, weight } = item {
            let target = json!({"EniIp": binding.ip.to_string(), "Port": binding.port, "Weight": weight});
            places.entry(&binding.place).or_default().push(target);
        }
    }
    let list: Vec<Value> = places
        .into_iter()
        .map(|(place, targets)| {
            let mut entry = json!({"ListenerId": place.listener, "Targets": targets});
            if let Some(location) = &place.location {
                entry["LocationId"] = location.as_str().into();
            }
            entry
        })
        .collect();
    json!({"LoadBalancerId": lane, "ModifyList": list})
}
