//! The two clocks of a process.

use crate::types::{Instant, Now, WallMs};
use std::time::SystemTime;

/// Reads both clocks. Monotonic time counts from the clock's making and refuses to run
/// backwards, whatever the system says: timeouts rest on it.
#[derive(Debug)]
pub struct Clock {
    start: std::time::Instant,
    latest: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now(), latest: Instant(0) }
    }

    /// Both clocks, read once.
    pub fn now(&mut self) -> Now {
        self.latest = self.latest.max(Instant(0).after(self.start.elapsed()));
        Now { mono: self.latest, wall: wall() }
    }
}

/// Wall time; a clock set before 1970 reads as 1970.
fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_runs_backwards() {
        let mut clock = Clock::start();
        let first = clock.now().mono;
        clock.latest = first.after_ms(60_000);
        assert_eq!(clock.now().mono, first.after_ms(60_000));
    }
}
