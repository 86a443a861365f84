//! Explicit moves: what an operator asks for by name.

use super::step::Step;
use super::{Draft, Plan};
use crate::ring::Table;
use crate::types::{NodeId, SectorId};
use std::fmt;

/// Why sectors cannot be moved to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// The table knows no such node.
    UnknownNode(NodeId),
    /// It is leaving, has left, or has no weight.
    MayNotOwn(NodeId),
    /// The range ends before it begins.
    EmptyRange,
    /// The range ends beyond the table, which has so many sectors.
    BeyondTable {
        /// Sectors of the table.
        sectors: usize,
    },
    /// The sector has a slot on its way: one move at a time.
    AlreadyMoving(SectorId),
    /// The sector has no owners yet.
    Unowned(SectorId),
}

/// Gives a node a copy of each sector from `first` to `last`, both included, that it does not own.
///
/// Of the owners that could give theirs up with zones spread no worse, one that may not own gives
/// first, then the one with most copies for its weight. Nothing else changes. [`super::plan`]
/// knows no wishes: the next one takes back what is above the node's share.
///
/// # Errors
/// Says what is wrong with the node or the range; then nothing moves.
pub fn move_sectors(table: &Table, to: NodeId, first: SectorId, last: SectorId) -> Result<Plan, MoveError> {
    let member = table.members.get(&to).ok_or(MoveError::UnknownNode(to))?;
    if !member.may_own() {
        return Err(MoveError::MayNotOwn(to));
    }
    if first > last {
        return Err(MoveError::EmptyRange);
    }
    let range = usize::from(first.0)..usize::from(last.0) + 1;
    if range.end > table.sectors.len() {
        return Err(MoveError::BeyondTable { sectors: table.sectors.len() });
    }
    let mut draft = Draft::new(table);
    let to = draft.index_of(to).ok_or(MoveError::UnknownNode(to))?;
    for id in (first.0..=last.0).map(SectorId) {
        if table.sector(id).is_moving() {
            return Err(MoveError::AlreadyMoving(id));
        }
        let sector = usize::from(id.0);
        if draft.owners(sector).any(|owner| owner == to) {
            continue;
        }
        let step = draft.giver(sector, to).ok_or(MoveError::Unowned(id))?;
        draft.take(step);
    }
    Ok(draft.into_plan(table))
}

impl Draft {
    /// Which of a settled sector's places the node should take. There always is one: that of an
    /// owner in its own zone, or any if there is none.
    fn giver(&self, sector: usize, to: usize) -> Option<Step> {
        let steps = (0..self.sectors[sector].len()).map(|place| Step { sector, place, to });
        steps.filter(|&step| self.may_take(step)).max_by_key(|&step| {
            let node = &self.nodes[self.sectors[sector][step.place].owner];
            let per_weight = (node.held as u64 * u64::from(u16::MAX)).checked_div(node.weight);
            (per_weight.unwrap_or(u64::MAX), std::cmp::Reverse(step.place))
        })
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoveError::UnknownNode(node) => write!(f, "there is no node {node}"),
            MoveError::MayNotOwn(node) => {
                write!(f, "node {node} may not own sectors: it is leaving, has left, or has no weight")
            }
            MoveError::EmptyRange => f.write_str("the range of sectors ends before it begins"),
            MoveError::BeyondTable { sectors } => {
                write!(f, "the last sector is {}", sectors.saturating_sub(1))
            }
            MoveError::AlreadyMoving(sector) => write!(f, "sector {sector} is moving already"),
            MoveError::Unowned(sector) => write!(f, "sector {sector} has no owners yet"),
        }
    }
}
