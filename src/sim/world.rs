//! The event queue, and the processes that events happen to.
//!
//! Every message is encoded and decoded by the real codec on its way. Connections behave as TCP
//! connections do where a node relies on it (what was asked on a broken one is not answered) and
//! worse where it must not rely on it (messages may be lost, doubled and reordered).

mod audit;
mod disks;
mod network;
mod outputs;
mod reads;
mod rot;
mod seen;

pub(super) use rot::Rot;
pub(super) use seen::Seen;

use super::operator::Deed;
use super::process::{LinkKey, ProcId, Process, Running};
use super::rng::Rng;
use super::staleness::Model;
use super::weather::Climate;
use crate::client;
use crate::engine::ReadRequest;
use crate::machine::Machine;
use crate::manager;
use crate::node;
use crate::ring::{Durability, MemberState};
use crate::types::{ConnId, NodeId, RequestId};
use crate::wire::client::{ClientRequest, ClusterCommand};
use crate::wire::hello::{Hello, Welcome};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// The manager's address and place.
pub(super) const MANAGER: ProcId = ProcId(0);

/// Something that will happen.
#[derive(Clone, Debug)]
enum What {
    /// A dial reaches its listener.
    Dialed { conn: u64 },
    /// The listener's answer reaches the dialer; none is a refusal.
    Answered { conn: u64, welcome: Option<Welcome> },
    /// A message reaches one end of a connection.
    Message { conn: u64, to_dialer: bool, kind: u8, request: RequestId, body: Bytes },
    /// An end of a connection learns that it is gone.
    Closed { conn: u64, at_dialer: bool },
    /// A connection that has stood across a partition for too long breaks.
    Broken { conn: u64 },
    /// A process dials again.
    Redial { proc: ProcId, life: u64, link: LinkKey },
    /// A machine's deadline.
    Tick { proc: ProcId, life: u64 },
    /// The end of a turn of a process's loop.
    TurnEnd { proc: ProcId, life: u64 },
    /// The log thread writes what is queued.
    DiskWrite { proc: ProcId, life: u64 },
    /// The disk has synced what was written.
    DiskDone { proc: ProcId, life: u64 },
    /// The disk has read something.
    Read { proc: ProcId, life: u64, request: ReadRequest },
    /// Something outside the cluster: a fault, a client's next step.
    Outside(Outside),
}

/// Events that the run, not the cluster, has ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outside {
    /// The next fault of the weather.
    Fault,
    /// A process that was brought down starts again.
    Restart(ProcId),
    /// A process's machine loses power.
    PowerLoss(ProcId),
    /// A partition ends.
    Reunite,
    /// A process stands still for so many microseconds.
    Stall(ProcId, u64),
    /// A full disk has room again.
    DiskRoom(ProcId),
    /// A client's next call.
    Client(ProcId),
    /// What an operator does next.
    Operator(Deed),
}

/// The connection on which an operator speaks to the manager.
const OPERATOR: ConnId = ConnId(u64::MAX);

/// A connection between two processes.
#[derive(Clone, Debug)]
struct Conn {
    dialer: ProcId,
    listener: ProcId,
    link: LinkKey,
    hello: Hello,
    open: bool,
    /// Messages arrive in order; for those that rely on it.
    ordered: bool,
    /// When the last message of each direction arrives (to the dialer, to the listener).
    last: [u64; 2],
}

/// A cluster and its clock.
pub(super) struct World {
    pub(super) now_us: u64,
    pub(super) rng: Rng,
    pub(super) climate: Climate,
    /// Where there is one, it and not the climate says how long reads and writes are on their way.
    pub(super) legs: Option<Model>,
    pub(super) procs: Vec<Process>,
    pub(super) seen: Seen,
    pub(super) written: audit::Written,
    /// No wall clock was ever further from the truth.
    pub(super) skew_ms_max: u64,
    /// Pairs (from, to) between which nothing passes.
    pub(super) blocked: BTreeSet<(ProcId, ProcId)>,
    /// Answers that clients were given and the run has not looked at.
    pub(super) done: Vec<(ProcId, client::CallId, client::Outcome)>,
    /// Processes that ended by themselves, and why.
    pub(super) fatal: Vec<String>,
    /// Nodes that are never started again: they have left, or are dead with their disks.
    pub(super) gone: BTreeMap<ProcId, NodeId>,
    pub(super) events: u64,
    conns: BTreeMap<u64, Conn>,
    addrs: BTreeMap<String, ProcId>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: BTreeMap<u64, What>,
    serial: u64,
    trace: XxHash3_64,
    /// What happens, in words, if anybody wants to read it.
    pub(super) journal: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, climate: Climate) -> Self {
        Self {
            now_us: 0,
            rng: Rng::new(seed),
            climate,
            legs: None,
            procs: Vec::new(),
            seen: Seen::default(),
            written: audit::Written::new(),
            skew_ms_max: 0,
            blocked: BTreeSet::new(),
            done: Vec::new(),
            fatal: Vec::new(),
            gone: BTreeMap::new(),
            events: 0,
            conns: BTreeMap::new(),
            addrs: BTreeMap::new(),
            queue: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            serial: 0,
            trace: XxHash3_64::new(),
            journal: None,
        }
    }

    /// Notes what happens, for whoever reads the journal.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(format!("{:>12} {}", self.now_us, what()));
        }
    }

    fn name_of(&self, proc: ProcId) -> &str {
        self.procs.get(proc.0).map_or("", |process| &process.name)
    }

    /// The run so far as one number: equal for equal runs.
    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn add(&mut self, name: &str) -> ProcId {
        let id = ProcId(self.procs.len());
        let base = self.rng.below(1_000_000_000);
        let spread = self.climate.clock_skew_ms;
        let skew =
            i64::try_from(self.rng.below(2 * spread + 1)).unwrap_or(0) - i64::try_from(spread).unwrap_or(0);
        self.skew_ms_max = self.skew_ms_max.max(skew.unsigned_abs());
        self.procs.push(Process::new(name.to_owned(), base, skew));
        self.addrs.insert(name.to_owned(), id);
        id
    }

    /// Two processes do not hear each other any more.
    pub(super) fn part(&mut self, one: ProcId, other: ProcId) {
        self.blocked.extend([(one, other), (other, one)]);
    }

    pub(super) fn order(&mut self, after_us: u64, event: Outside) {
        self.at(self.now_us + after_us, What::Outside(event));
    }

    fn at(&mut self, time_us: u64, what: What) {
        self.serial += 1;
        self.queue.push(Reverse((time_us, self.serial)));
        self.waiting.insert(self.serial, what);
    }

    /// Lets the next thing happen. Returns it if it is for the run to act on.
    pub(super) fn step(&mut self) -> Option<Outside> {
        let Reverse((time_us, serial)) = self.queue.pop()?;
        let what = self.waiting.remove(&serial)?;
        self.now_us = self.now_us.max(time_us);
        if let Some(proc) = self.whose(&what) {
            let paused_until = self.procs[proc.0].paused_until;
            if paused_until > self.now_us {
                self.at(paused_until, what);
                return None;
            }
        }
        self.events += 1;
        self.trace.write_u64(self.now_us);
        match what {
            What::Outside(event) => return Some(event),
            What::Dialed { conn } => self.dialed(conn),
            What::Answered { conn, welcome } => self.answered(conn, welcome),
            What::Message { conn, to_dialer, kind, request, body } => {
                self.trace.write_u8(kind);
                self.trace.write(&body);
                self.message(conn, to_dialer, kind, request, body);
            }
            What::Closed { conn, at_dialer } => self.closed(conn, at_dialer),
            What::Broken { conn } => self.break_conn(conn, 0),
            What::Redial { proc, life, link } => self.redial(proc, life, link),
            What::Tick { proc, life } => self.tick(proc, life),
            What::TurnEnd { proc, life } => self.turn_end(proc, life),
            What::DiskWrite { proc, life } => self.disk_write(proc, life),
            What::DiskDone { proc, life } => self.disk_done(proc, life),
            What::Read { proc, life, request } => self.read(proc, life, &request),
        }
        None
    }

    /// The process that something happens to, which may be stopped.
    fn whose(&self, what: &What) -> Option<ProcId> {
        let end = |conn: &u64, dialer: bool| {
            self.conns.get(conn).map(|conn| if dialer { conn.dialer } else { conn.listener })
        };
        match what {
            What::Outside(_)
            | What::Broken { .. }
            | What::DiskWrite { .. }
            | What::DiskDone { .. }
            | What::Read { .. } => None,
            What::Dialed { conn } => end(conn, false),
            What::Answered { conn, .. } => end(conn, true),
            What::Message { conn, to_dialer, .. } => end(conn, *to_dialer),
            What::Closed { conn, at_dialer } => end(conn, *at_dialer),
            What::Redial { proc, .. } | What::Tick { proc, .. } | What::TurnEnd { proc, .. } => Some(*proc),
        }
    }

    // ---- processes -------------------------------------------------------------------------

    /// A process begins to run; its machine has been put in place.
    pub(super) fn started(&mut self, proc: ProcId) {
        if matches!(self.procs[proc.0].running, Running::Node(_)) {
            self.want_link(proc, LinkKey::Manager, "manager");
            self.tell_node(proc, node::io::Input::Tick);
        }
        self.after(proc);
    }

    /// A process ends at once. `quietly`: as when a machine loses power, others notice late.
    pub(super) fn crash(&mut self, proc: ProcId, quietly: bool) {
        let name = self.name_of(proc).to_owned();
        self.note(|| format!("{name} ends{}", if quietly { ", its power lost" } else { "" }));
        if matches!(self.procs[proc.0].running, Running::Node(_)) {
            self.seen.note_loss(self.now_us, proc, if quietly { Durability::Os } else { Durability::Memory });
        }
        self.procs[proc.0].stop();
        let ends: Vec<u64> = self.conns_of(proc);
        for conn in ends {
            let notice_us = if quietly { self.rng.range(300_000, 2_000_000) } else { self.latency() };
            self.break_conn(conn, notice_us);
        }
    }

    fn conns_of(&self, proc: ProcId) -> Vec<u64> {
        let of = |conn: &Conn| conn.open && (conn.dialer == proc || conn.listener == proc);
        self.conns.iter().filter(|entry| of(entry.1)).map(|entry| *entry.0).collect()
    }

    pub(super) fn tell_node(&mut self, proc: ProcId, input: node::io::Input) {
        let now = self.procs[proc.0].now(self.now_us);
        let mut out = Vec::new();
        if let Running::Node(machine) = &mut self.procs[proc.0].running {
            machine.handle(now, input, &mut out);
        }
        for output in out {
            self.carry_out_node(proc, output);
        }
        self.after(proc);
    }

    /// A node and its disk are dead for good.
    pub(super) fn lose_for_good(&mut self, proc: ProcId) {
        self.let_go(proc);
        self.seen.note_loss(u64::MAX, proc, Durability::Sync);
    }

    /// A node has left: it is killed at once, and never comes back.
    pub(super) fn let_go(&mut self, proc: ProcId) {
        let node = self.node_id(proc).unwrap_or_default();
        self.crash(proc, false);
        self.gone.insert(proc, node);
    }

    /// Whether the manager's table says that a node has left, or is given up.
    pub(super) fn is_no_member(&self, proc: ProcId) -> bool {
        let Running::Manager(manager) = &self.procs[MANAGER.0].running else { return false };
        let state =
            self.node_id(proc).and_then(|node| manager.table().members.get(&node)).map(|member| member.state);
        matches!(state, Some(MemberState::Left | MemberState::Lost | MemberState::Removed))
    }

    /// The manager is told to do something by somebody who does not wait for the answer.
    pub(super) fn tell_operator(&mut self, message: ClusterCommand) {
        let (conn, request) = (OPERATOR, RequestId(0));
        let message = ClientRequest::Cluster(message);
        self.tell_manager(MANAGER, manager::io::Input::Client { conn, request, message });
    }

    fn tell_manager(&mut self, proc: ProcId, input: manager::io::Input) {
        let now = self.procs[proc.0].now(self.now_us);
        let mut out = Vec::new();
        if let Running::Manager(machine) = &mut self.procs[proc.0].running {
            machine.handle(now, input, &mut out);
        }
        for output in out {
            self.carry_out_manager(proc, output);
        }
        self.after(proc);
    }

    pub(super) fn tell_client(&mut self, proc: ProcId, input: client::Input) {
        let now = self.procs[proc.0].now(self.now_us);
        let mut out = Vec::new();
        if let Running::Client(machine) = &mut self.procs[proc.0].running {
            machine.handle(now, input, &mut out);
        }
        for output in out {
            self.carry_out_client(proc, output);
        }
        self.after(proc);
    }

    /// After each input: the end of the turn and the next deadline are put on the queue.
    fn after(&mut self, proc: ProcId) {
        let process = &self.procs[proc.0];
        let (deadline, is_node) = match &process.running {
            Running::Down => return,
            Running::Manager(machine) => (machine.deadline(), false),
            Running::Node(machine) => (machine.deadline(), true),
            Running::Client(machine) => (machine.deadline(), false),
        };
        let life = process.life;
        // A loop wakes up a little late, never early.
        let tick_at = deadline.map(|at| process.at_us(at).max(self.now_us) + 100);
        if let Some(at) = tick_at
            && process.tick_at.is_none_or(|planned| at < planned)
        {
            self.procs[proc.0].tick_at = Some(at);
            self.at(at, What::Tick { proc, life });
        }
        if is_node && !self.procs[proc.0].turn_open {
            self.procs[proc.0].turn_open = true;
            let turn_us = self.rng.below(self.climate.turn_us_max + 1);
            self.at(self.now_us + turn_us, What::TurnEnd { proc, life });
        }
    }

    fn tick(&mut self, proc: ProcId, life: u64) {
        if self.procs[proc.0].life != life || self.procs[proc.0].tick_at.is_some_and(|at| at > self.now_us) {
            return;
        }
        self.procs[proc.0].tick_at = None;
        match self.procs[proc.0].running {
            Running::Down => {}
            Running::Manager(_) => self.tell_manager(proc, manager::io::Input::Tick),
            Running::Node(_) => self.tell_node(proc, node::io::Input::Tick),
            Running::Client(_) => self.tell_client(proc, client::Input::Tick),
        }
    }

    fn turn_end(&mut self, proc: ProcId, life: u64) {
        if self.procs[proc.0].life != life {
            return;
        }
        let now = self.procs[proc.0].now(self.now_us);
        let mut out = Vec::new();
        if let Running::Node(machine) = &mut self.procs[proc.0].running {
            machine.handle(now, node::io::Input::TurnEnd, &mut out);
        }
        self.procs[proc.0].turn_open = false;
        for output in out {
            self.carry_out_node(proc, output);
        }
    }
}
