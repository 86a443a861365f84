//! A flow of least cost, by shortest augmenting paths.
//!
//! The primal-dual method (Ahuja, Magnanti, Orlin, *Network Flows*, section 9.8): every vertex has
//! a price such that no arc with room costs less than the difference between its ends. Prices rise
//! to where copies can go on along arcs that cost just that (Dijkstra), and all that can then do
//! (Dinic). While prices hold no cycle of arcs costs less than nothing, which is to say: no other
//! placement of what has arrived is cheaper. The tests check the prices at the end.

use super::network::{Arc, Network};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const NEVER: usize = usize::MAX;

pub(super) struct Flow {
    pub(super) network: Network,
    prices: Vec<i64>,
}

impl Flow {
    /// A network in which only what costs nothing flows, so that prices of nothing hold.
    pub(super) fn new(network: Network) -> Self {
        let prices = vec![0; network.sink() + 1];
        Self { network, prices }
    }

    /// Sends every copy to the sink. (There always is a way: a member takes any number, if at a
    /// cost, and the limits of each sector can be met.)
    pub(super) fn solve(&mut self) {
        while self.raise_prices() {
            while self.augment() {}
        }
    }

    /// What an arc costs beyond the difference of prices.
    fn reduced(&self, from: usize, arc: Arc) -> i64 {
        arc.cost + self.prices[from] - self.prices[arc.to]
    }

    /// Raises prices until some copy can go to the sink along arcs of no reduced cost. `false`
    /// when there is none left, or no way.
    fn raise_prices(&mut self) -> bool {
        let mut distance = vec![i64::MAX; self.prices.len()];
        let mut heap = BinaryHeap::new();
        for source in self.network.sources() {
            distance[source] = 0;
            heap.push(Reverse((0, source)));
        }
        let mut arcs = Vec::new();
        while let Some(Reverse((so_far, from))) = heap.pop() {
            if from == self.network.sink() {
                for (price, distance) in self.prices.iter_mut().zip(distance) {
                    *price += distance.min(so_far);
                }
                return true;
            }
            if so_far > distance[from] {
                continue;
            }
            self.network.arcs(from, &mut arcs);
            for &arc in &arcs {
                let next = so_far + self.reduced(from, arc);
                if next < distance[arc.to] {
                    distance[arc.to] = next;
                    heap.push(Reverse((next, arc.to)));
                }
            }
        }
        false
    }

    /// Sends copies along shortest paths of no reduced cost until all paths of that length are
    /// blocked. `false` when there is no such path of any length.
    fn augment(&mut self) -> bool {
        let mut levels = self.levels();
        if levels[self.network.sink()] == NEVER {
            return false;
        }
        for source in self.network.sources() {
            while self.network.excess(source) > 0 {
                let Some(path) = self.path(source, &mut levels) else { break };
                self.network.send(&path);
            }
        }
        true
    }

    /// How many arcs each vertex is from where copies wait, along arcs of no reduced cost.
    fn levels(&self) -> Vec<usize> {
        let mut levels = vec![NEVER; self.prices.len()];
        let mut queue = VecDeque::from(self.network.sources());
        for &source in &queue {
            levels[source] = 0;
        }
        let mut arcs = Vec::new();
        while let Some(from) = queue.pop_front() {
            if levels[from] >= levels[self.network.sink()] {
                break;
            }
            self.network.arcs(from, &mut arcs);
            for &arc in &arcs {
                if levels[arc.to] == NEVER && self.reduced(from, arc) == 0 {
                    levels[arc.to] = levels[from] + 1;
                    queue.push_back(arc.to);
                }
            }
        }
        levels
    }

    /// A path on which each vertex is one level above the one before. Vertices from which there is
    /// none lose their level.
    fn path(&self, source: usize, levels: &mut [usize]) -> Option<Vec<usize>> {
        let mut path = vec![source];
        let mut arcs = Vec::new();
        while let Some(&from) = path.last() {
            if from == self.network.sink() {
                return Some(path);
            }
            self.network.arcs(from, &mut arcs);
            let goes_on = |arc: &&Arc| levels[arc.to] == path.len() && self.reduced(from, **arc) == 0;
            let next = arcs.iter().filter(goes_on).min_by_key(|arc| self.network.preference(from, arc.to));
            match next {
                Some(arc) => path.push(arc.to),
                None => {
                    levels[from] = NEVER;
                    path.pop();
                }
            }
        }
        None
    }

    /// Whether all copies have arrived and prices show that it cannot be done for less.
    #[cfg(test)]
    pub(super) fn is_proved(&self) -> bool {
        let mut arcs = Vec::new();
        let holds = |from: usize| {
            self.network.arcs(from, &mut arcs);
            arcs.iter().all(|&arc| self.reduced(from, arc) >= 0)
        };
        let mut back = self.network.refunds();
        let back_holds = back.all(|arc| self.reduced(self.network.sink(), arc) >= 0);
        self.network.sources().is_empty() && back_holds && (0..self.prices.len()).all(holds)
    }
}
