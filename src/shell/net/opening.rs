//! How connections begin: the dial, the Hello and its answer, and the time allowed for them.

use super::conn::{Conn, Phase, reply_cap, request_cap};
use super::{Net, NetEvent, lookup, token};
use crate::types::{ConnId, RequestId};
use crate::wire::Message;
use crate::wire::frame::Frame;
use crate::wire::hello::{Hello, Identity, Opening, RefusalCause, Refused, Welcome, clusters_meet};
use mio::Interest;
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;

impl Net {
    /// Who answers a Hello here. Until it is first set, those who said Hello are kept waiting.
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        let held: Vec<_> = self
            .conns
            .iter()
            .filter_map(|(_, (id, conn))| match conn.phase {
                Phase::Held { hello, request } => Some((*id, hello, request)),
                Phase::Connecting { .. }
                | Phase::AwaitsWelcome { .. }
                | Phase::Asking { .. }
                | Phase::AwaitsHello { .. }
                | Phase::Serving { .. }
                | Phase::Closing => None,
            })
            .collect();
        let mut events = std::mem::take(&mut self.pending);
        for (conn, hello, request) in held {
            self.answer_hello(conn, hello, request, &mut events);
            self.mark_ready(conn);
        }
        self.pending = events;
    }

    /// A frame that came before the connection was open.
    pub(super) fn take_opening(&mut self, conn: ConnId, frame: Frame, events: &mut Vec<NetEvent>) {
        let request = frame.request;
        let opening = match Opening::decode(frame.kind, frame.body) {
            Ok(opening) => opening,
            Err(error) => return self.reject_and_tell(conn, &format_args!("bad opening: {error}"), events),
        };
        let Some(found) = lookup(&mut self.conns, conn) else { return };
        match (&found.phase, opening) {
            (Phase::AwaitsHello { has_room: true }, Opening::Hello(hello)) => {
                self.answer_hello(conn, hello, request, events);
            }
            (Phase::AwaitsHello { has_room: false }, Opening::Hello(hello)) => {
                let text = format!("{} connections are open, which is the limit", self.connections_max);
                self.refuse(conn, request, &hello, Refused { cause: RefusalCause::Full, text });
            }
            (Phase::AwaitsWelcome { hello }, Opening::Welcome(welcome)) => {
                let hello = *hello;
                self.take_welcome(conn, hello, welcome, events);
            }
            (Phase::AwaitsWelcome { .. }, Opening::Refused(refused)) => {
                self.lose(conn, refused.to_string(), events);
            }
            (
                Phase::Connecting { .. }
                | Phase::AwaitsWelcome { .. }
                | Phase::Asking { .. }
                | Phase::AwaitsHello { .. }
                | Phase::Held { .. }
                | Phase::Serving { .. }
                | Phase::Closing,
                Opening::Hello(_) | Opening::Welcome(_) | Opening::Refused(_),
            ) => self.reject_and_tell(conn, &"an opening that does not belong here", events),
        }
    }

    fn answer_hello(&mut self, conn: ConnId, hello: Hello, request: RequestId, events: &mut Vec<NetEvent>) {
        let Some(found) = lookup(&mut self.conns, conn) else { return };
        let Some(identity) = self.identity else {
            found.phase = Phase::Held { hello, request };
            return;
        };
        match identity.answer(&hello) {
            Ok(welcome) => {
                found.phase = Phase::Serving { body_cap: request_cap(hello.role) };
                self.send(conn, request, &Opening::Welcome(welcome));
                events.push(NetEvent::Opened { conn, hello });
            }
            Err(refused) => self.refuse(conn, request, &hello, refused),
        }
    }

    fn refuse(&mut self, conn: ConnId, request: RequestId, hello: &Hello, refused: Refused) {
        let why = format!("{} was refused: {}", hello.role, refused.text);
        self.send(conn, request, &Opening::Refused(refused));
        self.warn_closed(conn, &why);
        self.close(conn);
    }

    fn take_welcome(&mut self, conn: ConnId, hello: Hello, welcome: Welcome, events: &mut Vec<NetEvent>) {
        let (oldest, newest) = hello.versions;
        if !(oldest..=newest).contains(&welcome.version) {
            let why = format!("it answers in protocol version {}, not {oldest}..{newest}", welcome.version);
            return self.reject_and_tell(conn, &why, events);
        }
        if !clusters_meet(hello.cluster_id, welcome.cluster_id) {
            let why = format!("it is of cluster {}, not {}", welcome.cluster_id, hello.cluster_id);
            return self.reject_and_tell(conn, &why, events);
        }
        if let Some(found) = lookup(&mut self.conns, conn) {
            found.phase = Phase::Asking { body_cap: reply_cap(hello.role) };
        }
        events.push(NetEvent::Welcomed { conn, welcome });
    }

    /// The system says that a dial has come to an end, or may have.
    pub(super) fn finish_connect(&mut self, conn: ConnId, events: &mut Vec<NetEvent>) {
        let Some(found) = lookup(&mut self.conns, conn) else { return };
        let Phase::Connecting { hello, .. } = found.phase else { return };
        match connect_outcome(&found.socket) {
            Ok(true) => {
                found.phase = Phase::AwaitsWelcome { hello };
                self.mark_dirty(conn);
                events.push(NetEvent::Connected { conn });
            }
            Ok(false) => {}
            Err(error) => self.connect_next(conn, &error, events),
        }
    }

    /// Goes on to the next address of the name that was dialed.
    fn connect_next(&mut self, conn: ConnId, error: &io::Error, events: &mut Vec<NetEvent>) {
        let Some(found) = lookup(&mut self.conns, conn) else { return };
        let Phase::Connecting { others, .. } = &mut found.phase else { return };
        let failed = format!("cannot connect to {}: {error}", found.peer);
        let outcome = if others.is_empty() { Err(failed) } else { connect_first(others) };
        let outcome = outcome.and_then(|(mut socket, peer)| {
            super::socket::tune(&socket);
            let interest = Interest::READABLE | Interest::WRITABLE;
            // The old socket leaves the poll by being closed, as it is replaced.
            self.poll
                .registry()
                .register(&mut socket, token(conn), interest)
                .map_err(|error| format!("cannot connect to {peer}: {error}"))?;
            (found.socket, found.peer) = (socket, peer);
            Ok(())
        });
        if let Err(why) = outcome {
            self.lose(conn, why, events);
        }
    }

    /// Ends the openings that have taken too long.
    pub(super) fn expire_openings(&mut self, events: &mut Vec<NetEvent>) {
        let now = Instant::now();
        while let Some((due, conn)) = self.openings.front().copied() {
            if due > now && self.is_opening(conn) {
                return;
            }
            self.openings.pop_front();
            if !self.is_opening(conn) {
                continue;
            }
            let seconds = self.hello_timeout.as_secs_f32();
            if self.find(conn).is_some_and(Conn::is_known) {
                self.lose(conn, format!("no answer within {seconds} s"), events);
            } else {
                self.reject(conn, &format_args!("no Hello was said and answered within {seconds} s"));
            }
        }
    }
}

/// Starts to connect to the first address that the system does not refuse outright.
pub(super) fn connect_first(addrs: &mut VecDeque<SocketAddr>) -> Result<(TcpStream, SocketAddr), String> {
    let mut failed = "no address is left to try".to_owned();
    while let Some(peer) = addrs.pop_front() {
        match TcpStream::connect(peer) {
            Ok(socket) => return Ok((socket, peer)),
            Err(error) => failed = format!("cannot connect to {peer}: {error}"),
        }
    }
    Err(failed)
}

/// Whether a connect is complete; `Ok(false)` when it is still under way.
fn connect_outcome(socket: &TcpStream) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
