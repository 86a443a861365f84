//! The bytes of the messages between a client and a node or the manager.
//!
//! Pure translation; called by way of [`Message`] only, and by `wire::peer` for the data requests
//! and replies that nodes hand on.

use super::membership::{
    decode_command, decode_plan, decode_transfers, encode_command, encode_plan, encode_transfers,
};
use super::{
    ClientReply, ClientRequest, ClusterStatus, ContactInfo, DataReply, DataRequest, DataResult, DumpEntry,
    HintStatus, NodeStatus, Provenance, Reason, RepairStatus, Terms, TraceRole, TraceStep, Version, Write,
};
use crate::limits::{
    ADDR_BYTES_MAX, DUMP_ENTRIES_MAX, KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, MANAGER_BODY_BYTES_MAX,
    MEMBERS_MAX, SIBLINGS_DECODED_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::types::{
    ClientId, ClusterId, Epoch, Health, Incarnation, Key, KeyspaceId, NodeId, OpId, SectorId, Stamp, WallMs,
};
use crate::version::Content;
use crate::wire::Message;
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::object::{decode_context, decode_dot, encode_context, encode_dot};
use crate::wire::peer::Worth;
use crate::wire::table::{decode_settings, encode_settings, member_state, member_state_byte};
use crate::wire::vitals::{VITALS_BYTES, decode_vitals, encode_vitals};
use bytes::Bytes;

pub(crate) const DATA_REQUEST: u8 = 0x11;
const CONTACT: u8 = 0x12;
const TABLE_REQUEST: u8 = 0x13;
const STATUS: u8 = 0x14;
const DUMP: u8 = 0x15;
const CREATE_KEYSPACE: u8 = 0x16;
const HINTS: u8 = 0x17;
const FAULTS: u8 = 0x18;
const REPAIR: u8 = 0x19;
const CLUSTER: u8 = 0x1a;
const TRANSFERS: u8 = 0x1b;

const DATA_REPLY: u8 = 0x21;
const CONTACT_REPLY: u8 = 0x22;
const TABLE_REPLY: u8 = 0x23;
const TABLE_IS_CURRENT: u8 = 0x24;
const STATUS_REPLY: u8 = 0x25;
const DUMP_REPLY: u8 = 0x26;
const KEYSPACE_CREATED: u8 = 0x27;
const ERROR: u8 = 0x28;
const HINTS_REPLY: u8 = 0x29;
const FAULTS_SET: u8 = 0x2a;
const REPAIR_REPLY: u8 = 0x2b;
const PLAN_REPLY: u8 = 0x2c;
const TRANSFERS_REPLY: u8 = 0x2d;

const DIRECT: u8 = 1;
const TRACE: u8 = 2;
const STRICT: u8 = 4;

const TRACE_STEPS_MAX: usize = 64;
const ZONE_BYTES_MAX: usize = 64;

impl Message for ClientRequest {
    fn kind(&self) -> u8 {
        match self {
            ClientRequest::Data { .. } => DATA_REQUEST,
            ClientRequest::Contact => CONTACT,
            ClientRequest::Table { .. } => TABLE_REQUEST,
            ClientRequest::Status => STATUS,
            ClientRequest::Dump { .. } => DUMP,
            ClientRequest::Hints => HINTS,
            ClientRequest::Repair { .. } => REPAIR,
            ClientRequest::Cluster(_) => CLUSTER,
            ClientRequest::Transfers => TRANSFERS,
            ClientRequest::Faults { .. } => FAULTS,
            ClientRequest::CreateKeyspace { .. } => CREATE_KEYSPACE,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            ClientRequest::Data { worth, request } => {
                out.u32(worth.ttl_ms);
                out.u64(worth.sent_us);
                request.encode_tagged(out);
            }
            ClientRequest::Contact
            | ClientRequest::Status
            | ClientRequest::Hints
            | ClientRequest::Transfers => {}
            ClientRequest::Cluster(command) => encode_command(command, out),
            ClientRequest::Table { known } => out.u64(known.0),
            ClientRequest::Repair { begin, sector } => {
                out.bool(*begin);
                out.bool(sector.is_some());
                if let Some(sector) = sector {
                    out.u16(sector.0);
                }
            }
            ClientRequest::Faults { drop_from } => {
                out.count(drop_from.len());
                drop_from.iter().for_each(|node| out.u32(node.0));
            }
            ClientRequest::Dump { keyspace, after } => {
                out.text(keyspace);
                encode_cursor(after.as_ref(), out);
            }
            ClientRequest::CreateKeyspace { name, settings } => {
                out.text(name);
                encode_settings(settings, out);
            }
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            DATA_REQUEST => ClientRequest::Data {
                worth: Worth { ttl_ms: reader.u32()?, sent_us: reader.u64()? },
                request: DataRequest::decode_tagged(&mut reader)?,
            },
            CONTACT => ClientRequest::Contact,
            TABLE_REQUEST => ClientRequest::Table { known: Epoch(reader.u64()?) },
            STATUS => ClientRequest::Status,
            HINTS => ClientRequest::Hints,
            TRANSFERS => ClientRequest::Transfers,
            CLUSTER => ClientRequest::Cluster(decode_command(&mut reader)?),
            REPAIR => {
                let (begin, is_one) = (reader.bool("begin flag")?, reader.bool("sector flag")?);
                let sector = if is_one { Some(SectorId(reader.u16()?)) } else { None };
                ClientRequest::Repair { begin, sector }
            }
            FAULTS => {
                let count = reader.count("nodes", MEMBERS_MAX, 4)?;
                let nodes = (0..count).map(|_| reader.u32().map(NodeId));
                ClientRequest::Faults { drop_from: nodes.collect::<Result<_, _>>()? }
            }
            DUMP => ClientRequest::Dump {
                keyspace: reader.text("keyspace name", KEYSPACE_NAME_BYTES_MAX)?,
                after: decode_cursor(&mut reader)?,
            },
            CREATE_KEYSPACE => ClientRequest::CreateKeyspace {
                name: reader.text("keyspace name", KEYSPACE_NAME_BYTES_MAX)?,
                settings: decode_settings(&mut reader)?,
            },
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl DataRequest {
    pub(crate) fn encode_tagged(&self, out: &mut Writer) {
        match self {
            DataRequest::Get { terms } => {
                out.u8(1);
                encode_terms(terms, out);
            }
            DataRequest::Put { terms, write } => {
                out.u8(2);
                encode_terms(terms, out);
                encode_client_write(write, out);
            }
        }
    }

    pub(crate) fn decode_tagged(reader: &mut Reader) -> Result<Self, DecodeError> {
        match reader.u8()? {
            1 => Ok(DataRequest::Get { terms: decode_terms(reader)? }),
            2 => Ok(DataRequest::Put { terms: decode_terms(reader)?, write: decode_client_write(reader)? }),
            _ => Err(DecodeError::Invalid("data request")),
        }
    }
}

fn encode_terms(terms: &Terms, out: &mut Writer) {
    out.text(&terms.keyspace);
    out.bytes(&terms.key);
    out.u8(terms.quorum);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.u8(flag(terms.direct, DIRECT) | flag(terms.trace, TRACE) | flag(terms.strict, STRICT));
}

fn decode_terms(reader: &mut Reader) -> Result<Terms, DecodeError> {
    let keyspace = reader.text("keyspace name", KEYSPACE_NAME_BYTES_MAX)?;
    // Well above the limit on keys, so that one over it is a refusal and not a broken connection.
    let key = reader.bytes("key", 64 * KEY_BYTES_MAX)?;
    let quorum = reader.u8()?;
    let flags = reader.u8()?;
    if flags & !(DIRECT | TRACE | STRICT) != 0 {
        return Err(DecodeError::Invalid("terms flags"));
    }
    let has = |flag: u8| flags & flag != 0;
    Ok(Terms { keyspace, key, quorum, direct: has(DIRECT), strict: has(STRICT), trace: has(TRACE) })
}

fn encode_client_write(write: &Write, out: &mut Writer) {
    out.u128(write.op.client.0);
    out.u64(write.op.seq);
    out.u8(write.attempt);
    out.u64(write.stamp.0);
    out.u64(write.ttl_ms.unwrap_or(0));
    out.bool(write.context.is_some());
    if let Some(context) = &write.context {
        encode_context(context, out);
    }
    match &write.content {
        Content::Tombstone => out.u8(0),
        Content::Value(value) => {
            out.u8(1);
            out.value(value);
        }
    }
}

fn decode_client_write(reader: &mut Reader) -> Result<Write, DecodeError> {
    let op = OpId { client: ClientId(reader.u128()?), seq: reader.u64()? };
    let attempt = reader.u8()?;
    let stamp = Stamp(reader.u64()?);
    let ttl_ms = Some(reader.u64()?).filter(|&ttl_ms| ttl_ms > 0);
    let context = if reader.bool("context flag")? { Some(decode_context(reader)?) } else { None };
    let content = match reader.u8()? {
        0 => Content::Tombstone,
        // As for keys: a little over the limit is refused in words.
        1 => Content::Value(reader.bytes("value", 2 * VALUE_BYTES_MAX)?),
        _ => return Err(DecodeError::Invalid("content")),
    };
    Ok(Write { content, context, op, attempt, stamp, ttl_ms })
}

impl DataReply {
    pub(crate) fn encode_tagged(&self, out: &mut Writer) {
        encode_provenance(&self.by, out);
        match &self.result {
            DataResult::Stored { context } => {
                out.u8(1);
                encode_context(context, out);
            }
            DataResult::Found { values, context } => {
                out.u8(2);
                encode_context(context, out);
                out.count(values.len());
                for version in values {
                    encode_dot(version.dot, out);
                    out.u64(version.stamp.0);
                    out.u64(version.expiry.map_or(0, |at| at.0));
                    out.value(&version.value);
                }
            }
            DataResult::Missing { context } => {
                out.u8(3);
                encode_context(context, out);
            }
            DataResult::Refused(reason) => {
                out.u8(4);
                encode_reason(*reason, out);
            }
        }
    }

    pub(crate) fn decode_tagged(reader: &mut Reader) -> Result<Self, DecodeError> {
        let by = decode_provenance(reader)?;
        let result = match reader.u8()? {
            1 => DataResult::Stored { context: decode_context(reader)? },
            2 => {
                let context = decode_context(reader)?;
                let count = reader.count("values", SIBLINGS_DECODED_MAX, 36)?;
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    let (dot, stamp) = (decode_dot(reader)?, Stamp(reader.u64()?));
                    let expiry = Some(reader.u64()?).filter(|&at| at > 0).map(WallMs);
                    let value = reader.bytes("value", VALUE_BYTES_MAX)?;
                    values.push(Version { dot, stamp, expiry, value });
                }
                DataResult::Found { values, context }
            }
            3 => DataResult::Missing { context: decode_context(reader)? },
            4 => DataResult::Refused(decode_reason(reader)?),
            _ => return Err(DecodeError::Invalid("data result")),
        };
        Ok(Self { by, result })
    }
}

fn encode_provenance(by: &Provenance, out: &mut Writer) {
    out.u32(by.coordinator.0);
    out.u8(by.answered);
    out.u8(by.fallbacks);
    out.u8(by.needed);
    out.u8(by.slots);
    out.count(by.trace.len());
    for step in &by.trace {
        out.u32(step.node.0);
        out.u8(match step.role {
            TraceRole::Forwarder => 1,
            TraceRole::Coordinator => 2,
            TraceRole::Replica => 3,
            TraceRole::Fallback => 4,
        });
        out.u32(step.asked_us);
        out.u32(step.answered_us.unwrap_or(u32::MAX));
        out.count(step.dots.len());
        for &dot in &step.dots {
            encode_dot(dot, out);
        }
    }
}

fn decode_provenance(reader: &mut Reader) -> Result<Provenance, DecodeError> {
    let coordinator = NodeId(reader.u32()?);
    let (answered, fallbacks) = (reader.u8()?, reader.u8()?);
    let (needed, slots) = (reader.u8()?, reader.u8()?);
    let count = reader.count("trace", TRACE_STEPS_MAX, 17)?;
    let mut trace = Vec::with_capacity(count);
    for _ in 0..count {
        let node = NodeId(reader.u32()?);
        let role = match reader.u8()? {
            1 => TraceRole::Forwarder,
            2 => TraceRole::Coordinator,
            3 => TraceRole::Replica,
            4 => TraceRole::Fallback,
            _ => return Err(DecodeError::Invalid("trace role")),
        };
        let asked_us = reader.u32()?;
        let answered_us = Some(reader.u32()?).filter(|&at| at != u32::MAX);
        let dot_count = reader.count("trace dots", SIBLINGS_DECODED_MAX, 16)?;
        let mut dots = Vec::with_capacity(dot_count);
        for _ in 0..dot_count {
            dots.push(decode_dot(reader)?);
        }
        trace.push(TraceStep { node, role, asked_us, answered_us, dots });
    }
    Ok(Provenance { coordinator, answered, fallbacks, needed, slots, trace })
}

/// A reason is an ordinal and one number, unused by most.
fn encode_reason(reason: Reason, out: &mut Writer) {
    let (ordinal, number) = match reason {
        Reason::NotServing { members, needed } => (1, u64::from(members) << 16 | u64::from(needed)),
        Reason::NoQuorum => (2, 0),
        Reason::Unconfirmed => (3, 0),
        Reason::Overloaded => (4, 0),
        Reason::Expired => (5, 0),
        Reason::EmptyKey => (6, 0),
        Reason::KeyTooLong { max } => (7, u64::from(max)),
        Reason::ValueTooLarge { max } => (8, u64::from(max)),
        Reason::TooManySiblings { max } => (9, u64::from(max)),
        Reason::UnknownKeyspace => (10, 0),
        Reason::BadQuorum { n } => (11, u64::from(n)),
        Reason::NotOwner(epoch) => (12, epoch.0),
        Reason::NotOnDataPath => (13, 0),
        Reason::Stopping => (14, 0),
        Reason::DiskFull { node } => (15, u64::from(node.0)),
        Reason::Unreadable { copies } => (16, u64::from(copies)),
    };
    out.u8(ordinal);
    out.u64(number);
}

fn decode_reason(reader: &mut Reader) -> Result<Reason, DecodeError> {
    let ordinal = reader.u8()?;
    let number = reader.u64()?;
    let small = |field| u32::try_from(number).map_err(|_| DecodeError::Invalid(field));
    let reason = match ordinal {
        1 => Reason::NotServing {
            members: u16::try_from(number >> 16).map_err(|_| DecodeError::Invalid("members"))?,
            needed: u16::try_from(number & 0xffff).map_err(|_| DecodeError::Invalid("members"))?,
        },
        2 => Reason::NoQuorum,
        3 => Reason::Unconfirmed,
        4 => Reason::Overloaded,
        5 => Reason::Expired,
        6 => Reason::EmptyKey,
        7 => Reason::KeyTooLong { max: small("key limit")? },
        8 => Reason::ValueTooLarge { max: small("value limit")? },
        9 => Reason::TooManySiblings {
            max: u16::try_from(number).map_err(|_| DecodeError::Invalid("sibling limit"))?,
        },
        10 => Reason::UnknownKeyspace,
        11 => Reason::BadQuorum { n: u8::try_from(number).map_err(|_| DecodeError::Invalid("copies"))? },
        12 => Reason::NotOwner(Epoch(number)),
        13 => Reason::NotOnDataPath,
        14 => Reason::Stopping,
        15 => Reason::DiskFull { node: NodeId(small("node")?) },
        16 => {
            Reason::Unreadable { copies: u8::try_from(number).map_err(|_| DecodeError::Invalid("copies"))? }
        }
        _ => return Err(DecodeError::Invalid("reason")),
    };
    Ok(reason)
}

fn encode_cursor(cursor: Option<&(SectorId, Key)>, out: &mut Writer) {
    out.bool(cursor.is_some());
    if let Some((sector, key)) = cursor {
        out.u16(sector.0);
        out.bytes(key);
    }
}

fn decode_cursor(reader: &mut Reader) -> Result<Option<(SectorId, Key)>, DecodeError> {
    if !reader.bool("cursor flag")? {
        return Ok(None);
    }
    Ok(Some((SectorId(reader.u16()?), reader.bytes("key", KEY_BYTES_MAX)?)))
}

impl Message for ClientReply {
    fn kind(&self) -> u8 {
        match self {
            ClientReply::Data(_) => DATA_REPLY,
            ClientReply::Contact(_) => CONTACT_REPLY,
            ClientReply::Table(_) => TABLE_REPLY,
            ClientReply::TableIsCurrent(_) => TABLE_IS_CURRENT,
            ClientReply::Status(_) => STATUS_REPLY,
            ClientReply::Dump { .. } => DUMP_REPLY,
            ClientReply::Hints(_) => HINTS_REPLY,
            ClientReply::Repair(_) => REPAIR_REPLY,
            ClientReply::Plan(_) => PLAN_REPLY,
            ClientReply::Transfers(_) => TRANSFERS_REPLY,
            ClientReply::FaultsSet => FAULTS_SET,
            ClientReply::KeyspaceCreated(_) => KEYSPACE_CREATED,
            ClientReply::Error(_) => ERROR,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            ClientReply::Data(reply) => reply.encode_tagged(out),
            ClientReply::Contact(contact) => {
                out.u32(contact.client_number);
                out.u64(contact.stamp.0);
                out.count(contact.nodes.len());
                for (node, addr) in &contact.nodes {
                    out.u32(node.0);
                    out.text(addr);
                }
            }
            ClientReply::Table(bytes) => out.value(bytes),
            ClientReply::TableIsCurrent(epoch) => out.u64(epoch.0),
            ClientReply::Repair(status) => {
                let RepairStatus { compared, sent, fetched, missed, left } = *status;
                [compared, sent, fetched, missed, left].into_iter().for_each(|count| out.u64(count));
            }
            ClientReply::FaultsSet => {}
            ClientReply::Plan(plan) => encode_plan(plan, out),
            ClientReply::Transfers(rows) => encode_transfers(rows, out),
            ClientReply::Status(status) => encode_status(status, out),
            ClientReply::Hints(rows) => {
                out.count(rows.len());
                for row in rows {
                    out.u32(row.owed_to.0);
                    [row.hints, row.bytes, row.missed, row.delivered, row.dropped]
                        .into_iter()
                        .for_each(|n| out.u64(n));
                }
            }
            ClientReply::Dump { entries, next } => {
                out.count(entries.len());
                for entry in entries {
                    encode_dump_entry(entry, out);
                }
                encode_cursor(next.as_ref(), out);
            }
            ClientReply::KeyspaceCreated(id) => out.u16(id.0),
            ClientReply::Error(text) => out.short_text(text, TEXT_BYTES_MAX),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            DATA_REPLY => ClientReply::Data(DataReply::decode_tagged(&mut reader)?),
            CONTACT_REPLY => {
                let (client_number, stamp) = (reader.u32()?, Stamp(reader.u64()?));
                let count = reader.count("contact nodes", MEMBERS_MAX, 8)?;
                let mut nodes = Vec::with_capacity(count);
                for _ in 0..count {
                    nodes.push((NodeId(reader.u32()?), reader.text("address", ADDR_BYTES_MAX)?));
                }
                ClientReply::Contact(ContactInfo { client_number, stamp, nodes })
            }
            TABLE_REPLY => ClientReply::Table(reader.bytes("table", MANAGER_BODY_BYTES_MAX)?),
            TABLE_IS_CURRENT => ClientReply::TableIsCurrent(Epoch(reader.u64()?)),
            STATUS_REPLY => ClientReply::Status(decode_status(&mut reader)?),
            REPAIR_REPLY => ClientReply::Repair(RepairStatus {
                compared: reader.u64()?,
                sent: reader.u64()?,
                fetched: reader.u64()?,
                missed: reader.u64()?,
                left: reader.u64()?,
            }),
            PLAN_REPLY => ClientReply::Plan(decode_plan(&mut reader)?),
            TRANSFERS_REPLY => ClientReply::Transfers(decode_transfers(&mut reader)?),
            FAULTS_SET => ClientReply::FaultsSet,
            HINTS_REPLY => {
                let count = reader.count("hints", MEMBERS_MAX, 44)?;
                let rows = (0..count).map(|_| decode_hints(&mut reader));
                ClientReply::Hints(rows.collect::<Result<_, _>>()?)
            }
            DUMP_REPLY => {
                let count = reader.count("dump entries", DUMP_ENTRIES_MAX, 10)?;
                let mut entries = Vec::with_capacity(count);
                for _ in 0..count {
                    entries.push(decode_dump_entry(&mut reader)?);
                }
                ClientReply::Dump { entries, next: decode_cursor(&mut reader)? }
            }
            KEYSPACE_CREATED => ClientReply::KeyspaceCreated(KeyspaceId(reader.u16()?)),
            ERROR => ClientReply::Error(reader.text("error text", TEXT_BYTES_MAX)?),
            other => return Err(DecodeError::UnknownKind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn encode_dump_entry(entry: &DumpEntry, out: &mut Writer) {
    out.u16(entry.sector.0);
    out.bytes(&entry.key);
    out.count(entry.siblings.len());
    for &(dot, stamp, length) in &entry.siblings {
        encode_dot(dot, out);
        out.u64(stamp.0);
        out.u32(length.unwrap_or(u32::MAX));
    }
}

fn decode_dump_entry(reader: &mut Reader) -> Result<DumpEntry, DecodeError> {
    let sector = SectorId(reader.u16()?);
    let key = reader.bytes("key", KEY_BYTES_MAX)?;
    let count = reader.count("siblings", SIBLINGS_DECODED_MAX, 28)?;
    let mut siblings = Vec::with_capacity(count);
    for _ in 0..count {
        let (dot, stamp) = (decode_dot(reader)?, Stamp(reader.u64()?));
        siblings.push((dot, stamp, Some(reader.u32()?).filter(|&length| length != u32::MAX)));
    }
    Ok(DumpEntry { sector, key, siblings })
}

fn decode_hints(reader: &mut Reader) -> Result<HintStatus, DecodeError> {
    Ok(HintStatus {
        owed_to: NodeId(reader.u32()?),
        hints: reader.u64()?,
        bytes: reader.u64()?,
        missed: reader.u64()?,
        delivered: reader.u64()?,
        dropped: reader.u64()?,
    })
}

fn health_byte(health: Health) -> u8 {
    match health {
        Health::Up => 1,
        Health::Suspected => 2,
        Health::CutOff => 3,
        Health::Down => 4,
    }
}

fn health(byte: u8) -> Result<Health, DecodeError> {
    match byte {
        1 => Ok(Health::Up),
        2 => Ok(Health::Suspected),
        3 => Ok(Health::CutOff),
        4 => Ok(Health::Down),
        _ => Err(DecodeError::Invalid("health")),
    }
}

fn encode_status(status: &ClusterStatus, out: &mut Writer) {
    out.u32(status.observer.0);
    out.u128(status.cluster_id.0);
    out.u64(status.epoch.0);
    out.u8(status.n);
    out.u16(status.sectors);
    out.bool(status.serving);
    out.u16(status.moving);
    out.count(status.nodes.len());
    for row in &status.nodes {
        out.u32(row.node.0);
        out.text(&row.addr);
        out.text(&row.zone);
        out.u8(member_state_byte(row.state));
        out.u8(health_byte(row.health));
        out.u16(row.sectors.0);
        out.u16(row.sectors.1);
        out.u32(row.incarnation.0);
        encode_vitals(&row.vitals, out);
    }
}

fn decode_status(reader: &mut Reader) -> Result<ClusterStatus, DecodeError> {
    let observer = NodeId(reader.u32()?);
    let cluster_id = ClusterId(reader.u128()?);
    let epoch = Epoch(reader.u64()?);
    let (n, sectors, serving, moving) = (reader.u8()?, reader.u16()?, reader.bool("serving")?, reader.u16()?);
    let count = reader.count("status rows", MEMBERS_MAX, 22 + VITALS_BYTES)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(NodeStatus {
            node: NodeId(reader.u32()?),
            addr: reader.text("address", ADDR_BYTES_MAX)?,
            zone: reader.text("zone", ZONE_BYTES_MAX)?,
            state: member_state(reader.u8()?)?,
            health: health(reader.u8()?)?,
            sectors: (reader.u16()?, reader.u16()?),
            incarnation: Incarnation(reader.u32()?),
            vitals: decode_vitals(reader)?,
        });
    }
    Ok(ClusterStatus { observer, cluster_id, epoch, n, sectors, serving, moving, nodes })
}
