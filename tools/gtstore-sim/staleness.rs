//! `gtstore-sim --staleness`: how soon reads see an acknowledged write, on the simulated cluster and
//! by a Monte Carlo of the same messages.

use super::Asked;
use super::sweep::over_seeds;
use gtstore::sim::staleness::{Cell, Model, N, Share, Staleness, StalenessSettings, TIMES_MS};
use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Trials of each kind that one seed makes.
const TRIALS: u64 = 250;
/// Seeds unless others are asked for: 10,000 trials of each kind, so that the worst standard
/// deviation is a quarter of [`TOLERANCE`].
pub(crate) const SEEDS: Range<u64> = 0..40;
/// How far cluster and Monte Carlo may be apart.
const TOLERANCE: f64 = 0.02;
/// How far the paper's pattern may be from the paper's figures, which have two or three digits.
const OF_PAPER: f64 = 0.01;

/// Measures, prints the tables, and says what is wrong with them.
pub(crate) fn sweep(asked: &Asked) -> ExitCode {
    // By seed: the sum is the same in whatever order they end.
    let measured = Mutex::new(BTreeMap::new());
    let swept = over_seeds(asked, |seed| {
        let settings = StalenessSettings { seed, trials: TRIALS, planted: asked.planted };
        let one = Staleness::measure(settings);
        measured.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, one);
        None::<()>
    });
    let mut all = Staleness::default();
    let measured = measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    measured.into_values().for_each(|one| all.add(one));
    println!("{}", introduction(swept.done));
    Model::ALL.into_iter().for_each(|model| print_model(model, &all));
    print_paper(&all.paper);
    if let Some(cell) = all.furthest() {
        let (trial, difference) = (cell.trial, cell.difference());
        println!(
            "cluster and Monte Carlo differ by {difference:.4} at most ({}, R {}, W {}, {} ms); {TOLERANCE} is \
             allowed",
            cell.model.name(),
            trial.r,
            trial.w,
            trial.t_ms
        );
    }
    let faults = all.faults(TOLERANCE, OF_PAPER);
    faults.iter().for_each(|fault| println!("FAILED: {fault}"));
    let mutant = asked.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
    let Range { start, end } = asked.seeds;
    println!(
        "again: gtstore-sim --staleness --seeds {start}..{end}{mutant}  ({:.1} s on {} threads)",
        swept.seconds, asked.threads
    );
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn introduction(seeds: u64) -> String {
    format!(
        "Probability that a read sees a write, t after its acknowledgement, with {N} copies.\n\
         On the left the simulated cluster ({} reads each), on the right the Monte Carlo.\n\
         1 is every single read. Writer and reader each talk to one of the owners, at random.\n",
        seeds * TRIALS
    )
}

fn print_model(model: Model, all: &Staleness) {
    let mut heading = format!("{:<9}", model.name());
    TIMES_MS.iter().for_each(|ms| heading += &format!("   {:^15}", format!("t = {ms} ms")));
    println!("{}", heading.trim_end());
    for row in all.cells.iter().filter(|cell| cell.model == model).collect::<Vec<_>>().chunks(TIMES_MS.len())
    {
        let Some(first) = row.first() else { continue };
        let shares = row.iter().map(|cell| pair(cell)).collect::<String>();
        println!("R {} W {}  {shares}", first.trial.r, first.trial.w);
    }
    println!();
}

fn pair(cell: &Cell) -> String {
    format!("   {:>7} {:>7}", text(cell.cluster), text(cell.computed))
}

/// Four digits; 1 is said of nothing less.
fn text(share: Share) -> String {
    if share.is_whole() { "1".to_owned() } else { format!("{:.4}", share.ratio()) }
}

fn print_paper(paper: &[(Model, Share)]) {
    let figures: Vec<String> = paper
        .iter()
        .map(|(model, share)| format!("{} {:.3} ({})", model.name(), share.ratio(), model.told_by_paper()))
        .collect();
    println!(
        "the paper's own pattern (coordinator no owner, reads sent to all) by this Monte Carlo, and in\n\
         parentheses by the paper, R 1, W 1, t = 0: {}",
        figures.join(", ")
    );
}
