//! The storage node: forwarder, coordinator and replica in one machine.
//!
//! ```text
//! client --> request ----> forward --------------> request (on an owner)
//!                |  (not an owner)                    |
//!                '------------------------------------+--> coordinate_put --> replica (each owner)
//!                                                     '--> coordinate_get --> replica (some owners)
//! ```
//! This file owns the node's state and the dispatch of inputs. Each role has a file of its own;
//! requests in flight are rows of one bounded [`pending`] table. Nothing is acknowledged but
//! through the [`sync_gate`]. It never touches a socket, a file or a clock.

mod anti_entropy;
mod coordinate_get;
mod coordinate_put;
mod faults;
mod fences;
mod forward;
pub mod freshness;
mod handoff;
mod hedges;
mod hints;
pub mod identity;
pub mod io;
mod leave;
mod leftovers;
mod liveness;
mod load;
mod membership;
mod peers;
pub mod pending;
mod reaping;
mod replica;
mod request;
mod space;
mod status;
pub mod sync_gate;
#[cfg(test)]
mod tests;
mod transfer;
mod watch;

use crate::clock::HybridClock;
use crate::engine::{Damage, Engine, EngineSettings, FileName, ReadId, Recovered, Storage, Ticket};
use crate::limits::{PENDING_ROWS_MAX, REPLY_TABLE_MAX};
use crate::lookup::Lookup;
use crate::machine::Machine;
use crate::mutant::{Mutant, Planted};
use crate::ring::Table;
use crate::types::{ConnId, DiskUuid, Dot, Instant, KeyspaceId, NodeId, Now, OpId, RequestId};
use crate::version::VersionVector;
use crate::wire::client::DataReply;
use crate::wire::hello;
use crate::wire::peer::PeerReply;
use crate::wire::{decode_table, encode_table};
use anti_entropy::{AntiEntropy, Comparing};
use bytes::Bytes;
use coordinate_get::Get;
use coordinate_put::Put;
use faults::Faults;
use fences::Fences;
pub use fences::fence_fault;
use forward::Forward;
use freshness::Freshness;
use handoff::{Handoffs, Piece};
use hedges::Hedges;
use hints::Ledger;
use identity::{Identity, Raised};
use io::{Input, Output};
use leave::Departure;
use leftovers::Leftovers;
use load::Waiting;
use peers::Peers;
use pending::{Pending, RowId};
use reaping::{Reaping, Settling};
use space::Space;
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_gate::SyncGate;
use transfer::{Chunk, Transfers};
use twox_hash::XxHash3_64;
use watch::Watch;

/// How a node is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where peers and clients reach it, `HOST:PORT`.
    pub addr: String,
    /// Failure domain; empty when unsaid.
    pub zone: String,
    /// Share of the data relative to other members; 100 is the usual.
    pub weight: u16,
    /// Bytes of values kept in memory.
    pub cache_bytes: usize,
    /// As a new node it waits for an operator's word before it owns anything.
    pub manual: bool,
    /// Told to stop, it leaves the cluster for good first.
    pub leave_on_stop: bool,
    /// Bytes of moving sectors that it sends in a second; 0: as many as clients leave room for.
    pub transfer_bytes_per_second: u64,
    /// Size at which a segment of the log is left for the next.
    pub segment_bytes: u64,
    /// Bytes of the log read back each second to find rot; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// Bytes kept for each node that is away.
    pub hint_bytes_max: u64,
    /// How long owners wait after comparing their copies before they do it again, in milliseconds; 0:
    /// they never do.
    pub compare_every_ms: u64,
    /// How long a tombstone stays at least, in milliseconds.
    pub reap_after_ms: u64,
    /// Clients may have messages from and to peers dropped: for demonstrations.
    pub allow_fault_injection: bool,
    /// Free bytes of the disk below which puts are refused.
    pub disk_reserve_bytes: u64,
    /// A random number for a directory that has no identity yet.
    pub fresh_uuid: DiskUuid,
    /// The machine's boot, as a number: when it changed, unsynced data may be gone.
    pub boot_id: u128,
    /// A planted bug, for the simulator.
    pub planted: Planted,
}

/// The request id of messages whose answer needs no row.
const NO_ROW: RequestId = RequestId(0);

/// A storage node.
#[derive(Debug)]
pub struct Node {
    options: Options,
    identity: Identity,
    /// An earlier life held objects in memory alone; they are gone.
    lost_memory: bool,
    /// An earlier life may have written what was never synced.
    lost_unsynced: bool,
    view: Option<View>,
    engine: Engine,
    gate: SyncGate<Ack>,
    space: Space,
    clock: HybridClock,
    /// The last dot's sequence in this life.
    seq: u64,
    pending: Pending<Row>,
    /// Bytes of keys and values that forwarded rows hold.
    forwarded_bytes: usize,
    /// Writes lately taken in, so that a repeated one gets its first answer.
    ops: Lookup<WriteName, Taken>,
    /// Values being read from the disk, and the rows that wait for them.
    reads: BTreeMap<ReadId, RowId>,
    peers: Peers,
    hedges: Hedges,
    freshness: Freshness,
    manager_up: bool,
    report_at: Instant,
    watch: Watch,
    transfers: Transfers,
    leftovers: Leftovers,
    departure: Departure,
    ledger: Ledger,
    handoffs: Handoffs,
    anti_entropy: AntiEntropy,
    fences: Fences,
    reaping: Reaping,
    faults: Faults,
    /// Clients told apart for display.
    clients: u32,
    /// Whether the table of an earlier life has been followed.
    started: bool,
    stopping: bool,
    /// The log's last word has been given out.
    closed: bool,
}

/// The table in force here.
#[derive(Debug)]
struct View {
    table: Arc<Table>,
    /// Its bytes, as they are told to others.
    bytes: Bytes,
    /// The disk request that makes it durable.
    ticket: Ticket,
    /// Whether it is.
    durable: bool,
}

/// A client's write, and a hash of its keyspace and key: a client that gives one name to the
/// writes of two keys must not lose the second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct WriteName {
    op: OpId,
    place_hash: u64,
}

impl WriteName {
    fn new(op: OpId, keyspace: KeyspaceId, key: &[u8]) -> Self {
        Self { op, place_hash: XxHash3_64::oneshot_with_seed(u64::from(keyspace.0), key) }
    }
}

/// A write that was given a dot.
#[derive(Clone, Copy, Debug)]
struct Taken {
    dot: Dot,
    /// The row that runs it, if this node coordinates it.
    row: Option<RowId>,
}

/// A request in flight: what this node is to it, and how far it is.
#[derive(Debug)]
enum Row {
    /// Handed on to a coordinator.
    Forward(Forward),
    /// A write that this node coordinates.
    Put(Put),
    /// A read that this node coordinates.
    Get(Get),
    /// A piece of a sector on its way to a new owner.
    Chunk(Chunk),
    /// A piece of hints on its way to those they are owed to.
    Piece(Piece),
    /// A step in comparing copies with another owner.
    Comparing(Comparing),
    /// A question of a round that this node leads.
    Settling(Settling),
    /// Something that waits for values from the disk.
    Load(Waiting),
}

/// What waits at the sync gate.
#[derive(Debug)]
enum Ack {
    /// Our own copy of a write that we coordinate, or our own word in a round that we lead.
    Own(RowId),
    /// An answer to a peer.
    Peer { conn: ConnId, request: RequestId, message: PeerReply },
}

/// Who is owed the answer to a data request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReplyTo {
    /// A client.
    Client { conn: ConnId, request: RequestId },
    /// The node that forwarded it.
    Forwarder { conn: ConnId, request: RequestId },
}

impl Node {
    /// Opens a data directory: recovers the log, raises the incarnation durably.
    ///
    /// # Errors
    /// Why the directory cannot be served from, and what the operator can do, in words.
    pub fn open(storage: &mut impl Storage, options: Options) -> Result<Self, String> {
        let mut raised = Identity::raise(storage, options.fresh_uuid, options.boot_id, options.planted)?;
        let settings = EngineSettings {
            cache_bytes: options.cache_bytes,
            segment_bytes: options.segment_bytes,
            scrub_bytes_per_second: options.scrub_bytes_per_second,
            planted: options.planted,
        };
        let (engine, found) = Engine::open(storage, settings).map_err(|error| error.to_string())?;
        raised.lost_unsynced |= found.cut_bytes > 0;
        tell_recovery(&found, engine.unsettled_damage());
        let view = stored_view(storage)?;
        let fences = Fences::read(storage)?;
        Ok(Self::with(options, raised, engine, (view, fences)))
    }

    fn with(
        options: Options,
        raised: Raised,
        engine: Engine,
        (view, fences): (Option<View>, Fences),
    ) -> Self {
        let reuse_ids = options.planted.is(Mutant::ReuseRequestId);
        Self {
            identity: raised.identity,
            lost_memory: raised.lost_memory,
            lost_unsynced: raised.lost_unsynced,
            view,
            engine,
            gate: SyncGate::default(),
            space: Space::new(options.disk_reserve_bytes),
            clock: HybridClock::default(),
            seq: 0,
            pending: Pending::new(PENDING_ROWS_MAX, reuse_ids),
            forwarded_bytes: 0,
            ops: Lookup::new(REPLY_TABLE_MAX),
            reads: BTreeMap::new(),
            peers: Peers::default(),
            hedges: Hedges::new(),
            freshness: Freshness::default(),
            manager_up: false,
            report_at: Instant::default(),
            watch: Watch::default(),
            transfers: Transfers::default(),
            leftovers: Leftovers::default(),
            departure: Departure::default(),
            ledger: Ledger::default(),
            handoffs: Handoffs::default(),
            anti_entropy: AntiEntropy::default(),
            fences,
            reaping: Reaping::default(),
            faults: Faults::new(options.allow_fault_injection),
            clients: 0,
            started: false,
            stopping: false,
            closed: false,
            options,
        }
    }

    /// Who the node is, for Hello; before its first join with cluster and node 0.
    #[must_use]
    pub fn identity(&self) -> hello::Identity {
        hello::Identity {
            cluster_id: self.identity.cluster_id,
            server: hello::Server::Node(self.identity.node),
            incarnation: self.identity.incarnation,
        }
    }

    /// Requests of others in flight: for the simulator, which demands that they come to an end.
    #[must_use]
    pub fn requests_in_hand(&self) -> usize {
        let is_request = |id: &RowId| match self.pending.get(*id) {
            Some(Row::Forward(_) | Row::Put(_) | Row::Get(_)) => true,
            Some(Row::Load(load)) => load.is_for_request(),
            Some(Row::Chunk(_) | Row::Piece(_) | Row::Comparing(_) | Row::Settling(_)) | None => false,
        };
        self.pending.ids().iter().filter(|id| is_request(id)).count()
    }

    /// Bytes kept for nodes that are away.
    #[must_use]
    pub fn hints_kept(&self) -> u64 {
        self.ledger.bytes()
    }

    /// Whether each hint that there ever was in this life is kept yet, was delivered, or was dropped
    /// and counted: for the simulator.
    #[must_use]
    pub fn hints_add_up(&self) -> bool {
        self.ledger.all().all(|(_, owed)| owed.adds_up())
    }

    /// The table in force here, if there is one.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<Table>> {
        self.view.as_ref().map(|view| &view.table)
    }

    /// The engine, to look into: for the simulator's checkers.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    #[cfg(test)]
    fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// First thing in a life: works from the last table, even if the manager is down.
    fn start(&mut self, now: Now, out: &mut Vec<Output>) {
        self.settle_damage();
        self.count_hints();
        if let Some(table) = self.table().cloned() {
            self.peers.follow(&table, self.me(), now.mono, out);
            self.follow_own_standing(out);
            self.follow_moves(now, out);
        }
    }

    fn me(&self) -> NodeId {
        self.identity.node
    }

    /// A new dot: never made before, whatever a disk lost, and above whatever the object or the
    /// client's context claim of this actor: a context that came from outside could otherwise
    /// cover writes not yet made.
    fn next_dot(&mut self, held: &VersionVector, seen: &VersionVector) -> Dot {
        let actor = self.identity.actor();
        self.seq = self.seq.max(held.seq_of(actor)).max(seen.seq_of(actor)) + 1;
        Dot { actor, seq: self.seq }
    }

    fn reply(&self, to: ReplyTo, reply: DataReply, out: &mut Vec<Output>) {
        use crate::wire::client::ClientReply;
        out.push(match to {
            ReplyTo::Client { conn, request } => {
                Output::Reply { conn, request, message: ClientReply::Data(reply) }
            }
            ReplyTo::Forwarder { conn, request } => {
                Output::PeerReply { conn, request, message: PeerReply::Forwarded(reply) }
            }
        });
    }

    /// A peer's answer to something we asked.
    fn on_peer_reply(
        &mut self,
        now: Now,
        from: NodeId,
        request: RequestId,
        message: PeerReply,
        out: &mut Vec<Output>,
    ) {
        self.hear(now, from, out);
        match &message {
            PeerReply::Table(bytes) => return self.adopt_bytes(now, bytes.clone(), out),
            PeerReply::Alive(said) => {
                self.peers.note(from, *said);
                return self.compare_epoch(from, said.vitals.epoch, out);
            }
            PeerReply::Heard { node, ms_ago } => return self.peers.told_of(*node, *ms_ago),
            PeerReply::Gossip { rumors } => return self.hear_rumors(rumors, out),
            PeerReply::Stale(epoch) | PeerReply::Behind(epoch) => self.compare_epoch(from, *epoch, out),
            PeerReply::Fenced { fence, epoch } => self.learn_fence(from, *fence, *epoch, out),
            PeerReply::Forwarded(_)
            | PeerReply::Stored { .. }
            | PeerReply::Same
            | PeerReply::Held(_)
            | PeerReply::Absent { .. }
            | PeerReply::Unreadable
            | PeerReply::Overloaded
            | PeerReply::Full
            | PeerReply::Differ { .. }
            | PeerReply::Listing { .. }
            | PeerReply::Objects { .. }
            | PeerReply::Settled { .. }
            | PeerReply::FenceRaised { .. } => {}
        }
        let id = RowId::from(request);
        match self.pending.take(id) {
            Some(Row::Forward(row)) => self.forward_reply(now, id, row, from, message, out),
            Some(Row::Put(row)) => self.put_reply(now, id, row, from, &message, out),
            Some(Row::Get(row)) => self.get_reply(now, id, row, from, message, out),
            Some(Row::Chunk(row)) => self.chunk_reply(now, id, row, from, &message, out),
            Some(Row::Piece(row)) => self.piece_reply(now, id, row, from, &message, out),
            Some(Row::Comparing(row)) => self.compare_reply(now, id, row, from, message),
            Some(Row::Settling(row)) => self.settling_reply(now, id, row, from, message, out),
            Some(row @ Row::Load(_)) => self.put_row_back(id, row),
            // Ended: a late or repeated answer changes nothing.
            None => {}
        }
    }

    fn on_link_down(&mut self, now: Now, peer: NodeId, lane: io::Lane, out: &mut Vec<Output>) {
        self.peers.set_link(peer, lane, false, now.mono);
        self.look_soon(now);
        self.lose_rows(now, peer, lane, out);
    }

    /// Whatever waits for this peer on this lane will not be answered.
    fn lose_rows(&mut self, now: Now, peer: NodeId, lane: io::Lane, out: &mut Vec<Output>) {
        for id in self.pending.ids() {
            match (self.pending.take(id), lane) {
                (Some(Row::Forward(row)), io::Lane::Foreground) => self.forward_lost(now, id, row, peer, out),
                (Some(Row::Put(row)), io::Lane::Foreground) => self.put_lost(now, id, row, peer, out),
                (Some(Row::Get(row)), io::Lane::Foreground) => self.get_lost(now, id, row, peer, out),
                (Some(Row::Chunk(row)), io::Lane::Bulk) => self.chunk_lost(id, row, peer),
                (Some(Row::Piece(row)), io::Lane::Bulk) => self.piece_lost(now, id, row, peer),
                (Some(Row::Comparing(row)), io::Lane::Bulk) => self.compare_lost(now, id, row, peer),
                (Some(Row::Settling(_)), _) => self.settling_lost(now, id),
                (Some(row), _) => self.put_row_back(id, row),
                (None, _) => {}
            }
        }
    }

    fn put_row_back(&mut self, id: RowId, row: Row) {
        let wake = match &row {
            Row::Forward(row) => row.wake(),
            Row::Put(row) => row.wake(),
            Row::Get(row) => row.wake(),
            Row::Chunk(row) => row.wake(),
            Row::Piece(row) => row.wake(),
            Row::Comparing(row) => row.wake(),
            Row::Settling(row) => row.wake(),
            Row::Load(row) => row.wake(),
        };
        self.pending.put_back(id, row, wake);
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(id) = self.pending.pop_due(now.mono) {
            match self.pending.take(id) {
                Some(Row::Forward(row)) => self.forward_wake(now, id, row, out),
                Some(Row::Put(row)) => self.put_wake(now, id, row, out),
                Some(Row::Get(row)) => self.get_wake(now, id, row, out),
                Some(Row::Chunk(row)) => self.chunk_wake(now, id, row, out),
                Some(Row::Piece(row)) => self.piece_wake(now, id, &row),
                Some(Row::Comparing(_)) => self.compare_wake(now, id),
                Some(Row::Settling(row)) => self.settling_wake(now, id, row, out),
                Some(Row::Load(row)) => self.load_wake(now, id, row, out),
                None => {}
            }
        }
        self.stream_when_due(now, out);
        self.give_up_leftovers(now, out);
        self.report_when_due(now, out);
        self.look_around(now, out);
        self.repair_copies(now, out);
        self.reap(now, out);
    }

    fn on_disk(&mut self, now: Now, event: crate::engine::DiskEvent, out: &mut Vec<Output>) {
        self.engine.on_disk(event);
        self.space.on_disk(event);
        while let Some(ack) = self.gate.release(&self.engine) {
            self.acknowledge(now, ack, out);
        }
        self.table_when_durable(now, out);
        self.leftovers_when_durable(now, out);
    }

    fn acknowledge(&mut self, now: Now, ack: Ack, out: &mut Vec<Output>) {
        match ack {
            Ack::Own(id) => match self.pending.take(id) {
                Some(Row::Put(row)) => self.put_own_durable(now, id, row, out),
                Some(Row::Settling(row)) => self.settling_own_durable(now, id, row, out),
                Some(
                    row @ (Row::Forward(_)
                    | Row::Get(_)
                    | Row::Chunk(_)
                    | Row::Piece(_)
                    | Row::Comparing(_)
                    | Row::Load(_)),
                ) => self.put_row_back(id, row),
                None => {}
            },
            Ack::Peer { conn, request, message } => out.push(Output::PeerReply { conn, request, message }),
        }
    }

    /// Everything that had happened was told: the turn's records go to the disk as one write.
    fn on_turn_end(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.engine.is_index_full() {
            let text =
                "the index has no room for more keys: run more storage nodes, each with a share of them";
            return out.push(Output::Fatal(text.to_owned()));
        }
        self.engine.work(now);
        out.extend(self.engine.take_batch().map(Output::Disk));
        out.extend(self.engine.take_requests().map(Output::Disk));
        out.extend(self.engine.take_reads().map(Output::Read));
        if self.stopping && self.gate.is_empty() && !self.owes_answers() {
            if !std::mem::replace(&mut self.closed, true) {
                out.extend(self.engine.close().map(Output::Disk));
            }
            out.push(Output::Stopped);
        }
    }

    fn owes_answers(&self) -> bool {
        self.pending.ids().into_iter().any(|id| match self.pending.get(id) {
            Some(Row::Forward(_)) => true,
            Some(Row::Put(row)) => row.owes_answer(),
            Some(Row::Get(row)) => row.owes_answer(),
            Some(Row::Load(row)) => row.owes_answer(),
            Some(Row::Chunk(_) | Row::Piece(_) | Row::Comparing(_) | Row::Settling(_)) | None => false,
        })
    }
}

impl Machine for Node {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.started, true) {
            self.start(now, out);
        }
        if !self.faults.admit(&input) {
            return;
        }
        let first = out.len();
        match input {
            Input::Client { conn, request, message } => self.on_client(now, conn, request, message, out),
            Input::Peer { conn, from, request, message } => {
                self.on_peer(now, conn, from, request, message, out);
            }
            Input::PeerReply { from, request, message } => {
                self.on_peer_reply(now, from, request, message, out);
            }
            Input::LinkUp { peer, lane } => self.on_link_up(now, peer, lane, out),
            Input::LinkDown { peer, lane } => self.on_link_down(now, peer, lane, out),
            Input::ManagerUp => self.on_manager_up(now, out),
            Input::ManagerDown => self.manager_up = false,
            Input::Manager(message) => self.on_manager(now, message, out),
            Input::Disk(event) => self.on_disk(now, event, out),
            Input::Read(done) => self.on_read(now, done, out),
            Input::TurnEnd => self.on_turn_end(now, out),
            Input::Tick => self.on_tick(now, out),
            Input::Stop => self.stop_asked(now, out),
        }
        self.faults.withhold(first, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let timers =
            [self.report_at, self.watch.wake(), self.anti_entropy.wake(), self.reaping.wake()].into_iter();
        let moves = self.transfers.wake().into_iter().chain(self.leftovers.wake());
        timers.chain(moves).chain(self.pending.next_wake()).chain(self.engine.deadline()).min()
    }
}

/// What recovery found, for the operator.
fn tell_recovery(found: &Recovered, unsettled: &[Damage]) {
    log::info!("read {} log records back", found.records);
    if found.cut_bytes > 0 {
        log::warn!("cut {} bytes of a torn tail off the log; none was acknowledged", found.cut_bytes);
    }
    if found.damage.len() > unsettled.len() {
        log::info!("the log has damage that was dealt with in an earlier life");
    }
    for damage in unsettled {
        let what = match damage.place {
            Some((keyspace, sector)) => format!("sector {sector} of keyspace {} is", keyspace.0),
            None => "nobody can say whose data it was: all sectors are".to_owned(),
        };
        log::error!(
            "the log is damaged: {} in {} at log position {}; {what} in quarantine: other owners serve what \
             this node does not, until they have filled it again",
            damage.what,
            FileName::Segment(damage.segment).to_text(),
            damage.position
        );
    }
}

/// The table that an earlier life stored. One that cannot be read is moved aside: the cluster has
/// it, and a node without one serves nothing until it is told.
fn stored_view(storage: &mut impl Storage) -> Result<Option<View>, String> {
    let read = storage.read(FileName::Table).map_err(|error| format!("the table file: {error}"))?;
    let Some(bytes) = read else { return Ok(None) };
    let table = match decode_table(bytes) {
        Ok(table) => table,
        Err(error) => {
            let aside = set_table_aside(storage)
                .map_err(|why| format!("the table file: {error}, and it cannot be moved aside: {why}"))?;
            log::warn!(
                "the table file cannot be read: {error}; it is {} now, and the table is fetched from the \
                 manager or the other nodes: until then nothing is served",
                aside.to_text()
            );
            return Ok(None);
        }
    };
    let bytes = encode_table(&table);
    Ok(Some(View { table: Arc::new(table), bytes, ticket: Ticket::default(), durable: true }))
}

/// Gives the table file a name that no file has.
fn set_table_aside(storage: &mut impl Storage) -> std::io::Result<FileName> {
    let files = storage.list()?;
    let mut names = (0..=u16::MAX).map(FileName::TableDamaged);
    let aside = names.find(|name| !files.contains(name)).ok_or(std::io::ErrorKind::AlreadyExists)?;
    storage.rename(FileName::Table, aside)?;
    storage.sync_directory()?;
    Ok(aside)
}
