//! Hints: writes owed to owners that are away, kept durably until they have them.
//!
//! Two kinds. A *copy* is kept by a fallback, which is no owner and has the write from nowhere
//! else. A *debt* is kept by an owner where no fallback stood in: it names the key, and the
//! owner's own copy is what is delivered. Both lie in the engine as anything else does, on shelves
//! of their own, so that they are logged, recovered and compacted like any key; under the node
//! they are owed to and the key. This file owns those shelves and the count of what is on them;
//! delivery is [`handoff`](super::handoff)'s.
//!
//! What is kept for one node has a cap in bytes. A hint beyond it is refused or dropped, and
//! counted: hints are never the only way to an owner, anti-entropy is, and they never refuse a
//! write that is whole without them.

use super::Node;
use crate::engine::{At, Engine, Fetched, Kind, Loaded, Merged, Outline};
use crate::limits::HINT_OVERHEAD_BYTES;
use crate::mutant::Mutant;
use crate::ring::Durability;
use crate::types::{Dot, Key, KeyspaceId, NodeId};
use crate::version::{Object, VersionVector};
use crate::wire::peer::Place;
use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;

/// Set in the number of the keyspace on whose shelves copies for others lie. Keyspaces are far
/// fewer.
const COPIES: u16 = 0x8000;
/// The same for debts.
const DEBTS: u16 = 0x4000;

/// Which of the two kinds a hint is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HintKind {
    /// The write itself, of which this node is no owner.
    Copy,
    /// A mention of a key whose copy here is to be delivered.
    Debt,
}

/// What is kept for others, counted by the node it is owed to.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    owed: BTreeMap<NodeId, Owed>,
    in_engine: (u64, u64),
}

/// What is kept for one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Owed {
    /// Hints.
    pub(super) hints: u64,
    /// Their bytes, as counted against the cap.
    pub(super) bytes: u64,
    /// Keys of which it was to have hints since the start, with those found then: each is one of the
    /// `hints` yet, or was delivered, or was dropped.
    pub(super) missed: u64,
    /// Hints that arrived, or had nobody and nothing left to arrive, since the start.
    pub(super) delivered: u64,
    /// Hints that there was no room for, or that could not be read any more, since the start.
    pub(super) dropped: u64,
}

impl Owed {
    /// Whether every hint is accounted for.
    pub(super) fn adds_up(self) -> bool {
        self.missed == self.hints + self.delivered + self.dropped
    }
}

impl Ledger {
    /// What is kept for a node.
    pub(super) fn of(&self, node: NodeId) -> Owed {
        self.owed.get(&node).copied().unwrap_or_default()
    }

    /// Nodes for which something is kept.
    pub(super) fn creditors(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owed.iter().filter(|entry| entry.1.hints > 0).map(|entry| *entry.0)
    }

    /// Every node that was ever owed something in this life, in id order.
    pub(super) fn all(&self) -> impl Iterator<Item = (NodeId, Owed)> + '_ {
        self.owed.iter().map(|(&node, &owed)| (node, owed))
    }

    /// Bytes kept for all.
    pub(super) fn bytes(&self) -> u64 {
        self.owed.values().map(|owed| owed.bytes).sum()
    }

    fn note_delivered(&mut self, node: NodeId) {
        self.owed.entry(node).or_default().delivered += 1;
    }

    /// A hint that was kept is gone without having arrived.
    fn note_dropped(&mut self, node: NodeId) {
        self.owed.entry(node).or_default().dropped += 1;
    }

    /// A hint was not even taken.
    fn note_refused(&mut self, node: NodeId) {
        let owed = self.owed.entry(node).or_default();
        owed.missed += 1;
        owed.dropped += 1;
    }

    /// A hint of this weight has become one of that; none: there was, or is, none.
    fn recount(&mut self, node: NodeId, before: Option<Weight>, after: Option<Weight>) {
        let owed = self.owed.entry(node).or_default();
        owed.missed += u64::from(before.is_none() && after.is_some());
        owed.hints = owed.hints + u64::from(after.is_some()) - u64::from(before.is_some());
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        owed.bytes = owed.bytes + after.counted - before.counted;
        self.in_engine.0 = self.in_engine.0 + after.keys - before.keys;
        self.in_engine.1 = self.in_engine.1 + after.bytes - before.bytes;
        // Compaction empties values that have expired without telling: no rest of them is left.
        if owed.hints == 0 {
            owed.bytes = 0;
        }
        if self.owed.values().all(|owed| owed.hints == 0) {
            self.in_engine = (0, 0);
        }
    }

    /// What of the engine's keys and bytes is hints.
    pub(super) fn in_engine(&self) -> (u64, u64) {
        self.in_engine
    }
}

/// What a hint counts for: against the cap, and in the engine's own figures.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    counted: u64,
    keys: u64,
    bytes: u64,
}

/// The shelf on which hints of a kind lie.
pub(super) fn shelf_of(kind: HintKind, (keyspace, sector): At) -> At {
    let mark = match kind {
        HintKind::Copy => COPIES,
        HintKind::Debt => DEBTS,
    };
    (KeyspaceId(keyspace.0 | mark), sector)
}

/// The first shelf on which there can be hints.
pub(super) const FIRST_SHELF: KeyspaceId = KeyspaceId(DEBTS);

/// What lies on a shelf of hints: the kind, and where the keys belong.
pub(super) fn kind_of((keyspace, sector): At) -> Option<(HintKind, At)> {
    let at = (KeyspaceId(keyspace.0 & !(COPIES | DEBTS)), sector);
    match keyspace.0 & (COPIES | DEBTS) {
        COPIES => Some((HintKind::Copy, at)),
        DEBTS => Some((HintKind::Debt, at)),
        _ => None,
    }
}

/// Under what a hint lies on its shelf.
fn name_of(owed_to: NodeId, key: &[u8]) -> Key {
    let mut name = BytesMut::with_capacity(4 + key.len());
    name.put_u32_le(owed_to.0);
    name.put_slice(key);
    name.freeze()
}

/// The node a hint is owed to, and the key.
pub(super) fn split_name(name: &Key) -> Option<(NodeId, Key)> {
    let (node, _) = name.split_first_chunk::<4>()?;
    Some((NodeId(u32::from_le_bytes(*node)), name.slice(4..)))
}

fn weight_of(name: &[u8], outline: &Outline) -> Weight {
    let kinds = || outline.siblings().iter().map(|sibling| sibling.content.kind);
    let bytes = (name.len() + kinds().map(Kind::value_bytes).sum::<usize>()) as u64;
    let keys = u64::from(kinds().any(|kind| matches!(kind, Kind::Value(_))));
    let counted = HINT_OVERHEAD_BYTES + bytes + 16 * outline.context().entries().len() as u64;
    Weight { counted, keys, bytes }
}

impl Node {
    /// What an earlier life kept for others. At start alone.
    pub(super) fn count_hints(&mut self) {
        let shelves: Vec<At> = self.engine.places((FIRST_SHELF, Default::default())).collect();
        for shelf in shelves {
            for (name, outline) in self.engine.walk(shelf, None) {
                if let Some((node, _)) = split_name(&name) {
                    self.ledger.recount(node, None, Some(weight_of(&name, &outline)));
                }
            }
        }
    }

    /// Keeps a write for an owner that is away, as one that is no owner of it. None if there is no
    /// room for it.
    pub(super) fn keep_copy(
        &mut self,
        place: Place,
        key: &[u8],
        object: &Object,
        owed_to: NodeId,
        durability: Durability,
    ) -> Option<Merged> {
        let bytes = HINT_OVERHEAD_BYTES + (key.len() + object.value_bytes()) as u64;
        if self.ledger.of(owed_to).bytes.saturating_add(bytes) > self.options.hint_bytes_max {
            self.drop_hint(owed_to);
            return None;
        }
        let shelf = shelf_of(HintKind::Copy, (place.keyspace, place.sector));
        Some(self.keep(shelf, &name_of(owed_to, key), object, owed_to, durability))
    }

    /// Notes that an owner lacks what this node, an owner too, holds of a key.
    pub(super) fn owe(
        &mut self,
        place: Place,
        key: &[u8],
        context: &VersionVector,
        owed_to: NodeId,
        durability: Durability,
    ) {
        let name = name_of(owed_to, key);
        if self.ledger.of(owed_to).bytes.saturating_add(name.len() as u64) > self.options.hint_bytes_max {
            return self.drop_hint(owed_to);
        }
        let shelf = shelf_of(HintKind::Debt, (place.keyspace, place.sector));
        self.keep(shelf, &name, &Object::from_parts(context.clone(), Vec::new()), owed_to, durability);
    }

    /// What was kept cannot be read: it goes without having arrived.
    pub(super) fn drop_unreadable(&mut self, shelf: At, name: &Key, seen: &VersionVector) {
        if let Some(owed_to) = self.take_away(shelf, name, seen) {
            log::error!("a hint for node {owed_to} cannot be read from the disk, and is dropped");
            self.ledger.note_dropped(owed_to);
        }
    }

    fn drop_hint(&mut self, owed_to: NodeId) {
        if self.ledger.of(owed_to).dropped == 0 {
            log::warn!(
                "there is no room for more hints for node {owed_to} ({} bytes are kept): what it misses \
                 from now on it gets when its copies are compared with those of other owners",
                self.ledger.of(owed_to).bytes
            );
        }
        self.ledger.note_refused(owed_to);
    }

    fn keep(
        &mut self,
        shelf: At,
        name: &Key,
        object: &Object,
        owed_to: NodeId,
        durability: Durability,
    ) -> Merged {
        let before = self.engine.outline(shelf, name).map(|outline| weight_of(name, &outline));
        let merged = self.engine.merge(shelf, name, object, durability);
        let after = self.engine.outline(shelf, name).map(|outline| weight_of(name, &outline));
        self.ledger.recount(owed_to, before, after);
        merged
    }

    /// A hint has arrived, or there is nobody left to have it. It goes, unless it has grown since
    /// `seen` was sent: then all of it is sent again.
    pub(super) fn forget_hint(&mut self, shelf: At, name: &Key, seen: &VersionVector) {
        if let Some(owed_to) = self.take_away(shelf, name, seen) {
            self.ledger.note_delivered(owed_to);
        }
    }

    /// Takes a hint off its shelf, unless it has grown since `seen`. Says whom it was owed to.
    fn take_away(&mut self, shelf: At, name: &Key, seen: &VersionVector) -> Option<NodeId> {
        let (owed_to, _) = split_name(name)?;
        let durability = kind_of(shelf).map_or(Durability::Os, |(_, at)| self.hint_durability(at.0));
        let before = self.engine.outline(shelf, name).map(|outline| weight_of(name, &outline));
        let held = self.engine.outline(shelf, name);
        let all = held.as_ref().filter(|_| self.options.planted.is(Mutant::HintForgottenThoughGrown));
        let seen = all.map_or(seen, |outline| outline.context());
        // Not synced: one that comes back after a loss of power is delivered once more.
        self.engine.forget(shelf, name, seen, durability);
        let after = self.engine.outline(shelf, name).map(|outline| weight_of(name, &outline));
        self.ledger.recount(owed_to, before, after);
        (before.is_some() && after.is_none()).then_some(owed_to)
    }

    fn hint_durability(&self, keyspace: KeyspaceId) -> Durability {
        let settings = self.table().and_then(|table| table.keyspaces.get(&keyspace));
        settings.map_or(Durability::Os, |keyspace| keyspace.settings.durability.unsynced())
    }

    /// Whether an engine with this node's log accounts for a write, in its own copy or in what is
    /// kept for others: for the simulator's auditor.
    #[must_use]
    pub fn is_accounted_for(&self, engine: &Engine, place: At, key: &Key, dot: Dot) -> bool {
        let copies = shelf_of(HintKind::Copy, place);
        let kept = self.ledger.creditors().map(|node| (copies, name_of(node, key)));
        let mut shelves = std::iter::once((place, key.clone())).chain(kept);
        shelves.any(|(at, name)| engine.outline(at, &name).is_some_and(|held| held.context().covers(dot)))
    }

    /// Whether copies are kept for owners that are away. A debt is none: what it names is read when it
    /// is delivered.
    pub(super) fn keeps_copies(&self) -> bool {
        self.engine.places((KeyspaceId(COPIES), Default::default())).next().is_some()
    }

    /// What is kept of a key for owners that are away, as one object.
    pub(super) fn kept_copies(&mut self, place: Place, key: &[u8], loaded: &Loaded) -> Fetched {
        let shelf = shelf_of(HintKind::Copy, (place.keyspace, place.sector));
        let creditors: Vec<NodeId> = self.ledger.creditors().collect();
        let (mut kept, mut wanted) = (None::<Object>, Vec::new());
        for node in creditors {
            match self.engine.read(shelf, &name_of(node, key), |_| true, loaded) {
                Fetched::Absent | Fetched::Unreadable => {}
                Fetched::Whole(object) => match &mut kept {
                    Some(kept) => {
                        kept.merge(&object);
                    }
                    None => kept = Some(object),
                },
                Fetched::OnDisk(more) => wanted.extend(more),
            }
        }
        match kept {
            _ if !wanted.is_empty() => Fetched::OnDisk(wanted),
            Some(kept) => Fetched::Whole(kept),
            None => Fetched::Absent,
        }
    }
}
