//! The connections a node dials: two links to each peer it is told to keep, and the manager.

use crate::limits::LINK_BYTES_MAX;
use crate::node::io::{Input, Lane};
use crate::shell::dialer::Dialer;
use crate::shell::net::Net;
use crate::types::{ConnId, Instant, NodeId, RequestId};
use crate::wire::Message;
use crate::wire::hello::{Hello, Identity, Role, Server, Welcome};
use crate::wire::manager::NodeToManager;
use crate::wire::peer::PeerRequest;
use ahash::AHashMap;
use std::collections::BTreeMap;
use std::fmt::Display;

const LANES: [Lane; 2] = [Lane::Foreground, Lane::Bulk];

/// What a dialed connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Line {
    /// The manager.
    Manager,
    /// A link to a peer.
    Link(NodeId, Lane),
}

/// Every connection that this node keeps up.
#[derive(Debug)]
pub(super) struct Links {
    lines: BTreeMap<Line, (String, Dialer)>,
    conns: AHashMap<ConnId, Line>,
}

impl Links {
    /// The manager alone, which may be at any of these addresses.
    pub(super) fn new(managers: Vec<String>, now: Instant) -> Self {
        let addr = managers.join(",");
        let dialer = Dialer::new("the manager".to_owned(), managers, now);
        Self { lines: BTreeMap::from([(Line::Manager, (addr, dialer))]), conns: AHashMap::new() }
    }

    /// What this connection is for, if it was dialed here.
    pub(super) fn line(&self, conn: ConnId) -> Option<Line> {
        self.conns.get(&conn).copied()
    }

    /// When something is to be dialed next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lines.values().filter_map(|(_, dialer)| dialer.due()).min()
    }

    /// Dials what is due, as who we now are.
    pub(super) fn dial_due(&mut self, net: &mut Net, now: Instant, us: Identity) {
        for (line, (_, dialer)) in &mut self.lines {
            let hello = Hello::new(role(*line, us), us.cluster_id, us.incarnation);
            if let Some(conn) = dialer.dial_if_due(net, now, hello) {
                self.conns.insert(conn, *line);
            }
        }
    }

    /// A listener has welcomed us. If it is the one we meant, the line is up.
    pub(super) fn welcomed(
        &mut self,
        net: &mut Net,
        now: Instant,
        us: Identity,
        (conn, welcome): (ConnId, Welcome),
    ) -> Option<Input> {
        let line = self.line(conn)?;
        if let Err(why) = check(line, us, &welcome) {
            net.reject(conn, &why);
            return self.lost(conn, now, &why);
        }
        if let Some((_, dialer)) = self.lines.get_mut(&line) {
            dialer.came_up(conn);
        }
        Some(match line {
            Line::Manager => Input::ManagerUp,
            Line::Link(peer, lane) => Input::LinkUp { peer, lane },
        })
    }

    /// A dialed connection is gone; it will be dialed again. If it was up, the node must know.
    pub(super) fn lost(&mut self, conn: ConnId, now: Instant, why: &dyn Display) -> Option<Input> {
        let line = self.conns.remove(&conn)?;
        let (_, dialer) = self.lines.get_mut(&line)?;
        dialer.went_down(now, why).then(|| down(line))
    }

    /// Keeps links of both lanes to a peer. Whatever link there was to another address of it ends.
    pub(super) fn connect(&mut self, net: &mut Net, now: Instant, peer: NodeId, addr: &str) -> Vec<Input> {
        let is_kept = |links: &Self| {
            LANES
                .iter()
                .all(|lane| links.lines.get(&Line::Link(peer, *lane)).is_some_and(|(kept, _)| kept == addr))
        };
        if is_kept(self) {
            return Vec::new();
        }
        let ended = self.disconnect(net, peer);
        for lane in LANES {
            let whom = match lane {
                Lane::Foreground => format!("node {peer}"),
                Lane::Bulk => format!("node {peer} (bulk)"),
            };
            let dialer = Dialer::new(whom, vec![addr.to_owned()], now);
            self.lines.insert(Line::Link(peer, lane), (addr.to_owned(), dialer));
        }
        ended
    }

    /// Ends the links to a peer and dials it no more.
    pub(super) fn disconnect(&mut self, net: &mut Net, peer: NodeId) -> Vec<Input> {
        let mut ended = Vec::new();
        for lane in LANES {
            let line = Line::Link(peer, lane);
            let Some((_, dialer)) = self.lines.remove(&line) else { continue };
            if let Some(conn) = dialer.any_conn() {
                self.conns.remove(&conn);
                net.close(conn);
            }
            ended.extend(dialer.conn().map(|_| down(line)));
        }
        ended
    }

    /// Asks a peer, if the link is up. A link that has fallen too far behind ends.
    pub(super) fn ask(
        &mut self,
        net: &mut Net,
        now: Instant,
        (peer, lane): (NodeId, Lane),
        (request, message): (RequestId, &PeerRequest),
    ) -> Option<Input> {
        self.send(net, now, Line::Link(peer, lane), request, message)
    }

    /// Tells the manager, if it is there.
    pub(super) fn tell_manager(
        &mut self,
        net: &mut Net,
        now: Instant,
        message: &NodeToManager,
    ) -> Option<Input> {
        self.send(net, now, Line::Manager, RequestId(0), message)
    }

    fn send(
        &mut self,
        net: &mut Net,
        now: Instant,
        line: Line,
        request: RequestId,
        message: &impl Message,
    ) -> Option<Input> {
        let conn = self.lines.get(&line)?.1.conn()?;
        net.send(conn, request, message);
        if net.queued(conn) <= LINK_BYTES_MAX {
            return None;
        }
        net.close(conn);
        self.lost(conn, now, &format_args!("over {LINK_BYTES_MAX} bytes wait to be sent to it"))
    }
}

fn down(line: Line) -> Input {
    match line {
        Line::Manager => Input::ManagerDown,
        Line::Link(peer, lane) => Input::LinkDown { peer, lane },
    }
}

/// Our own id; 0 before the first join.
pub(super) fn own_id(us: Identity) -> NodeId {
    match us.server {
        Server::Node(node) => node,
        Server::Manager => NodeId(0),
    }
}

fn role(line: Line, us: Identity) -> Role {
    match line {
        Line::Manager => Role::Member(own_id(us)),
        Line::Link(_, Lane::Foreground) => Role::Peer(own_id(us)),
        Line::Link(_, Lane::Bulk) => Role::PeerBulk(own_id(us)),
    }
}

/// Whether the one that welcomed us is the one we meant to reach.
fn check(line: Line, us: Identity, welcome: &Welcome) -> Result<(), String> {
    let meant = match line {
        Line::Manager => Server::Manager,
        Line::Link(peer, _) => Server::Node(peer),
    };
    if welcome.server != meant {
        return Err(format!("{meant} was expected there, but it is {}", welcome.server));
    }
    match line {
        Line::Link(..) if welcome.cluster_id != us.cluster_id => {
            Err(format!("it is of cluster {}, not {}", welcome.cluster_id, us.cluster_id))
        }
        Line::Link(..) | Line::Manager => Ok(()),
    }
}
