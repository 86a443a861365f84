//! Ordering: every node is first in its part of the sectors it owns. No data moves.
//!
//! A node that owns c copies at or after a position should stand at that position in c / (slots
//! left) sectors, rounded down or up. Such an order always exists when slots may trade places
//! freely (each owner taking an equal part of each sector is a fractional one, and flows of whole
//! capacities have whole solutions), and chains of trades find it.

use super::{Draft, Place};
use std::collections::VecDeque;

/// Two places of a sector trade.
#[derive(Clone, Copy)]
struct Trade {
    sector: usize,
    place: usize,
    /// Who stood at the position before.
    from: usize,
}

/// How often a node stands at a position, and how often it should.
#[derive(Clone, Copy, Default)]
struct Count {
    now: usize,
    min: usize,
    max: usize,
}

impl Draft {
    /// Orders each sector's slots. New sectors are balanced at every position, since a keyspace
    /// of fewer copies uses only the first ones; in sectors that hold data only who is first.
    pub(super) fn order(&mut self) {
        for position in 0..self.n {
            self.balance(position);
        }
    }

    /// The places that may trade with this position.
    fn tradable(&self, sector: usize, position: usize) -> std::ops::Range<usize> {
        let places = &self.sectors[sector];
        let end = if places.iter().all(|place| place.was.is_none()) {
            places.len()
        } else if position > 0 || places.iter().any(Place::is_frozen) {
            0
        } else {
            places.len().min(self.span)
        };
        position + 1..end.max(position + 1)
    }

    fn balance(&mut self, position: usize) {
        let mut counts = self.counts(position);
        let too_many = |count: &Count| count.now > count.max;
        let too_few = |count: &Count| count.now < count.min;
        loop {
            let chain = if counts.iter().any(too_many) {
                self.trades(position, &counts, too_many, |count| count.now < count.max)
            } else if counts.iter().any(too_few) {
                self.trades(position, &counts, |count| count.now > count.min, too_few)
            } else {
                return;
            };
            let Some(chain) = chain else { return };
            for trade in chain {
                self.sectors[trade.sector].swap(position, trade.place);
                counts[trade.from].now -= 1;
                counts[self.sectors[trade.sector][position].owner].now += 1;
            }
        }
    }

    fn counts(&self, position: usize) -> Vec<Count> {
        let mut copies = vec![0; self.nodes.len()];
        let mut counts = vec![Count::default(); self.nodes.len()];
        for places in &self.sectors {
            for (at, place) in places.iter().enumerate().skip(position) {
                copies[place.owner] += 1;
                counts[place.owner].now += usize::from(at == position);
            }
        }
        let slots_left = self.n - position;
        for (count, copies) in counts.iter_mut().zip(copies) {
            count.min = copies / slots_left;
            count.max = copies.div_ceil(slots_left);
        }
        counts
    }

    /// The shortest chain of trades by which a node of the first kind stands at the position
    /// once less, and one of the second kind once more.
    fn trades(
        &self,
        position: usize,
        counts: &[Count],
        gives: impl Fn(&Count) -> bool,
        takes: impl Fn(&Count) -> bool,
    ) -> Option<Vec<Trade>> {
        let mut standing = vec![Vec::new(); counts.len()];
        for (sector, places) in self.sectors.iter().enumerate() {
            if let Some(place) = places.get(position) {
                standing[place.owner].push(sector);
            }
        }
        let mut reached: Vec<Option<Option<Trade>>> =
            counts.iter().map(|count| gives(count).then_some(None)).collect();
        let mut queue: VecDeque<_> = (0..counts.len()).filter(|&node| gives(&counts[node])).collect();
        while let Some(from) = queue.pop_front() {
            if takes(&counts[from]) {
                return Some(chain_to(from, &reached));
            }
            for &sector in &standing[from] {
                for place in self.tradable(sector, position) {
                    let to = self.sectors[sector][place].owner;
                    if reached[to].is_none() {
                        reached[to] = Some(Some(Trade { sector, place, from }));
                        queue.push_back(to);
                    }
                }
            }
        }
        None
    }
}

/// The trades that led to a node, last first. No two are of one sector: at the position of each
/// stands another node.
fn chain_to(mut node: usize, reached: &[Option<Option<Trade>>]) -> Vec<Trade> {
    let mut chain = Vec::new();
    while let Some(Some(Some(trade))) = reached.get(node) {
        chain.push(*trade);
        node = trade.from;
    }
    chain
}
