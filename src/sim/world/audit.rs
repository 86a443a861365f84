//! The auditor: whether what a client is told is on as many disks as it was promised.
//!
//! It looks into every node at the very moment an acknowledgement leaves its coordinator, which no
//! client can do, and so needs no crash to find out that one came too early.

use super::World;
use crate::node::Node;
use crate::sim::process::{ProcId, Running};
use crate::types::{Dot, Key, KeyspaceId, NodeId, SectorId};
use crate::wire::client::{DataReply, DataResult};
use crate::wire::peer::PeerRequest;
use std::collections::BTreeMap;

/// Where each write belongs, as it was seen on the wire.
pub(in crate::sim) type Written = BTreeMap<Dot, (KeyspaceId, SectorId, Key)>;

impl World {
    /// Takes note of where a write belongs.
    pub(super) fn note_write(&mut self, message: &PeerRequest) {
        if let PeerRequest::Store { place, key, write: Some((_, dot)), .. } = message {
            self.written.entry(*dot).or_insert_with(|| (place.keyspace, place.sector, key.clone()));
        }
    }

    /// A coordinator says that a write is stored: W disks must account for it now.
    pub(super) fn audit(&mut self, proc: ProcId, reply: &DataReply) {
        let DataResult::Stored { context } = &reply.result else { return };
        if self.node_id(proc) != Some(reply.by.coordinator) {
            // A forwarder passes it on.
            return;
        }
        let own = context.vector.entries().iter().rev();
        let Some(&(actor, seq)) = own.clone().find(|entry| entry.0.node == reply.by.coordinator) else {
            return;
        };
        let dot = Dot { actor, seq };
        let copies = self.copies_of(dot, Node::has_on_disk);
        if copies.is_some_and(|copies| copies < usize::from(reply.by.needed)) {
            self.seen.twice.push(format!(
                "write {dot} was acknowledged at {} us, and {} of {} disks account for it",
                self.now_us,
                copies.unwrap_or(0),
                reply.by.needed
            ));
        }
    }

    /// How many nodes account for a write; one that is down may. None if it is not known where the
    /// write belongs.
    pub(in crate::sim) fn copies_of(
        &self,
        dot: Dot,
        has: impl Fn(&Node, (KeyspaceId, SectorId), &Key, Dot) -> bool,
    ) -> Option<usize> {
        let (keyspace, sector, key) = self.written.get(&dot)?;
        let counts = |id: usize| match &self.procs[id].running {
            Running::Node(node) => has(node, (*keyspace, *sector), key, dot),
            Running::Down => self.procs[id].name.starts_with("node") && self.procs[id].life > 0,
            Running::Manager(_) | Running::Client(_) => false,
        };
        Some((0..self.procs.len()).filter(|&id| counts(id)).count())
    }

    fn node_id(&self, proc: ProcId) -> Option<NodeId> {
        match &self.procs[proc.0].running {
            Running::Node(node) => match node.identity().server {
                crate::wire::hello::Server::Node(id) => Some(id),
                crate::wire::hello::Server::Manager => None,
            },
            Running::Manager(_) | Running::Client(_) | Running::Down => None,
        }
    }
}
