//! The coordinator of a read: its own copy and those of R - 1 other owners, merged.
//!
//! ```text
//! begin_get --asks R-1 owners, its digest in the question--> Asking
//! Asking --R slots answered, something held--> answered, settling
//! Asking --all R say "nothing"--> asks on, until N-W+1 slots say so--> "not found"
//! Asking --too slow--> asks one owner more, within a budget ([`hedges`](super::hedges))
//!        --out of reach, deadline--> "unavailable"
//!        --owners are away--> asks fallbacks what they keep for them, unless the quorum is strict
//! settling --everyone asked has answered, or half a second--> row ends
//! ```
//! Whoever answered with less than the merged object is sent it: read repair, by merge alone.
//! Absence is never a version: a replica that has nothing adds nothing. What a fallback keeps for an
//! owner that is away counts as that owner's answer; that it keeps nothing is no absence.

use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::pending::RowId;
use super::request::{Begun, Checked};
use super::{Node, ReplyTo, Row};
use crate::engine::{Fetched, Loaded};
use crate::limits::{FALLBACKS_MAX, HEDGE_DELAY_US, SETTLE_MS};
use crate::mutant::Mutant;
use crate::quorum::Tally;
use crate::ring::{Conflict, Durability, Slot, Table};
use crate::types::{Fence, Instant, Key, NodeId, Now, WallMs};
use crate::version::{Content, Object, Sibling};
use crate::wire::client::{DataReply, DataResult, Provenance, Reason, Terms, TraceRole, TraceStep, Version};
use crate::wire::peer::{PeerReply, PeerRequest, Place, Worth};

/// How often one node is asked the same, behind tables that it lacked.
const ASKS_MAX: u8 = 4;

/// A read that this node coordinates.
#[derive(Debug)]
pub(super) struct Get {
    /// Who is owed the answer; none once it is given.
    to: Option<ReplyTo>,
    started: Instant,
    deadline: Instant,
    /// After the answer: until when stragglers are waited for.
    settle_until: Instant,
    /// When a further owner is asked, if the answer is still owed.
    hedge_at: Instant,
    /// How long the next wait for that is, in microseconds.
    hedge_wait_us: u64,
    /// Nobody was asked but at the start.
    is_first_round: bool,
    place: Place,
    /// Our fence when the first copy was read.
    fence: Fence,
    n: u8,
    conflict: Conflict,
    durability: Durability,
    key: Key,
    /// Our copy when the question went out: what "the same" means.
    own: Own,
    asked: Vec<NodeId>,
    /// Fallbacks that were asked, and the owners in whose place.
    stand_ins: Vec<StandIn>,
    /// What nodes hold, by their own word.
    held: Vec<(NodeId, Option<Object>)>,
    /// Slots that answered, against R.
    answers: Tally,
    /// Slots that say "nothing" and vouch for it, against N - W + 1.
    absences: Tally,
    /// Nodes that hold something and cannot read it: no answer, but they are sent what is merged.
    unreadable: Vec<NodeId>,
    /// What was answered; stragglers that hold less are sent it.
    merged: Option<Object>,
    coordinator: NodeId,
    trace: Option<Vec<TraceStep>>,
}

/// A fallback that was asked what it keeps for owners that are away.
#[derive(Debug)]
struct StandIn {
    node: NodeId,
    absent: NodeId,
    answer: Kept,
    /// How often it was asked: again behind a table that it lacked.
    asks: u8,
}

#[derive(Debug)]
enum Kept {
    Awaited,
    /// It will not say.
    Refused,
    /// What it keeps.
    Told(Option<Object>),
}

/// Our own copy, as far as it is known.
#[derive(Clone, Debug)]
enum Own {
    /// There is none, it cannot be read, or we are no owner.
    Nothing,
    /// Its values are being read from the disk. Nodes that say they hold the same wait for it.
    Loading { digest: u64, same: Vec<NodeId> },
    /// In hand.
    Held { digest: u64, object: Object },
}

impl Own {
    fn digest(&self) -> Option<u64> {
        match self {
            Own::Nothing => None,
            Own::Loading { digest, .. } | Own::Held { digest, .. } => Some(*digest),
        }
    }
}

impl Get {
    pub(super) fn wake(&self) -> Instant {
        if self.to.is_some() {
            self.hedge_at.min(self.deadline)
        } else {
            self.settle_until.min(self.deadline)
        }
    }

    pub(super) fn owes_answer(&self) -> bool {
        self.to.is_some()
    }

    /// Under which fence the copies in hand were read.
    pub(super) fn fence(&self) -> Fence {
        self.fence
    }

    fn is_settled(&self) -> bool {
        let is_told = |entry: &StandIn| !matches!(entry.answer, Kept::Awaited);
        let is_over = |&node: &NodeId| !self.answers.is_awaited(node);
        self.asked.iter().all(is_over) && self.stand_ins.iter().all(is_told)
    }

    fn provenance(&self) -> Provenance {
        let small = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        Provenance {
            coordinator: self.coordinator,
            answered: small(self.answers.accepted()),
            fallbacks: small(self.answers.accepted().saturating_sub(self.answers.by_owners())),
            needed: small(self.answers.needed()),
            slots: small(self.answers.slots()),
            trace: self.trace.clone().unwrap_or_default(),
        }
    }

    /// Why it cannot be answered, once nobody is left to ask or time is up.
    fn refusal(&self) -> DataResult {
        DataResult::Refused(match u8::try_from(self.unreadable.len()).unwrap_or(u8::MAX) {
            0 => Reason::NoQuorum,
            copies => Reason::Unreadable { copies },
        })
    }

    fn micros(&self, now: Now) -> u32 {
        u32::try_from(now.mono.micros_since(self.started)).unwrap_or(u32::MAX - 1)
    }

    fn trace_answered(&mut self, now: Now, node: NodeId) {
        let at = self.micros(now);
        let held = self.held.iter().find(|held| held.0 == node).and_then(|held| held.1.as_ref());
        let dots: Vec<_> = held.map(Object::siblings).unwrap_or_default().iter().map(|s| s.dot).collect();
        for step in self.trace.iter_mut().flatten().filter(|step| step.node == node) {
            step.answered_us = Some(at);
            step.dots.clone_from(&dots);
        }
    }

    /// Every copy that was told, as one.
    fn merge_held(&self) -> Option<Object> {
        let kept = self.stand_ins.iter().filter_map(|entry| match &entry.answer {
            Kept::Told(object) => object.as_ref(),
            Kept::Awaited | Kept::Refused => None,
        });
        let mut copies = self.held.iter().filter_map(|held| held.1.as_ref()).chain(kept);
        let mut merged = copies.next()?.clone();
        for copy in copies {
            merged.merge(copy);
        }
        Some(merged)
    }

    /// What a reader is told of an object.
    fn result(&self, object: &Object, wall: WallMs) -> DataResult {
        let context = object.client_context();
        let live: Vec<&Sibling> = match self.conflict {
            Conflict::Lww => object.winner().into_iter().filter(|winner| winner.is_live(wall)).collect(),
            Conflict::Siblings => object.siblings().iter().filter(|sibling| sibling.is_live(wall)).collect(),
        };
        let values: Vec<Version> = live
            .into_iter()
            .filter_map(|sibling| match &sibling.content {
                Content::Value(value) => {
                    let &Sibling { dot, stamp, expiry, .. } = sibling;
                    Some(Version { dot, stamp, expiry, value: value.clone() })
                }
                Content::Tombstone => None,
            })
            .collect();
        if values.is_empty() {
            DataResult::Missing { context }
        } else {
            DataResult::Found { values, context }
        }
    }
}

impl Node {
    pub(super) fn begin_get(
        &mut self,
        now: Now,
        to: ReplyTo,
        terms: &Terms,
        checked: &Checked,
        out: &mut Vec<Output>,
    ) -> Result<Begun, Reason> {
        let me = self.me();
        let slots = checked.table.slots(checked.sector, checked.settings.n);
        if !self.can_reach_quorum(checked) {
            return Err(Reason::NoQuorum);
        }
        let settings = checked.settings;
        let absences_needed = usize::from(settings.n - settings.w) + 1;
        self.hedges.read_begins();
        let hedge_wait_us = self.hedges.delay_us(|peer| self.peers.is_well(peer, Lane::Foreground));
        let step = TraceStep {
            node: me,
            role: TraceRole::Coordinator,
            asked_us: 0,
            answered_us: None,
            dots: Vec::new(),
        };
        let mut row = Get {
            to: Some(to),
            started: now.mono,
            deadline: checked.deadline,
            settle_until: checked.deadline,
            hedge_at: Instant(now.mono.0 + hedge_wait_us),
            hedge_wait_us,
            is_first_round: true,
            place: Place {
                keyspace: checked.keyspace,
                sector: checked.sector,
                conf_epoch: checked.owners().conf_epoch,
            },
            fence: self.fences.adopted(),
            n: settings.n,
            conflict: settings.conflict,
            durability: settings.durability,
            key: Key::copy_from_slice(&terms.key),
            own: Own::Nothing,
            asked: vec![me],
            stand_ins: Vec::new(),
            held: Vec::new(),
            answers: Tally::sloppy(slots, usize::from(checked.quorum), checked.strict, self.options.planted),
            absences: Tally::new(slots, absences_needed, self.options.planted),
            unreadable: Vec::new(),
            merged: None,
            coordinator: me,
            trace: terms.trace.then(|| vec![step]),
        };
        let id = self.pending.reserve();
        self.read_own(now, id, &mut row, &Loaded::new());
        for _ in 1..checked.quorum {
            self.ask_one_more(now, id, &mut row, out);
        }
        self.get_progress(now, id, row, out);
        Ok(Begun::Done)
    }

    /// Takes our own copy for an answer, or has its values read from the disk; the others are
    /// asked meanwhile.
    fn read_own(&mut self, now: Now, id: RowId, row: &mut Get, loaded: &Loaded) {
        let me = self.me();
        let place = (row.place.keyspace, row.place.sector);
        match self.engine.read(place, &row.key, |_| true, loaded) {
            Fetched::Absent => {
                let vouched = self.vouches(row.durability);
                self.take_answer(now, row, me, None, vouched);
            }
            Fetched::Whole(object) => {
                row.own = Own::Held { digest: self.digest(&object, &row.key), object: object.clone() };
                self.take_answer(now, row, me, Some(object), true);
            }
            Fetched::OnDisk(wanted) => {
                if let Some(outline) = self.engine.outline(place, &row.key) {
                    let same = Vec::new();
                    row.own = Own::Loading { digest: self.digest(&outline, &row.key), same };
                }
                self.wait_for(Waiting::new(Then::Own(id), loaded.clone(), row.deadline), wanted);
            }
            Fetched::Unreadable => {
                row.own = Own::Nothing;
                row.answers.refuse(me);
                row.unreadable.push(me);
            }
        }
    }

    /// Our own copy has been read from the disk, as far as it could be. It may have changed
    /// since the question went out; what is held now is the better answer, and whoever said
    /// "the same" of what was held then is asked again by the read repair that follows.
    pub(super) fn own_loaded(&mut self, now: Now, id: RowId, loaded: &Loaded, out: &mut Vec<Output>) {
        let Some(Row::Get(mut row)) = self.pending.take(id) else { return };
        let before = std::mem::replace(&mut row.own, Own::Nothing);
        self.read_own(now, id, &mut row, loaded);
        if row.to.is_some() && row.answers.is_refused(self.me()) {
            self.ask_one_more(now, id, &mut row, out);
        }
        if let Own::Loading { digest, same } = before {
            match &mut row.own {
                Own::Held { digest: present, object } if *present == digest => {
                    let object = object.clone();
                    for node in same {
                        self.take_answer(now, &mut row, node, Some(object.clone()), true);
                    }
                }
                Own::Loading { digest: present, same: waiting } if *present == digest => *waiting = same,
                // What they hold is no longer known: they are asked for all of it.
                Own::Nothing | Own::Held { .. } | Own::Loading { .. } => {
                    self.ask_again(now, id, &mut row, same, out);
                }
            }
        }
        self.get_progress(now, id, row, out);
    }

    /// Asks nodes for all that they hold which had said "the same" of a copy that is not there
    /// any more.
    fn ask_again(&self, now: Now, id: RowId, row: &mut Get, nodes: Vec<NodeId>, out: &mut Vec<Output>) {
        for node in nodes {
            if self.peers.is_up(node, Lane::Foreground) {
                self.ask(now, id, row, node, out);
            } else {
                row.answers.refuse(node);
            }
        }
    }

    /// Our own copy could not be read just now: others have to make up for it.
    pub(super) fn own_refused(&mut self, now: Now, id: RowId, out: &mut Vec<Output>) {
        let Some(Row::Get(mut row)) = self.pending.take(id) else { return };
        let me = self.me();
        row.answers.refuse(me);
        if let Own::Loading { same, .. } = std::mem::replace(&mut row.own, Own::Nothing) {
            self.ask_again(now, id, &mut row, same, out);
        }
        if row.to.is_some() {
            self.ask_one_more(now, id, &mut row, out);
        }
        self.get_progress(now, id, row, out);
    }

    /// Whether "nothing here" can be relied on for data of this durability.
    pub(super) fn vouches(&self, durability: Durability) -> bool {
        match durability {
            Durability::Sync => true,
            Durability::Os => !self.lost_unsynced,
            Durability::Memory => !self.lost_memory,
        }
    }

    /// Asks the next slot not asked yet, the trusted ones first. False if there is none.
    fn ask_one_more(&self, now: Now, id: RowId, row: &mut Get, out: &mut Vec<Output>) -> bool {
        let slots =
            self.table().map(|table| table.slots(row.place.sector, row.n).to_vec()).unwrap_or_default();
        let up = |node: NodeId| node == self.me() || self.peers.is_up(node, Lane::Foreground);
        let trusted = |node: NodeId| node == self.me() || self.peers.is_trusted(node, now.mono);
        let open = |slot: &&Slot| slot.nodes().any(|node| !row.asked.contains(&node)) && slot.nodes().all(up);
        let next = slots.iter().filter(open).find(|slot| slot.nodes().all(trusted));
        let Some(slot) = next.or_else(|| slots.iter().find(open)) else {
            return self.ask_fallback(now, id, row, &slots, out);
        };
        for node in slot.nodes() {
            if !row.asked.contains(&node) {
                self.ask(now, id, row, node, out);
            }
        }
        true
    }

    /// Asks a fallback in the place of an owner that cannot be asked, or will not answer. False if
    /// there is no such owner, or nobody to stand in.
    fn ask_fallback(
        &self,
        now: Now,
        id: RowId,
        row: &mut Get,
        slots: &[Slot],
        out: &mut Vec<Output>,
    ) -> bool {
        if row.answers.is_strict() || row.stand_ins.len() >= FALLBACKS_MAX {
            return false;
        }
        let is_stood_for = |node: NodeId| {
            row.stand_ins.iter().any(|entry| entry.absent == node && !matches!(entry.answer, Kept::Refused))
        };
        let is_away = |node: NodeId| !self.reaches(node) || row.answers.is_refused(node);
        let lacks = |node: NodeId| is_away(node) && !is_stood_for(node) && !row.unreadable.contains(&node);
        // The slot that takes the fewest: of a moving one both nodes may be away.
        let lacking = |slot: &&Slot| slot.nodes().filter(|&node| lacks(node)).count();
        let slot = slots.iter().filter(|slot| lacking(slot) > 0).min_by_key(lacking);
        let found = slot.and_then(|slot| Some((slot, slot.nodes().find(|&node| lacks(node))?)));
        let Some((slot, absent)) = found else { return false };
        // Its other node, if it has one, answers for itself.
        let others: Vec<NodeId> =
            slot.nodes().filter(|&node| !is_away(node) && !row.asked.contains(&node)).collect();
        let is_asked = |node: NodeId| row.stand_ins.iter().any(|entry| entry.node == node);
        let fallback = self
            .table()
            .filter(|table| table.sector(row.place.sector).conf_epoch == row.place.conf_epoch)
            .and_then(|table| self.fallbacks(table, row.place.sector).find(|&node| !is_asked(node)));
        let Some(node) = fallback else { return false };
        others.into_iter().for_each(|other| self.ask(now, id, row, other, out));
        row.stand_ins.push(StandIn { node, absent, answer: Kept::Awaited, asks: 1 });
        self.send_read(now, id, row, node, TraceRole::Fallback, out);
        true
    }

    fn ask(&self, now: Now, id: RowId, row: &mut Get, to: NodeId, out: &mut Vec<Output>) {
        row.asked.push(to);
        self.send_read(now, id, row, to, TraceRole::Replica, out);
    }

    fn send_read(
        &self,
        now: Now,
        id: RowId,
        row: &mut Get,
        to: NodeId,
        role: TraceRole,
        out: &mut Vec<Output>,
    ) {
        let asked_us = row.micros(now);
        if let Some(trace) = &mut row.trace {
            trace.push(TraceStep { node: to, role, asked_us, answered_us: None, dots: Vec::new() });
        }
        let kept = role == TraceRole::Fallback;
        let message = PeerRequest::Read {
            worth: Worth { ttl_ms: row.deadline.ms_left(now.mono).max(1), sent_us: now.mono.0 },
            place: row.place,
            key: row.key.clone(),
            digest: row.own.digest().filter(|_| !kept),
            kept,
            fence: row.fence,
        };
        out.push(Output::Peer { to, lane: Lane::Foreground, request: id.into(), message });
    }

    pub(super) fn digest<C: Clone>(&self, object: &Object<C>, key: &[u8]) -> u64 {
        if self.options.planted.is(Mutant::EqualOnFirstActor) {
            object.digest_of_first_actor(key)
        } else {
            object.digest(key)
        }
    }

    fn take_answer(&self, now: Now, row: &mut Get, from: NodeId, held: Option<Object>, vouched: bool) {
        row.answers.accept(from);
        if held.is_none() && vouched {
            row.absences.accept(from);
        }
        row.held.retain(|known| known.0 != from);
        row.held.push((from, held));
        row.trace_answered(now, from);
    }

    pub(super) fn get_reply(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Get,
        from: NodeId,
        message: PeerReply,
        out: &mut Vec<Output>,
    ) {
        if let Some(at) = row.stand_ins.iter().position(|entry| entry.node == from) {
            self.take_kept(now, id, &mut row, at, message, out);
            return self.get_progress(now, id, row, out);
        }
        let says_what_it_holds =
            matches!(message, PeerReply::Same | PeerReply::Held(_) | PeerReply::Absent { .. });
        if row.is_first_round && says_what_it_holds {
            self.hedges.answered(from, now.mono.micros_since(row.started));
        }
        match message {
            PeerReply::Same => {
                if let Own::Held { object, .. } = &row.own {
                    let own = Some(object.clone());
                    self.take_answer(now, &mut row, from, own, true);
                } else if let Own::Loading { same, .. } = &mut row.own {
                    same.push(from);
                }
            }
            PeerReply::Held(object) => self.take_answer(now, &mut row, from, Some(object), true),
            PeerReply::Absent { vouched } => self.take_answer(now, &mut row, from, None, vouched),
            PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full => {
                if message == PeerReply::Unreadable && !row.unreadable.contains(&from) {
                    row.unreadable.push(from);
                }
                row.answers.refuse(from);
                self.ask_one_more(now, id, &mut row, out);
            }
            // Its table is older and was just pushed ours: asked again behind that, it can answer.
            PeerReply::Behind(_)
                if row.asked.iter().filter(|&&node| node == from).count() < usize::from(ASKS_MAX) =>
            {
                row.is_first_round = false;
                self.ask(now, id, &mut row, from, out);
            }
            // The newer table has been asked for; adopting it asks the owners that it names.
            PeerReply::Stale(_)
            | PeerReply::Behind(_)
            | PeerReply::Stored { .. }
            | PeerReply::Forwarded(_)
            | PeerReply::Alive(_)
            | PeerReply::Heard { .. }
            | PeerReply::Gossip { .. }
            | PeerReply::Differ { .. }
            | PeerReply::Listing { .. }
            | PeerReply::Objects { .. }
            | PeerReply::Settled { .. }
            | PeerReply::FenceRaised { .. }
            | PeerReply::Fenced { .. }
            | PeerReply::Table(_) => {}
        }
        self.get_progress(now, id, row, out);
    }

    /// A fallback says what it keeps, or that it will not.
    fn take_kept(
        &self,
        now: Now,
        id: RowId,
        row: &mut Get,
        at: usize,
        message: PeerReply,
        out: &mut Vec<Output>,
    ) {
        let Some(entry) = row.stand_ins.get_mut(at) else { return };
        let (node, absent) = (entry.node, entry.absent);
        let object = match message {
            PeerReply::Held(object) => Some(object),
            PeerReply::Absent { .. } => None,
            PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full => {
                entry.answer = Kept::Refused;
                self.ask_one_more(now, id, row, out);
                return;
            }
            // Its table is older and was just pushed ours: asked again behind that, it can answer.
            PeerReply::Behind(_) if entry.asks < ASKS_MAX => {
                entry.asks += 1;
                self.send_read(now, id, row, node, TraceRole::Fallback, out);
                return;
            }
            // The newer table has been asked for.
            PeerReply::Same
            | PeerReply::Stale(_)
            | PeerReply::Behind(_)
            | PeerReply::Stored { .. }
            | PeerReply::Forwarded(_)
            | PeerReply::Alive(_)
            | PeerReply::Heard { .. }
            | PeerReply::Gossip { .. }
            | PeerReply::Differ { .. }
            | PeerReply::Listing { .. }
            | PeerReply::Objects { .. }
            | PeerReply::Settled { .. }
            | PeerReply::FenceRaised { .. }
            | PeerReply::Fenced { .. }
            | PeerReply::Table(_) => return,
        };
        let dots: Vec<_> =
            object.as_ref().map(Object::siblings).unwrap_or_default().iter().map(|s| s.dot).collect();
        entry.answer = Kept::Told(object);
        row.answers.stand_in(absent);
        let answered_us = Some(row.micros(now));
        for step in row.trace.iter_mut().flatten().filter(|step| step.node == node) {
            step.answered_us = answered_us;
            step.dots.clone_from(&dots);
        }
    }

    fn get_progress(&mut self, now: Now, id: RowId, mut row: Get, out: &mut Vec<Output>) {
        if row.to.is_some() && row.answers.accepted() >= row.answers.needed() {
            let blind = self.options.planted.is(Mutant::AbsentBeatsHeld);
            let hidden = blind && row.held.iter().any(|held| held.1.is_none());
            match row.merge_held() {
                Some(_) if hidden => {
                    self.get_answer(now, &mut row, DataResult::Missing { context: Default::default() }, out);
                }
                Some(merged) => self.get_answer_held(now, &mut row, merged, out),
                None if self.may_say_missing(&row) => {
                    self.get_answer(now, &mut row, DataResult::Missing { context: Default::default() }, out);
                }
                None => while self.ask_one_more(now, id, &mut row, out) {},
            }
        }
        if row.to.is_some() && row.is_settled() && !self.ask_one_more(now, id, &mut row, out) {
            let refusal = row.refusal();
            self.get_answer(now, &mut row, refusal, out);
        }
        self.read_repair(now, id, &mut row, out);
        if row.to.is_none() && row.is_settled() {
            self.pending.end(id);
        } else {
            self.put_row_back(id, Row::Get(row));
        }
    }

    /// Nothing was held by those who answered: enough of them to be sure, or all there are.
    fn may_say_missing(&self, row: &Get) -> bool {
        self.options.planted.is(Mutant::EagerNotFound)
            || row.absences.accepted() >= row.absences.needed()
            || row.answers.by_owners() == row.answers.slots()
    }

    fn get_answer_held(&self, now: Now, row: &mut Get, merged: Object, out: &mut Vec<Output>) {
        let blind = self.options.planted.is(Mutant::IgnoreNewerReplica);
        let told = match &row.own {
            Own::Held { object, .. } if blind => object.clone(),
            Own::Held { .. } | Own::Loading { .. } | Own::Nothing => merged.clone(),
        };
        let result = row.result(&told, now.wall);
        row.merged = Some(merged);
        self.get_answer(now, row, result, out);
    }

    fn get_answer(&self, now: Now, row: &mut Get, result: DataResult, out: &mut Vec<Output>) {
        if let Some(to) = row.to.take() {
            row.settle_until = now.mono.after_ms(SETTLE_MS);
            self.reply(to, DataReply { by: row.provenance(), result }, out);
        }
    }

    /// Sends the merged object to whoever answered with less. Their acknowledgement is not waited
    /// for; anti-entropy, not this, is what convergence rests on.
    fn read_repair(&mut self, now: Now, id: RowId, row: &mut Get, out: &mut Vec<Output>) {
        let Some(mut merged) = row.merged.take() else { return };
        for (_, held) in &row.held {
            if let Some(object) = held {
                merged.merge(object);
            }
        }
        let mut less = Vec::new();
        for (node, held) in &mut row.held {
            if held.as_ref() == Some(&merged) {
                continue;
            }
            less.push(*node);
            *held = Some(merged.clone());
        }
        less.append(&mut row.unreadable);
        for node in less {
            self.repair(now, id, row, node, &merged, out);
        }
        row.merged = Some(merged);
    }

    /// Merges what was read into one copy that has less.
    fn repair(
        &mut self,
        now: Now,
        id: RowId,
        row: &Get,
        node: NodeId,
        merged: &Object,
        out: &mut Vec<Output>,
    ) {
        if node == self.me() {
            let place = (row.place.keyspace, row.place.sector);
            self.engine.merge(place, &row.key, merged, row.durability);
        } else if self.peers.is_up(node, Lane::Foreground) {
            let worth = Worth { ttl_ms: row.deadline.ms_left(now.mono).max(1), sent_us: now.mono.0 };
            let (place, fence, key, object) = (row.place, row.fence, row.key.clone(), merged.clone());
            let message = PeerRequest::Store { worth, place, fence, key, object, write: None, owed_to: None };
            out.push(Output::Peer { to: node, lane: Lane::Foreground, request: id.into(), message });
        }
    }

    pub(super) fn get_lost(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Get,
        peer: NodeId,
        out: &mut Vec<Output>,
    ) {
        let waits_for = |entry: &&mut StandIn| entry.node == peer && matches!(entry.answer, Kept::Awaited);
        let stood_in = row.stand_ins.iter_mut().find(waits_for).map(|entry| entry.answer = Kept::Refused);
        let was_asked = row.asked.contains(&peer) && !row.held.iter().any(|held| held.0 == peer);
        if was_asked || stood_in.is_some() {
            if was_asked {
                row.answers.refuse(peer);
            }
            if row.to.is_some() {
                self.ask_one_more(now, id, &mut row, out);
            }
        }
        self.get_progress(now, id, row, out);
    }

    /// The hedge, the deadline, or the end of settling.
    pub(super) fn get_wake(&mut self, now: Now, id: RowId, mut row: Get, out: &mut Vec<Output>) {
        if now.mono >= row.deadline {
            let refusal = row.refusal();
            self.get_answer(now, &mut row, refusal, out);
            return self.pending.end(id);
        }
        if row.to.is_none() {
            return self.pending.end(id);
        }
        // One that has answered others meanwhile is slow with this alone. Even the rest are not down:
        // others are asked first for a while, nothing more.
        for &node in row.asked.iter().filter(|&&node| !row.held.iter().any(|held| held.0 == node)) {
            if !self.peers.is_heard_since(node, row.started) {
                self.peers.pass_over(node, now.mono);
            }
        }
        if self.hedges.has_one() && self.ask_one_more(now, id, &mut row, out) {
            self.hedges.take();
            row.is_first_round = false;
        }
        row.hedge_wait_us = (row.hedge_wait_us * 2).min(HEDGE_DELAY_US.1);
        row.hedge_at = Instant(now.mono.0 + row.hedge_wait_us);
        self.put_row_back(id, Row::Get(row));
    }

    /// The table has changed: the owners that it now names are asked afresh, in a row of its own.
    ///
    /// What was said under the old configuration counts for nothing. A node that was still being
    /// filled then, and is an owner of its own now, may have said "nothing here" before everything
    /// had arrived.
    pub(super) fn get_retarget(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Get,
        table: &Table,
        out: &mut Vec<Output>,
    ) {
        let owners = table.sector(row.place.sector);
        if owners.conf_epoch == row.place.conf_epoch || row.to.is_none() {
            return self.put_row_back(id, Row::Get(row));
        }
        self.pending.end(id);
        let id = self.pending.reserve();
        row.place.conf_epoch = owners.conf_epoch;
        row.is_first_round = false;
        let slots = table.slots(row.place.sector, row.n);
        row.answers = row.answers.again(slots);
        row.stand_ins.clear();
        row.absences = Tally::new(slots, row.absences.needed(), self.options.planted);
        row.held.clear();
        row.unreadable.clear();
        row.asked.clear();
        row.own = Own::Nothing;
        let me = self.me();
        if owners.holders(usize::from(row.n)).any(|node| node == me) {
            row.asked.push(me);
            self.read_own(now, id, &mut row, &Loaded::new());
        }
        for _ in 0..row.answers.needed().saturating_sub(row.answers.accepted()) {
            self.ask_one_more(now, id, &mut row, out);
        }
        self.get_progress(now, id, row, out);
    }
}
