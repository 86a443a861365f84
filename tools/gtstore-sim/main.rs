//! `gtstore-sim`: runs and replays simulated clusters by seed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod crash;

use getopts::{Matches, Options};
use gtstore::mutant::{Mutant, Planted};
use gtstore::shell::args::{self, Program};
use gtstore::sim::{Report, Settings, run};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const OPS: usize = 1000;

/// What the command line asks for.
struct Asked {
    seeds: Range<u64>,
    ops: usize,
    planted: Planted,
    mutant: Option<String>,
    threads: usize,
    verbose: bool,
    keep_going: bool,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let mut program = program();
    let matches = match program.parse(&args::of_process()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    if matches.opt_present("mutants") {
        Mutant::ALL.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    match asked(&matches) {
        Ok(asked) if matches.opt_present("crash") => crash::sweep(&asked),
        Ok(asked) => sweep(&asked),
        Err(text) => program.usage_error(&text),
    }
}

fn program() -> Program {
    let mut options = Options::new();
    options.optopt("s", "seed", "replay one seed, and say all about it", "S");
    options.optopt("", "seeds", "sweep a range of seeds, the end left out", "A..B");
    options.optflag("", "crash", "crash one storage engine, at every operation of its disk");
    options.optopt("", "ops", "calls that clients make in each run (default 1000)", "COUNT");
    options.optopt("", "threads", "runs side by side (default: one per core)", "COUNT");
    options.optopt("", "mutant", "plant a bug, in a build with --features planted-bugs", "NAME");
    options.optflag("", "mutants", "list the bugs that can be planted");
    options.optflag("k", "keep-going", "do not stop at the first seed that fails");
    Program {
        name: "gtstore-sim",
        summary: "runs simulated GTStore clusters: one seed, one run, the same every time.",
        examples: &[
            ("gtstore-sim --seeds 0..300", "300 runs; the first one that breaks a promise is told"),
            ("gtstore-sim --crash --seeds 0..60", "about 100,000 crashes of one engine"),
            ("gtstore-sim --seed 7", "one run again, with all there is to say about it"),
        ],
        options,
    }
}

fn asked(matches: &Matches) -> Result<Asked, String> {
    let number = |name: &str, usual: u64| match matches.opt_str(name) {
        Some(text) => text.parse::<u64>().map_err(|_| format!("--{name} takes a number, not {text:?}")),
        None => Ok(usual),
    };
    let (seeds, verbose) = match (matches.opt_str("seed"), matches.opt_str("seeds")) {
        (Some(_), None) => {
            let seed = number("seed", 0)?;
            (seed..seed.saturating_add(1), true)
        }
        (None, Some(text)) => (parse_range(&text)?, false),
        (None, None) | (Some(_), Some(_)) => return Err("give --seed S or --seeds A..B".to_owned()),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = number("threads", cores as u64)?;
    Ok(Asked {
        seeds,
        ops: usize::try_from(number("ops", OPS as u64)?).map_err(|_| "too many --ops")?,
        planted: planted(matches.opt_str("mutant"))?,
        mutant: matches.opt_str("mutant"),
        threads: usize::try_from(threads.clamp(1, 256)).unwrap_or(1),
        verbose,
        keep_going: matches.opt_present("keep-going"),
    })
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("--seeds takes a range like 0..300, not {text:?}");
    let (low, high) = text.split_once("..").ok_or_else(wrong)?;
    let (low, high) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
    if low < high { Ok(low..high) } else { Err(wrong()) }
}

#[cfg(feature = "planted-bugs")]
fn planted(name: Option<String>) -> Result<Planted, String> {
    let Some(name) = name else { return Ok(Planted::NONE) };
    let found = Mutant::ALL.iter().find(|entry| entry.0 == name);
    found.map(|entry| Planted::one(entry.1)).ok_or_else(|| format!("no bug {name:?}; --mutants lists them"))
}

#[cfg(not(feature = "planted-bugs"))]
fn planted(name: Option<String>) -> Result<Planted, String> {
    match name {
        None => Ok(Planted::NONE),
        Some(_) => Err("this build can plant no bugs: build with --features planted-bugs".to_owned()),
    }
}

/// What a sweep has come to so far.
#[derive(Default)]
struct Progress {
    next: AtomicU64,
    done: AtomicU64,
    ops: AtomicU64,
    events: AtomicU64,
    stop: AtomicBool,
    failed: Mutex<Vec<Report>>,
}

fn sweep(asked: &Asked) -> ExitCode {
    let progress = Progress { next: AtomicU64::new(asked.seeds.start), ..Progress::default() };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(|| work(asked, &progress));
        }
        if !asked.verbose {
            scope.spawn(|| watch(asked, &progress, began));
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let done = progress.done.load(Ordering::Relaxed);
    let failed = progress.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for report in &failed {
        print_failure(report, asked);
    }
    println!(
        "{done} seeds, {} failed; {} calls, {} events in {seconds:.1} s ({:.1} seeds a second on {} threads)",
        failed.len(),
        progress.ops.load(Ordering::Relaxed),
        progress.events.load(Ordering::Relaxed),
        done as f64 / seconds,
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
        let report = run(Settings { seed, ops: asked.ops, planted: asked.planted });
        progress.done.fetch_add(1, Ordering::Relaxed);
        progress.ops.fetch_add(report.ops as u64, Ordering::Relaxed);
        progress.events.fetch_add(report.events, Ordering::Relaxed);
        if asked.verbose {
            print_report(&report);
        }
        if !report.broken.is_empty() {
            progress.failed.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            if !asked.keep_going {
                progress.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// A line each second, until the workers are done.
fn watch(asked: &Asked, progress: &Progress, began: Instant) {
    let total = asked.seeds.end - asked.seeds.start;
    let mut told = Instant::now();
    loop {
        let done = progress.done.load(Ordering::Relaxed);
        if done >= total || progress.stop.load(Ordering::Relaxed) {
            return;
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            let failed = progress.failed.lock().map_or(0, |failed| failed.len());
            eprintln!("{done}/{total} seeds, {failed} failed, {:.0} s", began.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn print_report(report: &Report) {
    let (stored, read, unknown, failed) = report.outcomes;
    println!("seed {}: {:?}", report.seed, report.shape);
    println!("  faults {:?}", report.faults);
    println!("  {} calls: {stored} stored, {read} read, {unknown} unknown, {failed} failed", report.ops);
    println!(
        "  {} events in {} virtual ms, trace {:016x}",
        report.events, report.virtual_ms, report.trace_hash
    );
}

fn print_failure(report: &Report, asked: &Asked) {
    println!("seed {} FAILED:", report.seed);
    for line in report.broken.iter().take(8) {
        println!("  {line}");
    }
    if report.broken.len() > 8 {
        println!("  and {} more", report.broken.len() - 8);
    }
    let mutant = asked.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
    println!("replay: gtstore-sim --seed {} --ops {}{mutant}", report.seed, asked.ops);
}
