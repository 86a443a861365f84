//! Quarantine: places of which this node's copy is known not to be whole.
//!
//! ```text
//! recovery finds damage --> unsettled: the next start would find the same
//!   what is left of the places concerned is given up    (quarantine)   one batch of the log,
//!   what may be anybody's is noted as dealt with        (settle)       then a manifest
//! --> in quarantine, by the place's own header, until other owners have filled it again
//!   every one of them has been compared with            (lift)         the header says so
//! --> whole, once that is durable
//! ```
//! What is left of a damaged copy may be older than what has been reaped elsewhere, and would bring
//! deleted values back: it is given up at once, before anything is merged into it, so that what peers
//! bring from then on is sound and stays. (Were it given up later, writes acknowledged in between
//! would go with it.) Where it lies on the disk it stays as long as some place is in quarantine:
//! should no owner have a whole copy, it is all there is.
//!
//! The bad bytes stay in their segment, and are met at every start until nothing of it is needed. They
//! concern a place no more when all of it was given up that lies before their end. That alone does not
//! do for bytes that may have been anybody's, a place's that there was not yet among them: those are
//! noted one by one. (A note that everything before some position is dealt with would hide what rots
//! there later.)
//!
//! Who fills a place, and when that is done, is for the node to say. This file owns what is in
//! quarantine, and that a log whose damage has been dealt with is as good as any other: it is
//! compacted, and the next start does not find the same once more.

use super::Ticket;
use super::outline::Location;
use super::record::{BadStretch, Record, ShelfRecord};
use super::recovery::Damage;
use super::store::{At, Engine};
use crate::ring::Durability;
use crate::types::SectorId;
use std::collections::{BTreeMap, BTreeSet};

/// Of what this node's copy is known not to be whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Quarantine {
    /// Damage found at start about which nothing has been done yet.
    unsettled: Vec<Damage>,
    /// Bad stretches of nobody knows which places that were dealt with, by their positions; where each
    /// ends, and where that is said.
    settled: BTreeMap<u64, (u64, Location)>,
    places: BTreeSet<At>,
    /// Those that are whole again as soon as this is durable.
    lifting: BTreeMap<At, Ticket>,
}

impl Quarantine {
    /// What the log says of a place.
    pub(super) fn replay(&mut self, record: &ShelfRecord) {
        let place = (record.keyspace, record.sector);
        if record.needs_rebuild {
            self.places.insert(place);
        } else {
            self.places.remove(&place);
        }
    }

    /// What the log says of damage.
    pub(super) fn replay_settled(&mut self, stretch: BadStretch, location: Location) {
        self.settled.insert(stretch.position, (stretch.end, location));
    }

    /// Where it is said what was dealt with.
    pub(super) fn each_settled(&self, each: impl FnMut(Location)) {
        self.settled.values().map(|entry| entry.1).for_each(each);
    }

    /// Whether there is damage about which nothing has been done: then every file stays as it is.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }
}

impl Engine {
    /// Whether this node's copy of a sector is known not to be whole: it is not served from, and
    /// not coordinated.
    #[must_use]
    pub fn is_quarantined(&self, place: At) -> bool {
        self.quarantine.places.contains(&place) || self.is_concerned(place)
    }

    /// Whether damage about which nothing has been done may have taken something of a place.
    #[must_use]
    pub fn is_concerned(&self, place: At) -> bool {
        self.quarantine.unsettled.iter().any(|damage| self.concerns(damage, place))
    }

    fn concerns(&self, damage: &Damage, place: At) -> bool {
        let given_up = self.shelf_records.get(&place).map_or(0, |(record, _)| record.dropped_below);
        damage.place.is_none_or(|of| of == place) && damage.end > given_up
    }

    /// The places in quarantine.
    pub fn quarantined(&self) -> impl Iterator<Item = At> {
        self.quarantine.places.iter().copied()
    }

    /// Those that are still to be filled.
    pub fn rebuilding(&self) -> impl Iterator<Item = At> {
        self.quarantined().filter(|place| !self.quarantine.lifting.contains_key(place))
    }

    /// How many of the `held` sectors are in quarantine, in any keyspace.
    #[must_use]
    pub fn quarantined_sectors(&self, held: usize) -> usize {
        if self.quarantine.unsettled.iter().any(|damage| damage.place.is_none()) {
            return held;
        }
        let unsettled = self.quarantine.unsettled.iter().filter_map(|damage| damage.place);
        let sectors: BTreeSet<SectorId> = self.quarantined().chain(unsettled).map(|place| place.1).collect();
        sectors.len()
    }

    /// Damage found at start about which nothing has been done yet.
    #[must_use]
    pub fn unsettled_damage(&self) -> &[Damage] {
        &self.quarantine.unsettled
    }

    /// What recovery has found, once the log is replayed.
    pub(super) fn note_damage(&mut self, found: &[Damage]) {
        let is_dealt_with = |damage: &&Damage| match damage.place {
            Some(place) => !self.concerns(damage, place),
            None => {
                let before = self.quarantine.settled.range(..=damage.position).next_back();
                before.is_some_and(|(_, (end, _))| damage.end <= *end)
            }
        };
        self.quarantine.unsettled = found.iter().filter(|damage| !is_dealt_with(damage)).copied().collect();
        self.keep_evidence();
    }

    /// Gives up what is left of a place, durably, and keeps it in quarantine until it is
    /// [lifted](Self::lift).
    ///
    /// To be called in a life that has coordinated nothing there: the contexts of later writes must
    /// not cover dots that go with it.
    pub fn quarantine(&mut self, place: At) {
        self.quarantine.lifting.remove(&place);
        self.give_up(place, true);
        self.quarantine.places.insert(place);
        self.keep_evidence();
    }

    /// All that the damage found at start concerns has been given up, in this turn: the log may
    /// change again.
    pub fn settle_damage(&mut self) {
        let unsettled = std::mem::take(&mut self.quarantine.unsettled);
        for &Damage { segment, position, end, place, .. } in &unsettled {
            // What is missing, and a manifest that was lost, are so no more with the next manifest.
            let is_there = self.segments.get(segment).is_some_and(|found| end <= found.end);
            if place.is_none() && is_there {
                self.write_settled(BadStretch { position, end });
            }
        }
        if !unsettled.is_empty() {
            // Written once all before it is synced. The one found at start leads to the damage.
            self.write_manifest();
        }
    }

    fn write_settled(&mut self, stretch: BadStretch) {
        let location = self.append(&Record::Settled(stretch), true);
        self.segments.add_live(location, None);
        if let Some((_, old)) = self.quarantine.settled.insert(stretch.position, (stretch.end, location)) {
            self.segments.drop_live(old, None);
        }
    }

    /// Writes anew, at the log's end, what is said at this position, if it is still of use.
    pub(super) fn rewrite_settled(&mut self, position: u64, stretch: BadStretch) {
        let said = self.quarantine.settled.get(&stretch.position);
        if said.is_some_and(|(_, location)| location.position == position) {
            self.write_settled(stretch);
        }
    }

    /// Segments are gone, and with them their bad stretches.
    pub(super) fn forget_settled(&mut self) {
        let segments = &mut self.segments;
        self.quarantine.settled.retain(|&position, (_, location)| {
            let is_there = segments.at(position).is_some();
            if !is_there {
                segments.drop_live(*location, None);
            }
            is_there
        });
    }

    /// A place holds again what every other owner held of it: it is served once that is durable.
    pub fn lift(&mut self, place: At) {
        if !self.quarantine.places.contains(&place) || self.quarantine.lifting.contains_key(&place) {
            return;
        }
        let Some(&(record, _)) = self.shelf_records.get(&place) else { return };
        // Synced with everything before it: whatever has filled the place, in any keyspace.
        self.write_shelf(ShelfRecord { needs_rebuild: false, ..record }, true);
        self.quarantine.lifting.insert(place, self.log.last_record());
    }

    /// Lets go of places whose header has become durable that says so.
    pub(super) fn end_quarantines(&mut self) {
        if self.quarantine.lifting.is_empty() {
            return;
        }
        let log = &self.log;
        let is_over = |ticket: Ticket| log.is_durable(ticket, Durability::Sync);
        let over = self.quarantine.lifting.extract_if(.., |_, ticket| is_over(*ticket));
        for (place, _) in over {
            self.quarantine.places.remove(&place);
        }
        self.keep_evidence();
    }

    /// Segments older than what has been given up stay while that may be all there is.
    fn keep_evidence(&mut self) {
        let given_up = |place: &At| self.shelf_records.get(place).map(|(record, _)| record.dropped_below);
        self.segments.keep_below(self.quarantine.places.iter().filter_map(given_up).max().unwrap_or(0));
    }
}
