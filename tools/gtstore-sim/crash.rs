//! `gtstore-sim --crash`: one engine alone, crashed at every operation of its disk.

use super::Asked;
use super::sweep::over_seeds;
use gtstore::sim::{CrashSettings, crash_sweep};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Turns of each seed's workload: some 1,500 operations of the disk.
const TURNS: u32 = 400;

/// Sweeps the seeds, and says what went wrong, if anything did.
pub(crate) fn sweep(asked: &Asked) -> ExitCode {
    let (points, compacted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let swept = over_seeds(asked, |seed| {
        let settings = CrashSettings { seed, turns: TURNS, points_max: usize::MAX, planted: asked.planted };
        let report = crash_sweep(settings);
        points.fetch_add(report.points, Ordering::Relaxed);
        compacted.fetch_add(report.compacted, Ordering::Relaxed);
        report.broken.map(|what| (seed, what))
    });
    for (seed, what) in &swept.failed {
        println!("FAILED: {what}");
        let mutant = asked.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
        println!("replay: gtstore-sim --crash --seed {seed}{mutant}");
    }
    println!(
        "{} seeds, {} crash points, {} segments compacted, {} seeds failed, in {:.1} s on {} threads",
        swept.done,
        points.into_inner(),
        compacted.into_inner(),
        swept.failed.len(),
        swept.seconds,
        asked.threads,
    );
    swept.exit()
}
