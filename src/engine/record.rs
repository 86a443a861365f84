//! Log records as bytes. This is format version 1.
//!
//! ```text
//! segment   | magic "GTSTLOG\0" | version u32 | start position u64 | crc32c of these 20 bytes u32 | records ...
//! record    | length of body u32 | position u64 | keyspace u16 | sector u16 | crc32c of these 16 bytes u32
//!           | crc32c of body u32 | body
//! body      | 1 | key | context | kept dots | new siblings                             a merge
//!           | 2 | durable watermark u64                                               a batch begins
//!           | 3 | fence u64 | dropped below u64 | flags u8 (bit 0: needs a rebuild)   a sector's state
//!           | 4 | position u64 | end u64                                   damage that was dealt with
//! ```
//! A record's position is the log position of its own first byte, so that bytes left over from an
//! earlier life of the disk cannot pass for a record of this one. Keyspace and sector are in the
//! header, under its checksum: when a body is damaged it is still known for certain whose data is
//! lost. (A batch belongs to no sector and says [`NO_SECTOR`], and so does the last kind.)
//!
//! A merge names the dots that were kept and carries only the siblings that were not stored
//! before: replayed in order, records give back the very same object. The watermark says how far
//! the log was known to be synced when the batch was written: damage before it is corruption, not
//! a torn tail. Keys, dots, contexts and siblings are written as on the wire.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::ReadFault;
use super::outline::{Kind, Location};
use crate::limits::{ACTORS_MAX, RECORD_BYTES_MAX, SIBLINGS_DECODED_MAX, STORED_KEY_BYTES_MAX};
use crate::types::{Dot, Key, KeyspaceId, SectorId};
use crate::version::{Sibling, VersionVector};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::{
    decode_dot, decode_sibling, decode_vector, encode_dot, encode_sibling, encode_vector, skip_vector,
    split_sibling_head,
};
use bytes::{Buf, BufMut, Bytes};
use std::ops::Range;

/// Bytes before the first record of a segment.
pub const SEGMENT_HEADER_BYTES: usize = 24;
/// Bytes before a record's body.
pub const RECORD_HEADER_BYTES: usize = 24;
/// The format this code reads and writes, of segments and of their index files.
pub const FORMAT_VERSION: u32 = 1;
/// The sector of a record that belongs to none. No cluster has so many.
pub const NO_SECTOR: SectorId = SectorId(u16::MAX);
/// Bytes of a record's header that its first checksum covers.
const HEADER_FIELDS_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"GTSTLOG\0";

const MERGE: u8 = 1;
const BATCH: u8 = 2;
const SHELF: u8 = 3;
const SETTLED: u8 = 4;
/// Bit of a shelf record's flags.
const NEEDS_REBUILD: u8 = 1;

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A key's object became this.
    Merge(MergeRecord),
    /// A batch begins.
    Batch {
        /// Log position up to which everything was known to be synced.
        watermark: u64,
    },
    /// A sector's state became this.
    Shelf(ShelfRecord),
    /// Something has been done about damage of unknown extent: all that it may have taken was given up.
    Settled(BadStretch),
}

/// A bad stretch of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadStretch {
    /// Log position of its first byte.
    pub position: u64,
    /// Log position after it.
    pub end: u64,
}

/// The state of one keyspace's share of a sector; the last one in the log counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShelfRecord {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The sector.
    pub sector: SectorId,
    /// The table epoch from which on the sector's writes are taken.
    pub fence: u64,
    /// Merges of this shelf before this log position are void.
    pub dropped_below: u64,
    /// Something of it was lost: nothing is served from it before peers have filled it again.
    pub needs_rebuild: bool,
}

/// A record without its values: what the index needs to know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordOutline {
    /// Where the record is.
    pub location: Location,
    /// What it says.
    pub record: OutlineRecord,
}

/// What a record says, without values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutlineRecord {
    /// A key's object became this. See [`MergeRecord`].
    Merge {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The key's sector.
        sector: SectorId,
        /// The key: a slice of what was read.
        key: Key,
        /// The object's context afterwards.
        context: VersionVector,
        /// Dots of the siblings that were there before and stayed.
        kept: Vec<Dot>,
        /// Siblings whose contents this record carries, with the size of each value.
        added: Vec<Sibling<Kind>>,
    },
    /// A sector's state became this.
    Shelf(ShelfRecord),
    /// A batch begins.
    Batch {
        /// Log position up to which everything was known to be synced.
        watermark: u64,
    },
    /// Something has been done about damage of unknown extent.
    Settled(BadStretch),
}

/// What a merge did to a key's object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergeRecord {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The key's sector.
    pub sector: SectorId,
    /// The key.
    pub key: Key,
    /// The object's context afterwards.
    pub context: VersionVector,
    /// Dots of the siblings that were there before and stayed.
    pub kept: Vec<Dot>,
    /// Siblings that were not there before.
    pub added: Vec<Sibling>,
}

/// Why bytes are not the record that should be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// They end before the record does.
    Truncated,
    /// A checksum or position does not match, or a length is impossible.
    Damaged,
    /// The checksums match but the content makes no sense: written by another version.
    Unknown(DecodeError),
}

impl Record {
    /// The place it belongs to, as its header says it.
    fn place(&self) -> (KeyspaceId, SectorId) {
        match self {
            Record::Merge(merge) => (merge.keyspace, merge.sector),
            Record::Shelf(shelf) => (shelf.keyspace, shelf.sector),
            Record::Batch { .. } | Record::Settled(_) => (KeyspaceId(0), NO_SECTOR),
        }
    }

    /// The record without its values.
    #[must_use]
    pub fn into_outline(self) -> OutlineRecord {
        match self {
            Record::Merge(merge) => OutlineRecord::Merge {
                keyspace: merge.keyspace,
                sector: merge.sector,
                key: merge.key,
                context: merge.context,
                kept: merge.kept,
                added: merge
                    .added
                    .iter()
                    .map(|sibling| Sibling {
                        dot: sibling.dot,
                        stamp: sibling.stamp,
                        expiry: sibling.expiry,
                        content: Kind::of(&sibling.content),
                    })
                    .collect(),
            },
            Record::Shelf(shelf) => OutlineRecord::Shelf(shelf),
            Record::Batch { watermark } => OutlineRecord::Batch { watermark },
            Record::Settled(stretch) => OutlineRecord::Settled(stretch),
        }
    }
}

/// The first bytes of a segment whose first record is at `start`.
#[must_use]
pub fn segment_header(start: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let mut out = header.as_mut_slice();
    out.put_slice(&MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u64_le(start);
    seal(&mut header);
    header
}

/// Puts the checksum of all before it into the last four bytes.
fn seal(header: &mut [u8; SEGMENT_HEADER_BYTES]) {
    let (fields, mut sum) = header.split_at_mut(SEGMENT_HEADER_BYTES - 4);
    sum.put_u32_le(crc32c::crc32c(fields));
}

/// What a segment's first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentHead {
    /// A segment of this format that begins at the position its name says.
    Good,
    /// Not a header, or that of another segment. Its records speak for themselves.
    Damaged,
    /// A segment of a format that this code does not know.
    Version(u32),
}

/// Reads the first bytes of the segment that should begin at `start`.
#[must_use]
pub fn read_segment_header(bytes: &[u8], start: u64) -> SegmentHead {
    let Some((header, _)) = bytes.split_at_checked(SEGMENT_HEADER_BYTES) else { return SegmentHead::Damaged };
    let (mut fields, mut sum) = header.split_at(SEGMENT_HEADER_BYTES - 4);
    if crc32c::crc32c(fields) != sum.get_u32_le() || !fields.starts_with(&MAGIC) {
        return SegmentHead::Damaged;
    }
    fields.advance(MAGIC.len());
    match (fields.get_u32_le(), fields.get_u64_le()) {
        (FORMAT_VERSION, at) if at == start => SegmentHead::Good,
        (FORMAT_VERSION, _) => SegmentHead::Damaged,
        (other, _) => SegmentHead::Version(other),
    }
}

/// Appends a record at log position `position`; returns the bytes it took.
pub fn write_record(out: &mut Writer, position: u64, record: &Record) -> u64 {
    match record {
        Record::Merge(merge) => {
            let (kept, added) = (merge.kept.iter().copied(), merge.added.iter());
            write_merge(out, position, record.place(), &merge.key, &merge.context, kept, added)
        }
        Record::Batch { watermark } => write_framed(out, position, record.place(), |out| {
            out.u8(BATCH);
            out.u64(*watermark);
        }),
        Record::Shelf(shelf) => write_framed(out, position, record.place(), |out| {
            out.u8(SHELF);
            out.u64(shelf.fence);
            out.u64(shelf.dropped_below);
            out.u8(if shelf.needs_rebuild { NEEDS_REBUILD } else { 0 });
        }),
        Record::Settled(stretch) => write_framed(out, position, record.place(), |out| {
            out.u8(SETTLED);
            out.u64(stretch.position);
            out.u64(stretch.end);
        }),
    }
}

/// Appends a merge record from its parts, as [`write_record`] does from a whole one.
pub fn write_merge<'a>(
    out: &mut Writer,
    position: u64,
    place: (KeyspaceId, SectorId),
    key: &[u8],
    context: &VersionVector,
    kept: impl Iterator<Item = Dot> + Clone,
    added: impl Iterator<Item = &'a Sibling> + Clone,
) -> u64 {
    write_framed(out, position, place, |out| {
        out.u8(MERGE);
        out.bytes(key);
        encode_vector(context, out);
        out.count(kept.clone().count());
        kept.for_each(|dot| encode_dot(dot, out));
        out.count(added.clone().count());
        added.for_each(|sibling| encode_sibling(sibling, out));
    })
}

/// Appends a body and, before it, its header.
fn write_framed(
    out: &mut Writer,
    position: u64,
    place: (KeyspaceId, SectorId),
    body: impl FnOnce(&mut Writer),
) -> u64 {
    let start = out.mark();
    let mut header = [0; RECORD_HEADER_BYTES];
    out.raw(&header);
    body(out);
    let body_bytes = out.len() - start.total - RECORD_HEADER_BYTES;
    let mut body_crc = 0;
    out.pieces_since(start, RECORD_HEADER_BYTES, |piece| body_crc = crc32c::crc32c_append(body_crc, piece));
    let mut fields = header.as_mut_slice();
    fields.put_u32_le(u32::try_from(body_bytes).unwrap_or(u32::MAX));
    fields.put_u64_le(position);
    fields.put_u16_le(place.0.0);
    fields.put_u16_le(place.1.0);
    let (fields, mut sums) = header.split_at_mut(HEADER_FIELDS_BYTES);
    sums.put_u32_le(crc32c::crc32c(fields));
    sums.put_u32_le(body_crc);
    out.patch(start, &header);
    (RECORD_HEADER_BYTES + body_bytes) as u64
}

/// What a record's header says, its own checksum and position being right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHead {
    /// Bytes of the whole record.
    pub bytes: usize,
    /// Where it belongs; a batch belongs nowhere.
    pub place: (KeyspaceId, SectorId),
    body_crc: u32,
}

/// Reads the header of the record that should be at `position`; `None` if that is not one.
#[must_use]
pub fn read_record_head(bytes: &[u8], position: u64) -> Option<RecordHead> {
    let (header, _) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
    let (mut fields, mut sums) = header.split_at_checked(HEADER_FIELDS_BYTES)?;
    let header_crc = crc32c::crc32c(fields);
    let length = usize::try_from(fields.get_u32_le()).ok()?;
    let written_at = fields.get_u64_le();
    if written_at != position || sums.get_u32_le() != header_crc || length > RECORD_BYTES_MAX {
        return None;
    }
    let place = (KeyspaceId(fields.get_u16_le()), SectorId(fields.get_u16_le()));
    Some(RecordHead { bytes: RECORD_HEADER_BYTES + length, place, body_crc: sums.get_u32_le() })
}

/// Reads the record that should be at log position `position` and begins at the front of
/// `bytes`. Returns it and the bytes it took.
///
/// # Errors
/// It is not there.
pub fn read_record(bytes: &Bytes, position: u64) -> Result<(Record, usize), RecordError> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err(RecordError::Truncated);
    }
    let head = read_record_head(bytes, position).ok_or(RecordError::Damaged)?;
    if head.bytes > bytes.len() {
        return Err(RecordError::Truncated);
    }
    let body = bytes.slice(RECORD_HEADER_BYTES..head.bytes);
    if crc32c::crc32c(&body) != head.body_crc {
        return Err(RecordError::Damaged);
    }
    Ok((decode_body(head.place, body).map_err(RecordError::Unknown)?, head.bytes))
}

/// The value that the record at `location` carries for a dot of a key, as a slice of `bytes`,
/// which begin where the record does. Everything is checked: position, checksums, key and dot.
///
/// # Errors
/// What is there is not what was written.
pub fn value_of(
    bytes: &Bytes,
    location: Location,
    place: (KeyspaceId, SectorId),
    key: &[u8],
    dot: Dot,
) -> Result<Bytes, ReadFault> {
    let found = || {
        let head = read_record_head(bytes, location.position)?;
        let body = bytes.get(RECORD_HEADER_BYTES..head.bytes)?;
        if head.bytes as u64 != u64::from(location.bytes)
            || head.place != place
            || crc32c::crc32c(body) != head.body_crc
        {
            return None;
        }
        Some(bytes.slice_ref(body.get(find_value(body, key, dot)?)?))
    };
    found().ok_or(ReadFault::Damaged)
}

/// Where in a merge record's body the value of a dot is.
fn find_value(body: &[u8], key: &[u8], dot: Dot) -> Option<Range<usize>> {
    let mut rest = body;
    let kind = rest.try_get_u8().ok()?;
    let key_bytes = rest.try_get_u32_le().ok()? as usize;
    let (found, mut rest) = rest.split_at_checked(key_bytes)?;
    if kind != MERGE || found != key {
        return None;
    }
    skip_vector(&mut rest)?;
    skip_vector(&mut rest)?; // The kept dots look the same.
    for _ in 0..rest.try_get_u32_le().ok()? {
        let (its_dot, length) = split_sibling_head(&mut rest)?;
        let (value, after) = rest.split_at_checked(length.unwrap_or(0))?;
        if its_dot == dot {
            let start = body.len() - rest.len();
            return length.map(|_| start..start + value.len());
        }
        rest = after;
    }
    None
}

fn decode_body(place: (KeyspaceId, SectorId), body: Bytes) -> Result<Record, DecodeError> {
    let (keyspace, sector) = place;
    let mut reader = Reader::new(body);
    let record = match reader.u8()? {
        MERGE => {
            let key = reader.bytes("key", STORED_KEY_BYTES_MAX)?;
            let context = decode_vector(&mut reader)?;
            let kept_count = reader.count("kept dots", SIBLINGS_DECODED_MAX.max(ACTORS_MAX), 16)?;
            let mut kept = Vec::with_capacity(kept_count);
            for _ in 0..kept_count {
                kept.push(decode_dot(&mut reader)?);
            }
            let added_count = reader.count("added siblings", SIBLINGS_DECODED_MAX, 25)?;
            let mut added = Vec::with_capacity(added_count);
            for _ in 0..added_count {
                added.push(decode_sibling(&mut reader)?);
            }
            Record::Merge(MergeRecord { keyspace, sector, key, context, kept, added })
        }
        BATCH => Record::Batch { watermark: reader.u64()? },
        SHELF => {
            let (fence, dropped_below) = (reader.u64()?, reader.u64()?);
            let needs_rebuild = match reader.u8()? {
                0 => false,
                NEEDS_REBUILD => true,
                _ => return Err(DecodeError::Invalid("flags of a sector's state")),
            };
            Record::Shelf(ShelfRecord { keyspace, sector, fence, dropped_below, needs_rebuild })
        }
        SETTLED => Record::Settled(BadStretch { position: reader.u64()?, end: reader.u64()? }),
        other => return Err(DecodeError::UnknownKind(other)),
    };
    reader.finish()?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Actor, Incarnation, NodeId, Stamp};
    use crate::version::{Content, Object, Replaces};

    fn object(seqs: &[u64]) -> Object {
        let mut object = Object::default();
        for &seq in seqs {
            let actor = Actor { node: NodeId(1), incarnation: Incarnation(1) };
            let content = Content::Value(Bytes::from(vec![7; 10]));
            let sibling = Sibling { dot: Dot { actor, seq }, stamp: Stamp(seq), expiry: None, content };
            object.put(Replaces::Seen(&VersionVector::default()), &VersionVector::default(), sibling);
        }
        object
    }

    /// What turned one object into another.
    fn between(
        (keyspace, sector): (KeyspaceId, SectorId),
        key: &'static [u8],
        before: Option<&Object>,
        after: &Object,
    ) -> MergeRecord {
        let was_there = |sibling: &&Sibling| before.is_some_and(|object| object.has(sibling.dot));
        let (kept, added): (Vec<_>, Vec<_>) = after.siblings().iter().partition(was_there);
        MergeRecord {
            keyspace,
            sector,
            key: Key::from_static(key),
            context: after.context().clone(),
            kept: kept.into_iter().map(|sibling| sibling.dot).collect(),
            added: added.into_iter().cloned().collect(),
        }
    }

    fn bytes_of(record: &Record) -> Bytes {
        let mut out = Writer::default();
        write_record(&mut out, 500, record);
        out.into_bytes()
    }

    #[test]
    fn what_is_written_is_read_back_at_its_own_position_alone() {
        let (before, after) = (object(&[1, 2]), object(&[1, 2, 3]));
        let place = (KeyspaceId(3), SectorId(9));
        let merge = between(place, b"k", Some(&before), &after);
        assert_eq!((merge.kept.len(), merge.added.len()), (2, 1));
        let record = Record::Merge(merge);
        let bytes = bytes_of(&record);
        assert_eq!(read_record(&bytes, 500), Ok((record, bytes.len())));
        assert_eq!(read_record(&bytes, 501), Err(RecordError::Damaged));
    }

    #[test]
    fn no_cut_and_no_flipped_bit_passes_for_a_record() {
        let merge = between((KeyspaceId(0), SectorId(0)), b"key", None, &object(&[1]));
        let bytes = bytes_of(&Record::Merge(merge));
        for length in 0..bytes.len() {
            assert!(read_record(&bytes.slice(..length), 500).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_record(&Bytes::from(flipped), 500).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_sectors_state_a_batch_and_damage_dealt_with_are_read_back() {
        let shelf = ShelfRecord {
            keyspace: KeyspaceId(7),
            sector: SectorId(9),
            fence: 5,
            dropped_below: u64::MAX,
            needs_rebuild: true,
        };
        let settled = Record::Settled(BadStretch { position: 6, end: u64::MAX });
        for record in [Record::Shelf(shelf), Record::Batch { watermark: 77 }, settled] {
            let bytes = bytes_of(&record);
            assert_eq!(read_record(&bytes, 500), Ok((record.clone(), bytes.len())));
            assert_eq!(read_record_head(&bytes, 500).unwrap().place, record.place());
        }
    }

    #[test]
    fn a_value_is_given_out_for_its_own_key_and_dot_alone() {
        let object = object(&[1, 2]);
        let place = (KeyspaceId(3), SectorId(9));
        let merge = between(place, b"k", None, &object);
        let dots: Vec<Dot> = object.siblings().iter().map(|sibling| sibling.dot).collect();
        let bytes = bytes_of(&Record::Merge(merge));
        let location = Location { position: 500, bytes: u32::try_from(bytes.len()).unwrap() };
        let value = value_of(&bytes, location, place, b"k", dots[1]);
        assert_eq!(value, Ok(Bytes::from(vec![7; 10])));
        let unknown = Dot { seq: 3, ..dots[1] };
        let elsewhere = Location { position: 501, ..location };
        let longer = Location { bytes: location.bytes + 1, ..location };
        for wrong in [
            value_of(&bytes, elsewhere, place, b"k", dots[1]),
            value_of(&bytes, longer, place, b"k", dots[1]),
            value_of(&bytes, location, (KeyspaceId(3), SectorId(8)), b"k", dots[1]),
            value_of(&bytes, location, place, b"j", dots[1]),
            value_of(&bytes, location, place, b"k", unknown),
            value_of(&bytes.slice(..bytes.len() - 1), location, place, b"k", dots[1]),
            value_of(&Bytes::new(), location, place, b"k", dots[1]),
        ] {
            assert_eq!(wrong, Err(ReadFault::Damaged));
        }
    }

    #[test]
    fn a_segments_header_says_its_start_and_version() {
        let header = segment_header(77);
        assert_eq!(read_segment_header(&header, 77), SegmentHead::Good);
        assert_eq!(read_segment_header(&header, 78), SegmentHead::Damaged);
        assert_eq!(read_segment_header(&header[..23], 77), SegmentHead::Damaged);
        for bit in 0..header.len() * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_segment_header(&flipped, 77), SegmentHead::Damaged, "bit {bit}");
        }
        let mut other = header;
        other[8] = 2;
        seal(&mut other);
        assert_eq!(read_segment_header(&other, 77), SegmentHead::Version(2));
    }
}
