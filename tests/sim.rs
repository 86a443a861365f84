//! The simulator's sweep: every seed keeps every promise, a seed is one run, and every planted
//! bug is caught. A failing seed prints the line that replays it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

use gtstore::mutant::{Mutant, Planted};
use gtstore::sim::{LeftOut, Report, Settings, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds that every change must pass.
const SEEDS: u64 = 300;
/// Calls that clients make in each.
const OPS: usize = 1000;

/// Seeds in which a planted bug must be caught. Most are within ten; those that need a rare
/// meeting of faults take a few hundred, and a manager that loses power at the worst moment 1,300.
const MUTANT_SEEDS: u64 = 2000;

/// Seeds that once failed, each for a reason worth remembering.
const REGRESSIONS: &[(u64, &str)] = &[
    (751, "a first attempt slept in a stopped process, and was then written above what had come between"),
    (2801, "a refusal of a second attempt was told as `failed` although the first had been applied"),
    (2897, "as 751, by way of a delete"),
    (1042, "a sector on its way to a node that had been silent was never gone on with"),
    (28, "the last sealed segment was taken for the open one, left out of the manifest, and removed"),
    (
        2232,
        "the scrub took a tombstone beside rot for a value that cannot be read, and it was given to nobody",
    ),
    (4054, "a former owner kept a note of a debt for good whose copy had rotted"),
    (7693, "as 4054"),
];

fn one(seed: u64, planted: Planted) -> Report {
    run(Settings { seed, ops: OPS, planted, left_out: LeftOut::default(), journal: false })
}

/// Runs seeds on all cores until one of them is broken; gives the broken one of the lowest seed.
fn first_broken(seeds: impl Iterator<Item = u64>, planted: Planted) -> Option<Report> {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let broken: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while broken.lock().unwrap().is_empty() {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(&seed) = seeds.get(at) else { return };
                    let report = one(seed, planted);
                    if !report.broken.is_empty() {
                        broken.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    broken.into_inner().unwrap().into_iter().min_by_key(|report| report.seed)
}

fn insist(broken: Option<Report>) {
    if let Some(report) = broken {
        panic!(
            "seed {} is broken:\n  {}\nreplay: cargo run --release --bin gtstore-sim -- --seed {} --ops {OPS}",
            report.seed,
            report.broken.join("\n  "),
            report.seed,
        );
    }
}

#[test]
fn every_seed_keeps_every_promise() {
    insist(first_broken(0..SEEDS, Planted::NONE));
}

#[test]
fn seeds_that_once_failed_stay_mended() {
    insist(first_broken(REGRESSIONS.iter().map(|entry| entry.0), Planted::NONE));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        let (first, second) = (one(seed, Planted::NONE), one(seed, Planted::NONE));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
    assert_ne!(one(1, Planted::NONE).trace_hash, one(2, Planted::NONE).trace_hash);
}

#[test]
fn runs_are_stormy_and_mostly_answered() {
    let reports: Vec<Report> = (0..20).map(|seed| one(seed, Planted::NONE)).collect();
    let calls: usize = reports.iter().map(|report| report.ops).sum();
    let stored: usize = reports.iter().map(|report| report.outcomes.0).sum();
    let read: usize = reports.iter().map(|report| report.outcomes.1).sum();
    assert!(calls >= 20 * OPS * 9 / 10, "{calls} calls");
    assert!(stored + read > calls / 2, "{stored} stored and {read} read of {calls}");
    let kinds: std::collections::BTreeSet<_> =
        reports.iter().flat_map(|report| report.faults.keys()).collect();
    assert!(kinds.len() >= 6, "only {kinds:?} happened");
}

fn caught(mutant: Mutant) {
    let broken = first_broken(0..MUTANT_SEEDS, Planted::one(mutant));
    assert!(broken.is_some(), "{mutant:?} was planted and nothing noticed in {MUTANT_SEEDS} seeds");
}

#[test]
fn an_acknowledgement_before_the_disk_is_caught() {
    caught(Mutant::AckBeforeDurable);
}

#[test]
fn counting_an_acknowledgement_twice_is_caught() {
    caught(Mutant::CountDuplicateAck);
}

#[test]
fn ignoring_a_newer_replica_is_caught() {
    caught(Mutant::IgnoreNewerReplica);
}

#[test]
fn using_a_request_id_again_is_caught() {
    caught(Mutant::ReuseRequestId);
}

#[test]
fn dropping_a_replicas_write_is_caught() {
    caught(Mutant::DropReplicaWrite);
}

#[test]
fn taking_a_newer_version_for_an_equal_one_is_caught() {
    caught(Mutant::EqualOnFirstActor);
}

#[test]
fn running_a_retry_as_if_it_were_new_is_caught() {
    caught(Mutant::BlindRetry);
}

#[test]
fn keeping_an_incarnation_over_a_restart_is_caught() {
    caught(Mutant::StableIncarnation);
}

#[test]
fn saying_not_found_too_early_is_caught() {
    caught(Mutant::EagerNotFound);
}

#[test]
fn letting_a_new_owner_count_alone_is_caught() {
    caught(Mutant::NewOwnerCountsAlone);
}

#[test]
fn switching_owners_without_streaming_is_caught() {
    caught(Mutant::SwitchWithoutStream);
}

#[test]
fn telling_a_table_before_it_is_durable_is_caught() {
    caught(Mutant::TellBeforeDurable);
}

#[test]
fn counting_a_fallback_in_a_strict_quorum_is_caught() {
    caught(Mutant::CountFallbackInStrict);
}

#[test]
fn keeping_a_hint_in_memory_alone_is_caught() {
    caught(Mutant::HintBeforeDurable);
}

#[test]
fn forgetting_a_hint_that_has_not_arrived_is_caught() {
    caught(Mutant::HintForgottenWhenSent);
}

#[test]
fn taking_one_nothing_for_an_absence_is_caught() {
    caught(Mutant::AbsentBeatsHeld);
}

#[test]
fn acknowledging_a_moved_sector_before_the_disk_is_caught() {
    caught(Mutant::ChunkBeforeDurable);
}

#[test]
fn handing_a_hint_to_a_former_owner_is_caught() {
    caught(Mutant::HintToExOwner);
}

#[test]
fn acknowledging_what_is_held_but_not_durable_is_caught() {
    caught(Mutant::AckUnchangedAtOnce);
}

#[test]
fn forgetting_a_hint_that_has_grown_is_caught() {
    caught(Mutant::HintForgottenThoughGrown);
}

#[test]
fn keeping_no_tombstones_is_caught() {
    caught(Mutant::ForgetTombstones);
}

#[test]
fn comparing_no_copies_is_caught() {
    caught(Mutant::SkipAntiEntropy);
}

#[test]
fn letting_go_of_a_tombstone_without_a_fence_is_caught() {
    caught(Mutant::ReapWithoutFence);
}

#[test]
fn raising_a_fence_over_kept_hints_is_caught() {
    caught(Mutant::ReapWithHints);
}

#[test]
fn letting_go_of_a_tombstone_that_some_owner_lacks_is_caught() {
    caught(Mutant::ReapUnequal);
}

#[test]
fn serving_a_copy_that_is_not_whole_is_caught() {
    caught(Mutant::ServeQuarantined);
}

#[test]
fn taking_a_copy_for_whole_that_one_owner_has_filled_is_caught() {
    caught(Mutant::LiftAfterOneOwner);
}
