//! Between a client and a node, or a client and the manager.
//!
//! Data requests are the ones a node may hand on to a coordinator, so they stand in an enum of
//! their own ([`DataRequest`]); everything else is answered by whoever is asked.

use super::Message;
use super::codec::{DecodeError, Reader, Writer};
use super::object::{decode_context, decode_dot, encode_context, encode_dot};
use super::peer::Worth;
use super::table::{decode_settings, encode_settings, member_state, member_state_byte};
use crate::limits::{
    ADDR_BYTES_MAX, DUMP_ENTRIES_MAX, KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, MANAGER_BODY_BYTES_MAX,
    MEMBERS_MAX, SIBLINGS_DECODED_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::ring::{KeyspaceSettings, MemberState};
use crate::types::{
    ClientId, ClusterId, Dot, Epoch, Incarnation, Key, KeyspaceId, NodeId, OpId, SectorId, Stamp,
};
use crate::version::{Content, Context};
use bytes::Bytes;
use std::fmt;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientRequest {
    /// Read or write a key. Nodes only.
    Data {
        /// How long it is worth.
        worth: Worth,
        /// What is asked.
        request: DataRequest,
    },
    /// Which node should I talk to? The manager names them in turn; a node names itself.
    Contact,
    /// Your table, if newer than this epoch.
    Table {
        /// The epoch held; 0 for none.
        known: Epoch,
    },
    /// How is the cluster, as you see it?
    Status,
    /// What do you hold? Nodes only; a page at a time.
    Dump {
        /// The keyspace.
        keyspace: String,
        /// Sector and key after which to go on; none to begin.
        after: Option<(SectorId, Key)>,
    },
    /// Make a keyspace. The manager only. Repeating it with equal settings is harmless.
    CreateKeyspace {
        /// Its name.
        name: String,
        /// Its settings.
        settings: KeyspaceSettings,
    },
}

/// A read or write of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataRequest {
    /// Read.
    Get {
        /// Key and terms.
        terms: Terms,
    },
    /// Write a value, or delete.
    Put {
        /// Key and terms.
        terms: Terms,
        /// The write.
        write: Write,
    },
}

/// Whose key, and on what terms.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Keyspace by name; empty for `default`.
    pub keyspace: String,
    /// The key.
    pub key: Key,
    /// R or W for this request; 0 for the keyspace's.
    pub quorum: u8,
    /// The asker holds a table and wants to be told if this node is no owner.
    pub direct: bool,
    /// Tell what each node did.
    pub trace: bool,
}

/// A client's write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The value, or a tombstone to delete.
    pub content: Content,
    /// What the client saw and means to replace. Kept by every attempt.
    pub context: Option<Context>,
    /// The write's name. Kept by every attempt.
    pub op: OpId,
    /// 0 the first time; counted up whenever an earlier attempt may have been applied.
    pub attempt: u8,
    /// The client's hybrid clock when it first asked. Kept by every attempt.
    pub stamp: Stamp,
}

/// The answer to a data request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataReply {
    /// Who answered, and on whose word.
    pub by: Provenance,
    /// What came of it.
    pub result: DataResult,
}

/// What came of a data request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataResult {
    /// The write is durable at W slots. The context is the request's own and the new write, unless
    /// that would cover a sibling which the client has not seen.
    Stored {
        /// For the client's next write of this key.
        context: Context,
    },
    /// Values: one, or several concurrent ones in a `siblings` keyspace.
    Found {
        /// The values.
        values: Vec<Version>,
        /// For the client's next write of this key.
        context: Context,
    },
    /// Nothing there, or deleted.
    Missing {
        /// What is known of the key, tombstones included; empty if nothing.
        context: Context,
    },
    /// Not done, or not known to be.
    Refused(Reason),
}

/// One value of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The write that made it.
    pub dot: Dot,
    /// Its stamp.
    pub stamp: Stamp,
    /// The value.
    pub value: Bytes,
}

/// Who answered, and how many replica slots stood behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Provenance {
    /// The coordinator; 0 if it never came to one.
    pub coordinator: NodeId,
    /// Slots that answered in time.
    pub answered: u8,
    /// Slots needed.
    pub needed: u8,
    /// Slots there are.
    pub slots: u8,
    /// What each node did, if that was asked for.
    pub trace: Vec<TraceStep>,
}

/// Why a data request was not answered with data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The cluster has fewer members than copies to make.
    NotServing {
        /// Members there are.
        members: u16,
        /// Members needed.
        needed: u8,
    },
    /// Too few owners could be reached: nothing was written.
    NoQuorum,
    /// The write was sent out, but too few owners confirmed it in time.
    Unconfirmed,
    /// Too much work in hand: nothing was begun.
    Overloaded,
    /// The request was past its deadline before it was begun.
    Expired,
    /// Keys have at least one byte.
    EmptyKey,
    /// The key is over the limit.
    KeyTooLong {
        /// The limit in bytes.
        max: u32,
    },
    /// The value is over the limit.
    ValueTooLarge {
        /// The limit in bytes.
        max: u32,
    },
    /// The key has as many concurrent siblings as it may: read, settle, and write with the context.
    TooManySiblings {
        /// The limit.
        max: u16,
    },
    /// No keyspace of this name.
    UnknownKeyspace,
    /// R or W of the request is not between 1 and N.
    BadQuorum {
        /// N of the keyspace.
        n: u8,
    },
    /// This node does not own the key: your table is old. Its own epoch is given.
    NotOwner(Epoch),
    /// The manager is not on the data path: ask a node.
    NotOnDataPath,
    /// The process is stopping.
    Stopping,
}

/// The four outcomes of a write (CONSISTENCY.md, section 1), of which `Ok` is not a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Provably not applied.
    Failed,
    /// May or may not have been applied.
    Unknown,
    /// Not applied, because of what is there already.
    Conflict,
}

/// One node's part in a traced request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceStep {
    /// The node.
    pub node: NodeId,
    /// In which role.
    pub role: TraceRole,
    /// When it was asked, in microseconds from its asker's start.
    pub asked_us: u32,
    /// When its answer was there, on the same clock; none if it did not answer in time.
    pub answered_us: Option<u32>,
    /// The dots it stored or held.
    pub dots: Vec<Dot>,
}

/// A node's role in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceRole {
    /// Took the request from the client.
    Forwarder,
    /// Ran the quorum.
    Coordinator,
    /// Stored or held one copy.
    Replica,
}

/// What is answered to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientReply {
    /// To a data request.
    Data(DataReply),
    /// Nodes to talk to, the preferred one first.
    Contact(ContactInfo),
    /// A table, newer than the one known.
    Table(Bytes),
    /// The table known is the latest.
    TableIsCurrent(Epoch),
    /// The cluster.
    Status(ClusterStatus),
    /// A page of what a node holds.
    Dump {
        /// The entries, in sector and key order.
        entries: Vec<DumpEntry>,
        /// Where to go on; none at the end.
        next: Option<(SectorId, Key)>,
    },
    /// The keyspace exists, durably.
    KeyspaceCreated(KeyspaceId),
    /// It could not be done; why, and what to do.
    Error(String),
}

/// Where a client can go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContactInfo {
    /// A short number for display, counted up by whoever answers.
    pub client_number: u32,
    /// The answerer's clock, for the client to follow.
    pub stamp: Stamp,
    /// Nodes and their addresses, the preferred one first.
    pub nodes: Vec<(NodeId, String)>,
}

/// The cluster as one process sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterStatus {
    /// Who says so: a node, or 0 for the manager.
    pub observer: NodeId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The observer's table.
    pub epoch: Epoch,
    /// Copies per sector.
    pub n: u8,
    /// Q.
    pub sectors: u16,
    /// Whether sectors have owners.
    pub serving: bool,
    /// Sectors that are moving.
    pub moving: u16,
    /// A row per member that has not left.
    pub nodes: Vec<NodeStatus>,
}

/// One node, as the observer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Where it listens.
    pub addr: String,
    /// Failure domain.
    pub zone: String,
    /// Its standing in the table.
    pub state: MemberState,
    /// Whether it answers the observer.
    pub up: bool,
    /// Sectors it holds, and those it is first in.
    pub sectors: (u16, u16),
    /// Epoch of its table.
    pub epoch: Epoch,
    /// Its life.
    pub incarnation: Incarnation,
    /// Keys held, tombstones not counted.
    pub keys: u64,
    /// Bytes of keys and values held.
    pub bytes: u64,
    /// Requests it is working on.
    pub pending: u32,
}

/// One key, as a node holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpEntry {
    /// Its sector.
    pub sector: SectorId,
    /// The key.
    pub key: Key,
    /// Its siblings: dot, stamp, and the value's length; none for a tombstone.
    pub siblings: Vec<(Dot, Stamp, Option<u32>)>,
}

impl DataRequest {
    /// Key and terms.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        match self {
            DataRequest::Get { terms } | DataRequest::Put { terms, .. } => terms,
        }
    }

    /// Key and terms, to change.
    pub fn terms_mut(&mut self) -> &mut Terms {
        match self {
            DataRequest::Get { terms } | DataRequest::Put { terms, .. } => terms,
        }
    }

    /// Copies key and value into allocations of their own, out of the receive buffer.
    pub fn detach(&mut self) {
        let terms = self.terms_mut();
        terms.key = Bytes::copy_from_slice(&terms.key);
        if let DataRequest::Put { write: Write { content: Content::Value(value), .. }, .. } = self {
            *value = Bytes::copy_from_slice(value);
        }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let value = match self {
            DataRequest::Put { write: Write { content: Content::Value(value), .. }, .. } => value.len(),
            DataRequest::Put { .. } | DataRequest::Get { .. } => 0,
        };
        self.terms().key.len() + value
    }
}

impl DataReply {
    /// A refusal by a node that never came to coordinate.
    #[must_use]
    pub fn refused(reason: Reason) -> Self {
        Self { by: Provenance::default(), result: DataResult::Refused(reason) }
    }
}

impl Reason {
    /// What it says of the write.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Reason::Unconfirmed => Outcome::Unknown,
            Reason::TooManySiblings { .. } => Outcome::Conflict,
            Reason::NotServing { .. }
            | Reason::NoQuorum
            | Reason::Overloaded
            | Reason::Expired
            | Reason::EmptyKey
            | Reason::KeyTooLong { .. }
            | Reason::ValueTooLarge { .. }
            | Reason::UnknownKeyspace
            | Reason::BadQuorum { .. }
            | Reason::NotOwner(_)
            | Reason::NotOnDataPath
            | Reason::Stopping => Outcome::Failed,
        }
    }

    /// Whether asking another node, or again a little later, may bring another answer.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Reason::NoQuorum
            | Reason::Overloaded
            | Reason::NotOwner(_)
            | Reason::NotServing { .. }
            | Reason::Stopping => true,
            Reason::Unconfirmed
            | Reason::Expired
            | Reason::EmptyKey
            | Reason::KeyTooLong { .. }
            | Reason::ValueTooLarge { .. }
            | Reason::TooManySiblings { .. }
            | Reason::UnknownKeyspace
            | Reason::BadQuorum { .. }
            | Reason::NotOnDataPath => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotServing { members, needed } => write!(
                f,
                "the cluster has {members} of the {needed} members it needs; start more storage nodes"
            ),
            Reason::NoQuorum => f.write_str(
                "too few owners of the key could be reached; nothing was written; see `gtstore status`",
            ),
            Reason::Unconfirmed => f.write_str(
                "too few owners confirmed in time; the write may or may not have happened; read the key before repeating it",
            ),
            Reason::Overloaded => f.write_str("the node has too much work in hand; nothing was begun; try again later"),
            Reason::Expired => f.write_str("the request was past its deadline before it was begun; allow it more time"),
            Reason::EmptyKey => f.write_str("the key is empty; keys have at least 1 byte"),
            Reason::KeyTooLong { max } => write!(f, "the key is over the limit of {max} bytes"),
            Reason::ValueTooLarge { max } => write!(f, "the value is over the limit of {max} bytes"),
            Reason::TooManySiblings { max } => write!(
                f,
                "the key has its limit of {max} concurrent values or their bytes; read it, settle them, and write with the context"
            ),
            Reason::UnknownKeyspace => f.write_str("there is no such keyspace; see `gtstore keyspace list`"),
            Reason::BadQuorum { n } => write!(f, "R and W must be between 1 and the keyspace's {n} copies"),
            Reason::NotOwner(epoch) => write!(f, "this node does not own the key in the table of epoch {epoch}"),
            Reason::NotOnDataPath => f.write_str("the manager neither reads nor writes keys; ask a storage node"),
            Reason::Stopping => f.write_str("the node is stopping; ask another"),
        }
    }
}

const DATA: u8 = 0x11;
const CONTACT: u8 = 0x12;
const TABLE_REQUEST: u8 = 0x13;
const STATUS: u8 = 0x14;
const DUMP: u8 = 0x15;
const CREATE_KEYSPACE: u8 = 0x16;

const DATA_REPLY: u8 = 0x21;
const CONTACT_REPLY: u8 = 0x22;
const TABLE_REPLY: u8 = 0x23;
const TABLE_IS_CURRENT: u8 = 0x24;
const STATUS_REPLY: u8 = 0x25;
const DUMP_REPLY: u8 = 0x26;
const KEYSPACE_CREATED: u8 = 0x27;
const ERROR: u8 = 0x28;

const DIRECT: u8 = 1;
const TRACE: u8 = 2;

const TRACE_STEPS_MAX: usize = 64;
const ZONE_BYTES_MAX: usize = 64;

impl Message for ClientRequest {
    fn kind(&self) -> u8 {
        match self {
            ClientRequest::Data { .. } => DATA,
            ClientRequest::Contact => CONTACT,
            ClientRequest::Table { .. } => TABLE_REQUEST,
            ClientRequest::Status => STATUS,
            ClientRequest::Dump { .. } => DUMP,
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
            ClientRequest::Contact | ClientRequest::Status => {}
            ClientRequest::Table { known } => out.u64(known.0),
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
            DATA => ClientRequest::Data {
                worth: Worth { ttl_ms: reader.u32()?, sent_us: reader.u64()? },
                request: DataRequest::decode_tagged(&mut reader)?,
            },
            CONTACT => ClientRequest::Contact,
            TABLE_REQUEST => ClientRequest::Table { known: Epoch(reader.u64()?) },
            STATUS => ClientRequest::Status,
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
    out.u8(if terms.direct { DIRECT } else { 0 } | if terms.trace { TRACE } else { 0 });
}

fn decode_terms(reader: &mut Reader) -> Result<Terms, DecodeError> {
    let keyspace = reader.text("keyspace name", KEYSPACE_NAME_BYTES_MAX)?;
    // Well above the limit on keys, so that one over it is a refusal and not a broken connection.
    let key = reader.bytes("key", 64 * KEY_BYTES_MAX)?;
    let quorum = reader.u8()?;
    let flags = reader.u8()?;
    if flags & !(DIRECT | TRACE) != 0 {
        return Err(DecodeError::Invalid("terms flags"));
    }
    Ok(Terms { keyspace, key, quorum, direct: flags & DIRECT != 0, trace: flags & TRACE != 0 })
}

fn encode_client_write(write: &Write, out: &mut Writer) {
    out.u128(write.op.client.0);
    out.u64(write.op.seq);
    out.u8(write.attempt);
    out.u64(write.stamp.0);
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
    let context = if reader.bool("context flag")? { Some(decode_context(reader)?) } else { None };
    let content = match reader.u8()? {
        0 => Content::Tombstone,
        // As for keys: a little over the limit is refused in words.
        1 => Content::Value(reader.bytes("value", 2 * VALUE_BYTES_MAX)?),
        _ => return Err(DecodeError::Invalid("content")),
    };
    Ok(Write { content, context, op, attempt, stamp })
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
                let count = reader.count("values", SIBLINGS_DECODED_MAX, 28)?;
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    let (dot, stamp) = (decode_dot(reader)?, Stamp(reader.u64()?));
                    values.push(Version { dot, stamp, value: reader.bytes("value", VALUE_BYTES_MAX)? });
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
    out.u8(by.needed);
    out.u8(by.slots);
    out.count(by.trace.len());
    for step in &by.trace {
        out.u32(step.node.0);
        out.u8(match step.role {
            TraceRole::Forwarder => 1,
            TraceRole::Coordinator => 2,
            TraceRole::Replica => 3,
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
    let (answered, needed, slots) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let count = reader.count("trace", TRACE_STEPS_MAX, 17)?;
    let mut trace = Vec::with_capacity(count);
    for _ in 0..count {
        let node = NodeId(reader.u32()?);
        let role = match reader.u8()? {
            1 => TraceRole::Forwarder,
            2 => TraceRole::Coordinator,
            3 => TraceRole::Replica,
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
    Ok(Provenance { coordinator, answered, needed, slots, trace })
}

/// A reason is an ordinal and one number, unused by most.
fn encode_reason(reason: Reason, out: &mut Writer) {
    let (ordinal, number) = match reason {
        Reason::NotServing { members, needed } => (1, u64::from(members) << 8 | u64::from(needed)),
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
            members: u16::try_from(number >> 8).map_err(|_| DecodeError::Invalid("members"))?,
            needed: number.to_le_bytes()[0],
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
            ClientReply::Status(status) => encode_status(status, out),
            ClientReply::Dump { entries, next } => {
                out.count(entries.len());
                for entry in entries {
                    encode_dump_entry(entry, out);
                }
                encode_cursor(next.as_ref(), out);
            }
            ClientReply::KeyspaceCreated(id) => out.u16(id.0),
            ClientReply::Error(text) => out.text(text),
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
        out.bool(row.up);
        out.u16(row.sectors.0);
        out.u16(row.sectors.1);
        out.u64(row.epoch.0);
        out.u32(row.incarnation.0);
        out.u64(row.keys);
        out.u64(row.bytes);
        out.u32(row.pending);
    }
}

fn decode_status(reader: &mut Reader) -> Result<ClusterStatus, DecodeError> {
    let observer = NodeId(reader.u32()?);
    let cluster_id = ClusterId(reader.u128()?);
    let epoch = Epoch(reader.u64()?);
    let (n, sectors, serving, moving) = (reader.u8()?, reader.u16()?, reader.bool("serving")?, reader.u16()?);
    let count = reader.count("status rows", MEMBERS_MAX, 50)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(NodeStatus {
            node: NodeId(reader.u32()?),
            addr: reader.text("address", ADDR_BYTES_MAX)?,
            zone: reader.text("zone", ZONE_BYTES_MAX)?,
            state: member_state(reader.u8()?)?,
            up: reader.bool("up")?,
            sectors: (reader.u16()?, reader.u16()?),
            epoch: Epoch(reader.u64()?),
            incarnation: Incarnation(reader.u32()?),
            keys: reader.u64()?,
            bytes: reader.u64()?,
            pending: reader.u32()?,
        });
    }
    Ok(ClusterStatus { observer, cluster_id, epoch, n, sectors, serving, moving, nodes })
}
