//! Targets: how many copies each member should hold, in proportion to weights.
//!
//! Copies are shared out among zones first, then within each zone among its members. A target is a
//! share rounded down and rounded up; which of the two it comes to is left to the flow. Without
//! moves under way there always is a placement that meets every target.

use super::Draft;
use super::share::{Part, shares};
use std::collections::BTreeMap;

impl Draft {
    /// Sets `min` and `max` of every node that may own.
    pub(super) fn set_targets(&mut self) {
        let mut zones: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, node) in self.nodes[..self.eligible].iter().enumerate() {
            zones.entry(node.zone).or_default().push(at);
        }
        let parts = self.member_parts();
        for (total, members) in self.zone_shares(&zones, &parts).into_iter().zip(zones.values()) {
            let parts: Vec<_> = members.iter().map(|&at| parts[at]).collect();
            let (least, most) = (shares(total.0, &parts), shares(total.1, &parts));
            for ((&at, least), most) in members.iter().zip(least).zip(most) {
                self.nodes[at].min = least.0;
                self.nodes[at].max = most.1;
            }
        }
    }

    /// What each member can get: at least what is pinned to it, at most a copy of each sector but
    /// those that it is about to give up.
    fn member_parts(&self) -> Vec<Part> {
        let sectors = self.sectors.len();
        let part = |at: usize| Part { weight: self.nodes[at].weight, min: 0, max: sectors };
        let mut parts: Vec<_> = (0..self.eligible).map(part).collect();
        for place in self.sectors.iter().flatten().filter(|place| place.pinned) {
            if let Some(part) = parts.get_mut(place.owner) {
                part.min += 1;
            }
            let old = place.was.filter(|_| place.is_frozen()).and_then(|slot| self.index_of(slot.holder()));
            if let Some(old) = old {
                parts[old].max -= 1;
            }
        }
        parts
    }

    /// The copies of each zone, rounded down and up.
    fn zone_shares(&self, zones: &BTreeMap<usize, Vec<usize>>, parts: &[Part]) -> Vec<(usize, usize)> {
        let sectors = self.sectors.len();
        let least = if self.n - self.repeats_max == zones.len() { sectors } else { 0 };
        let zone_part = |members: &Vec<usize>| {
            let pinned: usize = members.iter().map(|&at| parts[at].min).sum();
            let min = least.max(pinned);
            let max = sectors * members.len().min(1 + self.repeats_max);
            Part { weight: members.iter().map(|&at| parts[at].weight).sum(), min, max: max.max(min) }
        };
        let mut zone_parts: Vec<_> = zones.values().map(zone_part).collect();
        let total = self.slots_to_share();
        let first = shares(total, &zone_parts);
        // Each zone may be twice in a sector, but not all of them at once: those that would be
        // share among themselves what there is of that, and the rest is for the others.
        let heavy: Vec<bool> = first.iter().map(|share| share.0 > sectors).collect();
        let beyond: usize = first.iter().map(|share| share.0.saturating_sub(sectors)).sum();
        if beyond <= self.repeats_max * sectors {
            return first;
        }
        let count = heavy.iter().filter(|&&heavy| heavy).count();
        for (part, &heavy) in zone_parts.iter_mut().zip(&heavy) {
            *part = if heavy {
                Part { min: part.min.max(sectors), ..*part }
            } else {
                Part { max: part.max.min(sectors).max(part.min), ..*part }
            };
        }
        let of_heavy = (sectors * (count + self.repeats_max)).min(total);
        let pick = |kind: bool| zone_parts.iter().zip(&heavy).filter(move |entry| *entry.1 == kind);
        let some = |kind: bool| pick(kind).map(|entry| *entry.0).collect::<Vec<_>>();
        let mut heavies = shares(of_heavy, &some(true)).into_iter();
        let mut others = shares(total - of_heavy, &some(false)).into_iter();
        let next = |&heavy: &bool| if heavy { heavies.next() } else { others.next() };
        heavy.iter().map(next).map(Option::unwrap_or_default).collect()
    }

    /// All slots but those that stay with, or are on their way to, a node that may not own.
    fn slots_to_share(&self) -> usize {
        let lost = self.sectors.iter().flatten().filter(|place| place.pinned && place.owner >= self.eligible);
        self.sectors.len() * self.n - lost.count()
    }
}
