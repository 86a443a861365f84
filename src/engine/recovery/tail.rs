//! Recovering the segments that no manifest lists yet: one stretch of log, of which the end may be
//! torn.

use super::super::record::{Record, SEGMENT_HEADER_BYTES, segment_header};
use super::super::scan::{Found, Lost, PIECE_BYTES, Scan};
use super::super::storage::{FileName, Storage};
use super::{Recovery, RecoveryError, Told, known_version, unknown};
use crate::mutant::Mutant;
use std::io;

/// How a segment of the tail ended.
enum TailEnd {
    /// Its last byte is good, or damage that stays.
    Whole,
    /// The log ends in it: what follows was never durable.
    Torn,
}

/// A segment of the tail as it is left.
struct Kept {
    start: u64,
    end: u64,
    /// Whether nothing in it is bad.
    is_good: bool,
}

impl<S: Storage, F: FnMut(Told<'_>)> Recovery<'_, S, F> {
    /// The segments `starts`, which begin at the high water. What is found is added to `listed`,
    /// the segments that the manifest will list.
    pub(super) fn tail(
        &mut self,
        high_water: u64,
        starts: &[u64],
        segment_bytes: u64,
        listed: &mut Vec<(u64, u64)>,
    ) -> Result<(), RecoveryError> {
        let (mut end, mut kept) = (high_water, Vec::new());
        let mut rest = starts;
        while let Some((&start, later)) = rest.split_first() {
            if start < end {
                return Err(RecoveryError::Overlap { file: FileName::Segment(start) });
            }
            if start > end {
                if self.is_torn(end, None, rest)? {
                    break;
                }
                self.damaged(end, (end, start), None, "a segment is missing");
                listed.push((end, start));
            }
            let (segment, how) = self.tail_segment(start, later)?;
            end = segment.end;
            rest = later;
            kept.extend((end > start).then_some(segment));
            match how {
                TailEnd::Whole => {}
                TailEnd::Torn => break,
            }
        }
        self.cut(rest)?;
        self.settle(end, kept, segment_bytes, listed);
        Ok(())
    }

    /// Where the log goes on, now that it is known to end at `end`.
    fn settle(&mut self, end: u64, mut kept: Vec<Kept>, segment_bytes: u64, listed: &mut Vec<(u64, u64)>) {
        let next = if self.durable == u64::MAX { end } else { end.max(self.durable) };
        if next > end {
            let segment = kept.last().map_or(end, |segment| segment.start);
            self.damaged(segment, (end, next), None, "the log ends before what was once durable");
            listed.push((end, next));
        }
        let goes_on = |last: &mut Kept| last.end == next && next - last.start < segment_bytes;
        let current = kept.pop_if(goes_on);
        for segment in &kept {
            self.found.sealed.push((segment.start, segment.end));
            self.found.unindexed.extend(segment.is_good.then_some(segment.start));
            listed.push((segment.start, segment.end));
        }
        listed.sort_unstable();
        self.found.next_position = next;
        self.found.segment = current.map_or(next, |segment| segment.start);
    }

    /// Reads one segment of the tail, from a synced copy of it that takes its place unless all of
    /// it is known to be durable.
    fn tail_segment(&mut self, start: u64, later: &[u64]) -> Result<(Kept, TailEnd), RecoveryError> {
        let file = FileName::Segment(start);
        known_version(Scan::new(file, start, u64::MAX).head(self.storage)?, file)?;
        let is_copied = self.mode.copies && self.is_unsure(start)?;
        let source = if is_copied { self.copy(start)? } else { file };
        let (kept, how) = self.read_tail_segment(source, start, later)?;
        if kept.end == start {
            self.storage.remove(source)?;
            self.storage.remove(file)?;
            return Ok((kept, how));
        }
        match how {
            TailEnd::Whole => {}
            TailEnd::Torn => {
                self.storage.truncate(source, SEGMENT_HEADER_BYTES as u64 + (kept.end - start))?;
                self.storage.sync(source)?;
            }
        }
        if is_copied {
            self.storage.rename(source, file)?;
        }
        Ok((kept, how))
    }

    /// Tells the good records of a segment of the tail, up to where the log ends.
    fn read_tail_segment(
        &mut self,
        source: FileName,
        start: u64,
        later: &[u64],
    ) -> Result<(Kept, TailEnd), RecoveryError> {
        let mut scan = Scan::new(source, start, u64::MAX);
        let mut kept = Kept { start, end: start, is_good: true };
        loop {
            match scan.next(self.storage)? {
                Found::Record(location, record) => {
                    kept.end = location.end();
                    self.tell(start, location, record);
                }
                Found::Unknown(location) => return Err(unknown(FileName::Segment(start), location)),
                Found::End => return Ok((kept, TailEnd::Whole)),
                Found::Bad(bad) if self.is_torn(bad.position, Some((source, start)), later)? => {
                    if self.mode.planted.is(Mutant::TornTailServed) {
                        continue;
                    }
                    self.found.cut_bytes += length_past(self.storage, source, start, bad.position)?;
                    return Ok((kept, TailEnd::Torn));
                }
                Found::Bad(bad) => {
                    kept.end = bad.end;
                    kept.is_good = false;
                    let extent = (bad.position, bad.end);
                    match bad.lost {
                        Lost::Of(place) => self.damaged(start, extent, Some(place), bad.what),
                        Lost::Unknown => self.damaged(start, extent, None, bad.what),
                        Lost::Mark => {}
                    }
                }
            }
        }
    }

    /// Whether a segment goes on beyond what is known to be durable.
    fn is_unsure(&mut self, start: u64) -> io::Result<bool> {
        if self.durable == u64::MAX {
            return Ok(true);
        }
        let known = self.durable.saturating_sub(start).saturating_add(SEGMENT_HEADER_BYTES as u64);
        let beyond = self.storage.read_at(FileName::Segment(start), known, 1)?;
        Ok(self.durable <= start || beyond.is_some_and(|bytes| !bytes.is_empty()))
    }

    /// Copies a segment to its draft and syncs that.
    fn copy(&mut self, start: u64) -> io::Result<FileName> {
        let (file, draft) = (FileName::Segment(start), FileName::SegmentDraft(start));
        self.storage.append(draft, &segment_header(start))?;
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        loop {
            let piece = self.storage.read_at(file, offset, PIECE_BYTES)?.unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            self.storage.append(draft, &piece)?;
            offset += piece.len() as u64;
        }
        self.storage.sync(draft)?;
        Ok(draft)
    }

    /// Whether bad bytes at `position` were never known to be durable. When nothing known so far
    /// says that they were, the rest of the log is asked: the rest of the segment that is being
    /// read, if any, and the `later` ones.
    fn is_torn(
        &mut self,
        position: u64,
        reading: Option<(FileName, u64)>,
        later: &[u64],
    ) -> Result<bool, RecoveryError> {
        if position >= self.durable && !self.knows_all {
            let rest = reading.map(|(file, start)| Scan::new(file, start, u64::MAX).from(position));
            let later = later.iter().map(|&start| Scan::new(FileName::Segment(start), start, u64::MAX));
            for mut scan in rest.into_iter().chain(later) {
                loop {
                    match scan.next(self.storage)? {
                        Found::Record(_, Record::Batch { watermark }) => {
                            self.durable = self.durable.max(watermark);
                        }
                        Found::Record(_, Record::Merge(_) | Record::Shelf(_) | Record::Settled(_))
                        | Found::Bad(_)
                        | Found::Unknown(_) => {}
                        Found::End => break,
                    }
                }
            }
            self.knows_all = true;
        }
        Ok(position >= self.durable)
    }

    /// Removes the segments after the end of the log.
    fn cut(&mut self, starts: &[u64]) -> io::Result<()> {
        for &start in starts {
            let file = FileName::Segment(start);
            self.found.cut_bytes += length_past(self.storage, file, start, start)?;
            self.storage.remove(file)?;
        }
        Ok(())
    }
}

/// Bytes of a segment's file from a log position on.
fn length_past(storage: &mut impl Storage, file: FileName, start: u64, position: u64) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let offset = (position - start).saturating_add(SEGMENT_HEADER_BYTES as u64 + length);
        match storage.read_at(file, offset, PIECE_BYTES)?.map_or(0, |piece| piece.len() as u64) {
            0 => return Ok(length),
            more => length += more,
        }
    }
}
