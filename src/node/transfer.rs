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
use super::pending::RowId;
use super::{Node, Row};
use crate::limits::{TRANSFER_CHUNK_BYTES, TRANSFER_RETRY_MS, TRANSFERS_AT_ONCE};
use crate::mutant::Mutant;
use crate::ring::Slot;
use crate::types::{Epoch, Instant, Key, KeyspaceId, NodeId, Now, SectorId};
use crate::version::Object;
use crate::wire::object_bytes;
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
        self.streams.values().filter(|stream| matches!(stream.phase, Phase::Sending)).count()
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
        let mut sending = self.transfers.sending();
        for sector in sectors {
            if sending >= TRANSFERS_AT_ONCE {
                return;
            }
            let Some(stream) = self.transfers.streams.get_mut(&sector) else { continue };
            let Phase::Ready(cursor) = &stream.phase else { continue };
            let (to, conf_epoch, from) = (stream.to, stream.conf_epoch, cursor.clone());
            if self.options.planted.is(Mutant::SwitchWithoutStream) {
                stream.phase = Phase::Streamed;
                continue;
            }
            match self.next_chunk(sector, &from) {
                None => self.set_phase(sector, Phase::Streamed),
                Some((next, entries)) if self.peers.is_up(to, Lane::Bulk) => {
                    let place = Place { keyspace: next.keyspace, sector, conf_epoch };
                    let retry_at = now.mono.after_ms(TRANSFER_RETRY_MS);
                    let id = self.pending.reserve();
                    let message = PeerRequest::Transfer { place, entries };
                    out.push(Output::Peer { to, lane: Lane::Bulk, request: id.into(), message });
                    let chunk = Chunk { sector, conf_epoch, to, from, next, retry_at };
                    self.set_phase(sector, Phase::Sending);
                    sending += 1;
                    self.put_row_back(id, Row::Chunk(chunk));
                }
                Some(_) => {}
            }
        }
    }

    fn set_phase(&mut self, sector: SectorId, phase: Phase) {
        if let Some(stream) = self.transfers.streams.get_mut(&sector) {
            stream.phase = phase;
        }
    }

    /// The next entries of a sector after a cursor, up to a chunk's bytes.
    fn next_chunk(&self, sector: SectorId, from: &Cursor) -> Option<(Cursor, Vec<(Key, Object)>)> {
        let keyspaces = self.table()?.keyspaces.range(from.keyspace..).map(|entry| *entry.0);
        for keyspace in keyspaces {
            let after = from.after.as_ref().filter(|_| keyspace == from.keyspace);
            let mut entries = Vec::new();
            let mut bytes = 0;
            for (key, object) in self.engine.walk((keyspace, sector), after) {
                bytes += key.len() + object_bytes(object);
                if !entries.is_empty() && (bytes > TRANSFER_CHUNK_BYTES || entries.len() >= CHUNK_ENTRIES_MAX)
                {
                    break;
                }
                entries.push((key.clone(), object.clone()));
            }
            if let Some((last, _)) = entries.last() {
                let next = Cursor { keyspace, after: Some(last.clone()) };
                return Some((next, entries));
            }
        }
        None
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
