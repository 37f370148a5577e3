//! Rules: their identity, and their order.

use std::cmp::Reverse;

use crate::{
    api::{ListenerRule, PathType},
    model::{RouteRule, short_hash},
};

/// A rule in a [`GroupId`](crate::model::GroupId): what it matches, not where it sends.
pub(super) fn rule_id(rule: &ListenerRule) -> String {
    let kind = match rule.path_type {
        PathType::Prefix => "Prefix",
        PathType::Exact => "Exact",
    };
    short_hash(&format!("{}|{kind}|{}", rule.host, rule.path))[..8].to_string()
}

/// Most specific first: exact hosts, then wildcards from the longest, then any host; for each host exact paths, then
/// prefixes from the longest.
pub(super) fn sort(rules: &mut [RouteRule]) {
    rules.sort_by(|a, b| key(a).cmp(&key(b)));
}

type Key<'a> = (u8, Reverse<usize>, &'a str, bool, Reverse<usize>, &'a str);

fn key(rule: &RouteRule) -> Key<'_> {
    let host = rule.host.as_str();
    let (kind, length) = match host {
        "*" => (2, 0),
        wild if wild.starts_with("*.") => (1, wild.len()),
        // Exact hosts exclude each other: their order is for the eye.
        _ => (0, 0),
    };
    (kind, Reverse(length), host, !rule.exact, Reverse(rule.path.len()), &rule.path)
}
