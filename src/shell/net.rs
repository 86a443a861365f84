//! Sockets: listeners, connections in a slab, the opening Hello, frames in and out.
//!
//! Owns every socket of a process and the one `mio` poll around them. It never decides what a
//! message means: it gives out whole frames and takes whole messages. The process's loop calls
//! [`Net::poll`], works, then calls [`Net::flush`], and so on; the opening frames, too, leave
//! with that flush.
//!
//! Readiness is edge-triggered: the poll tells it once. A socket that stopped being read for any
//! other reason than being empty (its share of the turn was used up, or its replies wait) stays
//! on a ready list of our own until it has been read to `WouldBlock`, and while that list holds
//! anything the poll does not wait.
//!
//! A [`ConnId`] is a slab slot and the connection's serial number, so a slot used again is
//! another id, and a late event or send meant for the old connection finds nothing.

mod conn;
mod listener;
mod opening;
mod socket;
#[cfg(test)]
mod tests;

use super::log_limit::LogLimit;
use crate::limits::{CONNECTIONS_MAX, HELLO_TIMEOUT};
use crate::types::{ConnId, RequestId};
use crate::wire::Message;
use crate::wire::frame::Frame;
use crate::wire::hello::{Hello, Identity, Opening, Welcome};
use conn::{Budget, Conn, Phase, Step};
use listener::Listener;
use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use opening::connect_first;
use slab::Slab;
use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Low bits of a [`ConnId`] that hold the slot; the serial number has the others.
const SLOT_BITS: u32 = 20;
/// Bytes read at once, into a buffer that all connections share.
const SCRATCH_BYTES: usize = 64 << 10;
/// Readiness taken from the system at once.
const EVENTS_PER_POLL: usize = 1024;
/// Woken by another thread, or by a source being watched.
const WAKE: Token = Token(usize::MAX);
const WATCHED: Token = Token(usize::MAX - 1);
/// Listeners count down from here.
const FIRST_LISTENER: usize = usize::MAX - 2;
const LISTENERS_MAX: usize = 16;

const _: () = assert!(usize::BITS >= 64, "a mio token must hold a connection's 64-bit id");

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
    /// What we dialed has taken the connection (its kernel may have); it is not welcomed yet.
    Connected {
        /// The connection.
        conn: ConnId,
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
    /// A connection that was opened, or that we dialed, is gone, or never came to be. Nothing
    /// more comes of it.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, in words.
        why: String,
    },
    /// Another thread woke the loop, or a watched source has something.
    Woken,
}

impl NetEvent {
    /// The connection it is about, if any.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            NetEvent::Opened { conn, .. }
            | NetEvent::Connected { conn }
            | NetEvent::Welcomed { conn, .. }
            | NetEvent::Frame { conn, .. }
            | NetEvent::Closed { conn, .. } => Some(*conn),
            NetEvent::Woken => None,
        }
    }
}

/// All sockets of a process and the `mio` poll around them.
#[derive(Debug)]
pub struct Net {
    poll: Poll,
    mio_events: Events,
    waker: Arc<mio::Waker>,
    listeners: Vec<Listener>,
    conns: Slab<(ConnId, Conn)>,
    /// Connections ever opened: the generation in their ids.
    serial: u64,
    accepted: usize,
    connections_max: usize,
    identity: Option<Identity>,
    /// Connections that may have something to read.
    ready: Vec<ConnId>,
    /// Connections that have something to write.
    dirty: Vec<ConnId>,
    /// Connections that end with the next flush.
    closing: Vec<ConnId>,
    /// When openings must be done, soonest first: they all have the same time.
    openings: VecDeque<(Instant, ConnId)>,
    hello_timeout: Duration,
    /// Happened outside of a poll; given out by the next one.
    pending: Vec<NetEvent>,
    scratch: Box<[u8]>,
    warnings: LogLimit,
}

impl Net {
    /// No sockets yet.
    ///
    /// # Errors
    /// The system has no poll to give.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
        Ok(Self {
            poll,
            mio_events: Events::with_capacity(EVENTS_PER_POLL),
            waker,
            listeners: Vec::new(),
            conns: Slab::new(),
            serial: 0,
            accepted: 0,
            connections_max: CONNECTIONS_MAX,
            identity: None,
            ready: Vec::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            openings: VecDeque::new(),
            hello_timeout: HELLO_TIMEOUT,
            pending: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            warnings: LogLimit::default(),
        })
    }

    /// Wakes the poll from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<mio::Waker> {
        Arc::clone(&self.waker)
    }

    /// Gives [`NetEvent::Woken`] whenever this source has something, too.
    ///
    /// # Errors
    /// The system refuses to watch it.
    pub fn watch(&mut self, source: &mut impl Source) -> io::Result<()> {
        self.poll.registry().register(source, WATCHED, Interest::READABLE)
    }

    /// Listens; port 0 lets the kernel choose. Returns the address bound.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(io::Error::other("too many listeners"));
        }
        let mut listener = Listener::bind(addr)?;
        let token = Token(FIRST_LISTENER - self.listeners.len());
        self.poll.registry().register(&mut listener.socket, token, Interest::READABLE)?;
        let bound = listener.socket.local_addr()?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Dials and says Hello. Failure comes as [`NetEvent::Closed`].
    ///
    /// A host *name* is resolved here, by the system, and that blocks: give numeric addresses
    /// where the loop must not stand still. All addresses of a name are tried in turn.
    pub fn dial(&mut self, addr: &str, hello: Hello) -> ConnId {
        let opened = socket::resolve(addr)
            .map_err(|error| format!("cannot resolve {addr}: {error}"))
            .and_then(|mut others| {
                let (socket, peer) = connect_first(&mut others)?;
                let mut conn = Conn::new(socket, peer, Phase::Connecting { hello, others });
                conn.queue(RequestId(0), &Opening::Hello(hello));
                self.add(conn).map_err(|error| format!("cannot dial {addr}: {error}"))
            });
        match opened {
            Ok(conn) => conn,
            Err(why) => {
                // An id that no connection has ever had or will have.
                let conn = self.next_id(self.conns.vacant_key());
                self.pending.push(NetEvent::Closed { conn, why });
                conn
            }
        }
    }

    /// Queues a message; it leaves with the next [`flush`](Self::flush). False if the connection is gone.
    pub fn send(&mut self, conn: ConnId, request: RequestId, message: &impl Message) -> bool {
        let Some(found) = lookup(&mut self.conns, conn) else { return false };
        if matches!(found.phase, Phase::Closing) {
            return false;
        }
        found.queue(request, message);
        self.mark_dirty(conn);
        true
    }

    /// Closes a connection after what is queued has been tried once. No event is given for it.
    pub fn close(&mut self, conn: ConnId) {
        self.pending.retain(|event| event.conn() != Some(conn));
        let Some(found) = lookup(&mut self.conns, conn) else { return };
        if !matches!(found.phase, Phase::Closing) {
            if !found.may_write() {
                // Never connected: what is queued has nowhere to go.
                self.remove(conn);
                return;
            }
            found.phase = Phase::Closing;
            self.closing.push(conn);
            self.mark_dirty(conn);
        }
    }

    /// Closes a connection whose other side broke the protocol, with one line in the log (unless
    /// there were many just now, or this goes on and on). No event is given for it.
    pub fn reject(&mut self, conn: ConnId, why: &dyn Display) {
        self.warn_closed(conn, why);
        self.close(conn);
    }

    fn warn_closed(&mut self, conn: ConnId, why: &dyn Display) {
        if let Some(peer) = self.peer_addr(conn) {
            self.warnings.warn_closed(peer, why);
        }
    }

    /// Bytes queued on a connection.
    #[must_use]
    pub fn queued(&self, conn: ConnId) -> usize {
        self.find(conn).map_or(0, Conn::queued)
    }

    /// Whether any connection has bytes queued.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.conns.iter().any(|(_, (_, conn))| conn.may_write() && conn.queued() > 0)
    }

    /// The address of the other side, while the connection lives.
    #[must_use]
    pub fn peer_addr(&self, conn: ConnId) -> Option<SocketAddr> {
        self.find(conn).map(|found| found.peer)
    }

    /// Waits until something happens or the timeout is over, and appends what happened. May
    /// return early with nothing.
    ///
    /// # Errors
    /// The poll itself failed.
    pub fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<NetEvent>) -> io::Result<()> {
        let now = Instant::now();
        let timeout = match self.due(now) {
            Some(due) => Some(timeout.map_or(due, |timeout| timeout.min(due))),
            None => timeout,
        };
        events.append(&mut self.pending);
        match self.poll.poll(&mut self.mio_events, timeout) {
            Ok(()) => self.take_readiness(events),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.accept_ready();
        for conn in std::mem::take(&mut self.ready) {
            self.take_turn(conn, events);
        }
        self.expire_openings(events);
        Ok(())
    }

    /// Writes what is queued: one write per socket that has something to say.
    pub fn flush(&mut self) {
        for conn in std::mem::take(&mut self.dirty) {
            if let Some(found) = lookup(&mut self.conns, conn) {
                found.is_dirty = false;
                self.write(conn);
            }
        }
        for conn in std::mem::take(&mut self.closing) {
            self.remove(conn);
        }
    }

    /// How soon the poll must come back of itself; `None` if it need not.
    fn due(&mut self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() || !self.pending.is_empty() {
            return Some(Duration::ZERO);
        }
        while self.openings.front().is_some_and(|(_, conn)| !self.is_opening(*conn)) {
            self.openings.pop_front();
        }
        let opening = self.openings.front().map(|(due, _)| *due);
        let accept = self.listeners.iter().filter_map(|listener| listener.accept_at).min();
        opening.into_iter().chain(accept).min().map(|due| due.saturating_duration_since(now))
    }

    /// Notes what the system says is ready.
    fn take_readiness(&mut self, events: &mut Vec<NetEvent>) {
        let readiness = std::mem::replace(&mut self.mio_events, Events::with_capacity(0));
        let mut woken = false;
        for event in &readiness {
            let token = event.token().0;
            if event.token() == WAKE || event.token() == WATCHED {
                woken = true;
            } else if let Some(listener) =
                FIRST_LISTENER.checked_sub(token).and_then(|index| self.listeners.get_mut(index))
            {
                listener.accept_at = Some(Instant::now());
            } else {
                let is_writable = event.is_writable() || event.is_error();
                let is_readable = event.is_readable() || event.is_read_closed() || event.is_error();
                self.conn_ready(ConnId(token as u64), is_readable, is_writable, events);
            }
        }
        self.mio_events = readiness;
        if woken {
            events.push(NetEvent::Woken);
        }
    }

    fn conn_ready(&mut self, conn: ConnId, readable: bool, writable: bool, events: &mut Vec<NetEvent>) {
        if writable {
            let connecting = self.find(conn).is_some_and(|found| !found.may_write());
            if connecting { self.finish_connect(conn, events) } else { self.write(conn) }
        }
        if readable && let Some(found) = lookup(&mut self.conns, conn) {
            found.readable = true;
            self.mark_ready(conn);
        }
    }

    /// Reads one connection until it is empty or its share of the turn is used up.
    fn take_turn(&mut self, conn: ConnId, events: &mut Vec<NetEvent>) {
        let mut budget = Budget::of_one_turn();
        loop {
            let Some(found) = lookup(&mut self.conns, conn) else { return };
            found.is_ready = false;
            if !found.may_read() {
                return;
            }
            match found.read(&mut self.scratch, &mut budget) {
                Step::Frame(frame) => match found.phase {
                    Phase::Asking { .. } | Phase::Serving { .. } => {
                        events.push(NetEvent::Frame { conn, frame });
                    }
                    Phase::AwaitsHello { .. } | Phase::AwaitsWelcome { .. } => {
                        self.take_opening(conn, frame, events);
                    }
                    Phase::Connecting { .. } | Phase::Held { .. } | Phase::Closing => return,
                },
                Step::Idle => return,
                Step::Spent => return self.mark_ready(conn),
                Step::Bad(error) => return self.reject_and_tell(conn, &error, events),
                Step::Gone(why) => return self.lose(conn, why, events),
            }
        }
    }

    /// Writes one connection's queue. One that fails is told of with the next poll.
    fn write(&mut self, conn: ConnId) {
        let Some(found) = lookup(&mut self.conns, conn) else { return };
        if !found.may_write() {
            return;
        }
        let could_read = found.may_read();
        let outcome = found.write();
        let wants_writable = found.queued() > 0;
        let changed = wants_writable != found.awaits_writable;
        let outcome = outcome.and_then(|()| if changed { self.ask_writable(conn) } else { Ok(()) });
        if let Err(error) = outcome {
            let mut events = std::mem::take(&mut self.pending);
            self.lose(conn, error.to_string(), &mut events);
            self.pending = events;
        } else if !could_read && self.find(conn).is_some_and(Conn::may_read) {
            // Its replies have drained: whatever waited in the socket or the decoder goes on.
            self.mark_ready(conn);
        }
    }

    /// Asks the poll for writability just while something is left to write.
    fn ask_writable(&mut self, conn: ConnId) -> io::Result<()> {
        let Some(found) = lookup(&mut self.conns, conn) else { return Ok(()) };
        found.awaits_writable = found.queued() > 0;
        let interest = found.interest();
        self.poll.registry().reregister(&mut found.socket, token(conn), interest)
    }

    /// Removes a connection that broke the protocol: one log line, and an event if it is known.
    fn reject_and_tell(&mut self, conn: ConnId, why: &dyn Display, events: &mut Vec<NetEvent>) {
        self.warn_closed(conn, why);
        self.lose(conn, why.to_string(), events);
    }

    /// Removes a connection that is gone, and tells of it if its owner knows it.
    fn lose(&mut self, conn: ConnId, why: String, events: &mut Vec<NetEvent>) {
        if let Some(gone) = self.remove(conn)
            && gone.is_known()
        {
            events.push(NetEvent::Closed { conn, why });
        }
    }

    fn add(&mut self, mut conn: Conn) -> io::Result<ConnId> {
        let slot = self.conns.vacant_key();
        if slot >> SLOT_BITS != 0 {
            return Err(io::Error::other("too many connections"));
        }
        let id = self.next_id(slot);
        socket::tune(&conn.socket);
        // A dialed socket tells by being writable that it is connected.
        conn.awaits_writable = conn.is_dialed;
        let interest = conn.interest();
        self.poll.registry().register(&mut conn.socket, token(id), interest)?;
        self.openings.push_back((Instant::now() + self.hello_timeout, id));
        self.conns.insert((id, conn));
        Ok(id)
    }

    fn remove(&mut self, conn: ConnId) -> Option<Conn> {
        let _ = self.find(conn)?;
        let (_, mut gone) = self.conns.try_remove(slot(conn))?;
        // The system forgets a socket when it is closed; asking for it first is only tidy.
        if let Err(error) = self.poll.registry().deregister(&mut gone.socket) {
            log::debug!("connection with {} could not be deregistered: {error}", gone.peer);
        }
        if !gone.is_dialed {
            self.accepted -= 1;
        }
        Some(gone)
    }

    fn next_id(&mut self, slot: usize) -> ConnId {
        self.serial += 1;
        ConnId(self.serial << SLOT_BITS | slot as u64)
    }

    fn mark_ready(&mut self, conn: ConnId) {
        if let Some(found) = lookup(&mut self.conns, conn)
            && !std::mem::replace(&mut found.is_ready, true)
        {
            self.ready.push(conn);
        }
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(found) = lookup(&mut self.conns, conn)
            && !std::mem::replace(&mut found.is_dirty, true)
        {
            self.dirty.push(conn);
        }
    }

    fn is_opening(&self, conn: ConnId) -> bool {
        self.find(conn).is_some_and(Conn::is_opening)
    }

    fn find(&self, conn: ConnId) -> Option<&Conn> {
        self.conns.get(slot(conn)).filter(|(id, _)| *id == conn).map(|(_, found)| found)
    }
}

/// The connection of this id, and of no other that had or has its slot.
fn lookup(conns: &mut Slab<(ConnId, Conn)>, conn: ConnId) -> Option<&mut Conn> {
    conns.get_mut(slot(conn)).filter(|(id, _)| *id == conn).map(|(_, found)| found)
}

fn slot(conn: ConnId) -> usize {
    (conn.0 & ((1 << SLOT_BITS) - 1)) as usize
}

fn token(conn: ConnId) -> Token {
    Token(conn.0 as usize)
}
