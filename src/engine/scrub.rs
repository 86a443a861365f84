//! The scrub: sealed segments are read back, slowly, to find rot before a reader does.
//!
//! It owns how far it has come and when the next stretch is due. What is damaged is never served:
//! the values that lie there are marked, and a peer's copies are to take their place.

use super::outline::{Kind, Location};
use super::reads::Purpose;
use super::scan::records_in;
use super::store::{At, Engine};
use super::{FileName, ReadFault, Stretch};
use crate::limits::{RECORD_BYTES_MAX, SCAN_BYTES, SCRUB_EVERY_MS, SWEEP_KEYS_PER_TURN};
use crate::types::{Instant, Key, KeyspaceId, SectorId};
use bytes::Bytes;

/// How far the scrub is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// The next byte to look at.
    position: u64,
    /// How much of it; a record may be larger than the usual.
    length: u32,
    /// When the next stretch is read; none before the first turn.
    due: Option<Instant>,
    reading: bool,
    /// When this round began, and what it has read.
    began: Instant,
    round_bytes: u64,
    /// A damaged stretch, and how far the index has been searched for what lies in it.
    sweep: Option<Sweep>,
}

#[derive(Clone, Debug)]
struct Sweep {
    from: u64,
    to: u64,
    place: At,
    after: Option<Key>,
}

impl Scrub {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.reading)
    }
}

impl Engine {
    /// Reads the next stretch when it is due, and goes on with a search for what was damaged.
    pub(super) fn scrub_on(&mut self, now: Instant) {
        self.sweep_on();
        let rate = self.settings.scrub_bytes_per_second;
        if rate == 0 || self.scrub.reading {
            return;
        }
        let due = *self.scrub.due.get_or_insert_with(|| now.after_ms(SCAN_PAUSE_MS));
        // One thing at a time: first it is found out what lay in a damaged stretch.
        if now < due || self.scrub.sweep.is_some() {
            return;
        }
        let position = self.scrub.position;
        let next = self
            .segments
            .sealed(self.log.watermark())
            .find(|(_, segment)| segment.end > position && !segment.damaged);
        let Some((start, _)) = next.map(|(start, segment)| (start, segment.end)) else {
            return self.end_round(now);
        };
        let from = position.max(start);
        self.scrub.position = from;
        self.scrub.reading = true;
        let length = self.scrub.length.clamp(SCAN_BYTES, RECORD_BYTES_MAX as u32 + SCAN_BYTES);
        self.scrub.due = Some(now.after_ms(u64::from(length) * 1000 / rate.max(1)));
        self.reads.scan(start, from, length, Purpose::Scrub);
    }

    /// Everything has been looked at: the next round begins no sooner than a day after this one.
    fn end_round(&mut self, now: Instant) {
        if self.scrub.round_bytes > 0 {
            log::info!("scrub: {} bytes of the log are as they were written", self.scrub.round_bytes);
        }
        let next = self.scrub.began.after_ms(SCRUB_EVERY_MS).max(now.after_ms(SCAN_PAUSE_MS));
        self.scrub =
            Scrub { due: Some(next), began: next, sweep: self.scrub.sweep.take(), ..Scrub::default() };
    }

    /// Looks at a stretch that was read.
    pub(super) fn scrub_with(&mut self, stretch: Stretch, result: Result<Bytes, ReadFault>) {
        self.scrub.reading = false;
        let Some(end) = self.segments.get(stretch.segment).map(|segment| segment.end) else {
            // Compacted away since.
            return;
        };
        let outcome = result.and_then(|bytes| records_in(stretch, end, &bytes, |_, _| {}));
        match outcome {
            Ok(next) => {
                // One record may be larger than a stretch: then the next is larger, too.
                self.scrub.length = if next > stretch.position { SCAN_BYTES } else { stretch.length * 2 };
                self.scrub.position = next;
                self.scrub.round_bytes += next - stretch.position;
            }
            Err(ReadFault::Busy | ReadFault::Failed) => {}
            Err(fault @ (ReadFault::Missing | ReadFault::Damaged)) => {
                log::error!(
                    "scrub: {fault} in {} from log position {} on: what lies there is not served",
                    FileName::Segment(stretch.segment).to_text(),
                    stretch.position
                );
                if let Some(segment) = self.segments.get_mut(stretch.segment) {
                    segment.damaged = true;
                }
                // Which record it was is known to the index alone: each of them is read back.
                let place = (KeyspaceId(0), SectorId(0));
                self.scrub.sweep = Some(Sweep { from: stretch.position, to: end, place, after: None });
                self.scrub.position = end;
            }
        }
    }

    /// Has every value read back that lies in the damaged stretch, a few keys a turn.
    fn sweep_on(&mut self) {
        let Some(mut sweep) = self.scrub.sweep.take() else { return };
        let mut left = SWEEP_KEYS_PER_TURN;
        let mut lies_there: Vec<(At, Key, crate::types::Dot, Location)> = Vec::new();
        while left > 0 {
            let Some(place) = self.places(sweep.place).next() else { break };
            if place != sweep.place {
                sweep.after = None;
            }
            sweep.place = place;
            let mut last = None;
            for (key, outline) in self.walk(place, sweep.after.as_ref()).take(left) {
                left -= 1;
                for sibling in outline.siblings() {
                    // Of a tombstone nothing is on the disk alone, and nothing is ever read back.
                    if let Some(location) = sibling.content.location
                        && matches!(sibling.content.kind, Kind::Value(_))
                        && (sweep.from..sweep.to).contains(&location.position)
                    {
                        lies_there.push((place, key.clone(), sibling.dot, location));
                    }
                }
                last = Some(key);
            }
            match last {
                Some(key) if left == 0 => sweep.after = Some(key),
                Some(_) | None => match next_place(place) {
                    Some(next) => {
                        sweep.place = next;
                        sweep.after = None;
                    }
                    None => break,
                },
            }
        }
        for (place, key, dot, location) in lies_there {
            self.fetch(place, &key, dot, location);
        }
        if left == 0 {
            self.scrub.sweep = Some(sweep);
        }
    }
}

/// How long a scrub that has nothing to do waits before it looks again, in milliseconds.
const SCAN_PAUSE_MS: u64 = 10_000;

fn next_place(place: At) -> Option<At> {
    match (place.1.0.checked_add(1), place.0.0.checked_add(1)) {
        (Some(sector), _) => Some((place.0, SectorId(sector))),
        (None, Some(keyspace)) => Some((KeyspaceId(keyspace), SectorId(0))),
        (None, None) => None,
    }
}
