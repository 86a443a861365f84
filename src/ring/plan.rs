//! Placement: which node should own each replica slot, at the least data moved.
//!
//! A pure function from a table to the slots that should change; the manager shows the
//! difference and applies it. It never reads anything but the table, and the same table always
//! gives the same plan. Four steps, each over one [`Draft`]:
//!
//! 1. *targets*: how many copies each member should hold, by weight, within what zones allow;
//! 2. *assign*: sectors without owners get some, in step with the targets;
//! 3. *level*: copies move from members above their target to members below it;
//! 4. *order*: who is first in each sector, which moves no data.
//!
//! Who may own: members that are joining or normal and have a weight. Zones: where there are at
//! least N named ones a sector's owners are in N distinct zones, otherwise in as many as there
//! are. A member that names no zone is alone in its own, and no sector has to reach it.

mod level;
mod order;
mod share;
#[cfg(test)]
mod tests;

use super::{Member, MemberState, Slot, Table};
use crate::types::{NodeId, SectorId};
use share::{Part, shares};
use std::collections::BTreeMap;

/// What should change in a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The sectors whose slots change, with their new slots.
    pub changes: Vec<(SectorId, Vec<Slot>)>,
    /// Copies of a sector that this plan sets moving; those on their way already are not counted.
    pub moved: usize,
}

impl Plan {
    /// Whether the table is as it should be, or cannot be made so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Plans for a table: first owners for sectors that have none, balance for the others.
///
/// Empty when fewer members than N may own: there is no way to N distinct owners.
#[must_use]
pub fn plan(table: &Table) -> Plan {
    let Some(mut draft) = Draft::new(table) else { return Plan::default() };
    draft.assign();
    draft.level();
    draft.order();
    draft.into_plan(table)
}

/// A node that may own slots, or owns some and may not.
struct Node {
    id: NodeId,
    /// Index of its zone.
    zone: usize,
    /// Slots it owns in the draft.
    held: usize,
    /// Slots it should own: its share rounded down, and up. Both 0 for one that may not own.
    min: usize,
    max: usize,
}

/// One replica slot of the draft.
#[derive(Clone, Copy)]
struct Place {
    /// As in the table; none in a sector that had no owners.
    was: Option<Slot>,
    /// The node it is to belong to, by index.
    owner: usize,
}

/// How a member or a zone gets along while sectors are given out.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// Twice the copies it is to get: the middle of its bounds, in whole numbers.
    owed_twice: usize,
    /// The copies it has got.
    given: usize,
}

/// The table on its way to becoming a plan.
struct Draft {
    /// Copies per sector.
    n: usize,
    /// Those that may own first, in id order; then others that own something.
    nodes: Vec<Node>,
    /// How many of `nodes` may own.
    eligible: usize,
    /// How many owners of a sector may be in a zone that has another of its owners.
    repeats_max: usize,
    /// In a sector that holds data only its first so many slots may trade places: a keyspace of
    /// fewer copies uses the first of them, and would lose sight of its data.
    span: usize,
    sectors: Vec<Vec<Place>>,
}

impl Place {
    /// On its way already: left alone.
    fn is_frozen(&self) -> bool {
        matches!(self.was, Some(Slot::Moving { .. }))
    }

    /// The node that owns it in the table, if that can be returned to.
    fn home(&self) -> Option<NodeId> {
        match self.was {
            Some(Slot::Settled(node)) => Some(node),
            Some(Slot::Moving { .. }) | None => None,
        }
    }
}

impl Pace {
    fn of(node: &Node) -> Self {
        let owed_twice = (node.min + node.max).saturating_sub(2 * node.held);
        Self { owed_twice, given: 0 }
    }

    /// Whole copies that it is behind an even pace, at this turn of so many.
    fn lag(&self, turn: usize, turns: usize) -> i64 {
        let due = (self.owed_twice * turn) as i64 - (2 * self.given * turns) as i64;
        due.div_euclid(2 * turns as i64)
    }
}

fn may_own(member: &Member) -> bool {
    let present = match member.state {
        MemberState::Joining | MemberState::Normal => true,
        MemberState::Leaving | MemberState::Left => false,
    };
    present && member.weight > 0
}

impl Draft {
    /// The table as it stands, with targets; `None` when too few members may own.
    fn new(table: &Table) -> Option<Self> {
        let n = usize::from(table.n);
        let members: Vec<_> = table.members.iter().filter(|entry| may_own(entry.1)).collect();
        if members.len() < n {
            return None;
        }
        let mut zones = BTreeMap::new();
        for (_, member) in &members {
            if !member.zone.is_empty() {
                let next = zones.len();
                zones.entry(member.zone.as_str()).or_insert(next);
            }
        }
        let named = zones.len();
        let mut nodes = Vec::with_capacity(members.len());
        for (at, &(&id, member)) in members.iter().enumerate() {
            // Beyond the named zones, each index stands for one member alone.
            let zone = zones.get(member.zone.as_str()).copied().unwrap_or(named + at);
            nodes.push(Node { id, zone, held: 0, min: 0, max: 0 });
        }
        let span = table.keyspaces.values().map(|keyspace| usize::from(keyspace.settings.n)).min();
        let mut draft = Self {
            n,
            eligible: nodes.len(),
            nodes,
            repeats_max: n - named.min(n),
            span: span.unwrap_or(n).clamp(1, n),
            sectors: Vec::with_capacity(table.sectors.len()),
        };
        draft.read_slots(table);
        let weights: Vec<_> = members.iter().map(|entry| u64::from(entry.1.weight)).collect();
        draft.set_targets(&weights);
        Some(draft)
    }

    /// Takes in the table's slots. One that moves belongs to where it goes.
    fn read_slots(&mut self, table: &Table) {
        let mut index: BTreeMap<_, _> =
            self.nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        for sector in &table.sectors {
            let mut places = Vec::with_capacity(self.n);
            for &slot in &sector.slots {
                let id = match slot {
                    Slot::Settled(node) | Slot::Moving { new: node, .. } => node,
                };
                let owner = *index.entry(id).or_insert_with(|| {
                    // One that may not own counts for no zone but its own.
                    let zone = usize::MAX - self.nodes.len();
                    self.nodes.push(Node { id, zone, held: 0, min: 0, max: 0 });
                    self.nodes.len() - 1
                });
                self.nodes[owner].held += 1;
                places.push(Place { was: Some(slot), owner });
            }
            self.sectors.push(places);
        }
    }

    /// Shares the slots out: first among zones, then within each among its members. Weights are
    /// those of the eligible nodes.
    fn set_targets(&mut self, weights: &[u64]) {
        let sectors = self.sectors.len();
        let mut zones: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, node) in self.nodes[..self.eligible].iter().enumerate() {
            zones.entry(node.zone).or_default().push(at);
        }
        let every_zone_in_each = self.n - self.repeats_max == zones.len();
        let zone_part = |members: &Vec<usize>| Part {
            weight: members.iter().map(|&at| weights[at]).sum(),
            min: if every_zone_in_each { sectors } else { 0 },
            max: sectors * members.len().min(1 + self.repeats_max),
        };
        let zone_parts: Vec<_> = zones.values().map(zone_part).collect();
        for (total, members) in shares(self.slots_to_share(), &zone_parts).into_iter().zip(zones.values()) {
            let part = |&at: &usize| Part { weight: weights[at], min: 0, max: sectors };
            let parts: Vec<_> = members.iter().map(part).collect();
            let (least, most) = (shares(total.0, &parts), shares(total.1, &parts));
            for ((&at, least), most) in members.iter().zip(least).zip(most) {
                self.nodes[at].min = least.0;
                self.nodes[at].max = most.1;
            }
        }
    }

    /// All slots but those that are already on their way to a node that may not own.
    fn slots_to_share(&self) -> usize {
        let shared = |place: &&Place| !place.is_frozen() || place.owner < self.eligible;
        let count = |places: &Vec<Place>| {
            if places.is_empty() { self.n } else { places.iter().filter(shared).count() }
        };
        self.sectors.iter().map(count).sum()
    }

    /// Gives owners to sectors that have none, keeping each member in step with its share all
    /// along, so that no run of sectors is left to a few. Among those equally far behind a hash
    /// chooses, so that nodes meet each other in ever other company.
    fn assign(&mut self) {
        let empty: Vec<_> = (0..self.sectors.len()).filter(|&at| self.sectors[at].is_empty()).collect();
        let mut nodes: Vec<_> = self.nodes[..self.eligible].iter().map(Pace::of).collect();
        let mut zones: BTreeMap<usize, Pace> = BTreeMap::new();
        for (node, pace) in self.nodes.iter().zip(&nodes) {
            zones.entry(node.zone).or_default().owed_twice += pace.owed_twice;
        }
        for (turn, &sector) in empty.iter().enumerate() {
            for _ in 0..self.n {
                let key = |&at: &usize| {
                    let zone = zones.get(&self.nodes[at].zone).map(|pace| pace.lag(turn + 1, empty.len()));
                    (zone, nodes[at].lag(turn + 1, empty.len()), mix(sector, at))
                };
                let fits = |&at: &usize| self.may_join(sector, at);
                let Some(owner) = (0..self.eligible).filter(fits).max_by_key(key) else { break };
                nodes[owner].given += 1;
                zones.entry(self.nodes[owner].zone).or_default().given += 1;
                self.nodes[owner].held += 1;
                self.sectors[sector].push(Place { was: None, owner });
            }
        }
    }

    /// Whether a node may be one more owner of a sector that is being given its first.
    fn may_join(&self, sector: usize, node: usize) -> bool {
        let places = &self.sectors[sector];
        let owners = || places.iter().map(|place| place.owner);
        owners().all(|owner| owner != node) && self.repeats(owners().chain([node])) <= self.repeats_max
    }

    /// How many of these owners are in a zone that an earlier one is in.
    fn repeats(&self, owners: impl Iterator<Item = usize> + Clone) -> usize {
        let zones = owners.map(|owner| self.nodes[owner].zone);
        let repeated = |(at, zone)| zones.clone().take(at).any(|earlier| earlier == zone);
        zones.clone().enumerate().filter(|&entry| repeated(entry)).count()
    }

    /// The difference from the table.
    fn into_plan(self, table: &Table) -> Plan {
        let mut plan = Plan::default();
        let ids = (0..=u16::MAX).map(SectorId);
        for ((id, sector), places) in ids.zip(&table.sectors).zip(&self.sectors) {
            let slots: Vec<_> = places.iter().map(|place| self.slot(*place)).collect();
            if slots != sector.slots {
                let moved =
                    |place: &&Place| place.home().is_some_and(|home| home != self.nodes[place.owner].id);
                plan.moved += places.iter().filter(moved).count();
                plan.changes.push((id, slots));
            }
        }
        plan
    }

    /// A place as a slot of the table.
    fn slot(&self, place: Place) -> Slot {
        let new = self.nodes[place.owner].id;
        match place.was {
            None => Slot::Settled(new),
            Some(Slot::Settled(old)) if old != new => Slot::Moving { old, new },
            Some(same) => same,
        }
    }
}

/// A fixed, well spread order for ties (SplitMix64's finaliser).
fn mix(sector: usize, node: usize) -> u64 {
    let mut bits = ((sector as u64) << 32 | node as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
