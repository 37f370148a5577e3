//! Quotas: what does not fit is not sent, and said.
//!
//! CLB refuses the whole of a batch, or all of a listener's part of it, when one item is too many. So what fits is chosen
//! before; the rest waits until there is room, or the quota is greater.

use std::collections::BTreeMap;

use super::{
    diff::{Found, Work},
    ops::{Place, Quotas, Write},
    state::Trouble,
};
use crate::sync::ErrorKind;

/// Listeners of a load balancer.
const LISTENERS: &str = "TOTAL_LISTENER_QUOTA";
/// Rules of a listener.
const RULES: &str = "TOTAL_LISTENER_RULE_QUOTA";
/// Targets of a listener of layer 4, or of a rule.
const TARGETS: &str = "TOTAL_TARGET_BIND_QUOTA";

/// Of `work`, what fits; and what is wrong with the rest, by what it is about.
pub(super) fn fit(found: &Found, work: Vec<Work>, quotas: &Quotas) -> (Vec<Work>, BTreeMap<String, Trouble>) {
    let limit = |quota: &str| quotas.0.get(quota).map_or(usize::MAX, |q| usize::try_from(*q).unwrap_or(0));
    let mut there: BTreeMap<Kind, usize> = BTreeMap::new();
    there.insert(Kind::Listeners, found.listeners.len());
    for listener in &found.listeners {
        there.insert(Kind::Rules(listener.id.clone()), listener.rules.len());
    }
    for binding in found.targets.keys() {
        *there.entry(Kind::Targets(binding.place.clone())).or_default() += 1;
    }
    let before = there.clone();
    let mut left: BTreeMap<Kind, (String, Vec<String>)> = BTreeMap::new();
    let mut fits = Vec::new();
    for w in work {
        let Some(kind) = Kind::of(&w.write) else {
            fits.push(w);
            continue;
        };
        let n = there.entry(kind.clone()).or_default();
        if *n < limit(kind.quota()) {
            *n += 1;
            fits.push(w);
        } else {
            left.entry(kind).or_insert_with(|| (w.listener.clone(), Vec::new())).1.push(w.what);
        }
    }
    let troubles = left.into_iter().map(|(kind, (listener, what))| {
        let shown: Vec<&str> = what.iter().take(3).map(String::as_str).collect();
        let more = if what.len() > 3 { format!(", and {} more", what.len() - 3) } else { String::new() };
        let message = format!(
            "the quota {} is {} {}, and {} are there: {} waiting ({}{more})",
            kind.quota(),
            limit(kind.quota()),
            kind.of_what(),
            before.get(&kind).copied().unwrap_or_default(),
            if what.len() == 1 { "1 is".to_owned() } else { format!("{} are", what.len()) },
            shown.join(", "),
        );
        let trouble = Trouble {
            listener: Some(listener),
            target: matches!(kind, Kind::Targets(_)),
            address: None,
            what: "quota".into(),
            kind: ErrorKind::Quota,
            message,
            request_id: None,
        };
        (format!("{KEY}{}", kind.id()), trouble)
    });
    (fits, troubles.collect())
}

/// How the troubles of this module are named.
pub(super) const KEY: &str = "quota/";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Listeners,
    Rules(String),
    Targets(Place),
}

impl Kind {
    fn of(write: &Write) -> Option<Self> {
        match write {
            Write::CreateListener(_) => Some(Self::Listeners),
            Write::CreateRule { listener, .. } => Some(Self::Rules(listener.clone())),
            Write::Register { binding, .. } => Some(Self::Targets(binding.place.clone())),
            _ => None,
        }
    }
    const fn quota(&self) -> &'static str {
        match self {
            Self::Listeners => LISTENERS,
            Self::Rules(_) => RULES,
            Self::Targets(_) => TARGETS,
        }
    }
    const fn of_what(&self) -> &'static str {
        match self {
            Self::Listeners => "for a load balancer",
            Self::Rules(_) => "for a listener",
            Self::Targets(_) => "for a listener or rule",
        }
    }
    fn id(&self) -> String {
        match self {
            Self::Listeners => "listeners".into(),
            Self::Rules(listener) => listener.clone(),
            Self::Targets(place) => place.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tencent::ops::{Binding, Bound, Listener};

    fn binding(n: u8) -> Binding {
        let place = Place { listener: "lbl-1".into(), location: None };
        Binding { place, ip: [10, 0, 0, n].into(), port: 80 }
    }

    fn register(n: u8) -> Work {
        let write = Write::Register { binding: binding(n), weight: 100, tag: "uid".into() };
        Work { write, listener: "web".into(), what: format!("register {n}") }
    }

    fn found(targets: u8) -> Found {
        let listener = Listener { id: "lbl-1".into(), ..Listener::default() };
        let bound = |n| (binding(n), Bound { weight: 100, tag: None });
        Found { listeners: vec![listener], targets: (1..=targets).map(bound).collect(), ..Found::default() }
    }

    #[test]
    fn what_fits_is_done_and_the_rest_is_named() {
        let quotas = Quotas([(TARGETS.to_owned(), 5)].into());
        let work: Vec<Work> = (4..=9).map(register).collect();
        let (fits, left) = fit(&found(3), work.clone(), &quotas);
        assert_eq!(fits, work[..2]);
        let trouble = &left["quota/lbl-1"];
        assert_eq!((trouble.listener.as_deref(), trouble.target), (Some("web"), true));
        assert_eq!(
            trouble.message,
            "the quota TOTAL_TARGET_BIND_QUOTA is 5 for a listener or rule, and 3 are there: 4 are waiting (register 6, \
             register 7, register 8, and 1 more)"
        );
    }

    #[test]
    fn what_has_no_quota_or_takes_nothing_always_fits() {
        let work = vec![register(4), Work { write: Write::Deregister(binding(1)), ..register(1) }];
        let (fits, left) = fit(&found(3), work.clone(), &Quotas::default());
        assert!(fits == work && left.is_empty());
        let (fits, left) = fit(&found(3), work.clone(), &Quotas([(TARGETS.to_owned(), 3)].into()));
        assert_eq!((fits, left.len()), (work[1..].to_vec(), 1), "a place is free only once the target there is gone");
    }
}
