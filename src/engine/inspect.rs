//! Looking at a data directory without changing it: every record in order, and what is wrong.

use super::manifest::Manifest;
use super::outline::Location;
use super::record::Record;
use super::scan::{Found, Scan};
use super::storage::{FileName, Storage};
use std::io;

/// Tells `each` of every good record of the log, values and all, in log order.
///
/// # Errors
/// The disk does not answer.
pub fn dump(storage: &mut impl Storage, each: &mut impl FnMut(u64, Location, Record)) -> io::Result<()> {
    let manifest = Manifest::read(storage)?.and_then(Result::ok).unwrap_or_default();
    let mut segments = manifest.sealed.clone();
    for file in storage.list()? {
        match file {
            FileName::Segment(start) if start >= manifest.high_water => segments.push((start, u64::MAX)),
            FileName::Segment(_)
            | FileName::SegmentDraft(_)
            | FileName::SegmentIndex(_)
            | FileName::SegmentIndexDraft(_)
            | FileName::Manifest
            | FileName::ManifestDraft
            | FileName::Identity
            | FileName::Table
            | FileName::IdentityDraft
            | FileName::TableDraft => {}
        }
    }
    for (start, end) in segments {
        let mut scan = Scan::new(FileName::Segment(start), start, end);
        loop {
            match scan.next(storage)? {
                Found::Record(location, record) => each(start, location, record),
                Found::Bad(_) | Found::Unknown(_) => {}
                Found::End => break,
            }
        }
    }
    Ok(())
}
