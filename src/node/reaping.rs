//! Reaping: tombstones go at last, and contexts that have grown are trimmed (CONSISTENCY.md, section
//! 4). Led by the first owner of a sector, for many of its keys at once.
//!
//! ```text
//! Looking --keys of which long since only a tombstone is left-->
//!   Agreeing    every owner holds the very same, durably; keys of which that is not so drop out
//!   Adopting    every member marks what it reads with a new fence, keeps no hints, and ends what it
//!               began before
//!   Enforcing   every member refuses what was read before the fence
//!   --> every owner lets the keys go, if they are still the same       --> Looking
//! ```
//! The order is what makes it safe. Every owner has the tombstone before the fence is adopted: so what
//! is read behind the fence has it, or what replaced it. What was read before is refused. So no copy
//! of a value that the tombstone replaced is left, now or ever, and nothing can bring it back; a
//! message that says "let it go" may even come late, or twice. Whatever goes wrong on the way ends
//! the round: an owner that keeps its tombstone spreads it again, and it is met again.
//!
//! A member that is away holds every round up, as it must: nobody knows what it will bring back. A
//! sector takes no part while it moves, or while somebody holds a copy who is no owner.

use super::io::{Lane, Output};
use super::pending::RowId;
use super::{Ack, Node, Row};
use crate::engine::{At, Kind, Outline, Stored};
use crate::limits::{
    CONTEXT_GROWN, REAP_LOOK_KEYS, REAP_LOOK_MS, REAP_REST_MS, REAP_RETRY_MS, REAP_STEP_MS_MAX,
    REAPED_AT_ONCE, ROWS_BEFORE_REPAIR, TRANSFER_CHUNK_BYTES,
};
use crate::mutant::Mutant;
use crate::ring::{Durability, Slot, Table};
use crate::types::{Fence, Instant, Key, NodeId, Now, SectorId, WallMs};
use crate::version::Sibling;
use crate::wire::peer::{FenceStep, PeerReply, PeerRequest, Place, Relic, RoundId};
use std::sync::Arc;

/// What this node does to let go of what is of no use any more.
#[derive(Debug, Default)]
pub(super) struct Reaping {
    look_at: Instant,
    /// Where the looking goes on.
    cursor: Option<(At, Option<Key>)>,
    /// What was found since the last round, and its bytes.
    found: Relics,
    bytes: usize,
    round: Option<Round>,
    /// Rounds led in this life.
    rounds: u32,
}

/// Keys to be settled, by place.
type Relics = Vec<(Place, Vec<Relic>)>;

/// A round under way.
#[derive(Debug)]
struct Round {
    id: RoundId,
    fence: Fence,
    /// As it was asked: answers name keys by their places in it.
    relics: Relics,
    /// Keys that some owner does not hold like the others; they drop out with the end of the step.
    differing: Vec<(Place, Key)>,
    /// Sectors that take no part; the same.
    strange: Vec<SectorId>,
    step: Step,
    /// The step is given up then.
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Agreeing,
    Fencing(FenceStep),
}

/// A question of a round that is out: a row of the pending table.
#[derive(Debug)]
pub(super) struct Settling {
    /// Who has not answered.
    awaited: Vec<NodeId>,
    /// Who is to be asked again.
    again: Vec<NodeId>,
    /// Our own answer, until it is durable.
    own: Option<PeerReply>,
    retry_at: Instant,
}

impl Settling {
    pub(super) fn wake(&self) -> Instant {
        self.retry_at
    }
}

impl Reaping {
    pub(super) fn wake(&self) -> Instant {
        self.look_at
    }
}

/// Bytes that a relic takes on its way, about.
fn relic_bytes(relic: &Relic) -> usize {
    32 + relic.key.len() + 16 * relic.context.entries().len()
}

/// Whether a key goes one day even if nobody deletes it, rather than having its context trimmed.
///
/// No clock is asked: every owner must come to the same answer. (Of a context that had grown, and
/// whose value expired while the round was under way, one owner forgot the key by its clock and the
/// others trimmed the context by theirs; these brought the key back.)
fn is_passing(outline: &Outline) -> bool {
    let passes =
        |sibling: &Sibling<Stored>| sibling.content.kind == Kind::Tombstone || sibling.expiry.is_some();
    outline.siblings().iter().all(passes)
}

/// Whether nothing but a tombstone, or a value whose time was over, was left before `wall`.
fn was_dead(outline: &Outline, wall: WallMs) -> bool {
    outline.siblings().iter().all(|sibling| {
        sibling.stamp.wall() <= wall && (sibling.content.kind == Kind::Tombstone || sibling.has_expired(wall))
    })
}

/// Whether a context has far more entries than it has siblings, and had so before `wall`.
fn had_grown(outline: &Outline, wall: WallMs) -> bool {
    let old = |sibling: &Sibling<_>| sibling.stamp.wall() <= wall;
    outline.context().entries().len() >= outline.siblings().len() + CONTEXT_GROWN
        && outline.siblings().iter().all(old)
}

impl Node {
    /// Looks further for what may go, or begins a round, if its time has come and nobody waits for
    /// this node.
    pub(super) fn reap(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.mono < self.reaping.look_at {
            return;
        }
        self.reaping.look_at = now.mono.after_ms(REAP_LOOK_MS);
        let Some(table) = self.table().cloned() else { return };
        if self.reaping.round.is_some() || self.stopping {
            // Its row knows when it goes on.
            self.reaping.look_at = now.mono.after_ms(REAP_REST_MS);
            return;
        }
        if self.pending.len() > ROWS_BEFORE_REPAIR {
            return;
        }
        if self.other_members(&table).is_none() || self.keeps_copies() {
            // No round could come to an end: what was found is kept.
            self.reaping.look_at = now.mono.after_ms(REAP_RETRY_MS);
            return;
        }
        let was_all = self.look_for_relics(now, &table);
        let is_full = self.reaping.bytes >= TRANSFER_CHUNK_BYTES || self.relics_found() >= REAPED_AT_ONCE;
        if !self.reaping.found.is_empty() && (was_all || is_full) {
            self.begin_round(now, &table, out);
        } else if was_all {
            self.reaping.look_at = now.mono.after_ms(REAP_REST_MS);
        }
    }

    /// Looks at some more keys of the sectors that this node leads. Returns whether it has come round.
    fn look_for_relics(&mut self, now: Now, table: &Arc<Table>) -> bool {
        let before = WallMs(now.wall.0.saturating_sub(self.options.reap_after_ms));
        let (from, mut after) = self.reaping.cursor.take().unwrap_or_default();
        let mut looked = 0;
        for at in self.engine.places(from).collect::<Vec<_>>() {
            let Some(place) = self.leads(table, at) else { continue };
            let after = after.take().filter(|_| at == from);
            let (mut relics, mut bytes, mut last) = (Vec::new(), 0, None);
            for (key, outline) in self.engine.walk(at, after.as_ref()) {
                let is_enough = self.reaping.bytes + bytes >= TRANSFER_CHUNK_BYTES
                    || self.relics_found() + relics.len() >= REAPED_AT_ONCE;
                if looked >= REAP_LOOK_KEYS || is_enough {
                    self.reaping.cursor = Some((at, last));
                    break;
                }
                looked += 1;
                last = Some(key.clone());
                let is_due = if is_passing(&outline) { was_dead } else { had_grown };
                if is_due(&outline, before) {
                    let digest = self.digest(&outline, &key);
                    let relic = Relic { key, digest, context: outline.context().clone() };
                    bytes += relic_bytes(&relic);
                    relics.push(relic);
                }
            }
            self.reaping.bytes += bytes;
            if !relics.is_empty() {
                self.reaping.found.push((place, relics));
            }
            if self.reaping.cursor.is_some() {
                return false;
            }
        }
        true
    }

    fn relics_found(&self) -> usize {
        self.reaping.found.iter().map(|entry| entry.1.len()).sum()
    }

    /// The place, if this node is to lead there: the first owner of a sector of which nothing moves.
    fn leads(&self, table: &Table, (keyspace, sector): At) -> Option<Place> {
        table.keyspaces.get(&keyspace)?;
        let owners = table.sectors.get(usize::from(sector.0))?;
        let is_settled = owners.slots.iter().all(|slot| matches!(slot, Slot::Settled(_)));
        let is_first = owners.slots.first() == Some(&Slot::Settled(self.me()));
        let place = Place { keyspace, sector, conf_epoch: owners.conf_epoch };
        let is_whole = !self.engine.is_quarantined((keyspace, sector));
        (is_settled && is_first && is_whole).then_some(place)
    }

    /// All members but this one, if every one of them answers.
    fn other_members(&self, table: &Table) -> Option<Vec<NodeId>> {
        let me = self.me();
        let others: Vec<NodeId> = table.present().map(|(node, _)| node).filter(|&node| node != me).collect();
        others.iter().all(|&node| self.peers.is_well(node, Lane::Bulk)).then_some(others)
    }

    fn begin_round(&mut self, now: Now, table: &Arc<Table>, out: &mut Vec<Output>) {
        let relics = std::mem::take(&mut self.reaping.found);
        self.reaping.bytes = 0;
        if self.other_members(table).is_none() {
            return self.end_round(now);
        }
        self.reaping.rounds += 1;
        let id = RoundId {
            epoch: table.epoch,
            leader: self.me(),
            incarnation: self.identity.incarnation,
            number: self.reaping.rounds,
        };
        let fence = Fence(self.fences.adopted().0.saturating_add(1));
        let until = now.mono.after_ms(REAP_STEP_MS_MAX);
        self.reaping.round = Some(Round {
            id,
            fence,
            relics,
            differing: Vec::new(),
            strange: Vec::new(),
            step: Step::Agreeing,
            until,
        });
        if self.options.planted.is(Mutant::ReapUnequal) {
            return self.next_step(now, out);
        }
        self.ask_all(now, out);
    }

    /// The round is over, whatever came of it.
    fn end_round(&mut self, now: Now) {
        self.reaping.round = None;
        // Leaders that met in each other's way are not to meet again at once.
        let turn = u64::from(self.me().0 % 7) + 1;
        self.reaping.look_at = now.mono.after_ms(REAP_RETRY_MS * turn);
    }

    /// What of a round is of one owner.
    fn relics_of(&self, relics: &Relics, node: NodeId) -> Relics {
        let Some(table) = self.table() else { return Vec::new() };
        let owns = |place: &Place| {
            let n = table.keyspaces.get(&place.keyspace).map_or(0, |entry| usize::from(entry.settings.n));
            table.sector(place.sector).nodes(n).any(|owner| owner == node)
        };
        relics.iter().filter(|entry| owns(&entry.0)).cloned().collect()
    }

    /// Asks everybody the question of the present step.
    fn ask_all(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(table) = self.table().cloned() else { return };
        let Some(mut nodes) = self.other_members(&table) else { return self.end_round(now) };
        nodes.push(self.me());
        let id = self.pending.reserve();
        let retry_at = now.mono.after_ms(REAP_RETRY_MS);
        let mut row = Settling { awaited: Vec::new(), again: Vec::new(), own: None, retry_at };
        self.ask_each(id, &mut row, nodes, out);
        self.step_on(now, id, row, out);
    }

    fn ask_each(&mut self, id: RowId, row: &mut Settling, nodes: Vec<NodeId>, out: &mut Vec<Output>) {
        let Some(round) = self.reaping.round.take() else { return };
        let mut own = None;
        let sectors = || -> Vec<SectorId> {
            let mut sectors: Vec<SectorId> = round.relics.iter().map(|entry| entry.0.sector).collect();
            sectors.sort_unstable();
            sectors.dedup();
            sectors
        };
        for to in nodes {
            let is_own = to == self.me();
            let message = match round.step {
                Step::Agreeing => {
                    let places = self.relics_of(&round.relics, to);
                    if is_own {
                        // What we hold is what was found; only, all of it must be durable.
                        let ticket = self.sync_all(out);
                        own = Some((PeerReply::Settled { differ: Vec::new() }, ticket));
                        continue;
                    }
                    if places.is_empty() {
                        continue;
                    }
                    PeerRequest::Settle { reap: false, fence: round.fence, places }
                }
                Step::Fencing(step) => {
                    let sectors = sectors();
                    if is_own {
                        own = Some(self.raise_fence(to, (round.id, step, round.fence), &sectors, out));
                        continue;
                    }
                    PeerRequest::RaiseFence { round: round.id, step, fence: round.fence, sectors }
                }
            };
            out.push(Output::Peer { to, lane: Lane::Bulk, request: id.into(), message });
            row.awaited.push(to);
        }
        self.reaping.round = Some(round);
        if let Some((reply, ticket)) = own {
            self.hold_own(id, row, reply, ticket);
        }
    }

    /// Our own answer counts once it is durable.
    fn hold_own(&mut self, id: RowId, row: &mut Settling, reply: PeerReply, ticket: crate::engine::Ticket) {
        row.awaited.push(self.me());
        row.own = Some(reply);
        if self.gate.hold(&self.engine, ticket, Durability::Sync, Ack::Own(id)).is_some() {
            self.take_own(row);
        }
    }

    fn take_own(&mut self, row: &mut Settling) {
        if let Some(reply) = row.own.take() {
            self.take_settled(row, self.me(), reply);
        }
    }

    pub(super) fn settling_own_durable(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Settling,
        out: &mut Vec<Output>,
    ) {
        self.take_own(&mut row);
        self.step_on(now, id, row, out);
    }

    pub(super) fn settling_reply(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Settling,
        from: NodeId,
        message: PeerReply,
        out: &mut Vec<Output>,
    ) {
        self.take_settled(&mut row, from, message);
        self.step_on(now, id, row, out);
    }

    /// Takes one answer into the round.
    fn take_settled(&mut self, row: &mut Settling, from: NodeId, message: PeerReply) {
        let Some(mut round) = self.reaping.round.take() else { return };
        let before = row.awaited.len();
        row.awaited.retain(|&node| node != from);
        let is_news = row.awaited.len() < before;
        match (round.step, message) {
            _ if !is_news => {}
            (Step::Agreeing, PeerReply::Settled { differ }) => {
                let told = self.relics_of(&round.relics, from);
                let named = differ.iter().filter_map(|&at| nth_relic(&told, at));
                round.differing.extend(named.map(|(place, relic)| (place, relic.key.clone())));
            }
            (Step::Fencing(_), PeerReply::FenceRaised { done: true, strange, .. }) => {
                round.strange.extend(strange);
            }
            // Another round came first: this one cannot go on.
            (Step::Fencing(_), PeerReply::FenceRaised { fence, .. }) if fence > round.fence => {
                round.relics.clear();
            }
            (Step::Fencing(_), PeerReply::FenceRaised { .. }) => row.again.push(from),
            // Stale, behind: the tables differ.
            (Step::Agreeing | Step::Fencing(_), _) => round.relics.clear(),
        }
        self.reaping.round = Some(round);
    }

    /// Goes on with the round once all have answered.
    fn step_on(&mut self, now: Now, id: RowId, row: Settling, out: &mut Vec<Output>) {
        let is_live = self.reaping.round.as_ref().is_some_and(|round| {
            !round.relics.is_empty() && self.table().is_some_and(|table| table.epoch == round.id.epoch)
        });
        if !is_live {
            self.pending.end(id);
            self.end_round(now);
        } else if row.awaited.is_empty() && row.again.is_empty() {
            self.pending.end(id);
            self.next_step(now, out);
        } else {
            self.put_row_back(id, Row::Settling(row));
        }
    }

    fn next_step(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(round) = &mut self.reaping.round else { return };
        let unfenced = self.options.planted.is(Mutant::ReapWithoutFence);
        round.until = now.mono.after_ms(REAP_STEP_MS_MAX);
        round.drop_out();
        if round.relics.is_empty() {
            return self.end_round(now);
        }
        round.step = match round.step {
            Step::Agreeing if !unfenced => Step::Fencing(FenceStep::Adopt),
            Step::Fencing(FenceStep::Adopt) => Step::Fencing(FenceStep::Enforce),
            Step::Agreeing | Step::Fencing(FenceStep::Enforce) => return self.let_all_go(now, out),
        };
        self.ask_all(now, out);
    }

    /// A link to a member is gone: it may be another life of it that answers next, and what the
    /// former one has said holds no more.
    pub(super) fn settling_lost(&mut self, now: Now, id: RowId) {
        self.pending.end(id);
        self.end_round(now);
    }

    /// Some have not answered, or were not done: they are asked once more, for a while.
    pub(super) fn settling_wake(&mut self, now: Now, id: RowId, mut row: Settling, out: &mut Vec<Output>) {
        let is_over = self.reaping.round.as_ref().is_none_or(|round| now.mono >= round.until);
        if is_over || self.table().and_then(|table| self.other_members(table)).is_none() {
            self.pending.end(id);
            return self.end_round(now);
        }
        row.retry_at = now.mono.after_ms(REAP_RETRY_MS);
        if row.own.is_some() {
            // Our own disk is what is waited for.
            return self.put_row_back(id, Row::Settling(row));
        }
        let mut nodes = std::mem::take(&mut row.again);
        nodes.append(&mut row.awaited);
        // Under a name of its own: an earlier answer must not count for this question.
        self.pending.end(id);
        let id = self.pending.reserve();
        self.ask_each(id, &mut row, nodes, out);
        self.step_on(now, id, row, out);
    }

    /// Every owner lets go of what is still as it was.
    fn let_all_go(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(round) = self.reaping.round.take() else { return };
        let Some(table) = self.table().cloned() else { return };
        let me = self.me();
        let mut count = 0;
        for (place, relics) in &round.relics {
            count += relics.iter().filter(|relic| self.let_go(*place, relic, out)).count();
        }
        for to in table.present().map(|(node, _)| node).filter(|&node| node != me) {
            let places = self.relics_of(&round.relics, to);
            if !places.is_empty() && self.peers.is_up(to, Lane::Bulk) {
                let message = PeerRequest::Settle { reap: true, fence: round.fence, places };
                out.push(Output::Peer { to, lane: Lane::Bulk, request: super::NO_ROW, message });
            }
        }
        self.store_fences(out);
        log::debug!("{count} keys reaped or trimmed behind fence {}", round.fence.0);
        // More may have been found already.
        self.reaping.look_at = now.mono;
    }

    /// Lets go of a key if it is held just as told. Returns whether it was.
    fn let_go(&mut self, place: Place, relic: &Relic, out: &mut Vec<Output>) -> bool {
        let at = (place.keyspace, place.sector);
        let Some(outline) = self.same_as(place, relic) else { return false };
        let durability = self.durability_of(place).unsynced();
        let mut left = Vec::new();
        let done = if is_passing(&outline) {
            self.engine.forget(at, &relic.key, outline.context(), durability)
        } else {
            left.extend(outline.siblings().iter().map(|sibling| sibling.dot));
            self.engine.trim(at, &relic.key, durability)
        };
        if done.changed {
            self.fences.raise_stamp(outline.highest_stamp());
            let (key, context) = (relic.key.clone(), outline.context().clone());
            out.push(Output::Reaped { at, key, context, left });
        }
        done.changed
    }

    fn durability_of(&self, place: Place) -> Durability {
        let entry = self.table().and_then(|table| table.keyspaces.get(&place.keyspace));
        entry.map_or(Durability::Sync, |entry| entry.settings.durability)
    }

    /// What is held of a key, if it is just what was told.
    fn same_as(&self, place: Place, relic: &Relic) -> Option<Outline> {
        let at = (place.keyspace, place.sector);
        let same = |outline: &Outline| {
            *outline.context() == relic.context && self.digest(outline, &relic.key) == relic.digest
        };
        self.engine.outline(at, &relic.key).filter(same)
    }

    // ---- the other side --------------------------------------------------------------------

    /// Says which of these keys are held otherwise, once what is held is durable; or lets them go.
    /// Returns an answer to give now, or the ticket for which it waits.
    pub(super) fn settle(
        &mut self,
        (reap, fence): (bool, Fence),
        places: &[(Place, Vec<Relic>)],
        out: &mut Vec<Output>,
    ) -> (PeerReply, Option<crate::engine::Ticket>) {
        let (mut differ, mut at) = (Vec::new(), 0_u16);
        for (place, relics) in places {
            let is_whole = !self.engine.is_quarantined((place.keyspace, place.sector));
            let owns = self.agree(*place, None).is_ok() && is_whole;
            let behind = !reap || self.is_behind(fence);
            for relic in relics {
                let is_same = owns && behind && self.same_as(*place, relic).is_some();
                if !is_same {
                    differ.push(at);
                } else if reap {
                    self.let_go(*place, relic, out);
                }
                at = at.saturating_add(1);
            }
        }
        if reap {
            self.store_fences(out);
        }
        let ticket =
            (!reap && !self.options.planted.is(Mutant::AgreeBeforeDurable)).then(|| self.sync_all(out));
        (PeerReply::Settled { differ }, ticket)
    }

    /// Whether this node enforces a fence: always, if the round is what its leader says; checked all
    /// the same.
    fn is_behind(&self, fence: Fence) -> bool {
        self.fences.enforces(fence) || self.options.planted.is(Mutant::ReapWithoutFence)
    }
}

/// The relic of this number in the whole list.
fn nth_relic(relics: &Relics, at: u16) -> Option<(Place, &Relic)> {
    relics.iter().flat_map(|(place, relics)| relics.iter().map(|relic| (*place, relic))).nth(at.into())
}

impl Round {
    /// A step is over: what cannot go on drops out.
    fn drop_out(&mut self) {
        let (differing, strange) = (std::mem::take(&mut self.differing), std::mem::take(&mut self.strange));
        for (place, relics) in &mut self.relics {
            let differs = |relic: &Relic| differing.iter().any(|(at, key)| at == place && *key == relic.key);
            relics.retain(|relic| !strange.contains(&place.sector) && !differs(relic));
        }
        self.relics.retain(|entry| !entry.1.is_empty());
    }
}
