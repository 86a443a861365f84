//! The node's place in the cluster: joining through the manager, adopting tables, telling others.
//!
//! A table is adopted whole, never mixed, and only if its epoch is higher than ours; it goes to
//! the disk in order with the log, so that whatever is acknowledged under it is acknowledged with
//! it. Two different tables of one epoch mean two authors: the second is refused, loudly.

use super::io::{Lane, Output};
use super::{NO_ROW, Node, Row, View};
use crate::engine::FileName;
use crate::limits::REPORT_MS;
use crate::ring::{Durability, Table};
use crate::types::{ClusterId, Epoch, NodeId, Now};
use crate::wire::decode_table;
use crate::wire::hello::clusters_meet;
use crate::wire::manager::{Join, ManagerToNode, NodeToManager};
use crate::wire::peer::PeerRequest;
use bytes::Bytes;
use std::sync::Arc;

impl Node {
    pub(super) fn on_manager_up(&mut self, now: Now, out: &mut Vec<Output>) {
        self.manager_up = true;
        self.report_at = now.mono.after_ms(REPORT_MS);
        out.push(Output::Manager(NodeToManager::Join(Join {
            node: self.identity.node,
            disk_uuid: self.identity.disk_uuid,
            incarnation: self.identity.incarnation,
            addr: self.options.addr.clone(),
            zone: self.options.zone.clone(),
            weight: self.options.weight,
            epoch: self.table().map_or(Epoch(0), |table| table.epoch),
            manual: self.options.manual,
        })));
    }

    pub(super) fn on_manager(&mut self, now: Now, message: ManagerToNode, out: &mut Vec<Output>) {
        match message {
            ManagerToNode::Joined { node, cluster_id } => self.joined(now, node, cluster_id, out),
            ManagerToNode::Rejected { text } => {
                out.push(Output::Fatal(format!("the manager does not take this node: {text}")));
            }
            ManagerToNode::Table(bytes) => self.adopt_bytes(now, bytes, out),
            ManagerToNode::CannotLeave { text } => self.cannot_leave(&text),
            ManagerToNode::OfferTable => {
                if let Some(view) = &self.view {
                    out.push(Output::Manager(NodeToManager::Table(view.bytes.clone())));
                }
            }
        }
    }

    fn joined(&mut self, now: Now, node: NodeId, cluster_id: ClusterId, out: &mut Vec<Output>) {
        if self.identity.node == node && self.identity.cluster_id == cluster_id {
            // The manager has just met this life of ours, and shows what it last heard.
            return self.report(now, out);
        }
        if self.identity.node != NodeId(0) {
            let text = format!(
                "this directory is node {} of cluster {}, but the manager says node {node} of cluster {cluster_id}; \
                 start with the right manager or the right --data-dir",
                self.identity.node, self.identity.cluster_id
            );
            return out.push(Output::Fatal(text));
        }
        self.identity.node = node;
        self.identity.cluster_id = cluster_id;
        out.extend(self.engine.take_batch().map(Output::Disk));
        out.push(Output::Disk(self.engine.replace(FileName::Identity, self.identity.encode())));
        out.push(Output::IdentityChanged);
        log::info!("joined cluster {cluster_id} as node {node}");
        // A table told before we knew who we are could not be followed.
        if let Some(view) = self.view.take() {
            self.adopt(now, view.table, view.bytes, out);
        }
    }

    /// Takes a table told by the manager or a peer, if it is newer and of this cluster.
    pub(super) fn adopt_bytes(&mut self, now: Now, bytes: Bytes, out: &mut Vec<Output>) {
        let table = match decode_table(bytes.clone()) {
            Ok(table) => table,
            Err(error) => return log::warn!("a table that was told cannot be read: {error}"),
        };
        if !clusters_meet(table.cluster_id, self.identity.cluster_id) {
            return log::warn!("a table of cluster {} was told; ignored", table.cluster_id);
        }
        let ours = self.view.as_ref().map_or((Epoch(0), &[][..]), |view| (view.table.epoch, &view.bytes[..]));
        if table.epoch == ours.0 && bytes != ours.1 {
            return log::error!(
                "two different tables of epoch {}: the cluster has had two managers; keeping ours",
                table.epoch
            );
        }
        if table.epoch > ours.0 {
            // The bytes may be a slice of a receive buffer.
            self.adopt(now, Arc::new(table), Bytes::copy_from_slice(&bytes), out);
        }
    }

    fn adopt(&mut self, now: Now, table: Arc<Table>, bytes: Bytes, out: &mut Vec<Output>) {
        log::info!("table of epoch {}", table.epoch);
        out.extend(self.engine.take_batch().map(Output::Disk));
        let request = self.engine.replace(FileName::Table, bytes.clone());
        let ticket = self.engine.last_request();
        out.push(Output::Disk(request));
        self.view = Some(View { table: Arc::clone(&table), bytes, ticket, durable: false });
        self.settle_damage();
        self.peers.follow(&table, self.me(), now.mono, out);
        self.hedges.follow(|node| self.peers.is_peer(node));
        for id in self.pending.ids() {
            match self.pending.take(id) {
                Some(Row::Put(row)) => self.put_retarget(now, id, row, &table, out),
                Some(Row::Get(row)) => self.get_retarget(now, id, row, &table, out),
                Some(
                    row @ (Row::Forward(_)
                    | Row::Chunk(_)
                    | Row::Piece(_)
                    | Row::Comparing(_)
                    | Row::Settling(_)
                    | Row::Load(_)),
                ) => {
                    self.put_row_back(id, row);
                }
                None => {}
            }
        }
    }

    /// Once the table in force is durable, sectors may be streamed under it.
    pub(super) fn table_when_durable(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(view) = &mut self.view else { return };
        if !view.durable && self.engine.is_durable(view.ticket, Durability::Sync) {
            view.durable = true;
            self.follow_moves(now, out);
            self.follow_own_standing(out);
            self.report(now, out);
        }
    }

    /// A peer's table is of this epoch: whoever has the older one is brought up to date.
    pub(super) fn compare_epoch(&self, peer: NodeId, epoch: Epoch, out: &mut Vec<Output>) {
        let Some(view) = &self.view else { return };
        if !self.peers.has_link(peer, Lane::Foreground) || epoch == view.table.epoch {
            return;
        }
        let message = if epoch > view.table.epoch {
            PeerRequest::FetchTable
        } else {
            PeerRequest::PushTable(view.bytes.clone())
        };
        out.push(Output::Peer { to: peer, lane: Lane::Foreground, request: NO_ROW, message });
    }

    pub(super) fn on_link_up(&mut self, now: Now, peer: NodeId, lane: Lane, out: &mut Vec<Output>) {
        if self.peers.set_link(peer, lane, true, now.mono) {
            match lane {
                Lane::Foreground => self.probe(peer, out),
                Lane::Bulk => self.stream(now, out),
            }
        }
    }

    pub(super) fn report_when_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.mono >= self.report_at {
            self.report(now, out);
        }
    }

    pub(super) fn report(&mut self, now: Now, out: &mut Vec<Output>) {
        self.report_at = now.mono.after_ms(REPORT_MS);
        if !self.manager_up || self.identity.node == NodeId(0) {
            return;
        }
        let mut vitals = self.vitals();
        if !self.view.as_ref().is_some_and(|view| view.durable) {
            vitals.epoch = Epoch(0);
        }
        out.push(Output::Manager(NodeToManager::Report(vitals)));
        let streamed = self.transfers.streamed();
        if !streamed.is_empty() {
            out.push(Output::Manager(NodeToManager::Streamed(streamed)));
        }
        self.tell_of_leaving(out);
    }
}
