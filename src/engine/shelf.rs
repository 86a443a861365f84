//! The keys of one keyspace in one sector, in an order: that of a hash, then of the keys.
//!
//! A table of 64-bit slots, each a 32-bit tag of the key's hash and the handle of its entry. It is
//! sorted, with gaps: a tag's home is its share of the table, and a slot is at its home or behind
//! it with no gap between. So a key is found as in any hash table with linear probing, and the
//! table can be walked in order as well. The order is the same on every machine; the leaves of a
//! hash tree over a sector are the tags' highest bits, and each leaf one stretch of the table.
//!
//! A shelf does not see keys: whoever calls it compares the stored key with the sought one. It is
//! used by the engine alone.

use super::arena::Handle;
use super::tree::Tree;
use std::cmp::Ordering;
use twox_hash::XxHash3_64;

/// A slot that holds nothing. No handle is all ones.
const EMPTY: u64 = u64::MAX;
/// Homes of the smallest table.
const HOMES_MIN: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Shelf {
    /// `homes` slots and a few more, so that what is pushed behind the last home needs no
    /// wrapping round, which would break the order.
    slots: Vec<u64>,
    homes: usize,
    len: usize,
    /// The hash tree of the keys. Whoever puts a key in tells it.
    pub(super) tree: Tree,
}

/// The high half of a key's XXH3-64: its place in a shelf.
#[must_use]
pub fn tag_of(key: &[u8]) -> u32 {
    (XxHash3_64::oneshot(key) >> 32) as u32
}

impl Shelf {
    /// Where the sought key is, or else where it belongs: a spot that holds until the shelf is
    /// changed. `order` compares the key stored under a handle with the sought one.
    pub fn seek(&self, tag: u32, mut order: impl FnMut(Handle) -> Ordering) -> Result<usize, usize> {
        let mut at = self.home(tag);
        while let Some(&slot) = self.slots.get(at) {
            // An empty slot counts as the highest tag.
            match tag_in(slot).cmp(&tag) {
                Ordering::Less => {}
                Ordering::Equal if slot != EMPTY => match order(handle_of(slot)) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(at),
                    Ordering::Greater => return Err(at),
                },
                Ordering::Equal | Ordering::Greater => return Err(at),
            }
            at += 1;
        }
        Err(at)
    }

    /// The handle at the spot where a key was found.
    pub fn handle_at(&self, spot: usize) -> Option<Handle> {
        self.slots.get(spot).map(|&slot| handle_of(slot))
    }

    /// Puts another handle where a key was found: its entry moved.
    pub fn replace_at(&mut self, spot: usize, tag: u32, handle: Handle) {
        if let Some(slot) = self.slots.get_mut(spot) {
            *slot = slot_of(tag, handle);
        }
    }

    /// Adds a key's handle where it was not found and belongs.
    pub fn insert_at(&mut self, spot: usize, tag: u32, handle: Handle) {
        debug_assert!(handle.0 != u32::MAX, "a handle of all ones names nothing");
        self.open(spot);
        if let Some(slot) = self.slots.get_mut(spot) {
            *slot = slot_of(tag, handle);
        }
        self.len += 1;
        // Up to 85 % full: beyond that, runs without a gap become long.
        if self.len * 20 > self.homes * 17 {
            self.rebuild((self.homes + self.homes / 3).max(HOMES_MIN).max(self.len + 1));
        }
    }

    /// Takes a key's handle away. Returns whether it was there.
    pub fn remove(&mut self, tag: u32, handle: Handle) -> bool {
        let Some(at) = self.place_of(tag, handle) else { return false };
        // Those pushed back by the one that goes move up, up to a gap or one that is at home.
        let rest = self.slots.get(at + 1..).unwrap_or_default();
        let moves = |(step, &slot): (usize, &u64)| slot != EMPTY && self.home(tag_in(slot)) <= at + step;
        let count = rest.iter().enumerate().take_while(|&pair| moves(pair)).count();
        self.slots.copy_within(at + 1..at + 1 + count, at);
        if let Some(slot) = self.slots.get_mut(at + count) {
            *slot = EMPTY;
        }
        self.len -= 1;
        if self.len * 4 < self.homes && self.homes > HOMES_MIN * 4 {
            self.rebuild((self.len * 3 / 2).max(HOMES_MIN));
        } else if self.len == 0 {
            *self = Self::default();
        }
        true
    }

    /// Tags and handles of all keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Handle)> {
        walk(&self.slots)
    }

    /// Those of the keys behind the sought one, in order, whether it is there or not.
    pub fn after(
        &self,
        tag: u32,
        order: impl FnMut(Handle) -> Ordering,
    ) -> impl Iterator<Item = (u32, Handle)> {
        let from = self.seek(tag, order).map_or_else(|at| at, |at| at + 1);
        walk(self.slots.get(from..).unwrap_or_default())
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of its table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.homes as u64) >> 32) as usize
    }

    fn place_of(&self, tag: u32, handle: Handle) -> Option<usize> {
        let (home, sought) = (self.home(tag), slot_of(tag, handle));
        let run = self.slots.get(home..).unwrap_or_default().iter();
        let step =
            run.take_while(|&&slot| tag_in(slot) <= tag && slot != EMPTY).position(|&slot| slot == sought);
        step.map(|step| home + step)
    }

    /// Makes a slot free by pushing those from it on back into the next gap.
    fn open(&mut self, at: usize) {
        let rest = self.slots.get(at..).unwrap_or_default();
        let gap = at + rest.iter().take_while(|&&slot| slot != EMPTY).count();
        self.reach(gap);
        self.slots.copy_within(at..gap, at + 1);
    }

    /// Makes the table long enough to have a slot `at`.
    fn reach(&mut self, at: usize) {
        if at >= self.slots.len() {
            if at >= self.slots.capacity() {
                self.slots.reserve_exact(at + 1 - self.slots.len() + spare(self.homes));
            }
            self.slots.resize(at + 1, EMPTY);
        }
    }

    fn rebuild(&mut self, homes: usize) {
        let old = std::mem::take(&mut self.slots);
        self.homes = homes;
        self.slots.reserve_exact(homes + spare(homes));
        self.slots.resize(homes, EMPTY);
        let mut next = 0;
        for slot in old.into_iter().filter(|&slot| slot != EMPTY) {
            let at = self.home(tag_in(slot)).max(next);
            self.reach(at);
            if let Some(place) = self.slots.get_mut(at) {
                *place = slot;
            }
            next = at + 1;
        }
    }
}

/// Slots allocated behind the last home, for what is pushed there.
fn spare(homes: usize) -> usize {
    4 + homes / 64
}

fn walk(slots: &[u64]) -> impl Iterator<Item = (u32, Handle)> {
    let held = slots.iter().filter(|&&slot| slot != EMPTY);
    held.map(|&slot| (tag_in(slot), handle_of(slot)))
}

fn slot_of(tag: u32, handle: Handle) -> u64 {
    u64::from(tag) << 32 | u64::from(handle.0)
}

fn tag_in(slot: u64) -> u32 {
    (slot >> 32) as u32
}

fn handle_of(slot: u64) -> Handle {
    Handle(slot as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u32),
        Remove(usize),
    }

    /// Tags that collide, that crowd the end of the table, and any others.
    fn tag() -> impl Strategy<Value = u32> {
        prop_oneof![0_u32..4, u32::MAX - 3..=u32::MAX, any::<u32>(), (0_u32..64).prop_map(|high| high << 26)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (tag(), 0_u32..20).prop_map(|(tag, key)| Step::Insert(tag, key)),
            2 => any::<usize>().prop_map(Step::Remove),
        ]
    }

    /// Sorted, nothing before its home, and no gap between a home and what belongs there.
    fn check(shelf: &Shelf) {
        let mut last = None;
        for (at, &slot) in shelf.slots.iter().enumerate().filter(|(_, slot)| **slot != EMPTY) {
            let home = shelf.home(tag_in(slot));
            assert!(home <= at && shelf.slots[home..at].iter().all(|&slot| slot != EMPTY));
            assert!(last.is_none_or(|last| last <= tag_in(slot)));
            last = Some(tag_in(slot));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_shelf_is_a_sorted_map_from_tag_and_key(steps in prop::collection::vec(step(), 1..400)) {
            let mut shelf = Shelf::default();
            // The handle's low byte is the key, the rest makes it unique.
            let mut model: BTreeMap<(u32, u32), Handle> = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                let unique = (number as u32 + 1) << 8;
                let order = |key: u32| move |handle: Handle| (handle.0 & 0xff).cmp(&key);
                let pick = |at: usize| model.iter().nth(at % model.len().max(1)).map(|(&at, &held)| (at, held));
                match step {
                    Step::Insert(tag, key) => {
                        let handle = Handle(unique | key);
                        let before = match shelf.seek(tag, order(key)) {
                            Ok(spot) => {
                                let before = shelf.handle_at(spot);
                                shelf.replace_at(spot, tag, handle);
                                before
                            }
                            Err(spot) => {
                                shelf.insert_at(spot, tag, handle);
                                None
                            }
                        };
                        prop_assert_eq!(before, model.insert((tag, key), handle));
                    }
                    Step::Remove(at) => {
                        let Some(((tag, key), handle)) = pick(at) else { continue };
                        prop_assert!(shelf.remove(tag, handle) && !shelf.remove(tag, handle));
                        model.remove(&(tag, key));
                    }
                }
                check(&shelf);
                prop_assert_eq!(shelf.len(), model.len());
            }
            let all: Vec<_> = shelf.iter().collect();
            let wanted: Vec<_> = model.iter().map(|(&(tag, _), &handle)| (tag, handle)).collect();
            prop_assert_eq!(&all, &wanted);
            for (tag, key) in model.keys().copied().chain([(0, 99), (7, 7), (u32::MAX, 0)]) {
                let order = |handle: Handle| (handle.0 & 0xff).cmp(&key);
                let found = shelf.seek(tag, order).ok().and_then(|spot| shelf.handle_at(spot));
                prop_assert_eq!(found, model.get(&(tag, key)).copied());
                let behind = model.range((std::ops::Bound::Excluded((tag, key)), std::ops::Bound::Unbounded));
                let behind: Vec<_> = behind.map(|(&(tag, _), &handle)| (tag, handle)).collect();
                prop_assert_eq!(shelf.after(tag, order).collect::<Vec<_>>(), behind);
            }
        }
    }

    #[test]
    fn a_shelf_that_empties_gives_its_memory_back() {
        let mut shelf = Shelf::default();
        let tag = |number: u32| number.wrapping_mul(0x9e37_79b9);
        for number in 0..10_000 {
            let spot = shelf.seek(tag(number), |handle| handle.0.cmp(&number)).unwrap_err();
            shelf.insert_at(spot, tag(number), Handle(number));
        }
        assert!(shelf.bytes() < 10_000 * 14);
        for number in 0..9_900 {
            assert!(shelf.remove(tag(number), Handle(number)));
        }
        assert!(shelf.bytes() < 100 * 40, "{}", shelf.bytes());
        for number in 9_900..10_000 {
            assert!(shelf.remove(tag(number), Handle(number)));
        }
        assert_eq!(shelf.bytes(), 0);
    }

    #[test]
    fn tags_are_the_same_on_every_machine() {
        assert_eq!(tag_of(b""), 0x2d06_8005);
        assert_eq!(tag_of(b"key"), (XxHash3_64::oneshot_with_seed(0, b"key") >> 32) as u32);
    }
}
