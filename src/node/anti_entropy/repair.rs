//! A repair that somebody asks for: everything shared is compared once, at once, with every other
//! owner.
//!
//! ```text
//! begun --> batches of places, one owner each --compared--> done
//!             ^            |
//!             +-- again ---+ no answer, refused: a few times, then the places are missed
//! ```
//! It takes the exchanges of [`AntiEntropy`](super::AntiEntropy), one after the other and paced as
//! they are, before those of the rounds, and works where there are no rounds (`--compare-every 0`).
//! One begun while another is under way takes its place; where they are of different sectors, it is
//! of all.

use super::{Exchange, Purpose, Step};
use crate::engine::At;
use crate::limits::COMPARE_RETRY_MS;
use crate::node::Node;
use crate::types::{Instant, NodeId, Now, SectorId};
use crate::wire::client::{ClientReply, RepairStatus};
use crate::wire::peer::Place;
use std::collections::{BTreeMap, VecDeque};

/// How often places are compared with an owner, as long as it does not work: an owner that has just
/// come back is found within this many times [`COMPARE_RETRY_MS`].
const TRIES_MAX: u8 = 4;

/// How far a repair has come. One that is done is kept for its figures.
#[derive(Debug)]
pub(super) struct Repair {
    sector: Option<SectorId>,
    /// Where to go on taking places; none once all were taken.
    cursor: Option<At>,
    batches: VecDeque<Batch>,
    /// Places there were when it was begun, once for each owner to compare them with.
    total: u64,
    compared: u64,
    missed: u64,
    pub(super) sent: u64,
    pub(super) fetched: u64,
}

/// Places to be compared with one owner.
#[derive(Debug)]
struct Batch {
    peer: NodeId,
    places: Vec<Place>,
    /// Times that it went wrong.
    tries: u8,
    not_before: Instant,
}

impl Exchange {
    /// Places that are not known to be equal now, those that could not be made so among them.
    pub(super) fn unfinished(&self) -> BTreeMap<At, Place> {
        let all = self.places.iter().chain(self.missed.values()).copied().chain(self.differing());
        all.map(|place| ((place.keyspace, place.sector), place)).collect()
    }

    /// Places that were found to differ, and are not known to be equal now.
    fn differing(&self) -> impl Iterator<Item = Place> + '_ {
        let step = match &self.step {
            Step::Next => None,
            Step::Fetch { place, .. } | Step::Send { place, .. } => Some(*place),
        };
        self.differing.iter().map(|(place, _)| *place).chain(self.asking).chain(step)
    }

    /// How many places were found to differ, and are not known to be equal now.
    fn known_to_differ(&self) -> usize {
        self.differing().count() + self.missed.len()
    }
}

impl Node {
    /// Begins a repair if that is asked, and says how far the latest has come.
    pub(in crate::node) fn repair_asked(
        &mut self,
        now: Now,
        begin: bool,
        sector: Option<SectorId>,
    ) -> ClientReply {
        let Some(table) = self.table() else {
            return ClientReply::Error("this node has not joined a cluster yet; try again".to_owned());
        };
        let sectors = table.sectors.len();
        if sector.is_some_and(|sector| usize::from(sector.0) >= sectors) {
            return ClientReply::Error(format!("there is no such sector: there are {sectors}, from 0 on"));
        }
        if begin {
            self.begin_repair(now, sector);
        }
        ClientReply::Repair(self.repair_status())
    }

    fn begin_repair(&mut self, now: Now, sector: Option<SectorId>) {
        let before = self.anti_entropy.repair.as_ref().filter(|_| self.is_repairing());
        let sector = sector.filter(|_| before.is_none_or(|before| before.sector == sector));
        let (mut total, mut cursor) = (0, Some(At::default()));
        while let Some(from) = cursor {
            let (owned, next) = self.owned_places(from, sector);
            total += owned.iter().map(|(_, others)| others.len() as u64).sum::<u64>();
            cursor = next;
        }
        log::info!("a repair was asked for: {total} places to compare with other owners");
        let (cursor, batches) = (Some(At::default()), VecDeque::new());
        let repair = Repair { sector, cursor, batches, total, compared: 0, missed: 0, sent: 0, fetched: 0 };
        self.anti_entropy.repair = Some(repair);
        match &mut self.anti_entropy.exchange {
            // It goes on, but what it does was not asked for now.
            Some(exchange) if exchange.is_asked() => exchange.purpose = Purpose::Round,
            Some(_) => {}
            None => self.anti_entropy.look_at = now.mono,
        }
    }

    /// Whether a repair is under way.
    pub(super) fn is_repairing(&self) -> bool {
        let waits = |repair: &Repair| repair.cursor.is_some() || !repair.batches.is_empty();
        let exchange = self.anti_entropy.exchange.as_ref();
        self.anti_entropy.repair.as_ref().is_some_and(waits) || exchange.is_some_and(Exchange::is_asked)
    }

    /// Copies of sectors that are known to differ from another owner's, or that a repair that was asked
    /// for has yet to compare.
    pub(in crate::node) fn repairs_left(&self) -> u64 {
        let background = self.anti_entropy.exchange.as_ref().filter(|exchange| !exchange.is_asked());
        self.repair_status().left + background.map_or(0, |exchange| exchange.known_to_differ() as u64)
    }

    fn repair_status(&self) -> RepairStatus {
        let Some(repair) = &self.anti_entropy.repair else { return RepairStatus::default() };
        let exchange = self.anti_entropy.exchange.as_ref().filter(|exchange| exchange.is_asked());
        let in_hand =
            exchange.map_or(0, |exchange| exchange.total.saturating_sub(exchange.unfinished().len()));
        let compared = repair.compared + in_hand as u64;
        let left = match self.is_repairing() {
            // The table may have changed since they were counted.
            true => repair.total.saturating_sub(compared + repair.missed).max(1),
            false => 0,
        };
        let Repair { sent, fetched, missed, .. } = *repair;
        RepairStatus { compared, sent, fetched, missed, left }
    }

    /// The next exchange that the repair wants, if its time has come.
    pub(super) fn next_asked(&mut self, now: Now) -> Option<Exchange> {
        loop {
            let repair = self.anti_entropy.repair.as_mut()?;
            let ready = repair.batches.iter().position(|batch| batch.not_before <= now.mono);
            let Some(batch) = ready.and_then(|at| repair.batches.remove(at)) else {
                let (from, sector) = (repair.cursor?, repair.sector);
                self.take_places(now, from, sector);
                continue;
            };
            if self.can_compare(batch.peer) {
                let purpose = Purpose::Repair { tries: batch.tries };
                return Some(Exchange::new(batch.peer, batch.places, purpose));
            }
            self.put_off(now, batch.peer, batch.places, batch.tries);
        }
    }

    fn take_places(&mut self, now: Now, from: At, sector: Option<SectorId>) {
        let (owned, cursor) = self.owned_places(from, sector);
        let mut shared: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
        let mut missed = 0;
        for (place, others) in owned {
            if self.engine.is_quarantined((place.keyspace, place.sector)) {
                // That is the rebuild's to end.
                missed += others.len() as u64;
                continue;
            }
            others.into_iter().for_each(|peer| shared.entry(peer).or_default().push(place));
        }
        let Some(repair) = &mut self.anti_entropy.repair else { return };
        repair.cursor = cursor;
        repair.missed += missed;
        let batch = |(peer, places)| Batch { peer, places, tries: 0, not_before: now.mono };
        repair.batches.extend(shared.into_iter().map(batch));
    }

    fn put_off(&mut self, now: Now, peer: NodeId, places: Vec<Place>, tries: u8) {
        let Some(repair) = &mut self.anti_entropy.repair else { return };
        let tries = tries + 1;
        if tries >= TRIES_MAX {
            repair.missed += places.len() as u64;
        } else if !places.is_empty() {
            let not_before = now.mono.after_ms(COMPARE_RETRY_MS);
            repair.batches.push_back(Batch { peer, places, tries, not_before });
        }
    }

    /// An exchange has come to its end.
    pub(super) fn exchange_done(&mut self, now: Now, exchange: &Exchange) {
        match (exchange.purpose, &mut self.anti_entropy.repair) {
            (Purpose::Repair { tries }, Some(repair)) => {
                repair.compared += exchange.total.saturating_sub(exchange.missed.len()) as u64;
                self.put_off(now, exchange.peer, exchange.missed.values().copied().collect(), tries);
            }
            (Purpose::Rebuild, _) => self.note_rebuilt(now, exchange),
            (Purpose::Repair { .. } | Purpose::Round, _) => {}
        }
    }

    /// An exchange has gone wrong: what it has not come to is compared again if that was asked for.
    pub(super) fn exchange_failed(&mut self, now: Now, exchange: &Exchange) {
        let tries = match exchange.purpose {
            Purpose::Repair { tries } => tries,
            Purpose::Rebuild => return self.note_rebuilt(now, exchange),
            Purpose::Round => return,
        };
        let left = exchange.unfinished();
        if let Some(repair) = &mut self.anti_entropy.repair {
            repair.compared += exchange.total.saturating_sub(left.len()) as u64;
        }
        self.put_off(now, exchange.peer, left.into_values().collect(), tries);
    }
}
