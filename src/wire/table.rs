//! The table as bytes: on the wire and in the files of manager and nodes.
//!
//! Begins with a format number, and ends with the crc32c of all before: one owner's number that is
//! not what it was would be a table like any other. Format 2 added the profile, format 3 the checksum,
//! format 4 what moves of an operator's need. Older ones are read with the defaults; any is written as
//! format 4.
//!
//! A decoded table keeps every invariant the rest of the code relies on: a power of two of sectors,
//! at most N slots each, slots that name known members, no node twice in a sector, ids in rising
//! order (one form for one table).

use super::codec::{DecodeError, Reader, Writer};
use crate::limits::{
    ADDR_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, KEYSPACES_MAX, MEMBERS_MAX, REPLICAS_MAX, SECTORS_MAX,
    STAGED_MAX,
};
use crate::ring::{
    Change, Conflict, Durability, Keyspace, KeyspaceSettings, Member, MemberState, Profile, Sector, Slot,
    Table,
};
use crate::types::{ClusterId, DiskUuid, Epoch, KeyspaceId, NodeId, SectorId};
use bytes::Bytes;
use std::collections::BTreeMap;

const FORMAT: u16 = 4;
/// Without the members there must be, the epochs in which slots set out, and staged changes.
const FORMAT_3: u16 = 3;
/// Without the checksum, too.
const FORMAT_2: u16 = 2;
/// Without the profile, too.
const FORMAT_1: u16 = 1;
const ZONE_BYTES_MAX: usize = 64;

/// The table as bytes.
#[must_use]
pub fn encode_table(table: &Table) -> Bytes {
    let mut out = Writer::default();
    out.u16(FORMAT);
    out.u64(table.epoch.0);
    out.u128(table.cluster_id.0);
    out.u8(table.n);
    out.u8(match table.profile {
        Profile::Default => 1,
        Profile::Gtstore => 2,
    });
    out.u16(table.members_min);
    out.u32(table.next_node.0);
    out.count(table.members.len());
    for (id, member) in &table.members {
        out.u32(id.0);
        encode_member(member, &mut out);
    }
    out.count(table.keyspaces.len());
    for (id, keyspace) in &table.keyspaces {
        out.u16(id.0);
        out.text(&keyspace.name);
        encode_settings(&keyspace.settings, &mut out);
    }
    out.count(table.sectors.len());
    for sector in &table.sectors {
        encode_sector(sector, &mut out);
    }
    out.count(table.staged.len());
    for change in &table.staged {
        encode_change(change, &mut out);
    }
    let fields = out.into_bytes();
    let mut out = Writer::default();
    out.raw(&fields);
    out.u32(crc32c::crc32c(&fields));
    out.into_bytes()
}

/// Reads a table and checks it.
///
/// # Errors
/// It is damaged, over a cap, of another format, or breaks an invariant.
pub fn decode_table(bytes: Bytes) -> Result<Table, DecodeError> {
    let format = Reader::new(bytes.clone()).u16()?;
    let mut reader = match format {
        FORMAT | FORMAT_3 => Reader::new(checked(&bytes)?),
        FORMAT_2 | FORMAT_1 => Reader::new(bytes),
        _ => return Err(DecodeError::Invalid("table format")),
    };
    reader.u16()?;
    let epoch = Epoch(reader.u64()?);
    let cluster_id = ClusterId(reader.u128()?);
    let n = reader.u8()?;
    if n == 0 || usize::from(n) > REPLICAS_MAX {
        return Err(DecodeError::Invalid("copies"));
    }
    let profile = if format == FORMAT_1 { Profile::Default } else { decode_profile(&mut reader)? };
    let members_min = if format == FORMAT { reader.u16()? } else { u16::from(n) };
    let next_node = NodeId(reader.u32()?);
    let mut members = BTreeMap::new();
    for _ in 0..reader.count("members", MEMBERS_MAX, 31)? {
        let id = NodeId(reader.u32()?);
        if id == NodeId(0) || members.last_key_value().is_some_and(|(&last, _)| id <= last) {
            return Err(DecodeError::Invalid("member order"));
        }
        members.insert(id, decode_member(&mut reader)?);
    }
    let mut keyspaces = BTreeMap::new();
    for _ in 0..reader.count("keyspaces", KEYSPACES_MAX, 11)? {
        let id = KeyspaceId(reader.u16()?);
        if keyspaces.last_key_value().is_some_and(|(&last, _)| id <= last) {
            return Err(DecodeError::Invalid("keyspace order"));
        }
        let name = reader.text("keyspace name", KEYSPACE_NAME_BYTES_MAX)?;
        let settings = decode_settings(&mut reader)?;
        Keyspace::check(&name, &settings, n).map_err(|_| DecodeError::Invalid("keyspace"))?;
        keyspaces.insert(id, Keyspace { name, settings });
    }
    let count = reader.count("sectors", SECTORS_MAX, 9)?;
    if !count.is_power_of_two() {
        return Err(DecodeError::Invalid("sector count"));
    }
    let mut sectors = Vec::with_capacity(count);
    for _ in 0..count {
        let sector = decode_sector(&mut reader, n, format)?;
        if !sector.nodes(REPLICAS_MAX).all(|node| members.contains_key(&node)) {
            return Err(DecodeError::Invalid("slot owner"));
        }
        if has_repeats(&sector) {
            return Err(DecodeError::Invalid("slot owner"));
        }
        sectors.push(sector);
    }
    let mut staged = Vec::new();
    if format == FORMAT {
        for _ in 0..reader.count("staged changes", STAGED_MAX, 5)? {
            staged.push(decode_change(&mut reader)?);
        }
    }
    reader.finish()?;
    Ok(Table { epoch, cluster_id, n, profile, members_min, next_node, members, keyspaces, sectors, staged })
}

/// What is before the checksum, if it is what was written.
fn checked(bytes: &Bytes) -> Result<Bytes, DecodeError> {
    let length = bytes.len().checked_sub(4).ok_or(DecodeError::Truncated)?;
    let sum = Reader::new(bytes.slice(length..)).u32()?;
    let fields = bytes.slice(..length);
    if sum == crc32c::crc32c(&fields) { Ok(fields) } else { Err(DecodeError::Invalid("table checksum")) }
}

fn decode_profile(reader: &mut Reader) -> Result<Profile, DecodeError> {
    match reader.u8()? {
        1 => Ok(Profile::Default),
        2 => Ok(Profile::Gtstore),
        _ => Err(DecodeError::Invalid("profile")),
    }
}

/// Whether a node stands in two places of a sector, old and new ones alike: its one answer would
/// count for two slots.
fn has_repeats(sector: &Sector) -> bool {
    let nodes = || sector.nodes(REPLICAS_MAX).enumerate();
    nodes().any(|(at, node)| nodes().any(|(earlier, other)| earlier < at && other == node))
}

fn encode_member(member: &Member, out: &mut Writer) {
    out.text(&member.addr);
    out.u128(member.disk_uuid.0);
    out.text(&member.zone);
    out.u16(member.weight);
    out.u8(member_state_byte(member.state));
}

fn decode_member(reader: &mut Reader) -> Result<Member, DecodeError> {
    Ok(Member {
        addr: reader.text("address", ADDR_BYTES_MAX)?,
        disk_uuid: DiskUuid(reader.u128()?),
        zone: reader.text("zone", ZONE_BYTES_MAX)?,
        weight: reader.u16()?,
        state: member_state(reader.u8()?)?,
    })
}

pub(crate) fn member_state_byte(state: MemberState) -> u8 {
    match state {
        MemberState::Joining => 1,
        MemberState::Normal => 2,
        MemberState::Leaving => 3,
        MemberState::Left => 4,
        MemberState::Waiting => 5,
        MemberState::Lost => 6,
        MemberState::Removed => 7,
    }
}

pub(crate) fn member_state(byte: u8) -> Result<MemberState, DecodeError> {
    match byte {
        1 => Ok(MemberState::Joining),
        2 => Ok(MemberState::Normal),
        3 => Ok(MemberState::Leaving),
        4 => Ok(MemberState::Left),
        5 => Ok(MemberState::Waiting),
        6 => Ok(MemberState::Lost),
        7 => Ok(MemberState::Removed),
        _ => Err(DecodeError::Invalid("member state")),
    }
}

pub(crate) fn encode_settings(settings: &KeyspaceSettings, out: &mut Writer) {
    out.u8(settings.n);
    out.u8(settings.r);
    out.u8(settings.w);
    out.u8(match settings.conflict {
        Conflict::Lww => 1,
        Conflict::Siblings => 2,
    });
    out.u8(match settings.durability {
        Durability::Sync => 1,
        Durability::Os => 2,
        Durability::Memory => 3,
    });
}

pub(crate) fn decode_settings(reader: &mut Reader) -> Result<KeyspaceSettings, DecodeError> {
    let (n, r, w) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let conflict = match reader.u8()? {
        1 => Conflict::Lww,
        2 => Conflict::Siblings,
        _ => return Err(DecodeError::Invalid("conflict policy")),
    };
    let durability = match reader.u8()? {
        1 => Durability::Sync,
        2 => Durability::Os,
        3 => Durability::Memory,
        _ => return Err(DecodeError::Invalid("durability")),
    };
    Ok(KeyspaceSettings { n, r, w, conflict, durability })
}

pub(crate) fn encode_change(change: &Change, out: &mut Writer) {
    match *change {
        Change::Join(node) => {
            out.u8(1);
            out.u32(node.0);
        }
        Change::Leave(node) => {
            out.u8(2);
            out.u32(node.0);
        }
        Change::Replace { dead, by } => {
            out.u8(3);
            out.u32(dead.0);
            out.u32(by.map_or(0, |by| by.0));
        }
        Change::Move { to, first, last } => {
            out.u8(4);
            out.u32(to.0);
            out.u16(first.0);
            out.u16(last.0);
        }
        Change::Weight { node, weight } => {
            out.u8(5);
            out.u32(node.0);
            out.u16(weight);
        }
    }
}

pub(crate) fn decode_change(reader: &mut Reader) -> Result<Change, DecodeError> {
    Ok(match reader.u8()? {
        1 => Change::Join(NodeId(reader.u32()?)),
        2 => Change::Leave(NodeId(reader.u32()?)),
        3 => {
            let (dead, by) = (NodeId(reader.u32()?), NodeId(reader.u32()?));
            Change::Replace { dead, by: Some(by).filter(|&by| by != NodeId(0)) }
        }
        4 => Change::Move {
            to: NodeId(reader.u32()?),
            first: SectorId(reader.u16()?),
            last: SectorId(reader.u16()?),
        },
        5 => Change::Weight { node: NodeId(reader.u32()?), weight: reader.u16()? },
        _ => return Err(DecodeError::Invalid("change")),
    })
}

fn encode_sector(sector: &Sector, out: &mut Writer) {
    out.u64(sector.conf_epoch.0);
    out.u8(u8::try_from(sector.slots.len()).unwrap_or(u8::MAX));
    for slot in &sector.slots {
        match *slot {
            Slot::Settled(node) => {
                out.u8(1);
                out.u32(node.0);
            }
            Slot::Moving { old, new, since } => {
                out.u8(2);
                out.u32(old.0);
                out.u32(new.0);
                out.u64(since.0);
            }
        }
    }
}

fn decode_sector(reader: &mut Reader, n: u8, format: u16) -> Result<Sector, DecodeError> {
    let conf_epoch = Epoch(reader.u64()?);
    let count = reader.u8()?;
    if count > n {
        return Err(DecodeError::Invalid("slot count"));
    }
    let mut slots = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        slots.push(match reader.u8()? {
            1 => Slot::Settled(NodeId(reader.u32()?)),
            2 => Slot::Moving {
                old: NodeId(reader.u32()?),
                new: NodeId(reader.u32()?),
                since: if format == FORMAT { Epoch(reader.u64()?) } else { conf_epoch },
            },
            _ => return Err(DecodeError::Invalid("slot")),
        });
    }
    Ok(Sector { conf_epoch, slots })
}
