//! Streaming copies of sectors to the nodes that are to own them (CONSISTENCY.md, section 5).
//!
//! ```text
//! a slot {me, new}, or {lost, new} of a sector I own too, in a durable table --> Stream, from its
//! first key
//!   chunk --bulk link--> new owner merges, syncs, acknowledges --> next chunk ... --> streamed
//! streamed --told to the manager with every report--> the table says {new}: forgotten
//! ```
//! The table must be durable here first: from then on every write of the sector reaches the slot's
//! new node as well, so what the walk finds and what is written meanwhile are all there is. Of a slot
//! whose old node is lost all other owners stream what they have. Nothing is lost by sending a chunk
//! twice: the receiver merges.
//!
//! The copies are not compared once more before the slot is settled. Whatever was acknowledged with the
//! old node's help was durable there before it adopted the table, and so is in the walk; whatever came
//! later went to both nodes, or counted for neither. What else they differ in (writes nobody was told
//! of) is anti-entropy's, which compares them while they move, and afterwards.
//!
//! Clients come first: a chunk waits while many requests are in hand, and for its share of the bytes
//! that may be sent in a second.

use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::pending::RowId;
use super::{Node, Row};
use crate::engine::{Fetched, Loaded, Outline, Wanted};
use crate::limits::{
    ROWS_BEFORE_REPAIR, SECTORS_MAX, TRANSFER_BUSY_MS, TRANSFER_CHUNK_BYTES, TRANSFER_RETRY_MS,
    TRANSFERS_AT_ONCE, TRANSFERS_TOLD_MAX,
};
use crate::mutant::Mutant;
use crate::ring::{Slot, Table};
use crate::types::{Instant, Key, KeyspaceId, NodeId, Now, SectorId};
use crate::version::Object;
use crate::wire::client::TransferStatus;
use crate::wire::manager::Arrived;
use crate::wire::peer::{PeerReply, PeerRequest, Place};
use std::collections::BTreeMap;

/// Entries of one chunk; also the decoder's cap.
const CHUNK_ENTRIES_MAX: usize = 4096;

/// Copies of sectors on their way out.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    streams: BTreeMap<Arrived, Stream>,
    /// No chunk is sent before then: others are being paid for, or clients are busy.
    not_before: Instant,
    /// Chunks wait for that time.
    waiting: bool,
    /// The copy of which a chunk was sent last: the others come first.
    last: Option<Arrived>,
}

/// One copy on its way out.
#[derive(Debug)]
struct Stream {
    phase: Phase,
    /// The slot's place in its sector: keyspaces of fewer copies have none in it.
    rank: usize,
    /// Keys that have arrived, keys that there were at its begin, bytes that were sent.
    keys: u64,
    keys_total: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Phase {
    /// To be gone on with after this place.
    Ready(Cursor),
    /// Values of the next chunk are being read from the disk.
    Reading,
    /// A chunk is out and not yet acknowledged.
    Sending,
    /// All of it is durable at the new owner.
    Streamed,
}

/// How far a stream is: everything of the keyspace up to the key has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Cursor {
    keyspace: KeyspaceId,
    after: Option<Key>,
}

/// A stream that waits for values from the disk.
#[derive(Debug)]
pub(super) struct Paused {
    copy: Arrived,
    from: Cursor,
    /// It waits for nothing but the time to try again.
    is_retry: bool,
}

/// What comes next of a stream.
enum Next {
    /// Nothing: all has been sent.
    End,
    /// A chunk, and where the stream is after it.
    Chunk(Cursor, Vec<(Key, Object)>),
    /// These values first.
    OnDisk(Vec<Wanted>),
    /// One that cannot be read.
    Unreadable(Key),
    /// This node's own copy of it is in quarantine.
    Withheld,
}

/// A chunk in flight: a row of the pending table.
#[derive(Debug)]
pub(super) struct Chunk {
    copy: Arrived,
    keys: u64,
    /// Where the stream goes on if it is lost, and if it arrives.
    from: Cursor,
    next: Cursor,
    retry_at: Instant,
}

impl Chunk {
    pub(super) fn wake(&self) -> Instant {
        self.retry_at
    }
}

impl Transfers {
    /// What has arrived whole.
    pub(super) fn streamed(&self) -> Vec<Arrived> {
        let done = self.streams.iter().filter(|entry| matches!(entry.1.phase, Phase::Streamed));
        done.map(|(&copy, _)| copy).take(SECTORS_MAX).collect()
    }

    /// How far each is.
    pub(super) fn status(&self) -> Vec<TransferStatus> {
        let row = |(copy, stream): (&Arrived, &Stream)| TransferStatus {
            sector: copy.sector,
            to: copy.to,
            keys: stream.keys,
            keys_total: stream.keys_total.max(stream.keys),
            bytes: stream.bytes,
            done: matches!(stream.phase, Phase::Streamed),
        };
        self.streams.iter().map(row).take(TRANSFERS_TOLD_MAX).collect()
    }

    /// When a chunk that waits for its time may be sent.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.waiting.then_some(self.not_before)
    }

    fn sending(&self) -> usize {
        self.streams.values().filter(|stream| matches!(stream.phase, Phase::Sending | Phase::Reading)).count()
    }

    /// A chunk of so many bytes is sent: the next one waits until this one is paid for.
    fn pay(&mut self, now: Instant, bytes: usize, bytes_per_second: u64) {
        if let Some(us) = (bytes as u64 * 1_000_000).checked_div(bytes_per_second) {
            self.not_before = self.not_before.max(now).after_us(us);
        }
    }
}

impl Node {
    /// The table in force has become durable: begins what it asks for, forgets what it no longer does.
    pub(super) fn follow_moves(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(table) = self.table().cloned() else { return };
        let mut streams = BTreeMap::new();
        for (copy, rank) in self.copies_to_send(&table) {
            let known = self.transfers.streams.remove(&copy).filter(|stream| stream.rank == rank);
            streams.insert(copy, known.unwrap_or_else(|| self.begin_stream(&table, copy.sector, rank)));
        }
        self.transfers.streams = streams;
        self.stream(now, out);
    }

    /// Copies on their way of which this node is a source, with their slots' places.
    fn copies_to_send(&self, table: &Table) -> Vec<(Arrived, usize)> {
        let mut copies = Vec::new();
        for (sector, id) in table.sectors.iter().zip((0..=u16::MAX).map(SectorId)) {
            for (rank, &slot) in sector.slots.iter().enumerate() {
                let Slot::Moving { new: to, since, .. } = slot else { continue };
                let mut sources = table.sources(id, slot);
                if self.options.planted.is(Mutant::RebuildFromOneSource) {
                    sources.truncate(1);
                }
                if sources.contains(&self.me()) {
                    copies.push((Arrived { sector: id, to, since }, rank));
                }
            }
        }
        copies
    }

    fn begin_stream(&self, table: &Table, sector: SectorId, rank: usize) -> Stream {
        let keys = |keyspace: KeyspaceId| self.engine.count((keyspace, sector));
        let keys_total = keyspaces_of(table, rank, KeyspaceId(0)).map(keys).sum();
        let start = Cursor { keyspace: KeyspaceId(0), after: None };
        Stream { phase: Phase::Ready(start), rank, keys: 0, keys_total, bytes: 0 }
    }

    /// Sends as many chunks as may be out at once. Sectors with nothing to send are done at once.
    pub(super) fn stream(&mut self, now: Now, out: &mut Vec<Output>) {
        self.transfers.waiting = false;
        // One that its receiver does not take is tried again after all others.
        let copies: Vec<Arrived> = self.transfers.streams.keys().copied().collect();
        let first = copies.partition_point(|copy| Some(*copy) <= self.transfers.last);
        for &copy in copies[first..].iter().chain(&copies[..first]) {
            if self.transfers.sending() >= TRANSFERS_AT_ONCE {
                return;
            }
            self.stream_copy(now, copy, &Loaded::new(), out);
        }
    }

    /// Goes on with streams whose time has come.
    pub(super) fn stream_when_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.transfers.wake().is_some_and(|at| at <= now.mono) {
            self.stream(now, out);
        }
    }

    /// Sends the next chunk of a copy, if it is to go on and its receiver can be reached.
    fn stream_copy(&mut self, now: Now, copy: Arrived, loaded: &Loaded, out: &mut Vec<Output>) {
        let Some(stream) = self.transfers.streams.get_mut(&copy) else { return };
        let Phase::Ready(cursor) = &stream.phase else { return };
        let (from, rank) = (cursor.clone(), stream.rank);
        if self.options.planted.is(Mutant::SwitchWithoutStream) {
            stream.phase = Phase::Streamed;
            return;
        }
        let is_sent = self.is_sent(copy.sector, rank, &from);
        if !is_sent && !self.peers.is_up(copy.to, Lane::Bulk) {
            // Gone on with when the link is there again.
            return;
        }
        if !is_sent && self.is_too_soon(now) {
            return;
        }
        match self.next_chunk(copy.sector, rank, &from, loaded) {
            Next::End => self.set_phase(copy, Phase::Streamed),
            Next::Chunk(next, entries) => self.send_chunk(now, copy, from, next, entries, out),
            Next::OnDisk(wanted) => {
                self.set_phase(copy, Phase::Reading);
                let then = Then::Chunk(Paused { copy, from, is_retry: false });
                let deadline = now.mono.after_ms(TRANSFER_RETRY_MS);
                self.wait_for(Waiting::new(then, loaded.clone(), deadline), wanted);
            }
            Next::Withheld => {
                log::warn!(
                    "sector {} is handed over when other owners have filled this node's copy",
                    copy.sector
                );
                self.set_phase(copy, Phase::Reading);
                self.chunk_again(now, Paused { copy, from, is_retry: false }, out);
            }
            Next::Unreadable(key) => {
                log::error!(
                    "sector {} cannot be handed over: the value of {key:?} cannot be read from the \
                     disk; it is tried again until a peer's copy has taken its place",
                    copy.sector
                );
                self.set_phase(copy, Phase::Reading);
                self.chunk_again(now, Paused { copy, from, is_retry: false }, out);
            }
        }
    }

    /// Whether a chunk has to wait: for those before it to be paid for, or for clients.
    fn is_too_soon(&mut self, now: Now) -> bool {
        let transfers = &mut self.transfers;
        let is_too_soon = transfers.not_before > now.mono;
        if !is_too_soon && self.pending.len() > ROWS_BEFORE_REPAIR {
            // One goes all the same: a sector that never arrives is of no use to clients either.
            transfers.not_before = now.mono.after_ms(TRANSFER_BUSY_MS);
        }
        transfers.waiting |= transfers.not_before > now.mono;
        is_too_soon
    }

    fn send_chunk(
        &mut self,
        now: Now,
        copy: Arrived,
        from: Cursor,
        next: Cursor,
        entries: Vec<(Key, Object)>,
        out: &mut Vec<Output>,
    ) {
        let Some(conf_epoch) = self.table().map(|table| table.sector(copy.sector).conf_epoch) else { return };
        let place = Place { keyspace: next.keyspace, sector: copy.sector, conf_epoch };
        let bytes: usize = entries.iter().map(|(key, object)| key.len() + object.value_bytes()).sum();
        self.transfers.pay(now.mono, bytes, self.options.transfer_bytes_per_second);
        if let Some(stream) = self.transfers.streams.get_mut(&copy) {
            stream.bytes += bytes as u64;
        }
        let retry_at = now.mono.after_ms(TRANSFER_RETRY_MS);
        let id = self.pending.reserve();
        let keys = entries.len() as u64;
        let message = PeerRequest::Transfer { place, fence: self.fences.adopted(), entries };
        out.push(Output::Peer { to: copy.to, lane: Lane::Bulk, request: id.into(), message });
        self.set_phase(copy, Phase::Sending);
        self.transfers.last = Some(copy);
        self.put_row_back(id, Row::Chunk(Chunk { copy, keys, from, next, retry_at }));
    }

    /// Values for a chunk have been read, as far as they could be.
    pub(super) fn chunk_loaded(&mut self, now: Now, paused: &Paused, loaded: &Loaded, out: &mut Vec<Output>) {
        let stream = self.transfers.streams.get_mut(&paused.copy);
        if let Some(stream) = stream.filter(|stream| matches!(stream.phase, Phase::Reading)) {
            stream.phase = Phase::Ready(paused.from.clone());
            self.stream_copy(now, paused.copy, loaded, out);
        }
    }

    /// Values for a chunk could not be read just now: it is tried again in a while.
    pub(super) fn chunk_again(&mut self, now: Now, paused: Paused, out: &mut Vec<Output>) {
        if paused.is_retry {
            return self.chunk_loaded(now, &paused, &Loaded::new(), out);
        }
        let retry = Paused { is_retry: true, ..paused };
        let retry_at = now.mono.after_ms(TRANSFER_RETRY_MS);
        self.wait_for(Waiting::new(Then::Chunk(retry), Loaded::new(), retry_at), Vec::new());
    }

    fn set_phase(&mut self, copy: Arrived, phase: Phase) {
        if let Some(stream) = self.transfers.streams.get_mut(&copy) {
            stream.phase = phase;
        }
    }

    /// Whether nothing of a sector is left to send after a cursor.
    fn is_sent(&self, sector: SectorId, rank: usize, from: &Cursor) -> bool {
        let Some(table) = self.table() else { return true };
        !keyspaces_of(table, rank, from.keyspace).any(|keyspace| {
            let after = from.after.as_ref().filter(|_| keyspace == from.keyspace);
            self.engine.walk((keyspace, sector), after).next().is_some()
        })
    }

    /// The next entries of a sector after a cursor, up to a chunk's bytes.
    fn next_chunk(&mut self, sector: SectorId, rank: usize, from: &Cursor, loaded: &Loaded) -> Next {
        let Some(table) = self.table().cloned() else { return Next::End };
        for keyspace in keyspaces_of(&table, rank, from.keyspace) {
            let place = (keyspace, sector);
            if self.engine.is_quarantined(place) {
                // Less than it is to be: the new owner would take what it is sent for all there is.
                return Next::Withheld;
            }
            let after = from.after.as_ref().filter(|_| keyspace == from.keyspace);
            let mut keys = Vec::new();
            let mut bytes = 0;
            for (key, outline) in self.engine.walk(place, after) {
                bytes += key.len() + outline_bytes(&outline);
                if !keys.is_empty() && (bytes > TRANSFER_CHUNK_BYTES || keys.len() >= CHUNK_ENTRIES_MAX) {
                    break;
                }
                keys.push(key);
            }
            if !keys.is_empty() {
                return self.chunk_of(place, keys, loaded);
            }
        }
        Next::End
    }

    /// The chunk of these keys, if their values are in memory or have been read.
    fn chunk_of(&mut self, place: (KeyspaceId, SectorId), keys: Vec<Key>, loaded: &Loaded) -> Next {
        let next = Cursor { keyspace: place.0, after: keys.last().cloned() };
        let mut entries = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match self.engine.read(place, &key, |_| true, loaded) {
                Fetched::Absent => {}
                Fetched::Whole(object) => entries.push((key, object)),
                Fetched::OnDisk(wanted) => missing.extend(wanted),
                Fetched::Unreadable => return Next::Unreadable(key),
            }
        }
        if missing.is_empty() { Next::Chunk(next, entries) } else { Next::OnDisk(missing) }
    }

    pub(super) fn chunk_reply(
        &mut self,
        now: Now,
        id: RowId,
        chunk: Chunk,
        from: NodeId,
        message: &PeerReply,
        out: &mut Vec<Output>,
    ) {
        if from != chunk.copy.to || !matches!(message, PeerReply::Stored { .. }) {
            // Stale, behind or busy: tables are being exchanged; it is sent again when its time comes.
            return self.put_row_back(id, Row::Chunk(chunk));
        }
        self.pending.end(id);
        if let Some(stream) = self.transfers.streams.get_mut(&chunk.copy) {
            stream.keys += chunk.keys;
        }
        self.go_on(&chunk, chunk.next.clone());
        self.stream(now, out);
    }

    /// The stream goes on from a cursor, if it is still the one that the chunk was of.
    fn go_on(&mut self, chunk: &Chunk, cursor: Cursor) {
        if let Some(stream) = self.transfers.streams.get_mut(&chunk.copy) {
            stream.phase = Phase::Ready(cursor);
        }
    }

    pub(super) fn chunk_lost(&mut self, id: RowId, chunk: Chunk, peer: NodeId) {
        if chunk.copy.to != peer {
            return self.put_row_back(id, Row::Chunk(chunk));
        }
        self.pending.end(id);
        self.go_on(&chunk, chunk.from.clone());
    }

    pub(super) fn chunk_wake(&mut self, now: Now, id: RowId, chunk: Chunk, out: &mut Vec<Output>) {
        self.pending.end(id);
        self.go_on(&chunk, chunk.from.clone());
        self.stream(now, out);
    }
}

/// Bytes that an object takes in a chunk, about.
fn outline_bytes(outline: &Outline) -> usize {
    let values: usize = outline.siblings().iter().map(|sibling| sibling.content.kind.value_bytes()).sum();
    values + 32 * outline.siblings().len() + 16 * outline.context().entries().len()
}

/// Keyspaces that have a copy in the slot of this place, from `first` on.
fn keyspaces_of(table: &Table, rank: usize, first: KeyspaceId) -> impl Iterator<Item = KeyspaceId> {
    let entries = table.keyspaces.range(first..);
    entries.filter(move |(_, entry)| rank < usize::from(entry.settings.n)).map(|(&keyspace, _)| keyspace)
}
