//! Values in memory: first in, first out, with a second chance for those that were read.
//!
//! Values are appended to chunks, so that one costs its bytes and six more, and giving memory back
//! means freeing whole chunks, oldest first. A value that was read since it came, or was last
//! moved, goes on to the newest chunk instead; that is nearly as good as least-recently-used, and
//! a read writes no more than a bit. A value of [`LARGE_BYTES`] or more is a chunk of its own,
//! which is never copied.
//!
//! A value is found by its [`CacheSlot`] alone. Slots are used again once a value is removed or
//! dropped: whoever holds one (the engine, in its entries) must take it out then, or it may find
//! another's value. Each value knows its owner, so that the engine is told whose slot changed.
//!
//! Values that are stored nowhere else (keyspaces in memory) are pinned: kept apart, never
//! dropped, not counted against the limit. This module never looks at a value and knows no disk.
//!
//! ```text
//! slot     | chunk 24 bits | offset 24 bits |      chunk below 2^23
//!          | 1 | zero 15 bits | arena handle 32 bits |     small and pinned
//! chunk    | owner u32 | length 14 bits, touched, dead | value | owner ...
//! ```

use super::CacheSlot;
use super::arena::{Arena, Handle};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::mem;

/// The position of a value that is stored nowhere else.
pub const PINNED: u64 = u64::MAX;

/// Bytes of a chunk, in a cache of 4 MiB or more.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a chunk in the smallest cache, which has four.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// From so many bytes on a value is a chunk of its own (in small caches, from an eighth of a
/// chunk on: what is lost at a chunk's end must be little).
const LARGE_BYTES: usize = 16 << 10;
const CHUNKS_MAX: usize = 1 << 23;
const OFFSET_BITS: u32 = 24;
const IN_ARENA: u64 = 1 << 47;

const HEADER_BYTES: usize = 6;
const LENGTH_MASK: u16 = (1 << 14) - 1;
const TOUCHED: u16 = 1 << 14;
const DEAD: u16 = 1 << 15;

/// See the module.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    chunk_bytes: usize,
    large_bytes: usize,
    chunks: Vec<Option<Chunk>>,
    /// Numbers of chunks that were freed.
    vacant: Vec<u32>,
    /// Chunks that may be dropped, by their turn: the oldest first.
    queue: BTreeMap<u64, u32>,
    next_turn: u64,
    /// The chunk that values are appended to.
    current: Option<u32>,
    /// Bytes of all chunks in the queue, and of the values in them that are not dead.
    bytes: usize,
    live_bytes: usize,
    /// Small pinned values, each behind its length.
    pinned: Arena,
    /// Bytes of the large ones.
    pinned_large_bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    /// Its place in the queue.
    turn: u64,
    /// The highest log position of a record whose value was put here when it was new.
    newest: u64,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// Values, each behind its header; so many of them are not dead.
    Small { bytes: Vec<u8>, live: usize },
    /// One value.
    Large { owner: Handle, value: Bytes, touched: bool },
    /// One value that is not in the queue.
    Pinned(Bytes),
}

impl Cache {
    /// A cache that keeps about `bytes_max` bytes, at least 16 KiB.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.max(CHUNK_BYTES_MIN * 4);
        let chunk_bytes = (bytes_max / 16).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
        Self {
            bytes_max,
            chunk_bytes,
            large_bytes: (chunk_bytes / 8).min(LARGE_BYTES),
            chunks: Vec::new(),
            vacant: Vec::new(),
            queue: BTreeMap::new(),
            next_turn: 0,
            current: None,
            bytes: 0,
            live_bytes: 0,
            pinned: Arena::default(),
            pinned_large_bytes: 0,
        }
    }

    /// Keeps a value. `position` is that of the log record that carries it; until that is written
    /// the value is not dropped, and if it is [`PINNED`], never. A large value is shared, not
    /// copied: it must not be a slice of something larger. The limit is exceeded until
    /// [`evict`](Self::evict) is called. `None` when slots have run out: the value is not kept.
    pub fn insert(&mut self, owner: Handle, value: &Bytes, position: u64) -> Option<CacheSlot> {
        if position == PINNED {
            return self.pin(value);
        }
        if value.len() < self.large_bytes {
            return self.append(owner, value, position);
        }
        self.bytes += weight(value);
        self.live_bytes += weight(value);
        // Its own copy: it may be a slice of a receive buffer, which it would pin.
        let held = Held::Large { owner, value: Bytes::copy_from_slice(value), touched: false };
        let added = self.add_chunk(held, position);
        if added.is_none() {
            self.bytes -= weight(value);
            self.live_bytes -= weight(value);
        }
        added.map(|number| slot_of(number, 0))
    }

    /// The value, and notes that it was read. A small one is copied.
    pub fn get(&mut self, slot: CacheSlot) -> Option<Bytes> {
        if let Some(handle) = pinned_handle(slot) {
            let (length, value) = self.pinned.get(handle).split_first_chunk()?;
            return value.get(..usize::from(u16::from_le_bytes(*length))).map(Bytes::copy_from_slice);
        }
        let (number, offset) = parts(slot);
        match &mut self.chunks.get_mut(number)?.as_mut()?.held {
            Held::Small { bytes, .. } => {
                let header = Header::read(bytes, offset)?;
                if header.bits & (TOUCHED | DEAD) == 0 {
                    header.with(TOUCHED).write(bytes, offset);
                }
                (header.bits & DEAD == 0).then(|| Bytes::copy_from_slice(header.value(bytes, offset)))
            }
            Held::Large { value, touched, .. } => {
                *touched = true;
                Some(value.clone())
            }
            Held::Pinned(value) => Some(value.clone()),
        }
    }

    /// Forgets a value. A chunk in which none is left is freed.
    pub fn remove(&mut self, slot: CacheSlot) {
        if let Some(handle) = pinned_handle(slot) {
            return self.pinned.remove(handle);
        }
        let (number, offset) = parts(slot);
        let Some(chunk) = self.chunks.get_mut(number).and_then(Option::as_mut) else { return };
        let left = match &mut chunk.held {
            Held::Small { bytes, live } => {
                let Some(header) = Header::read(bytes, offset) else { return };
                debug_assert!(header.bits & DEAD == 0, "a value is removed twice");
                if header.bits & DEAD != 0 {
                    return;
                }
                header.with(DEAD).write(bytes, offset);
                self.live_bytes -= HEADER_BYTES + header.length();
                *live -= 1;
                *live
            }
            Held::Large { value, .. } => {
                self.live_bytes -= weight(value);
                0
            }
            Held::Pinned(value) => {
                self.pinned_large_bytes -= weight(value);
                0
            }
        };
        if left == 0 {
            self.take_chunk(number);
            self.vacant.push(number as u32);
        }
    }

    /// Takes note that a value's owner has another handle now.
    pub fn set_owner(&mut self, slot: CacheSlot, new_owner: Handle) {
        if pinned_handle(slot).is_some() {
            return;
        }
        let (number, offset) = parts(slot);
        let Some(chunk) = self.chunks.get_mut(number).and_then(Option::as_mut) else { return };
        match &mut chunk.held {
            Held::Small { bytes, .. } => {
                if let Some(header) = Header::read(bytes, offset) {
                    Header { owner: new_owner, ..header }.write(bytes, offset);
                }
            }
            Held::Large { owner, .. } => *owner = new_owner,
            Held::Pinned(_) => {}
        }
    }

    /// While there is more than the limit, gives the oldest chunk's memory back: what was read
    /// moves on, the rest is dropped. `changed` is told the owner, the old slot and the new one, if
    /// any, of each value. `written` is the log position up to which everything is on disk: a chunk
    /// with a value from behind it is put off as a whole.
    ///
    /// Works on one chunk. Returns whether it is worth calling again at once.
    pub fn evict(
        &mut self,
        written: u64,
        changed: &mut impl FnMut(Handle, CacheSlot, Option<CacheSlot>),
    ) -> bool {
        if self.bytes <= self.bytes_max {
            return false;
        }
        let Some((_, &number)) = self.queue.first_key_value() else { return false };
        let number = number as usize;
        // Much of it is dead: there is room for all that is not, once that is gone.
        let roomy = self.live_bytes <= self.bytes_max / 2;
        let Some(chunk) = self.chunks.get_mut(number).and_then(Option::as_mut) else { return false };
        if chunk.newest >= written {
            self.requeue(number);
            return false;
        }
        if let Held::Large { touched, .. } = &mut chunk.held
            && (mem::take(touched) || roomy)
        {
            self.requeue(number);
            return true;
        }
        // Its number is not free before all are told, so that no new slot is equal to an old one.
        match self.take_chunk(number).map(|chunk| chunk.held) {
            Some(Held::Small { bytes, .. }) => self.sift(number, &bytes, roomy, changed),
            Some(Held::Large { owner, value, .. }) => {
                self.live_bytes -= weight(&value);
                changed(owner, slot_of(number as u32, 0), None);
            }
            Some(Held::Pinned(_)) | None => {}
        }
        self.vacant.push(number as u32);
        self.bytes > self.bytes_max
    }

    /// Bytes taken by values that may be dropped, and what is lost beside them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.chunks.capacity() * size_of::<Option<Chunk>>()
    }

    /// Bytes taken by pinned values.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.pinned.bytes() + self.pinned_large_bytes
    }

    fn pin(&mut self, value: &Bytes) -> Option<CacheSlot> {
        match u16::try_from(value.len()) {
            Ok(length) if value.len() < self.large_bytes => {
                let handle = self.pinned.insert_with(2 + value.len(), |place| {
                    if let Some((head, rest)) = place.split_first_chunk_mut() {
                        *head = length.to_le_bytes();
                        rest.copy_from_slice(value);
                    }
                })?;
                Some(CacheSlot(IN_ARENA | u64::from(handle.0)))
            }
            Ok(_) | Err(_) => {
                let number = self.place_chunk(Chunk {
                    turn: 0,
                    newest: PINNED,
                    held: Held::Pinned(Bytes::copy_from_slice(value)),
                })?;
                self.pinned_large_bytes += weight(value);
                Some(slot_of(number, 0))
            }
        }
    }

    /// Puts a small value behind the others of the current chunk.
    fn append(&mut self, owner: Handle, value: &[u8], position: u64) -> Option<CacheSlot> {
        let needed = HEADER_BYTES + value.len();
        let fits = |chunk: &Chunk| match &chunk.held {
            Held::Small { bytes, .. } => bytes.len() + needed <= self.chunk_bytes,
            Held::Large { .. } | Held::Pinned(_) => false,
        };
        let chunk_at = |number: u32| self.chunks.get(number as usize).and_then(Option::as_ref);
        let number = match self.current.filter(|&number| chunk_at(number).is_some_and(fits)) {
            Some(number) => number,
            None => {
                let bytes = Vec::with_capacity(self.chunk_bytes);
                let number = self.add_chunk(Held::Small { bytes, live: 0 }, 0)?;
                self.bytes += self.chunk_bytes;
                self.current = Some(number);
                number
            }
        };
        let chunk = self.chunks.get_mut(number as usize)?.as_mut()?;
        let Held::Small { bytes, live } = &mut chunk.held else { return None };
        let offset = bytes.len();
        let header = Header { owner, bits: value.len() as u16 };
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(value);
        *live += 1;
        chunk.newest = chunk.newest.max(position);
        self.live_bytes += needed;
        Some(slot_of(number, offset))
    }

    /// Moves on what is to be kept of a chunk that is gone.
    fn sift(
        &mut self,
        number: usize,
        bytes: &[u8],
        all: bool,
        changed: &mut impl FnMut(Handle, CacheSlot, Option<CacheSlot>),
    ) {
        let mut offset = 0;
        while let Some(header) = Header::read(bytes, offset) {
            let value = header.value(bytes, offset);
            if header.bits & DEAD == 0 {
                self.live_bytes -= HEADER_BYTES + header.length();
                let keep = all || header.bits & TOUCHED != 0;
                // Its record is written, or the chunk would not be gone.
                let place = if keep { self.append(header.owner, value, 0) } else { None };
                changed(header.owner, slot_of(number as u32, offset), place);
            }
            offset += HEADER_BYTES + header.length();
        }
    }

    /// A new chunk at the queue's end.
    fn add_chunk(&mut self, held: Held, newest: u64) -> Option<u32> {
        let turn = self.next_turn;
        let number = self.place_chunk(Chunk { turn, newest, held })?;
        self.next_turn += 1;
        self.queue.insert(turn, number);
        Some(number)
    }

    fn place_chunk(&mut self, chunk: Chunk) -> Option<u32> {
        let number = match self.vacant.pop() {
            Some(number) => number,
            None if self.chunks.len() < CHUNKS_MAX => {
                self.chunks.push(None);
                (self.chunks.len() - 1) as u32
            }
            None => return None,
        };
        *self.chunks.get_mut(number as usize)? = Some(chunk);
        Some(number)
    }

    /// Takes a chunk out. Its number is still to be made vacant.
    fn take_chunk(&mut self, number: usize) -> Option<Chunk> {
        let chunk = self.chunks.get_mut(number)?.take()?;
        match &chunk.held {
            Held::Small { .. } => self.bytes -= self.chunk_bytes,
            Held::Large { value, .. } => self.bytes -= weight(value),
            Held::Pinned(_) => return Some(chunk),
        }
        self.queue.remove(&chunk.turn);
        self.current = self.current.filter(|&current| current as usize != number);
        Some(chunk)
    }

    /// Puts a chunk at the queue's end as it is.
    fn requeue(&mut self, number: usize) {
        let Some(chunk) = self.chunks.get_mut(number).and_then(Option::as_mut) else { return };
        self.queue.remove(&chunk.turn);
        chunk.turn = self.next_turn;
        self.next_turn += 1;
        self.queue.insert(chunk.turn, number as u32);
    }
}

/// What is before each small value.
#[derive(Clone, Copy)]
struct Header {
    owner: Handle,
    /// Length, touched, dead.
    bits: u16,
}

impl Header {
    fn read(bytes: &[u8], offset: usize) -> Option<Self> {
        let &[a, b, c, d, e, f] = bytes.get(offset..)?.first_chunk::<HEADER_BYTES>()?;
        Some(Self { owner: Handle(u32::from_le_bytes([a, b, c, d])), bits: u16::from_le_bytes([e, f]) })
    }

    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let ([a, b, c, d], [e, f]) = (self.owner.0.to_le_bytes(), self.bits.to_le_bytes());
        [a, b, c, d, e, f]
    }

    fn write(self, bytes: &mut [u8], offset: usize) {
        if let Some(place) = bytes.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
            *place = self.to_bytes();
        }
    }

    fn with(self, flag: u16) -> Self {
        Self { bits: self.bits | flag, ..self }
    }

    fn length(self) -> usize {
        usize::from(self.bits & LENGTH_MASK)
    }

    fn value(self, bytes: &[u8], offset: usize) -> &[u8] {
        let start = offset + HEADER_BYTES;
        bytes.get(start..start + self.length()).unwrap_or_default()
    }
}

/// What a large value takes.
fn weight(value: &Bytes) -> usize {
    value.len() + size_of::<Chunk>()
}

fn slot_of(number: u32, offset: usize) -> CacheSlot {
    CacheSlot(u64::from(number) << OFFSET_BITS | offset as u64)
}

/// A slot's chunk and offset.
fn parts(slot: CacheSlot) -> (usize, usize) {
    let offset = slot.0 & ((1 << OFFSET_BITS) - 1);
    ((slot.0 >> OFFSET_BITS) as usize, offset as usize)
}

fn pinned_handle(slot: CacheSlot) -> Option<Handle> {
    (slot.0 & IN_ARENA != 0).then_some(Handle(slot.0 as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize),
        Pin(usize),
        Read(usize),
        Remove(usize),
        SetOwner(usize),
        /// Everything is on disk up to so many records before the last, and there is one eviction.
        Evict(u64),
    }

    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![8 => 0_usize..400, 1 => 400_usize..6000]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => length().prop_map(Step::Insert),
            1 => length().prop_map(Step::Pin),
            4 => any::<usize>().prop_map(Step::Read),
            3 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::SetOwner),
            3 => (0_u64..20).prop_map(Step::Evict),
        ]
    }

    #[derive(Clone, Debug)]
    struct Held {
        slot: CacheSlot,
        value: Bytes,
        position: u64,
        read: bool,
    }

    /// A cache, and what must be in it.
    struct Model {
        cache: Cache,
        held: BTreeMap<Handle, Held>,
        next: u32,
    }

    impl Model {
        fn new(bytes_max: usize) -> Self {
            Self { cache: Cache::new(bytes_max), held: BTreeMap::new(), next: 0 }
        }

        fn insert(&mut self, length: usize, pinned: bool) -> Handle {
            self.next += 1;
            let owner = Handle(self.next);
            let position = if pinned { PINNED } else { self.next.into() };
            let value = Bytes::from(vec![self.next as u8; length]);
            let slot = self.cache.insert(owner, &value, position).unwrap();
            assert!(self.held.values().all(|held| held.slot != slot), "{slot:?} is in use");
            self.held.insert(owner, Held { slot, value, position, read: false });
            owner
        }

        fn pick(&self, at: usize) -> Option<Handle> {
            self.held.keys().nth(at % self.held.len().max(1)).copied()
        }

        fn read(&mut self, owner: Handle) {
            let held = self.held.get_mut(&owner).unwrap();
            held.read = true;
            assert_eq!(self.cache.get(held.slot).as_ref(), Some(&held.value));
        }

        fn evict(&mut self, written: u64) -> bool {
            let (cache, held) = (&mut self.cache, &mut self.held);
            cache.evict(written, &mut |owner, old, new| {
                let entry = held.get_mut(&owner).unwrap();
                assert_eq!(entry.slot, old);
                match new {
                    Some(slot) => (entry.slot, entry.read) = (slot, false),
                    None => {
                        // Of a large one that was kept where it is, the owner was not told.
                        let spared = entry.read && entry.value.len() < 512;
                        assert!(entry.position < written && !spared, "{entry:?} at {written}");
                        held.remove(&owner);
                    }
                }
            })
        }

        fn evict_all(&mut self, written: u64) {
            let calls = (0..100_000).take_while(|_| self.evict(written)).count();
            assert!(calls < 100_000, "eviction has no end");
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Insert(length) => drop(self.insert(length, false)),
                Step::Pin(length) => drop(self.insert(length, true)),
                Step::Read(at) => self.pick(at).into_iter().for_each(|owner| self.read(owner)),
                Step::Remove(at) => {
                    let held = self.pick(at).and_then(|owner| self.held.remove(&owner));
                    held.into_iter().for_each(|held| self.cache.remove(held.slot));
                }
                Step::SetOwner(at) => {
                    let Some(owner) = self.pick(at) else { return };
                    let held = self.held.remove(&owner).unwrap();
                    self.next += 1;
                    self.cache.set_owner(held.slot, Handle(self.next));
                    self.held.insert(Handle(self.next), held);
                }
                Step::Evict(behind) => drop(self.evict(u64::from(self.next).saturating_sub(behind))),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_value_is_found_until_it_is_removed_or_its_owner_is_told(
            steps in prop::collection::vec(step(), 1..600),
        ) {
            let mut model = Model::new(0);
            for step in &steps {
                model.step(step);
            }
            for owner in model.held.keys().copied().collect::<Vec<_>>() {
                model.read(owner);
            }
            model.evict_all(u64::MAX);
            prop_assert!(model.cache.bytes <= model.cache.bytes_max);
            for (_, held) in std::mem::take(&mut model.held) {
                model.cache.remove(held.slot);
            }
            prop_assert_eq!((model.cache.bytes, model.cache.live_bytes), (0, 0));
            prop_assert!(model.cache.queue.is_empty() && model.cache.pinned_large_bytes == 0);
        }
    }

    #[test]
    fn what_is_not_on_disk_is_not_dropped_however_full_it_is() {
        let mut model = Model::new(0);
        for _ in 0..1000 {
            model.insert(100, false);
        }
        model.evict_all(1);
        assert_eq!(model.held.len(), 1000);
        model.evict_all(1001);
        assert!(model.held.len() < 200 && model.cache.bytes <= model.cache.bytes_max);
    }

    #[test]
    fn what_is_read_outlives_what_is_not() {
        let mut model = Model::new(1 << 20);
        let wanted: Vec<Handle> = (0..100).map(|_| model.insert(100, false)).collect();
        for number in 0..100_000 {
            model.insert(100, false);
            if number % 100 == 0 {
                wanted.iter().for_each(|&owner| model.read(owner));
            }
            model.evict_all(u64::MAX);
        }
        assert!(model.held.len() < 10_500);
        wanted.iter().for_each(|&owner| model.read(owner));
    }

    #[test]
    fn values_that_were_replaced_do_not_push_out_those_that_were_not() {
        let mut model = Model::new(1 << 20);
        let still: Vec<Handle> = (0..1000).map(|_| model.insert(100, false)).collect();
        for number in 0..50_000 {
            let owner = model.insert(100, false);
            // A few stay, or the chunks would be freed without being evicted.
            if number % 20 != 0 {
                let held = model.held.remove(&owner).unwrap();
                model.cache.remove(held.slot);
            }
            model.evict_all(u64::MAX);
        }
        still.iter().for_each(|&owner| model.read(owner));
    }

    #[test]
    fn pinned_values_are_counted_apart_and_stay() {
        let mut model = Model::new(0);
        let owners = [10, 400, 100_000].map(|length| model.insert(length, true));
        for _ in 0..1000 {
            model.insert(100, false);
        }
        model.evict_all(u64::MAX);
        owners.iter().for_each(|&owner| model.read(owner));
        assert!(model.cache.pinned_bytes() >= 100_410 && model.cache.bytes <= model.cache.bytes_max);
    }
}
