//! Which segments there are, and how much of each is still needed.
//!
//! A record is live while a sibling of the index lies in it. The bytes of live records are counted
//! by segment as the index changes, so that compaction knows its next victim without looking.

use super::manifest::Manifest;
use super::outline::Location;
use std::collections::{BTreeMap, BTreeSet};

/// Sealed segments below this share of the usual size are small: restarts leave them behind.
const SMALL_SHARE: u64 = 8;
/// So many small segments are let be.
const SMALL_MAX: usize = 8;

/// All segments of a log.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// By the log position of the first byte.
    by_start: BTreeMap<u64, Segment>,
    /// Those that have no index file, and none under way.
    unindexed: BTreeSet<u64>,
    /// The one that records go to, if there is one yet. All others are sealed.
    open: Option<u64>,
    live: u64,
    bytes: u64,
    /// The last manifest speaks of everything below this log position.
    high_water: u64,
    /// Segments that begin below this stay as they are.
    kept_below: u64,
}

/// One segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    /// Log position after its last byte.
    pub(super) end: u64,
    /// Bytes of records that the index still needs.
    pub(super) live: u64,
    /// Live bytes that cease to be visible, by the hour in which they do.
    expiring: BTreeMap<u64, u64>,
    /// Something in it cannot be read: it is kept as long as anything in it is needed.
    pub(super) damaged: bool,
}

impl Segments {
    /// A segment begins.
    pub(super) fn open(&mut self, start: u64) {
        self.by_start.insert(start, Segment { end: start, ..Segment::default() });
        self.unindexed.insert(start);
        self.open = Some(start);
    }

    /// A segment found at start is gone on with.
    pub(super) fn reopen(&mut self, start: u64, end: u64) {
        self.found(start, end, false, false);
        self.open = Some(start);
    }

    /// A segment found at start, with nothing counted in it yet.
    pub(super) fn found(&mut self, start: u64, end: u64, indexed: bool, damaged: bool) {
        self.bytes += end - start;
        self.by_start.insert(start, Segment { end, damaged, ..Segment::default() });
        if !indexed && !damaged {
            self.unindexed.insert(start);
        }
    }

    /// The last segment goes on to `end`.
    pub(super) fn grow(&mut self, end: u64) {
        if let Some(segment) = self.open.and_then(|start| self.by_start.get_mut(&start)) {
            self.bytes += end - segment.end;
            segment.end = end;
        }
    }

    /// A segment is gone.
    pub(super) fn remove(&mut self, start: u64) {
        self.unindexed.remove(&start);
        if let Some(segment) = self.by_start.remove(&start) {
            self.bytes -= segment.end - start;
            self.live -= segment.live;
        }
    }

    /// The segment in which a position lies.
    pub(super) fn at(&mut self, position: u64) -> Option<(u64, &mut Segment)> {
        let (&start, segment) = self.by_start.range_mut(..=position).next_back()?;
        (position < segment.end.max(start + 1)).then_some((start, segment))
    }

    /// Whether no segment is older than the one in which a position lies.
    pub(super) fn is_oldest(&self, position: u64) -> bool {
        self.by_start.range(..=position).nth(1).is_none()
    }

    /// The segment that begins at a position.
    pub(super) fn get(&self, start: u64) -> Option<&Segment> {
        self.by_start.get(&start)
    }

    /// The segment that begins at a position, to change.
    pub(super) fn get_mut(&mut self, start: u64) -> Option<&mut Segment> {
        self.by_start.get_mut(&start)
    }

    /// A record is needed from now on. `hour`: when it ceases to be visible, if ever.
    pub(super) fn add_live(&mut self, location: Location, hour: Option<u64>) {
        let bytes = u64::from(location.bytes);
        if let Some((_, segment)) = self.at(location.position) {
            segment.live += bytes;
            if let Some(hour) = hour {
                *segment.expiring.entry(hour).or_default() += bytes;
            }
            self.live += bytes;
        }
    }

    /// A record is needed no more.
    pub(super) fn drop_live(&mut self, location: Location, hour: Option<u64>) {
        let bytes = u64::from(location.bytes);
        if let Some((_, segment)) = self.at(location.position) {
            segment.live = segment.live.saturating_sub(bytes);
            if let Some(left) = hour.and_then(|hour| segment.expiring.get_mut(&hour)) {
                *left = left.saturating_sub(bytes);
            }
            self.live = self.live.saturating_sub(bytes);
        }
    }

    /// Bytes of the whole log, and of its live records.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.bytes, self.live)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Sealed segments whose every byte is below `durable`, in order: start and segment.
    pub(super) fn sealed(&self, durable: u64) -> impl DoubleEndedIterator<Item = (u64, &Segment)> {
        let open = self.open;
        let sealed = self.by_start.iter().filter(move |entry| Some(*entry.0) != open);
        sealed.filter(move |entry| entry.1.end <= durable).map(|(&start, segment)| (start, segment))
    }

    /// Takes a segment that is to have an index file, sealed and durable as it must be: start and
    /// end.
    pub(super) fn take_unindexed(&mut self, durable: u64) -> Option<(u64, u64)> {
        let start = *self.unindexed.first()?;
        let end = self.by_start.get(&start).map_or(start, |segment| segment.end);
        let is_ready = Some(start) != self.open && end <= durable;
        is_ready.then(|| {
            self.unindexed.remove(&start);
            (start, end)
        })
    }

    /// The manifest of what is sealed and durable.
    pub(super) fn manifest(&self, durable: u64) -> Manifest {
        let sealed: Vec<_> = self.sealed(durable).map(|(start, segment)| (start, segment.end)).collect();
        let first = self.by_start.first_key_value().map_or(durable, |entry| *entry.0);
        let high_water = self.high_water.max(sealed.last().map_or(first.min(durable), |entry| entry.1));
        Manifest { sealed, high_water, durable }
    }

    /// Whether segments were sealed, and are durable, of which no manifest says so yet.
    pub(super) fn has_news(&self, durable: u64) -> bool {
        self.sealed(durable).next_back().is_some_and(|(_, segment)| segment.end > self.high_water)
    }

    /// A manifest was written, or found at start, that speaks of everything below this.
    pub(super) fn note_manifest(&mut self, high_water: u64) {
        self.high_water = self.high_water.max(high_water);
    }

    /// Segments that begin below a log position are not to be touched.
    pub(super) fn keep_below(&mut self, position: u64) {
        self.kept_below = position;
    }

    /// Sealed segments that may be rewritten.
    fn sound(&self, durable: u64) -> impl Iterator<Item = (u64, &Segment)> {
        self.sealed(durable).filter(|&(start, segment)| !segment.damaged && start >= self.kept_below)
    }

    /// Sealed segments of which nothing is needed, damaged or not.
    pub(super) fn useless(&self, durable: u64) -> impl Iterator<Item = u64> {
        let useless =
            self.sealed(durable).filter(|&(start, found)| found.live == 0 && start >= self.kept_below);
        useless.map(|entry| entry.0)
    }

    /// The oldest sealed segment that may be rewritten.
    pub(super) fn oldest_sound(&self, durable: u64) -> Option<u64> {
        self.sound(durable).next().map(|entry| entry.0)
    }

    /// The sealed segment most worth rewriting, if the log is larger than it may be: `percent` of
    /// its live bytes. Values that were to expire by `hour` count as garbage.
    pub(super) fn victim(&self, durable: u64, percent: u64, segment_bytes: u64, hour: u64) -> Option<u64> {
        let lives = |segment: &Segment| {
            let expired: u64 = segment.expiring.range(..hour).map(|entry| *entry.1).sum();
            segment.live.saturating_sub(expired)
        };
        let whole = || self.sound(durable);
        let expired = || whole().find(|(_, segment)| lives(segment) == 0).map(|entry| entry.0);
        if let Some(start) = self.useless(durable).next().or_else(expired) {
            return Some(start);
        }
        // What stays as it is counts for nothing here.
        let stays = |start: u64, segment: &Segment| segment.damaged || start < self.kept_below;
        let sound = || self.by_start.iter().filter(|&(&start, segment)| !stays(start, segment));
        let live: u64 = sound().map(|(_, segment)| lives(segment)).sum();
        let bytes: u64 = sound().map(|(&start, segment)| segment.end - start).sum();
        let (scaled, limit) = (bytes.saturating_mul(100), live.saturating_mul(percent));
        if scaled > limit {
            // By share of garbage, compared without division.
            let share = |start: u64, segment: &Segment| {
                u128::from(lives(segment)) * (1 << 32) / u128::from((segment.end - start).max(1))
            };
            let worst = whole().min_by_key(|&(start, segment)| (share(start, segment), start));
            // One that is all live would only be copied.
            return worst
                .filter(|&(start, segment)| lives(segment) * 20 < (segment.end - start) * 19)
                .map(|entry| entry.0);
        }
        let small = |&(start, segment): &(u64, &Segment)| segment.end - start < segment_bytes / SMALL_SHARE;
        if whole().filter(small).count() > SMALL_MAX {
            whole().find(small).map(|entry| entry.0)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Segments {
        let mut segments = Segments::default();
        for (start, end) in [(0, 100), (100, 200), (200, 250)] {
            segments.open(start);
            segments.grow(end);
        }
        segments
    }

    fn record(position: u64, bytes: u32) -> Location {
        Location { position, bytes }
    }

    #[test]
    fn the_segment_with_most_garbage_is_rewritten_when_the_log_is_too_large() {
        let mut log = log();
        log.add_live(record(0, 90), None);
        log.add_live(record(100, 40), None);
        log.add_live(record(200, 50), None);
        assert_eq!(log.victim(250, 200, 100, 0), None, "250 bytes for 180 live ones are few enough");
        assert_eq!(log.victim(250, 120, 100, 0), Some(100));
        log.drop_live(record(0, 90), None);
        assert_eq!(log.victim(250, 200, 100, 0), Some(0), "nothing is needed of it");
        assert_eq!(log.victim(50, 200, 100, 0), None, "it is not durable yet");
    }

    #[test]
    fn expired_values_count_as_garbage_once_their_hour_is_over() {
        let mut log = log();
        log.add_live(record(0, 90), Some(7));
        log.add_live(record(100, 90), None);
        log.add_live(record(200, 50), None);
        assert_eq!(log.victim(250, 200, 100, 7), None);
        assert_eq!(log.victim(250, 200, 100, 8), Some(0));
    }

    #[test]
    fn the_manifest_names_what_is_sealed_and_durable_and_never_takes_its_mark_back() {
        let mut log = log();
        assert!(log.has_news(250));
        let manifest = log.manifest(150);
        assert_eq!((manifest.sealed, manifest.high_water), (vec![(0, 100)], 100));
        let manifest = log.manifest(250);
        assert_eq!((manifest.sealed, manifest.high_water), (vec![(0, 100), (100, 200)], 200));
        log.note_manifest(200);
        assert!(!log.has_news(250));
        log.remove(100);
        let manifest = log.manifest(250);
        assert_eq!((manifest.sealed, manifest.high_water), (vec![(0, 100)], 200));
    }

    #[test]
    fn what_a_start_has_found_sealed_is_in_the_manifest_before_anything_is_written() {
        let mut segments = Segments::default();
        segments.found(0, 100, true, false);
        segments.found(100, 200, true, false);
        segments.note_manifest(200);
        segments.remove(0);
        let manifest = segments.manifest(200);
        assert_eq!((manifest.sealed, manifest.high_water), (vec![(100, 200)], 200));
    }

    #[test]
    fn many_small_segments_are_gathered() {
        let mut segments = Segments::default();
        for at in 0..12 {
            segments.open(at * 2);
            segments.grow(at * 2 + 2);
            segments.add_live(record(at * 2, 2), None);
        }
        assert_eq!(segments.victim(1000, 200, 1000, 0), Some(0));
    }
}
