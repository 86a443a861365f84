//! The message pattern of a write and a read as arithmetic on drawn delays: it knows nothing of the
//! code that it is compared with.
//!
//! All times are in microseconds from the start of the write, whole ones, as the simulator counts:
//! `arrives[i]` is when replica i has it, and the read `begins` t after W were counted.

use super::legs::{Leg, Model};
use super::{Share, Trial};
use crate::limits::HEDGE_DELAY_US;
use crate::sim::rng::Rng;

/// Copies.
const N: usize = 3;
/// Answers from which a node has learnt how long one takes.
const LEARNT_FROM: u64 = 10_000;

/// Which messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// The paper's "WARS": the coordinator is no replica. A write goes to all N and is acknowledged
    /// by the W fastest; a read goes to all N, and the R fastest answers count.
    Paper,
    /// What this cluster does. Two coordinators, of the write and of the read, are drawn from the
    /// N owners, each for itself (one time in N it is the same one). The write's has its own copy
    /// at once and counts it; it sends to the other N - 1. The read's takes what it has when the
    /// read begins and asks R - 1 of the others, in any order. If one is late it asks the next as
    /// well, its *hedge*.
    ///
    /// Late is what takes longer than the mean and four mean deviations of the model's answers,
    /// within the limits. That is where a node's estimate tends to; that the estimate wanders, and
    /// that a budget bounds hedges (one read in ten: more than are late here), is left out.
    Ours,
}

/// A pattern under a model.
#[derive(Clone, Copy, Debug)]
pub struct MonteCarlo {
    pattern: Pattern,
    model: Model,
    hedge_us: u64,
}

impl MonteCarlo {
    /// Learns how long answers take, as far as the pattern wants to know.
    pub fn new(pattern: Pattern, model: Model, rng: &mut Rng) -> Self {
        let mut one = || model.draw_us(Leg::Read, rng) + model.draw_us(Leg::Answer, rng);
        let learnt: Vec<u64> = (0..LEARNT_FROM).map(|_| one()).collect();
        let mean_us = learnt.iter().sum::<u64>() / LEARNT_FROM;
        let deviation_us = learnt.iter().map(|us| us.abs_diff(mean_us)).sum::<u64>() / LEARNT_FROM;
        let hedge_us = (mean_us + 4 * deviation_us).clamp(HEDGE_DELAY_US.0, HEDGE_DELAY_US.1);
        Self { pattern, model, hedge_us }
    }

    /// The share of reads that see the write, by so many draws.
    #[must_use]
    pub fn share(&self, trial: Trial, times: u64, rng: &mut Rng) -> Share {
        let mut share = Share::default();
        (0..times).for_each(|_| share.count(self.sees(trial, rng)));
        share
    }

    fn sees(&self, trial: Trial, rng: &mut Rng) -> bool {
        let (r, w) = (usize::from(trial.r), usize::from(trial.w));
        match self.pattern {
            Pattern::Paper => sees_in_paper(self.model, (r, w), trial.t_us(), rng),
            Pattern::Ours => sees_in_ours(self, (r, w), trial.t_us(), rng),
        }
    }
}

/// An answer to a read: when it comes, and whether it has the write.
type Answered = (u64, bool);

fn sees_in_paper(model: Model, (r, w): (usize, usize), t_us: u64, rng: &mut Rng) -> bool {
    let arrives: [u64; N] = std::array::from_fn(|_| model.draw_us(Leg::Write, rng));
    let acks = arrives.map(|at| at + model.draw_us(Leg::Ack, rng));
    let begins = counted(acks, w) + t_us;
    let answers = arrives.map(|arrives| answer(model, begins, arrives, rng));
    is_among_first(answers, r)
}

fn sees_in_ours(with: &MonteCarlo, (r, w): (usize, usize), t_us: u64, rng: &mut Rng) -> bool {
    let MonteCarlo { model, hedge_us, .. } = *with;
    let (writer, reader) = (any(rng, N), any(rng, N));
    let mut arrives: [u64; N] = std::array::from_fn(|_| model.draw_us(Leg::Write, rng));
    let mut acks = arrives.map(|at| at + model.draw_us(Leg::Ack, rng));
    (arrives[writer], acks[writer]) = (0, 0);
    let begins = counted(acks, w) + t_us;
    let first = 1 + any(rng, N - 1);
    let others = [(reader + first) % N, (reader + N - first) % N];
    // R - 1 of them are asked at once. One asked later, as a hedge, counts only if it is faster all
    // the same: whether it would have been asked at all need not be known.
    let answers: [Answered; N - 1] = std::array::from_fn(|at| {
        let sent = if at + 1 < r { begins } else { begins + hedge_us };
        answer(model, sent, arrives[others[at]], rng)
    });
    arrives[reader] <= begins || is_among_first(answers, r.saturating_sub(1))
}

/// One of the first `end` numbers.
fn any(rng: &mut Rng, end: usize) -> usize {
    usize::try_from(rng.below(end as u64)).unwrap_or(0)
}

/// When the coordinator of a write has so many acknowledgements, of at least one.
fn counted(mut acks: [u64; N], w: usize) -> u64 {
    acks.sort_unstable();
    acks[w.clamp(1, N) - 1]
}

/// The answer of a replica that is asked at `sent`, and that the write reaches at `arrives`. What
/// comes in the same microsecond comes in the order of sending.
fn answer(model: Model, sent: u64, arrives: u64, rng: &mut Rng) -> Answered {
    let asked = sent + model.draw_us(Leg::Read, rng);
    (asked + model.draw_us(Leg::Answer, rng), arrives <= asked)
}

/// Whether one of the first so many answers has the write.
fn is_among_first<const ASKED: usize>(mut answers: [Answered; ASKED], count: usize) -> bool {
    answers.sort_by_key(|answer| answer.0);
    answers.iter().take(count).any(|answer| answer.1)
}
