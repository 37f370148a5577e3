//! What an emulator is told before it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::network::Cidr;

/// Everything that can be chosen. Durations are seconds in JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The only region that there is.
    pub region: String,
    /// SecretId and SecretKey of each user.
    pub keys: Vec<(String, String)>,
    /// The SecretIds among `keys` that may do nothing.
    pub denied: Vec<String>,
    /// The networks that there are.
    pub vpcs: Vec<Vpc>,
    /// How long a call takes. It takes effect halfway, and is answered at the end.
    #[serde(with = "seconds")]
    pub latency: Duration,
    /// How long the task of a write takes.
    #[serde(with = "seconds")]
    pub task: Duration,
    /// How long a task takes that a fault has made stuck.
    #[serde(with = "seconds")]
    pub stuck: Duration,
    /// Requests in each second for each action.
    pub rate: u32,
    /// For how long describes may still show the old state.
    #[serde(with = "seconds")]
    pub consistency: Duration,
    /// The limits that DescribeQuota lists.
    pub quotas: BTreeMap<String, i64>,
    /// Where identifiers and faults come from.
    pub seed: u64,
    /// What goes wrong, and how often.
    pub faults: Faults,
    /// How targets come to be healthy.
    pub health: HealthSource,
    /// Whether deleting load balancers in use, or many of them, is refused.
    pub delete_guards: bool,
    /// Whether unbinding a target that is not bound fails its listener's part, or does nothing.
    pub strict_deregister: bool,
    /// When its clock starts, in Unix seconds.
    pub start: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "ap-guangzhou".to_owned(),
            keys: vec![("AKIDemulator".to_owned(), "emulator-secret".to_owned())],
            denied: Vec::new(),
            vpcs: vec![Vpc {
                id: "vpc-emulator".to_owned(),
                subnets: vec![Subnet { id: "subnet-emulator".to_owned(), cidr: Cidr::DEFAULT }],
            }],
            latency: Duration::from_millis(100),
            task: Duration::from_secs(1),
            stuck: Duration::from_secs(600),
            rate: 20,
            consistency: Duration::ZERO,
            quotas: quotas(),
            seed: 0,
            faults: Faults::default(),
            health: HealthSource::Healthy,
            delete_guards: true,
            strict_deregister: true,
            start: 1_800_000_000,
        }
    }
}

/// A private network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vpc {
    /// Such as `vpc-12345678`.
    pub id: String,
    /// Where internal load balancers get their addresses.
    pub subnets: Vec<Subnet>,
}

/// A part of a private network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subnet {
    /// Such as `subnet-12345678`.
    pub id: String,
    /// Such as `10.0.0.0/24`.
    pub cidr: Cidr,
}

/// What goes wrong: probabilities from 0 to 1.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A call is refused as one too many.
    pub throttle: f64,
    /// A call is answered by an internal error, half of the time by one of the gateway (HTTP 503), and has no effect.
    pub internal_error: f64,
    /// A write takes effect, and is answered by the gateway's timeout (HTTP 504).
    pub reply_lost_after_commit: f64,
    /// A task fails at its end, without effect.
    pub task_failed: f64,
    /// A task takes very long.
    pub task_stuck: f64,
    /// A listener's part of a batch fails.
    pub partial_failure: f64,
    /// Since the emulator's start; nothing goes wrong afterwards.
    #[serde(with = "maybe_seconds")]
    pub until: Option<Duration>,
}

/// How targets come to be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum HealthSource {
    /// Each target is.
    Healthy,
    /// Each that the emulator can open a TCP connection to.
    Connect,
    /// Those that were set to be; a target that was never set is not.
    Table,
}

fn quotas() -> BTreeMap<String, i64> {
    [
        ("TOTAL_OPEN_CLB_QUOTA", 100),
        ("TOTAL_INTERNAL_CLB_QUOTA", 100),
        ("TOTAL_LISTENER_QUOTA", 50),
        ("TOTAL_LISTENER_RULE_QUOTA", 50),
        ("TOTAL_TARGET_BIND_QUOTA", 200),
        ("TOTAL_SNAT_IP_QUOTA", 10),
        ("TOTAL_ISP_CLB_QUOTA", 15),
        ("TOTAL_FULL_PORT_RANGE_LISTENER_QUOTA", 1),
    ]
    .into_iter()
    .map(|(id, limit)| (id.to_owned(), limit))
    .collect()
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod maybe_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(D::Error::custom)
    }

    #[allow(clippy::ref_option)] // serde asks for this form.
    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|d| d.as_secs_f64()).serialize(to)
    }
}
