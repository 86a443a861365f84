//! What any new table owes to the one before it, whoever made it.
//!
//! The manager asks before it stores a table. Written from the rules alone (distinct owners,
//! distinct zones, moves one step at a time, no copy lost), and sharing with the planner only who
//! may own: a mistake there must not be one here.

#[cfg(test)]
mod tests;

use super::{Member, Slot, Table};
use crate::types::{KeyspaceId, NodeId, SectorId};
use std::collections::BTreeSet;
use std::fmt;

/// Why a table must not follow another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is of another cluster, or has other sectors, copies or profile: these never change.
    Shape,
    /// Its epoch is not above that of the one before.
    Epoch,
    /// A member is missing: those that left stay in the table, so that no id is used twice.
    MemberMissing(NodeId),
    /// A sector that had owners, or is to have some, has not one slot for each copy.
    Copies(SectorId),
    /// A node is in a sector twice.
    NodeTwice(SectorId, NodeId),
    /// A sector is given to a node that the table does not know, or that may not own.
    MayNotOwn(SectorId, NodeId),
    /// Data would move to an owner of a sector that has none.
    MovesNothing(SectorId),
    /// The node has a copy, and no slot does as much as settle it elsewhere.
    HolderLost(SectorId, NodeId),
    /// The slot that this node holds skips a step: a settled one stays or sets out, a moving one
    /// goes on, arrives, or is called off.
    Skips(SectorId, NodeId),
    /// The sector is in fewer zones than it could be, and than it was.
    Zones(SectorId),
    /// A keyspace of fewer copies would look for them in other slots.
    Span(SectorId, KeyspaceId),
    /// Messages about the sector could be taken for ones about its former owners, or are refused
    /// though these have not changed.
    ConfEpoch(SectorId),
}

/// Checks that a table may follow another: what is wrong with it first.
///
/// A slot may arrive and set out again in one step. It may not be called off and set out: who
/// replaces a node that was to get a copy does it in two tables.
///
/// # Errors
/// The first [`Fault`] found.
pub fn validate(before: &Table, after: &Table) -> Result<(), Fault> {
    let shape = |table: &Table| (table.cluster_id, table.n, table.profile, table.sectors.len());
    if shape(before) != shape(after) {
        return Err(Fault::Shape);
    }
    if after.epoch <= before.epoch {
        return Err(Fault::Epoch);
    }
    if let Some(&node) = before.members.keys().find(|node| !after.members.contains_key(node)) {
        return Err(Fault::MemberMissing(node));
    }
    let zones_possible = zones_possible(after);
    for id in (0..=u16::MAX).map(SectorId).take(before.sectors.len()) {
        let change = Change { before, after, id };
        change.check_epoch()?;
        if change.old_slots() == change.new_slots() {
            continue;
        }
        change.check_slots()?;
        if change.old_slots().is_empty() {
            change.check_first_owners()?;
        } else {
            change.check_steps()?;
        }
        change.check_newcomers()?;
        change.check_zones(zones_possible)?;
    }
    Ok(())
}

/// In how many zones each sector should be: as there are named ones, at most one for each copy.
fn zones_possible(table: &Table) -> usize {
    let may_own = |member: &&Member| member.may_own() && !member.zone.is_empty();
    let zones: BTreeSet<_> = table.members.values().filter(may_own).map(|member| &member.zone).collect();
    zones.len().min(usize::from(table.n))
}

/// The node that a slot belongs to once it has arrived.
fn destination(slot: Slot) -> NodeId {
    match slot {
        Slot::Settled(node) | Slot::Moving { new: node, .. } => node,
    }
}

/// Whether a slot may become another in one table.
fn may_follow(old: Slot, new: Slot) -> bool {
    match (old, new) {
        (Slot::Settled(node), _) => new.holder() == node,
        (Slot::Moving { .. }, Slot::Moving { .. }) => new == old || new.holder() == destination(old),
        (Slot::Moving { old: source, new: target, .. }, Slot::Settled(node)) => {
            node == source || node == target
        }
    }
}

/// One sector, in both tables.
struct Change<'a> {
    before: &'a Table,
    after: &'a Table,
    id: SectorId,
}

impl Change<'_> {
    fn old_slots(&self) -> &[Slot] {
        &self.before.sector(self.id).slots
    }

    fn new_slots(&self) -> &[Slot] {
        &self.after.sector(self.id).slots
    }

    fn check_epoch(&self) -> Result<(), Fault> {
        let (old, new) = (self.before.sector(self.id).conf_epoch, self.after.sector(self.id).conf_epoch);
        let is_same = self.old_slots() == self.new_slots();
        let is_right = if is_same { new == old } else { new > old && new <= self.after.epoch };
        if is_right { Ok(()) } else { Err(Fault::ConfEpoch(self.id)) }
    }

    fn check_slots(&self) -> Result<(), Fault> {
        if self.new_slots().len() != usize::from(self.after.n) {
            return Err(Fault::Copies(self.id));
        }
        let mut seen = BTreeSet::new();
        match self.new_slots().iter().flat_map(Slot::nodes).find(|&node| !seen.insert(node)) {
            Some(node) => Err(Fault::NodeTwice(self.id, node)),
            None => Ok(()),
        }
    }

    fn check_first_owners(&self) -> Result<(), Fault> {
        let is_settled = |slot: &Slot| matches!(slot, Slot::Settled(_));
        if self.new_slots().iter().all(is_settled) { Ok(()) } else { Err(Fault::MovesNothing(self.id)) }
    }

    /// Every slot goes on somewhere, a step at most, and no keyspace loses sight of it.
    fn check_steps(&self) -> Result<(), Fault> {
        for (at, &old) in self.old_slots().iter().enumerate() {
            // Nodes are in a sector once, so this is the one slot that can have come from it.
            let follows = |new: &Slot| old.nodes().any(|node| node == new.holder());
            let Some(now_at) = self.new_slots().iter().position(follows) else {
                return Err(Fault::HolderLost(self.id, old.holder()));
            };
            if !may_follow(old, self.new_slots()[now_at]) {
                return Err(Fault::Skips(self.id, old.holder()));
            }
            for (&keyspace, known) in &self.before.keyspaces {
                let copies = usize::from(known.settings.n);
                if (at < copies) != (now_at < copies) {
                    return Err(Fault::Span(self.id, keyspace));
                }
            }
        }
        Ok(())
    }

    /// Nodes that were not in the sector may own.
    fn check_newcomers(&self) -> Result<(), Fault> {
        let was_in = |node: NodeId| self.old_slots().iter().flat_map(Slot::nodes).any(|old| old == node);
        let refused =
            |node: &NodeId| !was_in(*node) && !self.after.members.get(node).is_some_and(Member::may_own);
        match self.new_slots().iter().flat_map(Slot::nodes).find(refused) {
            Some(node) => Err(Fault::MayNotOwn(self.id, node)),
            None => Ok(()),
        }
    }

    fn check_zones(&self, possible: usize) -> Result<(), Fault> {
        let was_in = self.zones(self.old_slots());
        let wanted = if self.old_slots().is_empty() { possible } else { possible.min(was_in) };
        if self.zones(self.new_slots()) >= wanted { Ok(()) } else { Err(Fault::Zones(self.id)) }
    }

    /// Distinct zones of where slots go. A node that names none is alone in its own.
    fn zones(&self, slots: &[Slot]) -> usize {
        let zone = |slot: &Slot| {
            let node = destination(*slot);
            let name = self.after.members.get(&node).map_or("", |member| member.zone.as_str());
            if name.is_empty() { (Some(node), name) } else { (None, name) }
        };
        slots.iter().map(zone).collect::<BTreeSet<_>>().len()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Shape => f.write_str("the cluster, its copies, sectors or profile differ"),
            Fault::Epoch => f.write_str("the epoch is not above the one before"),
            Fault::MemberMissing(node) => write!(f, "node {node} is missing"),
            Fault::Copies(sector) => write!(f, "sector {sector} has a wrong number of slots"),
            Fault::NodeTwice(sector, node) => write!(f, "sector {sector} has node {node} twice"),
            Fault::MayNotOwn(sector, node) => {
                write!(f, "sector {sector} goes to node {node}, which may not own")
            }
            Fault::MovesNothing(sector) => write!(f, "sector {sector} has no owners, and yet would move"),
            Fault::HolderLost(sector, node) => write!(f, "sector {sector} loses the copy on node {node}"),
            Fault::Skips(sector, node) => write!(f, "sector {sector}: the slot of node {node} skips a step"),
            Fault::Zones(sector) => write!(f, "sector {sector} would be in too few zones"),
            Fault::Span(sector, keyspace) => {
                write!(f, "sector {sector}: keyspace {} would lose sight of a copy", keyspace.0)
            }
            Fault::ConfEpoch(sector) => write!(f, "sector {sector} has a wrong epoch of its own"),
        }
    }
}
