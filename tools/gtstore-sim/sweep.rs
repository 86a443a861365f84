//! Many seeds side by side, with a line of progress each second, until one of them fails.

use super::Asked;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a sweep came to.
pub(crate) struct Swept<F> {
    /// Seeds that were run.
    pub(crate) done: u64,
    /// What those that failed have to say.
    pub(crate) failed: Vec<F>,
    pub(crate) seconds: f64,
}

impl<F> Swept<F> {
    pub(crate) fn exit(&self) -> ExitCode {
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs `one` for every seed that is asked for; it gives something back if the seed fails.
pub(crate) fn over_seeds<F: Send>(asked: &Asked, one: impl Fn(u64) -> Option<F> + Sync) -> Swept<F> {
    let (next, done) = (AtomicU64::new(asked.seeds.start), AtomicU64::new(0));
    let (stop, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let began = Instant::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= asked.seeds.end {
                return;
            }
            let failure = one(seed);
            done.fetch_add(1, Ordering::Relaxed);
            if let Some(failure) = failure {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                stop.fetch_or(!asked.keep_going, Ordering::Relaxed);
            }
        }
    };
    let total = asked.seeds.end - asked.seeds.start;
    let watch = || {
        let mut told = Instant::now();
        loop {
            let done = done.load(Ordering::Relaxed);
            if done >= total || stop.load(Ordering::Relaxed) {
                return;
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                let failed = failed.lock().map_or(0, |failed| failed.len());
                eprintln!("{done}/{total} seeds, {failed} failed, {:.0} s", began.elapsed().as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(work);
        }
        if !asked.verbose {
            scope.spawn(watch);
        }
    });
    Swept {
        done: done.into_inner(),
        failed: failed.into_inner().unwrap_or_else(PoisonError::into_inner),
        seconds: began.elapsed().as_secs_f64(),
    }
}
