//! The engine itself: every object of this node, and the log behind it.
//!
//! One write, [`Engine::merge`]; one read, [`Engine::read`], which may have to wait for the disk.
//! What is to be written and read is handed out at the end of a turn; what came of it is told by
//! [`Engine::on_disk`] and [`Engine::on_read`].

use super::appender::{Appended, Appender};
use super::compaction::Compaction;
use super::entry::Sole;
use super::index::{Held, Index, Spot};
use super::outline::{Kind, Location, Outline, Stored};
use super::quarantine::Quarantine;
use super::reads::{Purpose, Reads};
use super::record::{MergeRecord, Record, ShelfRecord, value_of, write_merge};
use super::scrub::Scrub;
use super::segments::Segments;
use super::tree::LEAVES;
use super::{DiskEvent, DiskRequest, FileName, ReadDone, ReadFault, ReadId, ReadRequest, Ticket};
use crate::limits::{CACHE_CHUNKS_PER_TURN, SPACE_PERCENT_MAX, STATEMENTS_MAX, SWEEP_KEYS_PER_TURN};
use crate::mutant::Planted;
use crate::ring::Durability;
use crate::types::{Dot, Instant, Key, KeyspaceId, Now, SectorId, Stamp, WallMs};
use crate::version::{Content, Few, Object, Sibling, VersionVector};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A keyspace's sector.
pub type At = (KeyspaceId, SectorId);

/// Values read from the disk for somebody, by the writes that stored them.
pub type Loaded = BTreeMap<Dot, Bytes>;

/// How an engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of values held in memory.
    pub cache_bytes: usize,
    /// A segment is left for the next one at this many bytes.
    pub segment_bytes: u64,
    /// Bytes a second read back to see whether they are still what was written; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// A planted bug, for the simulator.
    pub planted: Planted,
}

/// What a merge came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The disk request that makes the key's present object durable.
    pub ticket: Ticket,
    /// Whether anything was new.
    pub changed: bool,
}

/// What a read came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// Nothing is held.
    Absent,
    /// All that was wanted.
    Whole(Object),
    /// These values are on their way from the disk: read again with them.
    OnDisk(Vec<Wanted>),
    /// A value cannot be read back: what is held is known, but not what it says.
    Unreadable,
}

/// A value on its way from the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Names the read.
    pub read: ReadId,
    /// Names the value.
    pub dot: Dot,
}

/// Figures of an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Keys with at least one value.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Bytes of the log, and how many of them are needed.
    pub log_bytes: u64,
    /// Of these, bytes of records that the index points to.
    pub live_bytes: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Bytes of memory: index and cached values.
    pub memory_bytes: usize,
    /// Values that could not be read back since the start.
    pub unreadable: u64,
}

/// All objects of a node and the log behind them.
#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) index: Index,
    pub(super) log: Appender,
    pub(super) segments: Segments,
    pub(super) reads: Reads,
    pub(super) intents: Vec<Intent>,
    /// Keys of which the last record carries no sibling, and where that is.
    pub(super) statements: BTreeMap<(At, Key), Location>,
    pub(super) compaction: Compaction,
    pub(super) scrub: Scrub,
    pub(super) quarantine: Quarantine,
    pub(super) shelf_records: BTreeMap<At, (ShelfRecord, Location)>,
    pub(super) unreadable: u64,
}

/// A disk request that gets its number when it is handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Intent {
    /// A small file is replaced.
    Replace(FileName, Bytes),
    /// Files are removed.
    Remove(Vec<FileName>),
}

impl Engine {
    /// Takes another copy of a key's object into ours. The one write there is.
    ///
    /// Memory changes at once; the write may be acknowledged when the disk has reported the
    /// ticket. New values are copied out of the buffers they came in.
    pub fn merge(&mut self, place: At, key: &Key, object: &Object, durability: Durability) -> Merged {
        let (spot, held) = self.index.held(place, key);
        let before = match held {
            Held::Nothing if is_sole(object) => {
                return self.put_sole((place, key), spot, None, object, durability);
            }
            Held::Sole(sole) if is_sole(object) && replaces(object, &sole) => {
                return self.put_sole((place, key), spot, Some(&sole), object, durability);
            }
            Held::Nothing => None,
            Held::Sole(_) => self.index.outline(place, key),
            Held::Outline(outline) => Some(outline),
        };
        let arriving = object.map(|sibling| Stored {
            kind: Kind::of(&sibling.content),
            location: None,
            slot: None,
            damaged: false,
        });
        let mut after = before.clone().unwrap_or_default();
        let mut changed = after.merge(&arriving);
        changed |= heal(&mut after, &arriving);
        if !changed {
            return Merged { ticket: self.log.last_record(), changed: false };
        }
        let is_new = |sibling: &Sibling<Stored>| {
            let held = before.as_ref().and_then(|outline| find(outline, sibling.dot));
            held.is_none_or(|held| held.content.damaged && !sibling.content.damaged)
        };
        let (added, kept): (Vec<_>, Vec<_>) = after.siblings().iter().partition(|sibling| is_new(sibling));
        let added: Vec<Sibling> =
            added.iter().filter_map(|sibling| find_content(object, sibling.dot)).cloned().collect();
        let mut position = None;
        if durability != Durability::Memory {
            let record = MergeRecord {
                keyspace: place.0,
                sector: place.1,
                key: key.clone(),
                context: after.context().clone(),
                kept: kept.iter().map(|sibling| sibling.dot).collect(),
                added,
            };
            let sync = durability == Durability::Sync;
            let location = self.append(&Record::Merge(record), sync);
            position = Some(location.position);
            if kept.len() == after.siblings().len() {
                self.note_statement(place, key, location);
            } else {
                self.forget_statement(place, key);
            }
            after = after.map(|sibling| {
                if is_new(sibling) {
                    Stored { location: Some(location), ..sibling.content }
                } else {
                    sibling.content
                }
            });
        }
        self.account(before.as_ref(), &after);
        self.index.install(place, key, before.as_ref(), &after);
        let spot = self.index.seek(place, key);
        for sibling in object.siblings() {
            if let (Content::Value(value), Some(held)) = (&sibling.content, find(&after, sibling.dot))
                && is_new(held)
            {
                self.index.keep_value(spot, sibling.dot, value, position);
            }
        }
        Merged { ticket: self.log.last_record(), changed: true }
    }

    /// A merge that comes to one sibling under its own dot, in the place of nothing or of another
    /// such: most of them do, and this is the same with less to look at.
    fn put_sole(
        &mut self,
        (place, key): (At, &Key),
        spot: Spot,
        before: Option<&Sole>,
        object: &Object,
        durability: Durability,
    ) -> Merged {
        let Some(sibling) = object.siblings().first() else {
            return Merged { ticket: self.log.last_record(), changed: false };
        };
        let mut location = None;
        if durability != Durability::Memory {
            let appended = self.log.append_with(durability == Durability::Sync, |batch, position| {
                let (kept, added) = (std::iter::empty(), std::iter::once(sibling));
                write_merge(batch, position, place, key, object.context(), kept, added)
            });
            self.book(&appended);
            location = Some(appended.location);
        }
        let kind = Kind::of(&sibling.content);
        self.forget_statement(place, key);
        if let Some(sole) = before
            && let Some(old) = sole.sibling.content.location
        {
            self.segments.drop_live(old, last_hour(sole.sibling.expiry, sole.sibling.content.kind));
        }
        if let Some(location) = location {
            self.segments.add_live(location, last_hour(sibling.expiry, kind));
        }
        let content = Stored { kind, location, slot: None, damaged: false };
        let after = Sibling { dot: sibling.dot, stamp: sibling.stamp, expiry: sibling.expiry, content };
        let value = match &sibling.content {
            Content::Value(value) => Some(value),
            Content::Tombstone => None,
        };
        self.index.install_sole(spot, key, before, &after, value);
        Merged { ticket: self.log.last_record(), changed: true }
    }

    /// Adds a record to the turn's batch, and keeps the books of segments.
    pub(super) fn append(&mut self, record: &Record, sync: bool) -> Location {
        let appended = self.log.append(record, sync);
        self.book(&appended);
        appended.location
    }

    fn book(&mut self, appended: &Appended) {
        if let Some(start) = appended.began {
            self.segments.open(start);
        }
        self.segments.grow(self.log.end());
    }

    /// A record that carries no sibling is the last word on a key.
    pub(super) fn note_statement(&mut self, place: At, key: &Key, location: Location) {
        self.segments.add_live(location, None);
        if let Some(old) = self.statements.insert((place, Key::copy_from_slice(key)), location) {
            self.segments.drop_live(old, None);
        }
    }

    /// One that does is, from now on.
    pub(super) fn forget_statement(&mut self, place: At, key: &Key) {
        if !self.statements.is_empty()
            && let Some(old) = self.statements.remove(&(place, key.clone()))
        {
            self.segments.drop_live(old, None);
        }
    }

    /// A keyspace's sector is given up: nothing of it has a last word any more.
    pub(super) fn forget_statements(&mut self, place: At) {
        let first = (place, Key::new());
        while let Some((key, _)) = self.statements.range(first.clone()..).next()
            && key.0 == place
        {
            let key = key.clone();
            if let Some(old) = self.statements.remove(&key) {
                self.segments.drop_live(old, None);
            }
        }
    }

    /// Where the last word on a key is, if that carries no sibling.
    pub(super) fn statement_of(&self, place: At, key: &Key) -> Option<u64> {
        if self.statements.is_empty() {
            return None;
        }
        self.statements.get(&(place, key.clone())).map(|location| location.position)
    }

    /// Records that an object no longer lies in are garbage; those that it lies in now are live.
    pub(super) fn account(&mut self, before: Option<&Outline>, after: &Outline) {
        let old: Vec<(Location, Option<u64>)> = before.map(records_of).into_iter().flatten().collect();
        let new: Vec<(Location, Option<u64>)> = records_of(after).collect();
        for &(location, hour) in old.iter().filter(|entry| !new.contains(entry)) {
            self.segments.drop_live(location, hour);
        }
        for &(location, hour) in new.iter().filter(|entry| !old.contains(entry)) {
            self.segments.add_live(location, hour);
        }
    }

    /// What is held of a key, but for the values.
    #[must_use]
    pub fn outline(&self, place: At, key: &[u8]) -> Option<Outline> {
        self.index.outline(place, key)
    }

    /// The highest stamp held of a key; zero when nothing is.
    #[must_use]
    pub fn highest_stamp(&self, place: At, key: &[u8]) -> Stamp {
        match self.index.held(place, key).1 {
            Held::Nothing => Stamp::default(),
            Held::Sole(sole) => sole.sibling.stamp,
            Held::Outline(outline) => outline.highest_stamp(),
        }
    }

    /// What is held of a key: its context, and the siblings that are wanted, whole. `loaded` has
    /// the values that an earlier try found on the disk.
    pub fn read(&mut self, place: At, key: &Key, wanted: impl Fn(Dot) -> bool, loaded: &Loaded) -> Fetched {
        let outline = match self.index.held(place, key).1 {
            Held::Nothing => return Fetched::Absent,
            Held::Sole(sole) => return self.read_sole(place, key, sole.sibling, wanted, loaded),
            Held::Outline(outline) => outline,
        };
        let mut siblings = Vec::with_capacity(outline.siblings().len());
        let mut on_disk = Vec::new();
        for sibling in outline.siblings().iter().filter(|sibling| wanted(sibling.dot)) {
            match self.source(sibling, loaded) {
                Source::Here(content) => siblings.push(with_content(sibling, content)),
                Source::OnDisk(location) => on_disk.push((sibling.dot, location)),
                Source::Nowhere => return Fetched::Unreadable,
            }
        }
        if on_disk.is_empty() {
            return Fetched::Whole(Object::from_parts(outline.context().clone(), siblings));
        }
        let reads = on_disk.into_iter().map(|(dot, location)| self.fetch(place, key, dot, location));
        Fetched::OnDisk(reads.collect())
    }

    /// The usual object, with less to look at.
    fn read_sole(
        &mut self,
        place: At,
        key: &Key,
        sibling: Sibling<Stored>,
        wanted: impl Fn(Dot) -> bool,
        loaded: &Loaded,
    ) -> Fetched {
        let dot = sibling.dot;
        let context = VersionVector::from_sorted(Few::One((dot.actor, dot.seq)));
        if !wanted(dot) {
            return Fetched::Whole(Object::from_sorted(context, Few::default()));
        }
        match self.source(&sibling, loaded) {
            Source::Here(content) => {
                Fetched::Whole(Object::from_sorted(context, Few::One(with_content(&sibling, content))))
            }
            Source::OnDisk(location) => Fetched::OnDisk(vec![self.fetch(place, key, dot, location)]),
            Source::Nowhere => Fetched::Unreadable,
        }
    }

    /// Where what a sibling says is to be had.
    fn source(&mut self, sibling: &Sibling<Stored>, loaded: &Loaded) -> Source {
        let Stored { kind, location, slot, damaged } = sibling.content;
        if damaged {
            return Source::Nowhere;
        }
        if kind == Kind::Tombstone {
            return Source::Here(Content::Tombstone);
        }
        let cached = slot.and_then(|slot| self.index.value(slot));
        match (cached.or_else(|| loaded.get(&sibling.dot).cloned()), location) {
            (Some(value), _) => Source::Here(Content::Value(value)),
            (None, Some(location)) => Source::OnDisk(location),
            (None, None) => Source::Nowhere,
        }
    }

    pub(super) fn fetch(&mut self, place: At, key: &Key, dot: Dot, location: Location) -> Wanted {
        let segment = self.segments.at(location.position).map_or(0, |(start, _)| start);
        let read = self.reads.value(segment, location, (place, key.clone(), dot));
        Wanted { read, dot }
    }

    /// Takes what came of a read. A value that somebody waits for is given back with its name; of
    /// reads in the background nothing is.
    pub fn on_read(&mut self, done: ReadDone) -> Option<(Dot, Result<Bytes, ReadFault>)> {
        let purpose = self.reads.done(done.id)?;
        match purpose {
            Purpose::Value { location, place, key, dot, .. } => {
                let value = done.result.and_then(|bytes| value_of(&bytes, location, place, &key, dot));
                match &value {
                    Ok(value) => self.keep_read(place, &key, dot, location, value),
                    // The value is as good as it was: another time it may be read.
                    Err(ReadFault::Busy | ReadFault::Failed) => {}
                    Err(fault @ (ReadFault::Missing | ReadFault::Damaged)) => {
                        self.note_unreadable(place, &key, dot, location, *fault);
                    }
                }
                Some((dot, value))
            }
            Purpose::Compact(stretch) => {
                self.compact_with(stretch, done.result);
                None
            }
            Purpose::Scrub(stretch) => {
                self.scrub_with(stretch, done.result);
                None
            }
            Purpose::Index { segment } => {
                self.index_built(segment, done.result);
                None
            }
        }
    }

    /// A value that was read stays in memory, if it is still what the key holds.
    fn keep_read(&mut self, place: At, key: &Key, dot: Dot, location: Location, value: &Bytes) {
        let (spot, held) = self.index.held(place, key);
        let held = match &held {
            Held::Nothing => None,
            Held::Sole(sole) => Some(&sole.sibling).filter(|sibling| sibling.dot == dot),
            Held::Outline(outline) => find(outline, dot),
        };
        if held.is_some_and(|held| held.content.location == Some(location) && held.content.slot.is_none()) {
            self.index.keep_value(spot, dot, value, Some(location.position));
        }
    }

    /// A value cannot be read back. It is never served; a copy of it from a peer takes its place.
    pub(super) fn note_unreadable(
        &mut self,
        place: At,
        key: &Key,
        dot: Dot,
        location: Location,
        fault: ReadFault,
    ) {
        let Some(before) = self.index.outline(place, key) else { return };
        let at_fault = |sibling: &Sibling<Stored>| {
            sibling.dot == dot && sibling.content.location == Some(location) && !sibling.content.damaged
        };
        if !before.siblings().iter().any(at_fault) {
            return;
        }
        let after = before.map(|sibling| Stored {
            damaged: sibling.content.damaged || at_fault(sibling),
            ..sibling.content
        });
        self.index.install(place, key, Some(&before), &after);
        if let Some((start, segment)) = self.segments.at(location.position) {
            segment.damaged = true;
            log::error!(
                "a value of sector {} cannot be read back ({fault}) at log position {} in {}: it is not \
                 served from here until a peer's copy has taken its place",
                place.1,
                location.position,
                FileName::Segment(start).to_text()
            );
        }
        self.unreadable += 1;
    }

    /// The keys of a keyspace's sector after `after`, in the index's order.
    pub fn walk(&self, place: At, after: Option<&Key>) -> impl Iterator<Item = (Key, Outline)> {
        self.index.walk(place, after)
    }

    /// How many keys of a keyspace's sector are held, deleted ones counted.
    #[must_use]
    pub fn count(&self, place: At) -> u64 {
        self.index.count(place)
    }

    /// The root of a keyspace's sector's hash tree: equal when two copies of it are.
    #[must_use]
    pub fn tree_root(&self, place: At) -> u64 {
        self.index.root(place)
    }

    /// Its leaves.
    #[must_use]
    pub fn tree_leaves(&self, place: At) -> [u64; LEAVES] {
        self.index.leaves(place)
    }

    /// The keys under one leaf, each with its object's hash.
    pub fn tree_leaf(&self, place: At, leaf: u8) -> impl Iterator<Item = (Key, u64)> {
        self.index.leaf(place, leaf)
    }

    /// Keyspaces and sectors of which something is held, from `from` on, in order.
    pub fn places(&self, from: At) -> impl Iterator<Item = At> {
        self.index.places(from)
    }

    /// Gives up everything of a keyspace's sector, durably. The space is freed by and by.
    pub fn drop_shelf(&mut self, place: At) {
        self.give_up(place, false);
    }

    /// The same, of a place that is, or is not, to be filled again by other owners.
    pub(super) fn give_up(&mut self, place: At, needs_rebuild: bool) {
        let below = self.log.end();
        let mut record = self.shelf_records.get(&place).map_or_else(
            || ShelfRecord {
                keyspace: place.0,
                sector: place.1,
                fence: 0,
                dropped_below: 0,
                needs_rebuild: false,
            },
            |entry| entry.0,
        );
        (record.dropped_below, record.needs_rebuild) = (below.max(1), needs_rebuild);
        self.write_shelf(record, true);
        self.index.drop_shelf(place);
        self.forget_statements(place);
    }

    /// Writes a shelf's header, in the place of the one before.
    pub(super) fn write_shelf(&mut self, record: ShelfRecord, sync: bool) {
        let location = self.append(&Record::Shelf(record), sync);
        self.segments.add_live(location, None);
        let place = (record.keyspace, record.sector);
        if let Some((_, old)) = self.shelf_records.insert(place, (record, location)) {
            self.segments.drop_live(old, None);
        }
    }

    /// Work in the background, a slice of it; call once a turn.
    pub fn work(&mut self, now: Now) {
        let segments = &mut self.segments;
        self.index.clear_dropped(SWEEP_KEYS_PER_TURN, |outline| {
            for (location, hour) in records_of(outline) {
                segments.drop_live(location, hour);
            }
        });
        self.index.evict(self.log.written_position(), CACHE_CHUNKS_PER_TURN);
        if !self.quarantine.is_unsettled() && self.segments.has_news(self.log.watermark()) {
            self.write_manifest();
        }
        self.build_indexes();
        self.settle_moves();
        self.compact(now);
        self.scrub_on(now.mono);
    }

    /// When there will be work although nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.scrub.deadline().into_iter().chain(self.compaction.deadline()).min()
    }

    /// Says in the manifest which segments there are: those that are sealed and durable.
    pub(super) fn write_manifest(&mut self) {
        let manifest = self.segments.manifest(self.log.watermark());
        self.segments.note_manifest(manifest.high_water);
        self.intents.push(Intent::Replace(FileName::Manifest, manifest.encode()));
    }

    /// The last requests of a process that ends well: the log up to here is durable, so that the
    /// next start need not copy its tail. To be made after the last batch.
    pub fn close(&mut self) -> Option<DiskRequest> {
        if self.quarantine.is_unsettled() {
            return None;
        }
        // Everything before a manifest is synced before it is written.
        let manifest = self.segments.manifest(self.log.end());
        Some(self.log.replace(FileName::Manifest, manifest.encode()))
    }

    /// Asks for the index files of segments that have none, one at a time.
    fn build_indexes(&mut self) {
        if self.reads.is_indexing() {
            return;
        }
        if let Some((start, end)) = self.segments.take_unindexed(self.log.watermark()) {
            self.reads.index(start, end);
        }
    }

    fn index_built(&mut self, start: u64, result: Result<Bytes, ReadFault>) {
        if let Err(fault) = result {
            // A restart reads the segment itself instead; until then it is only slower.
            log::warn!("no index file for {}: {fault}", FileName::Segment(start).to_text());
        }
    }

    /// The log may be this many times, in percent, the size of what is needed of it.
    pub(super) fn victim(&self, wall: WallMs) -> Option<u64> {
        let hour = wall.0 / MS_PER_HOUR;
        let durable = self.log.watermark();
        let found = self.segments.victim(durable, SPACE_PERCENT_MAX, self.settings.segment_bytes, hour);
        // Words on forgotten keys go with the segments before them; not if the first of those stays.
        let is_wordy = self.statements.len() > STATEMENTS_MAX;
        let oldest = || self.segments.oldest_sound(durable).filter(|&start| self.segments.is_oldest(start));
        found.or_else(|| if is_wordy { oldest() } else { None })
    }

    /// The turn's records as one disk request, if there are any.
    pub fn take_batch(&mut self) -> Option<DiskRequest> {
        self.log.take_batch()
    }

    /// Further disk requests, in order, to be made after the batch.
    pub fn take_requests(&mut self) -> impl Iterator<Item = DiskRequest> {
        let intents = std::mem::take(&mut self.intents).into_iter();
        intents.map(|intent| match intent {
            Intent::Replace(file, bytes) => self.log.replace(file, bytes),
            Intent::Remove(files) => self.log.remove(files),
        })
    }

    /// What is to be read.
    pub fn take_reads(&mut self) -> impl Iterator<Item = ReadRequest> {
        self.reads.take_wanted()
    }

    /// A request to replace a small file whole, in order with the log.
    ///
    /// Take the turn's batch first: a ticket covers everything before it.
    pub fn replace(&mut self, file: FileName, bytes: Bytes) -> DiskRequest {
        self.log.replace(file, bytes)
    }

    /// The number of the request given out last.
    #[must_use]
    pub fn last_request(&self) -> Ticket {
        self.log.last_request()
    }

    /// Takes note of how far the disk has got.
    pub fn on_disk(&mut self, event: DiskEvent) {
        self.log.on_disk(event);
        self.end_quarantines();
        self.settle_moves();
        self.note_space(event);
    }

    /// Whether what this ticket covers may be acknowledged.
    #[must_use]
    pub fn is_durable(&self, ticket: Ticket, durability: Durability) -> bool {
        self.log.is_durable(ticket, durability)
    }

    /// Whether a key found no room in the index: the process must end, for what it said it holds
    /// is in the log alone.
    #[must_use]
    pub fn is_index_full(&self) -> bool {
        self.index.is_full()
    }

    /// Whether no more values are to be taken that live in memory alone.
    #[must_use]
    pub fn is_memory_full(&self) -> bool {
        self.index.pinned_bytes() >= self.settings.cache_bytes
    }

    /// Keys with at least one value, and bytes of keys and values.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        self.index.size()
    }

    /// Figures for people and monitoring.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let ((keys, bytes), (log_bytes, live_bytes)) = (self.index.size(), self.segments.totals());
        Figures {
            keys,
            bytes,
            log_bytes,
            live_bytes,
            segments: self.segments.len(),
            memory_bytes: self.index.memory_bytes(),
            unreadable: self.unreadable,
        }
    }
}

const MS_PER_HOUR: u64 = 3_600_000;

/// Where what a sibling says is to be had.
enum Source {
    /// In memory, or it was loaded.
    Here(Content),
    /// In a record of the log.
    OnDisk(Location),
    /// It cannot be read.
    Nowhere,
}

fn with_content(sibling: &Sibling<Stored>, content: Content) -> Sibling {
    Sibling { dot: sibling.dot, stamp: sibling.stamp, expiry: sibling.expiry, content }
}

/// The hour in which a value ceases to be visible, if it ever does.
fn last_hour(expiry: Option<WallMs>, kind: Kind) -> Option<u64> {
    match kind {
        Kind::Value(_) => expiry.map(|at| at.0 / MS_PER_HOUR),
        Kind::Tombstone => None,
    }
}

/// Whether an object is one sibling whose dot is all that its context accounts for.
fn is_sole(object: &Object) -> bool {
    match (object.context().entries(), object.siblings()) {
        (&[(actor, seq)], [sibling]) => sibling.dot == Dot { actor, seq },
        _ => false,
    }
}

/// Whether such an object accounts for such another and goes beyond it.
fn replaces(object: &Object, sole: &Sole) -> bool {
    let held = sole.sibling.dot;
    object.context().covers(held) && !object.has(held)
}

/// The records an object lies in, each with the hour in which its last value ceases to be
/// visible, if all of them do.
pub(super) fn records_of(outline: &Outline) -> impl Iterator<Item = (Location, Option<u64>)> {
    let siblings = outline.siblings();
    siblings.iter().enumerate().filter_map(move |(at, sibling)| {
        let location = sibling.content.location?;
        let here = |other: &&Sibling<Stored>| other.content.location == Some(location);
        // Told once, by the first sibling that lies there.
        if siblings.iter().take(at).any(|earlier| here(&earlier)) {
            return None;
        }
        let hours =
            siblings.iter().filter(here).map(|sibling| last_hour(sibling.expiry, sibling.content.kind));
        Some((location, hours.collect::<Option<Vec<_>>>().and_then(|hours| hours.into_iter().max())))
    })
}

/// Siblings whose value could not be read back are taken anew from a copy that has them.
fn heal(after: &mut Outline, arriving: &Outline) -> bool {
    let heals = |sibling: &Sibling<Stored>| sibling.content.damaged && find(arriving, sibling.dot).is_some();
    if !after.siblings().iter().any(heals) {
        return false;
    }
    let siblings = after.siblings().iter().map(|sibling| match find(arriving, sibling.dot) {
        Some(whole) if sibling.content.damaged => whole.clone(),
        Some(_) | None => sibling.clone(),
    });
    *after = Outline::from_parts(after.context().clone(), siblings.collect::<Few<_>>());
    true
}

pub(super) fn find(outline: &Outline, dot: Dot) -> Option<&Sibling<Stored>> {
    let siblings = outline.siblings();
    siblings.binary_search_by_key(&dot, |sibling| sibling.dot).ok().and_then(|at| siblings.get(at))
}

fn find_content(object: &Object, dot: Dot) -> Option<&Sibling> {
    let siblings = object.siblings();
    siblings.binary_search_by_key(&dot, |sibling| sibling.dot).ok().and_then(|at| siblings.get(at))
}
