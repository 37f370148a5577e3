//! Tests that disturb the whole installation: one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clb;
mod controllers;
mod injection;
mod nodes;
mod proxies;
mod repair;
mod uninstall;
