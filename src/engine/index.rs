//! The index: every object of this node, by keyspace and sector and key, and the batch of log
//! records that the present turn has made.

use super::record::{MergeRecord, Record, write_record};
use super::{DiskEvent, DiskRequest, FileName, Recovered, RecoveryError, Storage, Ticket, recover};
use crate::ring::Durability;
use crate::types::{Key, KeyspaceId, SectorId};
use crate::version::{Content, Object};
use crate::wire::codec::Writer;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// What a merge came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The disk request that makes the key's present object durable.
    pub ticket: Ticket,
    /// Whether anything was new.
    pub changed: bool,
}

/// The keys of one keyspace in one sector, in order.
type Shelf = BTreeMap<Key, Object>;

/// All objects of a node and the log records not yet handed to the disk.
#[derive(Debug, Default)]
pub struct Engine {
    shelves: BTreeMap<(KeyspaceId, SectorId), Shelf>,
    keys: u64,
    bytes: u64,
    /// Records of this turn.
    batch: Writer,
    /// Whether something in the batch waits to be synced.
    batch_sync: bool,
    /// Log position of the batch's first byte, and of the next record.
    batch_position: u64,
    next_position: u64,
    /// The number of the next disk request.
    next_ticket: Ticket,
    /// Requests given out and not yet reported synced, with the log position after each.
    unsynced: VecDeque<(Ticket, u64)>,
    /// Log position up to which everything is known to be synced.
    watermark: u64,
    written: Ticket,
    synced: Ticket,
}

impl Engine {
    /// Reads a data directory's log back into memory.
    ///
    /// # Errors
    /// The log is damaged where it was once durable.
    pub fn open(storage: &mut impl Storage) -> Result<(Self, Recovered), RecoveryError> {
        let mut engine = Self { next_ticket: Ticket(1), ..Self::default() };
        let found = recover(storage, |record| engine.replay(&record))?;
        engine.next_position = found.next_position;
        engine.batch_position = found.next_position;
        engine.watermark = found.next_position;
        Ok((engine, found))
    }

    fn replay(&mut self, record: &MergeRecord) {
        let place = (record.keyspace, record.sector);
        let before = self.shelves.get(&place).and_then(|shelf| shelf.get(&record.key));
        let mut after = record.apply(before);
        after.detach_if(|_| true);
        self.install(place, &Key::copy_from_slice(&record.key), after);
    }

    /// Takes another copy of a key's object into ours. The one write there is.
    ///
    /// Memory changes at once; the write may be acknowledged when the disk has reported the
    /// ticket. New values are copied out of the buffers they came in.
    pub fn merge(
        &mut self,
        place: (KeyspaceId, SectorId),
        key: &Key,
        object: &Object,
        durability: Durability,
    ) -> Merged {
        let before = self.shelves.get(&place).and_then(|shelf| shelf.get(key));
        let mut after = before.cloned().unwrap_or_default();
        if !after.merge(object) {
            return Merged { ticket: self.last_ticket(), changed: false };
        }
        detach_new(&mut after, before);
        match durability {
            Durability::Memory => {}
            Durability::Os | Durability::Sync => {
                let record = Record::Merge(MergeRecord::between(place, key, before, &after));
                self.append(&record, durability == Durability::Sync);
            }
        }
        let key = Key::copy_from_slice(key);
        self.install(place, &key, after);
        Merged { ticket: self.last_ticket(), changed: true }
    }

    fn append(&mut self, record: &Record, sync: bool) {
        if self.batch.is_empty() {
            let mark = Record::Batch { watermark: self.watermark };
            self.next_position += write_record(&mut self.batch, self.next_position, &mark);
        }
        self.next_position += write_record(&mut self.batch, self.next_position, record);
        self.batch_sync |= sync;
    }

    /// The request that will carry, or carried, the latest record.
    fn last_ticket(&self) -> Ticket {
        if self.batch.is_empty() { self.last_request() } else { self.next_ticket }
    }

    fn install(&mut self, place: (KeyspaceId, SectorId), key: &Key, object: Object) {
        let (keys, bytes) = weight(key, Some(&object));
        let old = self.shelves.entry(place).or_default().insert(key.clone(), object);
        let (old_keys, old_bytes) = weight(key, old.as_ref());
        self.keys = self.keys + keys - old_keys;
        self.bytes = self.bytes + bytes - old_bytes;
    }

    /// What is held of a key.
    #[must_use]
    pub fn object(&self, place: (KeyspaceId, SectorId), key: &[u8]) -> Option<&Object> {
        self.shelves.get(&place)?.get(key)
    }

    /// The keys of a keyspace's sector after `after`, in order.
    pub fn walk(
        &self,
        place: (KeyspaceId, SectorId),
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&Key, &Object)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shelf = self.shelves.get(&place);
        shelf.into_iter().flat_map(move |shelf| shelf.range::<Key, _>((from, Bound::Unbounded)))
    }

    /// Keyspaces and sectors of which something is held, from `from` on, in order.
    pub fn places(&self, from: (KeyspaceId, SectorId)) -> impl Iterator<Item = (KeyspaceId, SectorId)> {
        self.shelves.range(from..).map(|(&place, _)| place)
    }

    /// The turn's records as one disk request, if there are any.
    pub fn take_batch(&mut self) -> Option<DiskRequest> {
        if self.batch.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.batch).into_bytes();
        let position = std::mem::replace(&mut self.batch_position, self.next_position);
        let sync = std::mem::take(&mut self.batch_sync);
        Some(DiskRequest::Append { ticket: self.ticket(), segment: 0, position, bytes, sync })
    }

    /// A request to replace a small file whole, in order with the log.
    ///
    /// Take the turn's batch first: a ticket covers everything before it.
    pub fn replace(&mut self, file: FileName, bytes: Bytes) -> DiskRequest {
        DiskRequest::Replace { ticket: self.ticket(), file, bytes }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        self.unsynced.push_back((ticket, self.batch_position));
        ticket
    }

    /// The number of the request given out last.
    #[must_use]
    pub fn last_request(&self) -> Ticket {
        Ticket(self.next_ticket.0.saturating_sub(1))
    }

    /// Takes note of how far the disk has got.
    pub fn on_disk(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Written(ticket) => self.written = self.written.max(ticket),
            DiskEvent::Synced(ticket) => {
                self.written = self.written.max(ticket);
                self.synced = self.synced.max(ticket);
                while self.unsynced.front().is_some_and(|entry| entry.0 <= ticket) {
                    self.watermark = self.unsynced.pop_front().map_or(self.watermark, |entry| entry.1);
                }
            }
            DiskEvent::Full | DiskEvent::Room | DiskEvent::Free(_) => {}
        }
    }

    /// Whether what this ticket covers may be acknowledged.
    #[must_use]
    pub fn is_durable(&self, ticket: Ticket, durability: Durability) -> bool {
        match durability {
            Durability::Sync => self.synced >= ticket,
            Durability::Os => self.written >= ticket,
            Durability::Memory => true,
        }
    }

    /// Keys with at least one value, and bytes of keys and values.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        (self.keys, self.bytes)
    }
}

/// Copies the values that `before` did not have out of the buffers they came in.
fn detach_new(after: &mut Object, before: Option<&Object>) {
    after.detach_if(|dot| before.is_none_or(|object| !object.has(dot)));
}

fn weight(key: &Key, object: Option<&Object>) -> (u64, u64) {
    let Some(object) = object else { return (0, 0) };
    let live = object.siblings().iter().any(|sibling| matches!(sibling.content, Content::Value(_)));
    (u64::from(live), (key.len() + object.value_bytes()) as u64)
}
