//! What the index knows of an object: everything but the values, and where those are.

use crate::version::{Content, Object};

/// An object whose siblings carry, instead of values, where they are stored.
pub type Outline = Object<Stored>;

/// What the index knows of a sibling's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Value or tombstone.
    pub kind: Kind,
    /// The log record that carries it; `None` in a keyspace that lives in memory alone.
    pub location: Option<Location>,
    /// Where its value is in memory, if it is.
    pub slot: Option<CacheSlot>,
    /// The value on disk turned out to be unreadable: it is not served, and a copy from a peer
    /// takes its place.
    pub damaged: bool,
}

/// What a sibling is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A value of so many bytes.
    Value(u32),
    /// The key was deleted.
    Tombstone,
}

impl Kind {
    /// What a content is.
    #[must_use]
    pub fn of(content: &Content) -> Self {
        match content {
            Content::Value(value) => Kind::Value(u32::try_from(value.len()).unwrap_or(u32::MAX)),
            Content::Tombstone => Kind::Tombstone,
        }
    }

    /// Bytes of the value; none for a tombstone.
    #[must_use]
    pub fn value_bytes(self) -> usize {
        match self {
            Kind::Value(bytes) => bytes as usize,
            Kind::Tombstone => 0,
        }
    }
}

/// A record of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Location {
    /// Log position of its first byte.
    pub position: u64,
    /// Its whole length, header included.
    pub bytes: u32,
}

impl Location {
    /// Log position after the record.
    #[must_use]
    pub fn end(self) -> u64 {
        self.position.saturating_add(u64::from(self.bytes))
    }
}

/// A value's place in the cache: chunk in the high 24 bits of 48, byte offset in the low 24.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CacheSlot(pub u64);
