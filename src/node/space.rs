//! Whether there is room on the disk for more: what is refused so that it never runs out.
//!
//! ```text
//! Enough --free below the reserve--> Low: no puts; deletes, transfers and reads go on
//!    ^                                |
//!    '---free a quarter above it------'     Full, whatever is free: nothing can be written
//! ```
//! Deletes need the reserve: without it a full disk could never be emptied.

use super::Node;
use crate::engine::DiskEvent;
use crate::ring::Durability;
use crate::types::{Dot, Room};
use crate::version::{Content, Object};
use crate::wire::client::Reason;

/// The disk's room, as it was last told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// Bytes that puts must leave free.
    reserve: u64,
    is_low: bool,
    is_full: bool,
}

impl Space {
    pub(super) fn new(reserve: u64) -> Self {
        Self { reserve, is_low: false, is_full: false }
    }

    pub(super) fn on_disk(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Full => self.is_full = true,
            DiskEvent::Room => self.is_full = false,
            DiskEvent::Free(bytes) => self.look(bytes),
            DiskEvent::Written(_) | DiskEvent::Synced(_) => {}
        }
    }

    /// Not at every byte around the reserve is it to be told another way.
    fn look(&mut self, free: u64) {
        let enough = self.reserve.saturating_add(self.reserve / 4);
        if !self.is_low && free < self.reserve {
            log::warn!(
                "{free} bytes are free on the disk, below the reserve of {}: puts are refused until \
                 {enough} are free; deletes and reads go on",
                self.reserve
            );
            self.is_low = true;
        } else if self.is_low && free >= enough {
            log::info!("{free} bytes are free on the disk again: puts are taken");
            self.is_low = false;
        }
    }

    /// Whether a write of values, or of tombstones alone, is taken.
    fn takes(self, is_delete: bool) -> bool {
        !self.is_full && (is_delete || !self.is_low)
    }

    /// What the node says of it.
    pub(super) fn room(self) -> Room {
        match (self.is_full, self.is_low) {
            (true, _) => Room::Full,
            (false, true) => Room::Low,
            (false, false) => Room::Enough,
        }
    }

    /// Whether anything can be written at all.
    pub(super) fn takes_anything(self) -> bool {
        !self.is_full
    }
}

impl Node {
    /// Refuses a client's write for which there is no room, while nothing has been done about it.
    pub(super) fn check_space(&self, content: &Content, durability: Durability) -> Result<(), Reason> {
        let is_delete = matches!(content, Content::Tombstone);
        if durability == Durability::Memory && !is_delete && self.engine.is_memory_full() {
            return Err(Reason::Overloaded);
        }
        if self.space.takes(is_delete) { Ok(()) } else { Err(Reason::DiskFull { node: self.me() }) }
    }

    /// Whether there is room for a copy that a peer brings: of the write `dot`, or for repair.
    pub(super) fn has_space_for(&self, object: &Object, dot: Option<Dot>, durability: Durability) -> bool {
        let brings = |sibling_dot| dot.is_none_or(|dot| dot == sibling_dot);
        let is_delete = object
            .siblings()
            .iter()
            .filter(|sibling| brings(sibling.dot))
            .all(|sibling| matches!(sibling.content, Content::Tombstone));
        if durability == Durability::Memory && !is_delete && self.engine.is_memory_full() {
            return false;
        }
        self.space.takes(is_delete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_wait_for_a_quarter_more_than_the_reserve_and_deletes_only_for_a_full_disk() {
        let mut space = Space::new(1000);
        let (put, delete) = (false, true);
        for (free, takes_puts) in [(1000, true), (999, false), (1249, false), (1250, true), (1000, true)] {
            space.on_disk(DiskEvent::Free(free));
            assert_eq!((space.takes(put), space.takes(delete)), (takes_puts, true), "{free} free");
            assert_eq!(space.room(), if takes_puts { Room::Enough } else { Room::Low });
        }
        space.on_disk(DiskEvent::Full);
        assert!(!space.takes(put) && !space.takes(delete) && !space.takes_anything());
        assert_eq!(space.room(), Room::Full);
        space.on_disk(DiskEvent::Room);
        assert!(space.takes(put) && space.takes_anything());
    }
}
