//! Newtypes shared by every part: identities, names of writes, and time with its unit.
//!
//! Nothing here does work. A type is added when two modules pass the same number to each other.

use std::fmt;
use std::time::Duration;

/// The longest-lived bytes of a request: a key, as it came from the wire.
pub type Key = bytes::Bytes;

/// A storage node, unique in its cluster and never reused. 0 is "no node".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u32);

/// A client's own 128-bit random identity; with a sequence number it names a request for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClientId(pub u128);

/// Random identity of a cluster, made by its manager at creation. 0 is "not known yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClusterId(pub u128);

/// Random identity of one data directory, pinned by the table to a node id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DiskUuid(pub u128);

/// A version of the table, or of one sector's owners in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// One of the Q equal slices of the hash space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SectorId(pub u16);

/// A keyspace, by the number the manager gave it. 0 is `default`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct KeyspaceId(pub u16);

/// One life of a node: raised durably at each process start, and whenever objects are given up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u32);

/// One life of one node: the writer of dots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// The name of one write: never used twice, whatever a disk lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Dot {
    /// Who made the write.
    pub actor: Actor,
    /// The actor's own count, over all keys, from 1.
    pub seq: u64,
}

/// A mark in the life of the cluster: copies read before it are refused behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Fence(pub u32);

/// Hybrid logical time of a write: wall milliseconds in the high 48 bits, a counter below.
///
/// It breaks ties between concurrent writes and decides nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp(pub u64);

/// The name of a client's write, the same in every attempt at it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OpId {
    /// Who asked.
    pub client: ClientId,
    /// The client's own count of its writes.
    pub seq: u64,
}

/// A connection of the shell: slab slot and generation, so that a reused slot is a new id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ConnId(pub u64);

/// A request on a connection, chosen by its sender. On links between nodes it is a
/// [`RowId`](crate::node::pending::RowId): slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// A point of monotonic time, in microseconds from an arbitrary start of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

/// Wall time in milliseconds since the Unix epoch. Breaks ties and expires values, no more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallMs(pub u64);

/// How one process finds another: a verdict of its own, that others need not share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Health {
    /// It answers.
    #[default]
    Up,
    /// It has been silent for a while; others are being asked. It is still sent requests.
    Suspected,
    /// It does not answer this process, but others hear it.
    CutOff,
    /// It answers neither this process nor those who were asked.
    Down,
}

/// Whether a node's disk has room, as the node finds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Room {
    /// For everything.
    #[default]
    Enough,
    /// Less is free than its reserve: it refuses puts; deletes and reads go on.
    Low,
    /// Nothing can be written at all.
    Full,
}

/// The two clocks, read once a turn and handed to a machine with every input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic: timeouts and durations.
    pub mono: Instant,
    /// Wall: ties and expiry.
    pub wall: WallMs,
}

impl Instant {
    /// This instant, `duration` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// This instant, `ms` milliseconds later.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// So many microseconds later.
    #[must_use]
    pub fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds since `earlier`; 0 if that is not in the past.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds left until `self`, seen from `now`, begun ones counted whole; 0 only once it
    /// has passed: whatever still has time is never told that it has none.
    #[must_use]
    pub fn ms_left(self, now: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(now.0).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Stamp {
    /// A stamp at the given wall time, before any other of that millisecond.
    #[must_use]
    pub fn at(wall: WallMs) -> Self {
        Self(wall.0 << 16)
    }

    /// The wall time this stamp claims.
    #[must_use]
    pub fn wall(self) -> WallMs {
        WallMs(self.0 >> 16)
    }

    /// The smallest stamp above this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Health {
    /// Whether it answers.
    #[must_use]
    pub fn is_up(self) -> bool {
        match self {
            Health::Up => true,
            Health::Suspected | Health::CutOff | Health::Down => false,
        }
    }
}

impl Room {
    /// Its number in messages.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Room::Enough => 0,
            Room::Low => 1,
            Room::Full => 2,
        }
    }

    /// By its number in messages.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Room::Enough, Room::Low, Room::Full].into_iter().find(|room| room.to_byte() == byte)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Room::Enough => "ok",
            Room::Low => "low",
            Room::Full => "full",
        })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::Up => "up",
            Health::Suspected => "suspected",
            Health::CutOff => "cut off",
            Health::Down => "down",
        })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for DiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Dot {
    /// `node.incarnation:seq`, as in `3.1:42`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.actor.node.0, self.actor.incarnation.0, self.seq)
    }
}
