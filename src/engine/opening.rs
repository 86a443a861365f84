//! How an engine comes back: the log is told again, outline by outline, and becomes the index.
//!
//! Called once, when a process starts. What the log lacks is never guessed: see
//! [`quarantine`](super::quarantine).

use super::appender::Appender;
use super::compaction::Compaction;
use super::index::{Held, Index};
use super::outline::{Kind, Location, Outline, Stored};
use super::quarantine::Quarantine;
use super::reads::Reads;
use super::record::{OutlineRecord, RecordOutline};
use super::recovery::recover;
use super::scrub::Scrub;
use super::segments::Segments;
use super::store::{At, Engine, Settings, records_of};
use super::{Recovered, RecoveryError, Storage};
use crate::types::{Dot, Key, Stamp};
use crate::version::Sibling;
use std::collections::BTreeMap;

impl Engine {
    /// Reads a data directory's log back.
    ///
    /// # Errors
    /// The disk does not answer, or the log was written by another version.
    pub fn open(storage: &mut impl Storage, settings: Settings) -> Result<(Self, Recovered), RecoveryError> {
        let mut engine = Self {
            settings,
            index: Index::new(settings.cache_bytes),
            log: Appender::new(0, 0, settings.segment_bytes),
            segments: Segments::default(),
            reads: Reads::default(),
            intents: Vec::new(),
            statements: BTreeMap::new(),
            compaction: Compaction::default(),
            scrub: Scrub::default(),
            quarantine: Quarantine::default(),
            shelf_records: BTreeMap::new(),
            unreadable: 0,
        };
        let found =
            recover(storage, settings.segment_bytes, settings.planted, &mut |record: &RecordOutline| {
                engine.replay(record);
            })?;
        engine.log = Appender::new(found.next_position, found.segment, settings.segment_bytes);
        engine.count_segments(&found);
        engine.forget_settled();
        engine.note_damage(&found.damage);
        Ok((engine, found))
    }

    /// Takes in what the log says of a key, without its values.
    fn replay(&mut self, told: &RecordOutline) {
        match &told.record {
            OutlineRecord::Merge { keyspace, sector, key, context, kept, added } => {
                let place = (*keyspace, *sector);
                if added.is_empty() {
                    self.statements.insert((place, Key::copy_from_slice(key)), told.location);
                } else if !self.statements.is_empty() {
                    self.statements.remove(&(place, key.clone()));
                }
                if let (&[(actor, seq)], [], [sibling]) = (context.entries(), &kept[..], &added[..])
                    && sibling.dot == (Dot { actor, seq })
                    && self.replay_sole(place, key, sibling, told.location)
                {
                    return;
                }
                let before = self.index.outline(place, key);
                let held = |dot: Dot| {
                    before.as_ref().and_then(|outline| {
                        outline.siblings().iter().find(|sibling| sibling.dot == dot).cloned()
                    })
                };
                // What was kept but is not known was rewritten further on, or is lost: until it
                // turns up it cannot be read.
                let unknown = Stored { kind: Kind::Value(0), location: None, slot: None, damaged: true };
                let mut siblings: Vec<Sibling<Stored>> = kept
                    .iter()
                    .map(|&dot| {
                        let lost = Sibling { dot, stamp: Stamp::default(), expiry: None, content: unknown };
                        held(dot).unwrap_or(lost)
                    })
                    .collect();
                siblings.extend(added.iter().map(|sibling| Sibling {
                    dot: sibling.dot,
                    stamp: sibling.stamp,
                    expiry: sibling.expiry,
                    content: Stored {
                        kind: sibling.content,
                        location: Some(told.location),
                        slot: None,
                        damaged: false,
                    },
                }));
                let after = Outline::from_parts(context.clone(), siblings);
                match before {
                    Some(before) if after.is_nothing() => self.index.remove(place, key, &before),
                    None if after.is_nothing() => {}
                    before => self.index.install(place, key, before.as_ref(), &after),
                }
            }
            OutlineRecord::Shelf(record) => {
                let place = (record.keyspace, record.sector);
                if record.dropped_below > 0 {
                    self.index.drop_older(place, record.dropped_below);
                    self.statements
                        .retain(|key, location| key.0 != place || location.position >= record.dropped_below);
                }
                self.quarantine.replay(record);
                self.shelf_records.insert(place, (*record, told.location));
            }
            OutlineRecord::Settled(stretch) => self.quarantine.replay_settled(*stretch, told.location),
            OutlineRecord::Batch { .. } => {}
        }
    }

    /// The usual record, of one sibling that is all there is, with less to look at. Returns whether
    /// what was there before was as simple.
    fn replay_sole(&mut self, place: At, key: &Key, sibling: &Sibling<Kind>, location: Location) -> bool {
        let (spot, held) = self.index.held(place, key);
        let before = match &held {
            Held::Nothing => None,
            Held::Sole(sole) => Some(sole),
            Held::Outline(_) => return false,
        };
        let content = Stored { kind: sibling.content, location: Some(location), slot: None, damaged: false };
        let Sibling { dot, stamp, expiry, .. } = *sibling;
        let after = Sibling { dot, stamp, expiry, content };
        self.index.install_sole(spot, key, before, &after, None);
        true
    }

    /// Counts what is live in every segment, once all is replayed.
    fn count_segments(&mut self, found: &Recovered) {
        for &(start, end) in &found.sealed {
            let indexed = !found.unindexed.contains(&start);
            let damaged = found.damage.iter().any(|damage| damage.segment == start);
            self.segments.found(start, end, indexed, damaged);
        }
        self.segments.note_manifest(found.segment);
        if found.segment < found.next_position {
            self.segments.reopen(found.segment, found.next_position);
        }
        for location in
            self.shelf_records.values().map(|entry| entry.1).chain(self.statements.values().copied())
        {
            self.segments.add_live(location, None);
        }
        self.quarantine.each_settled(|location| self.segments.add_live(location, None));
        let segments = &mut self.segments;
        self.index.each(|outline| {
            for (location, hour) in records_of(outline) {
                segments.add_live(location, hour);
            }
        });
    }
}
