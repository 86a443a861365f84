//! Memory for many small byte strings, each named by 32 bits.
//!
//! A general allocator rounds every object up and puts a header before it, and a pointer to it
//! takes 64 bits; at a hundred million keys that is what memory is spent on. Here objects of about
//! one size share pages of 64 KiB, with nothing between them, and an empty page is given back.
//! It knows nothing of what it keeps, and never moves it. Used by the engine for its entries and
//! by the [`Cache`](super::cache::Cache) for pinned values.
//!
//! ```text
//! handle   | page 19 bits | offset in the page / 8, 13 bits |
//! page     | object | object | free: next free u16 ... | object | never used yet ... |
//! ```

use std::collections::BTreeSet;

/// The name of an object in an [`Arena`]. All ones is never given out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Handle(pub u32);

const PAGE_BYTES: usize = 64 << 10;
const UNIT_BYTES: usize = 8;
const UNIT_BITS: u32 = 13;
/// One less than 19 bits can say, so that no handle is all ones. 32 GiB of pages.
const PAGES_MAX: usize = (1 << 19) - 1;

/// Sizes of objects: all multiples of eight up to 256, then the fractions of a page about 12 %
/// apart, so that little is lost at a page's end as well.
const STEPS: usize = 32;
const LARGER: [usize; 32] = [
    288, 320, 368, 408, 464, 528, 592, 672, 760, 856, 976, 1104, 1256, 1424, 1632, 1872, 2112, 2424, 2728,
    3120, 3640, 4096, 4680, 5456, 6552, 8192, 9360, 10920, 13104, 16384, 21840, 32768,
];
const CLASSES: usize = STEPS + LARGER.len();
/// The class of an object that has a page of its own, of just its size.
const ALONE: usize = CLASSES;
/// The end of a page's list of free places.
const NONE: u16 = u16::MAX;

/// See the module.
#[derive(Debug)]
pub struct Arena {
    pages: Vec<Page>,
    /// Numbers of pages that were given back.
    vacant: Vec<u32>,
    classes: Vec<Class>,
    /// The page that became empty last, so that one object coming and going costs no page each time.
    spare: Option<Box<[u8]>>,
    /// Bytes of all pages.
    page_bytes: usize,
}

#[derive(Debug, Default)]
struct Page {
    bytes: Box<[u8]>,
    /// Bytes of each object's place.
    size: u32,
    class: u8,
    /// Objects in it.
    used: u16,
    /// Places handed out at least once; those behind them never were.
    fresh: u16,
    /// The first free place before `fresh`, in units; it holds the next one's in its first bytes.
    free: u16,
}

/// The pages of one class that have room.
#[derive(Debug, Default)]
struct Class {
    /// The one being filled.
    current: Option<u32>,
    /// Others. The lowest is filled first, so that the higher ones become empty in time.
    roomy: BTreeSet<u32>,
}

impl Default for Arena {
    fn default() -> Self {
        let classes = (0..CLASSES).map(|_| Class::default()).collect();
        Self { pages: Vec::new(), vacant: Vec::new(), classes, spare: None, page_bytes: 0 }
    }
}

impl Arena {
    /// Keeps a copy of `bytes`. `None` when 32 GiB of pages are in use.
    pub fn insert(&mut self, bytes: &[u8]) -> Option<Handle> {
        self.insert_with(bytes.len(), |place| place.copy_from_slice(bytes))
    }

    /// Makes room for `length` bytes and has them filled in. What they were before is undefined.
    pub fn insert_with(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) -> Option<Handle> {
        let class = class_of(length);
        let handle = if class == ALONE { self.place_alone(length) } else { self.place_in(class) }?;
        fill(self.get_mut(handle).get_mut(..length)?);
        Some(handle)
    }

    /// The object's bytes, possibly followed by others up to the size of its class. Empty when
    /// there is no such object.
    #[must_use]
    pub fn get(&self, handle: Handle) -> &[u8] {
        let (page, start) = parts(handle);
        let Some(page) = self.pages.get(page) else { return &[] };
        page.bytes.get(start..start + page.size as usize).unwrap_or_default()
    }

    /// As [`get`](Self::get), to be changed in place.
    pub fn get_mut(&mut self, handle: Handle) -> &mut [u8] {
        let (page, start) = parts(handle);
        let Some(page) = self.pages.get_mut(page) else { return &mut [] };
        page.bytes.get_mut(start..start + page.size as usize).unwrap_or_default()
    }

    /// Keeps other bytes instead, in the same place if they are of the same class. `None`, and the
    /// old ones still there, when no page is left.
    pub fn replace(&mut self, handle: Handle, bytes: &[u8]) -> Option<Handle> {
        let class = class_of(bytes.len());
        let place = self.get_mut(handle);
        let same =
            if class == ALONE { place.len() == bytes.len() } else { place.len() == class_bytes(class) };
        if same {
            place.get_mut(..bytes.len())?.copy_from_slice(bytes);
            return Some(handle);
        }
        let moved = self.insert(bytes)?;
        self.remove(handle);
        Some(moved)
    }

    /// Forgets an object. Its handle may be given out again.
    pub fn remove(&mut self, handle: Handle) {
        let (number, start) = parts(handle);
        let Some(page) = self.pages.get_mut(number) else { return };
        debug_assert!(page.used > 0, "an object is removed twice");
        let was_full = page.is_full();
        let next = page.free.to_le_bytes();
        if let Some(link) = page.bytes.get_mut(start..start + next.len()) {
            link.copy_from_slice(&next);
            page.free = (start / UNIT_BYTES) as u16;
        }
        page.used = page.used.saturating_sub(1);
        let (class, empty) = (usize::from(page.class), page.used == 0);
        if empty {
            self.give_back(number, class);
        } else if was_full && let Some(class) = self.classes.get_mut(class) {
            class.roomy.insert(number as u32);
        }
    }

    /// Bytes taken: pages, full or not, and what is needed to find them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let spare = self.spare.as_ref().map_or(0, |page| page.len());
        self.page_bytes + spare + self.pages.capacity() * size_of::<Page>()
    }

    /// A place in a page that objects of `class` share.
    fn place_in(&mut self, class: usize) -> Option<Handle> {
        let entry = self.classes.get_mut(class)?;
        let number = match entry.current.or_else(|| entry.roomy.pop_first()) {
            Some(number) => number,
            None => {
                let bytes = self.spare.take().unwrap_or_else(|| vec![0; PAGE_BYTES].into_boxed_slice());
                self.add_page(Page::new(bytes, class_bytes(class), class))?
            }
        };
        let page = self.pages.get_mut(number as usize)?;
        let unit = page.take_place()?;
        let entry = self.classes.get_mut(class)?;
        entry.current = (!page.is_full()).then_some(number);
        Some(Handle(number << UNIT_BITS | u32::from(unit)))
    }

    /// A page for one object alone.
    fn place_alone(&mut self, length: usize) -> Option<Handle> {
        let mut page = Page::new(vec![0; length].into_boxed_slice(), length, ALONE);
        page.used = 1;
        let number = self.add_page(page)?;
        Some(Handle(number << UNIT_BITS))
    }

    fn add_page(&mut self, page: Page) -> Option<u32> {
        let bytes = page.bytes.len();
        let number = match self.vacant.pop() {
            Some(number) => number,
            None if self.pages.len() < PAGES_MAX => {
                self.pages.push(Page::default());
                (self.pages.len() - 1) as u32
            }
            None => return None,
        };
        *self.pages.get_mut(number as usize)? = page;
        self.page_bytes += bytes;
        Some(number)
    }

    fn give_back(&mut self, number: usize, class: usize) {
        let Some(page) = self.pages.get_mut(number) else { return };
        let bytes = std::mem::take(page).bytes;
        self.page_bytes -= bytes.len();
        self.vacant.push(number as u32);
        if let Some(class) = self.classes.get_mut(class) {
            class.roomy.remove(&(number as u32));
            class.current = class.current.filter(|&current| current as usize != number);
            self.spare = Some(bytes);
        }
    }
}

impl Page {
    fn new(bytes: Box<[u8]>, size: usize, class: usize) -> Self {
        Self { bytes, size: size as u32, class: class as u8, used: 0, fresh: 0, free: NONE }
    }

    fn is_full(&self) -> bool {
        let places = self.bytes.len() / (self.size as usize).max(1);
        usize::from(self.used) >= places
    }

    /// A free place, in units.
    fn take_place(&mut self) -> Option<u16> {
        let unit = if self.free == NONE {
            let start = usize::from(self.fresh) * self.size as usize;
            self.fresh += 1;
            (start / UNIT_BYTES) as u16
        } else {
            let start = usize::from(self.free) * UNIT_BYTES;
            let next = self.bytes.get(start..start + 2)?.try_into().ok()?;
            std::mem::replace(&mut self.free, u16::from_le_bytes(next))
        };
        self.used += 1;
        Some(unit)
    }
}

/// A handle's page and byte offset.
fn parts(handle: Handle) -> (usize, usize) {
    let unit = handle.0 & ((1 << UNIT_BITS) - 1);
    ((handle.0 >> UNIT_BITS) as usize, unit as usize * UNIT_BYTES)
}

fn class_of(length: usize) -> usize {
    if length <= STEPS * UNIT_BYTES {
        length.max(1).div_ceil(UNIT_BYTES) - 1
    } else {
        STEPS + LARGER.partition_point(|&size| size < length)
    }
}

/// Bytes of a place of a class that shares pages.
fn class_bytes(class: usize) -> usize {
    match class.checked_sub(STEPS) {
        Some(larger) => LARGER.get(larger).copied().unwrap_or(PAGE_BYTES),
        None => (class + 1) * UNIT_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize),
        Replace(usize, usize),
        Remove(usize),
    }

    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![6 => 1_usize..300, 2 => 300_usize..20_000, 1 => 20_000_usize..200_000]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => length().prop_map(Step::Insert),
            1 => (any::<usize>(), length()).prop_map(|(at, length)| Step::Replace(at, length)),
            2 => any::<usize>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_object_keeps_its_bytes_until_it_is_removed(
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let mut arena = Arena::default();
            let mut held: Vec<(Handle, Vec<u8>)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(length) => {
                        let bytes = vec![number as u8; length];
                        held.push((arena.insert(&bytes).unwrap(), bytes));
                    }
                    Step::Replace(at, length) if !held.is_empty() => {
                        let at = at % held.len();
                        let bytes = vec![number as u8; length];
                        held[at] = (arena.replace(held[at].0, &bytes).unwrap(), bytes);
                    }
                    Step::Remove(at) if !held.is_empty() => {
                        arena.remove(held.swap_remove(at % held.len()).0);
                    }
                    Step::Replace(..) | Step::Remove(_) => {}
                }
                for (handle, bytes) in &held {
                    prop_assert_eq!(&arena.get(*handle)[..bytes.len()], &bytes[..]);
                }
            }
            for (handle, _) in held {
                arena.remove(handle);
            }
            prop_assert_eq!(arena.page_bytes, 0);
            prop_assert!(arena.classes.iter().all(|class| class.current.is_none() && class.roomy.is_empty()));
        }
    }

    #[test]
    fn sizes_waste_little_of_an_object_and_of_a_page() {
        for length in 1..=32_768 {
            let size = class_bytes(class_of(length));
            assert!(size >= length && size.is_multiple_of(UNIT_BYTES));
            let waste = size - length;
            assert!(waste < UNIT_BYTES || waste * 100 <= size * 15 || length > 4680, "{length} {size}");
            assert!(PAGE_BYTES % size < PAGE_BYTES / 32, "{size}");
        }
        assert_eq!(class_of(32_769), ALONE);
    }

    #[test]
    fn a_small_object_costs_its_size_and_next_to_nothing() {
        let mut arena = Arena::default();
        let handles: Vec<Handle> = (0..100_000).map(|_| arena.insert(&[7; 48]).unwrap()).collect();
        assert!(arena.bytes() < 100_000 * 49, "{}", arena.bytes());
        for handle in handles {
            arena.remove(handle);
        }
        assert!(arena.bytes() <= PAGE_BYTES + arena.pages.capacity() * size_of::<Page>());
    }

    #[test]
    fn a_handle_that_names_nothing_gives_nothing() {
        let mut arena = Arena::default();
        assert!(arena.get(Handle(u32::MAX)).is_empty());
        let handle = arena.insert(&[1; 100_000]).unwrap();
        arena.remove(handle);
        assert!(arena.get(handle).is_empty() && arena.get_mut(handle).is_empty());
    }
}
