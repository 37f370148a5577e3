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

/// What the documents say, for accounts that the API does not answer (CLB's "Quotas and limits").
const DOCUMENTED: [(&str, i64); 3] = [(LISTENERS, 50), (RULES, 50), (TARGETS, 200)];

/// The quotas that count: those documented, what the API says instead, and what the class says instead of both.
pub(super) fn effective(account: &Quotas, class: &Quotas) -> Quotas {
    let documented = DOCUMENTED.into_iter().map(|(id, limit)| (id.to_owned(), limit));
    Quotas(documented.chain(account.0.clone()).chain(class.0.clone()).collect())
}

/// What a class may say of quotas: listeners, rules, targets.
#[must_use]
pub fn of_class(listeners: Option<i32>, rules: Option<i32>, targets: Option<i32>) -> Quotas {
    let all = [(LISTENERS, listeners), (RULES, rules), (TARGETS, targets)];
    Quotas(all.into_iter().filter_map(|(id, limit)| Some((id.to_owned(), i64::from(limit?)))).collect())
}

/// How much of a quota is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// `Listeners`, `Rules` or `Targets`.
    pub resource: &'static str,
    /// The object's listener; `None`: the load balancer as a whole.
    pub listener: Option<String>,
    /// How many there are.
    pub used: usize,
    /// How many there may be.
    pub limit: usize,
}

/// How much is used of each quota that the object's listeners have a part in.
pub(super) fn usage(found: &Found, uid: &str, quotas: &Quotas) -> Vec<Usage> {
    let of = |resource, quota: &str, listener: Option<&str>, used| {
        let limit = usize::try_from(*quotas.0.get(quota)?).ok()?;
        Some(Usage { resource, listener: listener.map(Into::into), used, limit })
    };
    let mut fullest: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, n) in bound(found) {
        let most = fullest.entry(&place.listener).or_default();
        *most = n.max(*most);
    }
    let mut out: Vec<Usage> = of("Listeners", LISTENERS, None, found.listeners.len()).into_iter().collect();
    for (name, listener) in found.of(uid) {
        let name = Some(name.listener.as_str());
        if !listener.rules.is_empty() {
            out.extend(of("Rules", RULES, name, listener.rules.len()));
        }
        out.extend(of("Targets", TARGETS, name, fullest.get(listener.id.as_str()).copied().unwrap_or(0)));
    }
    out
}

/// How many targets there are at each place.
fn bound(found: &Found) -> BTreeMap<&Place, usize> {
    let mut bound = BTreeMap::new();
    found.targets.keys().for_each(|b| *bound.entry(&b.place).or_default() += 1);
    bound
}

/// Of `work`, what fits; and what is wrong with the rest, by what it is about.
pub(super) fn fit(found: &Found, work: Vec<Work>, quotas: &Quotas) -> (Vec<Work>, BTreeMap<String, Trouble>) {
    let limit = |quota: &str| quotas.0.get(quota).map_or(usize::MAX, |q| usize::try_from(*q).unwrap_or(0));
    let mut there: BTreeMap<Kind, usize> = BTreeMap::new();
    there.insert(Kind::Listeners, found.listeners.len());
    for listener in &found.listeners {
        there.insert(Kind::Rules(listener.id.clone()), listener.rules.len());
    }
    there.extend(bound(found).into_iter().map(|(place, n)| (Kind::Targets(place.clone()), n)));
    let before = there.clone();
    let mut left: BTreeMap<Kind, Left> = BTreeMap::new();
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
            let left = left.entry(kind).or_insert_with(|| Left { listener: w.listener.clone(), ..Left::default() });
            left.what.push(w.what);
            if let Write::Register { tag, .. } = w.write {
                left.pods.push(tag);
            }
        }
    }
    let troubles = left.into_iter().map(|(kind, Left { listener, what, pods })| {
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
            pods,
            what: "quota".into(),
            kind: ErrorKind::Quota,
            message,
            request_id: None,
        };
        (format!("{KEY}{}", kind.id()), trouble)
    });
    (fits, troubles.collect())
}

/// What does not fit.
#[derive(Default)]
struct Left {
    listener: String,
    what: Vec<String>,
    /// The Pods' UIDs.
    pods: Vec<String>,
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
        assert_eq!((trouble.listener.as_deref(), trouble.target, trouble.pods.len()), (Some("web"), true, 4));
        assert_eq!(
            trouble.message,
            "the quota TOTAL_TARGET_BIND_QUOTA is 5 for a listener or rule, and 3 are there: 4 are waiting (register 6, \
             register 7, register 8, and 1 more)"
        );
    }

    #[test]
    fn the_class_is_believed_more_than_the_api_and_the_api_more_than_its_documents() {
        let account = Quotas([(TARGETS.to_owned(), 300), (RULES.to_owned(), 60)].into());
        let quotas = effective(&account, &of_class(None, Some(70), None));
        assert_eq!((quotas.0[LISTENERS], quotas.0[RULES], quotas.0[TARGETS]), (50, 70, 300));
    }

    #[test]
    fn usage_is_that_of_the_fullest_rule() {
        let name = crate::provider::tencent::names::ListenerName::new("web", "uid", None).to_string();
        let mut found = found(3);
        found.listeners[0].name = name;
        found.listeners.push(Listener { id: "lbl-2".into(), name: "theirs".into(), ..Listener::default() });
        found.listeners[0].rules.push(Default::default());
        let at_rule = Place { listener: "lbl-1".into(), location: Some("loc-1".into()) };
        found.targets.insert(Binding { place: at_rule, ..binding(9) }, Bound { weight: 0, tag: None });
        let quotas = effective(&Quotas::default(), &Quotas::default());
        let of = |resource, listener: Option<&str>, used, limit| Usage {
            resource,
            listener: listener.map(Into::into),
            used,
            limit,
        };
        let expected =
            [of("Listeners", None, 2, 50), of("Rules", Some("web"), 1, 50), of("Targets", Some("web"), 3, 200)];
        assert_eq!(usage(&found, "uid", &quotas), expected);
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
