//! Redirects from one rule to another.

use serde_json::{Value, json};

use super::error::{Answer, ApiError};
use super::rules;
use super::schema::{Params, Read};
use super::state::{Rewrite, World, find, find_mut};

pub(super) fn create(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let (source, target) = (params.text("SourceListenerId"), params.text("TargetListenerId"));
    for info in params.objects("RewriteInfos") {
        let (from, to) = (info.text("SourceLocationId"), info.text("TargetLocationId"));
        if from == to {
            return Err(ApiError::value(format!("{from} cannot be redirected to itself")));
        }
        lb.listener_mut(target)?.rule_mut(to)?;
        let rule = lb.listener_mut(source)?.rule_mut(from)?;
        if rule.rewrite.is_some() {
            let message = format!("{from} is redirected already");
            return Err(ApiError::new("InvalidParameter.RewriteAlreadyExist", message));
        }
        let code = info.int("RewriteCode");
        if code.is_some_and(|c| ![301, 302, 307].contains(&c)) {
            return Err(ApiError::value("RewriteCode may be 301, 302 or 307"));
        }
        if let (Some(_), Some(name)) = (code, ["TakeUrl", "SourceDomain"].iter().find(|n| !info.has(n))) {
            return Err(ApiError::missing(&format!("RewriteInfos.{name}")));
        }
        if info.has("SourceDomain") && !rule.domains.iter().any(|d| d == info.text("SourceDomain")) {
            return Err(ApiError::value(format!("SourceDomain is not a domain of {from}")));
        }
        rule.rewrite = Some(Rewrite {
            listener: target.to_owned(),
            location: to.to_owned(),
            code,
            take_url: info.flag("TakeUrl"),
        });
    }
    Ok(json!({}))
}

pub(super) fn delete(world: &mut World, params: &Params) -> Answer {
    let lb = find_mut(world, params.text("LoadBalancerId"))?;
    let (source, target) = (params.text("SourceListenerId"), params.text("TargetListenerId"));
    lb.listener(target)?;
    for info in params.objects("RewriteInfos") {
        let rule = lb.listener_mut(source)?.rule_mut(info.text("SourceLocationId"))?;
        let there = rule.rewrite.as_ref();
        if there.is_none_or(|r| r.listener != target || r.location != info.text("TargetLocationId")) {
            let message = format!("{} is not redirected so", rule.id);
            return Err(ApiError::new("InvalidParameter.SomeRewriteNotFound", message));
        }
        rule.rewrite = None;
    }
    Ok(json!({}))
}

pub(super) fn describe(world: &World, params: &Params) -> Answer {
    let lb = find(world, params.text("LoadBalancerId"))?;
    let (listeners, locations) = (params.texts("SourceListenerIds"), params.texts("SourceLocationIds"));
    for id in &listeners {
        lb.listener(id)?;
    }
    let one_of = |ids: &[&str], id: &str| ids.is_empty() || ids.contains(&id);
    let mut set: Vec<Value> = Vec::new();
    for listener in lb.listeners.iter().filter(|l| one_of(&listeners, &l.id)) {
        let redirected = listener.rules.iter().filter(|r| r.rewrite.is_some() && one_of(&locations, &r.id));
        set.extend(redirected.map(|r| rules::shown(listener, r)));
    }
    Ok(json!({"RewriteSet": set}))
}
