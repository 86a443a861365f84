//! The log's end: the batch of the present turn, positions, tickets, and how far the disk is.

use super::record::{Record, write_record};
use super::{DiskEvent, DiskRequest, FileName, Location, Ticket};
use crate::ring::Durability;
use crate::wire::codec::Writer;
use bytes::Bytes;
use std::collections::VecDeque;

/// A batch is made room for at once, as much as the one before took, but no more than this.
const BATCH_BYTES_EXPECTED_MAX: usize = 64 << 10;

/// Records of this turn, and what was handed to the disk and not yet reported back.
#[derive(Debug)]
pub(super) struct Appender {
    batch: Writer,
    /// Bytes that the next batch is expected to have.
    batch_bytes: usize,
    /// Whether something in the batch waits to be synced.
    batch_sync: bool,
    /// Log position of the batch's first byte, and of the next record.
    batch_position: u64,
    next_position: u64,
    /// The segment that records go to, and the length at which the next one is begun.
    segment: u64,
    segment_bytes: u64,
    /// The number of the next disk request.
    next_ticket: Ticket,
    /// Requests given out and not yet reported, with the log position after each.
    unwritten: VecDeque<(Ticket, u64)>,
    unsynced: VecDeque<(Ticket, u64)>,
    written: Ticket,
    synced: Ticket,
    /// Log positions up to which everything is known to be written, and synced.
    written_position: u64,
    watermark: u64,
}

/// Where a record went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Appended {
    pub(super) location: Location,
    /// A segment was begun with it.
    pub(super) began: Option<u64>,
}

impl Appender {
    /// A log that goes on at `position`, in the segment that begins at `segment`: if that is the
    /// very same, it is yet to be made.
    pub(super) fn new(position: u64, segment: u64, segment_bytes: u64) -> Self {
        Self {
            batch: Writer::default(),
            batch_bytes: 0,
            batch_sync: false,
            batch_position: position,
            next_position: position,
            segment,
            segment_bytes,
            next_ticket: Ticket(1),
            unwritten: VecDeque::new(),
            unsynced: VecDeque::new(),
            written: Ticket(0),
            synced: Ticket(0),
            written_position: position,
            watermark: position,
        }
    }

    /// Adds a record to the turn's batch.
    pub(super) fn append(&mut self, record: &Record, sync: bool) -> Appended {
        self.append_with(sync, |batch, position| write_record(batch, position, record))
    }

    /// Adds what `write` writes, given the log position.
    pub(super) fn append_with(
        &mut self,
        sync: bool,
        write: impl FnOnce(&mut Writer, u64) -> u64,
    ) -> Appended {
        let mut began = None;
        if self.batch.is_empty() {
            self.batch = Writer::with_capacity(self.batch_bytes);
            let length = self.next_position - self.segment;
            if length == 0 || length >= self.segment_bytes {
                self.segment = self.next_position;
                began = Some(self.segment);
            }
            let mark = Record::Batch { watermark: self.watermark };
            self.next_position += write_record(&mut self.batch, self.next_position, &mark);
        }
        let position = self.next_position;
        let bytes = write(&mut self.batch, position);
        self.next_position += bytes;
        self.batch_sync |= sync;
        let location = Location { position, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
        Appended { location, began }
    }

    /// Log position after the last record.
    pub(super) fn end(&self) -> u64 {
        self.next_position
    }

    /// Log position up to which everything can be read from the disk.
    pub(super) fn written_position(&self) -> u64 {
        self.written_position
    }

    /// Log position up to which everything is durable.
    pub(super) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The turn's records as one disk request, if there are any.
    pub(super) fn take_batch(&mut self) -> Option<DiskRequest> {
        if self.batch.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.batch).into_bytes();
        self.batch_bytes = (bytes.len() + bytes.len() / 8).min(BATCH_BYTES_EXPECTED_MAX);
        let position = std::mem::replace(&mut self.batch_position, self.next_position);
        let sync = std::mem::take(&mut self.batch_sync);
        Some(DiskRequest::Append { ticket: self.ticket(), segment: self.segment, position, bytes, sync })
    }

    /// A request to replace a small file whole, in order with the log.
    pub(super) fn replace(&mut self, file: FileName, bytes: Bytes) -> DiskRequest {
        DiskRequest::Replace { ticket: self.ticket(), file, bytes }
    }

    /// A request to remove files, once everything before it is durable.
    pub(super) fn remove(&mut self, files: Vec<FileName>) -> DiskRequest {
        DiskRequest::Remove { ticket: self.ticket(), files }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        self.unwritten.push_back((ticket, self.batch_position));
        self.unsynced.push_back((ticket, self.batch_position));
        ticket
    }

    /// The number of the request given out last.
    pub(super) fn last_request(&self) -> Ticket {
        Ticket(self.next_ticket.0.saturating_sub(1))
    }

    /// The request that will carry, or carried, the latest record.
    pub(super) fn last_record(&self) -> Ticket {
        if self.batch.is_empty() { self.last_request() } else { self.next_ticket }
    }

    /// Takes note of how far the disk has got.
    pub(super) fn on_disk(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Written(ticket) => self.note_written(ticket),
            DiskEvent::Synced(ticket) => {
                self.note_written(ticket);
                self.synced = self.synced.max(ticket);
                self.watermark = reached(&mut self.unsynced, ticket, self.watermark);
            }
            // Room on the disk is the node's concern.
            DiskEvent::Full | DiskEvent::Room | DiskEvent::Free(_) => {}
        }
    }

    fn note_written(&mut self, ticket: Ticket) {
        self.written = self.written.max(ticket);
        self.written_position = reached(&mut self.unwritten, ticket, self.written_position);
    }

    /// Whether what this ticket covers can be read from the disk.
    pub(super) fn is_written(&self, ticket: Ticket) -> bool {
        self.written >= ticket
    }

    /// Whether what this ticket covers may be acknowledged.
    pub(super) fn is_durable(&self, ticket: Ticket, durability: Durability) -> bool {
        match durability {
            Durability::Sync => self.synced >= ticket,
            Durability::Os => self.written >= ticket,
            Durability::Memory => true,
        }
    }
}

/// The position after the last request that is done, all done ones being taken off the queue.
fn reached(queue: &mut VecDeque<(Ticket, u64)>, ticket: Ticket, mut position: u64) -> u64 {
    while queue.front().is_some_and(|entry| entry.0 <= ticket) {
        position = queue.pop_front().map_or(position, |entry| entry.1);
    }
    position
}
