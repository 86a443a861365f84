//! The storage engine: everything but the values in memory, the values in an append-only log.
//!
//! The engine has one write, [`Engine::merge`]. It changes the index at once and hands out a
//! [`Ticket`]; the write may be acknowledged when the disk has reported that ticket at the
//! keyspace's durability. It has one read, [`Engine::read`], which answers from memory or says
//! which values must come from the disk first. The engine never touches a disk: it gives out
//! [`DiskRequest`]s and [`ReadRequest`]s, which the shell's threads (or the simulator) carry out
//! over [`Storage`], answering with [`DiskEvent`]s and [`ReadDone`]s. Order is the contract:
//! writes are carried out in the order given, and a record is appended, then durable, then
//! acknowledged.
//!
//! | file | owns |
//! |---|---|
//! | `store`, `forget`, `opening` | the engine itself: merge, read, walk, forget; how it comes back from the log |
//! | `quarantine` | places that are not whole, and what is done about damage |
//! | `index` | what is known of every key: `arena`, `shelf`, `entry`, `outline`; the `cache` of values |
//! | `tree` | a sector's content as a few sums, to be compared with another owner's |
//! | `appender`, `segments`, `reads` | the batch of this turn; what is live of each segment; reads under way |
//! | `compaction`, `scrub` | garbage given back; rot found before a reader does |
//! | `record`, `manifest`, `index_file`, `index_codec` | the files as bytes, drawn in their docs |
//! | `log`, `recovery`, `scan` | writing the log over a [`Storage`]; reading it back |
//! | `inspect` | a directory looked at offline |

mod appender;
mod arena;
mod cache;
mod compaction;
mod entry;
#[cfg(test)]
mod footprint;
mod forget;
mod index;
mod index_codec;
pub mod index_file;
pub mod inspect;
mod log;
mod manifest;
mod opening;
mod outline;
mod quarantine;
mod reads;
mod record;
mod recovery;
mod scan;
mod scrub;
mod segments;
mod shelf;
mod storage;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;

pub use log::{LogWriter, SyncPlan, is_full};
pub use manifest::{Manifest, ManifestError};
pub use outline::{CacheSlot, Kind, Location, Outline, Stored};
pub use record::{
    BadStretch, FORMAT_VERSION, MergeRecord, OutlineRecord, Record, RecordError, RecordOutline,
    SEGMENT_HEADER_BYTES, ShelfRecord, read_record, value_of, write_merge, write_record,
};
pub use recovery::{Damage, Recovered, RecoveryError, recover};
pub use shelf::tag_of;
pub use storage::{FileName, Storage, replace};
pub use store::{At, Engine, Fetched, Figures, Loaded, Merged, Settings as EngineSettings, Wanted};
pub use tree::LEAVES;

use bytes::Bytes;
use std::fmt;

/// The number of a disk request. A later one is never done before an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ticket(pub u64);

/// The number of a read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReadId(pub u64);

/// What the disk is asked to write. Carried out in order, by one thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskRequest {
    /// Append these records to the log.
    Append {
        /// The batch's number.
        ticket: Ticket,
        /// The segment they go to, by the log position at which it begins. When it is another
        /// than that of the append before, the earlier one is sealed: synced, never written again.
        segment: u64,
        /// Log position of the first byte.
        position: u64,
        /// Whole records.
        bytes: Bytes,
        /// Whether something waits for it to be synced.
        sync: bool,
    },
    /// Replace a small file whole: written beside it, synced, renamed over it, directory synced.
    /// Before a manifest, which says which segments are whole and which are needed no more,
    /// everything written earlier is synced.
    Replace {
        /// The request's number.
        ticket: Ticket,
        /// Which file.
        file: FileName,
        /// Its new content.
        bytes: Bytes,
    },
    /// Remove files that nothing needs any more, once all before is synced.
    Remove {
        /// The request's number.
        ticket: Ticket,
        /// Which files; one that is not there is no error.
        files: Vec<FileName>,
    },
}

/// What the disk has done. Events come in ticket order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskEvent {
    /// Everything up to and including this ticket is written: it survives the process.
    Written(Ticket),
    /// Everything up to and including this ticket is synced: it survives the machine.
    Synced(Ticket),
    /// Nothing can be written at present: the disk is full. What was asked for waits, in order,
    /// and is tried again until there is room.
    Full,
    /// There is room again: what waited has begun to be written.
    Room,
    /// The bytes that are free for us on the disk. Told at first and when they have changed.
    Free(u64),
}

/// What is to be read from the disk. Carried out in any order, beside the writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadRequest {
    /// Bytes that a request waits for.
    Value(Stretch),
    /// Bytes for work in the background: compaction, scrubbing.
    Scan(Stretch),
    /// Write the index file of a sealed segment, from what the segment holds.
    Index {
        /// The request's number.
        id: ReadId,
        /// The segment.
        segment: u64,
        /// The log position at which it ends.
        end: u64,
    },
}

/// Some bytes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The read's number.
    pub id: ReadId,
    /// The segment.
    pub segment: u64,
    /// The first byte, by its log position.
    pub position: u64,
    /// How many.
    pub length: u32,
}

impl Stretch {
    /// Its first byte, by the offset in the segment's file; none if that is no place in it.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.position.checked_sub(self.segment)?.checked_add(record::SEGMENT_HEADER_BYTES as u64)
    }
}

/// What came of a [`ReadRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadDone {
    /// The read's number.
    pub id: ReadId,
    /// The bytes: fewer than asked for where the segment ends, none for an index file.
    pub result: Result<Bytes, ReadFault>,
}

/// Why something could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFault {
    /// The disk gave an error.
    Failed,
    /// The file is not there.
    Missing,
    /// What is there is not what was written.
    Damaged,
    /// It was not tried: too much is being read already.
    Busy,
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadFault::Failed => "the disk gave an error",
            ReadFault::Missing => "the file is not there",
            ReadFault::Damaged => "what is there is not what was written",
            ReadFault::Busy => "too much is being read already",
        })
    }
}

/// Carries out a [`Stretch`] over a [`Storage`].
///
/// # Errors
/// It cannot be read.
pub fn read_stretch(storage: &mut impl Storage, stretch: &Stretch) -> Result<Bytes, ReadFault> {
    let offset = stretch.offset().ok_or(ReadFault::Failed)?;
    match storage.read_at(FileName::Segment(stretch.segment), offset, stretch.length as usize) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(ReadFault::Missing),
        Err(_) => Err(ReadFault::Failed),
    }
}
