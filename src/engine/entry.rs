//! What the index holds of a key, packed: the key and its [`Outline`], in about 45 bytes for a key
//! of 16 with one sibling.
//!
//! ```text
//! entry    | head u8 | key bytes | key | actor | seq | sibling          head has SOLE: the context
//!          |                                                            is the one sibling's dot
//!          | head u8 | key bytes | key | n | (actor, seq) n times | m | (flags u8, sibling) m times
//! sibling  | slot 6 bytes | stamp 8 bytes | dot | expiry | value bytes | position | record bytes
//! dot      | nothing when SOLE | its place in the context when CURRENT | actor | seq
//! ```
//! Numbers are varints of seven bits a byte, lowest first, unless a width is given. Actors are
//! numbers given by [`Actors`]. A sibling's flags are in the head when it is the only one, and say
//! which of its fields are there. The slot has a fixed width so that a value can move in the cache
//! without the entry changing its size. What follows the last sibling is ignored: an
//! [`Arena`](super::arena::Arena) gives a little more than was put in.
//!
//! These bytes never leave the process, so that the form may change at any time. Reading some that
//! are no entry gives less, or nothing, and never panics. Used by the engine alone.

#![warn(clippy::indexing_slicing)]

use super::{CacheSlot, Kind, Location, Outline, Stored};
use crate::types::{Actor, Dot, Stamp, WallMs};
use crate::version::{Sibling, VersionVector};

/// The context is the one sibling's dot; the head carries the sibling's flags.
const SOLE: u8 = 1;
/// The dot is the one the context has of its actor.
const CURRENT: u8 = 1 << 1;
const TOMBSTONE: u8 = 1 << 2;
const DAMAGED: u8 = 1 << 3;
const EXPIRES: u8 = 1 << 4;
/// It is in the log.
const LOGGED: u8 = 1 << 5;

const SLOT_BYTES: usize = 6;
const NO_SLOT: u64 = (1 << 48) - 1;

/// Every actor that an entry names, by a small number. One for an engine: an actor is never
/// forgotten, and there is one more each time a node starts.
#[derive(Debug, Default)]
pub struct Actors {
    by_number: Vec<Actor>,
    /// Sorted by actor.
    numbers: Vec<(Actor, u32)>,
}

impl Actors {
    /// The actor's number, a new one if need be.
    pub fn intern(&mut self, actor: Actor) -> u32 {
        match self.numbers.binary_search_by_key(&actor, |entry| entry.0) {
            Ok(at) => self.numbers.get(at).map_or(0, |entry| entry.1),
            Err(at) => {
                let number = self.by_number.len() as u32;
                self.by_number.push(actor);
                self.numbers.insert(at, (actor, number));
                number
            }
        }
    }

    fn actor(&self, number: u64) -> Option<Actor> {
        self.by_number.get(usize::try_from(number).ok()?).copied()
    }
}

/// Appends the packed form of a key and its outline.
pub fn encode(key: &[u8], outline: &Outline, actors: &mut Actors, out: &mut Vec<u8>) {
    let context = outline.context().entries();
    let sole = match (context, outline.siblings()) {
        (&[(actor, seq)], [sibling]) => (sibling.dot == Dot { actor, seq }).then_some(sibling),
        _ => None,
    };
    if let Some(sibling) = sole {
        encode_sole(key, sibling, actors, out);
        return;
    }
    out.push(0);
    write_number(key.len() as u64, out);
    out.extend_from_slice(key);
    write_number(context.len() as u64, out);
    for &(actor, seq) in context {
        write_dot(Dot { actor, seq }, actors, out);
    }
    write_number(outline.siblings().len() as u64, out);
    for sibling in outline.siblings() {
        let dot = sibling.dot;
        match context.iter().position(|&(actor, seq)| dot == Dot { actor, seq }) {
            Some(place) => {
                out.push(flags_of(sibling) | CURRENT);
                write_sibling(sibling, out, |out| write_number(place as u64, out));
            }
            None => {
                out.push(flags_of(sibling));
                write_sibling(sibling, out, |out| write_dot(dot, actors, out));
            }
        }
    }
}

/// Appends the packed form of a key whose context is its one sibling's dot and nothing else.
/// Returns where its slot is, for [`set_slot`].
pub fn encode_sole(key: &[u8], sibling: &Sibling<Stored>, actors: &mut Actors, out: &mut Vec<u8>) -> usize {
    out.push(flags_of(sibling) | SOLE);
    write_number(key.len() as u64, out);
    out.extend_from_slice(key);
    write_dot(sibling.dot, actors, out);
    let slot_at = out.len();
    write_sibling(sibling, out, |_| {});
    slot_at
}

/// Changes in place where a sibling's value is in the cache. `slot_at` is as [`Entry::slots`] or
/// [`Sole::slot_at`] gave it for this very entry. Returns whether there is such a place.
pub fn set_slot(entry: &mut [u8], slot_at: usize, slot: Option<CacheSlot>) -> bool {
    let place = slot_at.checked_add(SLOT_BYTES).and_then(|end| entry.get_mut(slot_at..end));
    place.map(|place| place.copy_from_slice(&slot_bytes(slot))).is_some()
}

/// A packed entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    bytes: &'a [u8],
    key: &'a [u8],
    /// The head and the key are before it.
    rest: usize,
}

/// The only sibling of a key, when its dot is the whole context: nearly always.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sole {
    /// The sibling.
    pub sibling: Sibling<Stored>,
    /// Where its slot is in the entry, for [`set_slot`].
    pub slot_at: usize,
}

impl<'a> Entry<'a> {
    /// An entry at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut reader = Reader { bytes, at: 1 };
        let key = reader.count().and_then(|length| reader.take(length)).unwrap_or_default();
        Self { bytes, key, rest: reader.at }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// All there is.
    #[must_use]
    pub fn outline(&self, actors: &Actors) -> Outline {
        let context = self.context(actors);
        let siblings = self.siblings().filter_map(|found| {
            let current = |place: usize| context.entries().get(place).map(|&(actor, seq)| Dot { actor, seq });
            found.resolve(actors, current)
        });
        let siblings = siblings.collect();
        Outline::from_sorted(context, siblings)
    }

    /// The context.
    #[must_use]
    pub fn context(&self, actors: &Actors) -> VersionVector {
        let known = self.dots().filter_map(|(actor, seq)| Some((actors.actor(actor)?, seq)));
        VersionVector::from_sorted(known.collect())
    }

    /// The only sibling; `None` when there are several or none, or the context says more than it.
    #[must_use]
    pub fn sole(&self, actors: &Actors) -> Option<Sole> {
        let head = self.head().filter(|head| head & SOLE != 0)?;
        let mut reader = Reader { bytes: self.bytes, at: self.rest };
        let dot = Dot { actor: actors.actor(reader.number()?)?, seq: reader.number()? };
        let found = Found::read(&mut reader, head, |_| Some(dot))?;
        Some(Sole { slot_at: found.slot_at, sibling: found.sibling(dot) })
    }

    /// Of each sibling, where its slot is in the entry, for [`set_slot`], and what it says.
    pub fn slots(self) -> impl Iterator<Item = (usize, Option<CacheSlot>)> + use<'a> {
        self.siblings().map(|found| (found.slot_at, found.stored.slot))
    }

    fn head(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn is_sole(&self) -> bool {
        self.head().is_some_and(|head| head & SOLE != 0)
    }

    /// The context's actors, by number, and their sequences.
    fn dots(&self) -> Dots<'a> {
        let mut reader = Reader { bytes: self.bytes, at: self.rest };
        let left = if self.is_sole() { 1 } else { reader.count().unwrap_or(0) };
        Dots { reader, left }
    }

    fn siblings(&self) -> Siblings<'a> {
        let mut dots = self.dots();
        let last = dots.by_ref().last();
        let mut reader = dots.reader;
        if self.is_sole() {
            let sole = self.head().zip(last);
            return Siblings { reader, left: usize::from(sole.is_some()), sole };
        }
        Siblings { left: reader.count().unwrap_or(0), reader, sole: None }
    }
}

/// The entries of a context.
struct Dots<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl Iterator for Dots<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        self.left = self.left.checked_sub(1)?;
        Some((self.reader.number()?, self.reader.number()?))
    }
}

/// The siblings of an entry, as they are stored.
struct Siblings<'a> {
    reader: Reader<'a>,
    left: usize,
    /// The flags and the dot of the only one, if they are not with it.
    sole: Option<(u8, (u64, u64))>,
}

/// A sibling as it is stored, with its dot in the form `D`.
struct Found<D> {
    slot_at: usize,
    dot: D,
    stamp: Stamp,
    expiry: Option<WallMs>,
    stored: Stored,
}

/// A dot that is not looked up yet.
#[derive(Clone, Copy)]
enum FoundDot {
    /// The actor's number, and the sequence.
    Spelled(u64, u64),
    /// A place in the context.
    Current(usize),
}

impl Iterator for Siblings<'_> {
    type Item = Found<FoundDot>;

    fn next(&mut self) -> Option<Found<FoundDot>> {
        self.left = self.left.checked_sub(1)?;
        let found = self.read();
        if found.is_none() {
            self.left = 0;
        }
        found
    }
}

impl Siblings<'_> {
    fn read(&mut self) -> Option<Found<FoundDot>> {
        if let Some((head, (actor, seq))) = self.sole {
            return Found::read(&mut self.reader, head, |_| Some(FoundDot::Spelled(actor, seq)));
        }
        let flags = self.reader.byte()?;
        Found::read(&mut self.reader, flags, |reader| {
            if flags & CURRENT != 0 {
                return Some(FoundDot::Current(reader.count()?));
            }
            Some(FoundDot::Spelled(reader.number()?, reader.number()?))
        })
    }
}

impl<D> Found<D> {
    /// Reads a sibling behind its flags; `dot` reads the dot, if it is with it.
    fn read<'a>(
        reader: &mut Reader<'a>,
        flags: u8,
        dot: impl FnOnce(&mut Reader<'a>) -> Option<D>,
    ) -> Option<Self> {
        let has = |flag: u8| flags & flag != 0;
        let slot_at = reader.at;
        let slot = reader.fixed::<SLOT_BYTES>()?;
        let stamp = Stamp(reader.fixed::<8>()?);
        let dot = dot(reader)?;
        let expiry = if has(EXPIRES) { Some(WallMs(reader.number()?)) } else { None };
        let kind = if has(TOMBSTONE) { Kind::Tombstone } else { Kind::Value(reader.number32()?) };
        let location = if has(LOGGED) {
            Some(Location { position: reader.number()?, bytes: reader.number32()? })
        } else {
            None
        };
        let slot = (slot != NO_SLOT).then_some(CacheSlot(slot));
        let stored = Stored { kind, location, slot, damaged: has(DAMAGED) };
        Some(Self { slot_at, dot, stamp, expiry, stored })
    }

    fn sibling(self, dot: Dot) -> Sibling<Stored> {
        Sibling { dot, stamp: self.stamp, expiry: self.expiry, content: self.stored }
    }
}

impl Found<FoundDot> {
    /// `current` gives the dot at a place of the context.
    fn resolve(self, actors: &Actors, current: impl Fn(usize) -> Option<Dot>) -> Option<Sibling<Stored>> {
        let dot = match self.dot {
            FoundDot::Spelled(actor, seq) => Dot { actor: actors.actor(actor)?, seq },
            FoundDot::Current(place) => current(place)?,
        };
        Some(self.sibling(dot))
    }
}

/// Takes fields off the front; nothing when they are not there.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// A number of `N` bytes, at most eight.
    fn fixed<const N: usize>(&mut self) -> Option<u64> {
        let mut wide = [0; 8];
        wide.get_mut(..N)?.copy_from_slice(self.take(N)?);
        Some(u64::from_le_bytes(wide))
    }

    fn number(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        while shift < u64::BITS {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
        None
    }

    fn number32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }
}

fn flags_of(sibling: &Sibling<Stored>) -> u8 {
    let stored = &sibling.content;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(stored.kind == Kind::Tombstone, TOMBSTONE)
        | flag(stored.damaged, DAMAGED)
        | flag(sibling.expiry.is_some(), EXPIRES)
        | flag(stored.location.is_some(), LOGGED)
}

fn write_sibling(sibling: &Sibling<Stored>, out: &mut Vec<u8>, dot: impl FnOnce(&mut Vec<u8>)) {
    let stored = &sibling.content;
    out.extend_from_slice(&slot_bytes(stored.slot));
    out.extend_from_slice(&sibling.stamp.0.to_le_bytes());
    dot(out);
    if let Some(expiry) = sibling.expiry {
        write_number(expiry.0, out);
    }
    match stored.kind {
        Kind::Value(bytes) => write_number(bytes.into(), out),
        Kind::Tombstone => {}
    }
    if let Some(location) = stored.location {
        write_number(location.position, out);
        write_number(location.bytes.into(), out);
    }
}

fn slot_bytes(slot: Option<CacheSlot>) -> [u8; SLOT_BYTES] {
    let [a, b, c, d, e, f, _, _] = slot.map_or(NO_SLOT, |slot| slot.0).to_le_bytes();
    [a, b, c, d, e, f]
}

fn write_dot(dot: Dot, actors: &mut Actors, out: &mut Vec<u8>) {
    write_number(actors.intern(dot.actor).into(), out);
    write_number(dot.seq, out);
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::types::{Incarnation, NodeId};
    use proptest::option;
    use proptest::prelude::*;

    fn actor(node: u32) -> Actor {
        Actor { node: NodeId(node), incarnation: Incarnation(node % 3) }
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![1_u64..300, any::<u64>()]
    }

    fn stored() -> impl Strategy<Value = Stored> {
        let kind = prop_oneof![any::<u32>().prop_map(Kind::Value), Just(Kind::Tombstone)];
        let location = (number(), any::<u32>()).prop_map(|(position, bytes)| Location { position, bytes });
        let slot = (0..NO_SLOT).prop_map(CacheSlot);
        (kind, option::of(location), option::of(slot), any::<bool>())
            .prop_map(|(kind, location, slot, damaged)| Stored { kind, location, slot, damaged })
    }

    fn sibling() -> impl Strategy<Value = Sibling<Stored>> {
        (0_u32..200, number(), number(), option::of(number()), stored()).prop_map(
            |(node, seq, stamp, expiry, content)| Sibling {
                dot: Dot { actor: actor(node), seq },
                stamp: Stamp(stamp),
                expiry: expiry.map(WallMs),
                content,
            },
        )
    }

    fn outline() -> impl Strategy<Value = Outline> {
        let context = prop::collection::vec((0_u32..200, number()), 0..4);
        let siblings = prop_oneof![
            3 => prop::collection::vec(sibling(), 1..2),
            2 => prop::collection::vec(sibling(), 0..6),
        ];
        (context, siblings).prop_map(|(context, siblings)| {
            let context = context.into_iter().map(|(node, seq)| (actor(node), seq));
            Outline::from_parts(VersionVector::from_entries(context), siblings)
        })
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_what_it_was(
            key in prop::collection::vec(any::<u8>(), 0..200),
            outline in outline(),
            behind in 0_usize..9,
        ) {
            let (mut actors, mut bytes) = (Actors::default(), Vec::new());
            encode(&key, &outline, &mut actors, &mut bytes);
            bytes.resize(bytes.len() + behind, 0xff);
            let entry = Entry::new(&bytes);
            prop_assert_eq!(entry.key(), &key[..]);
            prop_assert_eq!(&entry.outline(&actors), &outline);
            prop_assert_eq!(&entry.context(&actors), outline.context());
            let slots: Vec<_> = entry.slots().map(|(_, slot)| slot).collect();
            let wanted: Vec<_> = outline.siblings().iter().map(|sibling| sibling.content.slot).collect();
            prop_assert_eq!(slots, wanted);
            let sole = entry.sole(&actors);
            let is_sole = match outline.siblings() {
                [only] => outline.context().entries() == [(only.dot.actor, only.dot.seq)],
                _ => false,
            };
            prop_assert_eq!(sole.is_some(), is_sole);
            if let Some(sole) = sole {
                prop_assert_eq!(&sole.sibling, &outline.siblings()[0]);
                prop_assert_eq!(Some(sole.slot_at), entry.slots().map(|(at, _)| at).next());
            }
        }

        #[test]
        fn a_slot_changes_in_place_and_nothing_else_does(outline in outline(), slot in option::of(0..NO_SLOT)) {
            let slot = slot.map(CacheSlot);
            let (mut actors, mut bytes) = (Actors::default(), Vec::new());
            encode(b"key", &outline, &mut actors, &mut bytes);
            let places: Vec<usize> = Entry::new(&bytes).slots().map(|(at, _)| at).collect();
            for at in places {
                prop_assert!(set_slot(&mut bytes, at, slot));
            }
            let wanted = outline.map(|sibling| Stored { slot, ..sibling.content });
            prop_assert_eq!(Entry::new(&bytes).outline(&actors), wanted);
        }

        #[test]
        fn bytes_that_are_no_entry_do_no_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            outline in outline(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut actors, mut whole) = (Actors::default(), Vec::new());
            encode(b"key", &outline, &mut actors, &mut whole);
            for bytes in [&bytes[..], &whole[..cut.index(whole.len())], &[]] {
                let entry = Entry::new(bytes);
                let _ = (entry.key(), entry.outline(&actors), entry.sole(&actors), entry.slots().count());
            }
            prop_assert!(!set_slot(&mut whole, usize::MAX, None));
        }
    }

    #[test]
    fn a_common_entry_is_small() {
        let stored = Stored {
            kind: Kind::Value(100),
            location: Some(Location { position: (1 << 35) - 1, bytes: 200 }),
            slot: None,
            damaged: false,
        };
        let dot = Dot { actor: actor(3), seq: 1_000_000 };
        let sibling = Sibling { dot, stamp: Stamp(u64::MAX), expiry: None, content: stored };
        let outline = Outline::from_parts(VersionVector::default(), vec![sibling]);
        let mut bytes = Vec::new();
        encode(&[7; 16], &outline, &mut Actors::default(), &mut bytes);
        assert!(bytes.len() <= 44, "{}", bytes.len());
    }
}
