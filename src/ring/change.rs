//! Changes of the membership that an operator stages, looks at, and applies.
//!
//! A staged change is in the table, for that is all the state a manager has. What it would come to
//! is a pure function of the table: [`enact`] carries out what is staged on a copy, and the planner
//! says which copies move. Nothing here moves data; the moves are the new table's.

use super::{Member, MemberState, Slot, Table, plan};
use crate::limits::STAGED_MAX;
use crate::types::{NodeId, SectorId};
use std::collections::BTreeMap;
use std::fmt;

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A node that waits is to own sectors.
    Join(NodeId),
    /// A node is to hand over all it has, and go.
    Leave(NodeId),
    /// A dead node's sectors are to be rebuilt from their other owners: on `by`, or on all.
    Replace {
        /// The dead node. It is not let in again.
        dead: NodeId,
        /// The node that is to own in its place; none: whoever the planner chooses.
        by: Option<NodeId>,
    },
    /// A node is to own these sectors.
    Move {
        /// The node.
        to: NodeId,
        /// The first sector.
        first: SectorId,
        /// The last one.
        last: SectorId,
    },
    /// A node is to have another share of the data.
    Weight {
        /// The node.
        node: NodeId,
        /// 100 is the usual; 0: nothing.
        weight: u16,
    },
}

/// Why a change cannot be staged or carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// There is no such member.
    Unknown(NodeId),
    /// The member's standing does not allow it.
    Standing(NodeId, MemberState, &'static str),
    /// Fewer members than N could own sectors.
    TooFew {
        /// Those that could.
        left: usize,
        /// N.
        needed: usize,
    },
    /// There are no such sectors.
    NoSuchSectors {
        /// How many there are.
        sectors: usize,
    },
    /// Sectors are moving already.
    Moving(usize),
    /// No more can be staged.
    Full,
    /// Nothing is staged.
    Nothing,
    /// The table has changed since it was looked at.
    MovedOn {
        /// Its epoch now.
        epoch: u64,
    },
    /// In words.
    Other(String),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Unknown(node) => write!(f, "there is no node {node}; see `gtstore status`"),
            ChangeError::Standing(node, state, wanted) => {
                write!(f, "node {node} is {state}, and {wanted}")
            }
            ChangeError::TooFew { left, needed } => write!(
                f,
                "{left} nodes would be left to own sectors, and each sector has {needed} copies on distinct nodes; \
                 add nodes first"
            ),
            ChangeError::NoSuchSectors { sectors } => {
                write!(f, "there are {sectors} sectors, from 0 on, and the first must not be behind the last")
            }
            ChangeError::Moving(count) => write!(
                f,
                "{count} sectors are moving: wait for them (`gtstore cluster transfers`), or call them off \
                 (`gtstore cluster cancel`)"
            ),
            ChangeError::Full => write!(f, "{STAGED_MAX} changes are staged already, the most there can be"),
            ChangeError::Nothing => write!(f, "nothing is staged"),
            ChangeError::MovedOn { epoch } => write!(
                f,
                "the table has changed since: its epoch is {epoch} now; look at `gtstore cluster plan` again"
            ),
            ChangeError::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Change::Join(node) => write!(f, "node {node} joins"),
            Change::Leave(node) => write!(f, "node {node} leaves"),
            Change::Replace { dead, by: Some(by) } => write!(f, "node {by} replaces node {dead}"),
            Change::Replace { dead, by: None } => {
                write!(f, "node {dead} is given up, and rebuilt on the others")
            }
            Change::Move { to, first, last } => write!(f, "node {to} gets sectors {first} to {last}"),
            Change::Weight { node, weight } => write!(f, "node {node} weighs {weight}"),
        }
    }
}

/// Adds a change to what is staged, if all of it can be carried out then.
///
/// # Errors
/// Why not; the table is as it was.
pub fn stage(table: &mut Table, change: Change) -> Result<(), ChangeError> {
    if table.staged.len() >= STAGED_MAX {
        return Err(ChangeError::Full);
    }
    let mut next = table.clone();
    next.staged.retain(|staged| !is_undone_by(staged, &change));
    next.staged.push(change);
    alter(&next)?;
    table.staged = next.staged;
    Ok(())
}

/// The table with all that is staged carried out: members in their new standing, slots on their way.
///
/// While sectors move, dead nodes alone can be given up: a plan may be waiting for them for ever. What
/// they own beside the moves is planned for when those are over.
///
/// # Errors
/// Why it cannot be done.
pub fn enact(table: &Table) -> Result<Table, ChangeError> {
    if table.staged.is_empty() {
        return Err(ChangeError::Nothing);
    }
    let moving = table.sectors.iter().filter(|sector| sector.is_moving()).count();
    let is_urgent = |change: &Change| matches!(change, Change::Replace { .. });
    if moving > 0 && !table.staged.iter().all(is_urgent) {
        return Err(ChangeError::Moving(moving));
    }
    let mut next = alter(table)?;
    if moving > 0 {
        next.staged.clear();
        return Ok(next);
    }
    // Sectors that were moved by hand alone stay there: the planner would take some back. And none are
    // given out before as many have joined as there are to be.
    let may_place = next.is_serving() || next.eligible().count() >= usize::from(next.members_min);
    if may_place && !table.staged.iter().all(|change| matches!(change, Change::Move { .. })) {
        for (id, slots) in plan(&next).changes {
            set_slots(&mut next, id, slots);
        }
    }
    next.staged.clear();
    Ok(next)
}

/// A later word on the same node takes the place of an earlier one.
fn is_undone_by(staged: &Change, change: &Change) -> bool {
    match (staged, change) {
        (Change::Weight { node, .. }, Change::Weight { node: again, .. }) => node == again,
        (Change::Replace { dead, .. }, Change::Replace { dead: again, .. }) => dead == again,
        (earlier, later) => earlier == later,
    }
}

fn set_slots(table: &mut Table, id: SectorId, slots: Vec<Slot>) {
    let epoch = table.epoch;
    if let Some(sector) = table.sectors.get_mut(usize::from(id.0)) {
        sector.slots = slots;
        sector.conf_epoch = epoch;
    }
}

/// Everything but what the planner does.
fn alter(table: &Table) -> Result<Table, ChangeError> {
    let mut next = table.clone();
    for &change in &table.staged {
        alter_one(&mut next, change)?;
    }
    let (left, needed) = (next.eligible().count(), usize::from(next.n));
    if left < needed && next.is_serving() {
        return Err(ChangeError::TooFew { left, needed });
    }
    for &change in &table.staged {
        match change {
            Change::Replace { dead, by: Some(by) } => hand_over(&mut next, dead, by),
            Change::Join(_) | Change::Leave(_) | Change::Weight { .. } | Change::Replace { by: None, .. } => {
            }
            Change::Move { to, first, last } => {
                let moves = super::move_sectors(&next, to, first, last)
                    .map_err(|error| ChangeError::Other(error.to_string()))?;
                for (id, slots) in moves.changes {
                    set_slots(&mut next, id, slots);
                }
            }
        }
    }
    Ok(next)
}

fn known(members: &mut BTreeMap<NodeId, Member>, node: NodeId) -> Result<&mut Member, ChangeError> {
    members.get_mut(&node).ok_or(ChangeError::Unknown(node))
}

fn alter_one(next: &mut Table, change: Change) -> Result<(), ChangeError> {
    use MemberState::{Joining, Leaving, Left, Lost, Normal, Removed, Waiting};
    let sectors = next.sectors.len();
    let members = &mut next.members;
    match change {
        Change::Join(node) => {
            let member = known(members, node)?;
            match member.state {
                Waiting | Leaving => member.state = Joining,
                // Joining twice is harmless.
                Joining | Normal => {}
                state @ (Lost | Removed | Left) => {
                    return Err(ChangeError::Standing(
                        node,
                        state,
                        "cannot join again; give it an empty directory",
                    ));
                }
            }
        }
        Change::Leave(node) => {
            let member = known(members, node)?;
            match member.state {
                Joining | Normal | Leaving | Waiting => member.state = Leaving,
                state @ (Lost | Removed | Left) => {
                    return Err(ChangeError::Standing(node, state, "has nothing to hand over any more"));
                }
            }
        }
        Change::Replace { dead, by } => {
            let gone = known(members, dead)?;
            match gone.state {
                Joining | Normal | Leaving | Waiting | Lost => {}
                state @ (Left | Removed) => return Err(ChangeError::Standing(dead, state, "owns nothing")),
            }
            give_up(next, dead);
            let members = &mut next.members;
            if let Some(by) = by {
                let new = known(members, by)?;
                match new.state {
                    Waiting | Joining => new.state = Joining,
                    Normal => {}
                    state @ (Leaving | Left | Lost | Removed) => {
                        return Err(ChangeError::Standing(by, state, "cannot own sectors"));
                    }
                }
            }
        }
        Change::Weight { node, weight } => {
            let member = known(members, node)?;
            match member.state {
                Joining | Normal | Waiting => member.weight = weight,
                state @ (Leaving | Left | Lost | Removed) => {
                    return Err(ChangeError::Standing(node, state, "gets no sectors"));
                }
            }
        }
        Change::Move { to, first, last } => {
            let state = known(members, to)?.state;
            if !next.members.get(&to).is_some_and(Member::may_own) {
                return Err(ChangeError::Standing(to, state, "cannot own sectors"));
            }
            if first > last || usize::from(last.0) >= sectors {
                return Err(ChangeError::NoSuchSectors { sectors });
            }
        }
    }
    Ok(())
}

/// Gives a node up: nothing goes to it any more, and what it owned is rebuilt from others' copies.
pub fn give_up(table: &mut Table, dead: NodeId) {
    table.call_off(|_, new| new == dead);
    if let Some(member) = table.members.get_mut(&dead) {
        member.state = MemberState::Lost;
    }
}

/// What a dead node owned goes to one node, but for sectors that it owns a copy of already.
fn hand_over(next: &mut Table, dead: NodeId, by: NodeId) {
    let since = next.epoch;
    for sector in &mut next.sectors {
        if sector.nodes(sector.slots.len()).any(|node| node == by) {
            continue;
        }
        for slot in &mut sector.slots {
            if *slot == Slot::Settled(dead) {
                *slot = Slot::Moving { old: dead, new: by, since };
                sector.conf_epoch = since;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, DiskUuid, Epoch};

    fn cluster(nodes: u32) -> Table {
        let mut table = Table::new(ClusterId(1), 3, 64);
        for id in 1..=nodes {
            let (addr, zone, state) = (String::new(), String::new(), MemberState::Normal);
            let disk_uuid = DiskUuid(u128::from(id));
            table.members.insert(NodeId(id), Member { addr, disk_uuid, zone, weight: 100, state });
        }
        for (id, slots) in plan(&table).changes {
            set_slots(&mut table, id, slots);
        }
        table.epoch = Epoch(2);
        table
    }

    fn enacted(table: &Table, changes: &[Change]) -> Result<Table, ChangeError> {
        let mut staged = table.clone();
        for &change in changes {
            stage(&mut staged, change)?;
        }
        enact(&staged)
    }

    fn sources(table: &Table) -> Vec<NodeId> {
        let moving = |slot: &Slot| match *slot {
            Slot::Moving { old, .. } => Some(old),
            Slot::Settled(_) => None,
        };
        table.sectors.iter().flat_map(|sector| &sector.slots).filter_map(moving).collect()
    }

    #[test]
    fn all_that_a_leaving_node_has_moves_and_nothing_else_does() {
        let table = cluster(5);
        let next = enacted(&table, &[Change::Leave(NodeId(2))]).unwrap();
        assert_eq!(next.members[&NodeId(2)].state, MemberState::Leaving);
        assert_eq!(sources(&next), vec![NodeId(2); table.loads()[&NodeId(2)].0]);
        assert!(next.staged.is_empty());
    }

    #[test]
    fn a_dead_node_is_replaced_by_the_one_that_is_named() {
        let mut table = cluster(4);
        let spare = Member { state: MemberState::Waiting, ..table.members[&NodeId(1)].clone() };
        table.members.insert(NodeId(5), spare);
        let next = enacted(&table, &[Change::Replace { dead: NodeId(3), by: Some(NodeId(5)) }]).unwrap();
        for slot in next.sectors.iter().flat_map(|sector| &sector.slots) {
            match *slot {
                Slot::Moving { old, new, since } => {
                    assert_eq!((old, new, since), (NodeId(3), NodeId(5), Epoch(2)));
                }
                Slot::Settled(node) => assert_ne!(node, NodeId(3)),
            }
        }
    }

    #[test]
    fn nothing_is_given_out_before_as_many_have_joined_as_there_are_to_be() {
        let mut table = cluster(5);
        table.members_min = 5;
        table.sectors.iter_mut().for_each(|sector| sector.slots.clear());
        for id in [4, 5] {
            table.members.get_mut(&NodeId(id)).unwrap().state = MemberState::Waiting;
        }
        let joins = [4, 5].map(|node| Change::Join(NodeId(node)));
        assert!(!enacted(&table, &joins[..1]).unwrap().is_serving());
        assert!(enacted(&table, &joins).unwrap().is_serving());
    }

    #[test]
    fn what_cannot_be_carried_out_is_not_staged() {
        let table = cluster(4);
        let leaves = [1, 2].map(|node| Change::Leave(NodeId(node)));
        assert_eq!(enacted(&table, &leaves), Err(ChangeError::TooFew { left: 2, needed: 3 }));
        assert_eq!(enacted(&table, &[Change::Leave(NodeId(9))]), Err(ChangeError::Unknown(NodeId(9))));
        let beyond = Change::Move { to: NodeId(1), first: SectorId(3), last: SectorId(64) };
        assert_eq!(enacted(&table, &[beyond]), Err(ChangeError::NoSuchSectors { sectors: 64 }));
        assert_eq!(enacted(&table, &[]), Err(ChangeError::Nothing));
        let moving = enacted(&table, &leaves[..1]).unwrap();
        assert!(matches!(enacted(&moving, &leaves[..1]), Err(ChangeError::Moving(1..))));
    }
}
