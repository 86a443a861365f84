//! Room for index entries: byte strings packed into pages, each named by a small handle.
//!
//! One allocation per entry would cost more than the entry. Here pages of 64 KiB are cut into
//! equal blocks of one size class; a page with nothing left in it is given back. There is no
//! header per entry: its own codec knows its length. Handles are reused once removed, so whoever
//! keeps one must drop it with the entry.

use std::collections::BTreeSet;

/// Names an entry: page in the high bits, block in the low ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Handle(pub(super) u32);

const PAGE_BYTES: usize = 64 << 10;
/// Blocks a page can have at most, as bits of a handle: blocks of 16 bytes and more.
const BLOCK_BITS: u32 = 12;
const BLOCKS_MAX: usize = 1 << BLOCK_BITS;
/// Up to this size classes are eight bytes apart, beyond it an eighth of their size.
const FINE_BYTES: usize = 256;

/// Byte strings by handle.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Page>,
    /// Pages with no memory behind them.
    unused: Vec<u32>,
    /// By class: pages that have a free block.
    open: Vec<BTreeSet<u32>>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Page {
    block_bytes: usize,
    class: usize,
    bytes: Box<[u8]>,
    /// Blocks handed out so far from the front, and those that came back.
    fresh: u16,
    freed: Vec<u16>,
}

impl Page {
    fn blocks(&self) -> usize {
        self.bytes.len().checked_div(self.block_bytes).unwrap_or(0).min(BLOCKS_MAX)
    }

    fn is_full(&self) -> bool {
        self.freed.is_empty() && usize::from(self.fresh) >= self.blocks()
    }

    fn is_empty(&self) -> bool {
        self.freed.len() == usize::from(self.fresh)
    }
}

/// The size class of a length, and the bytes of its blocks.
fn class_of(length: usize) -> (usize, usize) {
    let length = length.max(16);
    if length <= FINE_BYTES {
        let class = length.div_ceil(8);
        return (class, class * 8);
    }
    let mut class = FINE_BYTES / 8;
    let mut bytes = FINE_BYTES;
    while bytes < length {
        bytes += bytes / 8 & !7;
        class += 1;
    }
    (class, bytes)
}

impl Arena {
    /// Takes in a byte string.
    pub(super) fn insert(&mut self, packed: &[u8]) -> Handle {
        let (class, block_bytes) = class_of(packed.len());
        if self.open.len() <= class {
            self.open.resize_with(class + 1, BTreeSet::new);
        }
        let known = self.open.get(class).and_then(|pages| pages.first().copied());
        let at = known.unwrap_or_else(|| self.add_page(class, block_bytes));
        let page = &mut self.pages[at as usize];
        let block = page.freed.pop().unwrap_or_else(|| {
            page.fresh += 1;
            page.fresh - 1
        });
        if page.is_full() {
            self.open[class].remove(&at);
        }
        let handle = Handle(at << BLOCK_BITS | u32::from(block));
        if let Some(room) = self.get_mut(handle).get_mut(..packed.len()) {
            room.copy_from_slice(packed);
        }
        handle
    }

    fn add_page(&mut self, class: usize, block_bytes: usize) -> u32 {
        let bytes = if block_bytes > PAGE_BYTES / 4 { block_bytes } else { PAGE_BYTES };
        let page = Page {
            block_bytes,
            class,
            bytes: vec![0; bytes].into_boxed_slice(),
            fresh: 0,
            freed: Vec::new(),
        };
        self.bytes += bytes;
        let at = if let Some(at) = self.unused.pop() {
            self.pages[at as usize] = page;
            at
        } else {
            self.pages.push(page);
            // 2^20 pages of 64 KiB: more than any index here has memory for.
            u32::try_from(self.pages.len() - 1).unwrap_or(0)
        };
        self.open[class].insert(at);
        at
    }

    fn block(&self, handle: Handle) -> (usize, usize) {
        ((handle.0 >> BLOCK_BITS) as usize, (handle.0 & (BLOCKS_MAX as u32 - 1)) as usize)
    }

    /// A byte string, and whatever follows it in its block.
    pub(super) fn get(&self, handle: Handle) -> &[u8] {
        let (at, block) = self.block(handle);
        self.pages.get(at).map_or(&[], |page| {
            let from = block * page.block_bytes;
            page.bytes.get(from..from + page.block_bytes).unwrap_or(&[])
        })
    }

    /// A byte string, to be changed in place.
    pub(super) fn get_mut(&mut self, handle: Handle) -> &mut [u8] {
        let (at, block) = self.block(handle);
        match self.pages.get_mut(at) {
            Some(page) => {
                let from = block * page.block_bytes;
                page.bytes.get_mut(from..from + page.block_bytes).unwrap_or(&mut [])
            }
            None => &mut [],
        }
    }

    /// Puts another byte string in the place of one: under the same handle if it is of its size.
    pub(super) fn replace(&mut self, handle: Handle, packed: &[u8]) -> Handle {
        let (_, block_bytes) = class_of(packed.len());
        let room = self.get_mut(handle);
        if room.len() == block_bytes {
            if let Some(room) = room.get_mut(..packed.len()) {
                room.copy_from_slice(packed);
            }
            return handle;
        }
        self.remove(handle);
        self.insert(packed)
    }

    /// Gives a byte string's room back.
    pub(super) fn remove(&mut self, handle: Handle) {
        let (at, block) = self.block(handle);
        let Some(page) = self.pages.get_mut(at) else { return };
        page.freed.push(u16::try_from(block).unwrap_or(0));
        let (class, page_id) = (page.class, handle.0 >> BLOCK_BITS);
        if page.is_empty() {
            self.bytes -= page.bytes.len();
            *page = Page::default();
            self.open[class].remove(&page_id);
            self.unused.push(page_id);
        } else {
            self.open[class].insert(page_id);
        }
    }

    /// Bytes of memory taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.pages.len() * size_of::<Page>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn every_string_is_found_whole_until_it_is_removed(
            steps in proptest::collection::vec((0u8..4, 0usize..200_000, any::<u8>()), 1..200)
        ) {
            let mut arena = Arena::default();
            let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for (kind, number, fill) in steps {
                let length = if number % 3 == 0 { number } else { number % 300 + 1 };
                let chosen = model.keys().nth(number % model.len().max(1)).copied();
                match (kind, chosen) {
                    (0, Some(handle)) => {
                        arena.remove(Handle(handle));
                        model.remove(&handle);
                    }
                    (1, Some(handle)) => {
                        let packed = vec![fill; length];
                        let new = arena.replace(Handle(handle), &packed);
                        model.remove(&handle);
                        prop_assert!(model.insert(new.0, packed).is_none());
                    }
                    _ => {
                        let packed = vec![fill; length];
                        prop_assert!(model.insert(arena.insert(&packed).0, packed.clone()).is_none());
                    }
                }
                for (&handle, packed) in &model {
                    prop_assert_eq!(&arena.get(Handle(handle))[..packed.len()], &packed[..]);
                }
            }
            for &handle in model.keys() {
                arena.remove(Handle(handle));
            }
            prop_assert_eq!(arena.bytes, 0);
        }
    }
}
