//! Reading a segment from its first record to its last, past whatever is damaged in it.
//!
//! Memory is bounded: a piece of the file at a time, or one record where that is larger.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::outline::Location;
use super::record::{
    NO_SECTOR, RECORD_HEADER_BYTES, Record, RecordError, SEGMENT_HEADER_BYTES, SegmentHead, read_record,
    read_record_head, read_segment_header,
};
use super::storage::{FileName, Storage};
use super::{ReadFault, Stretch};
use crate::types::{KeyspaceId, SectorId};
use bytes::Bytes;
use std::io;

/// Bytes read at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// A record, verified.
    Record(Location, Record),
    /// Bytes that are not the record that was written there.
    Bad(Bad),
    /// A record whose checksums are right and whose content makes no sense: the work of a version
    /// that this one does not know.
    Unknown(Location),
    /// Nothing more.
    End,
}

/// A damaged stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bad {
    /// Log position of its first byte.
    pub(super) position: u64,
    /// Log position after it: the next record, or the end of the file.
    pub(super) end: u64,
    /// What was lost.
    pub(super) lost: Lost,
    /// What is wrong.
    pub(super) what: &'static str,
}

/// What a damaged stretch held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lost {
    /// One record of this place.
    Of((KeyspaceId, SectorId)),
    /// A batch's mark: no data.
    Mark,
    /// Records of unknown places.
    Unknown,
}

/// Tells the records of a stretch that was read from a segment which ends at log position `end`.
/// Returns the position of the first one that is not whole in it: it goes on after the stretch.
///
/// # Errors
/// What is there is not what was written.
pub(super) fn records_in(
    stretch: Stretch,
    end: u64,
    bytes: &Bytes,
    mut each: impl FnMut(u64, Record),
) -> Result<u64, ReadFault> {
    let mut offset = 0;
    loop {
        let position = stretch.position + offset as u64;
        if position >= end {
            return Ok(position);
        }
        match read_record(&bytes.slice(offset.min(bytes.len())..), position) {
            Ok((record, length)) => {
                each(position, record);
                offset += length;
            }
            // A file must not end before its segment does.
            Err(RecordError::Truncated) if bytes.len() as u64 >= u64::from(stretch.length) => {
                return Ok(position);
            }
            Err(RecordError::Truncated | RecordError::Damaged | RecordError::Unknown(_)) => {
                return Err(ReadFault::Damaged);
            }
        }
    }
}

/// A reader of one segment.
#[derive(Debug)]
pub(super) struct Scan {
    file: FileName,
    start: u64,
    /// Where the next record should be.
    next: u64,
    /// Log position at which reading stops, if the file goes on so far.
    limit: u64,
    /// Bytes of the file, the first of them at this log position.
    buffer: (u64, Bytes),
    /// Whether the file, or what is to be read of it, ends where the buffer does.
    is_last_piece: bool,
}

impl Scan {
    /// Reads the segment that begins at `start` from the file `file`, up to `limit`.
    pub(super) fn new(file: FileName, start: u64, limit: u64) -> Self {
        Self { file, start, next: start, limit, buffer: (start, Bytes::new()), is_last_piece: false }
    }

    /// Goes on from a log position.
    pub(super) fn from(mut self, position: u64) -> Self {
        self.next = position;
        self.buffer = (position, Bytes::new());
        self
    }

    /// The segment's header.
    pub(super) fn head(&self, storage: &mut impl Storage) -> io::Result<SegmentHead> {
        let bytes = storage.read_at(self.file, 0, SEGMENT_HEADER_BYTES)?.unwrap_or_default();
        Ok(read_segment_header(&bytes, self.start))
    }

    /// Log position of what comes next.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// What comes next.
    pub(super) fn next(&mut self, storage: &mut impl Storage) -> io::Result<Found> {
        let position = self.next;
        let front = self.peek(storage, RECORD_HEADER_BYTES)?;
        if front.is_empty() {
            return Ok(Found::End);
        }
        let Some(head) = read_record_head(&front, position) else {
            let end = self.resynchronise(storage)?;
            let what = "a record's header is damaged";
            return Ok(Found::Bad(Bad { position, end, lost: Lost::Unknown, what }));
        };
        let whole = self.peek(storage, head.bytes)?;
        let bytes = whole.len().min(head.bytes);
        self.next = position.saturating_add(bytes as u64);
        let location = Location { position, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
        let what = match read_record(&whole, position) {
            Ok((record, _)) => return Ok(Found::Record(location, record)),
            Err(RecordError::Unknown(_)) => return Ok(Found::Unknown(location)),
            Err(RecordError::Truncated) => "a record is cut off",
            Err(RecordError::Damaged) => "a record's content is damaged",
        };
        let lost = if head.place.1 == NO_SECTOR { Lost::Mark } else { Lost::Of(head.place) };
        Ok(Found::Bad(Bad { position, end: self.next, lost, what }))
    }

    /// At least `length` bytes from the present position on, unless the file has fewer.
    fn peek(&mut self, storage: &mut impl Storage, length: usize) -> io::Result<Bytes> {
        let used = usize::try_from(self.next - self.buffer.0).unwrap_or(usize::MAX);
        let have = self.buffer.1.len().saturating_sub(used);
        if have >= length || (self.is_last_piece && used <= self.buffer.1.len()) {
            return Ok(self.buffer.1.slice(self.buffer.1.len() - have..));
        }
        let left = usize::try_from(self.limit.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let wanted = length.max(PIECE_BYTES).min(left);
        let offset = (self.next - self.start).saturating_add(SEGMENT_HEADER_BYTES as u64);
        let piece = storage.read_at(self.file, offset, wanted)?.unwrap_or_default();
        self.is_last_piece = piece.len() < wanted || wanted == left;
        self.buffer = (self.next, piece.clone());
        Ok(piece)
    }

    /// Moves on to the next place at which a record's header says that it belongs just there, or
    /// to the end.
    fn resynchronise(&mut self, storage: &mut impl Storage) -> io::Result<u64> {
        self.next = self.next.saturating_add(1);
        loop {
            let window = self.peek(storage, RECORD_HEADER_BYTES)?;
            if window.len() < RECORD_HEADER_BYTES {
                self.next = self.next.saturating_add(window.len() as u64);
                return Ok(self.next);
            }
            for (at, bytes) in window.windows(RECORD_HEADER_BYTES).enumerate() {
                let position = self.next.saturating_add(at as u64);
                if bytes.get(4..12) == Some(&position.to_le_bytes())
                    && read_record_head(bytes, position).is_some()
                {
                    self.next = position;
                    return Ok(position);
                }
            }
            self.next = self.next.saturating_add((window.len() - RECORD_HEADER_BYTES + 1) as u64);
        }
    }
}
