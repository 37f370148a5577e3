//! Tests that leave the rest of the cluster alone: they run side by side, each in a namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod addresses;
mod bad_input;
mod check;
mod clb;
mod clb_troubles;
mod gates;
mod kubectl;
mod leaving;
mod metrics;
mod protocols;
mod rollouts;
mod schedulers;
mod targets;
