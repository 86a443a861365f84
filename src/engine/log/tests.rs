//! The writer on a simulated disk: what fits and what does not, and what is durable when.

use super::*;
use crate::engine::testing::{Log, recovered};
use crate::sim::{DiskCall, Rng};

fn lose_power(log: &Log, seed: u64) -> Vec<u64> {
    let mut disk = log.disk.clone();
    disk.lose_power(&mut Rng::new(seed));
    let (found, told) = recovered(&mut disk, 1 << 20, Planted::NONE).unwrap();
    assert_eq!(found.damage, []);
    Log::seqs(&told)
}

#[test]
fn an_append_that_does_not_fit_leaves_nothing_and_can_be_tried_again() {
    // In the middle of a segment, and with a segment's first append: header and records apart.
    for (records, spare) in [(2, 10), (0, 10), (0, 40)] {
        let mut log = Log::new(1 << 20);
        log.fill(records, 50);
        let before = log.disk.used();
        let files = log.disk.list().unwrap();
        let request = log.batch(50);
        log.disk.set_capacity(Some(before + spare));
        for _ in 0..2 {
            assert!(is_full(&log.writer.write(&mut log.disk, &request).unwrap_err()));
            assert_eq!((log.disk.used(), log.disk.list().unwrap()), (before, files.clone()));
        }
        assert!(log.writer.sync_plan().is_none());
        log.disk.set_capacity(None);
        log.writer.write(&mut log.disk, &request).unwrap();
        log.fill(1, 50);
        assert_eq!(lose_power(&log, 1), (1..=records + 2).collect::<Vec<_>>());
    }
}

#[test]
fn an_append_that_cannot_be_taken_back_is_not_to_be_tried_again() {
    let mut log = Log::new(1 << 20);
    log.fill(1, 50);
    let request = log.batch(50);
    log.disk.set_capacity(Some(log.disk.used() + 10));
    log.disk.fail_next(DiskCall::Truncate, io::ErrorKind::StorageFull);
    let error = log.writer.write(&mut log.disk, &request).unwrap_err();
    assert!(!is_full(&error), "{error}");
}

#[test]
fn any_other_error_is_passed_on() {
    let mut log = Log::new(1 << 20);
    let request = log.batch(50);
    log.disk.fail_next(DiskCall::Append, io::ErrorKind::Other);
    assert!(!is_full(&log.writer.write(&mut log.disk, &request).unwrap_err()));
}

#[test]
fn a_gap_in_the_log_is_refused() {
    let mut log = Log::new(1 << 20);
    log.fill(1, 50);
    let (segment, position) = (log.segment, log.position);
    let request = |segment, position| DiskRequest::Append {
        ticket: Ticket(9),
        segment,
        position,
        bytes: bytes::Bytes::from_static(b"x"),
        sync: false,
    };
    for wrong in
        [request(segment, position + 1), request(segment, position - 1), request(position + 1, position)]
    {
        assert_eq!(log.writer.write(&mut log.disk, &wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn rolling_syncs_nothing_and_the_next_sync_takes_every_segment_left_behind() {
    let mut log = Log::new(100);
    for _ in 0..3 {
        log.put(80);
    }
    let files: Vec<FileName> = log.disk.list().unwrap();
    let segments: Vec<_> = files.into_iter().filter(|file| matches!(file, FileName::Segment(_))).collect();
    assert_eq!(segments.len(), 3);
    let plan = log.writer.sync_plan().unwrap();
    assert_eq!(plan, SyncPlan { ticket: Ticket(3), files: segments, directory: true });
    log.sync().unwrap();
    assert_eq!((log.writer.sync_plan(), log.writer.synced()), (None, Ticket(3)));
    for seed in 0..20 {
        assert_eq!(lose_power(&log, seed), [1, 2, 3]);
    }
}

#[test]
fn what_is_written_during_a_sync_waits_for_the_next_one() {
    let mut log = Log::new(300);
    log.put(80);
    let plan = log.writer.sync_plan().unwrap();
    // Written while another thread carries the plan out.
    log.put(80);
    log.put(80);
    plan.carry_out(&mut log.disk).unwrap();
    log.writer.synced_to(&plan);
    assert_eq!((log.writer.synced(), log.writer.written()), (Ticket(1), Ticket(3)));
    assert!(log.writer.wants_sync());
    let next = log.writer.sync_plan().unwrap();
    assert_eq!((next.ticket, next.files.len(), next.directory), (Ticket(3), 2, true));
    log.sync().unwrap();
    log.put(1);
    let last = log.writer.sync_plan().unwrap();
    assert_eq!((last.files.len(), last.directory), (1, false));
}

#[test]
fn files_are_removed_only_once_all_before_is_durable() {
    let mut log = Log::new(100);
    log.fill(2, 80);
    log.write_manifest();
    let (start, _) = log.sealed.remove(0);
    // The second takes the first's place; then the first is gone.
    log.put(80);
    log.write_manifest();
    let files = vec![FileName::Segment(start), FileName::SegmentIndex(start)];
    let request = DiskRequest::Remove { ticket: log.ticket(), files };
    log.disk.record();
    log.writer.write(&mut log.disk, &request).unwrap();
    for steps in 0..=log.disk.steps() {
        for seed in 0..10 {
            let mut disk = log.disk.crash_at(steps, &mut Rng::new(seed));
            let (found, told) = recovered(&mut disk, 100, Planted::NONE).unwrap();
            assert_eq!(found.damage, []);
            let gone = disk.length(FileName::Segment(start)).is_none();
            assert!(!gone || !told.is_empty());
        }
    }
    assert!(!log.writer.wants_sync());
    assert_eq!(lose_power(&log, 3), [2, 3]);
}

#[test]
fn a_manifest_never_lists_a_segment_that_is_not_durable() {
    let mut log = Log::new(100);
    log.put(80);
    log.put(80);
    log.write_manifest();
    for seed in 0..40 {
        assert_eq!(lose_power(&log, seed).first(), Some(&1));
    }
}
