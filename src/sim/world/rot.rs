//! Bits that flip on a disk long after they were written.

use super::World;
use crate::engine::{At, FileName, Kind, Outline, SEGMENT_HEADER_BYTES, Storage};
use crate::ring::Durability;
use crate::sim::process::{ProcId, Running};
use crate::sim::rng::Rng;
use crate::types::{Key, KeyspaceId, SectorId};

/// Values that are looked at before it is left be.
const TRIES: usize = 4;

impl World {
    /// Flips a bit of a value that lies in a sealed segment of a node's disk, if another owner of its
    /// key has it safe. False if there is none.
    ///
    /// The segment must have an index file: one without is read at the next start, which puts what
    /// cannot be read in quarantine, and that is for an operator to mend.
    pub(in crate::sim) fn rot(&mut self, rng: &mut Rng, victim: ProcId) -> bool {
        let mut found = self.readable_values(victim);
        for _ in 0..TRIES.min(found.len()) {
            let at = usize::try_from(rng.below(found.len() as u64)).unwrap_or(0);
            let (place, key, segment, bytes) = found.swap_remove(at);
            if self.is_whole_elsewhere(victim, place, &key) {
                let byte = rng.range(bytes.0, bytes.1 - 1);
                let bit = rng.below(8) as u8;
                self.note(|| format!("    {key:?} of {place:?} rots, at {byte} in segment {segment}"));
                return self.procs[victim.0].disk.flip(FileName::Segment(segment), byte, bit);
            }
        }
        false
    }

    /// Values in sealed segments with an index file, each with its segment and its place in that.
    fn readable_values(&self, proc: ProcId) -> Vec<(At, Key, u64, (u64, u64))> {
        let Running::Node(node) = &self.procs[proc.0].running else { return Vec::new() };
        let Some(table) = node.table() else { return Vec::new() };
        let files = self.procs[proc.0].disk.synced_alone().list().unwrap_or_default();
        let starts: Vec<u64> = files
            .iter()
            .filter_map(|file| if let FileName::Segment(start) = file { Some(*start) } else { None })
            .collect();
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        let mut found = Vec::new();
        for place in node.engine().places((KeyspaceId(0), SectorId(0))) {
            if !table.keyspaces.contains_key(&place.0) {
                continue;
            }
            for (key, outline) in node.engine().walk(place, None) {
                for sibling in outline.siblings() {
                    let Some(location) = sibling.content.location else { continue };
                    let Kind::Value(value_bytes @ 1..) = sibling.content.kind else { continue };
                    let start = starts.iter().copied().filter(|start| *start <= location.position).max();
                    let is_sealed = |start: u64| starts.iter().any(|&other| other > start);
                    if let Some(start) = start
                        && !sibling.content.damaged
                        && is_sealed(start)
                        && files.contains(&FileName::SegmentIndex(start))
                    {
                        // A record ends with a value.
                        let end = location.end() - start + header_bytes;
                        found.push((place, key.clone(), start, (end - u64::from(value_bytes), end)));
                    }
                }
            }
        }
        found
    }

    /// Whether another owner of a key would have the same of it after a power loss.
    fn is_whole_elsewhere(&self, proc: ProcId, place: At, key: &Key) -> bool {
        let Running::Node(node) = &self.procs[proc.0].running else { return false };
        let (Some(table), Some(held)) = (node.table(), node.engine().outline(place, key)) else {
            return false;
        };
        let Some(keyspace) = table.keyspaces.get(&place.0) else { return false };
        let owners: Vec<_> = table.sector(place.1).nodes(usize::from(keyspace.settings.n)).collect();
        let has_it = |id: usize| {
            let other = self.node_id(ProcId(id)).is_some_and(|node| owners.contains(&node));
            let engine = if other { self.engine_after_loss(id, Durability::Sync) } else { None };
            engine.and_then(|engine| engine.outline(place, key)).is_some_and(|copy| is_same(&copy, &held))
        };
        (0..self.procs.len()).filter(|&id| id != proc.0).any(has_it)
    }
}

fn is_same(copy: &Outline, held: &Outline) -> bool {
    let dots = |outline: &Outline| outline.siblings().iter().map(|sibling| sibling.dot).collect::<Vec<_>>();
    dots(copy) == dots(held) && copy.siblings().iter().all(|sibling| !sibling.content.damaged)
}
