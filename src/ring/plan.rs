//! Placement: which node should own each replica slot, at the least data moved.
//!
//! Pure functions from a table to the slots that should change; the manager shows the difference
//! and applies it. They never read anything but their arguments, and the same table always gives
//! the same plan. [`plan`] takes five steps, each over one [`Draft`]:
//!
//! 1. *pin*: what cannot change now, and in how many zones each sector can be;
//! 2. *target*: how many copies each member should hold, by weight, within what zones allow;
//! 3. *assign*: sectors without owners get some, in step with the targets;
//! 4. *level*: a min-cost flow brings members to their targets: no other way moves fewer copies;
//! 5. *order*: who is first in each sector, which moves no data.
//!
//! [`plan_by_load`] puts measured load in the place of counts, [`move_sectors`] does what an
//! operator asks for by name.
//!
//! Who may own: members that are joining or normal and have a weight. Zones: where there are at
//! least N named ones a sector's owners are in N distinct zones, otherwise in as many as there
//! are. A member that names no zone is alone in its own, and no sector has to reach it.

mod flow;
mod heat;
mod level;
mod network;
mod order;
mod pin;
mod share;
mod shift;
mod step;
mod target;
#[cfg(test)]
mod tests;

pub use heat::plan_by_load;
pub use shift::{MoveError, move_sectors};

use super::{Slot, Table};
use crate::types::{Epoch, NodeId, SectorId};
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
    let Some(mut draft) = Draft::balanced(table) else { return Plan::default() };
    draft.level();
    draft.order();
    draft.into_plan(table)
}

/// A node that may own slots, or owns some and may not.
struct Node {
    id: NodeId,
    /// Its claim relative to the others; 0 for one that may not own.
    weight: u64,
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
    /// No plan may change its owner: it is on its way, or nobody could take it over.
    pinned: bool,
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
    /// The table's, in which moves set out.
    epoch: Epoch,
    sectors: Vec<Vec<Place>>,
    /// As `repeats_max`, sector by sector: more where what is pinned leaves no other way.
    limits: Vec<usize>,
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

impl Draft {
    /// The table as it stands, every sector with owners, and targets by weight; `None` when too
    /// few members may own.
    fn balanced(table: &Table) -> Option<Self> {
        let mut draft = Self::new(table);
        if draft.eligible < draft.n {
            return None;
        }
        draft.pin();
        draft.set_targets();
        draft.assign();
        Some(draft)
    }

    /// The table as it stands.
    fn new(table: &Table) -> Self {
        let n = usize::from(table.n);
        let mut zones = BTreeMap::new();
        let mut nodes = Vec::with_capacity(table.members.len());
        for (&id, member) in table.members.iter().filter(|entry| entry.1.may_own()) {
            let next = zones.len();
            // Beyond the named zones, each index stands for one member alone.
            let alone = usize::MAX - nodes.len();
            let zone =
                if member.zone.is_empty() { alone } else { *zones.entry(&member.zone).or_insert(next) };
            nodes.push(Node { id, weight: u64::from(member.weight), zone, held: 0, min: 0, max: 0 });
        }
        let span = table.keyspaces.values().map(|keyspace| usize::from(keyspace.settings.n)).min();
        let mut draft = Self {
            n,
            eligible: nodes.len(),
            nodes,
            repeats_max: n - zones.len().min(n),
            span: span.unwrap_or(n).clamp(1, n),
            epoch: table.epoch,
            sectors: Vec::with_capacity(table.sectors.len()),
            limits: Vec::new(),
        };
        draft.limits = vec![draft.repeats_max; table.sectors.len()];
        draft.read_slots(table, &zones);
        draft
    }

    /// Takes in the table's slots. One that moves belongs to where it goes.
    fn read_slots(&mut self, table: &Table, zones: &BTreeMap<&String, usize>) {
        let mut index: BTreeMap<_, _> =
            self.nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        for sector in &table.sectors {
            let mut places = Vec::with_capacity(self.n);
            for &slot in &sector.slots {
                let id = match slot {
                    Slot::Settled(node) | Slot::Moving { new: node, .. } => node,
                };
                let owner = *index.entry(id).or_insert_with(|| {
                    let zone = table.members.get(&id).and_then(|member| zones.get(&member.zone));
                    let zone = zone.copied().unwrap_or(usize::MAX - self.nodes.len());
                    self.nodes.push(Node { id, weight: 0, zone, held: 0, min: 0, max: 0 });
                    self.nodes.len() - 1
                });
                self.nodes[owner].held += 1;
                places.push(Place { was: Some(slot), owner, pinned: false });
            }
            self.sectors.push(places);
        }
    }

    fn owners(&self, sector: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        self.sectors[sector].iter().map(|place| place.owner)
    }

    /// A node that may own, by its index.
    fn index_of(&self, id: NodeId) -> Option<usize> {
        self.nodes[..self.eligible].binary_search_by_key(&id, |node| node.id).ok()
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
                self.sectors[sector].push(Place { was: None, owner, pinned: false });
            }
        }
    }

    /// Whether a node may be one more owner of a sector that is being given its first.
    fn may_join(&self, sector: usize, node: usize) -> bool {
        let owners = || self.owners(sector);
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
            Some(Slot::Settled(old)) if old != new => Slot::Moving { old, new, since: self.epoch },
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
