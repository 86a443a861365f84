//! What can happen to the manager, and what it can ask for.

use crate::engine::{DiskEvent, DiskRequest};
use crate::types::{ConnId, RequestId};
use crate::wire::client::{ClientReply, ClientRequest};
use crate::wire::manager::{ManagerToNode, NodeToManager};

/// What can happen to the manager.
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
    /// A node says something on its member connection.
    Node {
        /// The connection.
        conn: ConnId,
        /// What it says.
        message: NodeToManager,
    },
    /// A connection, of a client or a node, is gone.
    Gone {
        /// The connection.
        conn: ConnId,
    },
    /// The disk has got on.
    Disk(DiskEvent),
    /// The deadline has passed.
    Tick,
    /// The operator wants the process to end: finish what is in hand.
    Stop,
}

/// What the manager can ask for. Carried out in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Answer a client.
    Reply {
        /// Its connection.
        conn: ConnId,
        /// Its name for the request.
        request: RequestId,
        /// The answer.
        message: ClientReply,
    },
    /// Tell a node.
    Node {
        /// Its member connection.
        conn: ConnId,
        /// What is told.
        message: ManagerToNode,
    },
    /// Something for the disk.
    Disk(DiskRequest),
    /// Everything in hand is finished: the process may end.
    Stopped,
}
