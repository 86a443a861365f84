//! The engine through crashes at every operation of its disk, and through flipped bits.

use gtstore::mutant::{Mutant, Planted};
use gtstore::sim::{CrashSettings, crash_sweep, flip_sweep};

fn settings(seed: u64, planted: Planted) -> CrashSettings {
    CrashSettings { seed, turns: 400, points_max: 400, planted }
}

#[test]
fn two_thousand_crash_points_lose_nothing_that_was_acknowledged() {
    let (mut points, mut compacted) = (0, 0);
    for seed in 0.. {
        let report = crash_sweep(settings(seed, Planted::NONE));
        assert_eq!(report.broken, None);
        points += report.points;
        compacted += report.compacted;
        if points >= 2000 {
            break;
        }
    }
    assert!(compacted > 10, "{compacted} segments were compacted: too few to mean anything");
}

/// Every rule of recovery and compaction, broken: the sweep must see it. (One is not here: a
/// segment left behind by a finished compaction does no harm when it is replayed, for whatever is
/// in it has a later record; it is removed for its space.)
#[test]
fn each_broken_rule_of_recovery_is_caught() {
    let rules = [
        Mutant::TornTailServed,
        Mutant::SkipDirectorySync,
        Mutant::SkipSealSync,
        Mutant::KeepUnsyncedSegment,
        Mutant::ManifestBeforeSync,
        Mutant::MoveBeforeWritten,
        Mutant::DropStatements,
    ];
    for mutant in rules {
        let planted = Planted::one(mutant);
        let caught = (0..200).find(|&seed| crash_sweep(settings(seed, planted)).broken.is_some());
        println!("{mutant:?}: caught at seed {caught:?}");
        assert!(caught.is_some(), "{mutant:?} was not caught");
    }
}

#[test]
fn no_flipped_byte_makes_it_panic_or_serve_what_was_not_written() {
    let report = flip_sweep(CrashSettings { turns: 60, ..settings(1, Planted::NONE) });
    assert_eq!(report.broken, None);
    assert!(report.bytes > 5000, "{report:?}");
    // Most keys of most directories are as good as before.
    assert!(report.withheld.0 * 2 < report.withheld.1, "{report:?}");
    for mutant in [Mutant::TrustIndexFile, Mutant::IgnoreWatermark] {
        let caught = (0..20).any(|seed| {
            let settings = CrashSettings { turns: 60, ..settings(seed, Planted::one(mutant)) };
            flip_sweep(settings).broken.is_some()
        });
        assert!(caught, "{mutant:?} was not caught");
    }
}
