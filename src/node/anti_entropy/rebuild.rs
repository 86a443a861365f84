//! The rebuild of places in quarantine: other owners fill what damage has taken from this one.
//!
//! ```text
//! damage found at start --what is left of it given up, durably--> in quarantine, empty
//!   compared with one other owner after the other, and filled with what they have
//! compared with every one of them, under one configuration --> lifted, durably
//! ```
//! *Every* other owner, for a write that was acknowledged may be with any of them: a copy that lacks
//! one and says "nothing here" would complete a quorum which has forgotten it. An owner counts when it
//! has told of all that it holds: not while its own copy is in quarantine, nor while it holds what it
//! cannot read. So of two damaged copies of one place each waits for the other, and where the only
//! copy is damaged nothing comes: that what such copies alone had is lost is for an operator to say
//! (README, "Not built yet").
//!
//! Meanwhile it takes writes, and its acknowledgements count: it has what it acknowledges. Only of a
//! concurrent higher stamp that it had and lost it cannot warn; another owner of that write may.
//!
//! What is given up is a reason for a new incarnation: later writes must not cover dots that went with
//! it. The start which finds the damage has just raised it, and until the quarantine is lifted nothing
//! is coordinated here; so no dot of this life is among those that went, and none needs to be.

use super::{Exchange, Purpose};
use crate::engine::At;
use crate::limits::{COMPARE_PLACES_MAX, COMPARE_RETRY_MS};
use crate::mutant::Mutant;
use crate::node::Node;
use crate::node::hints::kind_of;
use crate::types::{Epoch, Instant, NodeId, Now};
use crate::wire::peer::Place;
use std::collections::{BTreeMap, BTreeSet};

/// How far the rebuild is. All of it begins again with a new life.
#[derive(Debug, Default)]
pub(super) struct Rebuild {
    /// With whom each place has been compared, and under which configuration.
    compared: BTreeMap<At, (Epoch, BTreeSet<NodeId>)>,
    /// What the exchange under way is about.
    asked: Vec<Place>,
    /// Owners from which not all could be had, and when they are asked again.
    again: BTreeMap<NodeId, Instant>,
}

/// Who is to fill a place.
struct Sources {
    place: Place,
    /// All its other owners.
    others: Vec<NodeId>,
    /// Whether one of them has a whole copy by the table.
    has_whole: bool,
}

impl Node {
    /// Does what is to be done about damage found at start, as soon as it is known what it concerns.
    /// First thing in a life, and when there is a table.
    pub(in crate::node) fn settle_damage(&mut self) {
        let found = self.engine.unsettled_damage();
        if found.is_empty() {
            return;
        }
        let is_anybodys = found.iter().any(|damage| damage.place.is_none());
        let mut places: BTreeSet<At> = found.iter().filter_map(|damage| damage.place).collect();
        if is_anybodys {
            places.extend(self.engine.places(At::default()));
            places.extend(self.all_owned_places());
        }
        // Without a table nobody can say which places there were.
        let is_known = !is_anybodys || self.table().is_some();
        let (hints, places): (Vec<At>, Vec<At>) = places
            .into_iter()
            .filter(|&at| self.engine.is_concerned(at))
            .partition(|&at| kind_of(at).is_some());
        if !hints.is_empty() {
            // One whose end was lost would be delivered once more, whatever was reaped since.
            log::warn!("hints are lost with what is damaged: other owners' copies are compared");
            hints.into_iter().for_each(|shelf| self.engine.drop_shelf(shelf));
        }
        if is_known {
            let has_source = |at: &&At| self.sources(**at).is_none_or(|sources| sources.has_whole);
            let alone = places.len() - places.iter().filter(has_source).count();
            log::warn!("{} damaged sectors (of keyspaces) are rebuilt from their other owners", places.len());
            if alone > 0 {
                log::error!("{alone} of them have no other owner, and stay in quarantine: see the README");
            }
            places.into_iter().for_each(|at| self.engine.quarantine(at));
            self.engine.settle_damage();
        }
    }

    fn all_owned_places(&self) -> Vec<At> {
        let (mut all, mut cursor) = (Vec::new(), Some(At::default()));
        while let Some(from) = cursor {
            let (owned, next) = self.owned_places(from, None);
            all.extend(owned.iter().map(|(place, _)| (place.keyspace, place.sector)));
            cursor = next;
        }
        all
    }

    /// Whether places are in quarantine.
    pub(super) fn is_rebuilding(&self) -> bool {
        self.engine.rebuilding().next().is_some()
    }

    /// Who is to fill a place; none if this node does not own it.
    fn sources(&self, at: At) -> Option<Sources> {
        let table = self.table()?;
        let n = usize::from(table.keyspaces.get(&at.0)?.settings.n);
        let owners = table.sectors.get(usize::from(at.1.0))?;
        let me = self.me();
        if !self.owns(at) {
            return None;
        }
        let place = Place { keyspace: at.0, sector: at.1, conf_epoch: owners.conf_epoch };
        // What one had that is given up is gone.
        let is_other = |node: &NodeId| *node != me && !table.is_lost(*node);
        let others = owners.nodes(n).filter(is_other).collect();
        Some(Sources { place, others, has_whole: owners.holders(n).any(|node| is_other(&node)) })
    }

    /// Other owners with whom a place is still to be compared.
    fn missing(&self, sources: &Sources) -> Vec<NodeId> {
        let at = (sources.place.keyspace, sources.place.sector);
        let compared = self.anti_entropy.rebuild.compared.get(&at);
        let known = compared.filter(|entry| entry.0 == sources.place.conf_epoch);
        let is_known = |node: &NodeId| known.is_some_and(|entry| entry.1.contains(node));
        if known.is_some() && self.options.planted.is(Mutant::LiftAfterOneOwner) {
            return Vec::new();
        }
        sources.others.iter().copied().filter(|node| !is_known(node)).collect()
    }

    /// The next exchange that the rebuild wants, with an owner that answers.
    pub(super) fn next_rebuild(&mut self, now: Now) -> Option<Exchange> {
        self.table()?;
        let mut shared: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
        for at in self.engine.rebuilding().collect::<Vec<_>>() {
            let Some(sources) = self.sources(at) else {
                // Nothing is left of it, and nobody asks this node for it; should it own it again,
                // all of it is brought here.
                self.engine.lift(at);
                continue;
            };
            for peer in self.missing(&sources) {
                shared.entry(peer).or_default().push(sources.place);
            }
        }
        let rebuild = &self.anti_entropy.rebuild;
        let is_due = |peer: NodeId| rebuild.again.get(&peer).is_none_or(|&at| at <= now.mono);
        let (peer, mut places) =
            shared.into_iter().find(|&(peer, _)| self.can_compare(peer) && is_due(peer))?;
        places.truncate(COMPARE_PLACES_MAX);
        self.anti_entropy.rebuild.asked.clone_from(&places);
        Some(Exchange::new(peer, places, Purpose::Rebuild))
    }

    /// An exchange for the rebuild has ended, well or not: what it has come to the end of counts.
    pub(super) fn note_rebuilt(&mut self, now: Now, exchange: &Exchange) {
        let left = exchange.unfinished();
        let asked = std::mem::take(&mut self.anti_entropy.rebuild.asked);
        for place in asked {
            let at = (place.keyspace, place.sector);
            if left.contains_key(&at) {
                continue;
            }
            let fresh = || (place.conf_epoch, BTreeSet::new());
            let known = self.anti_entropy.rebuild.compared.entry(at).or_insert_with(fresh);
            if known.0 != place.conf_epoch {
                *known = fresh();
            }
            known.1.insert(exchange.peer);
            let sources = self.sources(at);
            if sources.is_some_and(|sources| sources.has_whole && self.missing(&sources).is_empty()) {
                self.anti_entropy.rebuild.compared.remove(&at);
                self.engine.lift(at);
            }
        }
        if left.is_empty() {
            log::info!("rebuild: {} sectors in quarantine are left", self.engine.rebuilding().count());
            self.anti_entropy.rebuild.again.remove(&exchange.peer);
            return;
        }
        let retry_at = now.mono.after_ms(COMPARE_RETRY_MS);
        if self.anti_entropy.rebuild.again.insert(exchange.peer, retry_at).is_none() {
            log::warn!(
                "rebuild: node {} has not told all that it holds of {} sectors in quarantine: it is asked \
                 again until it does",
                exchange.peer,
                left.len()
            );
        }
    }
}
