//! The client: a sans-IO machine that finds the cluster, routes, retries and tells the outcome
//! honestly. The blocking [`Store`] on top of it is what most programs use.
//!
//! [`Client`] owns everything about calls in progress. It must never send a write twice under two
//! names, answer a call twice, or call an outcome known that is not. It is driven by
//! `shell::blocking`, and by the simulator.
//!
//! Reading order: `io` (what goes in and out), `check` (what is never sent), `row` (a call in
//! progress), this file (inputs), `place` (where a row goes next), `answer` (what a reply means),
//! `route` and `servers` (whom to ask), `budget` (retries), `error`.
//!
//! # How a call goes
//! - In `forwarder` mode the client asks a seed for contacts once, and keeps to the first of them
//!   until it fails; in `direct` and `fastest` mode it fetches the table and asks an owner.
//! - A write is given its name and its stamp when it is first sent, and keeps both, and its
//!   context, in every attempt. `attempt` counts up whenever an earlier one may have been applied.
//! - A request lost with its connection is sent again elsewhere. One that was refused with nothing
//!   done may be retried a little later, inside a budget of a tenth of all requests. A write whose
//!   answer may still come is never repeated.
//! - When time is up, a read has timed out; a write has `Failed` if no attempt can have been
//!   applied, and is `Unknown` otherwise.

mod answer;
mod budget;
mod check;
mod error;
mod io;
mod place;
mod route;
mod row;
mod servers;
#[cfg(test)]
mod tests;

pub use crate::shell::blocking::{Entry, Store, StoreOptions, Written};
pub use crate::version::Context;
pub use crate::wire::client::{Provenance, Reason, Version};
pub use error::{Error, ErrorKind};
pub use io::{Answer, Call, CallId, Input, Item, Outcome, Output, Routing, ServerId, Target};

use crate::clock::HybridClock;
use crate::limits::{CLIENT_BYTES_MAX, CLIENT_CALLS_MAX, CLIENT_HOP_MS, REQUEST_TTL_MS, REQUEST_TTL_MS_MAX};
use crate::machine::Machine;
use crate::types::{ClientId, Instant, Now, OpId, RequestId, Stamp};
use crate::version::Content;
use crate::wire::client::{ClientRequest, Terms, Write};
use crate::wire::hello::Server;
use budget::{Budget, Jitter};
use route::Route;
use row::{Applied, Job, Left, Owner, Patience, Phase, Row, RowId, Trouble};
use servers::{Dial, Link, Servers};
use std::collections::{BTreeMap, BTreeSet};

/// How a client is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its identity: 128 random bits, never used by another client.
    pub id: ClientId,
    /// Addresses to begin with, `HOST:PORT`: managers, nodes, or both. Tried in this order.
    pub seeds: Vec<String>,
    /// How requests find their way.
    pub routing: Routing,
    /// Milliseconds a call is worth unless it says otherwise; 0 for [`REQUEST_TTL_MS`].
    pub ttl_ms: u32,
    /// Any number, for jitter: different in each client.
    pub seed: u64,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    options: Options,
    clock: HybridClock,
    jitter: Jitter,
    budget: Budget,
    seeds: Vec<ServerId>,
    servers: Servers,
    route: Route,
    rows: BTreeMap<RowId, Row>,
    /// Requests that are out, by the name they carry.
    sent: BTreeMap<RequestId, RowId>,
    /// When rows are to be looked at.
    timers: BTreeSet<(Instant, RowId)>,
    bytes: usize,
    last_row: u64,
    last_request: u64,
    last_op: u64,
    number: u32,
}

impl Client {
    /// A client that knows its seeds and has asked nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut servers = Servers::default();
        let seeds = options.seeds.iter().map(|addr| servers.id_of(addr)).collect();
        Self {
            clock: HybridClock::default(),
            jitter: Jitter::new(options.seed),
            budget: Budget::default(),
            seeds,
            servers,
            route: Route::new(options.routing),
            rows: BTreeMap::new(),
            sent: BTreeMap::new(),
            timers: BTreeSet::new(),
            bytes: 0,
            last_row: 0,
            last_request: 0,
            last_op: 0,
            number: 0,
            options,
        }
    }

    /// Calls, and questions of the client's own, that are not answered yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.rows.len()
    }

    /// The short display number it was given; 0 before its first contact.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    fn call(&mut self, now: Now, call: CallId, request: Call, ttl_ms: u32, out: &mut Vec<Output>) {
        let bytes = request.payload_bytes();
        if self.rows.len() >= CLIENT_CALLS_MAX || self.bytes + bytes > CLIENT_BYTES_MAX {
            let mut error = Error::new(
                ErrorKind::Failed,
                "the client has too many calls in progress; wait for some to be answered",
            );
            error.reason = Some(Reason::Overloaded);
            out.push(Output::Done { call, outcome: Err(error) });
            return;
        }
        let job = match job_of(request) {
            Ok(job) => job,
            Err(error) => {
                out.push(Output::Done { call, outcome: Err(error) });
                return;
            }
        };
        self.bytes += bytes;
        self.budget.earn();
        self.begin(now, Owner::Caller(call), job, ttl_ms, bytes, out);
    }

    /// Makes a row and places it.
    fn begin(&mut self, now: Now, owner: Owner, job: Job, ttl_ms: u32, bytes: usize, out: &mut Vec<Output>) {
        let ttl_ms = match (ttl_ms, self.options.ttl_ms) {
            (0, 0) => REQUEST_TTL_MS,
            (0, ms) | (ms, _) => ms.min(REQUEST_TTL_MS_MAX),
        };
        self.last_row += 1;
        let row = Row {
            owner,
            job,
            deadline: now.mono.after_ms(u64::from(ttl_ms)),
            phase: Phase::Placing,
            wake: now.mono,
            retries: 0,
            not_owner: 0,
            trouble: Trouble::None,
            avoid: None,
            last_round: None,
            left: None,
            bytes,
        };
        self.place(now, RowId(self.last_row), row, out);
    }

    fn welcomed(&mut self, now: Now, server: ServerId, by: Server, out: &mut Vec<Output>) {
        let Some(peer) = self.servers.peer_mut(server) else { return };
        peer.link = Link::Up;
        peer.dial = Dial::Well;
        peer.kind = Some(by);
        peer.heard = now.mono;
        for id in self.rows_where(|row| row.is_at(server)) {
            let Some(mut row) = self.take(id) else { continue };
            let Phase::Waiting { direct, .. } = row.phase else {
                self.park(id, row);
                continue;
            };
            if matches!((&row.job, by), (Job::Ask { to: Target::Manager, .. }, Server::Node(_))) {
                row.phase = Phase::Placing;
                self.place(now, id, row, out);
            } else {
                self.send(now, id, row, server, direct, out);
            }
        }
        // Whoever waits for a slower one may find this one better.
        for id in self.rows_where(|row| matches!(row.phase, Phase::Waiting { .. })) {
            if let Some(row) = self.take(id) {
                self.place_beside(now, id, row, out);
            }
        }
    }

    fn connected(&mut self, server: ServerId) {
        if let Some(Link::Dialing { connected, .. }) =
            self.servers.peer_mut(server).map(|peer| &mut peer.link)
        {
            *connected = true;
        }
    }

    /// A connection is gone that its server, or nobody, has ended.
    fn closed(&mut self, now: Now, server: ServerId, why: &str, out: &mut Vec<Output>) {
        if let Some(peer) = self.servers.peer_mut(server)
            && matches!(peer.link, Link::Dialing { .. })
        {
            peer.dial = if peer.hangs() && peer.is_overdue(now) { Dial::Hangs } else { Dial::Refused };
        }
        self.lost(now, server, why, out);
    }

    /// A server's connection is gone, or it has kept silent for too long. Whatever was asked of
    /// it is asked elsewhere.
    fn lost(&mut self, now: Now, server: ServerId, why: &str, out: &mut Vec<Output>) {
        let Some(peer) = self.servers.peer_mut(server) else { return };
        peer.failed(now, why.to_owned());
        let trouble = peer.trouble();
        for row in self.rows.values_mut() {
            if let Some(left) = row.left.take_if(|left| left.server == server) {
                self.sent.remove(&left.request);
            }
        }
        let affected = self.rows_where(|row| row.is_at(server));
        if self.route.move_on(server) {
            self.ask_contacts(now, out);
        }
        if self.route.uses_table() && self.route.table().is_some() {
            // It may have left the cluster.
            self.ask_table(now, out);
        }
        for id in affected {
            if let Some(mut row) = self.take(id) {
                if let Phase::Sent { request, .. } = row.phase {
                    self.sent.remove(&request);
                    row.count_attempt();
                }
                row.phase = Phase::Placing;
                row.note_lost(trouble.clone());
                row.avoid = Some(server);
                if let Job::Ask { tried, .. } = &mut row.job {
                    tried.push(server);
                }
                self.place(now, id, row, out);
            }
        }
    }

    /// Looks at every row whose time has come.
    fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now.mono {
                break;
            }
            self.timers.remove(&(at, id));
            if let Some(row) = self.rows.remove(&id) {
                self.wake(now, id, row, out);
            }
        }
    }

    fn wake(&mut self, now: Now, id: RowId, mut row: Row, out: &mut Vec<Output>) {
        if now.mono >= row.deadline {
            let error = self.deadline_error(now, &row);
            return self.finish(now, &row, Err(error), out);
        }
        row.wake = row.deadline;
        match row.phase {
            Phase::Placing | Phase::Resting => {
                if self.route.round.take_if(|at| *at <= now.mono).is_some() {
                    self.servers.dial_again(now);
                }
                row.phase = Phase::Placing;
                self.place(now, id, row, out);
            }
            Phase::Waiting { server, .. } => match self.servers.peer_mut(server) {
                Some(peer) if peer.is_overdue(now) => {
                    let why = peer.no_welcome();
                    peer.dial = if peer.hangs() { Dial::Hangs } else { Dial::Nothing };
                    self.park(id, row);
                    self.hang_up(now, server, &why, out);
                }
                Some(_) | None => self.place_beside(now, id, row, out),
            },
            Phase::Sent { server, request, at, patience } => {
                let silent = self.servers.peer(server).is_none_or(|peer| peer.heard <= at);
                match patience {
                    Patience::Fresh => {
                        row.phase = Phase::Sent { server, request, at, patience: Patience::Probed };
                        // From now, not from the sending: this process may have been the one that slept.
                        row.wake = now.mono.after_ms(CLIENT_HOP_MS / 2).min(row.deadline);
                        self.park(id, row);
                        if silent {
                            self.probe(now, server, out);
                        }
                    }
                    Patience::Probed if silent => {
                        self.park(id, row);
                        self.hang_up(now, server, "no answer in time", out);
                    }
                    Patience::Probed => self.doubt(now, id, row, out),
                    Patience::ToTheEnd => self.park(id, row),
                }
            }
        }
    }

    fn hang_up(&mut self, now: Now, server: ServerId, why: &str, out: &mut Vec<Output>) {
        out.push(Output::Hangup { server });
        self.lost(now, server, why, out);
    }

    /// The server answers others but not this one. New requests go elsewhere for a while, and so
    /// does this one if repeating it can do no harm; the first answer of the two counts. (With too
    /// few owners in reach a coordinator knows only at the end that it is so, and then it is the one
    /// that knows.) A write whose answer may still come is not repeated: the repeat would be a
    /// concurrent write.
    fn doubt(&mut self, now: Now, id: RowId, mut row: Row, out: &mut Vec<Output>) {
        let Phase::Sent { server, request, at, .. } = row.phase else { return self.park(id, row) };
        if let Some(peer) = self.servers.peer_mut(server) {
            peer.suspect(now, "no answer in time");
            row.note_lost(peer.trouble());
        }
        if self.route.move_on(server) {
            self.ask_contacts(now, out);
        }
        if row.is_repeatable() && self.budget.spend() {
            if let Some(older) = row.left.replace(Left { server, request }) {
                self.sent.remove(&older.request);
            }
            row.phase = Phase::Placing;
            row.avoid = Some(server);
            if let Job::Ask { tried, .. } = &mut row.job {
                tried.push(server);
            }
            return self.place(now, id, row, out);
        }
        row.phase = Phase::Sent { server, request, at, patience: Patience::ToTheEnd };
        self.park(id, row);
    }

    fn deadline_error(&self, now: Now, row: &Row) -> Error {
        // Of a server that had no time to answer yet there is nothing to say.
        let no_welcome = match row.phase {
            Phase::Waiting { server, .. } if self.servers.is_slow(server, now) => self.servers.peer(server),
            Phase::Waiting { .. } => None,
            Phase::Placing | Phase::Resting | Phase::Sent { .. } => None,
        };
        match (&row.trouble, no_welcome) {
            (Trouble::None, Some(peer)) => {
                let advice = peer.hangs().then(|| format!(" ({})", peer.hang_advice()));
                let why = peer.no_welcome() + &advice.unwrap_or_default();
                Error::deadline(row.intent(), Some(&why))
            }
            (trouble, _) => Self::trouble_error(row, trouble),
        }
    }

    fn trouble_error(row: &Row, trouble: &Trouble) -> Error {
        match trouble {
            Trouble::None => Error::deadline(row.intent(), None),
            Trouble::Lost(text) => Error::deadline(row.intent(), Some(text)),
            Trouble::Refused(reason, by) => Error::refused(row.intent(), *reason, by),
        }
    }

    /// Answers a row that has been taken out.
    fn finish(&mut self, now: Now, row: &Row, outcome: Outcome, out: &mut Vec<Output>) {
        self.forget_requests(row);
        self.bytes -= row.bytes;
        match row.owner {
            Owner::Caller(call) => out.push(Output::Done { call, outcome }),
            Owner::Contacts => self.contacts_told(now, outcome, out),
            Owner::Table => self.table_told(now, outcome, out),
        }
    }

    /// Whatever a row's requests are answered with finds nothing from now on.
    fn forget_requests(&mut self, row: &Row) {
        if let Phase::Sent { request, .. } = row.phase {
            self.sent.remove(&request);
        }
        if let Some(left) = row.left {
            self.sent.remove(&left.request);
        }
    }

    /// Puts a row back, to be looked at at its `wake`.
    fn park(&mut self, id: RowId, row: Row) {
        self.timers.insert((row.wake, id));
        self.rows.insert(id, row);
    }

    /// Takes a row out, and its timer with it.
    fn take(&mut self, id: RowId) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        self.timers.remove(&(row.wake, id));
        Some(row)
    }

    /// Rows of a kind, in the order of their calls.
    fn rows_where(&self, kind: impl Fn(&Row) -> bool) -> Vec<RowId> {
        self.rows.iter().filter(|(_, row)| kind(row)).map(|(&id, _)| id).collect()
    }
}

impl Machine for Client {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Call { call, request, ttl_ms } => self.call(now, call, request, ttl_ms, out),
            Input::Welcomed { server, by } => self.welcomed(now, server, by, out),
            Input::Reply { server, request, message } => self.reply(now, server, request, message, out),
            Input::Connected { server } => self.connected(server),
            Input::Closed { server, why } => self.closed(now, server, &why, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|entry| entry.0)
    }
}

/// What a call comes to. A write is given its name and stamp when it is first sent.
fn job_of(request: Call) -> Result<Job, Error> {
    check::check(&request)?;
    let terms = |item: Item| Terms {
        keyspace: item.keyspace,
        key: item.key,
        quorum: item.quorum,
        direct: false,
        strict: item.strict,
        trace: item.trace,
    };
    Ok(match request {
        Call::Get { item } => Job::Read { terms: terms(item) },
        Call::Put { item, value, context } => {
            let ttl_ms = item.ttl_ms;
            write_job(terms(item), Content::Value(value), context, ttl_ms)
        }
        Call::Delete { item, context: Some(context) } => {
            write_job(terms(item), Content::Tombstone, Some(context), None)
        }
        Call::Delete { item, context: None } => {
            let w = item.quorum;
            Job::ReadToDelete { terms: Terms { quorum: 0, ..terms(item) }, w }
        }
        Call::Ask { request: ClientRequest::Data { .. }, .. } => {
            let text = "reads and writes of keys are calls of their own: Get, Put and Delete";
            return Err(Error::new(ErrorKind::Usage, text));
        }
        Call::Ask { to, request } => Job::Ask { to, request, tried: Vec::new() },
    })
}

fn write_job(terms: Terms, content: Content, context: Option<Context>, ttl_ms: Option<u64>) -> Job {
    let (op, stamp) = (OpId::default(), Stamp::default());
    let write = Write { content, context, op, attempt: 0, stamp, ttl_ms };
    Job::Write { terms, write, applied: Applied::Unsent }
}
