//! Between a client and a node, or a client and the manager.
//!
//! Data requests are the ones a node may hand on to a coordinator, so they stand in an enum of
//! their own ([`DataRequest`]); everything else is answered by whoever is asked. The messages are
//! here, their bytes in `encoding`.

mod encoding;
mod membership;

pub(crate) use encoding::DATA_REQUEST;
pub use membership::{ClusterCommand, ClusterPlan, PlanRow, TransferStatus};

use super::Vitals;
use super::peer::Worth;
use crate::ring::{KeyspaceSettings, MemberState};
use crate::types::{
    ClusterId, Dot, Epoch, Health, Incarnation, Key, KeyspaceId, NodeId, OpId, SectorId, Stamp, WallMs,
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
    /// What do you keep for nodes that are away? Nodes only.
    Hints,
    /// Compare your copies with the other owners at once, or say how far that has come. Nodes only.
    Repair {
        /// Begin now; one that is under way begins anew.
        begin: bool,
        /// Of this sector alone.
        sector: Option<SectorId>,
    },
    /// Change who the members are and what they own. The manager only.
    Cluster(ClusterCommand),
    /// Which copies of sectors are on their way from you? Nodes only.
    Transfers,
    /// Drop every message from and to these nodes, and no others, until told otherwise. For
    /// demonstrations; nodes that were not allowed to refuse it.
    Faults {
        /// Replaces the earlier list; empty to drop nothing.
        drop_from: Vec<NodeId>,
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
    /// Owners alone count toward the quorum, no fallbacks.
    pub strict: bool,
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
    /// How long the value is to be visible, in milliseconds; none for good. Counted from the
    /// coordinator's wall time.
    pub ttl_ms: Option<u64>,
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
    /// When it ceases to be visible, by the wall time of its coordinator; none for never.
    pub expiry: Option<WallMs>,
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
    /// Of these, slots of owners that are away, in whose place a fallback answered.
    pub fallbacks: u8,
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
        needed: u16,
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
    /// An owner's disk has no room for more values, and no other owner took the write.
    DiskFull {
        /// Whose disk.
        node: NodeId,
    },
    /// Nodes were reached that cannot read their copy, and the others are too few: nothing was
    /// written.
    Unreadable {
        /// How many copies cannot be read.
        copies: u8,
    },
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
    /// Stood in for an owner that is away.
    Fallback,
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
        /// The entries by sector, then by the hash that orders a sector's keys
        /// ([`tag_of`](crate::engine::tag_of)), then by key.
        entries: Vec<DumpEntry>,
        /// Where to go on; none at the end.
        next: Option<(SectorId, Key)>,
    },
    /// What is kept for nodes that are away.
    Hints(Vec<HintStatus>),
    /// How far the latest repair has come.
    Repair(RepairStatus),
    /// What is staged, and what it would come to.
    Plan(ClusterPlan),
    /// Copies of sectors on their way.
    Transfers(Vec<TransferStatus>),
    /// Messages are dropped as was asked.
    FaultsSet,
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
    /// How it is to the observer. To the manager it is up or down: it asks no others.
    pub health: Health,
    /// Sectors it holds, and those it is first in.
    pub sectors: (u16, u16),
    /// Its life.
    pub incarnation: Incarnation,
    /// How it stands, by the last that the observer heard of it.
    pub vitals: Vitals,
}

/// What a node keeps for another that is away, or was since this one's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HintStatus {
    /// Whom it is owed to.
    pub owed_to: NodeId,
    /// Writes kept.
    pub hints: u64,
    /// Their bytes, as counted against the cap.
    pub bytes: u64,
    /// Keys of which it was to keep hints since the holder's start, and those it found then:
    /// `hints + delivered + dropped`.
    pub missed: u64,
    /// Hints handed over since the holder's start.
    pub delivered: u64,
    /// Hints that there was no room for, or that could not be read any more, since then;
    /// anti-entropy brings what they were of.
    pub dropped: u64,
}

/// How far a node has come with the repair that it was last asked for, since that was begun.
///
/// A place is a sector of a keyspace, shared with one other owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairStatus {
    /// Places compared, and made equal where they differed.
    pub compared: u64,
    /// Keys that another owner was sent, as it had another copy or none.
    pub sent: u64,
    /// Keys that were fetched from another owner.
    pub fetched: u64,
    /// Places that could not be compared: the other owner is away, or cannot do it.
    pub missed: u64,
    /// Places still to be compared; 0 when it is done.
    pub left: u64,
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
            | Reason::Stopping
            | Reason::DiskFull { .. }
            | Reason::Unreadable { .. } => Outcome::Failed,
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
            | Reason::Stopping
            | Reason::DiskFull { .. }
            | Reason::Unreadable { .. } => true,
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
                "too few owners confirmed in time; the write may or may not have happened; \
                 read the key before repeating it",
            ),
            Reason::Overloaded => {
                f.write_str("the node has too much work in hand; nothing was begun; try again later")
            }
            Reason::Expired => {
                f.write_str("the request was past its deadline before it was begun; allow it more time")
            }
            Reason::EmptyKey => f.write_str("the key is empty; keys have at least 1 byte"),
            Reason::KeyTooLong { max } => write!(f, "the key is over the limit of {max} bytes"),
            Reason::ValueTooLarge { max } => write!(f, "the value is over the limit of {max} bytes"),
            Reason::TooManySiblings { max } => write!(
                f,
                "the key has its limit of {max} concurrent values or their bytes; \
                 read it, settle them, and write with the context"
            ),
            Reason::UnknownKeyspace => f.write_str("there is no such keyspace; see `gtstore keyspace list`"),
            Reason::BadQuorum { n } => write!(f, "R and W must be between 1 and the keyspace's {n} copies"),
            Reason::NotOwner(epoch) => {
                write!(f, "this node does not own the key in the table of epoch {epoch}")
            }
            Reason::NotOnDataPath => {
                f.write_str("the manager neither reads nor writes keys; ask a storage node")
            }
            Reason::Stopping => f.write_str("the node is stopping; ask another"),
            Reason::DiskFull { node } => write!(
                f,
                "the disk of node {node} is full up to its reserve; nothing was written; free some of \
                 it, or add a node; reads and deletes go on"
            ),
            Reason::Unreadable { copies } => write!(
                f,
                "{copies} of the copies cannot be read where they are, and the others are too few; \
                 nothing was written; see `gtstore status`"
            ),
        }
    }
}
