//! Tests of what a packed index costs in bytes.

use super::arena::{Arena, Handle};
use super::cache::Cache;
use super::entry::{Actors, Entry, encode, set_slot};
use super::shelf::{Shelf, tag_of};
use super::{Kind, Location, Outline, Stored};
use crate::types::{Actor, Dot, Incarnation, NodeId, Stamp};
use crate::version::{Sibling, VersionVector};
use bytes::Bytes;

const SHELVES: u64 = 1024;

/// What the engine keeps of its keys.
struct Packed {
    shelves: Vec<Shelf>,
    arena: Arena,
    actors: Actors,
    cache: Cache,
    entry: Vec<u8>,
}

impl Packed {
    fn new(cache_bytes: usize) -> Self {
        Self {
            shelves: (0..SHELVES).map(|_| Shelf::default()).collect(),
            arena: Arena::default(),
            actors: Actors::default(),
            cache: Cache::new(cache_bytes),
            entry: Vec::new(),
        }
    }

    fn insert(&mut self, key: &[u8], value: &Bytes, seq: u64) {
        let position = seq * 230;
        let stored = Stored {
            kind: Kind::Value(value.len() as u32),
            location: Some(Location { position, bytes: 230 }),
            slot: None,
            damaged: false,
        };
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(1) };
        let dot = Dot { actor, seq };
        let sibling = Sibling { dot, stamp: Stamp(seq << 16), expiry: None, content: stored };
        let outline = Outline::from_parts(VersionVector::default(), vec![sibling]);
        self.entry.clear();
        encode(key, &outline, &mut self.actors, &mut self.entry);
        let handle = self.arena.insert(&self.entry).unwrap();
        let slot = self.cache.insert(handle, value, position);
        let slot_at = Entry::new(&self.entry).slots().next().unwrap().0;
        set_slot(self.arena.get_mut(handle), slot_at, slot);
        let (tag, arena) = (tag_of(key), &self.arena);
        let order = |held: Handle| Entry::new(arena.get(held)).key().cmp(key);
        let shelf = &mut self.shelves[shelf_of(key)];
        shelf.insert_at(shelf.seek(tag, order).unwrap_err(), tag, handle);
        while self.cache.evict(u64::MAX, &mut |owner, old, new| {
            let entry = self.arena.get_mut(owner);
            let slot_at = Entry::new(entry).slots().find(|&(_, slot)| slot == Some(old)).unwrap().0;
            set_slot(entry, slot_at, new);
        }) {}
    }

    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        let arena = &self.arena;
        let order = |held: Handle| Entry::new(arena.get(held)).key().cmp(key);
        let shelf = &self.shelves[shelf_of(key)];
        let handle = shelf.handle_at(shelf.seek(tag_of(key), order).unwrap()).unwrap();
        let sole = Entry::new(arena.get(handle)).sole(&self.actors).unwrap();
        self.cache.get(sole.sibling.content.slot?)
    }

    fn bytes(&self) -> [usize; 3] {
        let shelves = self.shelves.iter().map(|shelf| shelf.bytes() + size_of::<Shelf>()).sum();
        [shelves, self.arena.bytes(), self.cache.bytes()]
    }
}

fn shelf_of(key: &[u8]) -> usize {
    (u64::from(crc32c::crc32c(key)) % SHELVES) as usize
}

fn key_of(number: u64) -> [u8; 16] {
    let mut key = *b"key:____________";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

#[test]
fn a_million_keys_take_little_more_than_they_are() {
    let mut packed = Packed::new(1 << 30);
    let value = Bytes::from(vec![7; 100]);
    let mut worst = 0;
    for number in 1..=1_000_000 {
        packed.insert(&key_of(number), &value, number);
        // From the time when pages and chunks, which are few, stop mattering.
        if number >= 250_000 && number % 10_000 == 0 {
            let bytes: usize = packed.bytes().iter().sum();
            worst = worst.max(bytes / number as usize);
        }
    }
    let per_key = packed.bytes().map(|bytes| bytes as f64 / 1e6);
    println!("shelves, arena, cache: {per_key:.1?} bytes a key; at worst {worst} in all");
    assert!(worst <= 175, "{worst} bytes a key");
}

#[test]
fn values_that_do_not_fit_go_and_entries_know_it() {
    let mut packed = Packed::new(1 << 20);
    for number in 1..=50_000_u64 {
        packed.insert(&key_of(number), &Bytes::from(number.to_le_bytes().repeat(12)), number);
    }
    let mut cached = 0;
    for number in 1..=50_000_u64 {
        let Some(value) = packed.get(&key_of(number)) else { continue };
        assert_eq!(value, number.to_le_bytes().repeat(12));
        cached += 1;
    }
    assert!((8_000..11_000).contains(&cached), "{cached}");
}
