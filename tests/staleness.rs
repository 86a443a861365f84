//! How soon reads see an acknowledged write: the simulated cluster and the Monte Carlo agree with
//! each other, with what can be computed by hand, and with the paper they are after.

use gtstore::mutant::{Mutant, Planted};
use gtstore::sim::Rng;
use gtstore::sim::staleness::{Model, MonteCarlo, Pattern, Staleness, StalenessSettings, TIMES_MS, Trial};

/// Seeds, and trials of each kind by each: 1000 in all.
const SEEDS: u64 = 4;
const TRIALS: u64 = 250;
/// Four standard deviations of 1000 trials, of which two thirds come out well: as bad as it gets
/// here. (`gtstore-sim --staleness` makes ten times as many and allows a third.)
const TOLERANCE: f64 = 0.06;
const OF_PAPER: f64 = 0.01;
const DRAWS: u64 = 200_000;

fn measure(seed: u64, trials: u64, planted: Planted) -> Staleness {
    Staleness::measure(StalenessSettings { seed, trials, planted })
}

fn compute(pattern: Pattern, model: Model, trial: Trial) -> f64 {
    let mut rng = Rng::new(1);
    MonteCarlo::new(pattern, model, &mut rng).share(trial, DRAWS, &mut rng).ratio()
}

#[test]
fn cluster_and_monte_carlo_agree_and_quorums_that_meet_miss_nothing() {
    let mut all = Staleness::default();
    std::thread::scope(|scope| {
        let seeds: Vec<_> =
            (0..SEEDS).map(|seed| scope.spawn(move || measure(seed, TRIALS, Planted::NONE))).collect();
        seeds.into_iter().for_each(|seed| all.add(seed.join().unwrap()));
    });
    assert_eq!(all.cells.len(), Model::ALL.len() * 9 * TIMES_MS.len());
    assert!(all.cells.iter().all(|cell| cell.cluster.of == SEEDS * TRIALS), "a trial was not counted");
    let whole = all.cells.iter().filter(|cell| cell.trial.quorums_meet() && cell.cluster.is_whole());
    assert_eq!(whole.count(), Model::ALL.len() * 6 * TIMES_MS.len());
    assert_eq!(all.faults(TOLERANCE, OF_PAPER), Vec::<String>::new());
}

#[test]
fn the_papers_own_pattern_gives_the_papers_figures() {
    let at_once = Trial { r: 1, w: 1, t_ms: 0 };
    for (model, told) in [(Model::LnkdSsd, 0.974), (Model::LnkdDisk, 0.44), (Model::Ymmr, 0.89)] {
        let share = compute(Pattern::Paper, model, at_once);
        assert!((share - told).abs() < OF_PAPER, "{}: {share}, not {told}", model.name());
    }
}

/// With R = W = 1 the reader's node is the writer's, or must have been reached in t.
#[test]
fn the_monte_carlo_agrees_with_what_can_be_computed_by_hand() {
    let pareto = |ms: f64, xm: f64, alpha: f64| if ms < xm { 0.0 } else { 1.0 - (xm / ms).powf(alpha) };
    let exponential = |ms: f64, rate: f64| 1.0 - (-rate * ms).exp();
    for t_ms in TIMES_MS {
        let ms = f64::from(t_ms);
        for (model, reached) in [
            (Model::LnkdSsd, 0.9122 * pareto(ms, 0.235, 10.0) + 0.0878 * exponential(ms, 1.66)),
            (Model::LnkdDisk, 0.38 * pareto(ms, 1.05, 1.51) + 0.62 * exponential(ms, 0.183)),
            (Model::Ymmr, 0.939 * pareto(ms, 3.0, 3.35) + 0.061 * exponential(ms, 0.0028)),
        ] {
            let trial = Trial { r: 1, w: 1, t_ms };
            let share = compute(Pattern::Ours, model, trial);
            let by_hand = (1.0 + 2.0 * reached) / 3.0;
            assert!((share - by_hand).abs() < 0.005, "{} at {ms} ms: {share}, not {by_hand}", model.name());
        }
    }
}

#[test]
fn a_cluster_that_ignores_newer_replicas_is_found_out() {
    let faults = measure(1, 20, Planted::one(Mutant::IgnoreNewerReplica)).faults(1.0, 1.0);
    let of_quorums = |fault: &&String| fault.contains("in the cluster missed it");
    assert!(faults.iter().any(|fault| of_quorums(&fault)), "{faults:?}");
}

#[test]
fn the_same_seed_measures_the_same() {
    assert_eq!(measure(7, 5, Planted::NONE), measure(7, 5, Planted::NONE));
    assert_ne!(measure(7, 5, Planted::NONE), measure(8, 5, Planted::NONE));
}
