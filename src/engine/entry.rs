//! An index entry as packed bytes: a key and its [`Outline`].
//!
//! ```text
//! entry    | key length | key | context count | context ... | sibling count | sibling ...
//! context  | actor number | sequence                            (in actor order)
//! sibling  | cache slot, 6 bytes | flags | place in the context | sequence, if it is not that one's
//!          | stamp, 8 bytes | expiry, 8 bytes, if any | value length, if a value
//!          | position and length of its record, if any
//! ```
//! All counts, lengths, sequences and positions are variable-length integers of seven bits a byte.
//! Actors are told by small numbers of this process ([`Actors`]). The cache slot has a fixed width
//! and comes first, so that it is changed in place. These are our own bytes in our own memory,
//! written here alone; even so, reading them never panics.

use super::outline::{CacheSlot, Kind, Location, Outline, Stored};
use crate::types::{Actor, Dot, Stamp, WallMs};
use crate::version::{Sibling, VersionVector};
use std::collections::BTreeMap;

const SLOT_BYTES: usize = 6;
const NO_SLOT: u64 = (1 << 48) - 1;

const IS_VALUE: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const HAS_LOCATION: u8 = 4;
const IS_DAMAGED: u8 = 8;
/// The dot's sequence is the context's of its actor.
const IS_NEWEST: u8 = 16;

/// Actors by small numbers. Few are ever seen: one for each life of each node.
#[derive(Debug, Default)]
pub(super) struct Actors {
    known: Vec<Actor>,
    numbers: BTreeMap<Actor, u32>,
}

impl Actors {
    fn number(&mut self, actor: Actor) -> u64 {
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(actor).or_insert(next);
        if number == next {
            self.known.push(actor);
        }
        u64::from(number)
    }

    fn actor(&self, number: u64) -> Actor {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.known.get(at).copied().unwrap_or_default()
    }
}

/// Packs a key and what is known of it onto the end of an empty `out`.
pub(super) fn encode(key: &[u8], outline: &Outline, actors: &mut Actors, out: &mut Vec<u8>) {
    put_varint(out, key.len() as u64);
    out.extend_from_slice(key);
    let context = outline.context().entries();
    put_varint(out, context.len() as u64);
    for &(actor, seq) in context {
        put_varint(out, actors.number(actor));
        put_varint(out, seq);
    }
    put_varint(out, outline.siblings().len() as u64);
    for sibling in outline.siblings() {
        put_sibling(out, context, sibling);
    }
}

fn put_sibling(out: &mut Vec<u8>, context: &[(Actor, u64)], sibling: &Sibling<Stored>) {
    let Stored { kind, location, slot, damaged } = sibling.content;
    put_slot(out, slot);
    let at = context.binary_search_by_key(&sibling.dot.actor, |entry| entry.0).unwrap_or(0);
    let newest = context.get(at).is_some_and(|entry| entry.1 == sibling.dot.seq);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(matches!(kind, Kind::Value(_)), IS_VALUE)
            | flag(sibling.expiry.is_some(), HAS_EXPIRY)
            | flag(location.is_some(), HAS_LOCATION)
            | flag(damaged, IS_DAMAGED)
            | flag(newest, IS_NEWEST),
    );
    put_varint(out, at as u64);
    if !newest {
        put_varint(out, sibling.dot.seq);
    }
    out.extend_from_slice(&sibling.stamp.0.to_le_bytes());
    if let Some(at) = sibling.expiry {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
    if let Kind::Value(bytes) = kind {
        put_varint(out, u64::from(bytes));
    }
    if let Some(location) = location {
        put_varint(out, location.position);
        put_varint(out, u64::from(location.bytes));
    }
}

fn put_slot(out: &mut Vec<u8>, slot: Option<CacheSlot>) {
    let bytes = slot.map_or(NO_SLOT, |slot| slot.0).to_le_bytes();
    out.extend(bytes.iter().take(SLOT_BYTES));
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A packed entry, to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    key: &'a [u8],
    rest: Packed<'a>,
}

impl<'a> Entry<'a> {
    /// The entry at the front of these bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut packed = Packed { bytes, at: 0 };
        let length = packed.count();
        let key = packed.take(length);
        Self { key, rest: packed }
    }

    /// The key.
    pub(super) fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Everything that is known of it.
    pub(super) fn outline(&self, actors: &Actors) -> Outline {
        let mut packed = self.rest;
        let count = packed.count();
        let mut context = Vec::with_capacity(count.min(packed.left()));
        for _ in 0..count {
            context.push((actors.actor(packed.varint()), packed.varint()));
        }
        let count = packed.count();
        let mut siblings = Vec::with_capacity(count.min(packed.left()));
        for _ in 0..count {
            siblings.push(packed.sibling(&context).1);
        }
        Outline::from_sorted(VersionVector::from_sorted(context), siblings)
    }

    /// The byte at which each sibling's cache slot lies, and the slot.
    pub(super) fn slots(&self) -> impl Iterator<Item = (usize, Option<CacheSlot>)> {
        let mut packed = self.rest;
        let mut context = packed.count();
        while context > 0 && packed.left() > 0 {
            packed.varint();
            packed.varint();
            context -= 1;
        }
        let count = packed.count();
        (0..count.min(packed.left())).map(move |_| {
            let (at, sibling) = packed.sibling(&[]);
            (at, sibling.content.slot)
        })
    }
}

/// Where the cache slot of the sibling in this place lies, if there is such a sibling.
pub(super) fn set_slot(bytes: &mut [u8], sibling: usize, slot: Option<CacheSlot>) {
    let at = Entry::new(bytes).slots().nth(sibling).map(|entry| entry.0);
    if let Some(at) = at {
        set_slot_at(bytes, at, slot);
    }
}

/// Changes the cache slot that lies at a byte, as told by [`Entry::slots`].
pub(super) fn set_slot_at(bytes: &mut [u8], at: usize, slot: Option<CacheSlot>) {
    let new = slot.map_or(NO_SLOT, |slot| slot.0).to_le_bytes();
    if let (Some(room), Some(new)) = (bytes.get_mut(at..at + SLOT_BYTES), new.get(..SLOT_BYTES)) {
        room.copy_from_slice(new);
    }
}

/// Bytes being read; past the end everything is zero.
#[derive(Clone, Copy, Debug)]
struct Packed<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Packed<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at.min(self.bytes.len())
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let taken = self.bytes.get(self.at..self.at.saturating_add(length)).unwrap_or(&[]);
        self.at = self.at.saturating_add(length);
        taken
    }

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    fn varint(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn count(&mut self) -> usize {
        usize::try_from(self.varint()).unwrap_or(usize::MAX)
    }

    fn fixed(&mut self, length: usize) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(length);
        if let Some(room) = bytes.get_mut(..taken.len()) {
            room.copy_from_slice(taken);
        }
        u64::from_le_bytes(bytes)
    }

    /// A sibling, and the byte at which its cache slot lies.
    fn sibling(&mut self, context: &[(Actor, u64)]) -> (usize, Sibling<Stored>) {
        let slot_at = self.at;
        let slot = self.fixed(SLOT_BYTES);
        let flags = self.byte();
        let has = |bit: u8| flags & bit != 0;
        let (actor, newest) = context.get(self.count()).copied().unwrap_or_default();
        let seq = if has(IS_NEWEST) { newest } else { self.varint() };
        let stamp = Stamp(self.fixed(8));
        let expiry = has(HAS_EXPIRY).then(|| WallMs(self.fixed(8)));
        let length = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let kind = if has(IS_VALUE) { Kind::Value(length(self.varint())) } else { Kind::Tombstone };
        let location =
            has(HAS_LOCATION).then(|| Location { position: self.varint(), bytes: length(self.varint()) });
        let slot = (slot != NO_SLOT).then_some(CacheSlot(slot));
        let content = Stored { kind, location, slot, damaged: has(IS_DAMAGED) };
        (slot_at, Sibling { dot: Dot { actor, seq }, stamp, expiry, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Incarnation, NodeId};
    use proptest::prelude::*;

    fn actor(node: u32) -> Actor {
        Actor { node: NodeId(node), incarnation: Incarnation(node % 3) }
    }

    prop_compose! {
        fn sibling()(
            node in 1u32..5, seq in 1u64..1 << 50, stamp: u64, expiry: Option<u64>, value: Option<u32>,
            location: Option<(u64, u32)>, slot in proptest::option::of(0u64..NO_SLOT), damaged: bool,
        ) -> Sibling<Stored> {
            Sibling {
                dot: Dot { actor: actor(node), seq },
                stamp: Stamp(stamp),
                expiry: expiry.map(WallMs),
                content: Stored {
                    kind: value.map_or(Kind::Tombstone, Kind::Value),
                    location: location.map(|(position, bytes)| Location { position, bytes }),
                    slot: slot.map(CacheSlot),
                    damaged,
                },
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_back_and_its_slots_change_in_place(
            key in proptest::collection::vec(any::<u8>(), 1..1024),
            context in proptest::collection::vec((1u32..9, 1u64..1 << 60), 0..9),
            siblings in proptest::collection::vec(sibling(), 0..6),
            new in proptest::option::of(0u64..NO_SLOT),
        ) {
            let context = context.into_iter().map(|(node, seq)| (actor(node), seq));
            let outline = Outline::from_parts(VersionVector::from_entries(context), siblings);
            let (mut actors, mut packed) = (Actors::default(), Vec::new());
            encode(&key, &outline, &mut actors, &mut packed);
            packed.extend_from_slice(b"whatever follows in the block");
            prop_assert_eq!(Entry::new(&packed).key(), &key[..]);
            prop_assert_eq!(Entry::new(&packed).outline(&actors), outline.clone());
            for at in 0..outline.siblings().len() {
                set_slot(&mut packed, at, new.map(CacheSlot));
            }
            let changed = outline.map(|sibling| Stored { slot: new.map(CacheSlot), ..sibling.content });
            prop_assert_eq!(Entry::new(&packed).outline(&actors), changed);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let entry = Entry::new(&bytes);
            prop_assert!(entry.key().len() <= bytes.len());
            prop_assert!(entry.slots().count() <= bytes.len());
        }
    }

    #[test]
    fn the_usual_entry_takes_about_fifty_bytes() {
        let dot = Dot { actor: actor(1), seq: 1 << 27 };
        let location = Some(Location { position: 1 << 34, bytes: 200 });
        let content = Stored { kind: Kind::Value(100), location, slot: None, damaged: false };
        let sibling = Sibling { dot, stamp: Stamp(u64::MAX / 2), expiry: None, content };
        let outline = Outline::from_parts(VersionVector::default(), vec![sibling]);
        let mut packed = Vec::new();
        encode(&[b'k'; 16], &outline, &mut Actors::default(), &mut packed);
        assert!(packed.len() <= 52, "{} bytes", packed.len());
    }
}
