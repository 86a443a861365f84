//! Streaming sectors out to the nodes that are to own them (CONSISTENCY.md, section 5).
//!
//! ```text
//! a slot {me, new} in a durable table --> Stream, from its first key
//!   chunk --bulk link--> new owner merges, syncs, acknowledges --> next chunk ... --> streamed
//! streamed --told to the manager with every report--> the table says {new}: forgotten
//! ```
//! The table must be durable here first: from then on every write of the sector reaches both
//! nodes, so what the walk finds and what is written meanwhile are all there is. Nothing is lost
//! by sending a chunk twice: the receiver merges.

use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::pending::RowId;
use super::{Node, Row};
use crate::engine::{Fetched, Loaded, Outline, Wanted};
use crate::limits::{TRANSFER_CHUNK_BYTES, TRANSFER_RETRY_MS, TRANSFERS_AT_ONCE};
use crate::mutant::Mutant;
use crate::ring::Slot;
use crate::types::{Epoch, Instant, Key, KeyspaceId, NodeId, Now, SectorId};
use crate::version::Object;
use crate::wire::peer::{PeerReply, PeerRequest, Place};
use std::collections::BTreeMap;

/// Entries of one chunk; also the decoder's cap.
const CHUNK_ENTRIES_MAX: usize = 4096;

/// Sectors on their way out, by sector: a node holds at most one slot of each.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    streams: BTreeMap<SectorId, Stream>,
}

/// One sector on its way out.
#[derive(Debug)]
struct Stream {
    to: NodeId,
    conf_epoch: Epoch,
    phase: Phase,
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
    sector: SectorId,
    conf_epoch: Epoch,
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
}

/// A chunk in flight: a row of the pending table.
#[derive(Debug)]
pub(super) struct Chunk {
    sector: SectorId,
    conf_epoch: Epoch,
    to: NodeId,
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
    /// What has arrived whole, with the configuration under which it was sent.
    pub(super) fn streamed(&self) -> Vec<(SectorId, Epoch)> {
        let done = self.streams.iter().filter(|entry| matches!(entry.1.phase, Phase::Streamed));
        done.map(|(&sector, stream)| (sector, stream.conf_epoch)).collect()
    }

    fn sending(&self) -> usize {
        self.streams.values().filter(|stream| matches!(stream.phase, Phase::Sending | Phase::Reading)).count()
    }
}

impl Node {
    /// The table in force has become durable: begins what it asks for, forgets what it no longer does.
    pub(super) fn follow_moves(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(table) = self.table().cloned() else { return };
        let me = self.me();
        let mut streams = BTreeMap::new();
        for (at, sector) in table.sectors.iter().enumerate() {
            let leaving = sector.slots.iter().find_map(|slot| match *slot {
                Slot::Moving { old, new } if old == me => Some(new),
                Slot::Moving { .. } | Slot::Settled(_) => None,
            });
            let (Some(to), Ok(id)) = (leaving, u16::try_from(at).map(SectorId)) else { continue };
            let conf_epoch = sector.conf_epoch;
            let known = self.transfers.streams.remove(&id).filter(|stream| stream.conf_epoch == conf_epoch);
            let start = Cursor { keyspace: KeyspaceId(0), after: None };
            streams.insert(id, known.unwrap_or(Stream { to, conf_epoch, phase: Phase::Ready(start) }));
        }
        self.transfers.streams = streams;
        self.stream(now, out);
    }

    /// Sends as many chunks as may be out at once. Sectors with nothing to send are done at once.
    pub(super) fn stream(&mut self, now: Now, out: &mut Vec<Output>) {
        let sectors: Vec<SectorId> = self.transfers.streams.keys().copied().collect();
        for sector in sectors {
            if self.transfers.sending() >= TRANSFERS_AT_ONCE {
                return;
            }
            self.stream_sector(now, sector, &Loaded::new(), out);
        }
    }

    /// Sends the next chunk of a sector, if it is to go on and its receiver can be reached.
    fn stream_sector(&mut self, now: Now, sector: SectorId, loaded: &Loaded, out: &mut Vec<Output>) {
        let Some(stream) = self.transfers.streams.get_mut(&sector) else { return };
        let Phase::Ready(cursor) = &stream.phase else { return };
        let (to, conf_epoch, from) = (stream.to, stream.conf_epoch, cursor.clone());
        if self.options.planted.is(Mutant::SwitchWithoutStream) {
            stream.phase = Phase::Streamed;
            return;
        }
        if !self.peers.is_up(to, Lane::Bulk) && !self.is_sent(sector, &from) {
            // Gone on with when the link is there again.
            return;
        }
        match self.next_chunk(sector, &from, loaded) {
            Next::End => self.set_phase(sector, Phase::Streamed),
            Next::Chunk(next, entries) => {
                let place = Place { keyspace: next.keyspace, sector, conf_epoch };
                let retry_at = now.mono.after_ms(TRANSFER_RETRY_MS);
                let id = self.pending.reserve();
                let message = PeerRequest::Transfer { place, fence: self.fences.adopted(), entries };
                out.push(Output::Peer { to, lane: Lane::Bulk, request: id.into(), message });
                let chunk = Chunk { sector, conf_epoch, to, from, next, retry_at };
                self.set_phase(sector, Phase::Sending);
                self.put_row_back(id, Row::Chunk(chunk));
            }
            Next::OnDisk(wanted) => {
                self.set_phase(sector, Phase::Reading);
                let then = Then::Chunk(Paused { sector, conf_epoch, from, is_retry: false });
                let deadline = now.mono.after_ms(TRANSFER_RETRY_MS);
                self.wait_for(Waiting::new(then, loaded.clone(), deadline), wanted);
            }
            Next::Unreadable(key) => {
                log::error!(
                    "sector {sector} cannot be handed over: the value of {key:?} cannot be read from the \
                     disk; it is tried again until a peer's copy has taken its place"
                );
                self.set_phase(sector, Phase::Reading);
                self.chunk_again(now, Paused { sector, conf_epoch, from, is_retry: false }, out);
            }
        }
    }

    /// Values for a chunk have been read, as far as they could be.
    pub(super) fn chunk_loaded(&mut self, now: Now, paused: &Paused, loaded: &Loaded, out: &mut Vec<Output>) {
        let stream = self.transfers.streams.get_mut(&paused.sector);
        let stream = stream.filter(|stream| stream.conf_epoch == paused.conf_epoch);
        if let Some(stream) = stream.filter(|stream| matches!(stream.phase, Phase::Reading)) {
            stream.phase = Phase::Ready(paused.from.clone());
            self.stream_sector(now, paused.sector, loaded, out);
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

    fn set_phase(&mut self, sector: SectorId, phase: Phase) {
        if let Some(stream) = self.transfers.streams.get_mut(&sector) {
            stream.phase = phase;
        }
    }

    /// Whether nothing of a sector is left to send after a cursor.
    fn is_sent(&self, sector: SectorId, from: &Cursor) -> bool {
        let Some(table) = self.table() else { return true };
        !table.keyspaces.range(from.keyspace..).any(|(&keyspace, _)| {
            let after = from.after.as_ref().filter(|_| keyspace == from.keyspace);
            self.engine.walk((keyspace, sector), after).next().is_some()
        })
    }

    /// The next entries of a sector after a cursor, up to a chunk's bytes.
    fn next_chunk(&mut self, sector: SectorId, from: &Cursor, loaded: &Loaded) -> Next {
        let Some(table) = self.table().cloned() else { return Next::End };
        for &keyspace in table.keyspaces.range(from.keyspace..).map(|entry| entry.0) {
            let place = (keyspace, sector);
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
        // What is left of a damaged copy may be older than what has been reaped elsewhere.
        let gives = !self.engine.is_quarantined(place);
        for key in keys {
            if !gives {
                return Next::Unreadable(key);
            }
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
        if from != chunk.to || !matches!(message, PeerReply::Stored { .. }) {
            // Stale, behind or busy: tables are being exchanged; it is sent again when its time comes.
            return self.put_row_back(id, Row::Chunk(chunk));
        }
        self.pending.end(id);
        self.go_on(&chunk, chunk.next.clone());
        self.stream(now, out);
    }

    /// The stream goes on from a cursor, if it is still the one that the chunk was of.
    fn go_on(&mut self, chunk: &Chunk, cursor: Cursor) {
        let stream = self.transfers.streams.get_mut(&chunk.sector);
        if let Some(stream) = stream.filter(|stream| stream.conf_epoch == chunk.conf_epoch) {
            stream.phase = Phase::Ready(cursor);
        }
    }

    pub(super) fn chunk_lost(&mut self, id: RowId, chunk: Chunk, peer: NodeId) {
        if chunk.to != peer {
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
