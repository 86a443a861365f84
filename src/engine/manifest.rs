//! The manifest: which sealed segments there are, and how far the log was once known durable.
//!
//! ```text
//! | magic "GTSTMAN\0" | version u32 | count u32 | high water u64 | durable u64
//! | count x (start u64, end u64) | crc32c of all before u32 |
//! ```
//! It is replaced whole, atomically. A segment that it lists and that is not there was lost; one
//! that begins below the high water and that it does not list is what a finished compaction left
//! behind. From the high water on, segments follow each other without a gap.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::storage::{FileName, Storage};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;

/// Most segments a manifest lists: at the default segment size, 64 TiB of log.
pub const MANIFEST_SEGMENTS_MAX: usize = 1 << 20;
const MAGIC: [u8; 8] = *b"GTSTMAN\0";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 32;
const ENTRY_BYTES: usize = 16;
const SUM_BYTES: usize = 4;

/// What the manifest says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    /// Start and end, as log positions, of every sealed segment, in order. Sealed means synced.
    pub sealed: Vec<(u64, u64)>,
    /// The log position from which on segments are not listed here.
    pub high_water: u64,
    /// Everything before this log position was once known to be durable. (Below the high water
    /// it is anyway: 0 says nothing more.)
    pub durable: u64,
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManifestError {
    /// They are not what was written.
    Damaged,
    /// They are of a format that this code does not know.
    Version(u32),
}

impl Manifest {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(u32::try_from(self.sealed.len()).unwrap_or(u32::MAX));
        out.put_u64_le(self.high_water);
        out.put_u64_le(self.durable);
        for &(start, end) in &self.sealed {
            out.put_u64_le(start);
            out.put_u64_le(end);
        }
        out.put_u32_le(crc32c::crc32c(&out));
        out.freeze()
    }

    /// The manifest of a file's bytes.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let split = bytes.len().checked_sub(SUM_BYTES).ok_or(ManifestError::Damaged)?;
        let (mut fields, mut sum) = bytes.split_at(split);
        if fields.len() < HEAD_BYTES || !fields.starts_with(&MAGIC) {
            return Err(ManifestError::Damaged);
        }
        if crc32c::crc32c(fields) != sum.get_u32_le() {
            return Err(ManifestError::Damaged);
        }
        fields.advance(MAGIC.len());
        match fields.get_u32_le() {
            VERSION => {}
            other => return Err(ManifestError::Version(other)),
        }
        let count = fields.get_u32_le();
        let (high_water, durable) = (fields.get_u64_le(), fields.get_u64_le());
        let expected = u64::from(count) * ENTRY_BYTES as u64;
        if count as usize > MANIFEST_SEGMENTS_MAX || fields.len() as u64 != expected {
            return Err(ManifestError::Damaged);
        }
        let mut sealed = Vec::with_capacity(count as usize);
        while fields.has_remaining() {
            sealed.push((fields.get_u64_le(), fields.get_u64_le()));
        }
        let mut floor = 0;
        for &(start, end) in &sealed {
            if start < floor || end <= start || end > high_water {
                return Err(ManifestError::Damaged);
            }
            floor = end;
        }
        Ok(Self { sealed, high_water, durable })
    }

    /// Reads the manifest of a data directory; `None` if it has none.
    ///
    /// # Errors
    /// The outer error is the disk's, the inner one the file's.
    pub fn read(storage: &mut impl Storage) -> io::Result<Option<Result<Self, ManifestError>>> {
        let most = HEAD_BYTES + MANIFEST_SEGMENTS_MAX * ENTRY_BYTES + SUM_BYTES;
        let Some(mut head) = storage.read_at(FileName::Manifest, 0, HEAD_BYTES)? else { return Ok(None) };
        if head.len() < HEAD_BYTES {
            return Ok(Some(Err(ManifestError::Damaged)));
        }
        head.advance(MAGIC.len() + 4);
        // One byte more than it should have, to see whether there is more.
        let length = HEAD_BYTES + (head.get_u32_le() as usize).saturating_mul(ENTRY_BYTES) + SUM_BYTES + 1;
        let bytes = storage.read_at(FileName::Manifest, 0, length.min(most))?.unwrap_or_default();
        Ok(Some(Self::decode(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDisk;

    fn manifest() -> Manifest {
        Manifest { sealed: vec![(0, 90), (90, 200), (450, 451)], high_water: 451, durable: 500 }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for manifest in [Manifest::default(), manifest()] {
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
            let mut disk = SimDisk::default();
            assert_eq!(Manifest::read(&mut disk).unwrap(), None);
            disk.append(FileName::Manifest, &manifest.encode()).unwrap();
            assert_eq!(Manifest::read(&mut disk).unwrap(), Some(Ok(manifest)));
        }
    }

    #[test]
    fn no_cut_no_flipped_bit_and_nothing_longer_passes_for_a_manifest() {
        let bytes = manifest().encode();
        for length in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..length]).is_err(), "{length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit}");
            let mut disk = SimDisk::default();
            disk.append(FileName::Manifest, &flipped).unwrap();
            assert!(Manifest::read(&mut disk).unwrap().unwrap().is_err(), "bit {bit}");
        }
        let mut disk = SimDisk::default();
        disk.append(FileName::Manifest, &[&bytes[..], b"x"].concat()).unwrap();
        assert!(Manifest::read(&mut disk).unwrap().unwrap().is_err());
    }

    #[test]
    fn segments_that_overlap_or_pass_the_high_water_are_no_manifest() {
        for sealed in [vec![(5, 5)], vec![(0, 9), (8, 10)], vec![(90, 99), (0, 9)], vec![(0, 101)]] {
            let bytes = Manifest { sealed, high_water: 100, durable: 0 }.encode();
            assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Damaged));
        }
    }
}
