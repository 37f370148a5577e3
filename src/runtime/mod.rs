//! Everything around the controller: arguments, clock, telemetry, TLS, leadership, start and stop.

pub mod args;
pub mod check;
pub mod clock;
pub mod http;
pub mod https;
pub mod lease;
mod look;
pub mod pki;
pub mod plan;
pub mod secrets;
pub mod start;
pub mod telemetry;
pub mod tls;
pub mod tools;
