//! Recovering sealed segments: through their index files, or by reading them.

use super::super::index_file;
use super::super::record::{NO_SECTOR, OutlineRecord, SEGMENT_HEADER_BYTES};
use super::super::scan::{Bad, Found, Lost, Scan};
use super::super::storage::{FileName, Storage};
use super::{Recovery, RecoveryError, Told, known_version, unknown};
use crate::mutant::Planted;
use crate::types::{KeyspaceId, SectorId};
use std::collections::BTreeMap;
use std::io;

impl<S: Storage, F: FnMut(Told<'_>)> Recovery<'_, S, F> {
    /// A segment of the manifest: through its index file if that is good, else by itself.
    pub(super) fn sealed(&mut self, segment: (u64, u64)) -> Result<(), RecoveryError> {
        let (start, end) = segment;
        let last_byte = SEGMENT_HEADER_BYTES as u64 + (end - start) - 1;
        let tail = self.storage.read_at(FileName::Segment(start), last_byte, 1)?;
        let index = index_file::read(self.storage, segment, self.mode.planted)?;
        if !self.mode.reads_all
            && tail.is_some_and(|tail| !tail.is_empty())
            && let Some(index) = index
        {
            let mut told = 0;
            let each = &mut *self.each;
            let is_whole = index.visit(&mut |outline| {
                told += 1;
                each(Told::Outline(outline));
            });
            if is_whole {
                self.found.records += told;
                return Ok(());
            }
        }
        if self.read_sealed(segment)? {
            self.found.unindexed.push(start);
        }
        Ok(())
    }

    /// Tells a sealed segment's good records and reports the rest. Whether all was good.
    pub(super) fn read_sealed(&mut self, (start, end): (u64, u64)) -> Result<bool, RecoveryError> {
        let file = FileName::Segment(start);
        let mut scan = Scan::new(file, start, end);
        known_version(scan.head(self.storage)?, file)?;
        let mut bad = Vec::new();
        loop {
            match scan.next(self.storage)? {
                Found::Record(location, record) => self.tell(start, location, record),
                Found::Bad(stretch) => bad.push(stretch),
                Found::Unknown(location) => return Err(unknown(file, location)),
                Found::End => break,
            }
        }
        let position = scan.position();
        if position < end && end != u64::MAX {
            bad.push(Bad { position, end, lost: Lost::Unknown, what: "the segment is cut short" });
        }
        self.report((start, end), &bad)?;
        Ok(bad.is_empty())
    }

    /// A segment of the manifest that is not there.
    pub(super) fn missing(&mut self, (start, end): (u64, u64)) -> io::Result<()> {
        let what = "a segment is missing";
        self.report((start, end), &[Bad { position: start, end, lost: Lost::Unknown, what }])
    }

    /// Reports bad stretches of a sealed segment, in order; where the place cannot be told from
    /// what is left, its index file may know.
    fn report(&mut self, segment: (u64, u64), bad: &[Bad]) -> io::Result<()> {
        for stretch in bad {
            match stretch.lost {
                Lost::Of(place) => {
                    let extent = (stretch.position, stretch.end);
                    self.damaged(segment.0, extent, Some(place), stretch.what);
                }
                Lost::Mark | Lost::Unknown => {}
            }
        }
        let unknown: Vec<&Bad> = bad.iter().filter(|stretch| stretch.lost == Lost::Unknown).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut lost = BTreeMap::new();
        let mut stretches = unknown.iter().peekable();
        let is_known = index_file::read(self.storage, segment, Planted::NONE)?.is_some_and(|index| {
            index.visit(&mut |outline| {
                let (at, end) = (outline.location.position, outline.location.end());
                while stretches.next_if(|stretch| stretch.end <= at).is_some() {}
                if let Some(stretch) = stretches.peek().filter(|stretch| stretch.position < end) {
                    let extent = (at, stretch.end);
                    lost.extend(place_of(&outline.record).map(|place| (place, (extent, stretch.what))));
                }
            })
        });
        if !is_known {
            for stretch in unknown {
                self.damaged(segment.0, (stretch.position, stretch.end), None, stretch.what);
            }
            return Ok(());
        }
        for (&place, &(extent, what)) in &lost {
            self.damaged(segment.0, extent, Some(place), what);
        }
        Ok(())
    }
}

fn place_of(record: &OutlineRecord) -> Option<(KeyspaceId, SectorId)> {
    let place = match record {
        OutlineRecord::Merge { keyspace, sector, .. } => (*keyspace, *sector),
        OutlineRecord::Shelf(shelf) => (shelf.keyspace, shelf.sector),
        OutlineRecord::Batch { .. } | OutlineRecord::Settled(_) => (KeyspaceId(0), NO_SECTOR),
    };
    (place.1 != NO_SECTOR).then_some(place)
}
