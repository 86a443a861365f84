//! What the loops of the two servers stand on: the poll, the disk, the clock and the signals.
//!
//! One turn of either loop:
//! ```text
//! wait      poll until something happens or a deadline passes; collect it in a `Turn`
//! handle    inputs of the machine, its outputs carried out in order; the turn's records go to
//!           the log thread as one request
//! end_turn  one write per socket that has something to say
//! ```
//! What the log thread reports wakes the poll, so acknowledgements leave with the turn in which
//! their sync was heard of.

#![allow(clippy::print_stdout, clippy::print_stderr)] // Ready lines and the last words of a process.

use super::clock::Clock;
use super::files::Files;
use super::log_thread::LogThread;
use super::net::{Net, NetEvent};
use super::signals::StopSignals;
use crate::engine::{DiskEvent, DiskRequest};
use crate::types::{Instant, Now};
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// How long a process that was told to stop may take to finish what is in hand.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the last replies of a process may take to leave.
const DRAIN_WITHIN: Duration = Duration::from_millis(500);
/// How often the loop says how it is doing, at debug level.
const METER_EVERY: Duration = Duration::from_secs(10);
/// A turn that took so long has kept everybody waiting.
const STALL_US: u64 = 100_000;
/// How often that is said at most.
const STALL_TOLD_EVERY: Duration = Duration::from_secs(1);

/// Poll, disk, clock and signals of one process.
pub(super) struct Server {
    pub(super) net: Net,
    log: LogThread,
    clock: Clock,
    signals: StopSignals,
    /// Set by the first signal.
    stop_by: Option<Instant>,
    meter: Meter,
}

/// What happened in one wait.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) now: Now,
    pub(super) net: Vec<NetEvent>,
    pub(super) disk: Vec<DiskEvent>,
    /// The operator has just asked for the end.
    pub(super) stop: bool,
    /// The time given for that is over.
    pub(super) is_overdue: bool,
}

impl Server {
    /// Hands the directory to its thread and takes the signals over.
    pub(super) fn start(mut net: Net, files: Files) -> Result<Self, String> {
        let log = LogThread::start(files, net.waker())
            .map_err(|error| format!("cannot start the log thread: {error}"))?;
        let signals =
            StopSignals::install(&mut net).map_err(|error| format!("cannot take signals over: {error}"))?;
        Ok(Self { net, log, clock: Clock::start(), signals, stop_by: None, meter: Meter::default() })
    }

    /// Both clocks.
    pub(super) fn now(&mut self) -> Now {
        self.clock.now()
    }

    /// Waits until something happens or the deadline passes, and puts it into `turn`.
    pub(super) fn wait(&mut self, turn: &mut Turn, deadline: Option<Instant>) -> Result<(), String> {
        let now = self.clock.now().mono;
        let due = deadline.into_iter().chain(self.stop_by).min();
        let timeout = due.map(|due| Duration::from_micros(due.micros_since(now)));
        self.net.poll(timeout, &mut turn.net).map_err(|error| format!("cannot poll sockets: {error}"))?;
        turn.now = self.clock.now();
        self.meter.begin(turn.now.mono);
        self.log.take_events(&mut turn.disk)?;
        let was_woken = turn.net.iter().any(|event| matches!(event, NetEvent::Woken));
        turn.stop = was_woken && self.signals.take();
        if turn.stop {
            log::info!("stopping: finishing what is in hand");
            self.stop_by = Some(turn.now.mono.after(STOP_WITHIN));
        }
        turn.is_overdue = self.stop_by.is_some_and(|by| by <= turn.now.mono);
        if turn.is_overdue {
            log::warn!("requests in hand were not finished within {} s", STOP_WITHIN.as_secs());
        }
        Ok(())
    }

    /// Hands a request to the disk.
    pub(super) fn submit(&self, request: DiskRequest) -> Result<(), String> {
        self.log.submit(request)
    }

    /// What the disk has done since this was last asked: what was submitted may have been written
    /// there and then.
    pub(super) fn disk_events(&self) -> Result<Vec<DiskEvent>, String> {
        let mut events = Vec::new();
        self.log.take_events(&mut events)?;
        Ok(events)
    }

    /// Sends out what the turn has produced.
    pub(super) fn end_turn(&mut self) {
        self.net.flush();
        let now = self.clock.now().mono;
        self.meter.end(now);
    }

    /// Lets the last replies leave, and makes everything written durable.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let until = self.clock.now().mono.after(DRAIN_WITHIN);
        while self.net.has_queued() && self.clock.now().mono < until {
            let polled = self.net.poll(Some(Duration::from_millis(10)), &mut Vec::new());
            polled.map_err(|error| format!("cannot poll sockets: {error}"))?;
            self.net.flush();
        }
        self.log.finish()
    }
}

/// How long the loop's turns take, from being woken to having sent everything.
#[derive(Default)]
struct Meter {
    began: Instant,
    told: Instant,
    turns: u64,
    busy_us: u64,
    slowest_us: u64,
    /// Turns that took over a millisecond.
    over_1_ms: u64,
    /// Turns that took over [`STALL_US`], since the start, and how many of them have been told.
    stalls: u64,
    stalls_told: u64,
    stall_told: Option<Instant>,
}

impl Meter {
    fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    fn end(&mut self, now: Instant) {
        let took_us = now.micros_since(self.began);
        self.turns += 1;
        self.busy_us += took_us;
        self.slowest_us = self.slowest_us.max(took_us);
        self.over_1_ms += u64::from(took_us > 1_000);
        if took_us > STALL_US {
            self.stalled(now, took_us);
        }
        if now >= self.told.after(METER_EVERY) {
            log::debug!(
                "loop: {} turns, busy {} ms, slowest {} us, {} over 1 ms; {} stalls since the start",
                self.turns,
                self.busy_us / 1000,
                self.slowest_us,
                self.over_1_ms,
                self.stalls
            );
            let Self { stalls, stalls_told, stall_told, .. } = *self;
            *self = Self { told: now, stalls, stalls_told, stall_told, ..Self::default() };
        }
    }

    /// One turn took too long. Returns whether that was told.
    fn stalled(&mut self, now: Instant, took_us: u64) -> bool {
        self.stalls += 1;
        if self.stall_told.is_some_and(|told| now < told.after(STALL_TOLD_EVERY)) {
            return false;
        }
        log::warn!(
            "the loop stood still for {} ms; everything waited for it ({} times since it was last said, \
             {} in all); is the machine overloaded, or its disk?",
            took_us / 1000,
            self.stalls - self.stalls_told,
            self.stalls
        );
        self.stall_told = Some(now);
        self.stalls_told = self.stalls;
        true
    }
}

/// A poll that listens, and the address bound.
pub(super) fn listen(addr: SocketAddr) -> Result<(Net, SocketAddr), String> {
    let mut net = Net::new().map_err(|error| format!("cannot poll sockets: {error}"))?;
    let bound = net.listen(addr).map_err(|error| {
        format!(
            "cannot listen on {addr}: {error}. \
             Choose another address with --listen HOST:PORT; port 0 picks a free one"
        )
    })?;
    Ok((net, bound))
}

/// Logs go to stderr, from level info unless `RUST_LOG` says otherwise.
pub(super) fn init_logging() {
    let level = env_logger::Env::default().default_filter_or("info");
    if env_logger::Builder::from_env(level).try_init().is_err() {
        log::debug!("logging was set up already");
    }
}

/// Prints a line for whoever started the process. A closed stdout is no reason to stop.
pub(super) fn announce(line: &dyn Display) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        log::debug!("stdout is closed: {error}");
    }
}

/// The exit code of a process, with its last words.
pub(super) fn exit(name: &str, outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{name}: {text}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stall_is_counted_and_at_most_one_a_second_told() {
        let mut meter = Meter::default();
        let (mut now, mut told) = (Instant(0), 0);
        for _ in 0..100 {
            meter.begin(now);
            now = now.after(Duration::from_millis(150));
            let before = meter.stalls_told;
            meter.end(now);
            told += u64::from(meter.stalls_told > before);
            // One that is not slow.
            meter.begin(now);
            meter.end(now.after(Duration::from_millis(99)));
        }
        assert_eq!(meter.stalls, 100);
        assert!((10..=16).contains(&told), "{told} in 15 seconds");
    }
}
