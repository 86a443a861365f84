//! A cluster of real processes on loopback: what it promises, and what it makes of harm.
//!
//! Each test has a cluster of its own; ports come from the kernel and every wait is for a
//! condition. What a simulated cluster can show, `gtstore::sim` shows over many more seeds: here
//! are sockets, files, signals and the binaries themselves.

#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers fail the test.

mod away;
mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod expiry;
mod failures;
mod members;
mod membership;
mod repair;
mod requests;
mod restart;
mod shoppers;
mod signals;
mod spread;
mod traces;
