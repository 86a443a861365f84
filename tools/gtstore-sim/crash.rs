//! `gtstore-sim --crash`: one engine alone, crashed at every operation of its disk.

use super::Asked;
use gtstore::sim::{CrashReport, CrashSettings, crash_sweep};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Turns of each seed's workload: some 1,500 operations of the disk.
const TURNS: u32 = 400;

#[derive(Default)]
struct Progress {
    next: AtomicU64,
    done: AtomicU64,
    points: AtomicUsize,
    compacted: AtomicUsize,
    stop: AtomicBool,
    failed: Mutex<Vec<String>>,
}

/// Sweeps the seeds; says what each point came to only when it went wrong.
pub(crate) fn sweep(asked: &Asked) -> ExitCode {
    let progress = Progress { next: AtomicU64::new(asked.seeds.start), ..Progress::default() };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(|| work(asked, &progress));
        }
        scope.spawn(|| watch(asked, &progress, began));
    });
    let failed = progress.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for line in &failed {
        println!("FAILED: {line}");
    }
    if let Some(seed) = failed.first().and_then(|line| line.strip_prefix("seed ")?.split(':').next()) {
        let mutant = asked.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
        println!("replay: gtstore-sim --crash --seed {seed}{mutant}");
    }
    println!(
        "{} seeds, {} crash points, {} segments compacted, {} seeds failed, in {:.1} s on {} threads",
        progress.done.load(Ordering::Relaxed),
        progress.points.load(Ordering::Relaxed),
        progress.compacted.load(Ordering::Relaxed),
        failed.len(),
        began.elapsed().as_secs_f64(),
        asked.threads,
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(asked: &Asked, progress: &Progress) {
    while !progress.stop.load(Ordering::Relaxed) {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        if seed >= asked.seeds.end {
            return;
        }
        let settings = CrashSettings { seed, turns: TURNS, points_max: usize::MAX, planted: asked.planted };
        let CrashReport { points, compacted, broken, .. } = crash_sweep(settings);
        progress.done.fetch_add(1, Ordering::Relaxed);
        progress.points.fetch_add(points, Ordering::Relaxed);
        progress.compacted.fetch_add(compacted, Ordering::Relaxed);
        if let Some(line) = broken {
            progress.failed.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            progress.stop.store(!asked.keep_going, Ordering::Relaxed);
        }
    }
}

/// A line every two seconds, until the workers are done.
fn watch(asked: &Asked, progress: &Progress, began: Instant) {
    let mut told = Instant::now();
    while progress.next.load(Ordering::Relaxed) < asked.seeds.end && !progress.stop.load(Ordering::Relaxed) {
        if told.elapsed() >= Duration::from_secs(2) {
            told = Instant::now();
            let (done, points) = (&progress.done, &progress.points);
            let (done, points) = (done.load(Ordering::Relaxed), points.load(Ordering::Relaxed));
            eprintln!("{done} seeds, {points} crash points, {:.0} s", began.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
