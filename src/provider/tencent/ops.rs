//! What is written to CLB and read from it, item by item.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::sync::{Action, Item, Query};

/// Every action that is called, besides the one that asks for tasks.
pub const ACTIONS: &[Action] = &[
    "CreateLoadBalancer",
    "DeleteLoadBalancer",
    "ModifyLoadBalancerAttributes",
    "SetLoadBalancerSecurityGroups",
    "CreateListener",
    "ModifyListener",
    "DeleteLoadBalancerListeners",
    "CreateRule",
    "ModifyRule",
    "ModifyDomainAttributes",
    "DeleteRule",
    "ManualRewrite",
    "DeleteRewrite",
    "BatchRegisterTargets",
    "BatchModifyTargetWeight",
    "BatchDeregisterTargets",
    "DescribeQuota",
    "DescribeLoadBalancers",
    "DescribeListeners",
    "DescribeTargets",
    "DescribeTargetHealth",
];

/// A health check (data type `HealthCheck`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// 1: on; 0: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_switch: Option<i64>,
    /// Seconds after which a check has failed: 2 to 60, and less than `interval_time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_out: Option<i64>,
    /// Seconds between checks: 2 to 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_time: Option<i64>,
    /// Passes in a row that make a target healthy: 2 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_num: Option<i64>,
    /// Failures in a row that make it unhealthy: 2 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub un_health_num: Option<i64>,
    /// Which answers pass: a sum of 1 (1xx), 2 (2xx), 4 (3xx), 8 (4xx), 16 (5xx).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_code: Option<i64>,
    /// The path that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_check_path: Option<String>,
    /// The host that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_check_domain: Option<String>,
    /// `HEAD` or `GET`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_check_method: Option<String>,
    /// `HTTP/1.0` or `HTTP/1.1`; of checks of a TCP listener by HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_version: Option<String>,
    /// A port other than the target's; -1: the target's. Of TCP and UDP listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_port: Option<i64>,
    /// `TCP`, `HTTP`, `GRPC`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_type: Option<String>,
}

impl HealthCheck {
    /// Whether what is `found` is as this one says; what this one leaves open may be anything.
    #[must_use]
    pub fn is(&self, found: &Self) -> bool {
        fn same<T: PartialEq>(want: &Option<T>, have: &Option<T>) -> bool {
            want.is_none() || want == have
        }
        if self.health_switch == Some(0) {
            return found.health_switch == Some(0);
        }
        same(&self.health_switch, &found.health_switch)
            && same(&self.time_out, &found.time_out)
            && same(&self.interval_time, &found.interval_time)
            && same(&self.health_num, &found.health_num)
            && same(&self.un_health_num, &found.un_health_num)
            && same(&self.http_code, &found.http_code)
            && same(&self.http_check_path, &found.http_check_path)
            && same(&self.http_check_domain, &found.http_check_domain)
            && same(&self.http_check_method, &found.http_check_method)
            && same(&self.http_version, &found.http_version)
            // Not asked for, it is left out of the reply.
            && (self.check_port == Some(-1) && found.check_port.is_none() || same(&self.check_port, &found.check_port))
            && same(&self.check_type, &found.check_type)
    }
}

/// A load balancer to make (action `CreateLoadBalancer`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NewLoadBalancer {
    /// `OPEN` (public) or `INTERNAL`.
    pub load_balancer_type: String,
    /// Its name.
    pub load_balancer_name: String,
    /// The network that its targets are in.
    pub vpc_id: String,
    /// Where an internal one gets its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    /// Whether what it lets through needs no rule in the targets' security groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_pass_to_target: Option<bool>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// A second call with the same token makes no second load balancer; at most 64 characters.
    pub client_token: String,
}

/// A tag (data type `TagInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// Its key.
    pub tag_key: String,
    /// Its value.
    pub tag_value: String,
}

/// A listener to make (action `CreateListener`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewListener {
    /// Its name, by which it is known to be ours.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// The rest, which several listeners of a call share.
    pub settings: ListenerSettings,
}

/// Settings that several listeners of a call may share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListenerSettings {
    /// `TCP`, `UDP`, `TCP_SSL`, `HTTP`, `HTTPS`, `QUIC`.
    pub protocol: String,
    /// Of TCP and UDP; for others the rule has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// `WRR` or `LEAST_CONN`; of TCP and UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Seconds of session persistence: 30 to 3600; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_expire_time: Option<i64>,
    /// Whether connections that are left are reset when a target is deregistered; of TCP and UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deregister_target_rst: Option<bool>,
    /// Of TCP_SSL and HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// A listener's certificate (data type `CertificateInput`).
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// `UNIDIRECTIONAL`: clients show none.
    #[serde(rename = "SSLMode")]
    pub mode: &'static str,
    /// The id of one that is there already.
    #[serde(rename = "CertId", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name of one to upload.
    #[serde(rename = "CertName", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its certificate and chain, PEM.
    #[serde(rename = "CertContent", skip_serializing_if = "Option::is_none")]
    pub chain_pem: Option<String>,
    /// Its private key, PEM.
    #[serde(rename = "CertKey", skip_serializing_if = "Option::is_none")]
    pub key_pem: Option<String>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must never reach a log.
        f.debug_struct("Certificate").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A rule to make (data type `RuleInput`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NewRule {
    /// The host.
    pub domain: String,
    /// The path.
    pub url: String,
    /// How targets are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// `WRR`, `LEAST_CONN` or `IP_HASH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Seconds of session persistence: 30 to 86400; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_expire_time: Option<i64>,
    /// How targets are spoken to: `HTTP`, `GRPC`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_type: Option<String>,
    /// The cookie of session persistence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_name: Option<String>,
    /// Its domain gets the requests for domains without a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_server: Option<bool>,
}

/// Where targets are bound: a listener of layer 4, or a rule of one of layer 7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The listener's id.
    pub listener: String,
    /// The rule's id.
    pub location: Option<String>,
}

/// A target at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// Where.
    pub place: Place,
    /// The Pod's address.
    pub ip: IpAddr,
    /// The Pod's port.
    pub port: u16,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Make a load balancer; its lane is named by the token.
    CreateLoadBalancer(Box<NewLoadBalancer>),
    /// Delete the load balancer of the lane.
    DeleteLoadBalancer,
    /// Whether what the load balancer lets through needs no rule in the targets' security groups.
    PassToTarget(bool),
    /// The load balancer's security groups, all of them.
    SecurityGroups(Vec<String>),
    /// Make a listener.
    CreateListener(Box<NewListener>),
    /// Change a listener.
    ModifyListener {
        /// The listener's id.
        listener: String,
        /// Its new name.
        name: String,
        /// Its new settings, all of them.
        settings: Box<ListenerSettings>,
    },
    /// Change a rule.
    ModifyRule {
        /// Which.
        place: Place,
        /// What it should be; its domain and path stay.
        rule: Box<NewRule>,
    },
    /// Make a domain the one that gets the requests for domains without a rule.
    DefaultDomain {
        /// The listener's id.
        listener: String,
        /// The domain.
        domain: String,
    },
    /// Delete a listener, with its rules and targets.
    DeleteListener(String),
    /// Make a rule of a listener.
    CreateRule {
        /// The listener's id.
        listener: String,
        /// The rule.
        rule: Box<NewRule>,
    },
    /// Delete a rule of a listener.
    DeleteRule(Place),
    /// Send a rule's clients to another rule.
    Redirect {
        /// The rule.
        from: Place,
        /// Its domain.
        domain: String,
        /// The other one.
        to: Place,
        /// 301, 302 or 307.
        code: u16,
    },
    /// Do so no more.
    Unredirect {
        /// The rule.
        from: Place,
        /// The other one.
        to: Place,
    },
    /// Register a target.
    Register {
        /// Which, and where.
        binding: Binding,
        /// Its share, 0 to 100.
        weight: u8,
        /// The Pod's UID.
        tag: String,
    },
    /// Change a target's share.
    Weight {
        /// Which, and where.
        binding: Binding,
        /// Its share, 0 to 100; 0: no new connections.
        weight: u8,
    },
    /// Deregister a target.
    Deregister(Binding),
}

impl Item for Write {
    fn action(&self) -> Action {
        match self {
            Self::CreateLoadBalancer(_) => "CreateLoadBalancer",
            Self::DeleteLoadBalancer => "DeleteLoadBalancer",
            Self::PassToTarget(_) => "ModifyLoadBalancerAttributes",
            Self::SecurityGroups(_) => "SetLoadBalancerSecurityGroups",
            Self::CreateListener(_) => "CreateListener",
            Self::ModifyListener { .. } => "ModifyListener",
            Self::ModifyRule { .. } => "ModifyRule",
            Self::DefaultDomain { .. } => "ModifyDomainAttributes",
            Self::DeleteListener(_) => "DeleteLoadBalancerListeners",
            Self::CreateRule { .. } => "CreateRule",
            Self::DeleteRule(_) => "DeleteRule",
            Self::Redirect { .. } => "ManualRewrite",
            Self::Unredirect { .. } => "DeleteRewrite",
            Self::Register { .. } => "BatchRegisterTargets",
            Self::Weight { .. } => "BatchModifyTargetWeight",
            Self::Deregister(_) => "BatchDeregisterTargets",
        }
    }

    fn group(&self) -> String {
        match self {
            Self::CreateListener(l) => format!("{:?}", l.settings),
            Self::CreateRule { listener, .. } => listener.clone(),
            Self::DeleteRule(place) => place.listener.clone(),
            Self::Redirect { from, to, .. } | Self::Unredirect { from, to } => {
                format!("{}>{}", from.listener, to.listener)
            }
            // One for each call.
            Self::ModifyListener { .. } | Self::ModifyRule { .. } | Self::DefaultDomain { .. } => self.id(),
            _ => String::new(),
        }
    }

    fn id(&self) -> String {
        match self {
            Self::CreateLoadBalancer(_) | Self::DeleteLoadBalancer => String::new(),
            Self::PassToTarget(_) => "pass-to-target".into(),
            Self::SecurityGroups(_) => "security-groups".into(),
            Self::CreateListener(l) => format!("{}/{}", l.settings.protocol, l.port),
            Self::DeleteListener(id) | Self::ModifyListener { listener: id, .. } => id.clone(),
            Self::DefaultDomain { listener, .. } => format!("{listener}/default"),
            Self::ModifyRule { place, .. } => place.to_string(),
            Self::CreateRule { listener, rule } => format!("{listener}/{}{}", rule.domain, rule.url),
            Self::DeleteRule(place) => place.to_string(),
            Self::Redirect { from, .. } | Self::Unredirect { from, .. } => format!("{from}/redirect"),
            Self::Register { binding, .. } | Self::Weight { binding, .. } | Self::Deregister(binding) => {
                binding.to_string()
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.location {
            None => f.write_str(&self.listener),
            Some(location) => write!(f, "{}/{location}", self.listener),
        }
    }
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.place, std::net::SocketAddr::new(self.ip, self.port))
    }
}

/// Something to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// The account's quotas.
    Quotas,
    /// The load balancer itself.
    LoadBalancer(String),
    /// The load balancers of an object, by its UID in their tags.
    Owned(String),
    /// The listeners and rules of a load balancer.
    Listeners(String),
    /// The targets of one listener and its rules, with weights and tags.
    Targets {
        /// The load balancer's id.
        load_balancer: String,
        /// The listener's id.
        listener: String,
    },
    /// Every target of a load balancer with its health and weight.
    Health(String),
}

impl Query for Read {
    fn action(&self) -> Action {
        match self {
            Self::Quotas => "DescribeQuota",
            Self::LoadBalancer(_) | Self::Owned(_) => "DescribeLoadBalancers",
            Self::Listeners(_) => "DescribeListeners",
            Self::Targets { .. } => "DescribeTargets",
            Self::Health(_) => "DescribeTargetHealth",
        }
    }

    fn group(&self) -> String {
        match self {
            Self::Quotas | Self::LoadBalancer(_) | Self::Health(_) => String::new(),
            Self::Owned(_) => "owned".into(),
            Self::Listeners(id) | Self::Targets { load_balancer: id, .. } => id.clone(),
        }
    }
}

/// What a read says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of [`Read::Quotas`].
    Quotas(Quotas),
    /// Of [`Read::LoadBalancer`]; `None`: there is none with that id.
    LoadBalancer(Option<LoadBalancer>),
    /// Of [`Read::Owned`].
    LoadBalancers(Vec<LoadBalancer>),
    /// Of [`Read::Listeners`].
    Listeners(Vec<Listener>),
    /// Of [`Read::Targets`].
    Targets(BTreeMap<Binding, Bound>),
    /// Of [`Read::Health`].
    Health(BTreeMap<Binding, TargetHealth>),
}

/// How many there may be of something, by the quota's id (`TOTAL_LISTENER_QUOTA`, ...).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(pub BTreeMap<String, i64>);

/// A load balancer that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its id.
    pub id: String,
    /// It is there, and takes writes.
    pub running: bool,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Whether what it lets through needs no rule in the targets' security groups.
    pub pass_to_target: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
}

impl LoadBalancer {
    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|t| t.tag_key == key).map(|t| t.tag_value.as_str())
    }
}

/// A listener that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: String,
    /// Its port.
    pub port: u16,
    /// Its health check; of layer 4.
    pub health_check: Option<HealthCheck>,
    /// Its scheduler; of layer 4.
    pub scheduler: Option<String>,
    /// Seconds of session persistence.
    pub session_expire_time: i64,
    /// Whether connections that are left are reset when a target is deregistered.
    pub deregister_target_rst: bool,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A rule that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// The host.
    pub domain: String,
    /// The path.
    pub url: String,
    /// Its health check.
    pub health_check: HealthCheck,
    /// Its scheduler.
    pub scheduler: Option<String>,
    /// Seconds of session persistence.
    pub session_expire_time: i64,
    /// How targets are spoken to.
    pub forward_type: Option<String>,
    /// Its domain gets the requests for domains without a rule.
    pub default_server: bool,
    /// Where its clients are sent.
    pub redirect: Option<Redirected>,
}

/// Where a rule's clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirected {
    /// The other rule.
    pub to: Place,
    /// 301, 302 or 307; `None`: CLB's own choice.
    pub code: Option<u16>,
    /// Whether the path is kept.
    pub take_url: bool,
}

/// A target that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its share.
    pub weight: u8,
    /// The Pod's UID, if it was registered by us.
    pub tag: Option<String>,
}

/// A target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// What the load balancer says of it.
    pub state: HealthState,
    /// Its share.
    pub weight: u8,
}

/// What a load balancer says of a target (`HealthStatusDetail`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Checks pass.
    Alive,
    /// Checks fail.
    Dead,
    /// Not checked yet.
    Unknown,
    /// There are no checks, or the listener is stopped.
    Close,
}
