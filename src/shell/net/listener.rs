//! Taking connections in.

use super::Net;
use super::conn::{Conn, Phase};
use mio::net::{TcpListener, TcpStream};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections taken from one listener per turn.
const ACCEPTS_PER_TURN: usize = 256;
/// How long to leave a listener alone when the system has no descriptor or memory to give: the
/// connection that could not be taken stays in the kernel's queue and would be told at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections over the cap that may still say Hello, to be told in words that there is no room.
const REFUSED_AT_ONCE: usize = 64;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// When to accept next, while there may be something to accept.
    pub(super) accept_at: Option<Instant>,
}

impl Listener {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(addr)?, accept_at: None })
    }
}

/// What an attempt to accept says about the next one.
enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// This one is gone already; there may be others.
    Lost,
    Nothing,
    /// The system is short of something.
    Failed(io::Error),
}

impl Net {
    /// Takes in the connections that wait, on every listener that may have some.
    pub(super) fn accept_ready(&mut self) {
        let now = Instant::now();
        for index in 0..self.listeners.len() {
            let due = self.listeners.get(index).and_then(|listener| listener.accept_at);
            if due.is_some_and(|at| at <= now) {
                let next = self.accept_some(index, now);
                if let Some(listener) = self.listeners.get_mut(index) {
                    listener.accept_at = next;
                }
            }
        }
    }

    /// Accepts a turn's share; answers when to go on, if there may be more.
    fn accept_some(&mut self, index: usize, now: Instant) -> Option<Instant> {
        for _ in 0..ACCEPTS_PER_TURN {
            match accept(&self.listeners.get(index)?.socket) {
                Accepted::Connection(socket, peer) => self.take_in(socket, peer),
                Accepted::Lost => {}
                Accepted::Nothing => return None,
                Accepted::Failed(error) => {
                    self.warnings.warn(&format_args!(
                        "cannot accept connections for now: {error} (raise the limit of open files, or close some)"
                    ));
                    return Some(now + ACCEPT_PAUSE);
                }
            }
        }
        Some(now)
    }

    fn take_in(&mut self, socket: TcpStream, peer: SocketAddr) {
        if self.accepted >= self.connections_max + REFUSED_AT_ONCE {
            let why = format!("{} connections are open, which is the limit", self.accepted);
            self.warnings.warn_closed(peer, &why);
            return;
        }
        let has_room = self.accepted < self.connections_max;
        match self.add(Conn::new(socket, peer, Phase::AwaitsHello { has_room })) {
            Ok(_) => self.accepted += 1,
            Err(error) => self.warnings.warn_closed(peer, &error),
        }
    }
}

fn accept(listener: &TcpListener) -> Accepted {
    match listener.accept() {
        Ok((socket, peer)) => Accepted::Connection(socket, peer),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Accepted::Nothing,
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {
                Accepted::Lost
            }
            _ => Accepted::Failed(error),
        },
    }
}
