//! The auditor: whether what a client is told is on as many disks as it was promised.
//!
//! It looks into every node at the very moment an acknowledgement leaves its coordinator, which no
//! client can do, and so needs no crash to find out that one came too early.

use super::World;
use crate::engine::{Engine, EngineSettings};
use crate::mutant::Planted;
use crate::ring::{Durability, Table};
use crate::sim::process::{ProcId, Running};
use crate::types::{Dot, Key, KeyspaceId, NodeId, SectorId};
use crate::wire::client::{DataReply, DataResult};
use crate::wire::peer::PeerRequest;
use std::collections::BTreeMap;

/// One acknowledgement in so many is compared with the disks.
const ONE_IN: u64 = 4;

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
        // It takes as long as all else that happens for a write together. What staleness is
        // measured with is not meant to be on a disk.
        if self.legs.is_some() || !dot.seq.is_multiple_of(ONE_IN) {
            return;
        }
        let needed = usize::from(reply.by.needed);
        let Running::Node(node) = &self.procs[proc.0].running else { return };
        let keyspaces = node.table().map(|table| &table.keyspaces);
        let keyspace = self.written.get(&dot).and_then(|(keyspace, ..)| keyspaces?.get(keyspace));
        let Some(durability) = keyspace.map(|keyspace| keyspace.settings.durability) else { return };
        let copies = self.copies_of(dot, |_| true, |id| self.engine_after_loss(id, durability));
        if let Some(copies) = copies.filter(|&copies| copies < needed) {
            self.seen.twice.push(format!(
                "write {dot} was acknowledged at {} us, and {copies} of {needed} disks account for it",
                self.now_us
            ));
        }
    }

    /// What a node would know of a keyspace of this durability after the worst that it is to survive:
    /// the end of its machine's power, or of the process alone. None if it need survive neither.
    pub(super) fn engine_after_loss(&self, id: usize, durability: Durability) -> Option<Engine> {
        let settings = EngineSettings {
            cache_bytes: 0,
            segment_bytes: u64::MAX,
            scrub_bytes_per_second: 0,
            planted: Planted::NONE,
        };
        let disk = &self.procs[id].disk;
        let mut disk = match durability {
            Durability::Sync => disk.synced_alone(),
            Durability::Os => disk.clone(),
            Durability::Memory => return None,
        };
        disk.set_capacity(None);
        Engine::open(&mut disk, settings).ok().map(|opened| opened.0)
    }

    /// How many nodes account for a write just now.
    pub(in crate::sim) fn copies_held(&self, dot: Dot) -> Option<usize> {
        self.copies_of(dot, |_| true, |_| None)
    }

    /// How many of its present owners account for a write: what others still have counts for
    /// nothing, nobody asks them.
    pub(in crate::sim) fn copies_of_owners(&self, dot: Dot, table: &Table) -> Option<usize> {
        let (keyspace, sector, _) = self.written.get(&dot)?;
        let n = usize::from(table.keyspaces.get(keyspace)?.settings.n);
        let owners: Vec<NodeId> = table.sector(*sector).nodes(n).collect();
        let is_owner = |id| self.node_id(ProcId(id)).is_some_and(|node| owners.contains(&node));
        self.copies_of(dot, is_owner, |_| None)
    }

    /// How many of those nodes account for a write, with what `engine` gives in the place of their own; one
    /// that is down may. None if it is not known where the write belongs.
    fn copies_of(
        &self,
        dot: Dot,
        counts_at_all: impl Fn(usize) -> bool,
        engine: impl Fn(usize) -> Option<Engine>,
    ) -> Option<usize> {
        let (keyspace, sector, key) = self.written.get(&dot)?;
        if self.seen.is_reaped(*keyspace, key, dot, self.now_us) {
            return None;
        }
        let place = (*keyspace, *sector);
        let counts = |id: usize| match &self.procs[id].running {
            Running::Node(node) => {
                // What is not even in memory is on no disk.
                node.is_accounted_for(node.engine(), place, key, dot)
                    && engine(id).is_none_or(|engine| node.is_accounted_for(&engine, place, key, dot))
            }
            Running::Down => {
                let was_node = self.procs[id].name.starts_with("node") && self.procs[id].life > 0;
                was_node && !self.gone.contains_key(&ProcId(id))
            }
            Running::Manager(_) | Running::Client(_) => false,
        };
        Some((0..self.procs.len()).filter(|&id| counts_at_all(id) && counts(id)).count())
    }

    pub(in crate::sim) fn node_id(&self, proc: ProcId) -> Option<NodeId> {
        match &self.procs[proc.0].running {
            Running::Node(node) => match node.identity().server {
                crate::wire::hello::Server::Node(id) => Some(id),
                crate::wire::hello::Server::Manager => None,
            },
            Running::Manager(_) | Running::Client(_) | Running::Down => None,
        }
    }
}
