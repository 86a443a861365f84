//! Looking at a data directory without changing it: every record in order, and what is wrong.
//!
//! It walks the log by recovery's own rules, so that it finds what a start would find, and reads
//! every byte, where a start trusts index files. `gtstore-storage --check` and `--dump` call it.

use super::index_file::{self, Encoded};
use super::manifest::Manifest;
use super::outline::{Kind, Location};
use super::record::{OutlineRecord, Record, SEGMENT_HEADER_BYTES, SegmentHead};
use super::recovery::{Damage, Recovered, RecoveryError, survey};
use super::scan::Scan;
use super::storage::{FileName, Storage};
use crate::mutant::Planted;
use crate::types::{Dot, Key, KeyspaceId, SectorId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// What a data directory is found to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Segments of the log.
    pub segments: u64,
    /// Sealed segments with a good index file.
    pub indexed: u64,
    /// Good records.
    pub records: u64,
    /// Bytes of the segments' files.
    pub bytes: u64,
    /// Bytes of the records that are still needed; the rest is for compaction to free.
    pub live_bytes: u64,
    /// Keys with a value, by keyspace and sector. (Some may have expired.)
    pub keys: BTreeMap<(KeyspaceId, SectorId), u64>,
    /// Bytes of a torn tail. A start cuts it; nothing of it was acknowledged as synced.
    pub torn_bytes: u64,
    /// Files that a crash left behind; a start removes them.
    pub leftovers: Vec<FileName>,
    /// What was lost.
    pub damage: Vec<Damage>,
    /// Files that are damaged where nothing is lost by it, and how.
    pub faults: Vec<(FileName, &'static str)>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.faults.is_empty()
    }
}

/// Tells `each` of every good record that a start would find, values and all, in log order: its
/// segment, where it is, and what it says.
///
/// # Errors
/// As for [`recover`](super::recover).
pub fn dump(
    storage: &mut impl Storage,
    each: &mut impl FnMut(u64, Location, Record),
) -> Result<Recovered, RecoveryError> {
    survey(&mut DryRun(storage), each)
}

/// Verifies every record, every index file against its segment, and the manifest.
///
/// # Errors
/// As for [`recover`](super::recover). Damage is none: see [`Report`].
pub fn check(storage: &mut impl Storage) -> Result<Report, RecoveryError> {
    let mut census = Census::default();
    let found = dump(storage, &mut |_, location, record| census.count(location, record.into_outline()))?;
    let mut report = Report { records: found.records, torn_bytes: found.cut_bytes, ..Report::default() };
    census.close(&mut report);
    let tail = found.next_position > found.segment;
    let last = tail.then_some((found.segment, found.next_position));
    for (start, end) in found.sealed.iter().copied().chain(last) {
        report.segments += 1;
        report.bytes += SEGMENT_HEADER_BYTES as u64 + (end - start);
        let file = FileName::Segment(start);
        if Scan::new(file, start, end).head(storage)? != SegmentHead::Good {
            report.faults.push((file, "its header is damaged"));
        }
        let is_whole = !found.damage.iter().any(|damage| damage.segment == start);
        check_index(storage, (start, end), is_whole, &mut report)?;
    }
    report.leftovers = leftovers(storage, &found)?;
    report.damage = found.damage;
    Ok(report)
}

fn check_index(
    storage: &mut impl Storage,
    (start, end): (u64, u64),
    is_whole: bool,
    report: &mut Report,
) -> io::Result<()> {
    let file = FileName::SegmentIndex(start);
    if storage.read_at(file, 0, 1)?.is_none() {
        return Ok(());
    }
    let Some(index) = index_file::read(storage, (start, end), Planted::NONE)? else {
        report.faults.push((file, "it is damaged; it is written anew"));
        return Ok(());
    };
    if !is_whole {
        return Ok(());
    }
    match index_file::encode_segment(storage, start, end) {
        Ok(Encoded { body, count }) if index.is(&body, count) => report.indexed += 1,
        Err(index_file::BuildError::Io(error)) => return Err(error),
        Ok(_) | Err(index_file::BuildError::Missing | index_file::BuildError::Damaged) => {
            report.faults.push((file, "it does not describe its segment"));
        }
    }
    Ok(())
}

/// Files that the log found does not need.
fn leftovers(storage: &mut impl Storage, found: &Recovered) -> io::Result<Vec<FileName>> {
    let manifest = Manifest::read(storage)?.and_then(Result::ok).unwrap_or_default();
    let listed = manifest.sealed.iter().chain(&found.sealed).map(|segment| segment.0);
    let needed: BTreeSet<u64> = listed.chain([found.segment]).collect();
    let is_leftover = |file: &FileName| match file {
        FileName::Segment(start) | FileName::SegmentIndex(start) => !needed.contains(start),
        FileName::SegmentDraft(_)
        | FileName::SegmentIndexDraft(_)
        | FileName::ManifestDraft
        | FileName::IdentityDraft
        | FileName::TableDraft => true,
        FileName::Manifest | FileName::Identity | FileName::Table => false,
    };
    Ok(storage.list()?.into_iter().filter(is_leftover).collect())
}

/// What is known of every key at the end of the log.
#[derive(Default)]
struct Census {
    keys: BTreeMap<((KeyspaceId, SectorId), Key), Held>,
    /// The last record on each place itself, and the position below which its merges are void.
    shelves: BTreeMap<(KeyspaceId, SectorId), (Location, u64)>,
}

/// A key's last record, and its siblings: dot, record with the content, whether that is a value.
struct Held {
    last: Location,
    siblings: Vec<(Dot, Location, bool)>,
}

impl Census {
    fn count(&mut self, location: Location, record: OutlineRecord) {
        match record {
            OutlineRecord::Merge { keyspace, sector, key, kept, added, .. } => {
                let key = ((keyspace, sector), Bytes::copy_from_slice(&key));
                let held =
                    self.keys.entry(key).or_insert_with(|| Held { last: location, siblings: Vec::new() });
                held.last = location;
                held.siblings.retain(|sibling| kept.contains(&sibling.0));
                held.siblings.extend(added.iter().map(|sibling| match sibling.content {
                    Kind::Value(_) => (sibling.dot, location, true),
                    Kind::Tombstone => (sibling.dot, location, false),
                }));
            }
            OutlineRecord::Shelf(shelf) => {
                self.shelves.insert((shelf.keyspace, shelf.sector), (location, shelf.dropped_below));
            }
            OutlineRecord::Batch { .. } => {}
        }
    }

    /// Adds up what is live.
    fn close(self, report: &mut Report) {
        let mut live: BTreeSet<Location> = self.shelves.values().map(|shelf| shelf.0).collect();
        for ((place, _), held) in &self.keys {
            if self.shelves.get(place).is_some_and(|shelf| held.last.position < shelf.1) {
                continue;
            }
            live.insert(held.last);
            live.extend(held.siblings.iter().map(|sibling| sibling.1));
            *report.keys.entry(*place).or_default() +=
                u64::from(held.siblings.iter().any(|sibling| sibling.2));
        }
        report.live_bytes = live.iter().map(|location| u64::from(location.bytes)).sum();
    }
}

/// A storage that reads and does not write.
struct DryRun<'a, S>(&'a mut S);

impl<S: Storage> Storage for DryRun<'_, S> {
    fn append(&mut self, _: FileName, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self, _: FileName) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>> {
        self.0.read(file)
    }

    fn read_at(&mut self, file: FileName, offset: u64, length: usize) -> io::Result<Option<Bytes>> {
        self.0.read_at(file, offset, length)
    }

    fn truncate(&mut self, _: FileName, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<FileName>> {
        self.0.list()
    }

    fn remove(&mut self, _: FileName) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _: FileName, _: FileName) -> io::Result<()> {
        Ok(())
    }
}
