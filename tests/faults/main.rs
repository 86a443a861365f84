//! A storage node and the faults of its disk: SIGKILL under load, syncs that fail or take long, a
//! full file system. Real processes, one copy of each key, so that nothing but the node's own
//! directory can bring a write back.
//!
//! Ports come from the kernel and every wait is for a condition. What needs `strace` or root is
//! skipped with a line that says so where they are not to be had.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's helpers fail the test; figures and what was skipped are shown"
)]

#[path = "../common/mod.rs"]
mod common;
mod full_disk;
mod inspect;
mod kill;
mod ledger;
mod slow_sync;
mod strace;
mod sync_error;
