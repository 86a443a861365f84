//! A key's object: siblings under one context, and the three things done to it: put, merge, read.
//!
//! What a sibling carries is a parameter. Requests and messages carry [`Content`], the values
//! themselves; the engine's index carries where each of them is stored. Merging never looks at
//! it, which is why a merge never waits for a disk.

use super::Few;
use super::vector::{Context, VersionVector};
use crate::types::{Actor, Dot, Stamp, WallMs};
use bytes::Bytes;
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// What a write stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The bytes of a value, possibly none.
    Value(Bytes),
    /// The key was deleted: a version like any other.
    Tombstone,
}

/// One write that no other known write replaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sibling<C = Content> {
    /// The write's name.
    pub dot: Dot,
    /// Breaks ties with concurrent siblings.
    pub stamp: Stamp,
    /// When the value ceases to be visible, if ever.
    pub expiry: Option<WallMs>,
    /// The value or tombstone.
    pub content: C,
}

/// What a new write replaces among the siblings its coordinator holds.
#[derive(Clone, Copy, Debug)]
pub enum Replaces<'a> {
    /// Everything held: a first attempt in a last-writer-wins keyspace.
    All,
    /// What the client saw: a put with a context, or any write repeated elsewhere.
    Seen(&'a VersionVector),
}

/// All that one copy of a key knows. "Nothing stored" is not an object: absence is no version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object<C = Content> {
    context: VersionVector,
    /// Sorted by dot.
    siblings: Few<Sibling<C>>,
}

impl<C> Default for Object<C> {
    fn default() -> Self {
        Self { context: VersionVector::default(), siblings: Few::default() }
    }
}

impl Sibling {
    /// Bytes of its value.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match &self.content {
            Content::Value(value) => value.len(),
            Content::Tombstone => 0,
        }
    }

    /// Whether a reader at wall time `now` sees a value here.
    #[must_use]
    pub fn is_live(&self, now: WallMs) -> bool {
        matches!(self.content, Content::Value(_)) && !self.has_expired(now)
    }
}

impl<C> Sibling<C> {
    /// Whether its time is over at wall time `now`.
    #[must_use]
    pub fn has_expired(&self, now: WallMs) -> bool {
        self.expiry.is_some_and(|at| at <= now)
    }

    /// The order of last-writer-wins: highest stamp, then actor.
    fn rank(&self) -> (Stamp, Actor, u64) {
        (self.stamp, self.dot.actor, self.dot.seq)
    }
}

impl<C: Clone> Object<C> {
    /// From parts as decoded: siblings are sorted, duplicates of a dot dropped, and the context
    /// is made to cover every sibling, so that no input can build an impossible object.
    #[must_use]
    pub fn from_parts(mut context: VersionVector, siblings: impl Into<Few<Sibling<C>>>) -> Self {
        let mut siblings = siblings.into();
        siblings.sort_by_key(|sibling| sibling.dot);
        siblings.dedup_by_key(|sibling| sibling.dot);
        for sibling in siblings.iter() {
            context.add(sibling.dot);
        }
        Self { context, siblings }
    }

    /// From parts that are in order and fit already, as packed by the index.
    #[must_use]
    pub(crate) fn from_sorted(context: VersionVector, siblings: Few<Sibling<C>>) -> Self {
        Self { context, siblings }
    }

    /// Adds a new write. `seen` joins the context whatever is replaced: the writer knew of it.
    pub fn put(&mut self, replaces: Replaces<'_>, seen: &VersionVector, sibling: Sibling<C>) {
        match replaces {
            Replaces::All => self.siblings.clear(),
            Replaces::Seen(vector) => self.siblings.retain(|held| !vector.covers(held.dot)),
        }
        self.context.join(seen);
        self.context.add(sibling.dot);
        let at = self.siblings.partition_point(|held| held.dot < sibling.dot);
        self.siblings.insert(at, sibling);
    }

    /// Takes in another copy. Commutative, associative, idempotent. Returns whether `self` changed.
    ///
    /// A sibling of one side stays if the other side has it too, or if the other side's context
    /// does not cover its dot.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = (self.context.clone(), self.siblings.len());
        let kept_before = self.siblings.len();
        self.siblings.retain(|mine| other.has(mine.dot) || !other.context.covers(mine.dot));
        let mut changed = self.siblings.len() != kept_before;
        for theirs in other.siblings() {
            if !self.context.covers(theirs.dot) {
                let at = self.siblings.partition_point(|held| held.dot < theirs.dot);
                self.siblings.insert(at, theirs.clone());
                changed = true;
            }
        }
        self.context.join(&other.context);
        changed || before.0 != self.context
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.siblings.is_empty() && self.context.is_empty()
    }

    /// Whether this sibling is held.
    #[must_use]
    pub fn has(&self, dot: Dot) -> bool {
        self.siblings.binary_search_by_key(&dot, |sibling| sibling.dot).is_ok()
    }

    /// The context: every write this copy accounts for.
    #[must_use]
    pub fn context(&self) -> &VersionVector {
        &self.context
    }

    /// The siblings, in dot order.
    #[must_use]
    pub fn siblings(&self) -> &[Sibling<C>] {
        &self.siblings
    }

    /// The sibling that last-writer-wins names: highest stamp, then actor.
    #[must_use]
    pub fn winner(&self) -> Option<&Sibling<C>> {
        self.siblings.iter().max_by_key(|sibling| sibling.rank())
    }

    /// The highest stamp among the siblings; zero when there are none.
    #[must_use]
    pub fn highest_stamp(&self) -> Stamp {
        self.siblings.iter().map(|sibling| sibling.stamp).max().unwrap_or_default()
    }

    /// The context to give to a client that read this object.
    #[must_use]
    pub fn client_context(&self) -> Context {
        Context { vector: self.context.clone(), stamp: self.highest_stamp() }
    }

    /// The context to answer a put with, asked of the object it was put into: what the client had
    /// seen, and its own write.
    ///
    /// A vector that names the new dot covers every earlier one of its actor as well. Where one of
    /// those is still held and the client has not seen it, the new dot is left out: the client's
    /// next write is then concurrent with this one, where otherwise it would silently replace a
    /// value nobody has read.
    #[must_use]
    pub fn context_after_put(&self, seen: Option<&Context>, dot: Dot, stamp: Stamp) -> Context {
        let mut context = seen.cloned().unwrap_or_default();
        let unseen = |held: &Sibling<C>| {
            held.dot.actor == dot.actor && held.dot.seq < dot.seq && !context.vector.covers(held.dot)
        };
        if self.siblings.iter().any(unseen) {
            context.stamp = context.stamp.max(stamp);
        } else {
            context.add(dot, stamp);
        }
        context
    }

    /// A hash that is equal exactly when (but for a 2^-64 chance) key, context and dots are.
    ///
    /// XXH3-64 over their little-endian bytes: the same on every machine and in every version.
    #[must_use]
    pub fn digest(&self, key: &[u8]) -> u64 {
        let mut hasher = XxHash3_64::with_seed(0);
        hasher.write_bytes(key);
        for &(actor, seq) in self.context.entries() {
            hasher.write_dot(Dot { actor, seq });
        }
        // Sets the two lists apart: no dot has sequence 0.
        hasher.write_dot(Dot::default());
        for sibling in self.siblings() {
            hasher.write_dot(sibling.dot);
        }
        hasher.finish()
    }

    /// The mistake of comparing by one actor alone, for the simulator to catch.
    #[must_use]
    pub fn digest_of_first_actor(&self, key: &[u8]) -> u64 {
        let mut hasher = XxHash3_64::with_seed(0);
        hasher.write_bytes(key);
        if let Some(&(actor, seq)) = self.context.entries().first() {
            hasher.write_dot(Dot { actor, seq });
        }
        hasher.finish()
    }

    /// The same object with other contents, sibling by sibling.
    #[must_use]
    pub fn map<D>(&self, mut content: impl FnMut(&Sibling<C>) -> D) -> Object<D> {
        let siblings = self.siblings.iter().map(|sibling| Sibling {
            dot: sibling.dot,
            stamp: sibling.stamp,
            expiry: sibling.expiry,
            content: content(sibling),
        });
        Object { siblings: siblings.collect(), context: self.context.clone() }
    }
}

impl Object {
    /// Bytes of all values held.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.siblings.iter().map(Sibling::value_bytes).sum()
    }

    /// Copies values into allocations of their own, of the siblings that `wanted` names.
    ///
    /// A value decoded from a frame is a slice of the receive buffer and would pin all of it.
    pub fn detach_if(&mut self, wanted: impl Fn(Dot) -> bool) {
        for sibling in self.siblings.iter_mut() {
            match &mut sibling.content {
                Content::Value(value) if wanted(sibling.dot) => *value = Bytes::copy_from_slice(value),
                Content::Value(_) | Content::Tombstone => {}
            }
        }
    }
}

/// Fixed-width, little-endian feeding of the hasher.
trait WriteDot {
    fn write_bytes(&mut self, bytes: &[u8]);
    fn write_dot(&mut self, dot: Dot);
}

impl WriteDot for XxHash3_64 {
    fn write_bytes(&mut self, bytes: &[u8]) {
        self.write(&(bytes.len() as u64).to_le_bytes());
        self.write(bytes);
    }

    fn write_dot(&mut self, dot: Dot) {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&dot.actor.node.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&dot.actor.incarnation.0.to_le_bytes());
        bytes[8..].copy_from_slice(&dot.seq.to_le_bytes());
        self.write(&bytes);
    }
}
