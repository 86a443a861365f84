//! Keeps a flood of bad input from filling the disk with log lines.

use crate::lookup::Lookup;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Lines let through in each [`WINDOW`].
const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(1);
/// How often one and the same warning about one machine is shown.
const REPEAT: Duration = Duration::from_secs(60);
/// Warnings remembered in order not to be repeated.
const REPEATS_MAX: usize = 256;

/// Warnings about what others sent: the same about one machine once a minute, and at most
/// [`LINES_MAX`] each second; the rest is counted.
#[derive(Debug)]
pub(crate) struct LogLimit {
    window: Option<Instant>,
    lines: u32,
    repeats: Lookup<(IpAddr, String), Repeat>,
}

/// A warning that was shown.
#[derive(Debug)]
struct Repeat {
    shown: Instant,
    /// Times it was not shown since.
    hidden: u32,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self { window: None, lines: 0, repeats: Lookup::new(REPEATS_MAX) }
    }
}

impl LogLimit {
    /// Logs that a connection was closed. Whoever it was mostly comes again, and to the same end:
    /// the first time is shown, then one a minute with a count.
    pub(crate) fn warn_closed(&mut self, peer: SocketAddr, why: &dyn Display) {
        let why = why.to_string();
        match self.count_repeat(peer.ip(), &why, Instant::now()) {
            None => {}
            Some(0) => self.warn(&format_args!("connection with {peer} closed: {why}")),
            Some(hidden) => self.warn(&format_args!(
                "connection with {peer} closed: {why} ({hidden} times more since it was last shown)"
            )),
        }
    }

    /// Whether to show it, and how often it was not since it was last shown.
    fn count_repeat(&mut self, from: IpAddr, text: &str, now: Instant) -> Option<u32> {
        let key = (from, text.to_owned());
        let Some(repeat) = self.repeats.get_mut(&key) else {
            self.repeats.insert(key, Repeat { shown: now, hidden: 0 });
            return Some(0);
        };
        if now.duration_since(repeat.shown) < REPEAT {
            repeat.hidden = repeat.hidden.saturating_add(1);
            return None;
        }
        repeat.shown = now;
        Some(std::mem::take(&mut repeat.hidden))
    }

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
    fn what_goes_on_and_on_is_shown_once_a_minute_with_a_count() {
        let mut limit = LogLimit::default();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let from = |last| IpAddr::from([127, 0, 0, last]);
        let mut at = |s: u32, last, text| limit.count_repeat(from(last), text, start + second * s);
        assert_eq!(at(0, 1, "of another cluster"), Some(0));
        assert!((1..60).all(|s| at(s, 1, "of another cluster").is_none()));
        assert_eq!(at(1, 1, "of another version"), Some(0), "something else");
        assert_eq!(at(1, 2, "of another cluster"), Some(0), "somebody else");
        assert_eq!(at(60, 1, "of another cluster"), Some(59));
        assert_eq!(at(61, 1, "of another cluster"), None);
    }

    #[test]
    fn a_flood_of_warnings_is_cut_and_a_later_one_is_shown_again() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        let shown = (0..10_000).filter(|_| limit.admit(start)).count();
        assert_eq!(shown, 20);
        assert!(limit.admit(start + WINDOW));
    }
}
