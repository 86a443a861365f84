//! Bits that flip on a disk long after they were written.

use super::World;
use crate::engine::{At, FileName, Kind, Manifest, Outline, SEGMENT_HEADER_BYTES};
use crate::ring::Durability;
use crate::sim::process::{ProcId, Running};
use crate::sim::rng::Rng;
use crate::types::{Key, KeyspaceId, SectorId};

/// Values that are looked at before it is left be.
const TRIES: usize = 4;

/// What has rotted, by when it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sim) enum Rot {
    /// A value: when it is read.
    Value,
    /// Anything in a segment, and its index file: when the log is read back.
    Log,
}

/// A value in a sealed segment.
struct Found {
    place: At,
    key: Key,
    segment: u64,
    /// Where its record begins, where it does, where both end, and where the segment does: in the
    /// segment's file.
    record: u64,
    value: u64,
    end: u64,
    segment_end: u64,
}

impl World {
    /// Flips a bit of a value that lies in a sealed segment of a node's disk, if another owner of its
    /// key has it safe; or of anything in its record or its segment, and one in the index file, whereupon
    /// all of the node's copies count as lost.
    ///
    /// The manifest must speak of the segment: what was bad before anything said that it had ever been
    /// good is taken for a torn tail.
    pub(in crate::sim) fn rot(&mut self, rng: &mut Rng, victim: ProcId) -> Option<Rot> {
        let mut found = self.readable_values(victim);
        for _ in 0..TRIES.min(found.len()) {
            let at = usize::try_from(rng.below(found.len() as u64)).unwrap_or(0);
            let Found { place, key, segment, record, value, end, segment_end } = found.swap_remove(at);
            let index = FileName::SegmentIndex(segment);
            let index_bytes = self.procs[victim.0].disk.length(index).unwrap_or(0);
            if self.is_whole_elsewhere(victim, place, &key) {
                let is_log = index_bytes == 0 || rng.once_in(4);
                let byte = match (is_log, rng.once_in(2)) {
                    (false, _) => rng.range(value, end - 1),
                    (true, false) => rng.range(record, end - 1),
                    (true, true) => rng.range(SEGMENT_HEADER_BYTES as u64, segment_end - 1),
                };
                let bit = rng.below(8) as u8;
                self.note(|| format!("    {key:?} of {place:?} rots, at {byte} in segment {segment}"));
                let disk = &mut self.procs[victim.0].disk;
                let is_flipped = disk.flip(FileName::Segment(segment), byte, bit);
                if is_log && index_bytes > 0 {
                    disk.flip(index, rng.below(index_bytes), bit);
                }
                return is_flipped.then_some(if is_log { Rot::Log } else { Rot::Value });
            }
        }
        None
    }

    /// Values in sealed segments of which the manifest speaks.
    fn readable_values(&self, proc: ProcId) -> Vec<Found> {
        let Running::Node(node) = &self.procs[proc.0].running else { return Vec::new() };
        let Some(table) = node.table() else { return Vec::new() };
        let manifest = Manifest::read(&mut self.procs[proc.0].disk.synced_alone()).ok().flatten();
        let sealed = manifest.and_then(Result::ok).unwrap_or_default().sealed;
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
                    let is_of = |&&(start, end): &&(u64, u64)| (start..end).contains(&location.position);
                    if let Some(&(segment, segment_end)) = sealed.iter().find(is_of)
                        && !sibling.content.damaged
                    {
                        let record = location.position - segment + header_bytes;
                        let end = location.end() - segment + header_bytes;
                        // A record ends with a value.
                        let value = end - u64::from(value_bytes);
                        let (key, segment_end) = (key.clone(), segment_end - segment + header_bytes);
                        found.push(Found { place, key, segment, record, value, end, segment_end });
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
