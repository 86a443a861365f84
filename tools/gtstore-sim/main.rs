//! `gtstore-sim`: runs and replays simulated clusters by seed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod crash;
mod journal;
mod shrink;
mod staleness;
mod sweep;

use getopts::{Matches, Options};
use gtstore::mutant::{Mutant, Planted};
use gtstore::shell::args::{self, Program};
use gtstore::sim::{LeftOut, Report, Settings, run};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use sweep::over_seeds;

const OPS: usize = 1000;

/// What the command line asks for.
struct Asked {
    seeds: Range<u64>,
    ops: usize,
    planted: Planted,
    left_out: LeftOut,
    mutant: Option<String>,
    threads: usize,
    verbose: bool,
    keep_going: bool,
    /// Look for fewer faults with which a seed still fails.
    shrinks: bool,
    /// What the lines of the event log are to have in them that are printed.
    follow: Option<String>,
    /// Where the event log goes.
    log: Option<PathBuf>,
}

impl Asked {
    fn settings(&self, seed: u64, journal: bool) -> Settings {
        Settings { seed, ops: self.ops, planted: self.planted, left_out: self.left_out.clone(), journal }
    }
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
        Ok(asked) if matches.opt_present("staleness") => staleness::sweep(&asked),
        Ok(asked) => sweep(&asked),
        Err(text) => program.usage_error(&text),
    }
}

fn program() -> Program {
    let mut options = Options::new();
    options.optopt("s", "seed", "replay one seed, and say all about it", "S");
    options.optopt("", "seeds", "sweep a range of seeds, the end left out", "A..B");
    options.optflag("", "crash", "crash one storage engine, at every operation of its disk");
    options.optflag("", "staleness", "measure how soon reads see a write (default seeds 0..40)");
    options.optopt("", "ops", "calls that clients make in each run (default 1000)", "COUNT");
    options.optopt("", "threads", "runs side by side (default: one per core)", "COUNT");
    options.optopt("", "mutant", "plant a bug, in a build with --features planted-bugs", "NAME");
    options.optflag("", "mutants", "list the bugs that can be planted");
    options.optopt("", "log", "where the event log of a failing seed, or of --seed, goes", "FILE");
    options.optopt("", "follow", "with --seed: print what happens to a key, a write or a request", "TEXT");
    options.optopt("", "without", "leave out faults of these kinds", "KIND,...");
    options.optopt("", "faults", "leave out all faults but these, by their places", "PLACE,...");
    options.optflag("", "no-shrink", "do not look for fewer faults with which a seed still fails");
    options.optflag("k", "keep-going", "do not stop at the first seed that fails");
    Program {
        name: "gtstore-sim",
        summary: "runs simulated GTStore clusters: one seed, one run, the same every time.",
        examples: &[
            ("gtstore-sim --seeds 0..300", "300 runs; the first one that breaks a promise is told"),
            ("gtstore-sim --crash --seeds 0..60", "about 100,000 crashes of one engine"),
            ("gtstore-sim --staleness", "reads that see a write t after it, for each R and W; checked"),
            ("gtstore-sim --seed 7", "one run again, with all there is to say about it"),
            ("gtstore-sim --seed 7 --follow key3", "each message about key3, and what was to come of it"),
        ],
        options,
    }
}

fn asked(matches: &Matches) -> Result<Asked, String> {
    let number = |name: &str, usual: u64| match matches.opt_str(name) {
        Some(text) => text.parse::<u64>().map_err(|_| format!("--{name} takes a number, not {text:?}")),
        None => Ok(usual),
    };
    // Nothing at all would pass every check.
    let some = |name: &str, usual: u64| match number(name, usual)? {
        0 => Err(format!("--{name} takes a number from 1 on")),
        count => Ok(count),
    };
    let (seeds, verbose) = match (matches.opt_str("seed"), matches.opt_str("seeds")) {
        (Some(_), None) => {
            let seed = number("seed", 0)?;
            (seed..seed.saturating_add(1), true)
        }
        (None, Some(text)) => (parse_range(&text)?, false),
        (None, None) if matches.opt_present("staleness") => (staleness::SEEDS, false),
        (None, None) | (Some(_), Some(_)) => return Err("give --seed S or --seeds A..B".to_owned()),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = some("threads", cores as u64)?;
    Ok(Asked {
        seeds,
        ops: usize::try_from(some("ops", OPS as u64)?).map_err(|_| "too many --ops")?,
        planted: planted(matches.opt_str("mutant"))?,
        left_out: shrink::left_out(matches)?,
        mutant: matches.opt_str("mutant"),
        threads: usize::try_from(threads.min(256)).unwrap_or(1),
        verbose,
        keep_going: matches.opt_present("keep-going"),
        shrinks: !["no-shrink", "without", "faults"].iter().any(|name| matches.opt_present(name)),
        follow: matches.opt_str("follow"),
        log: matches.opt_str("log").map(PathBuf::from),
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

fn sweep(asked: &Asked) -> ExitCode {
    let (ops, events) = (AtomicU64::new(0), AtomicU64::new(0));
    let swept = over_seeds(asked, |seed| {
        let report =
            run(asked.settings(seed, asked.verbose && (asked.follow.is_some() || asked.log.is_some())));
        ops.fetch_add(report.ops as u64, Ordering::Relaxed);
        events.fetch_add(report.events, Ordering::Relaxed);
        if asked.verbose {
            journal::tell(asked, &report);
            print_report(&report);
        }
        (!report.broken.is_empty()).then_some(report)
    });
    let failed = swept.failed.len();
    for (report, at) in swept.failed.into_iter().zip(0..) {
        // One is enough to begin with.
        print_failure(report, asked, asked.shrinks && at == 0);
    }
    println!(
        "{} seeds, {failed} failed; {} calls, {} events in {:.1} s ({:.1} seeds a second on {} threads)",
        swept.done,
        ops.into_inner(),
        events.into_inner(),
        swept.seconds,
        swept.done as f64 / swept.seconds,
        asked.threads,
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_report(report: &Report) {
    let (stored, read, unknown, failed) = report.outcomes;
    println!("seed {}: {:?}", report.seed, report.shape);
    println!("  faults {:?}", report.faults);
    println!("  {} keys reaped, {} contexts trimmed", report.reaped.0, report.reaped.1);
    println!("  {} calls: {stored} stored, {read} read, {unknown} unknown, {failed} failed", report.ops);
    println!(
        "  {} events in {} virtual ms, trace {:016x}",
        report.events, report.virtual_ms, report.trace_hash
    );
}

fn print_failure(report: Report, asked: &Asked, shrinks: bool) {
    println!("seed {} FAILED:", report.seed);
    for line in report.broken.iter().take(8) {
        println!("  {line}");
    }
    if report.broken.len() > 8 {
        println!("  and {} more", report.broken.len() - 8);
    }
    println!("replay: {}", replay(&report, asked, &asked.left_out));
    let (seed, was_told) = (report.seed, !report.journal.is_empty());
    let mut left_out = asked.left_out.clone();
    if shrinks {
        let before = report.sequence.len();
        let (fewer, shrunk) = shrink::shrink(asked, report);
        println!("of {before} faults it takes {}:", shrunk.sequence.len());
        for (place, fault) in &shrunk.sequence {
            println!("  {place} {fault:?}");
        }
        for line in shrunk.broken.iter().take(2) {
            println!("  {line}");
        }
        println!("replay: {}", replay(&shrunk, asked, &fewer));
        left_out = fewer;
    }
    if !was_told {
        // Once more, for the log.
        journal::write(asked, &run(Settings { left_out, ..asked.settings(seed, true) }));
    }
}

/// The line that runs a seed again.
fn replay(report: &Report, asked: &Asked, left_out: &LeftOut) -> String {
    let mutant = asked.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
    format!("gtstore-sim --seed {} --ops {}{mutant}{}", report.seed, asked.ops, shrink::options(left_out))
}
