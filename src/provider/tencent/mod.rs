//! Tencent Cloud's CLB: from items to API calls and back.
//!
//! `ops` is what is written and read, `cloud` turns it into calls, `client` signs them (`sign`), `replies` and `error` read
//! what comes back, `limits` is what the API takes. Waiting, batching and trying again are the sync engine's.

mod client;
mod cloud;
mod error;
mod limits;
mod ops;
mod replies;
mod sign;

pub use client::{Client, Transport};
pub use cloud::Tencent;
pub use error::kind;
pub use limits::limits;
pub use ops::{
    ACTIONS, Answer, Binding, Bound, HealthCheck, HealthState, Listener, ListenerSettings, LoadBalancer, NewListener,
    NewLoadBalancer, NewRule, Place, Read, Tag, TargetHealth, Write,
};
pub use sign::{Credentials, Request, authorization};
