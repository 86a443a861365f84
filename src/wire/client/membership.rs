//! What operators say of the membership, and what they are told: staged changes, what they would come
//! to, and how far sectors have come that move.

use crate::limits::{MEMBERS_MAX, STAGED_MAX, TRANSFERS_TOLD_MAX};
use crate::ring::{Change, MemberState};
use crate::types::{Epoch, NodeId, SectorId};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::table::{decode_change, encode_change, member_state, member_state_byte};

/// What an operator wants of the membership. For the manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterCommand {
    /// Tell what is staged, and what it would come to.
    Plan,
    /// Stage one change more.
    Stage(Change),
    /// Forget what is staged.
    Revert,
    /// Carry out what is staged, if the table is still of this epoch.
    Apply {
        /// The epoch of the plan that was looked at.
        epoch: Epoch,
    },
    /// Call off the moves that are under way. What is rebuilt for dead nodes goes on.
    Cancel,
}

/// What is staged, and what it would come to; or, once applied, what is under way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterPlan {
    /// The table's epoch.
    pub epoch: Epoch,
    /// What is staged.
    pub staged: Vec<Change>,
    /// A row per member that has not left.
    pub rows: Vec<PlanRow>,
    /// Copies of sectors that move, or would.
    pub moves: u32,
    /// Sectors of which every copy is on dead nodes: their data is lost.
    pub orphans: u16,
}

/// A member in a plan. Pairs: now, and after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanRow {
    /// The member.
    pub node: NodeId,
    /// Its standing.
    pub state: (MemberState, MemberState),
    /// Sectors that it has a copy of.
    pub sectors: (u16, u16),
    /// Sectors that it is first in.
    pub first: (u16, u16),
    /// Copies that it gets.
    pub gets: u16,
    /// Their bytes, as far as it is known how many their givers hold.
    pub bytes: u64,
}

/// A copy of a sector on its way, as its giver sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferStatus {
    /// The sector.
    pub sector: SectorId,
    /// Who gets it.
    pub to: NodeId,
    /// Keys that have arrived, durably.
    pub keys: u64,
    /// Keys that there were when it set out.
    pub keys_total: u64,
    /// Bytes that were sent for it.
    pub bytes: u64,
    /// Whether all of it has arrived; the manager has yet to say so.
    pub done: bool,
}

pub(super) fn encode_command(command: &ClusterCommand, out: &mut Writer) {
    match command {
        ClusterCommand::Plan => out.u8(1),
        ClusterCommand::Stage(change) => {
            out.u8(2);
            encode_change(change, out);
        }
        ClusterCommand::Revert => out.u8(3),
        ClusterCommand::Apply { epoch } => {
            out.u8(4);
            out.u64(epoch.0);
        }
        ClusterCommand::Cancel => out.u8(5),
    }
}

pub(super) fn decode_command(reader: &mut Reader) -> Result<ClusterCommand, DecodeError> {
    Ok(match reader.u8()? {
        1 => ClusterCommand::Plan,
        2 => ClusterCommand::Stage(decode_change(reader)?),
        3 => ClusterCommand::Revert,
        4 => ClusterCommand::Apply { epoch: Epoch(reader.u64()?) },
        5 => ClusterCommand::Cancel,
        _ => return Err(DecodeError::Invalid("command")),
    })
}

pub(super) fn encode_plan(plan: &ClusterPlan, out: &mut Writer) {
    out.u64(plan.epoch.0);
    out.u32(plan.moves);
    out.u16(plan.orphans);
    out.count(plan.staged.len());
    for change in &plan.staged {
        encode_change(change, out);
    }
    out.count(plan.rows.len());
    for row in &plan.rows {
        out.u32(row.node.0);
        out.u8(member_state_byte(row.state.0));
        out.u8(member_state_byte(row.state.1));
        [row.sectors.0, row.sectors.1, row.first.0, row.first.1, row.gets]
            .into_iter()
            .for_each(|count| out.u16(count));
        out.u64(row.bytes);
    }
}

pub(super) fn decode_plan(reader: &mut Reader) -> Result<ClusterPlan, DecodeError> {
    let (epoch, moves, orphans) = (Epoch(reader.u64()?), reader.u32()?, reader.u16()?);
    let count = reader.count("staged changes", STAGED_MAX, 5)?;
    let staged = (0..count).map(|_| decode_change(reader)).collect::<Result<_, _>>()?;
    let count = reader.count("plan rows", MEMBERS_MAX, 24)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(PlanRow {
            node: NodeId(reader.u32()?),
            state: (member_state(reader.u8()?)?, member_state(reader.u8()?)?),
            sectors: (reader.u16()?, reader.u16()?),
            first: (reader.u16()?, reader.u16()?),
            gets: reader.u16()?,
            bytes: reader.u64()?,
        });
    }
    Ok(ClusterPlan { epoch, staged, rows, moves, orphans })
}

pub(super) fn encode_transfers(rows: &[TransferStatus], out: &mut Writer) {
    out.count(rows.len());
    for row in rows {
        out.u16(row.sector.0);
        out.u32(row.to.0);
        [row.keys, row.keys_total, row.bytes].into_iter().for_each(|count| out.u64(count));
        out.bool(row.done);
    }
}

pub(super) fn decode_transfers(reader: &mut Reader) -> Result<Vec<TransferStatus>, DecodeError> {
    let count = reader.count("transfers", TRANSFERS_TOLD_MAX, 31)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(TransferStatus {
            sector: SectorId(reader.u16()?),
            to: NodeId(reader.u32()?),
            keys: reader.u64()?,
            keys_total: reader.u64()?,
            bytes: reader.u64()?,
            done: reader.bool("done")?,
        });
    }
    Ok(rows)
}
