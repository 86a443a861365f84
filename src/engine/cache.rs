//! Values in memory: the most useful ones, within a limit of bytes.
//!
//! Values are appended to chunks; the oldest chunk is given up when there are too many, and what
//! was read of it since it was written moves on to the newest (FIFO with a second chance). So
//! neither a list nor an allocation per value is needed, and reading marks one bit.
//!
//! ```text
//! chunk   | owner u32 | length, 30 bits, read bit, dead bit | value | owner ...
//! ```
//! A large value is a chunk of its own, shared and not copied. A value that is not on the disk yet
//! is never given up; one that is to live in memory alone is *pinned*, outside the chunks. Owners
//! are handles of index entries: the cache tells them when a value has moved or gone, and must be
//! told when an entry has moved.

use super::arena::Handle;
use super::outline::CacheSlot;
use bytes::Bytes;
use slab::Slab;
use std::collections::VecDeque;

/// Bytes of a chunk: what one step of eviction goes through.
const CHUNK_BYTES: usize = 256 << 10;
/// Values from here on are chunks of their own.
const LARGE_BYTES: usize = 16 << 10;
const HEADER_BYTES: usize = 8;
const READ: u32 = 1 << 30;
const DEAD: u32 = 1 << 31;
const LENGTH: u32 = READ - 1;

/// Set in a slot that names a pinned value.
const PINNED: u64 = 1 << 47;
const OFFSET_BITS: u32 = 24;

/// Values by slot.
#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    /// With a number each, so that a place used again is not taken for what was there.
    chunks: Slab<(u64, Chunk)>,
    /// Chunks in order of age. Some of them are gone.
    ages: VecDeque<(usize, u64)>,
    added: u64,
    filling: Option<usize>,
    bytes: usize,
    pinned: Slab<(Handle, Bytes)>,
    pinned_bytes: usize,
}

#[derive(Debug)]
enum Chunk {
    Small { bytes: Vec<u8>, live: usize, newest: u64 },
    Large { owner: Handle, value: Bytes, read: bool, position: u64 },
}

impl Chunk {
    fn bytes(&self) -> usize {
        match self {
            Chunk::Small { bytes, .. } => bytes.capacity(),
            Chunk::Large { value, .. } => value.len(),
        }
    }
}

/// Where a value has gone: its owner, where it was, where it is now.
pub(super) type Moved<'a> = dyn FnMut(Handle, CacheSlot, Option<CacheSlot>) + 'a;

impl Cache {
    /// A cache for about `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            chunks: Slab::new(),
            ages: VecDeque::new(),
            added: 0,
            filling: None,
            bytes: 0,
            pinned: Slab::new(),
            pinned_bytes: 0,
        }
    }

    /// Takes in a value. `position`: the log position after its record; none if memory is the only
    /// place for it.
    pub(super) fn insert(&mut self, owner: Handle, value: &Bytes, position: Option<u64>) -> CacheSlot {
        let Some(position) = position else {
            self.pinned_bytes += value.len();
            let at = self.pinned.insert((owner, Bytes::copy_from_slice(value)));
            return CacheSlot(PINNED | at as u64);
        };
        if value.len() >= LARGE_BYTES {
            // Whoever brings a value from a receive buffer gives a copy of its own.
            let chunk = Chunk::Large { owner, value: value.clone(), read: false, position };
            return slot(self.add(chunk), 0);
        }
        self.push_small(owner, value, position)
    }

    fn add(&mut self, chunk: Chunk) -> usize {
        self.bytes += chunk.bytes();
        self.added += 1;
        let at = self.chunks.insert((self.added, chunk));
        self.ages.push_back((at, self.added));
        if self.ages.len() > 2 * self.chunks.len() + 64 {
            let chunks = &self.chunks;
            self.ages.retain(|&(at, added)| chunks.get(at).is_some_and(|entry| entry.0 == added));
        }
        at
    }

    fn push_small(&mut self, owner: Handle, value: &[u8], position: u64) -> CacheSlot {
        let needed = HEADER_BYTES + value.len();
        let room = |chunk: &Chunk| match chunk {
            Chunk::Small { bytes, .. } => bytes.capacity() - bytes.len() >= needed,
            Chunk::Large { .. } => false,
        };
        let open = self.filling.filter(|&at| self.chunks.get(at).is_some_and(|entry| room(&entry.1)));
        let at = open.unwrap_or_else(|| {
            // A small cache has small chunks, so that it always has several.
            let size = CHUNK_BYTES.min(self.limit / 8).max(needed);
            let at = self.add(Chunk::Small { bytes: Vec::with_capacity(size), live: 0, newest: 0 });
            self.filling = Some(at);
            at
        });
        let mut offset = 0;
        if let Some((_, Chunk::Small { bytes, live, newest })) = self.chunks.get_mut(at) {
            offset = bytes.len();
            bytes.extend_from_slice(&owner.0.to_le_bytes());
            // Below LARGE_BYTES.
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(value);
            *live += 1;
            *newest = (*newest).max(position);
        }
        slot(at, offset)
    }

    /// A value; it now counts as read.
    pub(super) fn get(&mut self, slot: CacheSlot) -> Option<Bytes> {
        if slot.0 & PINNED != 0 {
            return self.pinned.get(pinned_at(slot)).map(|entry| entry.1.clone());
        }
        let (at, offset) = place(slot);
        match &mut self.chunks.get_mut(at)?.1 {
            Chunk::Large { value, read, .. } => {
                *read = true;
                Some(value.clone())
            }
            Chunk::Small { bytes, .. } => {
                let header = Header::read(bytes, offset)?;
                if header.state & READ == 0 {
                    header.write(bytes, offset, header.state | READ);
                }
                let from = offset + HEADER_BYTES;
                bytes.get(from..from + header.length()).map(Bytes::copy_from_slice)
            }
        }
    }

    /// Lets go of a value.
    pub(super) fn remove(&mut self, slot: CacheSlot) {
        if slot.0 & PINNED != 0 {
            if let Some((_, value)) = self.pinned.try_remove(pinned_at(slot)) {
                self.pinned_bytes -= value.len();
            }
            return;
        }
        let (at, offset) = place(slot);
        let is_empty = match self.chunks.get_mut(at).map(|entry| &mut entry.1) {
            Some(Chunk::Small { bytes, live, .. }) => {
                if let Some(header) = Header::read(bytes, offset) {
                    header.write(bytes, offset, header.state | DEAD);
                    *live -= 1;
                }
                *live == 0
            }
            Some(Chunk::Large { .. }) => true,
            None => false,
        };
        if is_empty && self.filling != Some(at) {
            self.drop_chunk(at);
        }
    }

    fn drop_chunk(&mut self, at: usize) {
        if let Some((_, chunk)) = self.chunks.try_remove(at) {
            self.bytes -= chunk.bytes();
        }
    }

    /// The entry of a value has moved.
    pub(super) fn set_owner(&mut self, slot: CacheSlot, new: Handle) {
        if slot.0 & PINNED != 0 {
            if let Some(entry) = self.pinned.get_mut(pinned_at(slot)) {
                entry.0 = new;
            }
            return;
        }
        let (at, offset) = place(slot);
        match self.chunks.get_mut(at).map(|entry| &mut entry.1) {
            Some(Chunk::Large { owner, .. }) => *owner = new,
            Some(Chunk::Small { bytes, .. }) => {
                if let Some(room) = bytes.get_mut(offset..offset + 4) {
                    room.copy_from_slice(&new.0.to_le_bytes());
                }
            }
            None => {}
        }
    }

    /// While there is too much: gives up the oldest chunk. Values that were read since they came
    /// there, or lie beyond `written` in the log, move on; `moved` is told of every one. Returns
    /// whether there is still too much, and another call would help.
    pub(super) fn evict(&mut self, written: u64, moved: &mut Moved<'_>) -> bool {
        if self.bytes <= self.limit {
            return false;
        }
        let Some((at, chunk)) = self.take_oldest() else { return false };
        self.bytes -= chunk.bytes();
        match chunk {
            Chunk::Large { owner, value, read, position } => {
                let old = slot(at, 0);
                if read || position > written {
                    let new = slot(self.add(Chunk::Large { owner, value, read: false, position }), 0);
                    moved(owner, old, Some(new));
                } else {
                    moved(owner, old, None);
                }
            }
            Chunk::Small { bytes, newest, .. } => self.sift(at, &bytes, newest, written, moved),
        }
        self.bytes > self.limit && self.ages.len() > 1
    }

    fn take_oldest(&mut self) -> Option<(usize, Chunk)> {
        while let Some((at, added)) = self.ages.pop_front() {
            if self.chunks.get(at).is_some_and(|entry| entry.0 == added) {
                if self.filling == Some(at) {
                    self.filling = None;
                }
                return self.chunks.try_remove(at).map(|entry| (at, entry.1));
            }
        }
        None
    }

    /// Goes through a chunk that is given up.
    fn sift(&mut self, at: usize, bytes: &[u8], newest: u64, written: u64, moved: &mut Moved<'_>) {
        let must_stay = newest > written;
        let mut offset = 0;
        while let Some(header) = Header::read(bytes, offset) {
            let from = offset + HEADER_BYTES;
            let value = bytes.get(from..from + header.length()).unwrap_or(&[]);
            if header.state & DEAD == 0 {
                let stays = must_stay || header.state & READ != 0;
                let new = stays.then(|| self.push_small(header.owner, value, newest));
                moved(header.owner, slot(at, offset), new);
            }
            offset = from + header.length();
        }
    }

    /// Bytes of memory that unpinned values take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of pinned values.
    pub(super) fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }
}

#[derive(Clone, Copy)]
struct Header {
    owner: Handle,
    state: u32,
}

impl Header {
    fn read(bytes: &[u8], offset: usize) -> Option<Self> {
        let owner = bytes.get(offset..offset + 4)?.try_into().ok()?;
        let state = bytes.get(offset + 4..offset + HEADER_BYTES)?.try_into().ok()?;
        Some(Self { owner: Handle(u32::from_le_bytes(owner)), state: u32::from_le_bytes(state) })
    }

    fn write(self, bytes: &mut [u8], offset: usize, state: u32) {
        if let Some(room) = bytes.get_mut(offset + 4..offset + HEADER_BYTES) {
            room.copy_from_slice(&state.to_le_bytes());
        }
    }

    fn length(self) -> usize {
        (self.state & LENGTH) as usize
    }
}

fn slot(chunk: usize, offset: usize) -> CacheSlot {
    CacheSlot((chunk as u64) << OFFSET_BITS | offset as u64)
}

fn place(slot: CacheSlot) -> (usize, usize) {
    // Both parts were a usize when the slot was made.
    ((slot.0 >> OFFSET_BITS) as usize, (slot.0 & ((1 << OFFSET_BITS) - 1)) as usize)
}

fn pinned_at(slot: CacheSlot) -> usize {
    (slot.0 & !PINNED) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn value(owner: u32, length: usize) -> Bytes {
        Bytes::from(vec![(owner % 251) as u8; length])
    }

    proptest! {
        #[test]
        fn a_value_is_found_whole_or_its_owner_was_told_that_it_went(
            steps in proptest::collection::vec((0u8..6, any::<u32>(), 0usize..40_000), 1..300)
        ) {
            let mut cache = Cache::new(100_000);
            let mut slots: BTreeMap<u32, (CacheSlot, Bytes, u64)> = BTreeMap::new();
            let (mut next, mut written) = (0, 0);
            for (kind, number, length) in steps {
                let chosen = slots.keys().nth(number as usize % slots.len().max(1)).copied();
                match (kind, chosen) {
                    (0, Some(owner)) => {
                        let (slot, _, _) = slots.remove(&owner).unwrap();
                        cache.remove(slot);
                    }
                    (1, Some(owner)) => {
                        let (slot, value, position) = slots.remove(&owner).unwrap();
                        next += 1;
                        cache.set_owner(slot, Handle(next));
                        slots.insert(next, (slot, value, position));
                    }
                    (2, _) => written = u64::from(next).saturating_sub(u64::from(number % 10)).max(written),
                    (3, _) => {
                        cache.evict(written, &mut |owner, old, new| {
                            assert_eq!(slots.get(&owner.0).unwrap().0, old);
                            match new {
                                Some(new) => slots.get_mut(&owner.0).unwrap().0 = new,
                                None => {
                                    let (_, _, position) = slots.remove(&owner.0).unwrap();
                                    assert!(position <= written, "it can be read nowhere now");
                                }
                            }
                        });
                    }
                    _ => {
                        next += 1;
                        let length = if number % 4 == 0 { length } else { length % 300 };
                        let value = value(next, length);
                        let slot = cache.insert(Handle(next), &value, Some(u64::from(next)));
                        slots.insert(next, (slot, value, u64::from(next)));
                    }
                }
                for (slot, value, _) in slots.values().take(5) {
                    let found = cache.get(*slot);
                    prop_assert_eq!(found.as_ref(), Some(value));
                }
            }
        }
    }

    #[test]
    fn what_was_read_outlives_what_was_not() {
        let mut cache = Cache::new(8000);
        let hot = cache.insert(Handle(0), &value(0, 100), Some(1));
        let mut hot = Some(hot);
        let mut gone = 0;
        for owner in 1..1000 {
            assert_eq!(cache.get(hot.unwrap()), Some(value(0, 100)));
            cache.insert(Handle(owner), &value(owner, 100), Some(1));
            while cache.evict(1, &mut |owner, _, new| {
                if owner == Handle(0) {
                    hot = new;
                }
                gone += u32::from(new.is_none());
            }) {}
            assert!(cache.bytes() <= 9000, "{} bytes", cache.bytes());
        }
        assert!(gone > 900);
    }

    #[test]
    fn pinned_values_are_counted_apart_and_stay() {
        let mut cache = Cache::new(100);
        let slot = cache.insert(Handle(1), &value(1, 5000), None);
        assert!(!cache.evict(u64::MAX, &mut |_, _, _| panic!("it was given up")));
        assert_eq!(cache.get(slot), Some(value(1, 5000)));
        assert_eq!((cache.bytes(), cache.pinned_bytes()), (0, 5000));
        cache.remove(slot);
        assert_eq!(cache.pinned_bytes(), 0);
    }
}
