//! Whose things in the cloud are: load balancers by their tags, listeners by their names, targets by their tag.

use crate::model::{ObjectKey, short_hash};

/// Tag of a load balancer: the cluster that made it (the UID of its namespace `kube-system`).
pub const CLUSTER_TAG: &str = "directlb.io/cluster";
/// Tag of a load balancer: the UID of its object.
pub const OBJECT_TAG: &str = "directlb.io/object";
/// Tag of a load balancer: its object's namespace and name, for people.
pub const NAME_TAG: &str = "directlb.io/name";

/// The longest name of a load balancer.
const NAME: usize = 60;
/// Digits of a hash in a listener's name: with a name of 63 characters it has 79, and 80 are allowed.
const OWNER: usize = 8;
const CERTIFICATE: usize = 6;

/// The name of a load balancer, for people; nothing depends on it.
#[must_use]
pub fn load_balancer(object: &ObjectKey) -> String {
    let full = format!("{}-{}", object.namespace, object.name);
    if full.len() <= NAME {
        return full;
    }
    let hash = &short_hash(&full)[..8];
    // Names of Kubernetes are ASCII.
    format!("{}-{hash}", full[..NAME - 9].trim_end_matches(['-', '.']))
}

/// A listener's name: `https.5f3a9c1e`, with the certificate's hash `https.5f3a9c1e.77ab01`.
///
/// It is all that CLB keeps with a listener: so it says which object the listener is of, and (as replies name a
/// certificate by its id alone) which certificate it was given. Both change in the same call, so they never disagree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerName {
    /// The listener's name in the object.
    pub listener: String,
    /// The hash of the object's UID.
    pub owner: String,
    /// The hash of the certificate and its key.
    pub certificate: Option<String>,
}

impl ListenerName {
    /// The name of an object's listener.
    #[must_use]
    pub fn new(listener: &str, uid: &str, certificate: Option<&str>) -> Self {
        Self { listener: listener.into(), owner: owner(uid), certificate: certificate.map(Into::into) }
    }

    /// Reads a name; `None`: it is none of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (listener, owner, certificate) = (parts.next()?, parts.next()?, parts.next());
        let hash = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit());
        let ok = parts.next().is_none()
            && !listener.is_empty()
            && hash(owner, OWNER)
            && certificate.is_none_or(|c| hash(c, CERTIFICATE));
        ok.then(|| Self { listener: listener.into(), owner: owner.into(), certificate: certificate.map(Into::into) })
    }

    /// Whether the listener is of the object with this UID.
    #[must_use]
    pub fn is_of(&self, uid: &str) -> bool {
        self.owner == owner(uid)
    }
}

impl std::fmt::Display for ListenerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.listener, self.owner)?;
        self.certificate.iter().try_for_each(|c| write!(f, ".{c}"))
    }
}

fn owner(uid: &str) -> String {
    short_hash(uid)[..OWNER].into()
}

/// What stands for a certificate in a listener's name.
#[must_use]
pub fn certificate(chain_pem: &str, key_pem: &str) -> String {
    short_hash(&format!("{chain_pem}\n{key_pem}"))[..CERTIFICATE].into()
}

/// The token by which a repeated `CreateLoadBalancer` makes nothing new; `attempt` counts the ones that came to nothing.
/// At most 64 characters, as the API asks.
#[must_use]
pub fn client_token(cluster: &str, uid: &str, attempt: u32) -> String {
    format!("directlb-{}-{attempt}", short_hash(&format!("{cluster}/{uid}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn listener_names_are_read_as_they_were_written() {
        for certificate in [None, Some("00ff00")] {
            let name = ListenerName::new("https", "uid", certificate);
            assert_eq!(ListenerName::parse(&name.to_string()).unwrap(), name);
            assert!(name.is_of("uid") && !name.is_of("other"));
        }
        let longest = ListenerName::new(&"x".repeat(63), "uid", Some(&certificate("a", "b")));
        assert!(longest.to_string().len() <= 80);
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for name in ["", "web", "web.example", "lbl-12345678", "web.5f3a9c1e.77ab01.x", ".5f3a9c1e", "web.5f3a9c1"] {
            assert_eq!(ListenerName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_and_tokens_fit() {
        let long = ObjectKey::new("n".repeat(63), "o".repeat(253));
        assert!(load_balancer(&long).len() <= NAME);
        assert_eq!(load_balancer(&ObjectKey::new("shop", "web")), "shop-web");
        assert!(client_token("c", "u", u32::MAX).len() <= 64);
    }
}
