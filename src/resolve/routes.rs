//! Rules: their identity.

use crate::{
    api::{ListenerRule, PathType},
    model::short_hash,
};

/// A rule in a [`GroupId`](crate::model::GroupId): what it matches, not where it sends.
pub(super) fn rule_id(rule: &ListenerRule) -> String {
    let kind = match rule.path_type {
        PathType::Prefix => "Prefix",
        PathType::Exact => "Exact",
    };
    short_hash(&format!("{}|{kind}|{}", rule.host, rule.path))[..8].to_string()
}
