//! One simulated process: its machine, its disk and log thread, its links and its clocks.

use super::disk::SimDisk;
use crate::client::Client;
use crate::engine::{DiskRequest, LogWriter};
use crate::manager::Manager;
use crate::node::Node;
use crate::node::io::Lane;
use crate::types::{Instant, NodeId, Now, WallMs};
use std::collections::{BTreeMap, VecDeque};

/// A process of the run, by its place in the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ProcId(pub(super) usize);

/// The machine a process runs, while it is up.
#[derive(Debug)]
pub(super) enum Running {
    Down,
    Manager(Box<Manager>),
    Node(Box<Node>),
    Client(Box<Client>),
}

/// What a process keeps a connection for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum LinkKey {
    /// A node's link to a peer.
    Peer(NodeId, LaneKey),
    /// A node's connection to the manager.
    Manager,
    /// A client's connection to a server.
    Server(u32),
}

/// A lane, in an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum LaneKey {
    Foreground,
    Bulk,
}

/// A connection that a process wants, and the one it has.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) addr: String,
    pub(super) conn: Option<u64>,
    pub(super) up: bool,
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) running: Running,
    /// Counted up with every start and crash: events of an earlier life find nobody.
    pub(super) life: u64,
    /// When the present life began.
    pub(super) born_us: u64,
    /// Stopped, as by SIGSTOP: whatever happens to it waits until then.
    pub(super) paused_until: u64,
    /// Its monotonic clock's start, and its wall clock's error.
    pub(super) clock_base_us: u64,
    pub(super) wall_skew_ms: i64,
    pub(super) tick_at: Option<u64>,
    pub(super) turn_open: bool,
    pub(super) disk: SimDisk,
    pub(super) disk_queue: VecDeque<DiskRequest>,
    pub(super) disk_busy: bool,
    /// The log thread has found no room, and tries again.
    pub(super) disk_full: bool,
    /// Syncs take long until then.
    pub(super) disk_slow_until: u64,
    pub(super) writer: LogWriter,
    pub(super) links: BTreeMap<LinkKey, Link>,
    /// The machine's boot: a power loss begins a new one.
    pub(super) boot_id: u128,
}

/// Wall time at the start of every run.
const WALL_START_MS: i64 = 1_700_000_000_000;

impl Process {
    pub(super) fn new(name: String, clock_base_us: u64, wall_skew_ms: i64) -> Self {
        Self {
            name,
            running: Running::Down,
            life: 0,
            born_us: 0,
            paused_until: 0,
            clock_base_us,
            wall_skew_ms,
            tick_at: None,
            turn_open: false,
            disk: SimDisk::default(),
            disk_queue: VecDeque::new(),
            disk_busy: false,
            disk_full: false,
            disk_slow_until: 0,
            writer: LogWriter::default(),
            links: BTreeMap::new(),
            boot_id: 1,
        }
    }

    /// Its clocks at a point of the run's time.
    pub(super) fn now(&self, at_us: u64) -> Now {
        let wall_ms = WALL_START_MS + i64::try_from(at_us / 1000).unwrap_or(0) + self.wall_skew_ms;
        Now { mono: Instant(self.clock_base_us + at_us), wall: WallMs(u64::try_from(wall_ms).unwrap_or(0)) }
    }

    /// The run's time at which one of its instants comes.
    pub(super) fn at_us(&self, instant: Instant) -> u64 {
        instant.0.saturating_sub(self.clock_base_us)
    }

    pub(super) fn is_up(&self) -> bool {
        !matches!(self.running, Running::Down)
    }

    /// The process is gone. Its disk stays.
    pub(super) fn stop(&mut self) {
        self.running = Running::Down;
        self.life += 1;
        self.paused_until = 0;
        self.tick_at = None;
        self.turn_open = false;
        self.disk_queue.clear();
        self.disk_busy = false;
        self.disk_full = false;
        self.writer = LogWriter::default();
        self.links.clear();
    }
}

impl From<Lane> for LaneKey {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Foreground => LaneKey::Foreground,
            Lane::Bulk => LaneKey::Bulk,
        }
    }
}

impl From<LaneKey> for Lane {
    fn from(lane: LaneKey) -> Self {
        match lane {
            LaneKey::Foreground => Lane::Foreground,
            LaneKey::Bulk => Lane::Bulk,
        }
    }
}
