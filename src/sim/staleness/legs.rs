//! How long a message takes: the latency fits of Bailis et al., "Probabilistically Bounded
//! Staleness for Practical Partial Quorums" (VLDB 2012).
//!
//! Each is a mixture of a Pareto distribution (the body) and an exponential one (the tail), drawn
//! anew for every message. A message of the cluster is one of the four *legs* of the paper, by its
//! kind.

use crate::sim::rng::Rng;
use crate::wire::peer::{ABSENT, HELD, READ, SAME, STORE, STORED};

/// A way between two nodes that a request takes: W, A, R and S of the paper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leg {
    /// A write, from its coordinator to a replica.
    Write,
    /// The replica's acknowledgement.
    Ack,
    /// A read, from its coordinator to a replica.
    Read,
    /// The replica's answer.
    Answer,
}

impl Leg {
    /// The leg that a message of the wire travels on; none for what no request waits for.
    pub(in crate::sim) fn of_kind(kind: u8) -> Option<Self> {
        match kind {
            STORE => Some(Leg::Write),
            STORED => Some(Leg::Ack),
            READ => Some(Leg::Read),
            SAME | HELD | ABSENT => Some(Leg::Answer),
            _ => None,
        }
    }
}

/// A cluster that was measured for the paper.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Model {
    /// LinkedIn, one data centre, solid state disks.
    LnkdSsd,
    /// The same with spinning disks: writes are slower.
    LnkdDisk,
    /// Yammer, one data centre, with a long tail of slow writes.
    Ymmr,
}

/// With probability `body` a Pareto variable of scale `scale_ms` and that `shape`, else an
/// exponential one of that rate.
#[derive(Clone, Copy, Debug)]
struct Mixture {
    body: f64,
    scale_ms: f64,
    shape: f64,
    rate_per_ms: f64,
}

const SSD: Mixture = Mixture { body: 0.9122, scale_ms: 0.235, shape: 10.0, rate_per_ms: 1.66 };
const DISK_WRITE: Mixture = Mixture { body: 0.38, scale_ms: 1.05, shape: 1.51, rate_per_ms: 0.183 };
const YMMR_WRITE: Mixture = Mixture { body: 0.939, scale_ms: 3.0, shape: 3.35, rate_per_ms: 0.0028 };
const YMMR: Mixture = Mixture { body: 0.982, scale_ms: 1.5, shape: 3.8, rate_per_ms: 0.0217 };

impl Mixture {
    fn draw_ms(&self, rng: &mut Rng) -> f64 {
        let is_body = rng.unit() <= self.body;
        let rest = rng.unit();
        if is_body { self.scale_ms * rest.powf(-1.0 / self.shape) } else { -rest.ln() / self.rate_per_ms }
    }
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 3] = [Model::LnkdSsd, Model::LnkdDisk, Model::Ymmr];

    /// Its name in the paper.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Model::LnkdSsd => "LNKD-SSD",
            Model::LnkdDisk => "LNKD-DISK",
            Model::Ymmr => "YMMR",
        }
    }

    /// The paper's share of reads that see the last write at once, for R = W = 1.
    #[must_use]
    pub fn told_by_paper(self) -> f64 {
        match self {
            Model::LnkdSsd => 0.974,
            Model::LnkdDisk => 0.44,
            Model::Ymmr => 0.89,
        }
    }

    fn mixture(self, leg: Leg) -> Mixture {
        match (self, leg) {
            (Model::LnkdDisk, Leg::Write) => DISK_WRITE,
            (Model::LnkdSsd, _) | (Model::LnkdDisk, Leg::Ack | Leg::Read | Leg::Answer) => SSD,
            (Model::Ymmr, Leg::Write) => YMMR_WRITE,
            (Model::Ymmr, Leg::Ack | Leg::Read | Leg::Answer) => YMMR,
        }
    }

    /// How long one message takes, in whole microseconds, as the simulator counts.
    pub fn draw_us(self, leg: Leg, rng: &mut Rng) -> u64 {
        // A float becomes the nearest integer there is: nothing wraps.
        (self.mixture(leg).draw_ms(rng) * 1000.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGS: [Leg; 4] = [Leg::Write, Leg::Ack, Leg::Read, Leg::Answer];
    const DRAWS: usize = 200_000;

    impl Mixture {
        /// The probability of at most so long.
        fn within(&self, ms: f64) -> f64 {
            let body = if ms < self.scale_ms { 0.0 } else { 1.0 - (self.scale_ms / ms).powf(self.shape) };
            self.body * body + (1.0 - self.body) * (1.0 - (-self.rate_per_ms * ms).exp())
        }

        fn mean_ms(&self) -> f64 {
            let body = self.scale_ms * self.shape / (self.shape - 1.0);
            self.body * body + (1.0 - self.body) / self.rate_per_ms
        }
    }

    fn draws(mixture: Mixture, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed);
        (0..DRAWS).map(|_| mixture.draw_ms(&mut rng)).collect()
    }

    #[test]
    fn draws_are_distributed_as_the_fits_say() {
        for model in Model::ALL {
            for leg in LEGS {
                let mixture = model.mixture(leg);
                let drawn = draws(mixture, 1);
                for ms in [0.1, 0.24, 0.3, 1.0, 1.6, 3.1, 5.0, 20.0, 100.0, 1000.0] {
                    let within = drawn.iter().filter(|&&drawn| drawn <= ms).count() as f64 / DRAWS as f64;
                    let expected = mixture.within(ms);
                    let what = format!("{} {leg:?}: {within} within {ms} ms, not {expected}", model.name());
                    // Four standard deviations of the worst case.
                    assert!((within - expected).abs() < 0.0045, "{what}");
                }
            }
        }
    }

    #[test]
    fn means_are_those_of_the_fits() {
        // Not that of the disk's writes: Pareto with a shape below 2 has no variance to judge it by.
        for (mixture, mean_ms) in [(SSD, 0.291), (YMMR_WRITE, 25.8), (YMMR, 2.83)] {
            assert!((mixture.mean_ms() - mean_ms).abs() < 0.01 * mean_ms, "{}", mixture.mean_ms());
            let drawn = draws(mixture, 2);
            let mean = drawn.iter().sum::<f64>() / DRAWS as f64;
            assert!((mean - mean_ms).abs() < 0.03 * mean_ms, "{mean} ms, not {mean_ms}");
        }
    }

    #[test]
    fn a_body_never_falls_below_its_scale_and_a_draw_is_never_endless() {
        let body = Mixture { body: 1.0, ..SSD };
        assert!(draws(body, 3).into_iter().all(|ms| (0.235..1e6).contains(&ms)));
        let tail = Mixture { body: 0.0, ..YMMR_WRITE };
        assert!(draws(tail, 3).into_iter().all(|ms| (0.0..1e6).contains(&ms)));
    }
}
