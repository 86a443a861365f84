//! What a node says of itself, wherever it says so: to other nodes, to the manager, to clients.

use super::codec::{DecodeError, Reader, Writer};
use crate::types::{Epoch, Room};

/// How a node stands, in its own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vitals {
    /// Epoch of its table; 0 as long as nothing has been heard of it.
    pub epoch: Epoch,
    /// Keys held, tombstones not counted.
    pub keys: u64,
    /// Bytes of keys and values held.
    pub bytes: u64,
    /// Requests it is working on.
    pub pending: u32,
    /// Sectors of which its copy is damaged, and not served.
    pub damaged: u16,
    /// Copies of sectors that are known to differ from another owner's, or that are yet to be compared
    /// in a repair that was asked for.
    pub repairs: u32,
    /// Bytes of writes that it keeps for nodes that are away.
    pub hint_bytes: u64,
    /// Whether its disk has room.
    pub room: Room,
}

/// Bytes that they take.
pub(super) const VITALS_BYTES: usize = 43;

pub(super) fn encode_vitals(vitals: &Vitals, out: &mut Writer) {
    out.u64(vitals.epoch.0);
    out.u64(vitals.keys);
    out.u64(vitals.bytes);
    out.u32(vitals.pending);
    out.u16(vitals.damaged);
    out.u32(vitals.repairs);
    out.u64(vitals.hint_bytes);
    out.u8(vitals.room.to_byte());
}

pub(super) fn decode_vitals(reader: &mut Reader) -> Result<Vitals, DecodeError> {
    Ok(Vitals {
        epoch: Epoch(reader.u64()?),
        keys: reader.u64()?,
        bytes: reader.u64()?,
        pending: reader.u32()?,
        damaged: reader.u16()?,
        repairs: reader.u32()?,
        hint_bytes: reader.u64()?,
        room: Room::from_byte(reader.u8()?).ok_or(DecodeError::Invalid("room"))?,
    })
}
