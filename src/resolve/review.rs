//! What is wrong with a spec, and how far that reaches.

use std::collections::BTreeSet;

use super::Input;
use crate::{
    api::{DirectLoadBalancerSpec, Reason, validate},
    model::Problem,
};

/// What is wrong with a spec.
pub(super) struct Review {
    pub(super) problems: Vec<Problem>,
    bad: BTreeSet<String>,
    /// Something is wrong with the object as a whole: none of its listeners changes.
    pub(super) blocked: bool,
    /// `spec.target` or `spec.targets` cannot be used.
    pub(super) targets_are_bad: bool,
    /// `spec.drain` cannot be used.
    pub(super) drain_is_bad: bool,
    /// The class asked for (before, if that was changed though it is immutable).
    pub(super) class_wanted: Option<String>,
    /// The class in use.
    pub(super) class_in_use: Option<String>,
}

impl Review {
    /// Records a problem of the object as a whole.
    pub(super) fn whole(&mut self, problem: Option<Problem>) {
        self.blocked |= problem.is_some();
        self.problems.extend(problem);
    }
    /// Records a problem of one listener.
    pub(super) fn listener(&mut self, name: &str, problem: Problem) {
        self.bad.insert(name.into());
        self.problems.push(problem);
    }
    /// Whether something is wrong with the listener.
    pub(super) fn is_bad(&self, name: &str) -> bool {
        self.bad.contains(name)
    }
}

/// Finds what is wrong with a spec by itself, and against the one before.
pub(super) fn review(input: &Input<'_>) -> Review {
    let spec = &input.object.spec;
    let class_in_use = input.object.status.as_ref().and_then(|s| s.class_name.clone());
    let mut out = Review {
        problems: Vec::new(),
        bad: BTreeSet::new(),
        blocked: false,
        targets_are_bad: false,
        drain_is_bad: false,
        class_wanted: spec.class_name.clone(),
        class_in_use,
    };
    immutable(input, &mut out);
    for v in validate::spec(spec) {
        let problem = Problem { listener: v.listener.clone(), reason: Reason::Invalid, message: v.to_string() };
        match (&v.listener, reach(&v.field)) {
            (Some(name), _) => out.listener(name, problem),
            (None, Reach::Whole) => out.whole(Some(problem)),
            (None, part) => {
                out.problems.push(problem);
                if part == Reach::Drain {
                    out.drain_is_bad = true;
                } else {
                    out.targets_are_bad = true;
                    out.bad.extend(inheriting(spec));
                }
            }
        }
    }
    out
}

/// The listeners of a spec with which something is wrong by itself.
pub(super) fn bad_listeners(spec: &DirectLoadBalancerSpec) -> BTreeSet<String> {
    let mut bad = BTreeSet::new();
    for v in validate::spec(spec) {
        match v.listener {
            Some(name) => _ = bad.insert(name),
            None if reach(&v.field) == Reach::Targets => bad.extend(inheriting(spec)),
            None => {}
        }
    }
    bad
}

#[derive(PartialEq, Eq)]
enum Reach {
    Drain,
    Targets,
    Whole,
}

/// How far a problem with a field outside of listeners reaches.
fn reach(field: &str) -> Reach {
    match field {
        f if f.starts_with("spec.drain") => Reach::Drain,
        f if f.starts_with("spec.target") => Reach::Targets,
        _ => Reach::Whole,
    }
}

/// The listeners that use the object's targets.
fn inheriting(spec: &DirectLoadBalancerSpec) -> impl Iterator<Item = String> {
    spec.listeners.iter().filter(|l| l.inherits_targets()).map(|l| l.name.clone())
}

fn immutable(input: &Input<'_>, out: &mut Review) {
    let spec = &input.object.spec;
    let address = |s: &DirectLoadBalancerSpec| s.load_balancer.as_ref().and_then(|l| l.address.clone());
    // Without the spec before, the status knows at least the class.
    let class_before = match input.previous_spec {
        Some(p) => Some(p.class_name.clone()),
        None => spec.class_name.as_ref().and(out.class_in_use.clone()).map(Some),
    };
    if let Some(before) = class_before
        && before != spec.class_name
    {
        out.whole(Some(changed("spec.className", spec.class_name.as_deref(), before.as_deref())));
        out.class_wanted = before;
    }
    if let Some(before) = input.previous_spec.map(address)
        && before != address(spec)
    {
        out.whole(Some(changed("spec.loadBalancer.address", address(spec).as_deref(), before.as_deref())));
    }
}

fn changed(field: &str, now: Option<&str>, before: Option<&str>) -> Problem {
    let show = |v: Option<&str>| v.map_or_else(|| "absent".to_string(), |v| format!("\"{v}\""));
    let message = format!(
        "{field}: {} was {} before, and this field is immutable: put that back, or delete the object and make it anew",
        show(now),
        show(before)
    );
    Problem { listener: None, reason: Reason::Invalid, message }
}
