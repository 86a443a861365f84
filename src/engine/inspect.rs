//! Looking at a data directory without changing it: every record in order, and what is wrong.
//!
//! It walks the log by recovery's own rules, so that it finds what a start would find, and reads
//! every byte, where a start trusts index files. `gtstore-storage --check` and `--dump` call it.

use super::index_file::{self, BuildError, Encoded, IndexFile};
use super::manifest::Manifest;
use super::outline::{Kind, Location};
use super::record::{OutlineRecord, Record, SEGMENT_HEADER_BYTES, SegmentHead, ShelfRecord};
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
    /// Sectors of keyspaces that other owners are to fill again.
    pub quarantined: Vec<(KeyspaceId, SectorId)>,
    /// Files that are damaged where nothing is lost by it, and how.
    pub faults: Vec<(FileName, &'static str)>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.faults.is_empty() && self.quarantined.is_empty()
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
    let (settled, damage) = found.damage.iter().copied().partition(|damage| census.is_settled(damage));
    report.damage = damage;
    let settled: Vec<Damage> = settled;
    let starts: BTreeSet<u64> = settled.iter().map(|damage| damage.segment).collect();
    let given_up = "what a bad stretch in it held was given up, for other owners to bring again";
    report.faults.extend(starts.into_iter().map(|start| (FileName::Segment(start), given_up)));
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
        if !found.damage.iter().any(|damage| damage.segment == start) {
            check_whole(storage, (start, end), &mut report)?;
        } else if read_index(storage, (start, end))?.is_some_and(|index| index.is_none()) {
            report.faults.push((FileName::SegmentIndex(start), BAD_INDEX));
        }
    }
    report.leftovers = leftovers(storage, &found)?;
    Ok(report)
}

const BAD_INDEX: &str = "it is damaged, and will be written anew";

/// The index file of a segment, if there is one; `None` inside if it is damaged.
fn read_index(storage: &mut impl Storage, segment: (u64, u64)) -> io::Result<Option<Option<IndexFile>>> {
    if storage.read_at(FileName::SegmentIndex(segment.0), 0, 1)?.is_none() {
        return Ok(None);
    }
    index_file::read(storage, segment, Planted::NONE).map(Some)
}

/// A segment of which nothing is lost, and its index file.
fn check_whole(storage: &mut impl Storage, segment: (u64, u64), report: &mut Report) -> io::Result<()> {
    let (start, end) = segment;
    let (file, index) = (FileName::Segment(start), FileName::SegmentIndex(start));
    let encoded = match index_file::encode_segment(storage, start, end) {
        Ok(encoded) => Some(encoded),
        Err(BuildError::Io(error)) => return Err(error),
        Err(BuildError::Missing | BuildError::Damaged) => {
            report.faults.push((file, "a mark between its records is damaged"));
            None
        }
    };
    match (read_index(storage, segment)?, encoded) {
        (None, _) => {}
        (Some(None), _) => report.faults.push((index, BAD_INDEX)),
        (Some(Some(found)), Some(Encoded { body, count })) if found.is(&body, count) => report.indexed += 1,
        (Some(Some(_)), _) => report.faults.push((index, "it does not describe its segment")),
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
        | FileName::TableDraft
        | FileName::FenceDraft => true,
        FileName::Manifest
        | FileName::Identity
        | FileName::Table
        | FileName::Fence
        | FileName::TableDamaged(_) => false,
    };
    Ok(storage.list()?.into_iter().filter(is_leftover).collect())
}

/// What is known of every key at the end of the log.
#[derive(Default)]
struct Census {
    keys: BTreeMap<((KeyspaceId, SectorId), Key), Held>,
    /// The last record on each place itself.
    shelves: BTreeMap<(KeyspaceId, SectorId), (Location, ShelfRecord)>,
    /// Bad stretches that were dealt with, by their positions; where each ends, and where that is said.
    settled: BTreeMap<u64, (u64, Location)>,
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
                self.shelves.insert((shelf.keyspace, shelf.sector), (location, shelf));
            }
            OutlineRecord::Settled(stretch) => {
                self.settled.insert(stretch.position, (stretch.end, location));
            }
            OutlineRecord::Batch { .. } => {}
        }
    }

    /// Adds up what is live.
    fn close(self, report: &mut Report) {
        let said = self.shelves.values().map(|shelf| shelf.0);
        let mut live: BTreeSet<Location> = said.chain(self.settled.values().map(|entry| entry.1)).collect();
        for ((place, _), held) in &self.keys {
            if held.last.position < self.given_up(*place) {
                continue;
            }
            live.insert(held.last);
            live.extend(held.siblings.iter().map(|sibling| sibling.1));
            *report.keys.entry(*place).or_default() +=
                u64::from(held.siblings.iter().any(|sibling| sibling.2));
        }
        report.live_bytes = live.iter().map(|location| u64::from(location.bytes)).sum();
        let waiting = self.shelves.iter().filter(|(_, (_, shelf))| shelf.needs_rebuild);
        report.quarantined = waiting.map(|entry| *entry.0).collect();
    }

    /// Below this log position everything of a place is void.
    fn given_up(&self, place: (KeyspaceId, SectorId)) -> u64 {
        self.shelves.get(&place).map_or(0, |(_, shelf)| shelf.dropped_below)
    }

    /// Whether a start would know of this damage, and that all it took was given up.
    fn is_settled(&self, damage: &Damage) -> bool {
        match damage.place {
            Some(place) => damage.end <= self.given_up(place),
            None => {
                let before = self.settled.range(..=damage.position).next_back();
                before.is_some_and(|(_, (end, _))| damage.end <= *end)
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::ShelfRecord;
    use crate::engine::testing::{Log, place};
    use crate::sim::SimDisk;
    use crate::types::{Actor, Incarnation, NodeId};

    /// A log of 10 records, whose first segment has an index file.
    fn log() -> Log {
        let mut log = Log::new(1000);
        log.fill(10, 80);
        log.write_manifest();
        let (start, end) = log.sealed[0];
        index_file::build(&mut log.disk, start, end).unwrap();
        log
    }

    fn contents(disk: &mut SimDisk) -> Vec<(FileName, Bytes)> {
        let files = disk.list().unwrap();
        files.into_iter().map(|file| (file, disk.read(file).unwrap().unwrap())).collect()
    }

    #[test]
    fn a_sound_directory_is_counted_and_left_as_it_is() {
        let mut log = log();
        log.put(80);
        log.disk.append(FileName::ManifestDraft, b"x").unwrap();
        let before = contents(&mut log.disk);
        let report = check(&mut log.disk).unwrap();
        assert_eq!(contents(&mut log.disk), before);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.segments, report.indexed, report.records), (3, 1, 22));
        let keys = BTreeMap::from([(place(0), 3), (place(1), 4), (place(2), 4)]);
        assert_eq!((report.keys, report.leftovers), (keys, vec![FileName::ManifestDraft]));
        assert!(report.live_bytes < report.bytes && report.live_bytes > report.bytes / 2);
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let mut log = log();
        for (file, bytes) in contents(&mut log.disk) {
            for byte in 0..bytes.len() as u64 {
                let mut disk = log.disk.clone();
                assert!(disk.flip(file, byte, 2));
                let report = check(&mut disk);
                let is_found =
                    report.as_ref().map_or(true, |report| !report.is_clean() || report.records < 20);
                assert!(is_found, "{file:?} byte {byte}: {report:?}");
            }
        }
    }

    #[test]
    fn a_torn_tail_is_no_damage() {
        let mut log = log();
        log.put(80);
        log.disk
            .truncate(
                FileName::Segment(log.segment),
                log.disk.length(FileName::Segment(log.segment)).unwrap() - 1,
            )
            .unwrap();
        let report = check(&mut log.disk).unwrap();
        assert!(report.is_clean() && report.torn_bytes > 0, "{report:?}");
    }

    #[test]
    fn an_index_file_of_other_records_is_found() {
        let mut log = log();
        let (start, _) = log.sealed[0];
        let other = {
            let mut other = Log::new(1000);
            other.seq = 100;
            other.fill(10, 80);
            index_file::build(&mut other.disk, 0, other.sealed[0].1).unwrap();
            other.disk.read(FileName::SegmentIndex(0)).unwrap().unwrap()
        };
        log.disk.remove(FileName::SegmentIndex(start)).unwrap();
        log.disk.append(FileName::SegmentIndex(start), &other).unwrap();
        let report = check(&mut log.disk).unwrap();
        assert_eq!(report.faults.len(), 1, "{report:?}");
    }

    #[test]
    fn what_is_live_is_what_keys_still_need() {
        let dot = |seq| Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1) }, seq };
        let mut census = Census::default();
        let mut at = 0;
        let mut add = |census: &mut Census, record: OutlineRecord| {
            census.count(Location { position: at, bytes: 100 }, record);
            at += 100;
        };
        let merge = |key: &'static str, sector, kept: &[u64], added: &[(u64, Kind)]| OutlineRecord::Merge {
            keyspace: KeyspaceId(0),
            sector: SectorId(sector),
            key: Bytes::from(key),
            context: Default::default(),
            kept: kept.iter().map(|&seq| dot(seq)).collect(),
            added: added
                .iter()
                .map(|&(seq, content)| crate::version::Sibling {
                    dot: dot(seq),
                    stamp: Default::default(),
                    expiry: None,
                    content,
                })
                .collect(),
        };
        add(&mut census, merge("a", 0, &[], &[(1, Kind::Value(1))]));
        add(&mut census, merge("a", 0, &[], &[(2, Kind::Value(1))])); // The first is garbage.
        add(&mut census, merge("a", 0, &[2], &[])); // This is needed for the context alone.
        add(&mut census, merge("b", 0, &[], &[(3, Kind::Tombstone)]));
        add(&mut census, merge("c", 1, &[], &[(4, Kind::Value(1))]));
        let (keyspace, sector) = (KeyspaceId(0), SectorId(1));
        let shelf = ShelfRecord { keyspace, sector, fence: 0, dropped_below: 450, needs_rebuild: false };
        add(&mut census, OutlineRecord::Shelf(shelf)); // "c" is void.
        let mut report = Report::default();
        census.close(&mut report);
        assert_eq!(report.live_bytes, 400);
        assert_eq!(report.keys, BTreeMap::from([((KeyspaceId(0), SectorId(0)), 1)]));
    }
}
