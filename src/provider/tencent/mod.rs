//! Tencent Cloud's CLB: from items to API calls and back.
//!
//! `ops` is what is written and read, `cloud` turns it into calls, `client` signs them (`sign`), `replies` and `error` read
//! what comes back, `limits` is what the API takes. Waiting, batching and trying again are the sync engine's.

mod client;
mod cloud;
mod decode;
mod diff;
mod error;
mod limits;
mod names;
mod ops;
mod provider;
mod quota;
mod replies;
mod shape;
mod sign;
mod state;
mod worker;

pub use client::{Client, Transport};
pub use cloud::Tencent;
pub use error::kind;
pub use limits::limits;
pub use names::{CLUSTER_TAG, NAME_TAG, OBJECT_TAG, load_balancer as load_balancer_name};
pub use ops::{
    ACTIONS, Answer, Binding, Bound, Certificate, HealthCheck, HealthState, Listener, ListenerSettings, LoadBalancer,
    NewListener, NewLoadBalancer, NewRule, Place, Quotas, Read, Redirected, Rule, Tag, TargetHealth, Write,
};
pub use provider::{AnyTransport, Connect, Endpoint, Outside, TencentProvider};
pub use quota::{Usage, of_class as quotas_of_class};
pub use sign::{Credentials, Request, authorization};
pub use state::{Goal, Incident, LIMITS, Report, Trouble};
