//! Nodes as the manager meets them: who is connected, what each last reported, and the rules of
//! joining.

use super::Manager;
use super::io::Output;
use crate::limits::{MEMBERS_MAX, PLAN_SETTLE_MS, REPORT_STALE_MS};
use crate::ring::{Member, MemberState, Table};
use crate::types::{ConnId, Epoch, Incarnation, Instant, NodeId, Now};
use crate::wire::manager::{Join, ManagerToNode, NodeToManager};
use crate::wire::{Vitals, decode_table};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Member connections, and what came over them.
#[derive(Debug, Default)]
pub(super) struct Members {
    seen: BTreeMap<NodeId, Seen>,
    by_conn: BTreeMap<ConnId, NodeId>,
}

/// A node that has joined since this manager started.
#[derive(Debug)]
pub(super) struct Seen {
    conn: Option<ConnId>,
    heard: Instant,
    pub(super) vitals: Vitals,
    pub(super) incarnation: Incarnation,
}

impl Members {
    pub(super) fn connections(&self) -> Vec<ConnId> {
        self.by_conn.keys().copied().collect()
    }

    pub(super) fn seen(&self, node: NodeId) -> Option<&Seen> {
        self.seen.get(&node)
    }

    /// The member on a connection.
    pub(super) fn on_connection(&self, conn: ConnId) -> Option<NodeId> {
        self.by_conn.get(&conn).copied()
    }

    /// Whether a member has a connection.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.seen.get(&node).is_some_and(|seen| seen.conn.is_some())
    }

    /// When a member was last heard of; none since this manager started.
    pub(super) fn heard(&self, node: NodeId) -> Option<Instant> {
        self.seen.get(&node).map(|seen| seen.heard)
    }

    /// Whether a node is connected and has reported lately.
    pub(super) fn is_up(&self, node: NodeId, now: Instant) -> bool {
        self.seen
            .get(&node)
            .is_some_and(|seen| seen.conn.is_some() && now.micros_since(seen.heard) < REPORT_STALE_MS * 1000)
    }

    /// The lowest epoch that a connected node has durably; none if no node is connected.
    pub(super) fn lowest_epoch(&self, now: Instant) -> Option<Epoch> {
        let up = self.seen.iter().filter(|entry| self.is_up(*entry.0, now));
        up.map(|entry| entry.1.vitals.epoch).min()
    }
}

impl Manager {
    pub(super) fn on_node(&mut self, now: Now, conn: ConnId, message: NodeToManager, out: &mut Vec<Output>) {
        match message {
            NodeToManager::Join(join) => {
                if join.epoch > self.table.epoch && join.node != NodeId(0) {
                    log::warn!(
                        "node {} has a table of epoch {}, newer than ours of {}: asking for it",
                        join.node,
                        join.epoch,
                        self.table.epoch
                    );
                    self.behind = Some((conn, join.epoch));
                    out.push(Output::Node { conn, message: ManagerToNode::OfferTable });
                }
                self.wishes.joins.retain(|waiting| waiting.0 != conn);
                self.wishes.joins.push((conn, join));
            }
            NodeToManager::Report(vitals) => {
                let node = self.members.by_conn.get(&conn).copied();
                if let Some(seen) = node.and_then(|node| self.members.seen.get_mut(&node)) {
                    seen.heard = now.mono;
                    seen.vitals = vitals;
                }
            }
            NodeToManager::Streamed(arrived) => self.note_arrived(conn, &arrived),
            NodeToManager::Leave => self.note_leave(conn),
            NodeToManager::HandedOver => self.note_handed_over(conn),
            NodeToManager::Table(bytes) => self.adopt(now, bytes, out),
        }
    }

    /// A member's table is newer than ours: this manager was restored from an old copy.
    fn adopt(&mut self, now: Now, bytes: Bytes, out: &mut Vec<Output>) {
        let table = match decode_table(bytes) {
            Ok(table) => table,
            Err(error) => return log::warn!("the table that was offered cannot be read: {error}"),
        };
        if table.cluster_id != self.table.cluster_id || table.epoch <= self.table.epoch {
            return;
        }
        log::warn!("adopting the members' table of epoch {}", table.epoch);
        if self.behind.is_some_and(|(_, epoch)| epoch <= table.epoch) {
            self.behind = None;
        }
        self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
        self.store(now, table, out);
    }

    pub(super) fn gone(&mut self, conn: ConnId) {
        self.wishes.joins.retain(|waiting| waiting.0 != conn);
        if let Some(node) = self.members.by_conn.remove(&conn)
            && let Some(seen) = self.members.seen.get_mut(&node)
            && seen.conn == Some(conn)
        {
            seen.conn = None;
            log::info!("node {node} is no longer connected");
        }
        if self.behind.is_some_and(|(holder, _)| holder == conn) {
            // It may be gone for good; if it is not, it says so again.
            self.behind = None;
        }
    }

    /// Lets the waiting nodes in, or says why not. Returns the connections of those let in.
    pub(super) fn grant_joins(&mut self, now: Now, next: &mut Table, tell: &mut Vec<Output>) -> Vec<ConnId> {
        let mut joined = Vec::new();
        for (conn, join) in std::mem::take(&mut self.wishes.joins) {
            match admit(next, &join) {
                Ok(Admitted { node, new }) => {
                    if new {
                        self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
                    }
                    self.meet(now, conn, node, &join);
                    let cluster_id = next.cluster_id;
                    tell.push(Output::Node { conn, message: ManagerToNode::Joined { node, cluster_id } });
                    joined.push(conn);
                }
                Err(text) => {
                    log::warn!("a node at {} may not join: {text}", join.addr);
                    tell.push(Output::Node { conn, message: ManagerToNode::Rejected { text } });
                }
            }
        }
        joined
    }

    fn meet(&mut self, now: Now, conn: ConnId, node: NodeId, join: &Join) {
        log::info!("node {node} at {} is connected", join.addr);
        self.members.by_conn.retain(|_, known| *known != node);
        self.members.by_conn.insert(conn, node);
        let seen = Seen {
            conn: Some(conn),
            heard: now.mono,
            vitals: Vitals { epoch: join.epoch, ..Vitals::default() },
            incarnation: join.incarnation,
        };
        self.members.seen.insert(node, seen);
    }
}

/// A node that may be a member.
struct Admitted {
    node: NodeId,
    new: bool,
}

/// Enters a node into the table, or finds it there. Joining twice is harmless.
fn admit(next: &mut Table, join: &Join) -> Result<Admitted, String> {
    let by_disk = next.members.iter().find(|entry| entry.1.disk_uuid == join.disk_uuid).map(|entry| *entry.0);
    let node = match (join.node, by_disk) {
        (NodeId(0), Some(known)) => known,
        (NodeId(0), None) => return enter(next, join),
        (id, Some(known)) if id == known => known,
        (id, _) => {
            return Err(format!(
                "node {id} is not known here with this data directory; \
                 start it with its own directory, or with an empty one to join as a new node"
            ));
        }
    };
    let Some(member) = next.members.get_mut(&node) else {
        return Err(format!("node {node} is not in the table"));
    };
    if member.state == MemberState::Left {
        return Err(format!(
            "node {node} has left the cluster for good; its data is untouched; \
             start it with an empty directory to join as a new node"
        ));
    }
    if matches!(member.state, MemberState::Lost | MemberState::Removed) {
        return Err(format!(
            "node {node} was given up as dead, and its sectors are other nodes' now; its data is untouched; \
             start it with an empty directory to join as a new node"
        ));
    }
    member.addr.clone_from(&join.addr);
    member.zone.clone_from(&join.zone);
    Ok(Admitted { node, new: false })
}

fn enter(next: &mut Table, join: &Join) -> Result<Admitted, String> {
    if next.members.len() >= MEMBERS_MAX {
        return Err(format!("the cluster has had {MEMBERS_MAX} members, the most there can be"));
    }
    let node = next.next_node;
    next.next_node = NodeId(node.0 + 1);
    let member = Member {
        addr: join.addr.clone(),
        disk_uuid: join.disk_uuid,
        zone: join.zone.clone(),
        weight: join.weight,
        state: if join.manual { MemberState::Waiting } else { MemberState::Joining },
    };
    next.members.insert(node, member);
    Ok(Admitted { node, new: !join.manual })
}
