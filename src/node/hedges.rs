//! When a read asks one owner more because one is slow, and how often it may: the delay comes from
//! the peers that answer fast, and a budget bounds the further load.
//!
//! Hedged requests as in Dean and Barroso, "The Tail at Scale" (2013). Were the delay taken from all
//! peers, one slow peer would put off the very hedges that are to make up for it. Were there no
//! budget, a cluster that is slow as a whole would be asked for half as much again just then. No
//! messages; time comes in as an argument.

use crate::limits::{HEDGE_DELAY_US, HEDGES_KEPT_MAX, READS_PER_HEDGE};
use crate::types::NodeId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub(super) struct Hedges {
    paces: BTreeMap<NodeId, Pace>,
    /// What the budget holds, in shares of a hedge that one read adds.
    shares: u32,
}

/// How long a peer takes to answer, in microseconds: a smoothed mean, and the mean deviation from it
/// (as TCP estimates round trips, RFC 6298).
#[derive(Clone, Copy, Debug)]
struct Pace {
    mean_us: u32,
    deviation_us: u32,
}

impl Pace {
    fn new(took_us: u32) -> Self {
        Self { mean_us: took_us, deviation_us: took_us / 2 }
    }

    fn take(&mut self, took_us: u32) {
        let off_us = took_us.abs_diff(self.mean_us);
        self.deviation_us = self.deviation_us - self.deviation_us / 4 + off_us / 4;
        self.mean_us = self.mean_us - self.mean_us / 8 + took_us / 8;
    }

    /// Few answers take longer than this.
    fn late_us(self) -> u32 {
        self.mean_us.saturating_add(self.deviation_us.saturating_mul(4))
    }
}

impl Hedges {
    /// The budget is full.
    pub(super) fn new() -> Self {
        Self { paces: BTreeMap::new(), shares: HEDGES_KEPT_MAX * READS_PER_HEDGE }
    }

    /// A peer has answered a question of a read after so long.
    pub(super) fn answered(&mut self, peer: NodeId, took_us: u64) {
        let took_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        self.paces.entry(peer).and_modify(|pace| pace.take(took_us)).or_insert(Pace::new(took_us));
    }

    /// These are the peers there are; what is known of others is forgotten.
    pub(super) fn follow(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        self.paces.retain(|&peer, _| is_peer(peer));
    }

    /// How long a read waits before it asks one owner more: until the fastest peer that is well would
    /// be late. (One that went down would go on being the fastest.)
    pub(super) fn delay_us(&self, is_well: impl Fn(NodeId) -> bool) -> u64 {
        let (least, most) = HEDGE_DELAY_US;
        let well = self.paces.iter().filter(|entry| is_well(*entry.0));
        well.map(|entry| u64::from(entry.1.late_us())).min().unwrap_or(most).clamp(least, most)
    }

    /// A read begins: the budget grows by its share.
    pub(super) fn read_begins(&mut self) {
        self.shares = (self.shares + 1).min(HEDGES_KEPT_MAX * READS_PER_HEDGE);
    }

    /// Whether the budget has a hedge left.
    pub(super) fn has_one(&self) -> bool {
        self.shares >= READS_PER_HEDGE
    }

    /// Takes one from it.
    pub(super) fn take(&mut self) {
        self.shares = self.shares.saturating_sub(READS_PER_HEDGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: impl IntoIterator<Item = (u32, u64)>) -> Hedges {
        let mut hedges = Hedges::new();
        answers.into_iter().for_each(|(peer, took_us)| hedges.answered(NodeId(peer), took_us));
        hedges
    }

    #[test]
    fn a_slow_peer_does_not_put_hedges_off() {
        let fast = after((0..1000).map(|at| (2, 4000 + at % 3 * 500))).delay_us(|_| true);
        let both =
            after((0..1000).flat_map(|at| [(2, 4000 + at % 3 * 500), (3, 900_000)])).delay_us(|_| true);
        assert_eq!(fast, both);
        assert!((4500..8000).contains(&fast), "{fast}");
    }

    #[test]
    fn the_delay_has_bounds_and_is_the_longest_while_nothing_is_known() {
        assert_eq!(Hedges::new().delay_us(|_| true), HEDGE_DELAY_US.1);
        assert_eq!(after((0..100).map(|_| (2, 10))).delay_us(|_| true), HEDGE_DELAY_US.0);
        assert_eq!(after((0..100).map(|_| (2, u64::MAX))).delay_us(|_| true), HEDGE_DELAY_US.1);
    }

    #[test]
    fn a_peer_that_is_gone_is_forgotten() {
        let mut hedges = after((0..100).flat_map(|_| [(2, 10), (3, 9000)]));
        assert!(hedges.delay_us(|peer| peer == NodeId(3)) >= 9000, "the fast one is not well");
        hedges.follow(|peer| peer == NodeId(3));
        assert!(hedges.delay_us(|_| true) >= 9000);
    }

    #[test]
    fn beyond_what_was_kept_a_hedge_is_granted_per_so_many_reads() {
        let mut hedges = Hedges::new();
        let take = |hedges: &mut Hedges| {
            let has_one = hedges.has_one();
            if has_one {
                hedges.take();
            }
            has_one
        };
        assert_eq!((0..10_000).filter(|_| take(&mut hedges)).count(), HEDGES_KEPT_MAX as usize);
        let granted = (0..10_000).filter(|_| {
            hedges.read_begins();
            take(&mut hedges)
        });
        assert_eq!(granted.count(), 10_000 / READS_PER_HEDGE as usize);
        (0..100_000).for_each(|_| hedges.read_begins());
        assert_eq!((0..10_000).filter(|_| take(&mut hedges)).count(), HEDGES_KEPT_MAX as usize);
    }
}
