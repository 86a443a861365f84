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
    /// Turns that took over a millisecond, and over a hundred.
    over_1_ms: u64,
    over_100_ms: u64,
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
        self.over_100_ms += u64::from(took_us > 100_000);
        if now >= self.told.after(METER_EVERY) {
            log::debug!(
                "loop: {} turns, busy {} ms, slowest {} us, {} over 1 ms, {} over 100 ms",
                self.turns,
                self.busy_us / 1000,
                self.slowest_us,
                self.over_1_ms,
                self.over_100_ms
            );
            *self = Self { told: now, ..Self::default() };
        }
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
