//! Log records as bytes.
//!
//! ```text
//! segment   | magic "GTSLOG1\0" | start position u64 | crc32c of both u32 | zero u32 | records ...
//! record    | length u32 | position u64 | crc32c of both u32 | crc32c of body u32 | body
//! body      | 1 | keyspace u16 | sector u16 | key | context | kept dots | new siblings     a merge
//!           | 2 | durable watermark u64                                                    a batch begins
//! ```
//! A record's position is the log position of its own first byte, so that bytes left over from an
//! earlier life of the disk cannot pass for a record of this one. A merge names the dots that were
//! kept and carries only the siblings that were not stored before: replayed in order, records give
//! back the very same object. The watermark says how far the log was known to be synced when the
//! batch was written: damage before it is corruption, not a torn tail.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::limits::{ACTORS_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX, SIBLINGS_DECODED_MAX};
use crate::types::{Dot, Key, KeyspaceId, SectorId};
use crate::version::{Object, Sibling, VersionVector};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::{decode_dot, decode_sibling, decode_vector, encode_dot, encode_sibling, encode_vector};
use bytes::{Buf, Bytes};

/// Bytes before the first record of a segment.
pub const SEGMENT_HEADER_BYTES: usize = 24;
/// Bytes before a record's body.
pub const RECORD_HEADER_BYTES: usize = 20;
const MAGIC: [u8; 8] = *b"GTSLOG1\0";

const MERGE: u8 = 1;
const BATCH: u8 = 2;

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

impl MergeRecord {
    /// What turned `before` into `after`.
    #[must_use]
    pub fn between(
        place: (KeyspaceId, SectorId),
        key: &Key,
        before: Option<&Object>,
        after: &Object,
    ) -> Self {
        let was_there = |sibling: &&Sibling| before.is_some_and(|object| object.has(sibling.dot));
        let (kept, added): (Vec<_>, Vec<_>) = after.siblings().iter().partition(was_there);
        Self {
            keyspace: place.0,
            sector: place.1,
            key: key.clone(),
            context: after.context().clone(),
            kept: kept.into_iter().map(|sibling| sibling.dot).collect(),
            added: added.into_iter().cloned().collect(),
        }
    }

    /// The object afterwards, given the one before.
    #[must_use]
    pub fn apply(&self, before: Option<&Object>) -> Object {
        let held = before.map(Object::siblings).unwrap_or_default();
        let mut siblings: Vec<Sibling> =
            held.iter().filter(|sibling| self.kept.contains(&sibling.dot)).cloned().collect();
        siblings.extend(self.added.iter().cloned());
        Object::from_parts(self.context.clone(), siblings)
    }
}

/// The first bytes of a segment whose first record is at `start`.
#[must_use]
pub fn segment_header(start: u64) -> Bytes {
    let mut out = Writer::default();
    out.raw(&MAGIC);
    out.u64(start);
    let mut checked = MAGIC.to_vec();
    checked.extend_from_slice(&start.to_le_bytes());
    out.u32(crc32c::crc32c(&checked));
    out.u32(0);
    out.into_bytes()
}

/// Appends a record at log position `position`; returns the bytes it took.
pub fn write_record(out: &mut Writer, position: u64, record: &Record) -> u64 {
    let start = out.mark();
    out.raw(&[0; RECORD_HEADER_BYTES]);
    match record {
        Record::Merge(merge) => {
            out.u8(MERGE);
            out.u16(merge.keyspace.0);
            out.u16(merge.sector.0);
            out.bytes(&merge.key);
            encode_vector(&merge.context, out);
            out.count(merge.kept.len());
            merge.kept.iter().for_each(|&dot| encode_dot(dot, out));
            out.count(merge.added.len());
            merge.added.iter().for_each(|sibling| encode_sibling(sibling, out));
        }
        Record::Batch { watermark } => {
            out.u8(BATCH);
            out.u64(*watermark);
        }
    }
    let body_bytes = out.len() - start.total - RECORD_HEADER_BYTES;
    let mut body_crc = 0;
    out.pieces_since(start, RECORD_HEADER_BYTES, |piece| body_crc = crc32c::crc32c_append(body_crc, piece));
    let mut header = Vec::with_capacity(RECORD_HEADER_BYTES);
    header.extend_from_slice(&u32::try_from(body_bytes).unwrap_or(u32::MAX).to_le_bytes());
    header.extend_from_slice(&position.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header.extend_from_slice(&body_crc.to_le_bytes());
    out.patch(start, &header);
    (RECORD_HEADER_BYTES + body_bytes) as u64
}

/// Reads the record that should be at log position `position` and begins at the front of
/// `bytes`. Returns it and the bytes it took.
///
/// # Errors
/// It is not there.
pub fn read_record(bytes: &Bytes, position: u64) -> Result<(Record, usize), RecordError> {
    let header = bytes.get(..RECORD_HEADER_BYTES).ok_or(RecordError::Truncated)?;
    let (mut fields, mut sums) = header.split_at(12);
    let header_crc = crc32c::crc32c(fields);
    let length = usize::try_from(fields.get_u32_le()).map_err(|_| RecordError::Damaged)?;
    let written_at = fields.get_u64_le();
    if sums.get_u32_le() != header_crc || written_at != position || length > RECORD_BYTES_MAX {
        return Err(RecordError::Damaged);
    }
    let end = RECORD_HEADER_BYTES + length;
    if end > bytes.len() {
        return Err(RecordError::Truncated);
    }
    let body = bytes.slice(RECORD_HEADER_BYTES..end);
    if crc32c::crc32c(&body) != sums.get_u32_le() {
        return Err(RecordError::Damaged);
    }
    Ok((decode_body(body).map_err(RecordError::Unknown)?, end))
}

fn decode_body(body: Bytes) -> Result<Record, DecodeError> {
    let mut reader = Reader::new(body);
    let record = match reader.u8()? {
        MERGE => {
            let (keyspace, sector) = (KeyspaceId(reader.u16()?), SectorId(reader.u16()?));
            let key = reader.bytes("key", KEY_BYTES_MAX)?;
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
        other => return Err(DecodeError::UnknownKind(other)),
    };
    reader.finish()?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Actor, Incarnation, NodeId, Stamp};
    use crate::version::{Content, Replaces};

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

    fn bytes_of(record: &Record) -> Bytes {
        let mut out = Writer::default();
        write_record(&mut out, 500, record);
        out.into_bytes()
    }

    #[test]
    fn what_is_written_is_read_back_and_rebuilds_the_object() {
        let (before, after) = (object(&[1, 2]), object(&[1, 2, 3]));
        let place = (KeyspaceId(3), SectorId(9));
        let merge = MergeRecord::between(place, &Key::from_static(b"k"), Some(&before), &after);
        assert_eq!((merge.kept.len(), merge.added.len()), (2, 1));
        assert_eq!(merge.apply(Some(&before)), after);
        let record = Record::Merge(merge);
        let bytes = bytes_of(&record);
        assert_eq!(read_record(&bytes, 500), Ok((record, bytes.len())));
        assert_eq!(read_record(&bytes, 501), Err(RecordError::Damaged));
    }

    #[test]
    fn no_cut_and_no_flipped_bit_passes_for_a_record() {
        let merge = MergeRecord::between(
            (KeyspaceId(0), SectorId(0)),
            &Key::from_static(b"key"),
            None,
            &object(&[1]),
        );
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
}
