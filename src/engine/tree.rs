//! The hash tree of one keyspace's sector: by which two owners find out cheaply what differs.
//!
//! ```text
//! root                 the sum of all objects' hashes
//! leaves 0 .. 255      the same over the keys whose tag begins with this byte: one stretch of the shelf
//! ```
//! Sums do not depend on an order, so a write changes root and leaf by what it takes away and what
//! it adds: nothing is ever computed anew by looking through the keys. A hash covers key, context
//! and dots, tombstones and expired values included: whatever a merge looks at. A copy that cannot
//! be read hashes otherwise than a whole one, so that peers bring it.
//!
//! The hashes are told to other machines and must be the same in every build.

use super::outline::Outline;
use crate::types::Dot;

/// Leaves of a tree.
pub const LEAVES: usize = 256;

/// See the module. Without a key it has no allocation.
#[derive(Debug, Default)]
pub struct Tree {
    root: u64,
    leaves: Option<Box<[u64; LEAVES]>>,
}

/// The leaf under which a key lies, by its tag.
#[must_use]
pub fn leaf_of(tag: u32) -> usize {
    (tag >> 24) as usize
}

/// The lowest tag of a leaf.
#[must_use]
pub fn first_tag(leaf: u8) -> u32 {
    u32::from(leaf) << 24
}

impl Tree {
    /// An object's hash took the place of another; 0 is no object.
    pub fn swap(&mut self, tag: u32, before: u64, after: u64) {
        if before != after {
            let change = after.wrapping_sub(before);
            self.root = self.root.wrapping_add(change);
            let leaves = self.leaves.get_or_insert_with(|| Box::new([0; LEAVES]));
            if let Some(leaf) = leaves.get_mut(leaf_of(tag)) {
                *leaf = leaf.wrapping_add(change);
            }
        }
    }

    /// The sum of all.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The sums by leaf.
    #[must_use]
    pub fn leaves(&self) -> [u64; LEAVES] {
        self.leaves.as_deref().copied().unwrap_or([0; LEAVES])
    }
}

/// The two halves of a 128-bit product, folded: every bit of it depends on all of both factors (as
/// in Wang Yi's wyhash).
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

const START: u64 = 0xa076_1d64_78bd_642f;
const ACTOR: u64 = 0xe703_7ed1_a0b4_28db;
const SEQ: u64 = 0x8ebc_6af0_9c88_c6e3;
const SIBLINGS: u64 = 0x5899_65cc_7537_4cc3;
const UNREADABLE: u64 = 0x1d8e_4e27_c47d_124f;

fn fold_dot(hash: u64, dot: Dot) -> u64 {
    let actor = u64::from(dot.actor.node.0) << 32 | u64::from(dot.actor.incarnation.0);
    fold(hash ^ actor ^ ACTOR, dot.seq ^ SEQ)
}

fn end(hash: u64) -> u64 {
    // 0 stands for no object.
    fold(hash ^ SIBLINGS, START).max(1)
}

fn begin(tag: u32) -> u64 {
    fold(u64::from(tag) ^ START, ACTOR)
}

/// The hash of an object of one sibling whose dot is the whole context.
#[must_use]
pub fn hash_of_sole(tag: u32, dot: Dot, damaged: bool) -> u64 {
    let hash = fold_dot(begin(tag), dot) ^ SIBLINGS;
    end(fold_dot(hash, dot) ^ if damaged { UNREADABLE } else { 0 })
}

/// The hash of any object.
#[must_use]
pub fn hash_of(tag: u32, outline: &Outline) -> u64 {
    let mut hash = begin(tag);
    for &(actor, seq) in outline.context().entries() {
        hash = fold_dot(hash, Dot { actor, seq });
    }
    hash ^= SIBLINGS;
    let mut damaged = false;
    for sibling in outline.siblings() {
        hash = fold_dot(hash, sibling.dot);
        damaged |= sibling.content.damaged;
    }
    end(hash ^ if damaged { UNREADABLE } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Kind, Stored};
    use crate::types::{Actor, Incarnation, NodeId, Stamp};
    use crate::version::{Sibling, VersionVector};

    fn dot(node: u32, seq: u64) -> Dot {
        Dot { actor: Actor { node: NodeId(node), incarnation: Incarnation(1) }, seq }
    }

    fn outline(context: &[Dot], siblings: &[Dot], damaged: bool) -> Outline {
        let content = Stored { kind: Kind::Tombstone, location: None, slot: None, damaged };
        let siblings = siblings.iter().map(|&dot| Sibling { dot, stamp: Stamp(1), expiry: None, content });
        let context = VersionVector::from_entries(context.iter().map(|dot| (dot.actor, dot.seq)));
        Outline::from_parts(context, siblings.collect::<Vec<_>>())
    }

    #[test]
    fn the_short_way_gives_the_same_hash_and_everything_else_another() {
        let sole = hash_of_sole(7, dot(1, 5), false);
        assert_eq!(sole, hash_of(7, &outline(&[], &[dot(1, 5)], false)));
        let others = [
            hash_of_sole(8, dot(1, 5), false),
            hash_of_sole(7, dot(2, 5), false),
            hash_of_sole(7, dot(1, 6), false),
            hash_of_sole(7, dot(1, 5), true),
            hash_of(7, &outline(&[dot(2, 1)], &[dot(1, 5)], false)),
            hash_of(7, &outline(&[dot(1, 5)], &[], false)),
            hash_of(7, &outline(&[], &[dot(1, 5), dot(2, 1)], false)),
        ];
        assert!(others.iter().all(|&other| other != sole && other != 0));
    }

    #[test]
    fn a_sum_comes_back_when_what_was_added_is_taken_away() {
        let mut tree = Tree::default();
        tree.swap(3 << 24, 0, 77);
        let before = (tree.root(), tree.leaves());
        tree.swap(9 << 24 | 5, 0, 123);
        assert_ne!(before.1, tree.leaves());
        tree.swap(9 << 24 | 5, 123, 456);
        tree.swap(9 << 24 | 5, 456, 0);
        assert_eq!(before, (tree.root(), tree.leaves()));
    }

    #[test]
    fn hashes_are_the_same_in_every_build() {
        assert_eq!(hash_of_sole(0x1234_5678, dot(3, 99), false), 16_117_857_796_875_868_160);
    }
}
