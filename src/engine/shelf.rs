//! The keys of one keyspace's sector: a hash table that is sorted.
//!
//! Open addressing with linear probing, where the slots in use are in rising order of (tag, key).
//! The tag is the upper half of XXH3-64 of the key, and a tag's home is its share of the table's
//! length, so that homes rise with tags and the whole table can be walked in order from any key,
//! on every machine in the same order, however the table has grown since. One slot takes eight
//! bytes: tag and handle. Top bits of the tag are a range of the table: what a hash tree's leaf
//! covers can be listed without a search.
//!
//! A shelf knows tags and handles; what the keys are it asks.

use super::arena::Handle;
use std::cmp::Ordering;
use twox_hash::XxHash3_64;

/// A free slot. No slot in use looks like it: pages end long before this handle.
const FREE: u64 = u64::MAX;
/// A table grows when fewer than a seventh of its slots are free.
const LOAD: (u64, u64) = (6, 7);

/// Where a key belongs.
pub(super) fn tag_of(key: &[u8]) -> u32 {
    // The upper half of a u64.
    (XxHash3_64::oneshot(key) >> 32) as u32
}

/// Handles in order of (tag, key).
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// As many as there are homes, and what was pushed beyond the last of them.
    slots: Vec<u64>,
    homes: u32,
    used: u32,
}

fn slot_of(tag: u32, handle: Handle) -> u64 {
    u64::from(tag) << 32 | u64::from(handle.0)
}

fn tag(slot: u64) -> u32 {
    (slot >> 32) as u32
}

fn handle(slot: u64) -> Handle {
    Handle((slot & 0xffff_ffff) as u32)
}

impl Shelf {
    fn home(&self, tag: u32) -> usize {
        // Below the number of homes, which is a usize.
        ((u64::from(tag) * u64::from(self.homes)) >> 32) as usize
    }

    /// The first slot at or after a tag's home that is free or not below (tag, key).
    fn seek(&self, sought: u32, mut compare: impl FnMut(Handle) -> Ordering) -> usize {
        let mut at = self.home(sought);
        while let Some(&slot) = self.slots.get(at) {
            if slot == FREE {
                break;
            }
            match tag(slot).cmp(&sought) {
                Ordering::Less => {}
                Ordering::Equal if compare(handle(slot)) == Ordering::Less => {}
                Ordering::Equal | Ordering::Greater => break,
            }
            at += 1;
        }
        at
    }

    /// The handle of a key; `compare` orders a stored key against it.
    pub(super) fn find(&self, sought: u32, mut compare: impl FnMut(Handle) -> Ordering) -> Option<Handle> {
        let mut at = self.home(sought);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == FREE || tag(slot) > sought {
                return None;
            }
            if tag(slot) == sought {
                match compare(handle(slot)) {
                    Ordering::Less => {}
                    Ordering::Equal => return Some(handle(slot)),
                    Ordering::Greater => return None,
                }
            }
            at += 1;
        }
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, sought: u32, new: Handle, mut compare: impl FnMut(Handle) -> Ordering) {
        if (u64::from(self.used) + 1) * LOAD.1 > u64::from(self.homes) * LOAD.0 {
            self.resize(self.homes + self.homes / 2 + 6);
        }
        let mut at = self.seek(sought, &mut compare);
        // Everything up to the next free slot moves on by one.
        let mut moving = slot_of(sought, new);
        while let Some(slot) = self.slots.get_mut(at) {
            std::mem::swap(slot, &mut moving);
            if moving == FREE {
                break;
            }
            at += 1;
        }
        if moving != FREE {
            self.slots.push(moving);
        }
        self.used += 1;
    }

    /// Another handle for a key that is there.
    pub(super) fn replace(&mut self, sought: u32, old: Handle, new: Handle) {
        if let Some(at) = self.position(sought, old) {
            self.slots[at] = slot_of(sought, new);
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, sought: u32, old: Handle) {
        let Some(mut at) = self.position(sought, old) else { return };
        // What was pushed on from its home moves back by one.
        while let Some(&next) = self.slots.get(at + 1)
            && next != FREE
            && self.home(tag(next)) <= at
        {
            self.slots[at] = next;
            at += 1;
        }
        self.slots[at] = FREE;
        self.used -= 1;
        if self.used == 0 {
            *self = Self::default();
        } else if self.homes > 64 && self.used < self.homes / 4 {
            self.resize(self.used * 2);
        }
    }

    fn position(&self, sought: u32, sought_handle: Handle) -> Option<usize> {
        let wanted = slot_of(sought, sought_handle);
        let mut at = self.home(sought);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == wanted {
                return Some(at);
            }
            if slot == FREE || tag(slot) > sought {
                return None;
            }
            at += 1;
        }
    }

    fn resize(&mut self, homes: u32) {
        let old = std::mem::replace(&mut self.slots, vec![FREE; homes as usize]);
        self.homes = homes;
        let mut free_from = 0;
        for slot in old.into_iter().filter(|&slot| slot != FREE) {
            // In order already: each goes to its home or right behind the one before.
            let at = self.home(tag(slot)).max(free_from);
            match self.slots.get_mut(at) {
                Some(free) => *free = slot,
                None => self.slots.push(slot),
            }
            free_from = at + 1;
        }
    }

    /// All handles in order.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        self.slots.iter().filter(|&&slot| slot != FREE).map(|&slot| handle(slot))
    }

    /// Handles in order, after a key of this tag; all of them if there is none. `compare` orders a
    /// stored key against it.
    pub(super) fn after(
        &self,
        sought: Option<u32>,
        mut compare: impl FnMut(Handle) -> Ordering,
    ) -> impl Iterator<Item = Handle> + '_ {
        let from = match sought {
            None => 0,
            Some(sought) => {
                let mut at = self.seek(sought, &mut compare);
                let same = |slot: u64| slot != FREE && tag(slot) == sought;
                while self.slots.get(at).is_some_and(|&slot| same(slot) && compare(handle(slot)).is_eq()) {
                    at += 1;
                }
                at
            }
        };
        self.slots.iter().skip(from).filter(|&&slot| slot != FREE).map(|&slot| handle(slot))
    }

    /// Takes up to so many handles off its end.
    pub(super) fn take_last(&mut self, count: usize) -> Vec<Handle> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(slot) = self.slots.pop()
        {
            if slot != FREE {
                taken.push(handle(slot));
                self.used -= 1;
            }
        }
        taken
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes of memory taken.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Keys are their handles here; tags are given, so that many can be equal.
    #[derive(Default)]
    struct Model {
        shelf: Shelf,
        keys: BTreeMap<(u32, u32), ()>,
    }

    impl Model {
        fn check(&self) {
            let walked: Vec<u32> = self.shelf.handles().map(|handle| handle.0).collect();
            let expected: Vec<u32> = self.keys.keys().map(|key| key.1).collect();
            assert_eq!(walked, expected);
            for &(tag, key) in self.keys.keys() {
                assert_eq!(self.shelf.find(tag, |handle| handle.0.cmp(&key)), Some(Handle(key)));
            }
            assert_eq!(self.shelf.used as usize, self.keys.len());
        }
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_however_crowded(
            steps in proptest::collection::vec((any::<bool>(), 0u32..40, 0u32..400), 1..300),
            spread in prop_oneof![Just(1u32), Just(100_000_000), Just(7)],
            top in any::<bool>(),
        ) {
            let mut model = Model::default();
            for (add, tag, key) in steps {
                let tag = if top { u32::MAX - tag * spread % 4_000_000_000 } else { tag * spread % 4_000_000_000 };
                let known = model.keys.contains_key(&(tag, key));
                if add && !known {
                    model.shelf.insert(tag, Handle(key), |handle| handle.0.cmp(&key));
                    model.keys.insert((tag, key), ());
                } else if !add && known {
                    model.shelf.remove(tag, Handle(key));
                    model.keys.remove(&(tag, key));
                } else if known {
                    let after: Vec<u32> =
                        model.shelf.after(Some(tag), |handle| handle.0.cmp(&key)).map(|handle| handle.0).collect();
                    let expected: Vec<u32> = model.keys.range((tag, key)..).skip(1).map(|entry| entry.0.1).collect();
                    prop_assert_eq!(after, expected);
                }
                model.check();
            }
        }
    }
}
