//! The index: of every key this node holds, everything but the values, and where those are.
//!
//! Owns the [`Arena`] of entries, the [`Shelf`] of each keyspace's sector, and the [`Cache`] of
//! values, and keeps them true to each other. It knows nothing of the log. Called by the engine.

use super::arena::{Arena, Handle};
use super::cache::{Cache, PINNED};
use super::entry::{self, Actors, Entry, Sole};
use super::outline::{CacheSlot, Kind, Outline, Stored};
use super::shelf::{Shelf, tag_of};
use super::store::At;
use super::tree::{LEAVES, first_tag, hash_of, hash_of_sole, leaf_of};
use crate::types::{Dot, Key, KeyspaceId, SectorId};
use crate::version::Sibling;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Where a key is in the index, or belongs: holds until the index is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    place: At,
    tag: u32,
    /// On its shelf.
    at: Result<usize, usize>,
    handle: Option<Handle>,
}

/// What the index has of a key.
#[derive(Debug)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// One sibling, whose dot is the whole context: nearly always.
    Sole(Sole),
    /// Anything else.
    Outline(Outline),
}

/// The index of a node.
#[derive(Debug)]
pub(super) struct Index {
    /// By keyspace, then sector.
    shelves: BTreeMap<KeyspaceId, Vec<Shelf>>,
    arena: Arena,
    actors: Actors,
    cache: Cache,
    /// An entry being packed.
    packed: Vec<u8>,
    keys: u64,
    bytes: u64,
    /// Entries of shelves that were given up, not yet removed.
    dropped: Vec<Handle>,
    /// An entry found no room.
    is_full: bool,
}

impl Index {
    /// An empty index that keeps about so many bytes of values in memory.
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            shelves: BTreeMap::new(),
            arena: Arena::default(),
            actors: Actors::default(),
            cache: Cache::new(cache_bytes),
            packed: Vec::new(),
            keys: 0,
            bytes: 0,
            dropped: Vec::new(),
            is_full: false,
        }
    }

    fn shelf(&self, place: At) -> Option<&Shelf> {
        self.shelves.get(&place.0)?.get(usize::from(place.1.0))
    }

    /// Where a key is, or belongs.
    pub(super) fn seek(&self, place: At, key: &[u8]) -> Spot {
        let (tag, arena) = (tag_of(key), &self.arena);
        let Some(shelf) = self.shelf(place) else { return Spot { place, tag, at: Err(0), handle: None } };
        let at = shelf.seek(tag, |handle| Entry::new(arena.get(handle)).key().cmp(key));
        Spot { place, tag, at, handle: at.ok().and_then(|at| shelf.handle_at(at)) }
    }

    fn entry(&self, spot: Spot) -> Option<Entry<'_>> {
        spot.handle.map(|handle| Entry::new(self.arena.get(handle)))
    }

    /// What is known of a key, in the usual case without an allocation; and where that is, or is
    /// to be put.
    pub(super) fn held(&self, place: At, key: &[u8]) -> (Spot, Held) {
        let spot = self.seek(place, key);
        let Some(entry) = self.entry(spot) else { return (spot, Held::Nothing) };
        let held = match entry.sole(&self.actors) {
            Some(sole) => Held::Sole(sole),
            None => Held::Outline(entry.outline(&self.actors)),
        };
        (spot, held)
    }

    /// Makes this sibling, under its own dot as context, all that is known of a key, in the place
    /// of nothing or of one such other, and keeps its value in memory.
    pub(super) fn install_sole(
        &mut self,
        spot: Spot,
        key: &[u8],
        before: Option<&Sole>,
        after: &Sibling<Stored>,
        value: Option<&Bytes>,
    ) {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        let slot_at = entry::encode_sole(key, after, &mut self.actors, &mut packed);
        if let Some(slot) = before.and_then(|sole| sole.sibling.content.slot) {
            self.cache.remove(slot);
        }
        let handle = self.put(spot, &packed);
        if let (Some(handle), Some(value)) = (handle, value) {
            let position = after.content.location.map_or(PINNED, |location| location.position);
            let slot = self.cache.insert(handle, value, position);
            entry::set_slot(self.arena.get_mut(handle), slot_at, slot);
        }
        self.packed = packed;
        let count = |kind: Kind| u64::from(matches!(kind, Kind::Value(_)));
        let old = before.map(|sole| sole.sibling.content.kind);
        self.keys = self.keys + count(after.content.kind) - old.map_or(0, count);
        let weigh = |kind: Kind| (key.len() + kind.value_bytes()) as u64;
        self.bytes = self.bytes + weigh(after.content.kind) - old.map_or(0, weigh);
        let hash = |sibling: &Sibling<Stored>| hash_of_sole(spot.tag, sibling.dot, sibling.content.damaged);
        self.swap(spot, before.map_or(0, |sole| hash(&sole.sibling)), hash(after));
    }

    /// Keeps the hash tree true.
    fn swap(&mut self, spot: Spot, before: u64, after: u64) {
        shelf_mut(&mut self.shelves, spot.place).tree.swap(spot.tag, before, after);
    }

    /// What is known of a key.
    pub(super) fn outline(&self, place: At, key: &[u8]) -> Option<Outline> {
        self.entry(self.seek(place, key)).map(|entry| entry.outline(&self.actors))
    }

    /// A value that is in memory.
    pub(super) fn value(&mut self, slot: CacheSlot) -> Option<Bytes> {
        self.cache.get(slot)
    }

    /// Makes `after` what is known of a key, in the place of `before`. Values of siblings that are
    /// no longer there leave memory.
    pub(super) fn install(&mut self, place: At, key: &[u8], before: Option<&Outline>, after: &Outline) {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        entry::encode(key, after, &mut self.actors, &mut packed);
        let spot = self.seek(place, key);
        let new = self.put(spot, &packed);
        self.packed = packed;
        self.keep_slots(before, after, new.filter(|_| new != spot.handle));
        let ((old_keys, old_bytes), (keys, bytes)) = (weight(key, before), weight(key, Some(after)));
        self.keys = self.keys + keys - old_keys;
        self.bytes = self.bytes + bytes - old_bytes;
        let old = before.map_or(0, |before| hash_of(spot.tag, before));
        self.swap(spot, old, hash_of(spot.tag, after));
    }

    /// Puts a packed entry where its key is, or belongs. None if it found no room.
    fn put(&mut self, spot: Spot, packed: &[u8]) -> Option<Handle> {
        let new = match spot.handle {
            Some(old) => self.arena.replace(old, packed),
            None => self.arena.insert(packed),
        };
        self.is_full |= new.is_none();
        let new = new?;
        match spot.at {
            Ok(_) if spot.handle == Some(new) => {}
            Ok(at) => shelf_mut(&mut self.shelves, spot.place).replace_at(at, spot.tag, new),
            Err(at) => shelf_mut(&mut self.shelves, spot.place).insert_at(at, spot.tag, new),
        }
        Some(new)
    }

    /// Values of siblings that are no longer there leave memory; those that stay are told of their
    /// entry's new handle, if it has one.
    fn keep_slots(&mut self, before: Option<&Outline>, after: &Outline, moved: Option<Handle>) {
        let slots = |outline: &Outline| -> Vec<CacheSlot> {
            outline.siblings().iter().filter_map(|sibling| sibling.content.slot).collect()
        };
        let kept = slots(after);
        for slot in before.map(slots).unwrap_or_default() {
            if !kept.contains(&slot) {
                self.cache.remove(slot);
            }
        }
        for slot in kept {
            if let Some(handle) = moved {
                self.cache.set_owner(slot, handle);
            }
        }
    }

    /// Keeps a value of a key in memory. `position`: where its record is in the log, or none if
    /// memory is the only place where it is.
    pub(super) fn keep_value(&mut self, spot: Spot, dot: Dot, value: &Bytes, position: Option<u64>) {
        let Some(handle) = spot.handle else { return };
        let entry = Entry::new(self.arena.get(handle));
        let found = match entry.sole(&self.actors) {
            Some(sole) => (sole.sibling.dot == dot).then_some(sole.slot_at),
            None => {
                let outline = entry.outline(&self.actors);
                let at = outline.siblings().iter().position(|sibling| sibling.dot == dot);
                at.and_then(|at| entry.slots().nth(at)).map(|slot| slot.0)
            }
        };
        if let Some(slot_at) = found {
            let slot = self.cache.insert(handle, value, position.unwrap_or(PINNED));
            entry::set_slot(self.arena.get_mut(handle), slot_at, slot);
        }
    }

    /// Gives up cached values while there are more than there may be, `chunks` of them at most.
    /// What lies in the log beyond `written` cannot be read from there yet, and stays.
    pub(super) fn evict(&mut self, written: u64, chunks: usize) {
        let (arena, cache) = (&mut self.arena, &mut self.cache);
        for _ in 0..chunks {
            let more = cache.evict(written, &mut |owner, old, new| {
                let packed = arena.get_mut(owner);
                let found = Entry::new(packed).slots().find(|entry| entry.1 == Some(old));
                if let Some((at, _)) = found {
                    entry::set_slot(packed, at, new);
                }
            });
            if !more {
                return;
            }
        }
    }

    /// The keys of a keyspace's sector after `after`, in the shelf's order.
    pub(super) fn walk(&self, place: At, after: Option<&Key>) -> impl Iterator<Item = (Key, Outline)> {
        let arena = &self.arena;
        let handles = self.shelf(place).into_iter().flat_map(move |shelf| {
            // The lowest tag, and a key below all: the front of the shelf.
            let (tag, key) = after.map_or((0, &b""[..]), |key| (tag_of(key), key));
            shelf.after(tag, move |handle| Entry::new(arena.get(handle)).key().cmp(key))
        });
        handles.map(|(_, handle)| {
            let entry = Entry::new(self.arena.get(handle));
            (Key::copy_from_slice(entry.key()), entry.outline(&self.actors))
        })
    }

    /// How many keys of a keyspace's sector there are, deleted ones counted.
    pub(super) fn count(&self, place: At) -> u64 {
        self.shelf(place).map_or(0, |shelf| shelf.len() as u64)
    }

    /// The sum of all objects' hashes of a keyspace's sector; 0 when there are none.
    pub(super) fn root(&self, place: At) -> u64 {
        self.shelf(place).map_or(0, |shelf| shelf.tree.root())
    }

    /// The same by leaf.
    pub(super) fn leaves(&self, place: At) -> [u64; LEAVES] {
        self.shelf(place).map_or([0; LEAVES], |shelf| shelf.tree.leaves())
    }

    /// The keys of one leaf, each with its object's hash.
    pub(super) fn leaf(&self, place: At, leaf: u8) -> impl Iterator<Item = (Key, u64)> {
        let from_first = self.shelf(place).into_iter().flat_map(move |shelf| {
            // Before every key of that tag.
            shelf.after(first_tag(leaf), |_| Ordering::Greater)
        });
        let of_leaf = from_first.take_while(move |&(tag, _)| leaf_of(tag) == usize::from(leaf));
        of_leaf.map(|(tag, handle)| {
            let entry = Entry::new(self.arena.get(handle));
            (Key::copy_from_slice(entry.key()), hash_of(tag, &entry.outline(&self.actors)))
        })
    }

    /// Keyspaces and sectors of which something is held, from `from` on, in order.
    pub(super) fn places(&self, from: At) -> impl Iterator<Item = At> {
        self.shelves.range(from.0..).flat_map(move |(&keyspace, shelves)| {
            let first = if keyspace == from.0 { usize::from(from.1.0) } else { 0 };
            let held = shelves.iter().enumerate().skip(first).filter(|(_, shelf)| !shelf.is_empty());
            held.filter_map(move |(at, _)| Some((keyspace, SectorId(u16::try_from(at).ok()?))))
        })
    }

    /// Shows everything that is held. At start alone: it takes as long as there are keys.
    pub(super) fn each(&self, mut show: impl FnMut(&Outline)) {
        for shelf in self.shelves.values().flatten() {
            for (_, handle) in shelf.iter() {
                show(&Entry::new(self.arena.get(handle)).outline(&self.actors));
            }
        }
    }

    /// Forgets what lies below a log position alone. At start: nothing of it is in memory.
    pub(super) fn drop_older(&mut self, place: At, below: u64) {
        let old: Vec<(Key, Outline)> = self
            .walk(place, None)
            .filter(|(_, outline)| {
                let newest = outline.siblings().iter().filter_map(|sibling| sibling.content.location).max();
                newest.is_none_or(|location| location.position < below)
            })
            .collect();
        for (key, outline) in old {
            self.remove(place, &key, &outline);
        }
    }

    /// Nothing is known of a key any more.
    pub(super) fn remove(&mut self, place: At, key: &[u8], outline: &Outline) {
        let spot = self.seek(place, key);
        let Some(handle) = spot.handle else { return };
        self.swap(spot, hash_of(spot.tag, outline), 0);
        shelf_mut(&mut self.shelves, place).remove(spot.tag, handle);
        self.forget(handle, key, outline);
    }

    fn forget(&mut self, handle: Handle, key: &[u8], outline: &Outline) {
        for slot in outline.siblings().iter().filter_map(|sibling| sibling.content.slot) {
            self.cache.remove(slot);
        }
        self.arena.remove(handle);
        let (keys, bytes) = weight(key, Some(outline));
        self.keys -= keys;
        self.bytes -= bytes;
    }

    /// Gives up a keyspace's sector. Its keys are gone at once; their room is freed by
    /// [`clear_dropped`](Self::clear_dropped).
    pub(super) fn drop_shelf(&mut self, place: At) {
        let shelf = std::mem::take(shelf_mut(&mut self.shelves, place));
        self.dropped.extend(shelf.iter().map(|(_, handle)| handle));
    }

    /// Whether there are entries of dropped shelves.
    pub(super) fn is_dropping(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Removes entries of dropped shelves, so many at most, and shows what each was.
    pub(super) fn clear_dropped(&mut self, keys_max: usize, mut show: impl FnMut(&Outline)) {
        for _ in 0..keys_max {
            let Some(handle) = self.dropped.pop() else { return };
            let entry = Entry::new(self.arena.get(handle));
            let (key, outline) = (Key::copy_from_slice(entry.key()), entry.outline(&self.actors));
            show(&outline);
            self.forget(handle, &key, &outline);
        }
    }

    /// Keys with at least one value, and bytes of keys and values.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.keys, self.bytes)
    }

    /// Bytes of memory that all of this takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let shelves: usize = self.shelves.values().flatten().map(Shelf::bytes).sum();
        shelves + self.arena.bytes() + self.cache.bytes() + self.cache.pinned_bytes()
    }

    /// Whether an entry found no room: memory of the index has a limit, too.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Bytes of values that are in memory alone.
    pub(super) fn pinned_bytes(&self) -> usize {
        self.cache.pinned_bytes()
    }
}

fn shelf_mut(shelves: &mut BTreeMap<KeyspaceId, Vec<Shelf>>, place: At) -> &mut Shelf {
    let sectors = shelves.entry(place.0).or_default();
    let at = usize::from(place.1.0);
    if sectors.len() <= at {
        sectors.resize_with(at + 1, Shelf::default);
    }
    &mut sectors[at]
}

/// What a key counts for: 1 if it has a value, and its bytes.
fn weight(key: &[u8], outline: Option<&Outline>) -> (u64, u64) {
    let Some(outline) = outline else { return (0, 0) };
    let kinds = || outline.siblings().iter().map(|sibling| sibling.content.kind);
    let live = kinds().any(|kind| matches!(kind, Kind::Value(_)));
    let values: usize = kinds().map(Kind::value_bytes).sum();
    (u64::from(live), (key.len() + values) as u64)
}
