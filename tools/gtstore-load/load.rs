//! The loop: keeps a fixed number of requests in flight, and accounts for every one of them.
//!
//! ```text
//! Opening --all connected, or long enough--> Loading --enough asked, or told to stop--> Draining
//! ```
//! A *worker* is the right to have one request in flight: it asks, waits for its answer, asks
//! again. Its place and its generation are the request's id, so a late answer finds nobody. With
//! forwarder routing each worker keeps to its connection; with direct routing it takes whichever
//! leads to an owner of the key.
//!
//! A connection that breaks, or on which nothing comes for [`HOP_MS_MAX`] while an answer is due, is
//! dialed anew, to the next node. What was asked on it is asked once more, as the client library
//! would: a put under its old name, as a further attempt. Its time goes on counting from the first.
//!
//! With a rate the loop is open: operations begin when they are due, as long as there are idle workers,
//! and their times count from when they were due.
//!
//! One turn: hear what came, look at the clock's errands at each tick, put idle workers to work,
//! write once to each socket.

#![allow(clippy::print_stderr, reason = "the live line is for the user")]

use crate::cluster::Cluster;
use crate::data::Data;
use crate::fleet::Fleet;
use crate::options::{Routing, Settings, Until};
use crate::report;
use crate::stats::{Done, Stats, Trouble};
use crate::workload::{Op, OpKind, Workload};
use gtstore::clock::HybridClock;
use gtstore::limits::CLIENT_HOP_MS;
use gtstore::ring::{KeyspaceSettings, Table};
use gtstore::shell::clock::Clock;
use gtstore::shell::net::{Net, NetEvent};
use gtstore::types::{ConnId, Instant, Now, OpId, RequestId, Stamp};
use gtstore::version::Content;
use gtstore::wire::Message;
use gtstore::wire::client::{
    ClientReply, ClientRequest, DataReply, DataRequest, DataResult, Reason, Terms, Write,
};
use gtstore::wire::decode_table;
use gtstore::wire::frame::Frame;
use gtstore::wire::peer::Worth;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often timeouts, redials and the end are looked at, in milliseconds.
const TICK_MS: u64 = 10;
/// How long connections may take to open before the load begins without the rest.
const OPEN_WITHIN_MS: u64 = 2000;
/// How long there may be no connection at all before the load is given up.
const ALONE_MS_MAX: u64 = 10_000;
/// Least time between two questions for a newer table.
const TABLE_GAP_MS: u64 = 200;
/// The request id of that question; no worker has it.
const TABLE: RequestId = RequestId(u64::MAX);
/// How long a connection may be silent while it owes an answer, in milliseconds; half the time of a
/// request if that is less.
const HOP_MS_MAX: u32 = CLIENT_HOP_MS as u32;
/// How often the live line is told.
const LINE_MS: u64 = 1000;

/// How a load came to its end.
#[derive(Debug)]
pub enum Ending {
    /// As asked for, or as the user wished.
    Complete,
    /// There was nobody left to ask; why, and what to do.
    GaveUp(String),
}

/// A load, from its first connection to its last answer.
#[derive(Debug)]
pub struct Load {
    net: Net,
    clock: Clock,
    stamps: HybridClock,
    stop: Arc<AtomicBool>,
    until: Until,
    /// Operations to begin in each second; none: as many as there are idle workers for.
    rate: Option<u64>,
    routing: Routing,
    pipeline: usize,
    timeout_ms: u32,
    /// Whether what was asked on a lost connection is asked again.
    retries: bool,
    fleet: Fleet,
    table: Table,
    table_asked: Option<Instant>,
    /// Copies of the keyspace.
    n: u8,
    workload: Workload,
    data: Data,
    messages: Messages,
    workers: Vec<Worker>,
    /// Those with nothing in flight.
    idle: Vec<usize>,
    /// Those whose request is to be asked again.
    lost: Vec<usize>,
    asked: u64,
    phase: Phase,
    tick_at: Instant,
    /// When there last was a connection.
    connected: Instant,
    /// When the next live line is due, and when the last one was told.
    line_at: Instant,
    line_told: Instant,
    stats: Stats,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Opening { since: Instant },
    Loading { since: Instant },
    Draining,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    generation: u32,
    in_flight: Option<InFlight>,
}

/// A request that is out.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    op: Op,
    /// Where it was asked; none while it waits to be asked again.
    conn: Option<ConnId>,
    link: usize,
    /// When it was first asked; with a rate: when it was to be.
    sent: Instant,
    /// When it was last asked.
    tried: Instant,
    /// A put's name and stamp.
    write: Option<(OpId, Stamp)>,
    attempt: u8,
}

/// One message of each kind, filled in anew for each operation.
#[derive(Debug)]
struct Messages {
    get: ClientRequest,
    put: ClientRequest,
}

impl Load {
    /// Ready to begin.
    ///
    /// # Errors
    /// The system lacks randomness, or memory for histograms.
    pub fn new(
        settings: &Settings,
        net: Net,
        cluster: Cluster,
        keyspace: KeyspaceSettings,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        let mut clock = Clock::start();
        let now = clock.now().mono;
        let fleet = Fleet::new(cluster.targets(settings.routing), settings.conns, settings.routing)
            .map_err(|error| format!("no random ids: {error}"))?;
        Ok(Self {
            net,
            clock,
            stamps: HybridClock::default(),
            stop,
            until: settings.until,
            rate: settings.rate,
            routing: settings.routing,
            pipeline: settings.pipeline,
            timeout_ms: settings.timeout_ms,
            retries: settings.retries,
            fleet,
            table: cluster.table,
            table_asked: None,
            n: keyspace.n,
            workload: Workload::new(settings),
            data: Data::new(&settings.key_prefix, settings.value_bytes),
            messages: Messages::new(settings),
            workers: vec![Worker::default(); settings.in_flight()],
            idle: (0..settings.in_flight()).rev().collect(),
            lost: Vec::new(),
            asked: 0,
            phase: Phase::Opening { since: now },
            tick_at: now,
            connected: now,
            line_at: now,
            line_told: now,
            stats: Stats::new(now)?,
        })
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// Sockets cannot be polled.
    pub fn run(mut self) -> Result<(Stats, Ending), String> {
        let mut events = Vec::new();
        loop {
            let now = self.clock.now();
            if now.mono >= self.tick_at {
                if let Some(ending) = self.on_tick(now.mono) {
                    return Ok((self.stats, ending));
                }
                self.tick_at = now.mono.after_ms(TICK_MS);
            }
            self.put_to_work(now);
            self.net.flush();
            let wake = self.next_due().map_or(self.tick_at, |due| due.min(self.tick_at));
            let wait = Duration::from_micros(wake.micros_since(now.mono));
            self.net
                .poll(Some(wait), &mut events)
                .map_err(|error| format!("cannot poll sockets: {error}"))?;
            let now = self.clock.now().mono;
            for event in events.drain(..) {
                self.on_event(now, event);
            }
        }
    }

    fn on_event(&mut self, now: Instant, event: NetEvent) {
        match event {
            NetEvent::Frame { conn, frame } if frame.request == TABLE => self.on_table(conn, frame),
            NetEvent::Frame { conn, frame } => self.on_answer(now, conn, frame),
            NetEvent::Welcomed { conn, .. } => self.fleet.welcomed(conn, now),
            NetEvent::Closed { conn, why } => {
                log::debug!("connection closed: {why}");
                self.fleet.closed(conn, now);
                self.lose(now, conn);
            }
            NetEvent::Opened { .. } | NetEvent::Connected { .. } | NetEvent::Woken => {}
        }
    }

    /// The clock's errands. Gives the ending once there is nothing more to wait for.
    fn on_tick(&mut self, now: Instant) -> Option<Ending> {
        let timeout_us = u64::from(self.timeout_ms) * 1000;
        self.fail_where(now, |request| now.micros_since(request.sent) >= timeout_us, |_| Trouble::Timeout);
        self.leave_silent(now);
        self.fleet.dial_due(&mut self.net, now);
        let (up, all) = self.fleet.up();
        if up > 0 {
            self.connected = now;
        } else if now >= self.connected.after_ms(ALONE_MS_MAX) {
            return Some(Ending::GaveUp(format!(
                "no node could be reached for {} s; see `gtstore status`",
                ALONE_MS_MAX / 1000
            )));
        }
        self.phase = match self.phase {
            Phase::Opening { .. } if self.stop.load(Ordering::Relaxed) => Phase::Draining,
            Phase::Opening { since } if up == all || (up > 0 && now >= since.after_ms(OPEN_WITHIN_MS)) => {
                self.stats.begin(now);
                (self.line_at, self.line_told) = (now.after_ms(LINE_MS), now);
                Phase::Loading { since: now }
            }
            Phase::Loading { since } if self.is_enough(now, since) => Phase::Draining,
            Phase::Opening { .. } | Phase::Loading { .. } | Phase::Draining => self.phase,
        };
        self.tell(now, up);
        let is_done = self.phase == Phase::Draining && self.idle.len() == self.workers.len();
        is_done.then_some(Ending::Complete)
    }

    /// The live line, each second.
    fn tell(&mut self, now: Instant, up: usize) {
        let is_begun = !matches!(self.phase, Phase::Opening { .. });
        if is_begun && now >= self.line_at {
            let since_us = now.micros_since(self.line_told);
            eprintln!("{}", report::line(&self.stats, now, since_us, (up, self.fleet.up().1)));
            self.stats.lately.reset();
            self.line_told = now;
            // On the second, unless the machine stood still for that long.
            self.line_at = self.line_at.after_ms(LINE_MS).max(now);
        }
    }

    fn is_enough(&self, now: Instant, since: Instant) -> bool {
        let is_over = match self.until {
            Until::Ops(ops) => self.asked >= ops,
            Until::Elapsed(duration) => now >= since.after(duration),
        };
        is_over || self.stop.load(Ordering::Relaxed)
    }

    /// What was asked on a connection that is gone is to be asked again, or has failed.
    fn lose(&mut self, now: Instant, conn: ConnId) {
        if self.retries {
            for (worker, row) in self.workers.iter_mut().enumerate() {
                if let Some(request) = row
                    .in_flight
                    .as_mut()
                    .filter(|request| request.conn == Some(conn) && request.attempt == 0)
                {
                    request.conn = None;
                    request.attempt = 1;
                    // An answer to the first question finds nobody.
                    row.generation = row.generation.wrapping_add(1);
                    self.lost.push(worker);
                }
            }
        }
        self.fail_where(
            now,
            |request| request.conn == Some(conn),
            |kind| match kind {
                OpKind::Get => Trouble::NoAnswer,
                OpKind::Put => Trouble::Unknown,
            },
        );
    }

    /// Gives up connections that owe an answer and have been silent for too long.
    fn leave_silent(&mut self, now: Instant) {
        let hop_us = u64::from(HOP_MS_MAX.min(self.timeout_ms / 2)) * 1000;
        let due = self.workers.iter().filter_map(|row| row.in_flight);
        let mut silent: Vec<ConnId> = due
            .filter(|request| now.micros_since(request.tried) >= hop_us)
            .filter(|request| !self.fleet.is_heard_since(request.link, request.tried))
            .filter_map(|request| request.conn)
            .collect();
        silent.sort_unstable();
        silent.dedup();
        for conn in silent {
            self.net.close(conn);
            self.fleet.leave(conn, now);
            self.lose(now, conn);
        }
    }

    /// Gives every idle worker a request, as far as there are connections for it, after what is to
    /// be asked again.
    fn put_to_work(&mut self, now: Now) {
        let mut lost = std::mem::take(&mut self.lost);
        lost.retain(|&worker| !self.ask_again(now, worker));
        self.lost = lost;
        let Phase::Loading { .. } = self.phase else { return };
        let ops_max = match self.until {
            Until::Ops(ops) => ops,
            Until::Elapsed(_) => u64::MAX,
        };
        let mut idle = std::mem::take(&mut self.idle);
        idle.retain(|&worker| self.asked >= ops_max || !self.ask(now, worker));
        self.idle = idle;
    }

    /// When the next operation is to begin, if there is a rate: then it counts from that time, even if
    /// no worker is idle (else a slow answer would hide how long those behind it had to wait).
    fn next_due(&self) -> Option<Instant> {
        let (Some(rate), Phase::Loading { since }) = (self.rate, self.phase) else { return None };
        Some(since.after_us(self.asked.saturating_mul(1_000_000) / rate))
    }

    /// Sends a worker's next request. False if there is no connection for it.
    fn ask(&mut self, now: Now, worker: usize) -> bool {
        if !self.can_ask(worker) {
            return false;
        }
        let due = self.next_due();
        if due.is_some_and(|due| due > now.mono) {
            return false;
        }
        let op = self.workload.next_op();
        let sent = due.unwrap_or(now.mono);
        let new = InFlight { op, conn: None, link: 0, sent, tried: now.mono, write: None, attempt: 0 };
        let is_sent = self.send(now, worker, new);
        self.asked += u64::from(is_sent);
        is_sent
    }

    /// Sends a worker's request once more. False if there is no connection for it.
    fn ask_again(&mut self, now: Now, worker: usize) -> bool {
        let request = self.workers.get(worker).and_then(|row| row.in_flight);
        // Its time may have passed meanwhile.
        let Some(request) = request.filter(|request| request.conn.is_none()) else { return true };
        let is_sent = self.can_ask(worker) && self.send(now, worker, request);
        self.stats.asked_again += u64::from(is_sent);
        is_sent
    }

    fn can_ask(&self, worker: usize) -> bool {
        match self.routing {
            Routing::Forwarder => self.fleet.conn(worker / self.pipeline).is_some(),
            Routing::Direct => self.fleet.is_connected(),
        }
    }

    fn send(&mut self, now: Now, worker: usize, mut new: InFlight) -> bool {
        let key = self.data.key(new.op.key);
        let (link, direct) = match self.routing {
            Routing::Forwarder => (worker / self.pipeline, false),
            Routing::Direct => self.way_to(&key),
        };
        let Some(conn) = self.fleet.conn(link) else { return false };
        let Some(row) = self.workers.get_mut(worker) else { return false };
        let request = RequestId(u64::from(row.generation) << 32 | worker as u64);
        let spent_ms = u32::try_from(now.mono.micros_since(new.sent) / 1000).unwrap_or(u32::MAX);
        let ttl_ms = self.timeout_ms.saturating_sub(spent_ms).max(1);
        let worth = Worth { ttl_ms, sent_us: now.mono.0 };
        if new.op.kind == OpKind::Put && new.write.is_none() {
            let stamp = self.stamps.stamp(now.wall, Stamp::default());
            new.write = Some((self.fleet.name_write(link), stamp));
        }
        let put = new.write.map(|(op, stamp)| (op, new.attempt, stamp, self.data.value(&key, stamp.0)));
        let message = self.messages.fill(worth, key, direct, put);
        if !self.net.send(conn, request, message) {
            return false;
        }
        row.in_flight = Some(InFlight { conn: Some(conn), link, tried: now.mono, ..new });
        true
    }

    /// The connection for a key: to the first of its owners that there is one to; else to
    /// anybody, who then has to forward.
    fn way_to(&mut self, key: &[u8]) -> (usize, bool) {
        let sector = self.table.sector(self.table.sector_of(key));
        let owner = sector.holders(self.n.into()).find_map(|node| self.fleet.link_to(node));
        match owner {
            Some(link) => (link, true),
            None => (self.fleet.link_to_any().unwrap_or(0), false),
        }
    }

    /// An answer to a worker's request, or a late one.
    fn on_answer(&mut self, now: Instant, conn: ConnId, frame: Frame) {
        let worker = (frame.request.0 & u64::from(u32::MAX)) as usize;
        let generation = (frame.request.0 >> 32) as u32;
        let Some(row) = self.workers.get(worker).filter(|row| row.generation == generation) else { return };
        let Some(request) = row.in_flight.filter(|request| request.conn == Some(conn)) else { return };
        self.fleet.heard(request.link, now);
        let done = match ClientReply::decode(frame.kind, frame.body) {
            Ok(ClientReply::Data(reply)) => self.judge(now, conn, request.op, reply),
            Ok(_) | Err(_) => Done::Failed(Trouble::Wrong),
        };
        self.finish(now, worker, done);
    }

    fn judge(&mut self, now: Instant, conn: ConnId, op: Op, reply: DataReply) -> Done {
        match (op.kind, reply.result) {
            (OpKind::Put, DataResult::Stored { .. }) => Done::Right,
            (OpKind::Get, DataResult::Missing { .. }) => Done::Missing,
            (OpKind::Get, DataResult::Found { values, .. }) => {
                let data = &mut self.data;
                let all_right =
                    !values.is_empty() && values.iter().all(|version| data.is_right(op.key, &version.value));
                if all_right { Done::Right } else { Done::Failed(Trouble::Wrong) }
            }
            (kind, DataResult::Refused(reason)) => {
                if let Reason::NotOwner(epoch) = reason
                    && epoch > self.table.epoch
                {
                    self.ask_table(now, conn);
                }
                Done::Failed(Trouble::of(kind, reason))
            }
            (OpKind::Get, DataResult::Stored { .. })
            | (OpKind::Put, DataResult::Found { .. } | DataResult::Missing { .. }) => {
                Done::Failed(Trouble::Wrong)
            }
        }
    }

    /// The worker's request has ended, and the worker is idle.
    fn finish(&mut self, now: Instant, worker: usize, done: Done) {
        let Some(row) = self.workers.get_mut(worker) else { return };
        let Some(request) = row.in_flight.take() else { return };
        row.generation = row.generation.wrapping_add(1);
        self.idle.push(worker);
        self.stats.record(now, request.op.kind, request.sent, done);
    }

    fn fail_where(
        &mut self,
        now: Instant,
        is_meant: impl Fn(&InFlight) -> bool,
        trouble: impl Fn(OpKind) -> Trouble,
    ) {
        for worker in 0..self.workers.len() {
            let request = self.workers.get(worker).and_then(|row| row.in_flight);
            if let Some(request) = request.filter(&is_meant) {
                self.finish(now, worker, Done::Failed(trouble(request.op.kind)));
            }
        }
    }

    /// Asks for a newer table, unless that was asked just now.
    fn ask_table(&mut self, now: Instant, conn: ConnId) {
        if self.table_asked.is_none_or(|asked| now >= asked.after_ms(TABLE_GAP_MS)) {
            self.table_asked = Some(now);
            self.net.send(conn, TABLE, &ClientRequest::Table { known: self.table.epoch });
        }
    }

    fn on_table(&mut self, conn: ConnId, frame: Frame) {
        match ClientReply::decode(frame.kind, frame.body) {
            Ok(ClientReply::Table(bytes)) => match decode_table(bytes) {
                Ok(table) => self.table = table,
                Err(error) => self.net.reject(conn, &error),
            },
            Ok(_) => {}
            Err(error) => self.net.reject(conn, &error),
        }
    }
}

impl Messages {
    fn new(settings: &Settings) -> Self {
        let terms = |quorum| Terms { keyspace: settings.keyspace.clone(), quorum, ..Terms::default() };
        let write = Write {
            content: Content::Tombstone,
            context: None,
            op: OpId::default(),
            attempt: 0,
            stamp: Stamp::default(),
            ttl_ms: None,
        };
        let data = |request| ClientRequest::Data { worth: Worth::default(), request };
        Self {
            get: data(DataRequest::Get { terms: terms(settings.r) }),
            put: data(DataRequest::Put { terms: terms(settings.w), write }),
        }
    }

    /// The message for one operation: a put if there is something to write.
    fn fill(
        &mut self,
        worth: Worth,
        key: bytes::Bytes,
        direct: bool,
        put: Option<(OpId, u8, Stamp, bytes::Bytes)>,
    ) -> &ClientRequest {
        let message = if put.is_some() { &mut self.put } else { &mut self.get };
        if let ClientRequest::Data { worth: old_worth, request } = message {
            *old_worth = worth;
            let terms = request.terms_mut();
            (terms.key, terms.direct) = (key, direct);
            if let (DataRequest::Put { write, .. }, Some((op, attempt, stamp, value))) = (request, put) {
                (write.op, write.attempt, write.stamp) = (op, attempt, stamp);
                write.content = Content::Value(value);
            }
        }
        message
    }
}
