//! Recovery, rule by rule: what is told, what is cut, and what is reported as lost.

use super::*;
use crate::engine::index_file::build;
use crate::engine::record::SEGMENT_HEADER_BYTES;
use crate::engine::testing::{Log, place, recovered};
use crate::sim::{DiskCall, Rng, SimDisk};

const BYTES: u64 = 600;

/// A log of `records` synced records, about four to a segment, all in the manifest that can be.
fn log(records: u64) -> Log {
    let mut log = Log::new(BYTES);
    log.fill(records, 80);
    log.write_manifest();
    log
}

fn plain(disk: &mut SimDisk) -> (Recovered, Vec<u64>) {
    let (found, told) = recovered(disk, BYTES, Planted::NONE).unwrap();
    (found, Log::seqs(&told))
}

fn planted(disk: &SimDisk, mutant: Mutant) -> (Recovered, Vec<u64>) {
    let (found, told) = recovered(&mut disk.clone(), BYTES, Planted::one(mutant)).unwrap();
    (found, Log::seqs(&told))
}

/// Byte offset of the `seq`-th record's header in its segment's file, and that segment.
fn offset_of(log: &Log, seq: u64) -> (u64, u64) {
    let told = log.told.iter().find(|told| crate::engine::testing::seq_of(told) == Some(seq)).unwrap();
    let position = told.location.position;
    let starts = log.sealed.iter().map(|entry| entry.0).chain([log.segment]);
    let start = starts.filter(|start| *start <= position).max().unwrap();
    (start, SEGMENT_HEADER_BYTES as u64 + position - start)
}

fn flip(log: &mut Log, seq: u64, byte: u64) -> u64 {
    let (segment, offset) = offset_of(log, seq);
    assert!(log.disk.flip(FileName::Segment(segment), offset + byte, 0));
    segment
}

fn places(found: &Recovered) -> Vec<Option<(KeyspaceId, SectorId)>> {
    found.damage.iter().map(|damage| damage.place).collect()
}

fn all(records: u64) -> Vec<u64> {
    (1..=records).collect()
}

#[test]
fn an_empty_directory_gets_a_manifest_before_anything_else() {
    let mut disk = SimDisk::default();
    assert_eq!(plain(&mut disk), (Recovered::default(), vec![]));
    disk.lose_power(&mut Rng::new(0));
    assert_eq!(disk.list().unwrap(), [FileName::Manifest]);
}

#[test]
fn what_was_synced_is_told_in_order_with_and_without_index_files() {
    let mut log = log(31);
    assert!(log.sealed.len() > 3);
    let mut disk = log.disk.clone();
    disk.lose_power(&mut Rng::new(4));
    let (found, told) = recovered(&mut disk, BYTES, Planted::NONE).unwrap();
    assert_eq!(told, log.told);
    assert_eq!((found.next_position, found.segment), (log.position, log.segment));
    assert_eq!(found.sealed, log.sealed);
    assert_eq!(found.unindexed, log.sealed.iter().map(|entry| entry.0).collect::<Vec<_>>());
    assert_eq!((found.records, found.cut_bytes, found.damage), (told.len() as u64, 0, vec![]));
    for &(start, end) in &log.sealed {
        build(&mut log.disk, start, end).unwrap();
    }
    let (found, again) = recovered(&mut log.disk, BYTES, Planted::NONE).unwrap();
    assert_eq!((again, found.unindexed), (told, vec![]));
}

#[test]
fn a_log_that_was_recovered_goes_on_where_it_ended() {
    let mut disk = SimDisk::default();
    for life in 0..8 {
        let (mut log, found) = Log::open(disk, BYTES, Planted::NONE).unwrap();
        assert_eq!((found.damage, Log::seqs(&log.told)), (vec![], all(life * 3)));
        log.seq = life * 3;
        log.fill(3, 80);
        disk = log.disk;
        disk.lose_power(&mut Rng::new(life));
    }
}

#[test]
fn a_torn_tail_is_cut_with_all_that_follows_it() {
    let mut log = log(2);
    for _ in 0..12 {
        log.put(80);
    }
    // Nothing of these was synced; the fourth is torn, and segments after its own are there.
    flip(&mut log, 4, 30);
    let (found, told) = plain(&mut log.disk.clone());
    assert_eq!((told, found.damage), (all(3), vec![]));
    assert!(found.cut_bytes > 0);
    assert_eq!(planted(&log.disk, Mutant::TornTailServed).1.len(), 13);
    let (mut next, found) = Log::open(log.disk, BYTES, Planted::NONE).unwrap();
    assert_eq!(found.next_position, log.told[7].location.position);
    next.seq = 3;
    next.fill(9, 80);
    assert_eq!(plain(&mut next.disk).1, all(12));
}

#[test]
fn what_was_cut_never_comes_back_behind_what_takes_its_place() {
    let mut log = Log::new(1 << 20);
    log.fill(3, 80);
    log.put(80);
    log.put(80);
    flip(&mut log, 4, 30);
    let (mut next, _) = Log::open(log.disk, 1 << 20, Planted::NONE).unwrap();
    assert_eq!(Log::seqs(&next.told), all(3));
    // Just as long as what was torn, so that the fifth would follow it.
    next.seq = 5;
    let request = next.batch_of(vec![crate::engine::testing::merge(6, 47)]);
    next.writer.write(&mut next.disk, &request).unwrap();
    for seed in 0..300 {
        let mut disk = next.disk.clone();
        disk.lose_power(&mut Rng::new(seed));
        let (_, told) = recovered(&mut disk, 1 << 20, Planted::NONE).unwrap();
        assert!(!Log::seqs(&told).contains(&5), "seed {seed}");
    }
}

#[test]
fn damage_before_what_a_later_batch_knew_to_be_durable_is_reported_and_stays() {
    let mut log = Log::new(1 << 20);
    log.fill(6, 80);
    flip(&mut log, 3, 30);
    for _ in 0..3 {
        let (found, told) = recovered(&mut log.disk, 1 << 20, Planted::NONE).unwrap();
        assert_eq!(Log::seqs(&told), [1, 2, 4, 5, 6]);
        assert_eq!((places(&found), found.cut_bytes), (vec![Some(place(3))], 0));
        assert_eq!(found.next_position, log.position);
    }
    let mut log = Log::new(BYTES);
    log.fill(6, 80);
    flip(&mut log, 3, 30);
    let (found, told) = planted(&log.disk, Mutant::IgnoreWatermark);
    assert_eq!((told, found.damage), (vec![1, 2], vec![]));
}

#[test]
fn damage_at_the_very_end_is_told_from_a_torn_tail_by_the_manifest() {
    let clean = log(6);
    let (segment, offset) = offset_of(&clean, 6);
    let broken: [&dyn Fn(&mut SimDisk); 3] = [
        &|disk| assert!(disk.flip(FileName::Segment(segment), offset + 30, 0)),
        &|disk| disk.truncate(FileName::Segment(segment), offset + 30).unwrap(),
        &|disk| disk.truncate(FileName::Segment(segment), offset).unwrap(),
    ];
    for breaks in broken {
        let mut disk = clean.disk.clone();
        breaks(&mut disk);
        for _ in 0..2 {
            let (found, told) = plain(&mut disk);
            assert_eq!((told, found.cut_bytes), (all(5), 0));
            assert!(!found.damage.is_empty());
            assert_eq!(found.next_position, clean.position);
        }
        // The log goes on, and what was lost is not forgotten.
        let (mut next, _) = Log::open(disk, BYTES, Planted::NONE).unwrap();
        next.seq = 6;
        next.fill(1, 80);
        let (found, told) = plain(&mut next.disk);
        assert_eq!(told, [1, 2, 3, 4, 5, 7]);
        assert!(!found.damage.is_empty());
    }
    // With the segment goes all that was in it.
    let mut disk = clean.disk.clone();
    disk.remove(FileName::Segment(segment)).unwrap();
    for _ in 0..2 {
        assert_eq!(places(&plain(&mut disk).0), [None]);
    }
}

#[test]
fn a_segment_lost_from_the_tail_is_damage_where_later_batches_knew_it_durable() {
    let mut log = Log::new(BYTES);
    log.fill(12, 80);
    let (start, end) = log.sealed[1];
    log.disk.remove(FileName::Segment(start)).unwrap();
    for _ in 0..2 {
        let (found, told) = plain(&mut log.disk);
        assert_eq!((told.len(), places(&found), found.cut_bytes), (9, vec![None], 0));
        assert_eq!((found.damage[0].position, found.next_position), (start, log.position));
        assert!(!found.sealed.contains(&(start, end)));
    }
}

#[test]
fn a_full_last_segment_is_sealed_and_one_with_room_is_gone_on_with() {
    for (records, is_full) in [(6, true), (7, false)] {
        let mut log = log(records);
        let (found, _) = plain(&mut log.disk);
        assert_eq!(found.segment == found.next_position, is_full);
        assert_eq!(found.sealed.last().unwrap().1, found.segment);
    }
}

#[test]
fn a_damaged_header_costs_its_record_alone_and_nobody_knows_whose_it_was() {
    let mut log = log(3);
    for byte in [0, 4, 12, 14, 16] {
        let segment = flip(&mut log, 2, byte);
        let (found, told) = plain(&mut log.disk);
        assert_eq!((told, places(&found)), (vec![1, 3], vec![None]), "byte {byte}");
        assert!(log.disk.flip(FileName::Segment(segment), offset_of(&log, 2).1 + byte, 0));
    }
    assert_eq!(plain(&mut log.disk).1, all(3));
}

#[test]
fn a_damaged_segment_header_and_a_damaged_batch_mark_cost_nothing() {
    let mut log = log(9);
    let (start, _) = log.sealed[0];
    assert!(log.disk.flip(FileName::Segment(start), 9, 3));
    assert!(log.disk.flip(FileName::Segment(start), SEGMENT_HEADER_BYTES as u64 + 25, 3));
    let (found, told) = plain(&mut log.disk);
    assert_eq!((told, found.damage), (all(9), vec![]));
    assert!(!found.unindexed.contains(&start), "an index file cannot be built of it");
}

#[test]
fn a_lost_segment_is_reported_by_place_where_its_index_file_knows() {
    let mut log = log(20);
    let (start, end) = log.sealed[1];
    build(&mut log.disk, start, end).unwrap();
    log.disk.remove(FileName::Segment(start)).unwrap();
    for _ in 0..2 {
        let (found, told) = plain(&mut log.disk);
        assert!(told.len() < 20 && told.len() > 10);
        assert_eq!(places(&found), [Some(place(0)), Some(place(1)), Some(place(2))]);
        assert!(!found.sealed.contains(&(start, end)));
    }
    log.disk.remove(FileName::SegmentIndex(start)).unwrap();
    for _ in 0..2 {
        let found = plain(&mut log.disk).0;
        assert_eq!(places(&found), [None]);
    }
}

#[test]
fn a_segment_cut_short_is_not_served_from_its_index_file() {
    let mut log = log(20);
    let (start, end) = log.sealed[1];
    build(&mut log.disk, start, end).unwrap();
    log.disk.truncate(FileName::Segment(start), end - start).unwrap();
    let (found, told) = plain(&mut log.disk);
    assert_eq!(told.len(), 19);
    assert_eq!(found.damage.len(), 1);
    assert!(found.damage[0].place.is_some());
}

#[test]
fn what_a_finished_compaction_left_behind_is_removed_and_not_told() {
    let mut log = log(20);
    let (start, end) = log.sealed.remove(0);
    build(&mut log.disk, start, end).unwrap();
    log.write_manifest();
    for file in
        [FileName::Segment(5).draft(), FileName::ManifestDraft, FileName::SegmentIndex(3), FileName::Table]
    {
        log.disk.append(file, b"x").unwrap();
    }
    assert!(planted(&log.disk, Mutant::KeepLeftovers).1.contains(&1));
    let (found, told) = plain(&mut log.disk);
    assert!(!told.contains(&1) && told.contains(&20));
    assert_eq!(found.damage, []);
    let files = log.disk.list().unwrap();
    let segments = log.sealed.len() + 1;
    assert_eq!(files.len(), segments + 2, "{files:?}");
    assert!(files.contains(&FileName::Table) && !files.contains(&FileName::Segment(start)));
}

#[test]
fn an_index_file_counts_only_with_its_checksum() {
    let mut log = log(20);
    let (start, end) = log.sealed[1];
    build(&mut log.disk, start, end).unwrap();
    let index = FileName::SegmentIndex(start);
    let length = log.disk.length(index).unwrap();
    let clean = log.disk.clone();
    let mut wrong = 0;
    for byte in 0..length {
        log.disk = clean.clone();
        assert!(log.disk.flip(index, byte, 0));
        let (_, believed) =
            recovered(&mut log.disk.clone(), BYTES, Planted::one(Mutant::TrustIndexFile)).unwrap();
        wrong += u64::from(believed != log.told);
        let (found, told) = recovered(&mut log.disk, BYTES, Planted::NONE).unwrap();
        assert_eq!((told, found.damage), (log.told.clone(), vec![]), "byte {byte}");
        assert!(found.unindexed.contains(&start));
    }
    assert!(wrong > length / 4);
}

#[test]
fn what_is_told_is_durable_even_after_a_failed_sync() {
    let served_then_lost = |mutant: Option<Mutant>| {
        let planted = mutant.map_or(Planted::NONE, Planted::one);
        let mut log = log(6);
        log.put(80);
        log.put(80);
        log.disk.fail_next(DiskCall::Sync, io::ErrorKind::Other);
        log.sync().unwrap_err();
        let (_, told) = recovered(&mut log.disk, BYTES, planted).unwrap();
        assert_eq!(Log::seqs(&told), all(8));
        log.disk.lose_power(&mut Rng::new(1));
        let (_, again) = recovered(&mut log.disk, BYTES, planted).unwrap();
        again != told
    };
    assert!(!served_then_lost(None));
    assert!(served_then_lost(Some(Mutant::KeepUnsyncedSegment)));
}

#[test]
fn what_is_told_is_durable_although_its_file_had_no_name_yet() {
    let served_then_lost = |planted: Planted, seed: u64| {
        let mut log = log(1);
        for _ in 0..8 {
            log.put(80);
        }
        let (_, told) = recovered(&mut log.disk, BYTES, planted).unwrap();
        log.disk.lose_power(&mut Rng::new(seed));
        recovered(&mut log.disk, BYTES, Planted::NONE).map(|(_, again)| again != told).unwrap_or(true)
    };
    assert!((0..50).all(|seed| !served_then_lost(Planted::NONE, seed)));
}

#[test]
fn segments_known_to_be_durable_are_not_copied() {
    let mut log = log(7);
    log.disk.record();
    plain(&mut log.disk);
    let writes = log.disk.steps();
    assert!(writes <= 1, "{writes} steps");
}

#[test]
fn without_its_manifest_nothing_is_cut_and_everything_is_in_doubt() {
    for damaged in [false, true] {
        let mut log = log(12);
        if damaged {
            assert!(log.disk.flip(FileName::Manifest, 20, 1));
        } else {
            log.disk.remove(FileName::Manifest).unwrap();
        }
        flip(&mut log, 12, 30);
        for _ in 0..2 {
            let (found, told) = plain(&mut log.disk);
            assert_eq!((told, found.cut_bytes), (all(11), 0));
            assert!(places(&found).contains(&None) && places(&found).contains(&Some(place(12))));
        }
    }
}

#[test]
fn another_versions_files_are_left_alone() {
    let mut log = log(6);
    let other = |magic: &[u8; 8], rest: usize| {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&7u32.to_le_bytes());
        bytes.resize(bytes.len() + rest, 0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    };
    log.disk.append(FileName::Segment(log.position), &other(b"GTSTLOG\0", 8)).unwrap();
    let error = recovered(&mut log.disk, BYTES, Planted::NONE).unwrap_err();
    assert!(matches!(error, RecoveryError::Version { version: 7, .. }), "{error}");
    log.disk.remove(FileName::Segment(log.position)).unwrap();
    log.disk.remove(FileName::Manifest).unwrap();
    log.disk.append(FileName::Manifest, &other(b"GTSTMAN\0", 20)).unwrap();
    let error = recovered(&mut log.disk, BYTES, Planted::NONE).unwrap_err();
    assert!(matches!(error, RecoveryError::Version { file: FileName::Manifest, version: 7 }), "{error}");
}

#[test]
fn segments_of_two_logs_are_refused() {
    let mut log = log(6);
    log.disk.append(FileName::Segment(log.segment + 1), b"").unwrap();
    let error = recovered(&mut log.disk, BYTES, Planted::NONE).unwrap_err();
    assert!(matches!(error, RecoveryError::Overlap { .. }), "{error}");
}

#[test]
fn a_damaged_byte_is_reported_and_nothing_that_was_never_written_is_told() {
    let mut log = log(14);
    for &(start, end) in log.sealed.iter().skip(1) {
        build(&mut log.disk, start, end).unwrap();
    }
    for file in log.disk.list().unwrap() {
        for byte in 0..log.disk.length(file).unwrap() {
            let mut disk = log.disk.clone();
            assert!(disk.flip(file, byte, u8::try_from(byte % 8).unwrap()));
            let Ok((found, told)) = recovered(&mut disk, BYTES, Planted::NONE) else { continue };
            assert!(told.iter().all(|outline| log.told.contains(outline)), "{file:?} byte {byte}");
            let lost: Vec<u64> = all(14).into_iter().filter(|seq| !Log::seqs(&told).contains(seq)).collect();
            let known = places(&found);
            let is_told = |seq: &u64| known.contains(&None) || known.contains(&Some(place(*seq)));
            assert!(lost.iter().all(is_told), "{file:?} byte {byte}: {lost:?} {known:?}");
        }
    }
}
