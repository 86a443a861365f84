//! Placement by measured load.
//!
//! To bring loads that differ by sector to given shares with the fewest moves is bin packing, which
//! nobody does fast. This is greedy: the copy whose move relieves the most loaded member best is
//! handed on, again and again, until that member is near its share, no single move relieves it, or
//! enough has moved for one plan. The outcome is good, not optimal.

use super::step::Step;
use super::{Draft, Plan, mix, plan};
use crate::ring::Table;
use std::cmp::Ordering;

/// A member this close to its share of the load, in percent, is left alone: measured load is not
/// that steady.
const NEAR_PERCENT: u128 = 105;
/// One plan moves at most one copy in so many for the sake of load: it may look different by the
/// time these have arrived.
const MOVES_DIVISOR: usize = 8;
/// How many times a member may own of its share of copies, or of how many it may be left with one.
const COUNT_FACTOR: usize = 2;

/// As [`plan`], but members get load in proportion to their weights, rather than copies.
///
/// `heat` is the load of each sector in any unit, operations for example; sectors beyond it have
/// none. Every owner of a sector is taken to bear all of it. A member's copies stay between half
/// and twice its share. Without any load it is [`plan`] itself. Not optimal: see the module.
#[must_use]
pub fn plan_by_load(table: &Table, heat: &[u64]) -> Plan {
    let heat: Vec<u64> = (0..table.sectors.len()).map(|at| heat.get(at).copied().unwrap_or(0)).collect();
    if heat.iter().all(|&heat| heat == 0) {
        return plan(table);
    }
    let Some(mut draft) = Draft::balanced(table) else { return Plan::default() };
    for node in &mut draft.nodes {
        node.min = node.min.div_ceil(COUNT_FACTOR);
        node.max = (node.max * COUNT_FACTOR).min(draft.sectors.len());
    }
    draft.level();
    draft.cool(&heat);
    draft.order();
    draft.into_plan(table)
}

/// Load on a member of some weight.
#[derive(Clone, Copy)]
struct Load {
    heat: u128,
    weight: u64,
}

impl Load {
    /// By load for weight.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.heat * u128::from(other.weight)).cmp(&(other.heat * u128::from(self.weight)))
    }

    fn with(self, heat: u64) -> Self {
        Self { heat: self.heat + u128::from(heat), ..self }
    }

    fn without(self, heat: u64) -> Self {
        Self { heat: self.heat.saturating_sub(u128::from(heat)), ..self }
    }
}

impl Draft {
    /// Relieves the most loaded member until that is enough.
    fn cool(&mut self, heat: &[u64]) {
        let mut loads: Vec<_> =
            self.nodes[..self.eligible].iter().map(|node| Load { heat: 0, weight: node.weight }).collect();
        for (places, &heat) in self.sectors.iter().zip(heat) {
            for place in places {
                if let Some(load) = loads.get_mut(place.owner) {
                    *load = load.with(heat);
                }
            }
        }
        let total = Load {
            heat: loads.iter().map(|load| load.heat).sum(),
            weight: loads.iter().map(|load| load.weight).sum(),
        };
        for _ in 0..(self.sectors.len() * self.n).div_ceil(MOVES_DIVISOR) {
            let hottest = (0..loads.len()).max_by(|&a, &b| loads[a].cmp(&loads[b]));
            let Some(from) = hottest else { return };
            let share = Load { heat: total.heat * NEAR_PERCENT / 100, weight: total.weight };
            if loads[from].cmp(&share).is_le() {
                return;
            }
            let Some(step) = self.relief(from, heat, &loads) else { return };
            loads[from] = loads[from].without(heat[step.sector]);
            loads[step.to] = loads[step.to].with(heat[step.sector]);
            self.take(step);
        }
    }

    /// The move of one of the node's copies after which the more loaded of giver and taker is
    /// loaded least; `None` when none is better than to leave it.
    fn relief(&self, from: usize, heat: &[u64], loads: &[Load]) -> Option<Step> {
        if self.nodes[from].held <= self.nodes[from].min {
            return None;
        }
        let open: Vec<_> =
            (0..self.eligible).filter(|&to| self.nodes[to].held < self.nodes[to].max).collect();
        let mut best: Option<(Load, Step)> = None;
        for (sector, places) in self.sectors.iter().enumerate().filter(|entry| heat[entry.0] > 0) {
            let Some(place) = places.iter().position(|place| place.owner == from) else { continue };
            let left = loads[from].without(heat[sector]);
            for &to in &open {
                let got = loads[to].with(heat[sector]);
                let after = if left.cmp(&got).is_ge() { left } else { got };
                let bar = best.map_or(loads[from], |(load, _)| load);
                let is_better = match after.cmp(&bar) {
                    Ordering::Less => true,
                    Ordering::Equal => {
                        best.is_some_and(|(_, step)| mix(sector, to) < mix(step.sector, step.to))
                    }
                    Ordering::Greater => false,
                };
                let step = Step { sector, place, to };
                if is_better && self.may_take(step) {
                    best = Some((after, step));
                }
            }
        }
        best.map(|(_, step)| step)
    }
}
