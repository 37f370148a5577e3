//! The controller under virtual time, against an API server and a cluster that live in memory.
//!
//! Everything runs on one thread of a paused tokio runtime, so an hour takes milliseconds, and a seed decides each
//! fault: the same seed gives the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The simulated API server and cluster keep tokio's virtual time themselves.
#![allow(clippy::disallowed_methods)]
// The simulation is a library for the scenarios; each uses a part of it.
#![allow(dead_code)]

mod apiserver;
mod apiserver_apply_tests;
mod apiserver_fault_tests;
mod apiserver_tests;
mod controller_tests;
mod gates_tests;
mod kubelet;
mod nodes_tests;
mod proxies;
mod seeds_tests;
mod workloads;
mod workloads_tests;
mod world;
