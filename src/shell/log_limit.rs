//! Keeps a flood of bad input from filling the disk with log lines.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Lines let through in each [`WINDOW`].
const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);

/// Warnings about what others sent, at most [`LINES_MAX`] each second; the rest is counted.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    window: Option<Instant>,
    lines: u32,
}

impl LogLimit {
    /// Logs one warning, or counts it if there were too many just now.
    pub(crate) fn warn(&mut self, text: &dyn Display) {
        if self.admit(Instant::now()) {
            log::warn!(target: "gtstore::shell::net", "{text}");
        }
    }

    fn admit(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            if self.lines > LINES_MAX {
                log::warn!(target: "gtstore::shell::net", "{} further warnings were not shown", self.lines - LINES_MAX);
            }
            self.window = Some(now);
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_warnings_is_cut_and_a_later_one_is_shown_again() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        let shown = (0..10_000).filter(|_| limit.admit(start)).count();
        assert_eq!(shown, 20);
        assert!(limit.admit(start + WINDOW));
    }
}
