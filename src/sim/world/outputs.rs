//! What machines ask for, carried out: messages put on their way, links dialed, disks written.

use super::{OPERATOR, World};
use crate::client;
use crate::manager;
use crate::node;
use crate::sim::process::{LaneKey, LinkKey, ProcId};
use crate::types::RequestId;
use crate::wire::client::{ClientReply, ClientRequest};
use crate::wire::manager::ManagerToNode;
use crate::wire::peer::PeerReply;

impl World {
    pub(super) fn carry_out_node(&mut self, proc: ProcId, output: node::io::Output) {
        use node::io::Output;
        match output {
            Output::Reply { conn, request, message } => {
                if let ClientReply::Data(reply) = &message {
                    self.audit(proc, reply);
                }
                self.send(conn.0, true, request, &message);
            }
            Output::PeerReply { conn, request, message } => {
                self.notice_reply(&message);
                if let PeerReply::Forwarded(reply) = &message {
                    self.audit(proc, reply);
                }
                self.send(conn.0, true, request, &message);
            }
            Output::Peer { to, lane, request, message } => {
                self.notice_request(&message);
                self.note_write(&message);
                let link = LinkKey::Peer(to, lane.into());
                if let Some(conn) = self.conn_of(proc, link) {
                    self.send(conn, false, request, &message);
                }
            }
            Output::Connect { peer, addr } => {
                for lane in [LaneKey::Foreground, LaneKey::Bulk] {
                    self.want_link(proc, LinkKey::Peer(peer, lane), &addr);
                }
            }
            Output::Disconnect { peer } => {
                for lane in [LaneKey::Foreground, LaneKey::Bulk] {
                    self.drop_link(proc, LinkKey::Peer(peer, lane));
                }
            }
            Output::Manager(message) => {
                if let Some(conn) = self.conn_of(proc, LinkKey::Manager) {
                    self.send(conn, false, RequestId(0), &message);
                }
            }
            Output::Disk(request) => self.queue_disk(proc, request),
            Output::Read(request) => self.order_read(proc, request),
            Output::Reaped { at, key, context, left } => {
                let name = self.name_of(proc).to_owned();
                self.note(|| format!("{name} lets {key:?} of {at:?} go: {context:?}, left {left:?}"));
                self.seen.note_reaped(self.now_us, (at.0, key), context, left);
            }
            Output::IdentityChanged => {}
            Output::Left => self.let_go(proc),
            Output::Stopped => self.crash(proc, false),
            // It was away when it left, or when it was given up, and is told so.
            Output::Fatal(_) if self.is_no_member(proc) => self.let_go(proc),
            Output::Fatal(text) => {
                self.fatal.push(format!("{}: {text}", self.procs[proc.0].name));
                self.crash(proc, false);
            }
        }
    }

    pub(super) fn carry_out_manager(&mut self, proc: ProcId, output: manager::io::Output) {
        use manager::io::Output;
        match output {
            Output::Reply { conn, message, .. } if conn == OPERATOR => {
                self.note(|| format!("operator is told {message:?}"));
            }
            Output::Reply { conn, request, message } => self.send(conn.0, true, request, &message),
            Output::Node { conn, message } => {
                if let ManagerToNode::Table(bytes) = &message {
                    self.notice_table(bytes);
                }
                self.send(conn.0, true, RequestId(0), &message);
            }
            Output::Disk(request) => self.queue_disk(proc, request),
            Output::Stopped => self.crash(proc, false),
        }
    }

    pub(super) fn carry_out_client(&mut self, proc: ProcId, output: client::Output) {
        use client::Output;
        match output {
            Output::Dial { server, addr } => self.dial_once(proc, LinkKey::Server(server.0), &addr),
            Output::Hangup { server } => self.drop_link(proc, LinkKey::Server(server.0)),
            Output::Send { server, request, message } => {
                if let ClientRequest::Data { request: data, .. } = &message {
                    self.notice_write(data);
                }
                if let Some(conn) = self.conn_of(proc, LinkKey::Server(server.0)) {
                    self.send(conn, false, request, &message);
                }
            }
            Output::Done { call, outcome } => self.done.push((proc, call, outcome)),
        }
    }
}
