//! Between nodes. Requests go from the dialer of a link to its listener, answers come back.

mod encoding;

pub(crate) use encoding::{ABSENT, FORWARD_REQUEST, HELD, READ, SAME, STORE, STORED};

use super::Vitals;
use super::client::{DataReply, DataRequest};
use crate::types::{Dot, Epoch, Fence, Incarnation, Key, KeyspaceId, NodeId, OpId, SectorId, Stamp};
use crate::version::{Object, VersionVector};
use bytes::Bytes;

/// How long a message is still worth working on, and when it was sent.
///
/// Time *left*, never a wall clock. The receiver keeps the smallest (arrival - sent) a link has
/// shown and takes the excess off, so that time spent waiting in a socket counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Worth {
    /// Milliseconds left when it was sent.
    pub ttl_ms: u32,
    /// The sender's monotonic clock at sending, in microseconds.
    pub sent_us: u64,
}

/// Where a data message belongs: keyspace, sector, and the configuration it was sent under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key's sector.
    pub sector: SectorId,
    /// The sector's `conf_epoch` in the sender's table.
    pub conf_epoch: Epoch,
}

/// What a node says of itself, as others pass it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Saying {
    /// Its life.
    pub incarnation: Incarnation,
    /// Counts what it has said in that life: the higher is the later.
    pub beat: u32,
    /// How it stands.
    pub vitals: Vitals,
}

/// What a node asks of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerRequest {
    /// Coordinate a client's request.
    Forward {
        /// How long it is worth.
        worth: Worth,
        /// Milliseconds after sending within which it is to be begun or not at all: after them
        /// the forwarder asks another owner.
        begin_ms: u32,
        /// The request as the client sent it, its attempt counted up.
        request: DataRequest,
    },
    /// Merge this object and acknowledge once it is durable.
    Store {
        /// How long it is worth.
        worth: Worth,
        /// Where it belongs.
        place: Place,
        /// The sender's fence when it read the object.
        fence: Fence,
        /// The key.
        key: Key,
        /// The coordinator's merged object.
        object: Object,
        /// The client's write that this is, and the dot it was given; none for repair.
        write: Option<(OpId, Dot)>,
        /// The owner that is away, for which a node that is no owner is to keep it.
        owed_to: Option<NodeId>,
    },
    /// Say what you hold.
    Read {
        /// How long it is worth.
        worth: Worth,
        /// Where it belongs.
        place: Place,
        /// The key.
        key: Key,
        /// The asker's digest: an equal object is answered in a few bytes.
        digest: Option<u64>,
        /// You are no owner: say what you keep for owners that are away.
        kept: bool,
        /// The asker's fence: it will hand on what it is told as read behind it.
        fence: Fence,
    },
    /// Merge these objects, streamed while a slot moves, and acknowledge once they are durable.
    Transfer {
        /// Where they belong.
        place: Place,
        /// The sender's fence when it read the objects.
        fence: Fence,
        /// Keys and objects.
        entries: Vec<(Key, Object)>,
    },
    /// Do you hold the very same of these keys? Or, once that is known and a fence round is behind us:
    /// let them go.
    Settle {
        /// Whether they are to go.
        reap: bool,
        /// The fence of the round.
        fence: Fence,
        /// By place.
        places: Vec<(Place, Vec<Relic>)>,
    },
    /// A step of a fence round.
    RaiseFence {
        /// Names the round.
        round: RoundId,
        /// What is asked for.
        step: FenceStep,
        /// The round's fence.
        fence: Fence,
        /// Sectors that it is about.
        sectors: Vec<SectorId>,
    },
    /// Are you there? And which table have you?
    Probe {
        /// Epoch of the asker's table.
        epoch: Epoch,
    },
    /// Send your table.
    FetchTable,
    /// Take my table: you said that yours is older.
    PushTable(Bytes),
    /// How long ago did this node answer you? It does not answer me.
    AskAfter {
        /// The silent node.
        node: NodeId,
    },
    /// Which of these places differ from your copy?
    Compare {
        /// Places, and the root of the asker's hash tree of each.
        places: Vec<(Place, u64)>,
    },
    /// Which keys under these leaves differ from yours?
    List {
        /// The place.
        place: Place,
        /// Leaves of its hash tree.
        leaves: Vec<u8>,
        /// All that the asker holds under them.
        listed: Vec<Listed>,
    },
    /// Send these objects.
    Fetch {
        /// Where they belong.
        place: Place,
        /// Their keys.
        keys: Vec<Key>,
    },
    /// What I know of all nodes; tell me what you know.
    Gossip {
        /// Nodes, and what each last said of itself.
        rumors: Vec<(NodeId, Saying)>,
    },
}

/// A key of which nothing is left but what says so, or whose context has grown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relic {
    /// The key.
    pub key: Key,
    /// Of the object, as in reads.
    pub digest: u64,
    /// The object's context.
    pub context: VersionVector,
}

/// Names a fence round: of two that ask for the same fence only one gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoundId {
    /// The table's epoch: it holds for these members and no others.
    pub epoch: Epoch,
    /// Who leads it.
    pub leader: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Which of its rounds.
    pub number: u32,
}

/// What a member is asked for in a fence round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FenceStep {
    /// Mark with the fence whatever is read from now on.
    Adopt,
    /// Refuse whatever was read before it.
    Enforce,
}

/// One key in a list of what an owner holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// XXH3-64 of the key.
    pub key: u64,
    /// The object's hash, as the hash tree has it.
    pub object: u64,
}

/// How a write stands at an owner that has stored it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing concurrent has a higher stamp.
    Highest,
    /// A concurrent write has this higher stamp.
    Below(Stamp),
    /// The same client write is known here under another dot: another attempt ran elsewhere.
    Repeated,
}

/// What a peer answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerReply {
    /// The coordinator's answer to a forwarded request.
    Forwarded(DataReply),
    /// Merged and durable.
    Stored {
        /// How the write stands among what is held.
        standing: Standing,
    },
    /// What is held is just what the digest says.
    Same,
    /// What is held.
    Held(Object),
    /// Nothing is held.
    Absent {
        /// Whether that can be relied on: a node that lost unsynced data does not vouch.
        vouched: bool,
    },
    /// Your configuration of this sector is older than mine, of this table epoch.
    Stale(Epoch),
    /// My table is older than yours: push it.
    Behind(Epoch),
    /// Alive; and what it says of itself.
    Alive(Saying),
    /// The table asked for.
    Table(Bytes),
    /// Too busy to take it.
    Overloaded,
    /// What is held cannot be read from the disk, or is not known to be whole.
    Unreadable,
    /// No room on the disk for it.
    Full,
    /// How long ago the node that was asked after answered.
    Heard {
        /// The node.
        node: NodeId,
        /// In milliseconds; none if it does not answer here either.
        ms_ago: Option<u32>,
    },
    /// Which places differ.
    Differ {
        /// So many of the places asked for were looked at, from the first on.
        compared: u16,
        /// Those of them that cannot be compared, by their places in the question: another table is
        /// in force here, or what is held is not known to be whole.
        apart: Vec<u16>,
        /// Those that differ, each with the leaves of the hash tree here.
        places: Vec<(Place, Vec<u64>)>,
    },
    /// Which keys differ.
    Listing {
        /// So many of the leaves asked for were looked at, from the first on. None although something
        /// is offered: the first has more than one answer takes.
        done: u16,
        /// Keys that the asker lacks, or has otherwise.
        offered: Vec<Key>,
        /// Keys that are lacking here, or are otherwise, by their hashes.
        wanted: Vec<u64>,
    },
    /// Objects asked for.
    Objects {
        /// So many of the keys asked for were looked at, from the first on.
        taken: u16,
        /// So many of these are held and cannot be given: they cannot be read.
        lacking: u16,
        /// The teller's fence when it read them.
        fence: Fence,
        /// What is held of them.
        entries: Vec<(Key, Object)>,
    },
    /// What is known of all nodes.
    Gossip {
        /// Nodes, and what each last said of itself.
        rumors: Vec<(NodeId, Saying)>,
    },
    /// Which keys were not held as told, by their places in the whole list.
    Settled {
        /// In order.
        differ: Vec<u16>,
    },
    /// What a member has done in a fence round.
    FenceRaised {
        /// Whether the step is done, and nothing read under an older fence is left here.
        done: bool,
        /// The fence adopted here.
        fence: Fence,
        /// Sectors of the round of which this node holds something and is no owner, or whose copy here
        /// is damaged.
        strange: Vec<SectorId>,
    },
    /// What was to be merged was read before the fence that this node enforces.
    Fenced {
        /// That fence.
        fence: Fence,
        /// The table's epoch under which it was raised.
        epoch: Epoch,
    },
}
