//! Outlines of records as bytes, as index files hold them: small, and quick to read back.
//!
//! ```text
//! outline  | record's length | kind u8 | ...
//! merge    | 1 | keyspace | sector | length, key | count, context | count, kept dots | count, added
//! batch    | 2 | watermark
//! shelf    | 3 | keyspace | sector | fence | dropped below | needs a rebuild, 0 or 1
//! dot      | node | incarnation | sequence                    also an entry of a context
//! added    | dot | stamp u64 | flags u8 | expiry u64, if flagged | value's length, if flagged
//! ```
//! Numbers whose width is not given are varints: seven bits a byte, low ones first (LEB128).
//! Records follow each other without a gap, so that lengths give positions.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::outline::{Kind, Location};
use super::record::{BadStretch, OutlineRecord, RecordOutline, ShelfRecord};
use crate::limits::{ACTORS_MAX, SIBLINGS_DECODED_MAX, STORED_KEY_BYTES_MAX};
use crate::types::{Actor, Dot, Incarnation, KeyspaceId, NodeId, SectorId, Stamp, WallMs};
use crate::version::{Sibling, VersionVector};
use bytes::Bytes;

const MERGE: u8 = 1;
const BATCH: u8 = 2;
const SHELF: u8 = 3;
const SETTLED: u8 = 4;
const HAS_VALUE: u8 = 1;
const HAS_EXPIRY: u8 = 2;

/// Appends an outline.
pub(super) fn encode(out: &mut Vec<u8>, outline: &RecordOutline) {
    varint(out, u64::from(outline.location.bytes));
    match &outline.record {
        OutlineRecord::Merge { keyspace, sector, key, context, kept, added } => {
            out.push(MERGE);
            varint(out, u64::from(keyspace.0));
            varint(out, u64::from(sector.0));
            varint(out, key.len() as u64);
            out.extend_from_slice(key);
            varint(out, context.entries().len() as u64);
            context.entries().iter().for_each(|&(actor, seq)| encode_dot(out, Dot { actor, seq }));
            varint(out, kept.len() as u64);
            kept.iter().for_each(|&dot| encode_dot(out, dot));
            varint(out, added.len() as u64);
            added.iter().for_each(|sibling| encode_added(out, sibling));
        }
        OutlineRecord::Batch { watermark } => {
            out.push(BATCH);
            varint(out, *watermark);
        }
        OutlineRecord::Shelf(shelf) => {
            out.push(SHELF);
            varint(out, u64::from(shelf.keyspace.0));
            varint(out, u64::from(shelf.sector.0));
            varint(out, shelf.fence);
            varint(out, shelf.dropped_below);
            out.push(u8::from(shelf.needs_rebuild));
        }
        OutlineRecord::Settled(stretch) => {
            out.push(SETTLED);
            varint(out, stretch.position);
            varint(out, stretch.end);
        }
    }
}

fn encode_dot(out: &mut Vec<u8>, dot: Dot) {
    varint(out, u64::from(dot.actor.node.0));
    varint(out, u64::from(dot.actor.incarnation.0));
    varint(out, dot.seq);
}

fn encode_added(out: &mut Vec<u8>, sibling: &Sibling<Kind>) {
    encode_dot(out, sibling.dot);
    out.extend_from_slice(&sibling.stamp.0.to_le_bytes());
    let expiry = if sibling.expiry.is_some() { HAS_EXPIRY } else { 0 };
    let value = match sibling.content {
        Kind::Value(_) => HAS_VALUE,
        Kind::Tombstone => 0,
    };
    out.push(expiry | value);
    if let Some(at) = sibling.expiry {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
    match sibling.content {
        Kind::Value(bytes) => varint(out, u64::from(bytes)),
        Kind::Tombstone => {}
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Reads outlines one after the other, using the same allocations for each.
#[derive(Debug)]
pub(super) struct Outlines {
    bytes: Bytes,
    at: usize,
    position: u64,
    spare: Lists,
}

/// The lists of a merge, empty.
#[derive(Debug, Default)]
struct Lists {
    context: VersionVector,
    kept: Vec<Dot>,
    added: Vec<Sibling<Kind>>,
}

impl Outlines {
    /// Reads `bytes`, whose first record is at a log position.
    pub(super) fn new(bytes: Bytes, position: u64) -> Self {
        Self { bytes, at: 0, position, spare: Lists::default() }
    }

    /// Log position after the last record read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether everything was read.
    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next outline; `None` if there is none, or it makes no sense. Give it back to
    /// [`recycle`](Self::recycle).
    pub(super) fn next(&mut self) -> Option<RecordOutline> {
        let mut fields = Fields { bytes: &self.bytes, at: self.at };
        let bytes = fields.small()?;
        let record = match fields.u8()? {
            MERGE => merge(&self.bytes, &mut fields, std::mem::take(&mut self.spare))?,
            BATCH => OutlineRecord::Batch { watermark: fields.varint()? },
            SHELF => OutlineRecord::Shelf(ShelfRecord {
                keyspace: KeyspaceId(fields.u16()?),
                sector: SectorId(fields.u16()?),
                fence: fields.varint()?,
                dropped_below: fields.varint()?,
                needs_rebuild: fields.flag()?,
            }),
            SETTLED => {
                OutlineRecord::Settled(BadStretch { position: fields.varint()?, end: fields.varint()? })
            }
            _ => return None,
        };
        let location = Location { position: self.position, bytes };
        self.position = self.position.checked_add(u64::from(bytes))?;
        self.at = fields.at;
        Some(RecordOutline { location, record })
    }

    /// Takes an outline back, to use its allocations for the next one.
    pub(super) fn recycle(&mut self, outline: RecordOutline) {
        match outline.record {
            OutlineRecord::Merge { mut context, mut kept, mut added, .. } => {
                context.clear();
                kept.clear();
                added.clear();
                self.spare = Lists { context, kept, added };
            }
            OutlineRecord::Batch { .. } | OutlineRecord::Shelf(_) | OutlineRecord::Settled(_) => {}
        }
    }
}

fn merge(bytes: &Bytes, fields: &mut Fields<'_>, lists: Lists) -> Option<OutlineRecord> {
    let Lists { mut context, mut kept, mut added } = lists;
    let (keyspace, sector) = (KeyspaceId(fields.u16()?), SectorId(fields.u16()?));
    let key_bytes = fields.count(STORED_KEY_BYTES_MAX)?;
    let key = bytes.slice(fields.at..fields.at + key_bytes);
    fields.at += key_bytes;
    for _ in 0..fields.count(ACTORS_MAX)? {
        context.add(fields.dot()?);
    }
    for _ in 0..fields.count(SIBLINGS_DECODED_MAX.max(ACTORS_MAX))? {
        kept.push(fields.dot()?);
    }
    for _ in 0..fields.count(SIBLINGS_DECODED_MAX)? {
        added.push(fields.added()?);
    }
    Some(OutlineRecord::Merge { keyspace, sector, key, context, kept, added })
}

/// Fields read one after the other. Every count is checked against the bytes left.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    #[inline]
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.varint()?).ok()
    }

    fn u64(&mut self) -> Option<u64> {
        let bytes = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += 8;
        Some(u64::from_le_bytes(*bytes))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A count of things of a byte or more each.
    fn count(&mut self, max: usize) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= max && count <= self.bytes.len() - self.at).then_some(count)
    }

    fn dot(&mut self) -> Option<Dot> {
        let actor = Actor { node: NodeId(self.small()?), incarnation: Incarnation(self.small()?) };
        Some(Dot { actor, seq: self.varint()? })
    }

    fn added(&mut self) -> Option<Sibling<Kind>> {
        let (dot, stamp, flags) = (self.dot()?, Stamp(self.u64()?), self.u8()?);
        if flags & !(HAS_VALUE | HAS_EXPIRY) != 0 {
            return None;
        }
        let expiry = if flags & HAS_EXPIRY == 0 { None } else { Some(WallMs(self.u64()?)) };
        let content = if flags & HAS_VALUE == 0 { Kind::Tombstone } else { Kind::Value(self.small()?) };
        Some(Sibling { dot, stamp, expiry, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outlines() -> Vec<RecordOutline> {
        let dot =
            |node, seq| Dot { actor: Actor { node: NodeId(node), incarnation: Incarnation(u32::MAX) }, seq };
        let sibling =
            |seq, expiry, content| Sibling { dot: dot(3, seq), stamp: Stamp(u64::MAX), expiry, content };
        let merge = OutlineRecord::Merge {
            keyspace: KeyspaceId(u16::MAX),
            sector: SectorId(300),
            key: Bytes::from_static(b"key"),
            context: VersionVector::from_entries([(dot(1, 9).actor, 9), (dot(3, 7).actor, u64::MAX / 2)]),
            kept: vec![dot(1, 9), dot(u32::MAX, u64::MAX)],
            added: vec![
                sibling(1, None, Kind::Tombstone),
                sibling(2, Some(WallMs(u64::MAX)), Kind::Value(0)),
                sibling(128, None, Kind::Value(u32::MAX)),
            ],
        };
        let shelf = ShelfRecord {
            keyspace: KeyspaceId(1),
            sector: SectorId(2),
            fence: u64::MAX,
            dropped_below: 1 << 63,
            needs_rebuild: true,
        };
        let records = [
            merge,
            OutlineRecord::Batch { watermark: 127 },
            OutlineRecord::Shelf(shelf),
            OutlineRecord::Settled(BadStretch { position: 77, end: u64::MAX }),
            OutlineRecord::Batch { watermark: u64::MAX },
        ];
        let mut position = 1000;
        let place = |(bytes, record)| {
            let location = Location { position, bytes };
            position = location.end();
            RecordOutline { location, record }
        };
        [200, 33, 41, u32::MAX].into_iter().zip(records).map(place).collect()
    }

    fn read_all(bytes: Bytes) -> Option<Vec<RecordOutline>> {
        let (mut all, mut outlines) = (Vec::new(), Outlines::new(bytes, 1000));
        while !outlines.is_done() {
            let outline = outlines.next()?;
            all.push(outline.clone());
            outlines.recycle(outline);
        }
        Some(all)
    }

    fn bytes_of(outlines: &[RecordOutline]) -> Vec<u8> {
        let mut bytes = Vec::new();
        outlines.iter().for_each(|outline| encode(&mut bytes, outline));
        bytes
    }

    #[test]
    fn what_is_written_is_read_back_with_allocations_used_again() {
        let twice = [outlines(), outlines()].concat();
        let read = read_all(bytes_of(&twice).into()).unwrap();
        let records =
            |list: &[RecordOutline]| list.iter().map(|each| each.record.clone()).collect::<Vec<_>>();
        assert_eq!(records(&read), records(&twice));
        assert_eq!(read[..4], outlines()[..]);
    }

    #[test]
    fn no_cut_passes_for_a_whole() {
        let bytes = Bytes::from(bytes_of(&outlines()[..1]));
        for length in 1..bytes.len() {
            assert_eq!(read_all(bytes.slice(..length)), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange_to_read(bytes: Vec<u8>) {
            let _ = read_all(bytes.into());
        }

        #[test]
        fn no_changed_byte_is_too_strange_to_read(at: prop::sample::Index, byte: u8) {
            let mut bytes = bytes_of(&outlines());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read_all(bytes.into());
        }
    }
}
