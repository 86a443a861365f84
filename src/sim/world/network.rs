//! Connections between processes: dialing, Hello, messages on their way, and what breaks them.

use super::{Conn, What, World};
use crate::client;
use crate::manager;
use crate::node;
use crate::sim::process::{LaneKey, Link, LinkKey, ProcId, Running};
use crate::sim::staleness::Leg;
use crate::types::{ClientId, ConnId, RequestId};
use crate::wire::Message;
use crate::wire::client::{ClientReply, ClientRequest, DATA_REQUEST};
use crate::wire::codec::Writer;
use crate::wire::hello::{Hello, Identity, Role, Server, Welcome};
use crate::wire::manager::{ManagerToNode, NodeToManager};
use crate::wire::peer::{FORWARD_REQUEST, PeerReply, PeerRequest};
use bytes::Bytes;

/// How late a copy of a message may be that arrives long after the first.
const LATE_US: (u64, u64) = (100_000, 12_000_000);

impl World {
    pub(super) fn latency(&mut self) -> u64 {
        let (low, high) = self.climate.latency_us;
        let slow = self.rng.chance(self.climate.slow_per_mille);
        self.rng.range(low, high) * if slow { 20 } else { 1 }
    }

    /// How long a message of this kind takes.
    fn latency_of(&mut self, kind: u8) -> u64 {
        match self.legs.zip(Leg::of_kind(kind)) {
            Some((model, leg)) => model.draw_us(leg, &mut self.rng),
            None => self.latency(),
        }
    }

    fn is_blocked(&self, from: ProcId, to: ProcId) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn want_link(&mut self, proc: ProcId, link: LinkKey, addr: &str) {
        self.drop_link(proc, link);
        let wanted = Link { addr: addr.to_owned(), conn: None, up: false };
        self.procs[proc.0].links.insert(link, wanted);
        let life = self.procs[proc.0].life;
        self.at(self.now_us, What::Redial { proc, life, link });
    }

    pub(super) fn dial_once(&mut self, proc: ProcId, link: LinkKey, addr: &str) {
        self.want_link(proc, link, addr);
    }

    pub(super) fn drop_link(&mut self, proc: ProcId, link: LinkKey) {
        if let Some(conn) = self.procs[proc.0].links.remove(&link).and_then(|link| link.conn) {
            self.hang_up(conn, true);
        }
    }

    pub(super) fn conn_of(&self, proc: ProcId, link: LinkKey) -> Option<u64> {
        self.procs[proc.0].links.get(&link).filter(|link| link.up).and_then(|link| link.conn)
    }

    pub(super) fn redial(&mut self, proc: ProcId, life: u64, link: LinkKey) {
        let process = &self.procs[proc.0];
        let (Some(wanted), true) = (process.links.get(&link), process.life == life) else { return };
        if wanted.conn.is_some() {
            return;
        }
        let Some(&listener) = self.addrs.get(&wanted.addr) else { return };
        let hello = self.hello(proc, link);
        self.serial += 1;
        let id = self.serial;
        let ordered = self.climate.ordered || link == LinkKey::Manager;
        let conn = Conn { dialer: proc, listener, link, hello, open: true, ordered, last: [0; 2] };
        self.conns.insert(id, conn);
        if let Some(wanted) = self.procs[proc.0].links.get_mut(&link) {
            wanted.conn = Some(id);
        }
        if self.is_blocked(proc, listener) || self.is_blocked(listener, proc) {
            let timeout_us = self.rng.range(100_000, 1_000_000);
            return self.at(self.now_us + timeout_us, What::Answered { conn: id, welcome: None });
        }
        let arrives = self.now_us + self.latency();
        self.at(arrives, What::Dialed { conn: id });
    }

    fn hello(&self, proc: ProcId, link: LinkKey) -> Hello {
        let (identity, client) = match &self.procs[proc.0].running {
            Running::Node(node) => (Some(node.identity()), ClientId(0)),
            Running::Client(_) => (None, ClientId(proc.0 as u128)),
            Running::Manager(_) | Running::Down => (None, ClientId(0)),
        };
        let node = match identity.map(|identity| identity.server) {
            Some(Server::Node(node)) => node,
            Some(Server::Manager) | None => Default::default(),
        };
        let role = match link {
            LinkKey::Peer(_, LaneKey::Foreground) => Role::Peer(node),
            LinkKey::Peer(_, LaneKey::Bulk) => Role::PeerBulk(node),
            LinkKey::Manager => Role::Member(node),
            LinkKey::Server(_) => Role::Client(client),
        };
        let cluster_id = identity.map(|identity| identity.cluster_id).unwrap_or_default();
        let incarnation = identity.map(|identity| identity.incarnation).unwrap_or_default();
        Hello::new(role, cluster_id, incarnation)
    }

    fn identity(&self, proc: ProcId) -> Option<Identity> {
        match &self.procs[proc.0].running {
            Running::Manager(machine) => Some(machine.identity()),
            Running::Node(machine) => Some(machine.identity()),
            Running::Client(_) | Running::Down => None,
        }
    }

    pub(super) fn dialed(&mut self, id: u64) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.open) else { return };
        let answer = self.identity(conn.listener).map(|identity| identity.answer(&conn.hello));
        let welcome = answer.and_then(Result::ok);
        let arrives = self.now_us + self.latency();
        self.at(arrives, What::Answered { conn: id, welcome });
    }

    pub(super) fn answered(&mut self, id: u64, welcome: Option<Welcome>) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.open) else { return };
        let (proc, key) = (conn.dialer, conn.link);
        let fits = match (key, welcome.map(|welcome| welcome.server)) {
            (_, None) | (LinkKey::Peer(..), Some(Server::Manager)) => false,
            (LinkKey::Peer(peer, _), Some(Server::Node(node))) => peer == node,
            (LinkKey::Manager | LinkKey::Server(_), Some(_)) => true,
        };
        let (true, Some(welcome)) = (fits, welcome) else {
            return self.break_conn(id, 0);
        };
        if let Some(link) = self.procs[proc.0].links.get_mut(&key) {
            link.up = true;
        }
        match key {
            LinkKey::Peer(peer, lane) => {
                self.tell_node(proc, node::io::Input::LinkUp { peer, lane: lane.into() });
            }
            LinkKey::Manager => self.tell_node(proc, node::io::Input::ManagerUp),
            LinkKey::Server(server) => {
                let server = client::ServerId(server);
                self.tell_client(proc, client::Input::Welcomed { server, by: welcome.server });
            }
        }
    }

    /// Both ends learn that a connection is gone, the one sooner than the other.
    pub(super) fn break_conn(&mut self, id: u64, notice_us: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.open = false;
        let later = self.rng.below(1000);
        self.at(self.now_us + notice_us, What::Closed { conn: id, at_dialer: true });
        self.at(self.now_us + notice_us + later, What::Closed { conn: id, at_dialer: false });
    }

    /// One end closes; only the other is told.
    fn hang_up(&mut self, id: u64, by_dialer: bool) {
        let notice_us = self.latency();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.open = false;
        self.at(self.now_us + notice_us, What::Closed { conn: id, at_dialer: !by_dialer });
    }

    pub(super) fn closed(&mut self, id: u64, at_dialer: bool) {
        let Some(conn) = self.conns.get(&id).cloned() else { return };
        if !at_dialer {
            if matches!(self.procs[conn.listener.0].running, Running::Manager(_)) {
                self.tell_manager(conn.listener, manager::io::Input::Gone { conn: ConnId(id) });
            }
            return;
        }
        let process = &mut self.procs[conn.dialer.0];
        let Some(link) = process.links.get_mut(&conn.link).filter(|link| link.conn == Some(id)) else {
            return;
        };
        let was_up = std::mem::replace(&mut link.up, false);
        link.conn = None;
        let life = process.life;
        match conn.link {
            LinkKey::Server(server) => {
                process.links.remove(&conn.link);
                let (server, why) = (client::ServerId(server), "connection lost".to_owned());
                return self.tell_client(conn.dialer, client::Input::Closed { server, why });
            }
            LinkKey::Peer(peer, lane) if was_up => {
                self.tell_node(conn.dialer, node::io::Input::LinkDown { peer, lane: lane.into() });
            }
            LinkKey::Manager if was_up => self.tell_node(conn.dialer, node::io::Input::ManagerDown),
            LinkKey::Peer(..) | LinkKey::Manager => {}
        }
        let backoff_us = self.rng.range(50_000, 300_000);
        let (proc, link) = (conn.dialer, conn.link);
        self.at(self.now_us + backoff_us, What::Redial { proc, life, link });
    }

    /// Puts a message on its way, through the real codec and the weather.
    pub(super) fn send(&mut self, id: u64, to_dialer: bool, request: RequestId, message: &impl Message) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.open) else { return };
        let (from, to) = if to_dialer { (conn.listener, conn.dialer) } else { (conn.dialer, conn.listener) };
        let (ordered, reliable) = (conn.ordered, matches!(conn.link, LinkKey::Manager));
        if self.journal.is_some() {
            let (from, to) = (self.name_of(from).to_owned(), self.name_of(to).to_owned());
            self.note(|| format!("{from} -> {to} {:x} {message:?}", request.0));
        }
        if self.is_blocked(from, to) {
            self.note(|| "    is blocked".to_owned());
            let timeout_us = self.rng.range(300_000, 3_000_000);
            return self.at(self.now_us + timeout_us, What::Broken { conn: id });
        }
        if !reliable && self.rng.chance(self.climate.loss_per_mille) {
            self.note(|| "    is lost".to_owned());
            return;
        }
        let mut writer = Writer::default();
        message.encode(&mut writer);
        let (kind, body) = (message.kind(), writer.into_bytes());
        // A connection gives a request to its server once; whoever asks again says so, by a
        // further attempt. Everything else must bear being told twice.
        let is_request = matches!(message.kind(), DATA_REQUEST | FORWARD_REQUEST);
        let doubled = !reliable && !is_request && self.rng.chance(self.climate.double_per_mille);
        let copies = if doubled { 2 } else { 1 };
        for copy in 0..copies {
            let mut arrives = self.now_us + self.latency_of(kind);
            if !ordered && copy > 0 && self.rng.once_in(4) {
                // Long after whatever it was about.
                arrives += self.rng.range(LATE_US.0, LATE_US.1);
            }
            if ordered && let Some(conn) = self.conns.get_mut(&id) {
                let last = &mut conn.last[usize::from(!to_dialer)];
                arrives = arrives.max(*last);
                *last = arrives;
            }
            self.note(|| format!("    arrives at {arrives}"));
            self.at(arrives, What::Message { conn: id, to_dialer, kind, request, body: body.clone() });
        }
    }

    pub(super) fn message(&mut self, id: u64, to_dialer: bool, kind: u8, request: RequestId, body: Bytes) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.open) else { return };
        let (link, hello, dialer, listener) = (conn.link, conn.hello, conn.dialer, conn.listener);
        let decoded = if to_dialer {
            self.deliver_reply(dialer, link, kind, request, body)
        } else {
            self.deliver_request(listener, ConnId(id), hello.role, kind, request, body)
        };
        if let Err(error) = decoded {
            self.fatal.push(format!("a message of kind {kind:#04x} was not understood: {error}"));
        }
    }

    fn deliver_reply(
        &mut self,
        proc: ProcId,
        link: LinkKey,
        kind: u8,
        request: RequestId,
        body: Bytes,
    ) -> Result<(), crate::wire::codec::DecodeError> {
        match link {
            LinkKey::Peer(from, _) => {
                let message = PeerReply::decode(kind, body)?;
                self.tell_node(proc, node::io::Input::PeerReply { from, request, message });
            }
            LinkKey::Manager => {
                let message = ManagerToNode::decode(kind, body)?;
                self.tell_node(proc, node::io::Input::Manager(message));
            }
            LinkKey::Server(server) => {
                let (server, message) = (client::ServerId(server), ClientReply::decode(kind, body)?);
                self.tell_client(proc, client::Input::Reply { server, request, message });
            }
        }
        Ok(())
    }

    fn deliver_request(
        &mut self,
        proc: ProcId,
        conn: ConnId,
        role: Role,
        kind: u8,
        request: RequestId,
        body: Bytes,
    ) -> Result<(), crate::wire::codec::DecodeError> {
        let to_manager = matches!(self.procs[proc.0].running, Running::Manager(_));
        match role {
            Role::Client(_) => {
                let message = ClientRequest::decode(kind, body)?;
                if to_manager {
                    self.tell_manager(proc, manager::io::Input::Client { conn, request, message });
                } else {
                    self.tell_node(proc, node::io::Input::Client { conn, request, message });
                }
            }
            Role::Peer(from) | Role::PeerBulk(from) => {
                let message = PeerRequest::decode(kind, body)?;
                self.tell_node(proc, node::io::Input::Peer { conn, from, request, message });
            }
            Role::Member(_) => {
                let message = NodeToManager::decode(kind, body)?;
                self.tell_manager(proc, manager::io::Input::Node { conn, message });
            }
        }
        Ok(())
    }
}
