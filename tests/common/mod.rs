//! What tests over real processes share: processes, clusters of them, and a client of one node.
//!
//! Ports come from the kernel, every wait is for a condition with a deadline, and every process is
//! ended by its own handle when its test is done with it.

#![allow(dead_code)] // Each test crate uses its own part of this.

pub mod client;
pub mod cluster;
pub mod process;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The manager's binary.
pub const MANAGER: &str = env!("CARGO_BIN_EXE_gtstore-manager");
/// The storage node's binary.
pub const STORAGE: &str = env!("CARGO_BIN_EXE_gtstore-storage");

/// How long anything is waited for before the test fails: far above what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until there is something, and fails after [`PATIENCE`].
pub fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells threads to stop.
#[derive(Default)]
pub struct Stop(AtomicBool);

/// Tells threads to stop when it is dropped, so that a failed assertion does not leave them running.
pub struct StopGuard<'a>(&'a Stop);

impl Stop {
    /// Whether they are told to.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Tells them to when the guard goes.
    pub fn guard(&self) -> StopGuard<'_> {
        StopGuard(self)
    }
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
