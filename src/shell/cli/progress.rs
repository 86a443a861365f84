//! How far an import or export has come: a bar that redraws itself on a terminal, a line now and
//! then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const BAR_CELLS: usize = 30;
const REDRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(5);

/// Progress on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    verb: &'static str,
    /// What is counted as done.
    unit: &'static str,
    /// What is all, in whatever `at` counts; none if that is not known.
    total: Option<u64>,
    is_terminal: bool,
    started: Instant,
    drawn: Instant,
}

impl Progress {
    pub(crate) fn new(verb: &'static str, unit: &'static str, total: Option<u64>) -> Self {
        let now = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { verb, unit, total: total.filter(|&total| total > 0), is_terminal, started: now, drawn: now }
    }

    /// `done` of what is counted are finished, `at` of the total is behind us.
    pub(crate) fn show(&mut self, done: u64, at: u64) {
        let every = if self.is_terminal { REDRAW } else { LINE };
        if self.drawn.elapsed() < every {
            return;
        }
        self.drawn = Instant::now();
        let text =
            line(self.verb, (done, self.unit), self.total.map(|total| (at, total)), self.started.elapsed());
        let (before, after) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(std::io::stderr(), "{before}{text}{after}");
    }

    /// Takes the bar away; the final count is the caller's to print.
    pub(crate) fn clear(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// Time taken so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64().max(0.001)
    }

    /// Time taken, and how many each second, for the final line.
    pub(crate) fn rate(&self, done: u64) -> String {
        let seconds = self.seconds();
        format!("{seconds:.1} s, {:.0} {}/s", done as f64 / seconds, self.unit)
    }
}

fn line(verb: &str, (done, unit): (u64, &str), share: Option<(u64, u64)>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    match share {
        Some((at, total)) => {
            let percent = at.min(total) * 100 / total;
            format!(
                "{verb} [{}] {percent:>3} %  {done} {unit}  {rate:.0}/s",
                bar(at.min(total), total, BAR_CELLS)
            )
        }
        None => format!("{verb} {done} {unit}  {rate:.0}/s"),
    }
}

/// A bar of so many cells, `at` of `total` of them full.
pub(crate) fn bar(at: u64, total: u64, cells: usize) -> String {
    let full = at.saturating_mul(cells as u64).checked_div(total).unwrap_or(0);
    let full = usize::try_from(full).unwrap_or(cells).min(cells);
    "█".repeat(full) + &"·".repeat(cells - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_its_share() {
        assert_eq!(bar(1, 2, 4), "██··");
        assert_eq!(bar(0, 0, 2), "··");
        assert_eq!(bar(9, 3, 2), "██");
        let text = line("importing", (50, "keys"), Some((1, 2)), Duration::from_secs(1));
        assert!(text.contains(" 50 %  50 keys  50/s"), "{text}");
    }
}
