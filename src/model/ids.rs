//! Identities: of an object, of a group of targets, of a target.

use std::{fmt, net::IpAddr};

use sha2::{Digest as _, Sha256};

/// A namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// A key of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A group of targets that share a port, a health check and a scheduler: one for each listener or rule and each of its
/// targets. It is what clouds call a target group, and Envoy a cluster.
///
/// Its parts never change with weights, ports or policies, so editing those keeps the group and its connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The listener's name.
    pub listener: String,
    /// The rule, as a short hash of host, path and path type; `None`: the listener's default.
    pub rule: Option<String>,
    /// The target, such as `deployment.web`, `service.web` or `selector.1a2b3c4d`.
    pub target: String,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.listener, self.rule.as_deref().unwrap_or("default"), self.target)
    }
}

/// A target: a Pod at an address and a port. The Pod's UID is part of it, so that a Pod which takes over the address
/// of one just gone is never taken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    /// The Pod's UID.
    pub uid: String,
    /// The Pod's address.
    pub ip: IpAddr,
    /// The Pod's port.
    pub port: u16,
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uid, std::net::SocketAddr::new(self.ip, self.port))
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of `text`: an identifier, not a secret.
#[must_use]
pub fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}
