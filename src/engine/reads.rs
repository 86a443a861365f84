//! Reads that are under way: what each is for, and which segments must stay for them.

use super::outline::Location;
use super::store::At;
use super::{ReadId, ReadRequest, Stretch};
use crate::types::{Dot, Key};
use std::collections::BTreeMap;

/// Reads under way, and those to be handed out.
#[derive(Debug, Default)]
pub(super) struct Reads {
    last: u64,
    under_way: BTreeMap<ReadId, Purpose>,
    /// How many of them touch each segment.
    touching: BTreeMap<u64, u32>,
    indexing: bool,
    wanted: Vec<ReadRequest>,
}

/// What a read is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Somebody waits for a value.
    Value { segment: u64, location: Location, place: At, key: Key, dot: Dot },
    /// What is needed of a stretch is written anew.
    Compact(Stretch),
    /// A stretch is looked at for damage.
    Scrub(Stretch),
    /// The index file of a segment is being written.
    Index { segment: u64 },
}

impl Purpose {
    fn segment(&self) -> u64 {
        match self {
            Purpose::Value { segment, .. } | Purpose::Index { segment } => *segment,
            Purpose::Compact(stretch) | Purpose::Scrub(stretch) => stretch.segment,
        }
    }
}

impl Reads {
    fn next(&mut self, purpose: impl FnOnce(ReadId) -> Purpose) -> ReadId {
        self.last += 1;
        let id = ReadId(self.last);
        let purpose = purpose(id);
        *self.touching.entry(purpose.segment()).or_default() += 1;
        self.under_way.insert(id, purpose);
        id
    }

    /// Reads a value back.
    pub(super) fn value(&mut self, segment: u64, location: Location, of: (At, Key, Dot)) -> ReadId {
        let (place, key, dot) = of;
        let id = self.next(|_| Purpose::Value { segment, location, place, key, dot });
        let (position, length) = (location.position, location.bytes);
        self.wanted.push(ReadRequest::Value(Stretch { id, segment, position, length }));
        id
    }

    /// Reads a stretch of a segment in the background.
    pub(super) fn scan(
        &mut self,
        segment: u64,
        position: u64,
        length: u32,
        purpose: impl FnOnce(Stretch) -> Purpose,
    ) {
        let stretch = |id| Stretch { id, segment, position, length };
        let id = self.next(|id| purpose(stretch(id)));
        self.wanted.push(ReadRequest::Scan(stretch(id)));
    }

    /// Has the index file of a segment written.
    pub(super) fn index(&mut self, segment: u64, end: u64) {
        let id = self.next(|_| Purpose::Index { segment });
        self.indexing = true;
        self.wanted.push(ReadRequest::Index { id, segment, end });
    }

    /// What a read was for; none if it was not asked for.
    pub(super) fn done(&mut self, id: ReadId) -> Option<Purpose> {
        let purpose = self.under_way.remove(&id)?;
        if matches!(purpose, Purpose::Index { .. }) {
            self.indexing = false;
        }
        if let Some(left) = self.touching.get_mut(&purpose.segment()) {
            *left -= 1;
            if *left == 0 {
                self.touching.remove(&purpose.segment());
            }
        }
        Some(purpose)
    }

    /// Whether an index file is being written.
    pub(super) fn is_indexing(&self) -> bool {
        self.indexing
    }

    /// Whether a segment is still being read.
    pub(super) fn touches(&self, segment: u64) -> bool {
        self.touching.contains_key(&segment)
    }

    /// What is to be read, once.
    pub(super) fn take_wanted(&mut self) -> impl Iterator<Item = ReadRequest> {
        std::mem::take(&mut self.wanted).into_iter()
    }
}
