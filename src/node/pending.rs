//! The bounded table of requests in flight.
//!
//! A row's id carries a generation, so that a late or repeated answer to a request that has ended
//! finds nothing rather than somebody else's row. The table knows when each row next wants to be
//! looked at, and nothing of what the rows are.

use crate::types::{Instant, RequestId};
use std::collections::BTreeSet;

/// A row of the pending table: slot and generation. Used as the request id towards peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowId {
    slot: u32,
    generation: u32,
}

/// The rows, each with the time at which it wants to be woken.
#[derive(Debug)]
pub struct Pending<R> {
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
    wakes: BTreeSet<(Instant, RowId)>,
    rows_max: usize,
    /// The mistake of using ids again, for the simulator to catch.
    reuse_ids: bool,
}

#[derive(Debug)]
struct Slot<R> {
    generation: u32,
    /// None while the slot is free, or its row is being worked on.
    row: Option<R>,
    wake: Option<Instant>,
    used: bool,
}

impl From<RowId> for RequestId {
    fn from(id: RowId) -> Self {
        RequestId(u64::from(id.generation) << 32 | u64::from(id.slot))
    }
}

impl From<RequestId> for RowId {
    fn from(id: RequestId) -> Self {
        // Both halves of a u64: nothing is cut off.
        Self { slot: (id.0 & 0xffff_ffff) as u32, generation: (id.0 >> 32) as u32 }
    }
}

impl<R> Pending<R> {
    /// An empty table for at most `rows_max` rows.
    #[must_use]
    pub fn new(rows_max: usize, reuse_ids: bool) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), wakes: BTreeSet::new(), rows_max, reuse_ids }
    }

    /// Rows in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether another row would be one too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.rows_max
    }

    /// Reserves a row, to be filled by [`put_back`](Self::put_back).
    pub fn reserve(&mut self) -> RowId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, row: None, wake: None, used: false });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.slots[slot as usize];
        entry.used = true;
        RowId { slot, generation: entry.generation }
    }

    /// Takes a row out to work on it; its id stays reserved.
    pub fn take(&mut self, id: RowId) -> Option<R> {
        self.entry(id)?.row.take()
    }

    /// Puts a row in, or back, to be woken at `wake`.
    pub fn put_back(&mut self, id: RowId, row: R, wake: Instant) {
        self.unwake(id);
        if let Some(entry) = self.entry(id) {
            entry.row = Some(row);
            entry.wake = Some(wake);
            self.wakes.insert((wake, id));
        }
    }

    /// Ends a row: its id will never find anything again.
    pub fn end(&mut self, id: RowId) {
        self.unwake(id);
        let reuse = self.reuse_ids;
        if let Some(entry) = self.entry(id) {
            entry.row = None;
            entry.used = false;
            if !reuse {
                entry.generation = entry.generation.wrapping_add(1);
            }
            self.free.push(id.slot);
        }
    }

    /// A row, to look at.
    #[must_use]
    pub fn get(&self, id: RowId) -> Option<&R> {
        let entry = self.slots.get(id.slot as usize)?;
        if entry.generation == id.generation { entry.row.as_ref() } else { None }
    }

    /// A row, to change in place.
    pub fn get_mut(&mut self, id: RowId) -> Option<&mut R> {
        self.entry(id)?.row.as_mut()
    }

    /// When the first row wants to be woken.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|entry| entry.0)
    }

    /// A row whose time has come, taken off the clock until it is put back.
    pub fn pop_due(&mut self, now: Instant) -> Option<RowId> {
        let &(wake, id) = self.wakes.first()?;
        if wake > now {
            return None;
        }
        self.unwake(id);
        Some(id)
    }

    /// Ids of all rows, in slot order. For rare events alone: a link lost, a table adopted.
    #[must_use]
    pub fn ids(&self) -> Vec<RowId> {
        let used = self.slots.iter().enumerate().filter(|(_, entry)| entry.row.is_some());
        used.map(|(slot, entry)| RowId {
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            generation: entry.generation,
        })
        .collect()
    }

    fn entry(&mut self, id: RowId) -> Option<&mut Slot<R>> {
        let entry = self.slots.get_mut(id.slot as usize)?;
        (entry.used && entry.generation == id.generation).then_some(entry)
    }

    fn unwake(&mut self, id: RowId) {
        if let Some(wake) = self.entry(id).and_then(|entry| entry.wake.take()) {
            self.wakes.remove(&(wake, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_finds_nothing_rather_than_somebody_elses_row() {
        let mut pending = Pending::new(2, false);
        let first = pending.reserve();
        pending.put_back(first, 'a', Instant(10));
        pending.end(first);
        let second = pending.reserve();
        pending.put_back(second, 'b', Instant(20));
        assert_eq!(pending.get(first), None);
        assert_eq!(pending.take(first), None);
        assert_eq!(pending.get(second), Some(&'b'));
        let wire = RequestId::from(second);
        assert_eq!(RowId::from(wire), second);
    }

    #[test]
    fn rows_are_woken_in_order_and_once() {
        let mut pending = Pending::new(8, false);
        let ids: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|at| {
                let id = pending.reserve();
                pending.put_back(id, at, Instant(at));
                id
            })
            .collect();
        assert_eq!(pending.next_wake(), Some(Instant(10)));
        assert_eq!(pending.pop_due(Instant(20)), Some(ids[1]));
        assert_eq!(pending.pop_due(Instant(20)), Some(ids[2]));
        assert_eq!(pending.pop_due(Instant(20)), None);
        assert_eq!(pending.len(), 3);
    }

    #[test]
    fn a_full_table_says_so() {
        let mut pending: Pending<()> = Pending::new(1, false);
        assert!(!pending.is_full());
        pending.reserve();
        assert!(pending.is_full());
    }
}
