//! The planner against a validator that knows only what a good plan is, not how one is made.

mod cases;
mod heat;
mod optimum;
mod properties;
mod shift;
mod topologies;

use super::*;
use crate::ring::{Member, MemberState};
use crate::ring::{Sector, validate};
use crate::types::{ClusterId, DiskUuid, Epoch};
use std::collections::BTreeSet;

fn member(zone: &str, weight: u16) -> Member {
    Member {
        addr: String::new(),
        disk_uuid: DiskUuid(0),
        zone: zone.to_owned(),
        weight,
        state: MemberState::Normal,
    }
}

fn add(table: &mut Table, zone: &str, weight: u16) -> NodeId {
    let id = table.next_node;
    table.members.insert(id, member(zone, weight));
    table.next_node = NodeId(id.0 + 1);
    id
}

fn cluster(nodes: usize, n: u8, sectors: u16) -> Table {
    let mut table = Table::new(ClusterId(1), n, sectors);
    for _ in 0..nodes {
        add(&mut table, "", 100);
    }
    table
}

fn apply(table: &Table, plan: &Plan) -> Table {
    let mut next = table.clone();
    next.epoch = Epoch(table.epoch.0 + 1);
    for (id, slots) in &plan.changes {
        next.sectors[usize::from(id.0)] = Sector { conf_epoch: next.epoch, slots: slots.clone() };
    }
    next
}

/// Every move done.
fn settle(table: &Table) -> Table {
    let mut next = table.clone();
    for slot in next.sectors.iter_mut().flat_map(|sector| &mut sector.slots) {
        if let Slot::Moving { new, .. } = *slot {
            *slot = Slot::Settled(new);
        }
    }
    next
}

fn settled(table: &Table) -> Table {
    settle(&apply(table, &plan(table)))
}

fn goes_to(slot: Slot) -> NodeId {
    match slot {
        Slot::Settled(node) | Slot::Moving { new: node, .. } => node,
    }
}

fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<BTreeSet<_>>().len()
}

/// What holds of every plan, whatever the cluster.
fn check_sound(table: &Table, plan: &Plan) {
    let next = apply(table, plan);
    assert_eq!(validate(table, &next), Ok(()));
    let mut moved = 0;
    for (id, slots) in &plan.changes {
        let before = &table.sector(*id).slots;
        assert_ne!(before, slots, "sector {id} is listed without a change");
        if before.is_empty() {
            assert!(
                slots.iter().all(|slot| matches!(slot, Slot::Settled(_))),
                "sector {id} has nothing to move"
            );
            continue;
        }
        let holders = |slots: &[Slot]| slots.iter().map(Slot::holder).collect::<BTreeSet<_>>();
        assert_eq!(holders(before), holders(slots), "sector {id}: who has the data is not for a plan to say");
        for slot in before.iter().filter(|slot| matches!(slot, Slot::Moving { .. })) {
            assert!(slots.contains(slot), "sector {id}: {slot:?} is on its way and must be left alone");
        }
        let fresh = |slot: &&Slot| matches!(slot, Slot::Moving { .. }) && !before.contains(slot);
        moved += slots.iter().filter(fresh).count();
    }
    assert_eq!(plan.moved, moved);
    for (at, sector) in next.sectors.iter().enumerate().filter(|entry| !entry.1.slots.is_empty()) {
        assert_eq!(sector.slots.len(), usize::from(table.n), "sector {at}");
        let nodes: Vec<_> = sector.slots.iter().flat_map(Slot::nodes).collect();
        assert_eq!(distinct(&nodes), nodes.len(), "sector {at} names a node twice: {:?}", sector.slots);
    }
}

/// Copies and firsts of each member that may own, by where slots go.
fn loads(table: &Table) -> BTreeMap<NodeId, (usize, usize)> {
    let owning = |m: &Member| matches!(m.state, MemberState::Joining | MemberState::Normal);
    let mut loads: BTreeMap<_, _> =
        table.members.iter().filter(|entry| owning(entry.1)).map(|(&id, _)| (id, (0, 0))).collect();
    for sector in &table.sectors {
        for (at, &slot) in sector.slots.iter().enumerate() {
            let load = loads.get_mut(&goes_to(slot)).expect("slots go to members that may own");
            load.0 += 1;
            load.1 += usize::from(at == 0);
        }
    }
    loads
}

fn spread(counts: impl Iterator<Item = usize> + Clone) -> usize {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

fn check_balanced(table: &Table) {
    let loads = loads(table);
    assert!(spread(loads.values().map(|load| load.0)) <= 1, "copies: {loads:?}");
    assert!(spread(loads.values().map(|load| load.1)) <= 1, "firsts: {loads:?}");
}

/// Fewest copies that must move to where every member's load is the mean, rounded down or up:
/// all that the leaving have, all that others have above the mean rounded up, and so much more
/// as is needed to bring the rest to the mean rounded down.
fn fewest_moves(table: &Table) -> usize {
    let mut held: BTreeMap<NodeId, usize> = table.present().map(|(id, _)| (id, 0)).collect();
    for sector in &table.sectors {
        for &slot in &sector.slots {
            *held.get_mut(&goes_to(slot)).expect("owners are present") += 1;
        }
    }
    let leaving = |id: &NodeId| table.members[id].state == MemberState::Leaving;
    let total: usize = held.values().sum();
    let staying: Vec<usize> = held.iter().filter(|entry| !leaving(entry.0)).map(|entry| *entry.1).collect();
    let (floor, ceil) = (total / staying.len(), total.div_ceil(staying.len()));
    let gone: usize = held.iter().filter(|entry| leaving(entry.0)).map(|entry| *entry.1).sum();
    let above: usize = staying.iter().map(|&count| count.saturating_sub(ceil)).sum();
    let below: usize = staying.iter().map(|&count| floor.saturating_sub(count)).sum();
    (gone + above).max(below)
}

/// Distinct zones of a sector's future owners; a member without one is alone in its own.
fn zones_of(table: &Table, slots: &[Slot]) -> usize {
    let zone = |slot: &Slot| {
        let id = goes_to(*slot);
        let zone = table.members[&id].zone.as_str();
        if zone.is_empty() { (id, "") } else { (NodeId(0), zone) }
    };
    distinct(slots.iter().map(zone))
}

fn check_zones(table: &Table) {
    let owning = |m: &&Member| matches!(m.state, MemberState::Joining | MemberState::Normal);
    let zones = table.members.values().filter(owning).map(|m| &m.zone);
    let named = distinct(zones.filter(|zone| !zone.is_empty()));
    let wanted = named.min(usize::from(table.n));
    for (at, sector) in table.sectors.iter().enumerate() {
        assert!(
            zones_of(table, &sector.slots) >= wanted,
            "sector {at} is in too few zones: {:?}",
            sector.slots
        );
    }
}

/// Throws that are the same in every run.
struct Dice {
    seed: usize,
    throws: usize,
}

impl Dice {
    fn new(seed: usize) -> Self {
        Self { seed, throws: 0 }
    }

    /// One of `0..sides`.
    fn throw(&mut self, sides: usize) -> usize {
        self.throws += 1;
        (mix(self.seed, self.throws) % sides as u64) as usize
    }

    fn hits(&mut self, one_in: usize) -> bool {
        self.throw(one_in) == 0
    }
}
