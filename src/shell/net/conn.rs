//! One connection: its socket, the bytes that came and the bytes that wait to leave.
//!
//! ```text
//! dialed     Connecting -> AwaitsWelcome -> Asking
//! accepted   AwaitsHello -> (Held) ------> Serving
//! either     ... -> Closing: what is queued is tried once, then the slot is free
//! ```
//! It moves bytes and cuts frames; what a frame means in which phase is [`Net`](super::Net)'s.

use crate::limits::{
    CLIENT_BODY_BYTES_MAX, HELLO_BODY_BYTES_MAX, MANAGER_BODY_BYTES_MAX, PEER_BODY_BYTES_MAX,
    READ_BYTES_PER_TURN, REPLY_BODY_BYTES_MAX, REPLY_BYTES_HIGH, REQUESTS_PER_CONNECTION_PER_TURN,
};
use crate::types::RequestId;
use crate::wire::Message;
use crate::wire::codec::Writer;
use crate::wire::frame::{Decoder, Frame, FrameError, write_frame};
use crate::wire::hello::{Hello, Role};
use bytes::{Buf, Bytes};
use mio::Interest;
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

/// Chunks handed to one vectored write.
const CHUNKS_PER_WRITE: usize = 64;

/// A connection. The flags are [`Net`](super::Net)'s notes of where it has listed it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) phase: Phase,
    /// The socket may hold bytes: set by the poll, cleared by `WouldBlock` alone.
    pub(super) readable: bool,
    /// It is on the ready list.
    pub(super) is_ready: bool,
    /// It is on the list of those to flush.
    pub(super) is_dirty: bool,
    /// The poll is asked to tell when it can be written.
    pub(super) awaits_writable: bool,
    /// We dialed it.
    pub(super) is_dialed: bool,
    decoder: Decoder,
    writer: Writer,
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Dialed, not there yet. If this address fails the next one is tried.
    Connecting { hello: Hello, others: VecDeque<SocketAddr> },
    /// Dialed: our Hello is out.
    AwaitsWelcome { hello: Hello },
    /// Dialed and welcomed.
    Asking { body_cap: usize },
    /// Accepted: has said nothing yet. Without room its Hello will be refused.
    AwaitsHello { has_room: bool },
    /// Accepted: said Hello before we know who we are.
    Held { hello: Hello, request: RequestId },
    /// Accepted and welcomed.
    Serving { body_cap: usize },
    /// On its way out. Nobody hears of it any more.
    Closing,
}

/// What is left of one turn's share.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
    frames: usize,
}

/// What reading came to.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole frame.
    Frame(Frame),
    /// Nothing more until the poll says so.
    Idle,
    /// The turn's share is used up; there may be more.
    Spent,
    /// Bytes that are no frame.
    Bad(FrameError),
    /// The connection is gone.
    Gone(String),
}

impl Budget {
    pub(super) fn of_one_turn() -> Self {
        Self { bytes: READ_BYTES_PER_TURN, frames: REQUESTS_PER_CONNECTION_PER_TURN }
    }
}

/// Body cap of what a welcomed dialer of this role may send.
pub(super) fn request_cap(role: Role) -> usize {
    match role {
        Role::Client(_) => CLIENT_BODY_BYTES_MAX,
        Role::Peer(_) | Role::PeerBulk(_) => PEER_BODY_BYTES_MAX,
        Role::Member(_) => MANAGER_BODY_BYTES_MAX,
    }
}

/// Body cap of what a listener may answer to this role.
pub(super) fn reply_cap(role: Role) -> usize {
    match role {
        Role::Client(_) | Role::Peer(_) | Role::PeerBulk(_) => REPLY_BODY_BYTES_MAX,
        Role::Member(_) => MANAGER_BODY_BYTES_MAX,
    }
}

impl Conn {
    pub(super) fn new(socket: TcpStream, peer: SocketAddr, phase: Phase) -> Self {
        let is_dialed = matches!(phase, Phase::Connecting { .. });
        Self {
            socket,
            peer,
            phase,
            is_dialed,
            readable: false,
            is_ready: false,
            is_dirty: false,
            awaits_writable: false,
            decoder: Decoder::default(),
            writer: Writer::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    /// Reads until a frame is whole, the socket is empty or the budget is spent.
    ///
    /// Frames that are here already go out before more bytes are taken in, so that no more than
    /// one frame and one read are ever held.
    pub(super) fn read(&mut self, scratch: &mut [u8], budget: &mut Budget) -> Step {
        loop {
            if budget.frames == 0 {
                return Step::Spent;
            }
            match self.decoder.next_frame(self.body_cap()) {
                Ok(Some(frame)) => {
                    budget.frames -= 1;
                    return Step::Frame(frame);
                }
                Ok(None) => {}
                Err(error) => return Step::Bad(error),
            }
            if !self.readable {
                return Step::Idle;
            }
            let room = scratch.len().min(budget.bytes);
            if room == 0 {
                return Step::Spent;
            }
            let space = scratch.get_mut(..room).unwrap_or_default();
            match self.socket.read(space) {
                Ok(0) => return Step::Gone("closed by the other side".to_owned()),
                Ok(count) => {
                    budget.bytes -= count;
                    self.decoder.extend(space.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Step::Gone(error.to_string()),
            }
        }
    }

    /// Queues a message as a frame.
    pub(super) fn queue(&mut self, request: RequestId, message: &impl Message) {
        write_frame(&mut self.writer, request, message);
    }

    /// Bytes that wait to leave.
    pub(super) fn queued(&self) -> usize {
        self.writer.len() + self.queue_bytes
    }

    /// Writes what is queued until nothing is left or the socket takes no more.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let (queue, queue_bytes) = (&mut self.queue, &mut self.queue_bytes);
        self.writer.take(|chunk| {
            *queue_bytes += chunk.len();
            queue.push_back(chunk);
        });
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            match self.socket.write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.forget(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Drops bytes that have left from the front of the queue.
    fn forget(&mut self, mut written: usize) {
        self.queue_bytes = self.queue_bytes.saturating_sub(written);
        while let Some(front) = self.queue.front_mut() {
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
    }

    /// Whether frames are taken from it now. A connection that *serves* is not read while its
    /// replies wait; answers to our own requests are always read, so that two full sides can
    /// never wait for each other.
    pub(super) fn may_read(&self) -> bool {
        match self.phase {
            Phase::AwaitsHello { .. } | Phase::AwaitsWelcome { .. } | Phase::Asking { .. } => true,
            Phase::Serving { .. } => self.queued() <= REPLY_BYTES_HIGH,
            Phase::Connecting { .. } | Phase::Held { .. } | Phase::Closing => false,
        }
    }

    /// Whether the socket is connected and may be written.
    pub(super) fn may_write(&self) -> bool {
        !matches!(self.phase, Phase::Connecting { .. })
    }

    /// What the poll is to tell of it.
    pub(super) fn interest(&self) -> Interest {
        if self.awaits_writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    /// Whether the opening is still under way, and so under its timeout.
    pub(super) fn is_opening(&self) -> bool {
        match self.phase {
            Phase::Connecting { .. }
            | Phase::AwaitsWelcome { .. }
            | Phase::AwaitsHello { .. }
            | Phase::Held { .. } => true,
            Phase::Asking { .. } | Phase::Serving { .. } | Phase::Closing => false,
        }
    }

    /// Whether the loop's owner knows of it, and so must be told when it is gone.
    pub(super) fn is_known(&self) -> bool {
        match self.phase {
            Phase::Connecting { .. }
            | Phase::AwaitsWelcome { .. }
            | Phase::Asking { .. }
            | Phase::Serving { .. } => true,
            Phase::AwaitsHello { .. } | Phase::Held { .. } | Phase::Closing => false,
        }
    }

    fn body_cap(&self) -> usize {
        match self.phase {
            Phase::Asking { body_cap } | Phase::Serving { body_cap } => body_cap,
            Phase::Connecting { .. }
            | Phase::AwaitsWelcome { .. }
            | Phase::AwaitsHello { .. }
            | Phase::Held { .. }
            | Phase::Closing => HELLO_BODY_BYTES_MAX,
        }
    }
}
