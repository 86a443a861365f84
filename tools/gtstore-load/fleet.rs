//! The connections: which node each is to, and dialing again when one is gone.
//!
//! ```text
//! Waiting --due--> Dialing --welcomed--> Up
//!    ^                |                   |
//!    +---- failed ----+------ broken -----+
//! ```

use crate::options::Routing;
use gtstore::limits::REDIAL_MS;
use gtstore::shell::net::Net;
use gtstore::shell::random;
use gtstore::types::{ClientId, ClusterId, ConnId, Incarnation, Instant, NodeId, OpId};
use gtstore::wire::hello::{Hello, Role};
use std::io;

/// All connections.
#[derive(Debug)]
pub struct Fleet {
    links: Vec<Link>,
    targets: Vec<(NodeId, String)>,
    routing: Routing,
    /// Where the search for a node's next connection begins.
    turn: usize,
}

/// One connection, over all its lives.
#[derive(Debug)]
struct Link {
    /// Which target it is to.
    target: usize,
    /// Names its writes.
    client: ClientId,
    /// Writes so far.
    writes: u64,
    state: State,
    /// When something last came on it.
    heard: Instant,
    /// How long to wait after the next failure.
    backoff_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting { until: Instant },
    Dialing(ConnId),
    Up(ConnId),
}

impl Fleet {
    /// So many connections, spread over the targets; there is at least one target.
    ///
    /// # Errors
    /// The system has no random source for the clients' ids.
    pub fn new(targets: Vec<(NodeId, String)>, conns: usize, routing: Routing) -> io::Result<Self> {
        let mut links = Vec::with_capacity(conns);
        for at in 0..conns {
            links.push(Link {
                target: at % targets.len().max(1),
                client: ClientId(random::id()?),
                writes: 0,
                state: State::Waiting { until: Instant(0) },
                heard: Instant(0),
                backoff_ms: REDIAL_MS.0,
            });
        }
        Ok(Self { links, targets, routing, turn: 0 })
    }

    /// Dials what is due.
    pub fn dial_due(&mut self, net: &mut Net, now: Instant) {
        for link in &mut self.links {
            if matches!(link.state, State::Waiting { until } if until <= now)
                && let Some((_, addr)) = self.targets.get(link.target)
            {
                let hello = Hello::new(Role::Client(link.client), ClusterId(0), Incarnation(0));
                link.state = State::Dialing(net.dial(addr, hello));
            }
        }
    }

    /// A dialed connection is open.
    pub fn welcomed(&mut self, conn: ConnId, now: Instant) {
        if let Some(link) = self.links.iter_mut().find(|link| link.state == State::Dialing(conn)) {
            link.state = State::Up(conn);
            link.heard = now;
            link.backoff_ms = REDIAL_MS.0;
        }
    }

    /// Something has come on a connection.
    pub fn heard(&mut self, link: usize, now: Instant) {
        if let Some(link) = self.links.get_mut(link) {
            link.heard = now;
        }
    }

    /// Whether anything has come on a connection since then.
    pub fn is_heard_since(&self, link: usize, since: Instant) -> bool {
        self.links.get(link).is_some_and(|link| link.heard > since)
    }

    /// A connection is given up for its silence: the next node is dialed, where any node will do.
    pub fn leave(&mut self, conn: ConnId, now: Instant) {
        let Some(link) = self.links.iter_mut().find(|link| link.state == State::Up(conn)) else { return };
        if self.routing == Routing::Forwarder {
            link.target = (link.target + 1) % self.targets.len().max(1);
        }
        link.state = State::Waiting { until: now };
    }

    /// A connection is gone or never came to be. It is dialed again after a while: first to the
    /// same node, then, where any node will do, to the next one.
    pub fn closed(&mut self, conn: ConnId, now: Instant) {
        let is_it = |link: &&mut Link| matches!(link.state, State::Dialing(c) | State::Up(c) if c == conn);
        let Some(link) = self.links.iter_mut().find(is_it) else { return };
        let moves_on = match (self.routing, link.state) {
            (Routing::Forwarder, State::Dialing(_)) => true,
            (Routing::Forwarder, State::Up(_) | State::Waiting { .. }) | (Routing::Direct, _) => false,
        };
        if moves_on {
            link.target = (link.target + 1) % self.targets.len().max(1);
        }
        link.state = State::Waiting { until: now.after_ms(random::jittered(link.backoff_ms)) };
        link.backoff_ms = (link.backoff_ms * 2).min(REDIAL_MS.1);
    }

    /// The connection of this number, if it is open.
    pub fn conn(&self, link: usize) -> Option<ConnId> {
        match self.links.get(link)?.state {
            State::Up(conn) => Some(conn),
            State::Waiting { .. } | State::Dialing(_) => None,
        }
    }

    /// Whether any connection is open.
    pub fn is_connected(&self) -> bool {
        self.links.iter().any(Link::is_up)
    }

    /// An open connection to this node, another one each time.
    pub fn link_to(&mut self, node: NodeId) -> Option<usize> {
        let at = self.targets.iter().position(|target| target.0 == node)?;
        self.next_where(|link| link.target == at)
    }

    /// An open connection to whomever, another one each time.
    pub fn link_to_any(&mut self) -> Option<usize> {
        self.next_where(|_| true)
    }

    fn next_where(&mut self, fits: impl Fn(&Link) -> bool) -> Option<usize> {
        let count = self.links.len();
        let found = (1..=count)
            .map(|step| (self.turn + step) % count)
            .find(|&at| self.links.get(at).is_some_and(|link| link.is_up() && fits(link)))?;
        self.turn = found;
        Some(found)
    }

    /// A name for the next write on this connection.
    pub fn name_write(&mut self, link: usize) -> OpId {
        let Some(link) = self.links.get_mut(link) else { return OpId::default() };
        link.writes += 1;
        OpId { client: link.client, seq: link.writes }
    }

    /// How many connections are open, and how many there are to be.
    pub fn up(&self) -> (usize, usize) {
        let up = self.links.iter().filter(|link| link.is_up()).count();
        (up, self.links.len())
    }
}

impl Link {
    fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }
}
