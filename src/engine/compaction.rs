//! Compaction: what is still needed of a segment is written anew at the log's end, then the
//! segment goes.
//!
//! ```text
//! idle --the log is larger than it may be--> scanning a victim, a stretch at a time
//!   for each record that the index still points to: a record of the same at the log's end
//! scanned --every new record written--> the index points to those
//!         --every new record synced, nobody reads the segment--> manifest without it, then removed
//! ```
//! A new record says what the key holds now, so that replaying the log gives the same whatever
//! has happened since. The index keeps pointing to the old place until the new one can be read.
//! A segment with damage in it stays until nothing is needed of it. Where recovery has found damage
//! every file stays as it is until something has been done about it, and segments that may hold all
//! there is of a place in [`quarantine`](super::quarantine) stay as long as that is.

use super::outline::{Kind, Location, Outline, Stored};
use super::reads::Purpose;
use super::record::{MergeRecord, Record};
use super::scan::records_in;
use super::store::{At, Engine, Intent, find};
use super::{DiskEvent, FileName, ReadFault, Stretch, Ticket};
use crate::limits::SCAN_BYTES;
use crate::mutant::Mutant;
use crate::ring::Durability;
use crate::types::{Dot, Instant, Key, Now, WallMs};
use crate::version::{Content, Sibling};
use bytes::Bytes;
use std::collections::VecDeque;

/// How often a victim is looked for while there is none.
const LOOK_MS: u64 = 50;
/// How long a scan waits when the disk has too much to do or gave an error.
const RETRY_MS: u64 = 1000;
/// New records that may wait to be written before the scan does.
const MOVES_MAX: usize = 4096;
/// New records that the index is pointed to at once: under a millisecond of the loop.
const MOVES_PER_TURN: usize = 1000;
/// So many segments go with one manifest at most: removing them must not hold up the log for long.
const REMOVED_AT_ONCE: usize = 8;

/// The compaction under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    phase: Phase,
    /// New records that the index does not point to yet, in log order.
    moves: VecDeque<Move>,
    look_at: Instant,
    wall: WallMs,
    now: Instant,
    /// A stretch to be read when there is less to do, and not before `look_at`.
    held_up: Option<Stretch>,
    /// Bytes free on the disk, when last told.
    free: Option<u64>,
}

impl Compaction {
    /// When it will go on although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held_up.map(|_| self.look_at)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// A stretch of the segment is being read.
    Scanning { segment: u64 },
    /// Everything needed was appended, the last of it with this ticket.
    Scanned { segment: u64, ticket: Ticket },
}

/// Siblings that were written anew.
#[derive(Debug)]
struct Move {
    ticket: Ticket,
    place: At,
    key: Key,
    from: u64,
    to: Location,
    kinds: Vec<(Dot, Kind)>,
}

impl Engine {
    /// Begins, or ends, a compaction; the steps between are taken as stretches arrive.
    pub(super) fn compact(&mut self, now: Now) {
        self.compaction.wall = now.wall;
        self.compaction.now = now.mono;
        match self.compaction.phase {
            Phase::Idle if now.mono >= self.compaction.look_at && !self.quarantine.is_unsettled() => {
                self.compaction.look_at = now.mono.after_ms(LOOK_MS);
                if let Some(segment) = self.victim(now.wall) {
                    self.begin_compaction(segment);
                }
            }
            Phase::Scanning { .. } if now.mono >= self.compaction.look_at => {
                self.compaction.look_at = now.mono.after_ms(LOOK_MS);
                if self.compaction.moves.len() < MOVES_MAX
                    && let Some(stretch) = self.compaction.held_up.take()
                {
                    self.scan_on(stretch.segment, stretch.position, stretch.length);
                }
            }
            Phase::Idle | Phase::Scanning { .. } => {}
            Phase::Scanned { segment, ticket } => {
                let durable = self.is_durable(ticket, Durability::Sync);
                // What a dropped sector held counts as live until it has been taken apart.
                let is_settled = self.compaction.moves.is_empty() && !self.index.is_dropping();
                if durable && is_settled && !self.reads.touches(segment) {
                    self.compaction.phase = Phase::Idle;
                    self.remove_segments(segment);
                    // Where there was one there may be more: how fast garbage goes must not depend
                    // on the size of a segment.
                    self.compaction.look_at = now.mono;
                }
            }
        }
    }

    fn begin_compaction(&mut self, segment: u64) {
        let Some(found) = self.segments.get(segment) else { return };
        let needs = found.live.saturating_mul(5) / 4;
        if found.live > 0 && self.compaction.free.is_some_and(|free| free < needs) {
            // There is no room for what is to be written anew; what needs none comes first anyway.
            return;
        }
        if found.live == 0 {
            self.compaction.phase = Phase::Scanned { segment, ticket: Ticket(0) };
            return;
        }
        self.compaction.phase = Phase::Scanning { segment };
        self.scan_on(segment, segment, SCAN_BYTES);
    }

    fn scan_on(&mut self, segment: u64, position: u64, length: u32) {
        self.reads.scan(segment, position, length, Purpose::Compact);
    }

    /// Takes a stretch of the segment that is being compacted.
    pub(super) fn compact_with(&mut self, stretch: Stretch, result: Result<Bytes, ReadFault>) {
        if (self.compaction.phase != Phase::Scanning { segment: stretch.segment }) {
            return;
        }
        let (segment, end) =
            (stretch.segment, self.segments.get(stretch.segment).map_or(0, |found| found.end));
        let outcome = result.and_then(|bytes| {
            records_in(stretch, end, &bytes, |position, record| self.rewrite_record(position, record))
        });
        match outcome {
            Ok(next) if next >= end => {
                let ticket = self.log.last_record();
                self.compaction.phase = Phase::Scanned { segment, ticket };
            }
            // The next record is larger than a stretch.
            Ok(next) if next == stretch.position => {
                self.scan_on(segment, next, stretch.length.saturating_mul(2));
            }
            // What was written anew is to reach the disk before there is more of it.
            Ok(next) if self.compaction.moves.len() >= MOVES_MAX => {
                let ahead = Stretch { position: next, length: SCAN_BYTES, ..stretch };
                self.compaction.held_up = Some(ahead);
            }
            Ok(next) => self.scan_on(segment, next, SCAN_BYTES),
            Err(ReadFault::Busy | ReadFault::Failed) => {
                self.compaction.look_at = self.compaction.now.after_ms(RETRY_MS);
                self.compaction.held_up = Some(stretch);
            }
            Err(fault @ (ReadFault::Missing | ReadFault::Damaged)) => {
                log::error!("{} cannot be compacted: {fault}", FileName::Segment(segment).to_text());
                self.note_damaged(segment);
                self.compaction.phase = Phase::Idle;
            }
        }
    }

    fn rewrite_record(&mut self, position: u64, record: Record) {
        match record {
            Record::Merge(merge) => self.rewrite_merge(position, merge),
            Record::Shelf(shelf) => {
                let held = self.shelf_records.get(&(shelf.keyspace, shelf.sector));
                if held.is_some_and(|(_, location)| location.position == position) {
                    self.write_shelf(shelf, false);
                }
            }
            Record::Settled(stretch) => self.rewrite_settled(position, stretch),
            Record::Batch { .. } => {}
        }
    }

    fn rewrite_merge(&mut self, position: u64, merge: MergeRecord) {
        let place = (merge.keyspace, merge.sector);
        let held = self.outline(place, &merge.key);
        if self.statement_of(place, &merge.key) == Some(position) {
            // That a key is forgotten must be said only while an older record may say otherwise.
            let is_needed = held.is_some() || !self.segments.is_oldest(position);
            if !is_needed || self.settings.planted.is(Mutant::DropStatements) {
                return self.forget_statement(place, &merge.key);
            }
            let outline = held.unwrap_or_default();
            let statement = state(place, &merge.key, &outline, Vec::new());
            let location = self.append(&Record::Merge(statement), false);
            self.note_statement(place, &merge.key, location);
            return;
        }
        let Some(outline) = held else { return };
        let lies_here = |dot: Dot| {
            let location = find(&outline, dot).and_then(|sibling| sibling.content.location);
            location.is_some_and(|location| location.position == position)
        };
        let wall = self.compaction.wall;
        let needed: Vec<Sibling> = merge
            .added
            .into_iter()
            .filter(|sibling| lies_here(sibling.dot))
            .map(|sibling| if sibling.has_expired(wall) { emptied(sibling) } else { sibling })
            .collect();
        if needed.is_empty() {
            return;
        }
        let kinds = needed.iter().map(|sibling| (sibling.dot, Kind::of(&sibling.content))).collect();
        let key = Key::copy_from_slice(&merge.key);
        let to = self.append(&Record::Merge(state(place, &key, &outline, needed)), false);
        let ticket = self.log.last_record();
        self.compaction.moves.push_back(Move { ticket, place, key, from: position, to, kinds });
    }

    /// Lets the index point to what has been written anew and can be read there.
    pub(super) fn settle_moves(&mut self) {
        let hasty = self.settings.planted.is(Mutant::MoveBeforeWritten);
        for _ in 0..MOVES_PER_TURN {
            if self.compaction.moves.front().is_none_or(|moved| !hasty && !self.log.is_written(moved.ticket))
            {
                return;
            }
            let Some(moved) = self.compaction.moves.pop_front() else { return };
            let Some(before) = self.outline(moved.place, &moved.key) else { continue };
            let after = before.map(|sibling| {
                let kind = moved.kinds.iter().find(|entry| entry.0 == sibling.dot).map(|entry| entry.1);
                let here = sibling.content.location.is_some_and(|location| location.position == moved.from);
                match kind {
                    Some(kind) if here => Stored {
                        kind,
                        location: Some(moved.to),
                        slot: sibling.content.slot.filter(|_| kind == sibling.content.kind),
                        damaged: false,
                    },
                    Some(_) | None => sibling.content,
                }
            });
            self.account(Some(&before), &after);
            self.index.install(moved.place, &moved.key, Some(&before), &after);
        }
    }

    /// Takes note of how much room there is for what is written anew.
    pub(super) fn note_space(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Free(bytes) => self.compaction.free = Some(bytes),
            DiskEvent::Full => self.compaction.free = Some(0),
            DiskEvent::Room | DiskEvent::Written(_) | DiskEvent::Synced(_) => {}
        }
    }

    /// Nothing is needed of a segment: it goes, and others of which that is true with it. First the
    /// manifest says so, then the files go.
    fn remove_segments(&mut self, segment: u64) {
        if self.segments.get(segment).is_none_or(|found| found.live > 0) {
            // Never happens; and if it did, a copy would be lost.
            log::error!("{} is kept: something in it is still needed", FileName::Segment(segment).to_text());
            return self.note_damaged(segment);
        }
        let others = self.segments.useless(self.log.watermark());
        let others = others.filter(|&start| start != segment && !self.reads.touches(start));
        let gone: Vec<u64> = std::iter::once(segment).chain(others).take(REMOVED_AT_ONCE).collect();
        gone.iter().for_each(|&start| self.segments.remove(start));
        self.forget_settled();
        self.write_manifest();
        let files = gone.iter().flat_map(|&start| [FileName::Segment(start), FileName::SegmentIndex(start)]);
        self.intents.push(Intent::Remove(files.collect()));
    }

    fn note_damaged(&mut self, segment: u64) {
        if let Some(found) = self.segments.get_mut(segment) {
            found.damaged = true;
        }
    }
}

/// What a key holds now, with the contents of these siblings; those of the others are elsewhere.
fn state(place: At, key: &Key, outline: &Outline, added: Vec<Sibling>) -> MergeRecord {
    let kept = outline.siblings().iter().map(|sibling| sibling.dot);
    MergeRecord {
        keyspace: place.0,
        sector: place.1,
        key: key.clone(),
        context: outline.context().clone(),
        kept: kept.filter(|dot| !added.iter().any(|sibling| sibling.dot == *dot)).collect(),
        added,
    }
}

/// A value whose time is over counts as a tombstone, and takes the room of one.
fn emptied(sibling: Sibling) -> Sibling {
    Sibling { content: Content::Tombstone, ..sibling }
}
