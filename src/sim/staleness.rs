//! How soon after a write's acknowledgement a read sees it: measured on the simulated cluster, and
//! computed beside it.
//!
//! A *trial* is one write, and one read of the same key that begins `t` after the write's
//! acknowledgement has left its coordinator, each with a quorum of its own. It comes out well if the
//! read returns the write. `cluster` counts trials of the real machines; `monte_carlo` draws the same
//! delays and does the arithmetic, and knows nothing of the code. If they differ, one is wrong.
//!
//! # What is measured
//! - Three nodes, three copies: every node owns every key. Writer and reader talk to a node each,
//!   drawn for itself from the three; that node coordinates. Clients are on the doorstep of their
//!   nodes: their way takes no time, and would only help the write.
//! - Delays between nodes are those of the [`Model`], drawn anew for each message. Messages of a
//!   connection may overtake each other, as in the paper; over TCP a slow one holds up the rest.
//! - Copies are in memory: an acknowledgement waits for no disk. A sync before it gives the write
//!   that much of a start.
//! - Nothing fails, no owner is away, and calls have a minute: no fallback, no hint, no retry.

mod cluster;
mod legs;
mod monte_carlo;

pub use legs::{Leg, Model};
pub use monte_carlo::{MonteCarlo, Pattern};

use super::rng::Rng;
use crate::mutant::Planted;
use cluster::Cluster;

/// Copies of each key.
pub const N: u8 = 3;
/// When reads begin, in milliseconds after the write's acknowledgement.
pub const TIMES_MS: [u32; 4] = [0, 1, 10, 100];
/// Trials that are computed for one that is run: they are that much cheaper.
const COMPUTED_PER_RUN: u64 = 20;

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Trial {
    /// Copies that must answer the read.
    pub r: u8,
    /// Copies that must confirm the write.
    pub w: u8,
    /// The read begins so many milliseconds after the acknowledgement.
    pub t_ms: u32,
}

impl Trial {
    /// Every R and W at every time.
    #[must_use]
    pub fn all() -> Vec<Trial> {
        let quorums = (1..=N).flat_map(|r| (1..=N).map(move |w| (r, w)));
        quorums.flat_map(|(r, w)| TIMES_MS.map(|t_ms| Trial { r, w, t_ms })).collect()
    }

    /// Whether every read quorum meets every write quorum.
    #[must_use]
    pub fn quorums_meet(self) -> bool {
        self.r + self.w > N
    }

    fn t_us(self) -> u64 {
        u64::from(self.t_ms) * 1000
    }
}

/// Trials that came out well, of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// Reads that saw the write.
    pub seen: u64,
    /// All reads.
    pub of: u64,
}

impl Share {
    /// Between 0 and 1.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.seen as f64 / self.of.max(1) as f64
    }

    /// Whether every single read saw the write.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.seen == self.of
    }

    fn count(&mut self, seen: bool) {
        self.seen += u64::from(seen);
        self.of += 1;
    }

    fn add(&mut self, other: Share) {
        self.seen += other.seen;
        self.of += other.of;
    }
}

/// What came of one kind of trial under one model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// Where.
    pub model: Model,
    /// What was tried.
    pub trial: Trial,
    /// The cluster's share.
    pub cluster: Share,
    /// The Monte Carlo's, of [`Pattern::Ours`].
    pub computed: Share,
}

impl Cell {
    /// How far the two are apart.
    #[must_use]
    pub fn difference(&self) -> f64 {
        (self.cluster.ratio() - self.computed.ratio()).abs()
    }
}

/// What a measurement is asked for.
#[derive(Clone, Copy, Debug)]
pub struct StalenessSettings {
    /// The seed: everything else is drawn from it.
    pub seed: u64,
    /// Trials of each cell on the cluster.
    pub trials: u64,
    /// A planted bug.
    pub planted: Planted,
}

/// What was measured and computed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Staleness {
    /// Every model, quorum and time.
    pub cells: Vec<Cell>,
    /// The Monte Carlo of the paper's own pattern: R = W = 1, at once.
    pub paper: Vec<(Model, Share)>,
    /// What must not happen and did; empty is good.
    pub broken: Vec<String>,
}

impl Staleness {
    /// Measures and computes everything for one seed.
    #[must_use]
    pub fn measure(settings: StalenessSettings) -> Self {
        let mut all = Self::default();
        let mut rng = Rng::new(settings.seed);
        for model in Model::ALL {
            let (world, mut computing) = (rng.any(), Rng::new(rng.any()));
            let measured = Cluster::new(model, world, settings.planted).run(settings.trials);
            let measured = measured.unwrap_or_else(|text| {
                all.broken.push(format!("seed {}, {}: {text}", settings.seed, model.name()));
                Vec::new()
            });
            let times = settings.trials * COMPUTED_PER_RUN;
            let ours = MonteCarlo::new(Pattern::Ours, model, &mut computing);
            for (trial, cluster) in measured {
                let computed = ours.share(trial, times, &mut computing);
                all.cells.push(Cell { model, trial, cluster, computed });
            }
            let at_once = Trial { r: 1, w: 1, t_ms: 0 };
            let paper = MonteCarlo::new(Pattern::Paper, model, &mut computing);
            all.paper.push((model, paper.share(at_once, times, &mut computing)));
        }
        all
    }

    /// Counts another measurement in.
    pub fn add(&mut self, other: Staleness) {
        for cell in other.cells {
            match self.cells.iter_mut().find(|own| (own.model, own.trial) == (cell.model, cell.trial)) {
                Some(own) => {
                    own.cluster.add(cell.cluster);
                    own.computed.add(cell.computed);
                }
                None => self.cells.push(cell),
            }
        }
        for (model, share) in other.paper {
            match self.paper.iter_mut().find(|own| own.0 == model) {
                Some(own) => own.1.add(share),
                None => self.paper.push((model, share)),
            }
        }
        self.broken.extend(other.broken);
    }

    /// The cell in which cluster and Monte Carlo are furthest apart.
    #[must_use]
    pub fn furthest(&self) -> Option<&Cell> {
        self.cells.iter().max_by(|a, b| a.difference().total_cmp(&b.difference()))
    }

    /// All that is wrong with it: cluster and Monte Carlo differ by more than `tolerance`, quorums
    /// that meet miss a write, the paper's pattern does not give the paper's figures within
    /// `of_paper`, or something broke.
    #[must_use]
    pub fn faults(&self, tolerance: f64, of_paper: f64) -> Vec<String> {
        let mut faults = self.broken.clone();
        for cell in &self.cells {
            let Cell { model, trial: Trial { r, w, t_ms }, cluster, computed } = cell;
            let place = format!("{}, R {r}, W {w}, {t_ms} ms", model.name());
            if cell.difference() > tolerance {
                let (cluster, computed) = (cluster.ratio(), computed.ratio());
                faults.push(format!("{place}: the cluster has {cluster:.4}, the Monte Carlo {computed:.4}"));
            }
            for (who, share) in [("cluster", cluster), ("Monte Carlo", computed)] {
                if cell.trial.quorums_meet() && !share.is_whole() {
                    let missed = share.of - share.seen;
                    faults.push(format!("{place}: {missed} reads of {} in the {who} missed it", share.of));
                }
            }
        }
        for (model, share) in &self.paper {
            let told = model.told_by_paper();
            if (share.ratio() - told).abs() > of_paper {
                faults.push(format!("{}: the paper has {told}, not {:.4}", model.name(), share.ratio()));
            }
        }
        faults
    }
}
