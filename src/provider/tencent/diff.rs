//! From what is there to what should be: the writes that can be made now, in the order in which they should be.
//!
//! What depends on something that is not there yet (a target on its rule, a rule on its listener) comes in a later round,
//! once that is there. What adds comes before what takes away; a listener whose protocol changes is the exception, as two
//! cannot have the same port.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    names::ListenerName,
    ops::{Binding, Bound, Listener, ListenerSettings, NewListener, NewRule, Place, Redirected, Rule, Write},
    shape::{Address, ListenerShape, ListenerTarget, Match, Port, RuleShape, Shape, TargetShape, is_udp},
};

/// What a load balancer has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) security_groups: BTreeSet<String>,
    pub(super) pass_to_target: bool,
    pub(super) listeners: Vec<Listener>,
    pub(super) targets: BTreeMap<Binding, Bound>,
}

/// A write, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) write: Write,
    /// The object's listener.
    pub(super) listener: String,
    /// In words, for the plan and for events.
    pub(super) what: String,
}

impl Work {
    /// The UID of the Pod that it registers.
    pub(super) fn pods(&self) -> Vec<String> {
        if let Write::Register { tag, .. } = &self.write { vec![tag.clone()] } else { Vec::new() }
    }

    /// Whether it is about a target, and not about a listener or rule.
    pub(super) const fn is_target(&self) -> bool {
        matches!(self.write, Write::Register { .. } | Write::Weight { .. } | Write::Deregister(_))
    }
}

impl Found {
    /// The listeners of the object with this UID.
    pub(super) fn of<'a>(&'a self, uid: &str) -> impl Iterator<Item = (ListenerName, &'a Listener)> {
        let uid = uid.to_owned();
        self.listeners.iter().filter_map(move |l| Some((ListenerName::parse(&l.name).filter(|n| n.is_of(&uid))?, l)))
    }

    /// The object's listener at a port.
    pub(super) fn at(&self, uid: &str, port: Port) -> Option<(ListenerName, &Listener)> {
        self.of(uid).find(|(_, l)| port_of(l) == port)
    }

    /// Where the targets of a match are bound, if that is there.
    pub(super) fn place(&self, uid: &str, port: Port, m: &Match) -> Option<Place> {
        place(self.at(uid, port)?.1, m)
    }

    /// The targets at a place.
    pub(super) fn bound(&self, place: &Place) -> impl Iterator<Item = (&Binding, &Bound)> {
        let low = Binding { place: place.clone(), ip: std::net::Ipv4Addr::UNSPECIFIED.into(), port: 0 };
        let place = place.clone();
        self.targets.range(low..).take_while(move |(b, _)| b.place == place)
    }

    /// What a write that was carried out has changed; `made` is the id of what is new.
    pub(super) fn apply(&mut self, write: &Write, made: &str) {
        match write {
            Write::CreateLoadBalancer(_) => {}
            Write::PassToTarget(pass) => self.pass_to_target = *pass,
            Write::SecurityGroups(groups) => self.security_groups = groups.iter().cloned().collect(),
            Write::DeleteLoadBalancer => *self = Self::default(),
            Write::CreateListener(new) => {
                let mut listener = Listener {
                    id: made.into(),
                    port: new.port,
                    protocol: new.settings.protocol.clone(),
                    ..Listener::default()
                };
                set(&mut listener, &new.name, &new.settings);
                self.listeners.push(listener);
            }
            Write::ModifyListener { listener, name, settings } => {
                if let Some(l) = self.listener(listener) {
                    set(l, name, settings);
                }
            }
            Write::DeleteListener(id) => {
                self.listeners.retain(|l| l.id != *id);
                self.targets.retain(|b, _| b.place.listener != *id);
                self.lose(|to| to.listener == *id);
            }
            Write::CreateRule { listener, rule } => {
                if let Some(l) = self.listener(listener) {
                    let first = l.rules.is_empty();
                    l.rules.push(Rule {
                        id: made.into(),
                        domain: rule.domain.clone(),
                        url: rule.url.clone(),
                        // The first one's domain is the default one, whatever is said.
                        default_server: first,
                        ..Rule::default()
                    });
                    let default = first || rule.default_server == Some(true);
                    if let Some(new) = l.rules.last_mut() {
                        set_rule(new, rule);
                    }
                    if default {
                        make_default(l, &rule.domain);
                    }
                }
            }
            Write::ModifyRule { place, rule } => {
                if let Some(found) = self.rule(place) {
                    set_rule(found, rule);
                }
            }
            Write::DefaultDomain { listener, domain } => {
                if let Some(l) = self.listener(listener) {
                    make_default(l, domain);
                }
            }
            Write::DeleteRule(place) => {
                if let Some(l) = self.listener(&place.listener) {
                    l.rules.retain(|r| Some(r.id.as_str()) != place.location.as_deref());
                }
                self.targets.retain(|b, _| b.place != *place);
                self.lose(|to| to == place);
            }
            Write::Redirect { from, to, code, .. } => {
                if let Some(rule) = self.rule(from) {
                    rule.redirect = Some(Redirected { to: to.clone(), code: Some(*code), take_url: true });
                }
            }
            Write::Unredirect { from, .. } => {
                if let Some(rule) = self.rule(from) {
                    rule.redirect = None;
                }
            }
            Write::Register { binding, weight, tag } => {
                let bound = Bound { weight: *weight, tag: Some(tag.clone()) };
                self.targets.insert(binding.clone(), bound);
            }
            Write::Weight { binding, weight } => {
                if let Some(bound) = self.targets.get_mut(binding) {
                    bound.weight = *weight;
                }
            }
            Write::Deregister(binding) => _ = self.targets.remove(binding),
        }
    }

    fn rule(&mut self, place: &Place) -> Option<&mut Rule> {
        let rules = &mut self.listener(&place.listener)?.rules;
        rules.iter_mut().find(|r| Some(r.id.as_str()) == place.location.as_deref())
    }

    /// Redirects go with what they lead to.
    fn lose(&mut self, gone: impl Fn(&Place) -> bool) {
        for rule in self.listeners.iter_mut().flat_map(|l| &mut l.rules) {
            rule.redirect.take_if(|r| gone(&r.to));
        }
    }

    fn listener(&mut self, id: &str) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|l| l.id == id)
    }
}

fn set(listener: &mut Listener, name: &str, settings: &ListenerSettings) {
    name.clone_into(&mut listener.name);
    listener.health_check.clone_from(&settings.health_check);
    listener.scheduler.clone_from(&settings.scheduler);
    listener.session_expire_time = settings.session_expire_time.unwrap_or(0);
    listener.deregister_target_rst = settings.deregister_target_rst.unwrap_or(false);
}

fn set_rule(rule: &mut Rule, new: &NewRule) {
    rule.health_check = new.health_check.clone().unwrap_or_default();
    rule.scheduler.clone_from(&new.scheduler);
    rule.session_expire_time = new.session_expire_time.unwrap_or(0);
    rule.forward_type.clone_from(&new.forward_type);
}

fn make_default(listener: &mut Listener, domain: &str) {
    listener.rules.iter_mut().for_each(|r| r.default_server = r.domain == domain);
}

pub(super) fn port_of(listener: &Listener) -> Port {
    (listener.port, is_udp(&listener.protocol))
}

fn place(listener: &Listener, m: &Match) -> Option<Place> {
    let location = if *m == Match::default() {
        None
    } else {
        Some(listener.rules.iter().find(|r| (&r.domain, &r.url) == (&m.0, &m.1))?.id.clone())
    };
    Some(Place { listener: listener.id.clone(), location })
}

/// The writes that can be made now.
pub(super) fn diff(found: &Found, shape: &Shape, uid: &str) -> Vec<Work> {
    let mut out = Out { found, uid, work: Vec::new() };
    if let Some(groups) = shape.security_groups.as_ref().filter(|g| **g != found.security_groups) {
        let names: Vec<String> = groups.iter().cloned().collect();
        out.push("", format!("set security groups {}", names.join(", ")), Write::SecurityGroups(names));
    }
    if let Some(pass) = shape.pass_to_target.filter(|p| *p != found.pass_to_target) {
        out.push("", format!("set pass to target {pass}"), Write::PassToTarget(pass));
    }
    let mut complete = true;
    for (port, want) in &shape.listeners {
        match found.at(uid, *port) {
            None => {
                complete = false;
                out.create(*port, want);
            }
            Some((name, have)) if want.config.as_ref().is_some_and(|c| c.settings.protocol != have.protocol) => {
                complete = false;
                out.delete(&name, have);
            }
            Some((name, have)) => out.listener(&name, have, want),
        }
    }
    // One that moves to another port serves there before it goes here.
    if complete {
        for (name, have) in found.of(uid) {
            if !shape.listeners.contains_key(&port_of(have)) {
                out.delete(&name, have);
            }
        }
    }
    out.work
}

struct Out<'a> {
    found: &'a Found,
    uid: &'a str,
    work: Vec<Work>,
}

impl Out<'_> {
    fn push(&mut self, listener: &str, what: String, write: Write) {
        self.work.push(Work { write, listener: listener.into(), what });
    }

    fn create(&mut self, port: Port, want: &ListenerShape) {
        let Some(config) = &want.config else { return };
        let what = format!("create listener {} ({} {})", want.listener, config.settings.protocol, port.0);
        let new = NewListener { name: config.name.clone(), port: port.0, settings: config.settings.clone() };
        self.push(&want.listener, what, Write::CreateListener(Box::new(new)));
    }

    fn delete(&mut self, name: &ListenerName, have: &Listener) {
        let what = format!("delete listener {} ({} {})", name.listener, have.protocol, have.port);
        self.push(&name.listener, what, Write::DeleteListener(have.id.clone()));
    }

    fn listener(&mut self, name: &ListenerName, have: &Listener, want: &ListenerShape) {
        if let Some(config) = &want.config {
            if let Some(write) = modified(name, have, config) {
                self.push(&want.listener, format!("modify listener {}", want.listener), write);
            }
            if matches!(config.settings.protocol.as_str(), "HTTP" | "HTTPS") {
                self.rules(have, want, config);
            }
        }
        for (m, rule) in &want.rules {
            if let Some(place) = place(have, m) {
                self.targets(&want.listener, m, &place, &rule.targets);
            }
        }
    }

    fn rules(&mut self, have: &Listener, want: &ListenerShape, config: &ListenerTarget) {
        let mut complete = true;
        for (m, shape) in &want.rules {
            let Some(new) = &shape.settings else { continue };
            let found = have.rules.iter().find(|r| (&r.domain, &r.url) == (&m.0, &m.1));
            let shown = format!("{}{}", m.0, m.1);
            match found {
                None => {
                    complete = false;
                    let default = config.default_domain.as_ref() == Some(&new.domain);
                    let rule = NewRule { default_server: default.then_some(true), ..new.clone() };
                    let write = Write::CreateRule { listener: have.id.clone(), rule: Box::new(rule) };
                    self.push(&want.listener, format!("create rule {shown} of listener {}", want.listener), write);
                }
                Some(found) if !is(found, new) => {
                    let place = Place { listener: have.id.clone(), location: Some(found.id.clone()) };
                    let write = Write::ModifyRule { place, rule: Box::new(new.clone()) };
                    self.push(&want.listener, format!("modify rule {shown} of listener {}", want.listener), write);
                }
                Some(found) => self.redirect(&want.listener, have, found, shape),
            }
        }
        let is_default = |d: &String| have.rules.iter().any(|r| r.domain == *d && r.default_server);
        let there = |d: &String| have.rules.iter().any(|r| r.domain == *d);
        if let Some(domain) = config.default_domain.as_ref().filter(|d| there(d) && !is_default(d)) {
            let write = Write::DefaultDomain { listener: have.id.clone(), domain: domain.clone() };
            self.push(&want.listener, format!("make {domain} the default domain of listener {}", want.listener), write);
            // The old one's rules cannot go before.
            return;
        }
        if complete {
            for rule in &have.rules {
                if !want.rules.contains_key(&(rule.domain.clone(), rule.url.clone())) {
                    let place = Place { listener: have.id.clone(), location: Some(rule.id.clone()) };
                    let what = format!("delete rule {}{} of listener {}", rule.domain, rule.url, want.listener);
                    self.push(&want.listener, what, Write::DeleteRule(place));
                }
            }
        }
    }

    fn redirect(&mut self, listener: &str, have: &Listener, rule: &Rule, want: &RuleShape) {
        let from = Place { listener: have.id.clone(), location: Some(rule.id.clone()) };
        let to = want.redirect.as_ref().map(|r| self.found.place(self.uid, r.port, &r.to));
        let shown = format!("{}{} of listener {listener}", rule.domain, rule.url);
        let old = rule.redirect.as_ref();
        let same = |to: &Place, code| old.is_some_and(|o| o.to == *to && o.code == Some(code) && o.take_url);
        match (&want.redirect, to.flatten()) {
            (Some(new), Some(to)) if same(&to, new.code) => {}
            (Some(new), Some(to)) if old.is_none() => {
                let what = format!("redirect {shown} to {}", new.to.0);
                let write = Write::Redirect { from, domain: rule.domain.clone(), to, code: new.code };
                self.push(listener, what, write);
            }
            // What it leads to comes first.
            (Some(_), None) => {}
            (want_one, _) => {
                let Some(old) = old else { return };
                // As long as its targets are not there, a redirect is better than nothing.
                let there = |a: &Address| {
                    let binding = Binding { place: from.clone(), ip: a.0, port: a.1 };
                    self.found.targets.contains_key(&binding)
                };
                if want_one.is_some() || want.targets.keys().all(there) {
                    let what = format!("redirect {shown} no more");
                    self.push(listener, what, Write::Unredirect { from, to: old.to.clone() });
                }
            }
        }
    }

    fn targets(&mut self, listener: &str, m: &Match, place: &Place, want: &BTreeMap<Address, TargetShape>) {
        let at = if m.0.is_empty() {
            format!("listener {listener}")
        } else {
            format!("{}{} of listener {listener}", m.0, m.1)
        };
        let mut seen = BTreeSet::new();
        let found = self.found;
        for (binding, bound) in found.bound(place) {
            let address = std::net::SocketAddr::new(binding.ip, binding.port);
            seen.insert((binding.ip, binding.port));
            match want.get(&(binding.ip, binding.port)) {
                Some(target) if bound.tag.as_ref() == Some(&target.uid) => {
                    if bound.weight != target.weight {
                        let what = format!("weigh {address} at {at}: {} -> {}", bound.weight, target.weight);
                        let write = Write::Weight { binding: binding.clone(), weight: target.weight };
                        self.push(listener, what, write);
                    }
                }
                // Not to be here, or (the address has gone to another Pod) to be registered anew.
                _ => self.push(listener, format!("deregister {address} from {at}"), Write::Deregister(binding.clone())),
            }
        }
        for ((ip, port), target) in want {
            if !seen.contains(&(*ip, *port)) {
                let binding = Binding { place: place.clone(), ip: *ip, port: *port };
                let what = format!("register {} at {at}", std::net::SocketAddr::new(*ip, *port));
                let write = Write::Register { binding, weight: target.weight, tag: target.uid.clone() };
                self.push(listener, what, write);
            }
        }
    }
}

fn modified(name: &ListenerName, have: &Listener, want: &ListenerTarget) -> Option<Write> {
    let s = &want.settings;
    let wanted = ListenerName::parse(&want.name);
    let same_certificate = wanted.as_ref().is_some_and(|w| w.certificate == name.certificate);
    let same = have.name == want.name
        && s.health_check.as_ref().is_none_or(|h| have.health_check.as_ref().is_some_and(|f| h.is(f)))
        && (s.scheduler.is_none() || s.scheduler == have.scheduler)
        && s.session_expire_time.is_none_or(|t| t == have.session_expire_time)
        && s.deregister_target_rst.is_none_or(|r| r == have.deregister_target_rst);
    if same {
        return None;
    }
    let mut settings = s.clone();
    if same_certificate {
        // The one that is there stays: uploaded again it would be another one.
        settings.certificate = None;
    }
    Some(Write::ModifyListener { listener: have.id.clone(), name: want.name.clone(), settings: Box::new(settings) })
}

fn is(have: &Rule, want: &NewRule) -> bool {
    want.health_check.as_ref().is_none_or(|h| h.is(&have.health_check))
        && (want.scheduler.is_none() || want.scheduler == have.scheduler)
        && want.session_expire_time.is_none_or(|t| t == have.session_expire_time)
        && (want.forward_type.is_none() || have.forward_type.is_none() || want.forward_type == have.forward_type)
}
