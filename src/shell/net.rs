//! Sockets: listeners, connections in a slab, the opening Hello, frames in and out.

use crate::types::{ConnId, RequestId};
use crate::wire::Message;
use crate::wire::frame::Frame;
use crate::wire::hello::{Hello, Identity, Welcome};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What happened on the sockets.
#[derive(Debug)]
pub enum NetEvent {
    /// A dialer has said Hello and was welcomed: its requests follow.
    Opened {
        /// The connection.
        conn: ConnId,
        /// What it said.
        hello: Hello,
    },
    /// A listener that we dialed has welcomed us: requests may be sent.
    Welcomed {
        /// The connection.
        conn: ConnId,
        /// What it said.
        welcome: Welcome,
    },
    /// A whole frame came.
    Frame {
        /// The connection.
        conn: ConnId,
        /// The frame, checksums verified.
        frame: Frame,
    },
    /// A connection is gone, or never came to be. Nothing more comes of it.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, in words.
        why: String,
    },
    /// Another thread woke the loop.
    Woken,
}

/// All sockets of a process and the `mio` poll around them.
#[derive(Debug)]
pub struct Net {}

impl Net {
    /// No sockets yet.
    ///
    /// # Errors
    /// The system has no poll to give.
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Wakes the poll from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<mio::Waker> {
        unimplemented!()
    }

    /// Listens; port 0 lets the kernel choose. Returns the address bound.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn listen(&mut self, _addr: SocketAddr) -> io::Result<SocketAddr> {
        unimplemented!()
    }

    /// Who answers a Hello here. Until it is first set, those who said Hello are kept waiting.
    pub fn set_identity(&mut self, _identity: Identity) {}

    /// Dials and says Hello. Failure comes as [`NetEvent::Closed`].
    pub fn dial(&mut self, _addr: &str, _hello: Hello) -> ConnId {
        unimplemented!()
    }

    /// Queues a message; it leaves with the next [`flush`](Self::flush). False if the connection is gone.
    pub fn send(&mut self, _conn: ConnId, _request: RequestId, _message: &impl Message) -> bool {
        unimplemented!()
    }

    /// Closes a connection after what is queued has been tried once. No event is given for it.
    pub fn close(&mut self, _conn: ConnId) {}

    /// Waits until something happens or the timeout is over, and appends what happened.
    ///
    /// # Errors
    /// The poll itself failed.
    pub fn poll(&mut self, _timeout: Option<Duration>, _events: &mut Vec<NetEvent>) -> io::Result<()> {
        unimplemented!()
    }

    /// Writes what is queued: one write per socket that has something to say.
    pub fn flush(&mut self) {}

    /// Bytes queued on a connection.
    #[must_use]
    pub fn queued(&self, _conn: ConnId) -> usize {
        0
    }
}
