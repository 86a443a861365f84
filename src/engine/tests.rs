//! An engine on a disk of its own, with bits flipped under it.

use super::*;
use crate::mutant::Planted;
use crate::ring::Durability;
use crate::sim::SimDisk;
use crate::types::{Actor, Dot, Incarnation, Instant, Key, KeyspaceId, NodeId, Now, SectorId, Stamp, WallMs};
use crate::version::{Content, Object, Replaces, Sibling, VersionVector};
use bytes::Bytes;

/// An engine and its disk, turn by turn.
struct Bench {
    engine: Engine,
    disk: SimDisk,
    writer: LogWriter,
    now_us: u64,
}

const PLACE: At = (KeyspaceId(0), SectorId(0));

fn settings() -> EngineSettings {
    EngineSettings {
        cache_bytes: 0,
        segment_bytes: 1000,
        scrub_bytes_per_second: 1_000_000,
        planted: Planted::NONE,
    }
}

impl Bench {
    fn open(mut disk: SimDisk) -> Self {
        let (engine, _) = Engine::open(&mut disk, settings()).unwrap();
        Self { engine, disk, writer: LogWriter::default(), now_us: 0 }
    }

    /// The `seq`-th write, of a value or a tombstone, on its disk.
    fn write(&mut self, place: At, key: &str, seq: u64, content: Content) -> Object {
        let dot = Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1) }, seq };
        let mut object = Object::default();
        let sibling = Sibling { dot, stamp: Stamp(seq), expiry: None, content };
        object.put(Replaces::All, &VersionVector::default(), sibling);
        self.engine.merge(place, &Key::copy_from_slice(key.as_bytes()), &object, Durability::Sync);
        self.turn();
        object
    }

    /// A turn ends, and everything is done that is asked for.
    fn turn(&mut self) {
        self.now_us += 100_000;
        self.engine.work(Now { mono: Instant(self.now_us), wall: WallMs(1_000) });
        let batch = self.engine.take_batch();
        for request in batch.into_iter().chain(self.engine.take_requests().collect::<Vec<_>>()) {
            self.writer.write(&mut self.disk, &request).unwrap();
        }
        self.writer.sync(&mut self.disk).unwrap();
        self.engine.on_disk(DiskEvent::Synced(self.writer.synced()));
        for request in self.engine.take_reads().collect::<Vec<_>>() {
            let done = match &request {
                ReadRequest::Value(stretch) | ReadRequest::Scan(stretch) => {
                    ReadDone { id: stretch.id, result: read_stretch(&mut self.disk, stretch) }
                }
                ReadRequest::Index { id, segment, end } => {
                    let built = index_file::build(&mut self.disk, *segment, *end);
                    ReadDone { id: *id, result: built.map(|()| Bytes::new()).map_err(ReadFault::from) }
                }
            };
            self.engine.on_read(done);
        }
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Flips a bit of the last byte of what a key's first sibling was written as.
    fn rot(&mut self, place: At, key: &str) {
        let outline = self.engine.outline(place, key.as_bytes()).unwrap();
        let location = outline.siblings()[0].content.location.unwrap();
        let files = self.disk.list().unwrap();
        let starts = files.iter().filter_map(|file| match file {
            FileName::Segment(start) if *start <= location.position => Some(*start),
            _ => None,
        });
        let start = starts.max().unwrap();
        let byte = location.end() - 1 - start + SEGMENT_HEADER_BYTES as u64;
        assert!(self.disk.flip(FileName::Segment(start), byte, 0));
    }

    fn is_damaged(&self, place: At, key: &str) -> bool {
        let outline = self.engine.outline(place, key.as_bytes()).unwrap();
        outline.siblings().iter().any(|sibling| sibling.content.damaged)
    }
}

fn value(length: usize) -> Content {
    Content::Value(Bytes::from(vec![b'v'; length]))
}

#[test]
fn the_scrub_takes_no_tombstone_for_a_value_that_cannot_be_read() {
    let mut bench = Bench::open(SimDisk::default());
    bench.write(PLACE, "rotten", 1, value(300));
    bench.write(PLACE, "deleted", 2, Content::Tombstone);
    bench.write(PLACE, "sound", 3, value(300));
    (4..8).for_each(|seq| drop(bench.write(PLACE, &format!("other{seq}"), seq, value(600))));
    bench.rot(PLACE, "rotten");
    bench.turns(300);
    assert!(bench.is_damaged(PLACE, "rotten"), "the scrub has not come upon it");
    assert!(!bench.is_damaged(PLACE, "deleted"), "nothing of it is on the disk alone");
    assert!(!bench.is_damaged(PLACE, "sound"));
}

const OTHER: At = (KeyspaceId(0), SectorId(1));

/// Two places with segments full of values, all of it on the disk, and one value of the first rotten
/// where a start must find it.
fn damaged() -> SimDisk {
    let mut bench = Bench::open(SimDisk::default());
    bench.write(PLACE, "rotten", 1, value(300));
    bench.write(PLACE, "sound", 2, value(300));
    bench.write(OTHER, "other", 3, value(300));
    (4..10).for_each(|seq| drop(bench.write(OTHER, &format!("other{seq}"), seq, value(600))));
    bench.turns(3);
    bench.rot(PLACE, "rotten");
    let files = bench.disk.list().unwrap();
    for file in files.into_iter().filter(|file| matches!(file, FileName::SegmentIndex(_))) {
        bench.disk.remove(file).unwrap();
    }
    bench.disk
}

/// What the node does about damage of known places.
fn settle(engine: &mut Engine) {
    for place in engine.unsettled_damage().iter().filter_map(|damage| damage.place).collect::<Vec<_>>() {
        engine.quarantine(place);
    }
    engine.settle_damage();
}

fn keys(engine: &Engine, place: At) -> Vec<Key> {
    engine.walk(place, None).map(|entry| entry.0).collect()
}

#[test]
fn what_is_left_of_a_damaged_place_is_given_up_and_what_comes_later_stays_through_every_start() {
    let mut bench = Bench::open(damaged());
    assert!(bench.engine.is_quarantined(PLACE) && !bench.engine.is_quarantined(OTHER));
    settle(&mut bench.engine);
    assert!(keys(&bench.engine, PLACE).is_empty(), "it may be older than what was reaped elsewhere");
    let brought = bench.write(PLACE, "brought", 20, value(10));
    for start in 0..3 {
        bench = Bench::open(bench.disk);
        assert_eq!(bench.engine.unsettled_damage(), [], "start {start} finds the same damage once more");
        assert!(bench.engine.is_quarantined(PLACE) && !bench.engine.is_quarantined(OTHER));
        assert_eq!(bench.engine.quarantined_sectors(8), 1);
        assert_eq!(keys(&bench.engine, PLACE), ["brought"], "start {start}");
        assert_eq!(keys(&bench.engine, OTHER).len(), 7);
        bench.turns(3);
    }
    assert_eq!(*bench.engine.outline(PLACE, b"brought").unwrap().context(), *brought.context());
}

#[test]
fn a_place_that_was_filled_again_is_whole_once_that_is_durable_and_stays_so() {
    let mut bench = Bench::open(damaged());
    settle(&mut bench.engine);
    bench.write(PLACE, "rotten", 1, value(300));
    bench.engine.lift(PLACE);
    assert!(bench.engine.is_quarantined(PLACE), "a start might find it in quarantine again");
    assert_eq!(bench.engine.rebuilding().next(), None);
    bench.turn();
    assert!(!bench.engine.is_quarantined(PLACE));
    let bench = Bench::open(bench.disk);
    assert!(!bench.engine.is_quarantined(PLACE));
    assert_eq!(keys(&bench.engine, PLACE), ["rotten"]);
}

#[test]
fn a_crash_before_the_damage_was_dealt_with_leads_to_it_again() {
    let mut bench = Bench::open(damaged());
    bench.turns(3);
    assert!(bench.engine.close().is_none(), "a manifest would hide it");
    let mut bench = Bench::open(bench.disk);
    assert_eq!(bench.engine.unsettled_damage().len(), 1);
    // All of it is in one batch; what is durable of it counts.
    settle(&mut bench.engine);
    let bench = Bench::open(bench.disk);
    assert_eq!(bench.engine.unsettled_damage().len(), 1);
}

#[test]
fn segments_stay_while_they_may_be_all_there_is_and_the_damaged_ones_go_when_nothing_in_them_is_needed() {
    let mut bench = Bench::open(damaged());
    settle(&mut bench.engine);
    let segments = |bench: &Bench| bench.engine.figures().segments;
    // Everything there was is replaced: garbage, all of it.
    (4..10).for_each(|seq| drop(bench.write(OTHER, &format!("other{seq}"), 40 + seq, value(600))));
    bench.write(OTHER, "other", 50, value(300));
    bench.turns(30);
    let first = FileName::Segment(0);
    assert!(bench.disk.length(first).is_some(), "what is left of the damaged copy is gone");
    let before = segments(&bench);
    bench.engine.lift(PLACE);
    bench.turns(30);
    assert_eq!(bench.disk.length(first), None, "the damaged segment stays although nothing in it is needed");
    assert!(segments(&bench) < before);
    let bench = Bench::open(bench.disk);
    assert!(!bench.engine.is_quarantined(PLACE) && bench.engine.unsettled_damage().is_empty());
    assert_eq!(keys(&bench.engine, OTHER).len(), 7);
}

#[test]
fn what_rots_later_before_damage_that_was_dealt_with_is_found_all_the_same() {
    let mut bench = Bench::open(damaged());
    settle(&mut bench.engine);
    bench.turns(3);
    bench.rot(OTHER, "other");
    // In the same segment as the first, which has had no index file since.
    let mut bench = Bench::open(bench.disk);
    assert!(bench.engine.is_quarantined(OTHER) && bench.engine.is_quarantined(PLACE));
    assert_eq!(bench.engine.unsettled_damage().len(), 1, "the first was dealt with");
    // The header of a record of the second: it may be anybody's, but nothing of what is void.
    settle(&mut bench.engine);
    bench.turns(3);
    let record = bench.engine.outline(OTHER, b"other9");
    assert_eq!(record, None, "given up");
    let mut disk = bench.disk;
    assert!(disk.flip(FileName::Segment(0), SEGMENT_HEADER_BYTES as u64 + 40, 0));
    let bench = Bench::open(disk);
    assert_eq!(bench.engine.unsettled_damage().len(), 1);
    assert!(!bench.engine.is_concerned(PLACE) && !bench.engine.is_concerned(OTHER), "all that is void");
    assert!(bench.engine.is_concerned((KeyspaceId(7), SectorId(3))), "of any other it may have been");
}

#[test]
fn damage_of_unknown_extent_concerns_no_place_that_comes_later() {
    let mut disk = damaged();
    // The header of the first record behind the batch's mark: nobody can say whose it was.
    assert!(disk.flip(FileName::Segment(0), SEGMENT_HEADER_BYTES as u64 + 40, 0));
    let mut bench = Bench::open(disk);
    assert_eq!(bench.engine.quarantined_sectors(8), 8, "{:?}", bench.engine.unsettled_damage());
    [PLACE, OTHER].into_iter().for_each(|place| bench.engine.quarantine(place));
    bench.engine.settle_damage();
    let later = (KeyspaceId(7), SectorId(3));
    bench.write(later, "key", 30, value(10));
    let bench = Bench::open(bench.disk);
    assert_eq!(bench.engine.quarantined().collect::<Vec<_>>(), [PLACE, OTHER]);
    assert!(!bench.engine.is_quarantined(later));
    assert_eq!(keys(&bench.engine, later), ["key"]);
}
