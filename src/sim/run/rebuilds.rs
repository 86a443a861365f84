//! Copies that leave quarantine: each is looked at just then, before anybody reads it.

use super::Run;
use crate::engine::At;
use crate::ring::Durability;
use crate::sim::process::ProcId;
use crate::sim::workload::Told;
use std::collections::{BTreeMap, BTreeSet};

/// What was in quarantine when this was last looked at, by process and its life.
pub(super) type Quarantines = BTreeMap<(ProcId, u64), BTreeSet<At>>;

impl Run {
    /// A copy that is whole again must know of every write that was acknowledged before its node's
    /// present life, if more than one owner had it: one of the others has it yet, and was compared with.
    pub(super) fn audit_rebuilds(&mut self) {
        let mut now = Quarantines::new();
        for (proc, node) in self.world.nodes() {
            let places: BTreeSet<At> = node.engine().quarantined().collect();
            if !places.is_empty() || self.quarantines.contains_key(&(proc, self.world.procs[proc.0].life)) {
                now.insert((proc, self.world.procs[proc.0].life), places);
            }
        }
        let before = std::mem::replace(&mut self.quarantines, now);
        for (of, places) in before {
            let Some(left) = self.quarantines.get(&of) else { continue };
            let lifted: Vec<At> = places.difference(left).copied().collect();
            lifted.into_iter().for_each(|place| self.audit_rebuild(of.0, place));
        }
        self.quarantines.retain(|_, places| !places.is_empty());
    }

    fn audit_rebuild(&mut self, proc: ProcId, place: At) {
        let Some((_, node)) = self.world.nodes().find(|entry| entry.0 == proc) else { return };
        let (Some(table), Some(me)) = (node.table(), self.world.node_id(proc)) else { return };
        let Some(keyspace) = table.keyspaces.get(&place.0) else { return };
        let is_owner = table.sector(place.1).nodes(usize::from(keyspace.settings.n)).any(|node| node == me);
        if !is_owner || keyspace.settings.durability != Durability::Sync {
            return;
        }
        let born_us = self.world.procs[proc.0].born_us;
        let mut lacking = Vec::new();
        for op in self.history.ops.iter().filter(|op| op.needed > 1 && op.fallbacks == 0) {
            let Told::Stored(dot) = op.told else { continue };
            let Some((keyspace, sector, key)) = self.world.written.get(&dot) else { continue };
            let is_here = (*keyspace, *sector) == place && op.end_us < born_us;
            if !is_here || self.world.seen.is_reaped(*keyspace, key, dot, self.world.now_us) {
                continue;
            }
            let held = node.engine().outline(place, key);
            if !held.is_some_and(|held| held.context().covers(dot)) {
                lacking.push(format!("{:?} ({dot})", op.asked));
            }
        }
        if let Some(first) = lacking.first() {
            self.broken.push(format!(
                "node{}'s copy of {place:?} left quarantine at {} us without {first} and {} more",
                proc.0,
                self.world.now_us,
                lacking.len() - 1
            ));
        }
    }
}
