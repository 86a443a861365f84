//! What can happen to a storage node, and what it can ask for.

use crate::engine::{At, DiskEvent, DiskRequest, ReadDone, ReadRequest};
use crate::types::{ConnId, Dot, Key, NodeId, RequestId};
use crate::version::VersionVector;
use crate::wire::client::{ClientReply, ClientRequest};
use crate::wire::manager::{ManagerToNode, NodeToManager};
use crate::wire::peer::{PeerReply, PeerRequest};

/// What can happen to a storage node.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A client asks something.
    Client {
        /// Its connection.
        conn: ConnId,
        /// Its name for the request.
        request: RequestId,
        /// What it asks.
        message: ClientRequest,
    },
    /// A peer asks something, on a link that it dialed.
    Peer {
        /// The link.
        conn: ConnId,
        /// The peer.
        from: NodeId,
        /// Its name for the request.
        request: RequestId,
        /// What it asks.
        message: PeerRequest,
    },
    /// A peer answers, on a link that we dialed.
    PeerReply {
        /// The peer.
        from: NodeId,
        /// Our name for the request.
        request: RequestId,
        /// Its answer.
        message: PeerReply,
    },
    /// Our link to a peer, of this lane, is open for requests.
    LinkUp {
        /// The peer.
        peer: NodeId,
        /// Which of the two links.
        lane: Lane,
    },
    /// Our link to a peer is gone, and whatever was asked on it will not be answered there.
    LinkDown {
        /// The peer.
        peer: NodeId,
        /// Which of the two links.
        lane: Lane,
    },
    /// The connection to the manager is open.
    ManagerUp,
    /// The connection to the manager is gone.
    ManagerDown,
    /// The manager says something.
    Manager(ManagerToNode),
    /// The disk has got on with its writes.
    Disk(DiskEvent),
    /// Something has been read from the disk, or could not be.
    Read(ReadDone),
    /// Everything that had happened has been told: what is to reach the disk can go as one write.
    TurnEnd,
    /// The deadline has passed.
    Tick,
    /// The operator wants the process to end: finish what is in hand.
    Stop,
}

/// What a storage node can ask for. Carried out in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Answer a client. A connection that is gone is no error.
    Reply {
        /// Its connection.
        conn: ConnId,
        /// Its name for the request.
        request: RequestId,
        /// The answer.
        message: ClientReply,
    },
    /// Answer a peer on the link that it dialed.
    PeerReply {
        /// The link.
        conn: ConnId,
        /// Its name for the request.
        request: RequestId,
        /// The answer.
        message: PeerReply,
    },
    /// Ask a peer, on a link of ours. Only asked while the link is up.
    Peer {
        /// The peer.
        to: NodeId,
        /// Which of the two links.
        lane: Lane,
        /// Our name for the request.
        request: RequestId,
        /// What is asked.
        message: PeerRequest,
    },
    /// Keep links of both lanes open to this peer, dialing again whenever they break. A second
    /// wish with another address replaces the first.
    Connect {
        /// The peer.
        peer: NodeId,
        /// Where it listens.
        addr: String,
    },
    /// Close the links to this peer and dial it no more.
    Disconnect {
        /// The peer.
        peer: NodeId,
    },
    /// Tell the manager. Only asked while its connection is up.
    Manager(NodeToManager),
    /// A key was let go of, or its context trimmed: for the simulator's checkers, which look for what
    /// was acknowledged.
    Reaped {
        /// Keyspace and sector.
        at: At,
        /// The key.
        key: Key,
        /// The context it had.
        context: VersionVector,
        /// The siblings left of it.
        left: Vec<Dot>,
    },
    /// Something for the disk to write.
    Disk(DiskRequest),
    /// Something to be read from the disk.
    Read(ReadRequest),
    /// Who this node is has changed (it has joined): the Hello of links and listeners follows.
    IdentityChanged,
    /// Everything in hand is finished: the process may end.
    Stopped,
    /// The process must end at once, with this message and a failing exit code.
    Fatal(String),
    /// This node has left the cluster: nothing depends on its process or its data any more.
    Left,
}

/// Which of the two links to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Requests that people wait for.
    Foreground,
    /// Transfer and repair, which never sit in front of a request.
    Bulk,
}
