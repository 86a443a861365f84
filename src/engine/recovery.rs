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

use super::index_file;
use super::manifest::{Manifest, ManifestError};
use super::outline::Location;
use super::record::{
    NO_SECTOR, OutlineRecord, Record, RecordOutline, SEGMENT_HEADER_BYTES, SegmentHead, segment_header,
};
use super::scan::{Bad, Found, Lost, PIECE_BYTES, Scan};
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
    /// Log position of the last bad stretch of that segment and place.
    pub position: u64,
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
    /// What was lost, by segment and place. Until the engine has made durable what it does about
    /// it, it must write no manifest: recovery leaves one that leads to the same findings again.
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
        }
    }
}

/// Reads a data directory's log back, telling `each` of every record in log order, and leaves it
/// ready to be appended to: everything told is durable. A segment of `segment_bytes` or more is
/// sealed.
///
/// A record may be told twice in a row of its segment's others (an index file that turned out bad
/// half way); told in order again, the last record of a key still decides.
///
/// # Errors
/// The disk does not answer, or another version wrote this. Damage is no error: see [`Recovered`].
pub fn recover(
    storage: &mut impl Storage,
    segment_bytes: u64,
    planted: Planted,
    each: &mut impl FnMut(&RecordOutline),
) -> Result<Recovered, RecoveryError> {
    let found = Recovered::default();
    let mut recovery =
        Recovery { storage, planted, each, found, damage: BTreeMap::new(), durable: 0, knows_all: false };
    let present = recovery.present()?;
    let (manifest, is_lost) = recovery.manifest(&present)?;
    recovery.durable = if is_lost { u64::MAX } else { manifest.durable.max(manifest.high_water) };
    if planted.is(Mutant::IgnoreWatermark) {
        (recovery.durable, recovery.knows_all) = (0, true);
    }
    recovery.leftovers(&manifest, &present)?;
    let mut listed = Vec::new();
    for &segment in &manifest.sealed {
        listed.push(segment);
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

struct Recovery<'a, S, F> {
    storage: &'a mut S,
    planted: Planted,
    each: &'a mut F,
    found: Recovered,
    /// By segment and place.
    damage: BTreeMap<(u64, Option<(KeyspaceId, SectorId)>), Damage>,
    /// Everything before this log position was durable, as far as is known.
    durable: u64,
    /// Whether all of the log has been asked how far it was durable.
    knows_all: bool,
}

/// How a segment of the tail ended.
enum TailEnd {
    /// Its last byte is good, or damage that stays.
    Whole,
    /// The log ends in it: what follows was never durable.
    Torn,
}

impl<S: Storage, F: FnMut(&RecordOutline)> Recovery<'_, S, F> {
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
                | FileName::TableDraft => self.storage.remove(file)?,
                FileName::Manifest | FileName::Identity | FileName::Table => {}
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
        self.damaged(first, first, None, what);
        Ok((Manifest { high_water: first, ..Manifest::default() }, true))
    }

    /// Removes what a finished compaction left behind, and index files of no segment.
    fn leftovers(&mut self, manifest: &Manifest, present: &Present) -> Result<(), RecoveryError> {
        let is_sealed = |start: u64| manifest.sealed.binary_search_by_key(&start, |entry| entry.0).is_ok();
        for &start in present.segments.range(..manifest.high_water).filter(|start| !is_sealed(**start)) {
            if self.planted.is(Mutant::KeepLeftovers) {
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
        position: u64,
        place: Option<(KeyspaceId, SectorId)>,
        what: &'static str,
    ) {
        self.damage.insert((segment, place), Damage { segment, position, place, what });
    }

    fn tell(&mut self, location: Location, record: Record) {
        self.found.records += 1;
        (self.each)(&RecordOutline { location, record: record.into_outline() });
    }

    // ---- sealed segments ---------------------------------------------------------------------

    /// A segment of the manifest: through its index file if that is good, else by itself.
    fn sealed(&mut self, segment: (u64, u64)) -> Result<(), RecoveryError> {
        let (start, end) = segment;
        let last_byte = SEGMENT_HEADER_BYTES as u64 + (end - start) - 1;
        let tail = self.storage.read_at(FileName::Segment(start), last_byte, 1)?;
        let index = index_file::read(self.storage, segment, self.planted)?;
        if tail.is_some_and(|tail| !tail.is_empty())
            && let Some(index) = index
        {
            let mut told = 0;
            let each = &mut *self.each;
            let is_whole = index.visit(&mut |outline| {
                told += 1;
                each(outline);
            });
            if is_whole {
                self.found.records += told;
                return Ok(());
            }
        }
        if self.read_sealed(segment)? {
            self.found.unindexed.push(start);
        }
        Ok(())
    }

    /// Tells a sealed segment's good records and reports the rest. Whether all was good.
    fn read_sealed(&mut self, (start, end): (u64, u64)) -> Result<bool, RecoveryError> {
        let file = FileName::Segment(start);
        let mut scan = Scan::new(file, start, end);
        known_version(scan.head(self.storage)?, file)?;
        let mut bad = Vec::new();
        loop {
            match scan.next(self.storage)? {
                Found::Record(location, record) => self.tell(location, record),
                Found::Bad(stretch) => bad.push(stretch),
                Found::Unknown(location) => return Err(unknown(file, location)),
                Found::End => break,
            }
        }
        let position = scan.position();
        if position < end && end != u64::MAX {
            bad.push(Bad { position, end, lost: Lost::Unknown, what: "the segment is cut short" });
        }
        self.report((start, end), &bad)?;
        Ok(bad.is_empty())
    }

    /// A segment of the manifest that is not there.
    fn missing(&mut self, (start, end): (u64, u64)) -> io::Result<()> {
        let what = "a segment is missing";
        self.report((start, end), &[Bad { position: start, end, lost: Lost::Unknown, what }])
    }

    /// Reports bad stretches of a sealed segment, in order; where the place cannot be told from
    /// what is left, its index file may know.
    fn report(&mut self, segment: (u64, u64), bad: &[Bad]) -> io::Result<()> {
        for stretch in bad {
            match stretch.lost {
                Lost::Of(place) => self.damaged(segment.0, stretch.position, Some(place), stretch.what),
                Lost::Mark | Lost::Unknown => {}
            }
        }
        let unknown: Vec<&Bad> = bad.iter().filter(|stretch| stretch.lost == Lost::Unknown).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut lost = Vec::new();
        let mut stretches = unknown.iter().peekable();
        let is_known = index_file::read(self.storage, segment, Planted::NONE)?.is_some_and(|index| {
            index.visit(&mut |outline| {
                let (at, end) = (outline.location.position, outline.location.end());
                while stretches.next_if(|stretch| stretch.end <= at).is_some() {}
                if let Some(stretch) = stretches.peek().filter(|stretch| stretch.position < end) {
                    lost.extend(place_of(&outline.record).map(|place| (at, place, stretch.what)));
                }
            })
        });
        if !is_known {
            unknown.iter().for_each(|stretch| self.damaged(segment.0, stretch.position, None, stretch.what));
            return Ok(());
        }
        lost.iter().for_each(|&(at, place, what)| self.damaged(segment.0, at, Some(place), what));
        Ok(())
    }

    // ---- the tail ----------------------------------------------------------------------------

    /// The segments from the high water on: one stretch of log, of which the end may be torn.
    fn tail(
        &mut self,
        high_water: u64,
        starts: &[u64],
        segment_bytes: u64,
        listed: &mut Vec<(u64, u64)>,
    ) -> Result<(), RecoveryError> {
        let mut end = high_water;
        let mut kept: Vec<(u64, u64, bool)> = Vec::new();
        for (at, &start) in starts.iter().enumerate() {
            let (_, later) = starts.split_at(at + 1);
            if start != end {
                if self.is_torn(end.min(start), None, starts.split_at(at).1)? {
                    self.cut(starts.split_at(at).1)?;
                    break;
                }
                self.damaged(end, end.min(start), None, "a segment is missing");
                if end < start {
                    listed.push((end, start));
                }
            }
            let (segment_end, how, is_good) = self.tail_segment(start, later)?;
            end = segment_end.max(end);
            if segment_end > start {
                kept.push((start, segment_end, is_good));
            }
            match how {
                TailEnd::Whole => {}
                TailEnd::Torn => {
                    self.cut(later)?;
                    break;
                }
            }
        }
        let lacks =
            self.durable != u64::MAX && end < self.durable && !self.planted.is(Mutant::IgnoreWatermark);
        if lacks {
            let segment = kept.last().map_or(end, |entry| entry.0);
            self.damaged(segment, end, None, "the log ends before what was once durable");
        }
        let next = if lacks { self.durable } else { end };
        let current = kept.last().copied().filter(|entry| !lacks && next - entry.0 < segment_bytes);
        if current.is_some() {
            kept.pop();
        }
        for &(start, segment_end, is_good) in &kept {
            self.found.sealed.push((start, segment_end));
            self.found.unindexed.extend(is_good.then_some(start));
            listed.push((start, segment_end));
        }
        if lacks {
            listed.push((end, self.durable));
        }
        self.found.next_position = next;
        self.found.segment = current.map_or(next, |entry| entry.0);
        Ok(())
    }

    /// Reads one segment of the tail, from a synced copy of it that takes its place unless all of
    /// it is known to be durable. Returns where it ends now, and whether nothing in it is bad.
    fn tail_segment(&mut self, start: u64, later: &[u64]) -> Result<(u64, TailEnd, bool), RecoveryError> {
        let file = FileName::Segment(start);
        known_version(Scan::new(file, start, u64::MAX).head(self.storage)?, file)?;
        let is_copied = self.is_unsure(start)? && !self.planted.is(Mutant::KeepUnsyncedSegment);
        let source = if is_copied { self.copy(start)? } else { file };
        let mut scan = Scan::new(source, start, u64::MAX);
        let (mut how, mut is_good) = (TailEnd::Whole, true);
        let mut end = start;
        loop {
            match scan.next(self.storage)? {
                Found::Record(location, record) => {
                    end = location.end();
                    self.tell(location, record);
                }
                Found::Unknown(location) => return Err(unknown(file, location)),
                Found::End => break,
                Found::Bad(bad) if self.is_torn(bad.position, Some((source, start)), later)? => {
                    if self.planted.is(Mutant::TornTailServed) {
                        continue;
                    }
                    how = TailEnd::Torn;
                    self.found.cut_bytes += length_past(self.storage, source, start, bad.position)?;
                    break;
                }
                Found::Bad(bad) => {
                    end = bad.end;
                    is_good = false;
                    match bad.lost {
                        Lost::Of(place) => self.damaged(start, bad.position, Some(place), bad.what),
                        Lost::Unknown => self.damaged(start, bad.position, None, bad.what),
                        Lost::Mark => {}
                    }
                }
            }
        }
        if end == start {
            self.storage.remove(source)?;
            self.storage.remove(file)?;
            return Ok((end, how, is_good));
        }
        if matches!(how, TailEnd::Torn) {
            self.storage.truncate(source, SEGMENT_HEADER_BYTES as u64 + (end - start))?;
            self.storage.sync(source)?;
        }
        if is_copied {
            self.storage.rename(source, file)?;
        }
        Ok((end, how, is_good))
    }

    /// Whether a segment goes on beyond what is known to be durable.
    fn is_unsure(&mut self, start: u64) -> io::Result<bool> {
        if self.durable == u64::MAX {
            return Ok(true);
        }
        let known = self.durable.saturating_sub(start).saturating_add(SEGMENT_HEADER_BYTES as u64);
        let beyond = self.storage.read_at(FileName::Segment(start), known, 1)?;
        Ok(self.durable <= start || beyond.is_some_and(|bytes| !bytes.is_empty()))
    }

    /// Copies a segment to its draft and syncs that.
    fn copy(&mut self, start: u64) -> io::Result<FileName> {
        let (file, draft) = (FileName::Segment(start), FileName::SegmentDraft(start));
        self.storage.append(draft, &segment_header(start))?;
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        loop {
            let piece = self.storage.read_at(file, offset, PIECE_BYTES)?.unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            self.storage.append(draft, &piece)?;
            offset += piece.len() as u64;
        }
        self.storage.sync(draft)?;
        Ok(draft)
    }

    /// Whether bad bytes at `position` were never known to be durable. When nothing known so far
    /// says that they were, the rest of the log is asked: the rest of the segment that is being
    /// read, if any, and the `later` ones.
    fn is_torn(
        &mut self,
        position: u64,
        reading: Option<(FileName, u64)>,
        later: &[u64],
    ) -> Result<bool, RecoveryError> {
        if position >= self.durable && !self.knows_all {
            let rest = reading.map(|(file, start)| Scan::new(file, start, u64::MAX).from(position));
            let later = later.iter().map(|&start| Scan::new(FileName::Segment(start), start, u64::MAX));
            for mut scan in rest.into_iter().chain(later) {
                loop {
                    match scan.next(self.storage)? {
                        Found::Record(_, Record::Batch { watermark }) => {
                            self.durable = self.durable.max(watermark);
                        }
                        Found::Record(_, Record::Merge(_) | Record::Shelf(_))
                        | Found::Bad(_)
                        | Found::Unknown(_) => {}
                        Found::End => break,
                    }
                }
            }
            self.knows_all = true;
        }
        Ok(position >= self.durable)
    }

    /// Removes the segments after the end of the log.
    fn cut(&mut self, starts: &[u64]) -> io::Result<()> {
        for &start in starts {
            let file = FileName::Segment(start);
            self.found.cut_bytes += length_past(self.storage, file, start, start)?;
            self.storage.remove(file)?;
        }
        Ok(())
    }

    /// Makes the directory durable, and then the manifest that describes it.
    fn finish(mut self, was: &Manifest, now: &Manifest, is_lost: bool) -> Result<Recovered, RecoveryError> {
        if !self.planted.is(Mutant::SkipDirectorySync) {
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

/// Bytes of a segment's file from a log position on.
fn length_past(storage: &mut impl Storage, file: FileName, start: u64, position: u64) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let offset = (position - start).saturating_add(SEGMENT_HEADER_BYTES as u64 + length);
        match storage.read_at(file, offset, PIECE_BYTES)?.map_or(0, |piece| piece.len() as u64) {
            0 => return Ok(length),
            more => length += more,
        }
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

fn place_of(record: &OutlineRecord) -> Option<(KeyspaceId, SectorId)> {
    let place = match record {
        OutlineRecord::Merge { keyspace, sector, .. } => (*keyspace, *sector),
        OutlineRecord::Shelf(shelf) => (shelf.keyspace, shelf.sector),
        OutlineRecord::Batch { .. } => (KeyspaceId(0), NO_SECTOR),
    };
    (place.1 != NO_SECTOR).then_some(place)
}
