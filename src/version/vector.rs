//! Version vectors, and the context a client is given.

use super::Few;
use crate::types::{Actor, Dot, Stamp};

/// For each actor, the highest sequence of its writes to one key that is accounted for.
///
/// Kept sorted by actor; nearly always one to three entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VersionVector {
    entries: Few<(Actor, u64)>,
}

impl VersionVector {
    /// From entries in any order; of two for one actor the higher is kept.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = (Actor, u64)>) -> Self {
        let mut vector = Self::default();
        for (actor, seq) in entries {
            vector.add(Dot { actor, seq });
        }
        vector
    }

    /// From entries in strictly rising actor order.
    #[must_use]
    pub(crate) fn from_sorted(entries: Few<(Actor, u64)>) -> Self {
        Self { entries }
    }

    /// Raises the dot's actor to at least the dot's sequence.
    pub fn add(&mut self, dot: Dot) {
        match self.entries.binary_search_by_key(&dot.actor, |entry| entry.0) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(dot.seq),
            Err(at) => self.entries.insert(at, (dot.actor, dot.seq)),
        }
    }

    /// Accounts for nothing any more.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Takes the maximum with `other`, actor by actor.
    pub fn join(&mut self, other: &Self) {
        for &(actor, seq) in other.entries() {
            self.add(Dot { actor, seq });
        }
    }

    /// Whether the write named by `dot` is accounted for.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.entries
            .binary_search_by_key(&dot.actor, |entry| entry.0)
            .is_ok_and(|at| self.entries[at].1 >= dot.seq)
    }

    /// The highest sequence of an actor that is accounted for; 0 for none.
    #[must_use]
    pub fn seq_of(&self, actor: Actor) -> u64 {
        let found = self.entries.binary_search_by_key(&actor, |entry| entry.0);
        found.ok().and_then(|at| self.entries.get(at)).map_or(0, |entry| entry.1)
    }

    /// Whether everything `other` accounts for is accounted for here.
    #[must_use]
    pub fn descends(&self, other: &Self) -> bool {
        other.entries.iter().all(|&(actor, seq)| self.covers(Dot { actor, seq }))
    }

    /// The entries, in actor order.
    #[must_use]
    pub fn entries(&self) -> &[(Actor, u64)] {
        &self.entries
    }

    /// Whether no write is accounted for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What a reader is given and hands back with a write: "this replaces what I saw".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// The writes that were seen.
    pub vector: VersionVector,
    /// The highest stamp among them: a write made with this context is stamped above it.
    pub stamp: Stamp,
}

impl Context {
    /// Accounts for one more write.
    pub fn add(&mut self, dot: Dot, stamp: Stamp) {
        self.vector.add(dot);
        self.stamp = self.stamp.max(stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Incarnation, NodeId};

    fn actor(node: u32) -> Actor {
        Actor { node: NodeId(node), incarnation: Incarnation(1) }
    }

    #[test]
    fn a_vector_with_one_more_actor_is_newer_not_equal() {
        let one = VersionVector::from_entries([(actor(1), 1)]);
        let two = VersionVector::from_entries([(actor(1), 1), (actor(2), 1)]);
        assert_ne!(one, two);
        assert!(two.descends(&one) && !one.descends(&two));
    }

    #[test]
    fn two_lives_of_one_node_are_two_actors() {
        let reborn = Actor { incarnation: Incarnation(2), ..actor(1) };
        let vector = VersionVector::from_entries([(actor(1), 9)]);
        assert!(!vector.covers(Dot { actor: reborn, seq: 1 }));
    }

    #[test]
    fn entries_are_sorted_whatever_their_order_of_arrival() {
        let a = VersionVector::from_entries([(actor(2), 4), (actor(1), 3), (actor(2), 2)]);
        assert_eq!(a.entries(), &[(actor(1), 3), (actor(2), 4)]);
    }
}
