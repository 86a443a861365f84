//! Recovery: what a data directory holds is told record by record, and left ready to go on with.
//!
//! What is found wrong is one of three things. A *leftover* (a draft, a segment that a finished
//! compaction no longer needed) is removed. A *torn tail* (bad bytes that were never known to be
//! durable) is cut, with everything after it: none of it was acknowledged as synced. Anything else
//! is *damage*: it is stepped over and reported, and stays where it is, so that it is reported
//! again until somebody has dealt with it.
//!
//! What says that bytes were durable: the manifest, which is written when a log position is known
//! to be synced, and every batch that begins later in the log.
//!
//! Segments that are not known to be durable are copied to new files, synced, and only then
//! believed: after a failed sync the old file's pages may be in memory and nowhere else.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod sealed;
#[cfg(test)]
mod sweep;
mod tail;
#[cfg(test)]
mod tests;

use super::manifest::{Manifest, ManifestError};
use super::outline::Location;
use super::record::{Record, RecordOutline, SegmentHead};
use super::storage::{FileName, Storage, replace};
use crate::mutant::{Mutant, Planted};
use crate::types::{KeyspaceId, SectorId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

/// Something that was durable once and is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment it is in, by its start.
    pub segment: u64,
    /// Log position of the bad stretch; of one known place, of the last of that segment.
    pub position: u64,
    /// Log position before which it ends, with any others of that segment and place.
    pub end: u64,
    /// Whose records were lost; `None` if they may be anybody's.
    pub place: Option<(KeyspaceId, SectorId)>,
    /// What is wrong.
    pub what: &'static str,
}

/// What recovery found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Where the log goes on. Everything before it is durable.
    pub next_position: u64,
    /// The segment to append to. If it begins at `next_position` there is no such file yet.
    pub segment: u64,
    /// Start and end of the sealed segments that are there, in order.
    pub sealed: Vec<(u64, u64)>,
    /// Starts of those that have no good index file and could have one.
    pub unindexed: Vec<u64>,
    /// Records told.
    pub records: u64,
    /// Bytes cut from a torn tail; none of them was ever acknowledged as synced.
    pub cut_bytes: u64,
    /// What was lost, by segment and place where that is known, whether or not something has been done about it. Until
    /// the engine has made durable what it does about it, it must write no manifest: recovery leaves
    /// one that leads to the same findings again.
    pub damage: Vec<Damage>,
}

/// Why a log cannot be served from.
#[derive(Debug)]
pub enum RecoveryError {
    /// The disk does not answer.
    Io(io::Error),
    /// A file is of a format that this version does not know.
    Version {
        /// The file.
        file: FileName,
        /// Its version.
        version: u32,
    },
    /// A record is whole and makes no sense: another version's, or a fault of the writer.
    Unknown {
        /// The file.
        file: FileName,
        /// The record's log position.
        position: u64,
    },
    /// A segment begins within the one before it: files of two logs are mixed.
    Overlap {
        /// The later one.
        file: FileName,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = FileName::Segment(self.segment).to_text();
        write!(f, "{file} at log position {}: {} (", self.position, self.what)?;
        match self.place {
            Some((keyspace, sector)) => write!(f, "keyspace {} sector {sector})", keyspace.0),
            None => f.write_str("any keyspace and sector)"),
        }
    }
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
            RecoveryError::Version { file, version } => write!(
                f,
                "{} is of format {version}, which this version does not know: \
                 start the version that wrote it",
                file.to_text()
            ),
            RecoveryError::Unknown { file, position } => write!(
                f,
                "{} has a record that this version does not know at log position {position}: \
                 start the version that wrote it",
                file.to_text()
            ),
            RecoveryError::Overlap { file } => write!(
                f,
                "{} begins within the segment before it: files of two logs are mixed",
                file.to_text()
            ),
        }
    }
}

/// Reads a data directory's log back, telling `each` of every record in log order, and leaves it
/// ready to be appended to: everything told is durable. A segment of `segment_bytes` or more is
/// sealed.
///
/// Should an index file turn out bad half way, the records of its segment are told once more, from
/// the first: the last record of a key still decides.
///
/// # Errors
/// The disk does not answer, or another version wrote this. Damage is no error: see [`Recovered`].
pub fn recover(
    storage: &mut impl Storage,
    segment_bytes: u64,
    planted: Planted,
    each: &mut impl FnMut(&RecordOutline),
) -> Result<Recovered, RecoveryError> {
    let mode = Mode { planted, copies: !planted.is(Mutant::KeepUnsyncedSegment), reads_all: false };
    run(storage, segment_bytes, mode, &mut |told: Told<'_>| match told {
        Told::Outline(outline) => each(outline),
        Told::Whole(_, location, record) => {
            each(&RecordOutline { location, record: record.into_outline() });
        }
    })
}

/// As [`recover`], but over a storage that cannot be written to, and reading all of every segment.
/// `each` is told the record's segment, too.
///
/// # Errors
/// As for [`recover`].
pub(super) fn survey(
    storage: &mut impl Storage,
    each: &mut impl FnMut(u64, Location, Record),
) -> Result<Recovered, RecoveryError> {
    let mode = Mode { planted: Planted::NONE, copies: false, reads_all: true };
    run(storage, u64::MAX, mode, &mut |told: Told<'_>| match told {
        Told::Whole(segment, location, record) => each(segment, location, record),
        Told::Outline(_) => {}
    })
}

/// A record as it was found.
enum Told<'a> {
    /// In its segment.
    Whole(u64, Location, Record),
    /// In an index file.
    Outline(&'a RecordOutline),
}

/// How a log is recovered.
#[derive(Clone, Copy)]
struct Mode {
    planted: Planted,
    /// Whether what is not known to be durable is copied before it is believed.
    copies: bool,
    /// Whether sealed segments are read even where their index file is good.
    reads_all: bool,
}

fn run(
    storage: &mut impl Storage,
    segment_bytes: u64,
    mode: Mode,
    each: &mut impl FnMut(Told<'_>),
) -> Result<Recovered, RecoveryError> {
    let (found, damage) = (Recovered::default(), BTreeMap::new());
    let mut recovery = Recovery { storage, mode, each, found, damage, durable: 0, knows_all: false };
    let present = recovery.present()?;
    let (manifest, is_lost) = recovery.manifest(&present)?;
    recovery.durable = if is_lost { u64::MAX } else { manifest.durable.max(manifest.high_water) };
    if mode.planted.is(Mutant::IgnoreWatermark) {
        (recovery.durable, recovery.knows_all) = (0, true);
    }
    recovery.leftovers(&manifest, &present)?;
    let mut listed = manifest.sealed.clone();
    for &segment in &manifest.sealed {
        if present.segments.contains(&segment.0) {
            recovery.found.sealed.push(segment);
            recovery.sealed(segment)?;
        } else {
            recovery.missing(segment)?;
        }
    }
    let tail: Vec<u64> = present.segments.range(manifest.high_water..).copied().collect();
    recovery.tail(manifest.high_water, &tail, segment_bytes, &mut listed)?;
    let durable = recovery.found.next_position;
    let now = Manifest { sealed: listed, high_water: recovery.found.segment, durable };
    recovery.finish(&manifest, &now, is_lost)
}

/// The files that are there.
struct Present {
    segments: BTreeSet<u64>,
    indexes: BTreeSet<u64>,
}

type DamageKey = (u64, Option<(KeyspaceId, SectorId)>, u64);

struct Recovery<'a, S, F> {
    storage: &'a mut S,
    mode: Mode,
    each: &'a mut F,
    found: Recovered,
    /// By segment and place; of unknown places each by itself, by its position.
    damage: BTreeMap<DamageKey, Damage>,
    /// Everything before this log position was durable, as far as is known.
    durable: u64,
    /// Whether all of the log has been asked how far it was durable.
    knows_all: bool,
}

impl<S: Storage, F: FnMut(Told<'_>)> Recovery<'_, S, F> {
    /// Lists the files that matter and removes the drafts.
    fn present(&mut self) -> io::Result<Present> {
        let mut present = Present { segments: BTreeSet::new(), indexes: BTreeSet::new() };
        for file in self.storage.list()? {
            match file {
                FileName::Segment(start) => drop(present.segments.insert(start)),
                FileName::SegmentIndex(start) => drop(present.indexes.insert(start)),
                FileName::SegmentDraft(_)
                | FileName::SegmentIndexDraft(_)
                | FileName::ManifestDraft
                | FileName::IdentityDraft
                | FileName::TableDraft
                | FileName::FenceDraft => self.storage.remove(file)?,
                FileName::Manifest
                | FileName::Identity
                | FileName::Table
                | FileName::Fence
                | FileName::TableDamaged(_) => {}
            }
        }
        Ok(present)
    }

    /// The manifest, and whether it is lost. It is written before the first segment is: only a
    /// directory without segments has none.
    fn manifest(&mut self, present: &Present) -> Result<(Manifest, bool), RecoveryError> {
        let what = match Manifest::read(self.storage)? {
            Some(Ok(manifest)) => return Ok((manifest, false)),
            Some(Err(ManifestError::Version(version))) => {
                return Err(RecoveryError::Version { file: FileName::Manifest, version });
            }
            None if present.segments.is_empty() => return Ok((Manifest::default(), false)),
            None => "the manifest is missing",
            Some(Err(ManifestError::Damaged)) => "the manifest is damaged",
        };
        let first = present.segments.first().copied().unwrap_or(0);
        // What of the log was needed no more, nobody knows: until there is a manifest again.
        self.damaged(first, (first, u64::MAX), None, what);
        Ok((Manifest { high_water: first, ..Manifest::default() }, true))
    }

    /// Removes what a finished compaction left behind, and index files of no segment.
    fn leftovers(&mut self, manifest: &Manifest, present: &Present) -> Result<(), RecoveryError> {
        let is_sealed = |start: u64| manifest.sealed.binary_search_by_key(&start, |entry| entry.0).is_ok();
        for &start in present.segments.range(..manifest.high_water).filter(|start| !is_sealed(**start)) {
            if self.mode.planted.is(Mutant::KeepLeftovers) {
                self.read_sealed((start, u64::MAX))?;
            }
            self.storage.remove(FileName::Segment(start))?;
        }
        for &start in present.indexes.iter().filter(|start| !is_sealed(**start)) {
            self.storage.remove(FileName::SegmentIndex(start))?;
        }
        Ok(())
    }

    fn damaged(
        &mut self,
        segment: u64,
        (position, end): (u64, u64),
        place: Option<(KeyspaceId, SectorId)>,
        what: &'static str,
    ) {
        let key = (segment, place, if place.is_none() { position } else { 0 });
        let end = self.damage.get(&key).map_or(end, |known| known.end.max(end));
        self.damage.insert(key, Damage { segment, position, end, place, what });
    }

    fn tell(&mut self, segment: u64, location: Location, record: Record) {
        self.found.records += 1;
        (self.each)(Told::Whole(segment, location, record));
    }

    /// Makes the directory durable, and then the manifest that describes it.
    fn finish(mut self, was: &Manifest, now: &Manifest, is_lost: bool) -> Result<Recovered, RecoveryError> {
        if !self.mode.planted.is(Mutant::SkipDirectorySync) {
            self.storage.sync_directory()?;
        }
        // A lost manifest stays lost until the engine has dealt with it: see `Recovered::damage`.
        let is_first = self.storage.read_at(FileName::Manifest, 0, 1)?.is_none();
        if !is_lost && (was != now || is_first) {
            replace(self.storage, FileName::Manifest, &now.encode())?;
        }
        self.found.damage = std::mem::take(&mut self.damage).into_values().collect();
        Ok(self.found)
    }
}

fn known_version(head: SegmentHead, file: FileName) -> Result<(), RecoveryError> {
    match head {
        // A damaged header is no loss: the records say themselves where they belong.
        SegmentHead::Good | SegmentHead::Damaged => Ok(()),
        SegmentHead::Version(version) => Err(RecoveryError::Version { file, version }),
    }
}

fn unknown(file: FileName, location: Location) -> RecoveryError {
    RecoveryError::Unknown { file, position: location.position }
}
