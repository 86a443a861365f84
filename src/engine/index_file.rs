//! Index files: what replaying a sealed segment needs of it, without its values.
//!
//! ```text
//! | magic "GTSTIDX\0" | version u32 | count u32 | start u64 | end u64 | length of body u64
//! | crc32c of body u32 | crc32c of all before u32 | body: an outline for each record
//! ```
//! One that is missing or damaged is no loss: the segment says the same, only slower. One is
//! written only for a segment without any damage, so that a good one stands for the whole of it.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::ReadFault;
use super::index_codec::{Outlines, encode};
use super::record::{FORMAT_VERSION, RecordOutline};
use super::scan::{Found, PIECE_BYTES, Scan};
use super::storage::{FileName, Storage};
use crate::mutant::{Mutant, Planted};
use bytes::{Buf, BufMut, Bytes};
use std::io;

const MAGIC: [u8; 8] = *b"GTSTIDX\0";
const HEADER_BYTES: usize = 48;
/// An outline takes at most so many times the bytes of its record: a number of eight bytes can
/// become a varint of ten.
const BODY_TIMES_MAX: u64 = 2;

/// Why an index file could not be written.
#[derive(Debug)]
pub enum BuildError {
    /// The disk does not answer.
    Io(io::Error),
    /// The segment is not there.
    Missing,
    /// The segment is damaged.
    Damaged,
}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        BuildError::Io(error)
    }
}

impl From<BuildError> for ReadFault {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Io(_) => ReadFault::Failed,
            BuildError::Missing => ReadFault::Missing,
            BuildError::Damaged => ReadFault::Damaged,
        }
    }
}

/// Writes the index file of a sealed segment from the segment itself, verifying every record of
/// it. Touches no other file: it may run while the log is written.
///
/// # Errors
/// The segment cannot be read, or the file cannot be written; there is then no new index file.
pub fn build(storage: &mut impl Storage, segment: u64, end: u64) -> Result<(), BuildError> {
    let Encoded { body, count } = encode_segment(storage, segment, end)?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.put_slice(&MAGIC);
    header.put_u32_le(FORMAT_VERSION);
    header.put_u32_le(count);
    header.put_u64_le(segment);
    header.put_u64_le(end);
    header.put_u64_le(body.len() as u64);
    header.put_u32_le(crc32c::crc32c(&body));
    header.put_u32_le(crc32c::crc32c(&header));
    install(storage, FileName::SegmentIndex(segment), &header, &body)?;
    Ok(())
}

/// What an index file says of its segment.
pub(super) struct Encoded {
    pub(super) body: Vec<u8>,
    pub(super) count: u32,
}

/// Reads a segment and says what its index file should.
pub(super) fn encode_segment(
    storage: &mut impl Storage,
    segment: u64,
    end: u64,
) -> Result<Encoded, BuildError> {
    let file = FileName::Segment(segment);
    if storage.read_at(file, 0, 1)?.is_none() {
        return Err(BuildError::Missing);
    }
    let mut scan = Scan::new(file, segment, end);
    let (mut body, mut count) = (Vec::new(), 0u32);
    loop {
        match scan.next(storage)? {
            Found::Record(location, record) => {
                encode(&mut body, &RecordOutline { location, record: record.into_outline() });
                count = count.saturating_add(1);
            }
            Found::Bad(_) | Found::Unknown(_) => return Err(BuildError::Damaged),
            Found::End if scan.position() == end => return Ok(Encoded { body, count }),
            Found::End => return Err(BuildError::Damaged),
        }
    }
}

fn install(storage: &mut impl Storage, file: FileName, header: &[u8], body: &[u8]) -> io::Result<()> {
    let draft = file.draft();
    storage.remove(draft)?;
    storage.append(draft, header)?;
    for piece in body.chunks(PIECE_BYTES) {
        storage.append(draft, piece)?;
    }
    storage.sync(draft)?;
    storage.rename(draft, file)?;
    storage.sync_directory()
}

/// A verified index file.
#[derive(Debug)]
pub struct IndexFile {
    start: u64,
    end: u64,
    count: u32,
    body: Bytes,
}

/// Reads the index file of the segment from `start` to `end`; `None` if there is none that is good.
///
/// # Errors
/// The disk does not answer.
pub fn read(
    storage: &mut impl Storage,
    (start, end): (u64, u64),
    planted: Planted,
) -> io::Result<Option<IndexFile>> {
    let file = FileName::SegmentIndex(start);
    let Some(header) = storage.read_at(file, 0, HEADER_BYTES)? else { return Ok(None) };
    let Some((count, length, body_crc)) = read_header(&header, (start, end)) else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let body = storage.read_at(file, HEADER_BYTES as u64, length)?.unwrap_or_default();
    let is_good = body.len() == length && crc32c::crc32c(&body) == body_crc;
    Ok((is_good || planted.is(Mutant::TrustIndexFile)).then_some(IndexFile { start, end, count, body }))
}

/// Count, length and checksum of the body. The length is no more than the segment could need.
fn read_header(bytes: &[u8], (start, end): (u64, u64)) -> Option<(u32, u64, u32)> {
    let (mut fields, mut sum) = bytes.split_at_checked(HEADER_BYTES - 4)?;
    let is_whole = sum.try_get_u32_le().ok()? == crc32c::crc32c(fields) && fields.starts_with(&MAGIC);
    fields.advance(MAGIC.len());
    let version = fields.get_u32_le();
    let count = fields.get_u32_le();
    let is_its = (fields.get_u64_le(), fields.get_u64_le()) == (start, end);
    let found = (count, fields.get_u64_le(), fields.get_u32_le());
    let has_room = found.1 <= end.saturating_sub(start).saturating_mul(BODY_TIMES_MAX);
    (is_whole && version == FORMAT_VERSION && is_its && has_room).then_some(found)
}

impl IndexFile {
    /// Whether it says just this.
    pub(super) fn is(&self, body: &[u8], count: u32) -> bool {
        self.body == body && self.count == count
    }

    /// Tells `each` of every record, in order. False if the file does not describe the whole
    /// segment: what was told is then not to be relied on.
    pub fn visit(&self, each: &mut impl FnMut(&RecordOutline)) -> bool {
        let mut outlines = Outlines::new(self.body.clone(), self.start);
        for _ in 0..self.count {
            let Some(outline) = outlines.next() else { return false };
            each(&outline);
            outlines.recycle(outline);
        }
        outlines.is_done() && outlines.position() == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Log;
    use crate::sim::DiskCall;

    /// A log with one sealed segment.
    fn log() -> (Log, (u64, u64)) {
        let mut log = Log::new(1000);
        log.fill(9, 80);
        let segment = log.sealed[0];
        (log, segment)
    }

    fn outlines(log: &mut Log, segment: (u64, u64)) -> Option<Vec<RecordOutline>> {
        let index = read(&mut log.disk, segment, Planted::NONE).unwrap()?;
        let mut all = Vec::new();
        assert!(index.visit(&mut |outline| all.push(outline.clone())));
        Some(all)
    }

    #[test]
    fn it_says_what_the_segment_does() {
        let (mut log, segment) = log();
        assert_eq!(outlines(&mut log, segment), None);
        build(&mut log.disk, segment.0, segment.1).unwrap();
        let told: Vec<_> =
            log.told.iter().filter(|told| told.location.position < segment.1).cloned().collect();
        assert_eq!(outlines(&mut log, segment), Some(told));
        assert_eq!(outlines(&mut log, (segment.0, segment.1 + 1)), None, "another segment's");
    }

    #[test]
    fn none_is_written_for_a_segment_that_is_not_whole() {
        let (mut log, (start, end)) = log();
        let clean = log.disk.clone();
        for byte in (24..end).step_by(7) {
            log.disk = clean.clone();
            assert!(log.disk.flip(FileName::Segment(start), byte, 5));
            assert!(matches!(build(&mut log.disk, start, end), Err(BuildError::Damaged)), "byte {byte}");
        }
        log.disk = clean.clone();
        log.disk.truncate(FileName::Segment(start), end - 1).unwrap();
        assert!(matches!(build(&mut log.disk, start, end), Err(BuildError::Damaged)));
        let last = log.told.iter().rfind(|told| told.location.end() <= end).unwrap().location;
        log.disk.truncate(FileName::Segment(start), 24 + last.position - start).unwrap();
        assert!(matches!(build(&mut log.disk, start, end), Err(BuildError::Damaged)));
        assert!(matches!(build(&mut log.disk, start + 1, end), Err(BuildError::Missing)));
        assert_eq!(outlines(&mut log, (start, end)), None);
    }

    #[test]
    fn a_full_disk_leaves_none_or_the_one_before() {
        let (mut log, (start, end)) = log();
        log.disk.set_capacity(Some(log.disk.used() + 100));
        assert!(matches!(build(&mut log.disk, start, end), Err(BuildError::Io(_))));
        assert_eq!(outlines(&mut log, (start, end)), None);
        log.disk.set_capacity(None);
        build(&mut log.disk, start, end).unwrap();
        log.disk.fail_next(DiskCall::Sync, io::ErrorKind::Other);
        assert!(matches!(build(&mut log.disk, start, end), Err(BuildError::Io(_))));
        assert!(outlines(&mut log, (start, end)).is_some());
    }

    #[test]
    fn no_length_is_believed_beyond_what_the_segment_could_need() {
        let (mut log, segment) = log();
        build(&mut log.disk, segment.0, segment.1).unwrap();
        let mut header =
            log.disk.read(FileName::SegmentIndex(segment.0)).unwrap().unwrap()[..HEADER_BYTES].to_vec();
        let mut with = |length: u64| {
            header[32..40].copy_from_slice(&length.to_le_bytes());
            let sum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
            header[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
            read_header(&header, segment).map(|found| found.1)
        };
        let most = 2 * (segment.1 - segment.0);
        assert_eq!((with(most), with(most + 1), with(u64::MAX)), (Some(most), None, None));
    }
}
