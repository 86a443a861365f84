//! The commit log: appended in segments by the log thread, read back at start.
//!
//! Neither end decides when anything is durable; they write, sync and report. A segment is sealed
//! and synced before the next one is begun, so damage in any but the last is corruption.

use super::record::{MergeRecord, Record, RecordError, SEGMENT_HEADER_BYTES, read_record, segment_header};
use super::storage::replace;
use super::{DiskRequest, FileName, Storage, Ticket};
use crate::limits::SEGMENT_BYTES;
use bytes::Bytes;
use std::fmt;
use std::io;

/// Carries out disk requests, in order, over a [`Storage`]: the one piece of code between the
/// engine's requests and a disk, run by the shell's log thread and by the simulator alike.
///
/// Group commit: call [`write`](Self::write) for everything that is queued, then
/// [`sync`](Self::sync) once if [`wants_sync`](Self::wants_sync), then report
/// [`written`](Self::written) and [`synced`](Self::synced).
#[derive(Debug, Default)]
pub struct LogWriter {
    /// The segment being appended to, and its bytes so far.
    segment: Option<(FileName, u64)>,
    /// Files appended to and not yet synced, oldest first.
    dirty: Vec<FileName>,
    /// A file was created since the directory was last synced.
    directory_dirty: bool,
    written: Ticket,
    synced: Ticket,
    /// The last request that somebody waits to see synced.
    awaited: Ticket,
}

/// What is to be synced so that everything written by now is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncPlan {
    /// The last request that it covers.
    pub ticket: Ticket,
    /// Every file appended to and not yet synced, oldest first.
    pub files: Vec<FileName>,
    /// Whether the directory is to be synced after them.
    pub directory: bool,
}

impl LogWriter {
    /// Carries out one request, except for the sync of an append.
    ///
    /// # Errors
    /// Whatever the disk says. The process must stop: nothing later may be acknowledged.
    pub fn write(&mut self, storage: &mut impl Storage, request: &DiskRequest) -> io::Result<()> {
        match request {
            DiskRequest::Append { ticket, segment: _, position, bytes, sync } => {
                self.append(storage, *position, bytes)?;
                self.written = *ticket;
                if *sync {
                    self.awaited = *ticket;
                }
            }
            DiskRequest::Replace { ticket, file, bytes } => {
                replace(storage, *file, bytes)?;
                self.written = *ticket;
                self.awaited = *ticket;
            }
            DiskRequest::Remove { ticket, files } => {
                self.sync(storage)?;
                for file in files {
                    storage.remove(*file)?;
                }
                storage.sync_directory()?;
                self.written = *ticket;
            }
        }
        Ok(())
    }

    fn append(&mut self, storage: &mut impl Storage, position: u64, bytes: &[u8]) -> io::Result<()> {
        if self.segment.is_some_and(|(_, length)| length >= SEGMENT_BYTES) {
            self.sync(storage)?;
            self.segment = None;
        }
        let (file, length) = match self.segment {
            Some(segment) => segment,
            None => {
                let file = FileName::Segment(position);
                append_whole(storage, file, 0, &segment_header(position))?;
                self.directory_dirty = true;
                (file, SEGMENT_HEADER_BYTES as u64)
            }
        };
        self.segment = Some((file, length));
        append_whole(storage, file, length, bytes)?;
        self.segment = Some((file, length + bytes.len() as u64));
        if !self.dirty.contains(&file) {
            self.dirty.push(file);
        }
        Ok(())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn sync(&mut self, storage: &mut impl Storage) -> io::Result<()> {
        let Some(plan) = self.sync_plan() else { return Ok(()) };
        for file in &plan.files {
            storage.sync(*file)?;
        }
        if plan.directory {
            storage.sync_directory()?;
        }
        self.synced_to(&plan);
        Ok(())
    }

    /// Everything written and not yet synced, for whoever syncs it beside further writes; none if
    /// there is nothing. It must be carried out, and told of with [`synced_to`](Self::synced_to),
    /// or the process must end.
    pub fn sync_plan(&mut self) -> Option<SyncPlan> {
        let is_due = self.synced < self.written || self.directory_dirty || !self.dirty.is_empty();
        is_due.then(|| SyncPlan {
            ticket: self.written,
            files: std::mem::take(&mut self.dirty),
            directory: std::mem::take(&mut self.directory_dirty),
        })
    }

    /// A plan has been carried out.
    pub fn synced_to(&mut self, plan: &SyncPlan) {
        self.synced = self.synced.max(plan.ticket);
    }

    /// Whether somebody waits for a sync.
    #[must_use]
    pub fn wants_sync(&self) -> bool {
        self.synced < self.awaited
    }

    /// The last request that was carried out.
    #[must_use]
    pub fn written(&self) -> Ticket {
        self.written
    }

    /// The last request that is durable.
    #[must_use]
    pub fn synced(&self) -> Ticket {
        self.synced
    }
}

/// Appends to a file of `length` bytes, and cuts off again what a failure left of it.
fn append_whole(storage: &mut impl Storage, file: FileName, length: u64, bytes: &[u8]) -> io::Result<()> {
    storage.append(file, bytes).or_else(|error| {
        // A tail that stays would stand in the middle of the log if the append were tried again.
        storage.truncate(file, length).map_err(|cut| {
            io::Error::other(format!("{error}; and what was written of it cannot be cut off: {cut}"))
        })?;
        Err(error)
    })
}

/// What recovery found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Where the log goes on.
    pub next_position: u64,
    /// Records read back.
    pub records: u64,
    /// Bytes cut from a torn tail; none of them was ever acknowledged as synced.
    pub cut_bytes: u64,
}

/// Why a log cannot be served from.
#[derive(Debug)]
pub enum RecoveryError {
    /// The disk does not answer.
    Io(io::Error),
    /// Something that was once synced is damaged or gone.
    Damaged {
        /// The file.
        file: FileName,
        /// The byte offset in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl From<io::Error> for RecoveryError {
    fn from(error: io::Error) -> Self {
        RecoveryError::Io(error)
    }
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Io(error) => write!(f, "the log cannot be read: {error}"),
            RecoveryError::Damaged { file, offset, what } => {
                write!(f, "the log is damaged: {what} in {} at byte {offset}", file.to_text())
            }
        }
    }
}

/// Reads the log back, record by record in order, and leaves it ready to be appended to.
///
/// The tail of the last segment may be torn: it is cut. What remains of that segment is copied to
/// a new, synced file, because after a failed sync the old one's pages cannot be trusted.
///
/// # Errors
/// Damage anywhere else: nothing is served from such a log.
pub fn recover(
    storage: &mut impl Storage,
    mut each: impl FnMut(MergeRecord),
) -> Result<Recovered, RecoveryError> {
    let mut starts = Vec::new();
    for file in storage.list()? {
        match file {
            FileName::Segment(start) => starts.push(start),
            FileName::SegmentDraft(_)
            | FileName::SegmentIndexDraft(_)
            | FileName::ManifestDraft
            | FileName::IdentityDraft
            | FileName::TableDraft => {
                storage.remove(file)?;
            }
            FileName::SegmentIndex(_) | FileName::Manifest | FileName::Identity | FileName::Table => {}
        }
    }
    starts.sort_unstable();
    let mut found = Recovered { next_position: starts.first().copied().unwrap_or(0), ..Recovered::default() };
    for (at, &start) in starts.iter().enumerate() {
        let last = at + 1 == starts.len();
        if start != found.next_position {
            let file = FileName::Segment(start);
            return Err(RecoveryError::Damaged { file, offset: 0, what: "a segment before it is missing" });
        }
        read_segment(storage, start, last, &mut found, &mut each)?;
    }
    Ok(found)
}

fn read_segment(
    storage: &mut impl Storage,
    start: u64,
    last: bool,
    found: &mut Recovered,
    each: &mut impl FnMut(MergeRecord),
) -> Result<(), RecoveryError> {
    let file = FileName::Segment(start);
    let bytes = storage.read(file)?.unwrap_or_default();
    let header = segment_header(start);
    let good_header = bytes.starts_with(&header);
    if !good_header && !last {
        return Err(RecoveryError::Damaged { file, offset: 0, what: "a bad segment header" });
    }
    let mut offset = if good_header { header.len() } else { 0 };
    while good_header && offset < bytes.len() {
        let position = start + (offset - SEGMENT_HEADER_BYTES) as u64;
        match read_record(&bytes.slice(offset..), position) {
            Ok((record, length)) => {
                offset += length;
                found.records += 1;
                match record {
                    Record::Merge(merge) => each(merge),
                    Record::Batch { .. } => {}
                }
            }
            Err(RecordError::Unknown(_)) => {
                let what = "a record of an unknown version";
                return Err(RecoveryError::Damaged { file, offset: offset as u64, what });
            }
            Err(RecordError::Truncated | RecordError::Damaged) if !last => {
                return Err(RecoveryError::Damaged { file, offset: offset as u64, what: "a bad record" });
            }
            Err(RecordError::Truncated | RecordError::Damaged) => break,
        }
    }
    if last {
        if was_synced_past(&bytes, start, offset) {
            let what = "a bad record before others that were synced after it";
            return Err(RecoveryError::Damaged { file, offset: offset as u64, what });
        }
        found.cut_bytes = (bytes.len() - offset) as u64;
        rewrite(storage, file, &bytes.slice(..offset))?;
    }
    found.next_position = start + offset.saturating_sub(SEGMENT_HEADER_BYTES) as u64;
    Ok(())
}

/// Whether a good batch after the bad record at `offset` says that the log was synced beyond it.
fn was_synced_past(bytes: &Bytes, start: u64, offset: usize) -> bool {
    let first = offset.max(SEGMENT_HEADER_BYTES);
    (first + 1..bytes.len()).any(|at| {
        let position = start + (at - SEGMENT_HEADER_BYTES) as u64;
        let bad_position = start + (first - SEGMENT_HEADER_BYTES) as u64;
        match read_record(&bytes.slice(at..), position) {
            Ok((Record::Batch { watermark }, _)) => watermark > bad_position,
            Ok((Record::Merge(_), _)) | Err(_) => false,
        }
    })
}

/// Copies the good part of the last segment to a new, synced file; an empty one is removed.
fn rewrite(storage: &mut impl Storage, file: FileName, good: &Bytes) -> io::Result<()> {
    if good.len() > SEGMENT_HEADER_BYTES {
        return replace(storage, file, good);
    }
    storage.remove(file)?;
    storage.sync_directory()
}
