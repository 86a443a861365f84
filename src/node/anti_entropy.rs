//! Anti-entropy: owners compare their copies in the background, and exchange what differs.
//!
//! ```text
//! Resting --time, nothing urgent--> the places shared with one other owner
//!   Compare(roots)  --> which of them differ, with their leaves     (a few of them at a time)
//!   List(leaves)    --> which keys of those leaves it lacks, and which it has that we lack
//!   Fetch(keys)     --> objects, merged here
//!   Transfer(ours)  --> merged there                            --> next place, next owner, Resting
//! ```
//! Each owner compares with the next one of the sector's slots that answers, so that what one has
//! comes round to all. Bytes on the wire follow the difference, not the
//! data. Copies are compared only under one configuration of the sector. One step is out at a
//! time, on the bulk link, and the next waits while requests of clients do. Whatever goes wrong
//! ends the exchange: what it was about is met again when the round comes to it. Before the rounds
//! come a repair that was asked for ([`repair`]), and copies in quarantine ([`rebuild`]).

mod answers;
mod rebuild;
mod repair;

pub(super) use answers::Fetching;

use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::pending::RowId;
use super::{Node, Row};
use crate::engine::{At, Fetched, LEAVES, Loaded, Wanted};
use crate::limits::{
    COMPARE_EVERY_MS, COMPARE_PLACES_MAX, COMPARE_RETRY_MS, COMPARE_STEP_MS, LISTED_KEYS_MAX,
    ROWS_BEFORE_REPAIR, TRANSFER_CHUNK_BYTES,
};
use crate::mutant::Mutant;
use crate::ring::Durability;
use crate::types::{Fence, Instant, Key, NodeId, Now, SectorId};
use crate::version::Object;
use crate::wire::peer::{Listed, PeerReply, PeerRequest, Place};
use rebuild::Rebuild;
use repair::Repair;
use std::collections::{BTreeMap, VecDeque};
use twox_hash::XxHash3_64;

/// Places whose roots are told in one question. What is not looked at, since too many differ, is told
/// again.
const ROOTS_AT_ONCE: usize = 128;
/// Keys of which one message lists the hashes, but for those of its last leaf: a millisecond of
/// either loop.
const LISTED_AT_ONCE: usize = 4096;
/// Keys asked for at once: with long keys as many bytes as the objects that answer.
const FETCHED_AT_ONCE: usize = 256;
/// How long a comparison waits while clients do.
const BUSY_MS: u64 = 50;

/// The comparing that this node does of itself.
#[derive(Debug, Default)]
pub(super) struct AntiEntropy {
    /// Not before then.
    look_at: Instant,
    /// Where the next round begins.
    cursor: Option<At>,
    /// Owners still to be compared with in this round, and what is shared with them.
    rounds: VecDeque<(NodeId, Vec<Place>)>,
    /// What is being exchanged with one of them.
    exchange: Option<Exchange>,
    /// A round is under way; else none begins before then.
    in_round: bool,
    round_at: Instant,
    /// The latest round that was asked for.
    repair: Option<Repair>,
    rebuild: Rebuild,
}

/// What an exchange is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// It is of a round.
    Round,
    /// A repair was asked for: and this has gone wrong so often.
    Repair { tries: u8 },
    /// This node's copies are in quarantine.
    Rebuild,
}

/// What is being exchanged with one owner.
#[derive(Debug)]
struct Exchange {
    peer: NodeId,
    /// Places not compared yet.
    places: VecDeque<Place>,
    /// Places found to differ, with the leaves in which they do.
    differing: VecDeque<(Place, Vec<u8>)>,
    /// The place whose leaves are being asked about.
    asking: Option<Place>,
    /// Of the first of the differing leaves the other owner had more to offer than one answer takes.
    has_more: bool,
    /// Places that could not be made equal.
    missed: BTreeMap<At, Place>,
    step: Step,
    /// Places there were.
    total: usize,
    purpose: Purpose,
}

/// What comes next, or is out.
#[derive(Debug)]
enum Step {
    /// Take the next thing.
    Next,
    /// Fetch these, then send those.
    Fetch { place: Place, offered: VecDeque<Key>, wanted: VecDeque<Key> },
    /// Send these.
    Send { place: Place, wanted: VecDeque<Key> },
}

/// A step that is out: a row of the pending table.
#[derive(Debug)]
pub(super) struct Comparing {
    peer: NodeId,
    retry_at: Instant,
    asked: Asked,
}

/// What was asked.
#[derive(Debug)]
enum Asked {
    /// Whether these differ.
    Roots,
    /// What there is under these leaves of a place.
    Leaves(Place, Vec<u8>),
    /// Objects.
    Objects(Place),
    /// That so many objects be merged.
    Merge(usize),
}

/// A name for a key in a list: 64 bits of it.
fn hash_of(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

impl Exchange {
    fn new(peer: NodeId, places: Vec<Place>, purpose: Purpose) -> Self {
        let (total, places) = (places.len(), places.into());
        let (differing, missed) = (VecDeque::new(), BTreeMap::new());
        let (asking, has_more, step) = (None, false, Step::Next);
        Self { peer, places, differing, asking, has_more, missed, step, total, purpose }
    }

    /// Whether somebody has asked for it.
    fn is_asked(&self) -> bool {
        matches!(self.purpose, Purpose::Repair { .. })
    }

    /// A place that cannot be made equal, or of which that is not known.
    fn miss(&mut self, place: Place) {
        self.missed.insert((place.keyspace, place.sector), place);
    }

    /// Not all of a place that was offered could be had.
    fn miss_offered(&mut self, place: Place) {
        self.miss(place);
        // The same would be offered again and again.
        if std::mem::take(&mut self.has_more)
            && let Some((_, leaves)) = self.differing.front_mut()
        {
            leaves.remove(0);
        }
    }
}

impl Comparing {
    pub(super) fn wake(&self) -> Instant {
        self.retry_at
    }
}

impl AntiEntropy {
    pub(super) fn wake(&self) -> Instant {
        self.look_at
    }
}

impl Node {
    /// Begins the next round, or goes on with the one under way, if its time has come and nobody
    /// waits for this node.
    pub(super) fn repair_copies(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.mono < self.anti_entropy.look_at {
            return;
        }
        let is_asked = self.is_repairing();
        let is_wanted = is_asked || self.is_rebuilding() || self.anti_entropy.exchange.is_some();
        if self.options.compare_every_ms == 0 && !is_wanted {
            return self.rest(now, COMPARE_EVERY_MS);
        }
        let skipped = self.options.planted.is(Mutant::SkipAntiEntropy);
        if self.pending.len() > ROWS_BEFORE_REPAIR || self.stopping || skipped {
            return self.rest(now, BUSY_MS);
        }
        let is_anew = self.anti_entropy.exchange.is_none() && self.anti_entropy.rounds.is_empty();
        if self.anti_entropy.exchange.is_none() {
            self.next_exchange(now);
        }
        if self.anti_entropy.exchange.is_some() {
            self.take_step(now, out);
        } else if is_asked {
            // Owners that do not answer are asked again a little later.
            self.rest(now, BUSY_MS);
        } else if self.options.compare_every_ms == 0 || now.mono < self.anti_entropy.round_at {
            // Owners that are to fill what is in quarantine are not there, or not ready.
            self.rest(now, COMPARE_RETRY_MS);
        } else if is_anew && self.anti_entropy.cursor.is_none() {
            // Nobody to compare with: a node that has just started finds its peers in a moment.
            self.rest(now, COMPARE_RETRY_MS);
        } else {
            self.rest_after_exchange(now);
        }
    }

    /// The next owner to compare with; at the end of a round, what the next one is of.
    fn next_exchange(&mut self, now: Now) {
        self.anti_entropy.exchange = self.next_asked(now).or_else(|| self.next_rebuild(now));
        if self.anti_entropy.exchange.is_some() || self.is_repairing() || self.options.compare_every_ms == 0 {
            return;
        }
        if self.anti_entropy.rounds.is_empty() {
            if self.anti_entropy.cursor.is_none() && now.mono < self.anti_entropy.round_at {
                return;
            }
            self.anti_entropy.rounds = self.shared_places();
            self.anti_entropy.in_round = true;
        }
        let next = self.anti_entropy.rounds.pop_front().filter(|(peer, _)| self.can_compare(*peer));
        self.anti_entropy.exchange = next.map(|(peer, places)| Exchange::new(peer, places, Purpose::Round));
    }

    /// After the last owner of the last round it is a while until everything is compared again.
    fn rest_after_exchange(&mut self, now: Now) {
        let is_last =
            self.anti_entropy.rounds.is_empty() && self.anti_entropy.cursor.is_none() && !self.is_repairing();
        if !is_last {
            return self.rest(now, COMPARE_STEP_MS);
        }
        let every_ms = self.options.compare_every_ms;
        if std::mem::take(&mut self.anti_entropy.in_round) {
            self.anti_entropy.round_at = now.mono.after_ms(every_ms);
        }
        // Owners that are to fill what is in quarantine are asked again sooner.
        let wait_ms = if self.is_rebuilding() { COMPARE_RETRY_MS } else { every_ms };
        let until_round = u64::from(self.anti_entropy.round_at.ms_left(now.mono));
        self.rest(now, wait_ms.min(until_round).max(COMPARE_STEP_MS));
    }

    fn rest(&mut self, now: Now, ms: u64) {
        self.anti_entropy.look_at = now.mono.after_ms(ms);
    }

    fn can_compare(&self, peer: NodeId) -> bool {
        self.peers.is_well(peer, Lane::Bulk)
    }

    /// The next places that this node owns, by the owner that each is to be compared with.
    fn shared_places(&mut self) -> VecDeque<(NodeId, Vec<Place>)> {
        let (owned, cursor) = self.owned_places(self.anti_entropy.cursor.unwrap_or_default(), None);
        let mut shared: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
        for (place, others) in owned {
            // What is in quarantine is compared with all of them, by the rebuild.
            if self.engine.is_quarantined((place.keyspace, place.sector)) {
                continue;
            }
            if let Some(partner) = others.into_iter().find(|&node| self.can_compare(node)) {
                shared.entry(partner).or_default().push(place);
            }
        }
        self.anti_entropy.cursor = cursor;
        shared.into_iter().collect()
    }

    /// The next places that this node owns, each with its other owners, the next one first; and where
    /// to go on. All of them, or those of one sector.
    fn owned_places(&self, from: At, only: Option<SectorId>) -> (Vec<(Place, Vec<NodeId>)>, Option<At>) {
        let Some(table) = self.table() else { return (Vec::new(), None) };
        let me = self.me();
        let keyspaces = table.keyspaces.range(from.0..);
        let all = keyspaces.flat_map(|(&keyspace, entry)| {
            let first = if keyspace == from.0 { usize::from(from.1.0) } else { 0 };
            let n = usize::from(entry.settings.n);
            table.sectors.iter().enumerate().skip(first).map(move |(at, sector)| (keyspace, n, at, sector))
        });
        let all = all.filter(|&(_, _, at, _)| only.is_none_or(|only| usize::from(only.0) == at));
        let mut owned = Vec::new();
        for (count, (keyspace, n, at, sector)) in all.enumerate() {
            let Ok(id) = u16::try_from(at).map(SectorId) else { continue };
            if count >= COMPARE_PLACES_MAX {
                return (owned, Some((keyspace, id)));
            }
            let owners: Vec<NodeId> = sector.nodes(n).collect();
            let Some(mine) = owners.iter().position(|&node| node == me) else { continue };
            let further = owners.iter().cycle().skip(mine + 1).take(owners.len());
            let others = further.copied().filter(|&node| node != me).collect();
            owned.push((Place { keyspace, sector: id, conf_epoch: sector.conf_epoch }, others));
        }
        (owned, None)
    }

    /// Asks for what comes next, or ends the exchange.
    fn take_step(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(mut exchange) = self.anti_entropy.exchange.take() else { return };
        exchange.asking = None;
        match std::mem::replace(&mut exchange.step, Step::Next) {
            Step::Next => match exchange.differing.pop_front() {
                Some((place, leaves)) => self.ask_leaves(now, exchange, place, leaves, out),
                None if exchange.places.is_empty() => {
                    self.exchange_done(now, &exchange);
                    self.rest_after_exchange(now);
                }
                None => self.ask_roots(now, exchange, out),
            },
            Step::Fetch { place, offered, wanted } if offered.is_empty() => {
                exchange.step = Step::Send { place, wanted };
                self.anti_entropy.exchange = Some(exchange);
                self.take_step(now, out);
            }
            Step::Fetch { place, offered, wanted } => {
                let keys = offered.iter().take(FETCHED_AT_ONCE).cloned().collect();
                let message = PeerRequest::Fetch { place, keys };
                exchange.step = Step::Fetch { place, offered, wanted };
                self.ask_of(now, exchange, Asked::Objects(place), message, out);
            }
            Step::Send { wanted, .. } if wanted.is_empty() => {
                self.anti_entropy.exchange = Some(exchange);
                self.take_step(now, out);
            }
            Step::Send { place, wanted } => {
                exchange.step = Step::Send { place, wanted };
                self.anti_entropy.exchange = Some(exchange);
                self.send_wanted(now, &Loaded::new(), out);
            }
        }
    }

    fn ask_roots(&mut self, now: Now, exchange: Exchange, out: &mut Vec<Output>) {
        let root = |&place: &Place| (place, self.engine.tree_root((place.keyspace, place.sector)));
        let places = exchange.places.iter().take(ROOTS_AT_ONCE).map(root).collect();
        self.ask_of(now, exchange, Asked::Roots, PeerRequest::Compare { places }, out);
    }

    /// Asks of as many leaves as make a list of bearable length.
    fn ask_leaves(
        &mut self,
        now: Now,
        mut exchange: Exchange,
        place: Place,
        leaves: Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        let at = (place.keyspace, place.sector);
        let (mut listed, mut asked, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for leaf in leaves {
            if listed.len() >= LISTED_AT_ONCE {
                later.push(leaf);
                continue;
            }
            let keys = self.engine.tree_leaf(at, leaf);
            listed.extend(keys.map(|(key, object)| Listed { key: hash_of(&key), object }));
            asked.push(leaf);
        }
        if !later.is_empty() {
            exchange.differing.push_front((place, later));
        }
        if listed.len() > LISTED_KEYS_MAX {
            log::warn!(
                "sector {} has too many keys to be compared ({} under one leaf): a cluster of this size needs \
                 more sectors",
                place.sector,
                listed.len()
            );
            exchange.miss(place);
            self.anti_entropy.exchange = Some(exchange);
            return self.rest(now, COMPARE_STEP_MS);
        }
        exchange.asking = Some(place);
        let message = PeerRequest::List { place, leaves: asked.clone(), listed };
        self.ask_of(now, exchange, Asked::Leaves(place, asked), message, out);
    }

    fn ask_of(
        &mut self,
        now: Now,
        exchange: Exchange,
        asked: Asked,
        message: PeerRequest,
        out: &mut Vec<Output>,
    ) {
        let peer = exchange.peer;
        if !self.can_compare(peer) {
            // The exchange ends here; a later round meets the same places.
            self.exchange_failed(now, &exchange);
            return self.rest_after_exchange(now);
        }
        let id = self.pending.reserve();
        out.push(Output::Peer { to: peer, lane: Lane::Bulk, request: id.into(), message });
        self.anti_entropy.exchange = Some(exchange);
        let retry_at = now.mono.after_ms(COMPARE_RETRY_MS);
        self.anti_entropy.look_at = retry_at;
        self.put_row_back(id, Row::Comparing(Comparing { peer, retry_at, asked }));
    }

    /// Sends what the other owner wants, if it is in memory or has been read.
    fn send_wanted(&mut self, now: Now, loaded: &Loaded, out: &mut Vec<Output>) {
        let Some(mut exchange) = self.anti_entropy.exchange.take() else { return };
        let Step::Send { place, wanted } = &mut exchange.step else {
            self.anti_entropy.exchange = Some(exchange);
            return;
        };
        let place = *place;
        let taken = self.take_objects((place.keyspace, place.sector), wanted.iter(), loaded);
        match taken {
            Taken::OnDisk(missing) => {
                let deadline = now.mono.after_ms(COMPARE_RETRY_MS);
                self.anti_entropy.exchange = Some(exchange);
                self.anti_entropy.look_at = deadline;
                self.wait_for(Waiting::new(Then::Repair, loaded.clone(), deadline), missing);
            }
            Taken::Whole { count, entries, .. } => {
                wanted.drain(..count);
                let asked = Asked::Merge(entries.len());
                let message = PeerRequest::Transfer { place, fence: self.fences.adopted(), entries };
                self.ask_of(now, exchange, asked, message, out);
            }
        }
    }

    /// Values for the other owner have been read, as far as they could be.
    pub(super) fn repair_loaded(&mut self, now: Now, loaded: &Loaded, out: &mut Vec<Output>) {
        self.send_wanted(now, loaded, out);
    }

    /// They could not be: the exchange ends.
    pub(super) fn repair_again(&mut self, now: Now) {
        self.end_exchange(now);
    }

    /// Something went wrong.
    fn end_exchange(&mut self, now: Now) {
        if let Some(exchange) = self.anti_entropy.exchange.take() {
            self.exchange_failed(now, &exchange);
        }
        self.rest(now, COMPARE_RETRY_MS);
    }

    /// Objects of keys, as many as make a message: how many keys that are, and those held whole.
    fn take_objects<'a>(&mut self, at: At, keys: impl Iterator<Item = &'a Key>, loaded: &Loaded) -> Taken {
        let (mut entries, mut missing, mut bytes, mut count, mut lacking) = (Vec::new(), Vec::new(), 0, 0, 0);
        // What is left of a damaged copy may be older than what has been reaped elsewhere.
        let gives = !self.engine.is_quarantined(at);
        for key in keys {
            if bytes >= TRANSFER_CHUNK_BYTES {
                break;
            }
            count += 1;
            if !gives {
                lacking += 1;
                continue;
            }
            let values = self.engine.outline(at, key).map_or(0, |outline| {
                outline.siblings().iter().map(|sibling| sibling.content.kind.value_bytes()).sum()
            });
            bytes += 64 + key.len() + values;
            match self.engine.read(at, key, |_| true, loaded) {
                Fetched::Whole(object) => entries.push((key.clone(), object)),
                Fetched::OnDisk(wanted) => missing.extend(wanted),
                // Gone since.
                Fetched::Absent => {}
                // Another owner's copy must do.
                Fetched::Unreadable => lacking += 1,
            }
        }
        if missing.is_empty() { Taken::Whole { count, lacking, entries } } else { Taken::OnDisk(missing) }
    }

    // ---- answers ---------------------------------------------------------------------------

    pub(super) fn compare_reply(
        &mut self,
        now: Now,
        id: RowId,
        row: Comparing,
        from: NodeId,
        message: PeerReply,
    ) {
        if from != row.peer {
            return self.put_row_back(id, Row::Comparing(row));
        }
        self.pending.end(id);
        let Some(mut exchange) = self.anti_entropy.exchange.take() else { return };
        match (row.asked, message) {
            (Asked::Roots, PeerReply::Differ { compared, apart, places }) => {
                let apart = apart.iter().filter_map(|&at| exchange.places.get(usize::from(at)).copied());
                apart.collect::<Vec<_>>().into_iter().for_each(|place| exchange.miss(place));
                exchange.places.drain(..exchange.places.len().min(usize::from(compared)));
                let mut differ = |(place, leaves): (Place, Vec<u64>)| {
                    let ours = self.engine.tree_leaves((place.keyspace, place.sector));
                    let leaf = |at: usize| (ours.get(at) != leaves.get(at)).then(|| u8::try_from(at).ok())?;
                    let leaves: Vec<u8> = (0..LEAVES).filter_map(leaf).collect();
                    if !leaves.is_empty() {
                        exchange.differing.push_back((place, leaves));
                    }
                };
                places.into_iter().for_each(&mut differ);
                if compared == 0 {
                    std::mem::take(&mut exchange.places).into_iter().for_each(|place| exchange.miss(place));
                }
            }
            (Asked::Leaves(place, mut leaves), PeerReply::Listing { done, offered, wanted }) => {
                // Of a leaf with more than one answer takes some is offered, and it is asked about again.
                exchange.has_more = done == 0 && !offered.is_empty();
                let done = if exchange.has_more { 0 } else { usize::from(done).max(1) };
                let later = leaves.split_off(leaves.len().min(done));
                if !later.is_empty() {
                    exchange.differing.push_front((place, later));
                }
                let at = (place.keyspace, place.sector);
                // What is in quarantine is not given to others.
                let gives = !self.engine.is_quarantined(at);
                let wanted = if gives { self.keys_named(at, &leaves, &wanted) } else { VecDeque::new() };
                exchange.step = Step::Fetch { place, offered: offered.into(), wanted };
            }
            (Asked::Objects(place), PeerReply::Objects { taken, lacking, fence, entries }) => {
                let is_merged = self.merge_fetched(place, fence, &entries);
                if !is_merged || lacking > 0 || taken == 0 {
                    exchange.miss_offered(place);
                }
                if let Some(repair) = self.anti_entropy.repair.as_mut().filter(|_| exchange.is_asked())
                    && is_merged
                {
                    repair.fetched += entries.len() as u64;
                }
                if let Step::Fetch { offered, .. } = &mut exchange.step {
                    let count =
                        if taken == 0 { offered.len() } else { offered.len().min(usize::from(taken)) };
                    offered.drain(..count);
                }
            }
            (Asked::Merge(count), PeerReply::Stored { .. }) => {
                if let Some(repair) = self.anti_entropy.repair.as_mut().filter(|_| exchange.is_asked()) {
                    repair.sent += count as u64;
                }
            }
            // Stale, behind, full or busy: the exchange ends, and the next round meets it again.
            (asked, _) => {
                if let Asked::Leaves(place, _) | Asked::Objects(place) = asked {
                    exchange.asking = Some(place);
                }
                self.exchange_failed(now, &exchange);
                return self.rest(now, COMPARE_RETRY_MS);
            }
        }
        self.anti_entropy.exchange = Some(exchange);
        self.rest(now, COMPARE_STEP_MS);
    }

    /// The keys under these leaves that a peer wants, by the names it gives them.
    fn keys_named(&self, at: At, leaves: &[u8], names: &[u64]) -> VecDeque<Key> {
        let mut names = names.to_vec();
        names.sort_unstable();
        let keys = leaves.iter().flat_map(|&leaf| self.engine.tree_leaf(at, leaf)).map(|entry| entry.0);
        keys.filter(|key| names.binary_search(&hash_of(key)).is_ok()).collect()
    }

    /// Whether they may be merged, and were.
    fn merge_fetched(&mut self, place: Place, fence: Fence, entries: &[(Key, Object)]) -> bool {
        let at = (place.keyspace, place.sector);
        let Some(table) = self.table() else { return false };
        let durability =
            table.keyspaces.get(&at.0).map_or(Durability::Sync, |entry| entry.settings.durability);
        let is_current = table.sector(place.sector).conf_epoch == place.conf_epoch;
        if !is_current || !self.space.takes_anything() || self.passes(fence).is_err() {
            return false;
        }
        for (key, object) in entries {
            self.engine.merge(at, key, object, durability);
        }
        true
    }

    pub(super) fn compare_lost(&mut self, now: Now, id: RowId, row: Comparing, peer: NodeId) {
        if row.peer == peer {
            self.compare_wake(now, id);
        } else {
            self.put_row_back(id, Row::Comparing(row));
        }
    }

    /// No answer in time: the exchange ends.
    pub(super) fn compare_wake(&mut self, now: Now, id: RowId) {
        self.pending.end(id);
        self.end_exchange(now);
    }
}

/// Objects asked for.
enum Taken {
    /// These values first.
    OnDisk(Vec<Wanted>),
    /// So many keys' worth: what is held of them, and how many are held that cannot be given.
    Whole { count: usize, lacking: usize, entries: Vec<(Key, Object)> },
}
