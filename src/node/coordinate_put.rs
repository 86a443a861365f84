//! The coordinator of a write: makes the dot, merges here, sends to every owner at once.
//!
//! ```text
//! begin_put --dot made, merged here, sent--> Storing --W slots durable--> answered, settling
//!                                              |  W reached, but an owner holds a concurrent
//!                                              |  higher stamp (lww, first attempt): once more
//!                                              '--> Storing, with a new dot above it
//! Storing --an owner is away--> a fallback keeps it, and counts unless the quorum is strict
//! Storing --deadline, or W out of reach--> answered "unknown", settling
//! settling --every owner has answered, or deadline--> row ends; owners that are away or refused it,
//!                                                     and for whom nobody keeps it, are owed it
//! ```
//! Before the dot is made a refusal is `Failed`: provably not applied. After it nothing is.

use super::io::{Lane, Output};
use super::pending::RowId;
use super::request::{Begun, Checked};
use super::{Ack, Node, ReplyTo, Row, Taken, WriteName};
use crate::engine::{At, Fetched, Kind, Loaded, Ticket};
use crate::limits::{FALLBACKS_MAX, SETTLE_MS, SIBLING_BYTES_MAX, SIBLINGS_MAX, STAMP_AHEAD_MS_MAX};
use crate::mutant::Mutant;
use crate::quorum::{Tally, Verdict};
use crate::ring::{Conflict, Durability, Table};
use crate::types::{Dot, Epoch, Fence, Instant, Key, NodeId, Now, OpId, Stamp, WallMs};
use crate::version::{Content, Context, Object, Replaces, Sibling, VersionVector};
use crate::wire::client::{DataReply, DataResult, Provenance, Reason, Terms, TraceRole, TraceStep, Write};
use crate::wire::peer::{PeerReply, PeerRequest, Place, Standing, Worth};

/// How often one row pushes its table to peers that are behind.
const PUSHES_MAX: u8 = 8;

/// A write that this node coordinates.
#[derive(Debug)]
pub(super) struct Put {
    /// Who is owed the answer; none once it is given.
    to: Option<ReplyTo>,
    started: Instant,
    deadline: Instant,
    /// After the answer: until when stragglers are waited for.
    settle_until: Instant,
    place: Place,
    /// Our fence when the object was read.
    fence: Fence,
    n: u8,
    durability: Durability,
    key: Key,
    /// The merged object, as every owner is to have it.
    object: Object,
    op: OpId,
    dot: Dot,
    tally: Tally,
    strict: bool,
    stand_ins: Vec<StandIn>,
    /// The answer's context: the client's own and the new write, nothing it has not seen.
    context: Context,
    /// Whether an owner's concurrent higher stamp is to be written over, once.
    may_raise: bool,
    /// The highest such stamp reported.
    higher: Option<Stamp>,
    pushes: u8,
    coordinator: NodeId,
    trace: Option<Vec<TraceStep>>,
}

/// A fallback that was asked to keep the write for an owner.
#[derive(Debug)]
struct StandIn {
    node: NodeId,
    absent: NodeId,
    word: Word,
}

/// What a fallback said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    Awaited,
    /// It keeps the write, durably.
    Keeps,
    /// It will not, or is lost.
    Refuses,
}

impl Put {
    pub(super) fn wake(&self) -> Instant {
        if self.to.is_some() { self.deadline } else { self.settle_until.min(self.deadline) }
    }

    pub(super) fn owes_answer(&self) -> bool {
        self.to.is_some()
    }

    /// Another attempt at this write ran elsewhere: what is above it may have come between the
    /// two, and must not be written over.
    pub(super) fn forbid_raise(&mut self) {
        self.may_raise = false;
    }

    /// Under which fence the object in hand was read.
    pub(super) fn fence(&self) -> Fence {
        self.fence
    }

    fn worth(&self, now: Now) -> Worth {
        Worth { ttl_ms: self.deadline.ms_left(now.mono).max(1), sent_us: now.mono.0 }
    }

    fn message(&self, now: Now, owed_to: Option<NodeId>) -> PeerRequest {
        PeerRequest::Store {
            worth: self.worth(now),
            place: self.place,
            fence: self.fence,
            key: self.key.clone(),
            object: self.object.clone(),
            write: Some((self.op, self.dot)),
            owed_to,
        }
    }

    /// Whether a fallback keeps it for this owner.
    fn is_kept_for(&self, owner: NodeId) -> bool {
        self.stand_ins.iter().any(|entry| entry.absent == owner && entry.word == Word::Keeps)
    }

    /// Whether a fallback was asked to keep it for this owner, and has not refused.
    fn is_stood_for(&self, owner: NodeId) -> bool {
        self.stand_ins.iter().any(|entry| entry.absent == owner && entry.word != Word::Refuses)
    }

    fn provenance(&self) -> Provenance {
        let small = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        Provenance {
            coordinator: self.coordinator,
            answered: small(self.tally.accepted()),
            fallbacks: small(self.tally.accepted().saturating_sub(self.tally.by_owners())),
            needed: small(self.tally.needed()),
            slots: small(self.tally.slots()),
            trace: self.trace.clone().unwrap_or_default(),
        }
    }

    fn trace_asked(&mut self, now: Now, node: NodeId, role: TraceRole) {
        let asked_us = micros(self.started, now);
        if let Some(trace) = &mut self.trace {
            let dots = Vec::new();
            trace.push(TraceStep { node, role, asked_us, answered_us: None, dots });
        }
    }

    fn trace_answered(&mut self, now: Now, node: NodeId) {
        let (at, dot) = (micros(self.started, now), self.dot);
        for step in self.trace.iter_mut().flatten().filter(|step| step.node == node) {
            step.answered_us = Some(at);
            if step.role != TraceRole::Coordinator {
                step.dots = vec![dot];
            }
        }
    }
}

fn micros(started: Instant, now: Now) -> u32 {
    u32::try_from(now.mono.micros_since(started)).unwrap_or(u32::MAX - 1)
}

impl Node {
    #[expect(
        clippy::too_many_arguments,
        reason = "a request, what was found out about it, and where to put outputs"
    )]
    pub(super) fn begin_put(
        &mut self,
        now: Now,
        to: ReplyTo,
        terms: &Terms,
        write: &Write,
        checked: &Checked,
        loaded: &Loaded,
        out: &mut Vec<Output>,
    ) -> Result<Begun, Reason> {
        if let Some(taken) = self.taken_before(WriteName::new(write.op, checked.keyspace, &terms.key)) {
            return self.put_again(now, to, terms, write, checked, taken, loaded, out);
        }
        if !self.can_reach_quorum(checked) {
            return Err(Reason::NoQuorum);
        }
        self.check_space(&write.content, checked.settings.durability)?;
        let place = (checked.keyspace, checked.sector);
        let lww = checked.settings.conflict == Conflict::Lww;
        let first = write.attempt == 0 || self.options.planted.is(Mutant::BlindRetry);
        let seen =
            write.context.as_ref().map_or_else(VersionVector::default, |context| context.vector.clone());
        let replaces = if lww && first { Replaces::All } else { Replaces::Seen(&seen) };
        let highest = match self.engine.highest_stamp(place, &terms.key) {
            held if held == Stamp::default() => self.fences.reaped_stamp(),
            held => held,
        };
        let dead = if lww || !first { Vec::new() } else { self.dead_siblings(now, place, &terms.key) };
        // Only what stays is sent on, and so must be had whole.
        let stays = |dot: Dot| match replaces {
            Replaces::All => false,
            Replaces::Seen(seen) => !seen.covers(dot) && !dead.contains(&dot),
        };
        let mut object = match self.engine.read(place, &terms.key, stays, loaded) {
            Fetched::Absent => Object::default(),
            Fetched::Whole(object) => object,
            Fetched::OnDisk(wanted) => return Ok(Begun::Waits(wanted)),
            Fetched::Unreadable => return Err(Reason::Unreadable { copies: 1 }),
        };
        let dot = self.next_dot(object.context(), &seen);
        let sibling = self.new_sibling(now, write, first, highest, dot);
        let stamp = sibling.stamp;
        object.put(replaces, &seen, sibling);
        if object.siblings().len() > SIBLINGS_MAX
            || (object.siblings().len() > 1 && object.value_bytes() > SIBLING_BYTES_MAX)
        {
            return Err(Reason::TooManySiblings { max: SIBLINGS_MAX as u16 });
        }
        let context = object.context_after_put(write.context.as_ref(), dot, stamp);
        let row = self.put_row(now, to, terms, checked, write.op, dot, context);
        let row = Put { object, may_raise: lww && first, ..row };
        self.store(now, row, out);
        Ok(Begun::Done)
    }

    /// Siblings that say no more than that there is nothing. A new write takes their place although
    /// nobody has seen them: they would count as concurrent values for ever.
    fn dead_siblings(&self, now: Now, at: At, key: &Key) -> Vec<Dot> {
        let outline = self.engine.outline(at, key).unwrap_or_default();
        // An expired value only once it is over by any clock: nobody has seen it, and by another's it
        // may be there still.
        let wall = WallMs(now.wall.0.saturating_sub(self.options.reap_after_ms));
        let dead = outline
            .siblings()
            .iter()
            .filter(|sibling| sibling.content.kind == Kind::Tombstone || sibling.has_expired(wall));
        dead.map(|sibling| sibling.dot).collect()
    }

    /// The dot this very write was given before, unless it is a request never seen.
    fn taken_before(&self, name: WriteName) -> Option<Taken> {
        if self.options.planted.is(Mutant::BlindRetry) {
            return None;
        }
        self.ops.get(&name).copied()
    }

    /// A repeated request: its first dot stands. If it is still being stored the answer goes to
    /// the new asker; else what is held now is stored again, which confirms the first write or
    /// whatever has replaced it since.
    #[expect(
        clippy::too_many_arguments,
        reason = "a request, what was found out about it, and where to put outputs"
    )]
    fn put_again(
        &mut self,
        now: Now,
        to: ReplyTo,
        terms: &Terms,
        write: &Write,
        checked: &Checked,
        taken: Taken,
        loaded: &Loaded,
        out: &mut Vec<Output>,
    ) -> Result<Begun, Reason> {
        if let Some(Row::Put(row)) = taken.row.and_then(|id| self.pending.get_mut(id))
            && row.op == write.op
            && row.owes_answer()
        {
            row.to = Some(to);
            return Ok(Begun::Done);
        }
        let place = (checked.keyspace, checked.sector);
        let object = match self.engine.read(place, &terms.key, |_| true, loaded) {
            Fetched::Absent => Object::default(),
            Fetched::Whole(object) => object,
            Fetched::OnDisk(wanted) => return Ok(Begun::Waits(wanted)),
            // It may have been applied, and cannot be confirmed from here.
            Fetched::Unreadable => return Err(Reason::Unconfirmed),
        };
        let sibling = object.siblings().iter().find(|sibling| sibling.dot == taken.dot);
        let stamp = sibling.map_or(write.stamp, |sibling| sibling.stamp);
        let context = object.context_after_put(write.context.as_ref(), taken.dot, stamp);
        let row = self.put_row(now, to, terms, checked, write.op, taken.dot, context);
        self.store(now, Put { object, ..row }, out);
        Ok(Begun::Done)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a row that are known before its object is")]
    fn put_row(
        &self,
        now: Now,
        to: ReplyTo,
        terms: &Terms,
        checked: &Checked,
        op: OpId,
        dot: Dot,
        context: Context,
    ) -> Put {
        let slots = checked.table.slots(checked.sector, checked.settings.n);
        let conf_epoch = checked.owners().conf_epoch;
        let me = self.me();
        let own = TraceStep {
            node: me,
            role: TraceRole::Coordinator,
            asked_us: 0,
            answered_us: None,
            dots: vec![dot],
        };
        Put {
            to: Some(to),
            started: now.mono,
            deadline: checked.deadline,
            settle_until: checked.deadline,
            place: Place { keyspace: checked.keyspace, sector: checked.sector, conf_epoch },
            fence: self.fences.adopted(),
            n: checked.settings.n,
            durability: checked.settings.durability,
            key: Key::copy_from_slice(&terms.key),
            object: Object::default(),
            op,
            dot,
            tally: Tally::sloppy(slots, usize::from(checked.quorum), checked.strict, self.options.planted),
            strict: checked.strict,
            stand_ins: Vec::new(),
            context,
            may_raise: false,
            higher: None,
            pushes: 0,
            coordinator: me,
            trace: terms.trace.then(|| vec![own]),
        }
    }

    /// The new write. Its stamp is the client's, the same in every attempt, but never below what
    /// it replaces. (A ceiling that coordinators' clocks could disagree on would give attempts at
    /// one write different stamps, and a later one could beat what replaced the first.)
    fn new_sibling(&mut self, now: Now, write: &Write, first: bool, local: Stamp, dot: Dot) -> Sibling {
        let ceiling = Stamp::at(WallMs(now.wall.0.saturating_add(STAMP_AHEAD_MS_MAX)));
        let seen = write.context.as_ref().map_or(Stamp::default(), |context| context.stamp);
        let floor = if first { seen.max(local) } else { seen };
        let stamp = write.stamp.min(ceiling).max(floor.next());
        self.clock.observe(stamp, now.wall);
        let expiry = match write.content {
            Content::Value(_) => write.ttl_ms.map(|ttl_ms| WallMs(now.wall.0.saturating_add(ttl_ms))),
            Content::Tombstone => None,
        };
        Sibling { dot, stamp, expiry, content: write.content.clone() }
    }

    /// Merges the row's object here and sends it to the other owners at once, before our own sync.
    fn store(&mut self, now: Now, mut row: Put, out: &mut Vec<Output>) {
        let place = (row.place.keyspace, row.place.sector);
        // Kept past this turn: the new value must not pin the receive buffer.
        let dot = row.dot;
        row.object.detach_if(|held| held == dot);
        let merged = self.engine.merge(place, &row.key, &row.object, row.durability);
        let id = self.pending.reserve();
        let name = WriteName::new(row.op, row.place.keyspace, &row.key);
        self.ops.insert(name, Taken { dot: row.dot, row: Some(id) });
        let mut verdict = self.send_stores(now, id, &mut row, out);
        if self.own_is_durable(id, merged.ticket, row.durability) {
            verdict = verdict.or(self.accept_own(now, &mut row));
        }
        self.put_progress(now, id, row, verdict, out);
    }

    fn own_is_durable(&mut self, id: RowId, ticket: Ticket, durability: Durability) -> bool {
        let durability =
            if self.options.planted.is(Mutant::AckBeforeDurable) { Durability::Memory } else { durability };
        self.gate.hold(&self.engine, ticket, durability, Ack::Own(id)).is_some()
    }

    fn accept_own(&self, now: Now, row: &mut Put) -> Option<Verdict> {
        row.trace_answered(now, self.me());
        row.tally.accept(self.me())
    }

    /// Sends to every owner that has not stored it; for one that is away somebody stands in.
    fn send_stores(&mut self, now: Now, id: RowId, row: &mut Put, out: &mut Vec<Output>) -> Option<Verdict> {
        let me = self.me();
        let others: Vec<NodeId> = row.tally.missing().filter(|&node| node != me).collect();
        let mut verdict = None;
        for to in others {
            if self.peers.is_up(to, Lane::Foreground) {
                row.trace_asked(now, to, TraceRole::Replica);
                let message = row.message(now, None);
                out.push(Output::Peer { to, lane: Lane::Foreground, request: id.into(), message });
            } else {
                verdict = verdict.or(self.stand_in(now, id, row, to, out));
            }
        }
        verdict
    }

    /// Has the next fallback keep the write for an owner that will not store it now. Where there is
    /// none, the owner is owed it when the row ends.
    fn stand_in(
        &self,
        now: Now,
        id: RowId,
        row: &mut Put,
        absent: NodeId,
        out: &mut Vec<Output>,
    ) -> Option<Verdict> {
        let is_asked = |node: NodeId| row.stand_ins.iter().any(|entry| entry.node == node);
        let fallback = self
            .table()
            .filter(|table| table.sector(row.place.sector).conf_epoch == row.place.conf_epoch)
            .filter(|_| row.stand_ins.len() < FALLBACKS_MAX)
            .and_then(|table| self.fallbacks(table, row.place.sector).find(|&node| !is_asked(node)));
        let Some(to) = fallback else { return row.tally.refuse(absent) };
        row.stand_ins.push(StandIn { node: to, absent, word: Word::Awaited });
        row.trace_asked(now, to, TraceRole::Fallback);
        let message = row.message(now, Some(absent));
        out.push(Output::Peer { to, lane: Lane::Foreground, request: id.into(), message });
        if row.strict {
            row.tally.refuse(absent)
        } else {
            row.tally.expect_stand_in(absent);
            None
        }
    }

    /// A fallback has answered, or will not.
    fn stand_in_replied(
        &self,
        now: Now,
        id: RowId,
        row: &mut Put,
        from: NodeId,
        has_it: bool,
        out: &mut Vec<Output>,
    ) -> Option<Verdict> {
        let at = row.stand_ins.iter().position(|entry| entry.node == from)?;
        let absent = row.stand_ins.get(at).map(|entry| entry.absent)?;
        let word = if has_it { Word::Keeps } else { Word::Refuses };
        row.stand_ins.iter_mut().filter(|entry| entry.node == from).for_each(|entry| entry.word = word);
        if !has_it {
            return self.stand_in(now, id, row, absent, out);
        }
        row.trace_answered(now, from);
        row.tally.stand_in(absent)
    }

    pub(super) fn put_own_durable(&mut self, now: Now, id: RowId, mut row: Put, out: &mut Vec<Output>) {
        let verdict = self.accept_own(now, &mut row);
        self.put_progress(now, id, row, verdict, out);
    }

    pub(super) fn put_reply(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Put,
        from: NodeId,
        message: &PeerReply,
        out: &mut Vec<Output>,
    ) {
        let is_fallback = row.stand_ins.iter().any(|entry| entry.node == from);
        let verdict = match message {
            PeerReply::Stored { .. } if is_fallback => {
                self.stand_in_replied(now, id, &mut row, from, true, out)
            }
            PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full if is_fallback => {
                self.stand_in_replied(now, id, &mut row, from, false, out)
            }
            PeerReply::Stored { standing } => {
                row.trace_answered(now, from);
                match *standing {
                    Standing::Highest => {}
                    Standing::Below(stamp) => row.higher = row.higher.max(Some(stamp)),
                    Standing::Repeated => row.forbid_raise(),
                }
                row.tally.accept(from)
            }
            PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full => {
                self.stand_in(now, id, &mut row, from, out)
            }
            PeerReply::Behind(epoch) => {
                self.push_and_send_again(now, id, &mut row, from, *epoch, out);
                None
            }
            PeerReply::Fenced { .. } => {
                self.renew_and_send_again(now, id, &mut row, from, out);
                None
            }
            // The newer table has been asked for; adopting it sends to the owners it names.
            PeerReply::Stale(_)
            | PeerReply::Forwarded(_)
            | PeerReply::Same
            | PeerReply::Held(_)
            | PeerReply::Absent { .. }
            | PeerReply::Alive(_)
            | PeerReply::Heard { .. }
            | PeerReply::Gossip { .. }
            | PeerReply::Differ { .. }
            | PeerReply::Listing { .. }
            | PeerReply::Objects { .. }
            | PeerReply::Settled { .. }
            | PeerReply::FenceRaised { .. }
            | PeerReply::Table(_) => None,
        };
        self.put_progress(now, id, row, verdict, out);
    }

    /// What was sent was read before a fence that has been raised since. Its like is read once more,
    /// under the present one: it has, or has replaced, whatever was replaced before the fence.
    fn renew_and_send_again(
        &mut self,
        now: Now,
        id: RowId,
        row: &mut Put,
        to: NodeId,
        out: &mut Vec<Output>,
    ) {
        let at = (row.place.keyspace, row.place.sector);
        if row.pushes >= PUSHES_MAX || !self.peers.is_up(to, Lane::Foreground) {
            return;
        }
        // Values on the disk are not waited for: anti-entropy is there for so rare a case.
        if let Fetched::Whole(object) = self.engine.read(at, &row.key, |_| true, &Loaded::new()) {
            row.pushes += 1;
            if !object.has(row.dot) {
                // Somebody has replaced it since: it must not be written above that.
                row.forbid_raise();
            }
            (row.object, row.fence) = (object, self.fences.adopted());
            let stands_in = row.stand_ins.iter().find(|entry| entry.node == to);
            let message = row.message(now, stands_in.map(|entry| entry.absent));
            out.push(Output::Peer { to, lane: Lane::Foreground, request: id.into(), message });
        }
    }

    /// The peer's table is older: it has just been pushed ours on the same link, so that the same
    /// message, sent again behind it, finds it up to date.
    fn push_and_send_again(
        &self,
        now: Now,
        id: RowId,
        row: &mut Put,
        to: NodeId,
        epoch: Epoch,
        out: &mut Vec<Output>,
    ) {
        let ours = self.table().map_or(Epoch(0), |table| table.epoch);
        if epoch < ours && row.pushes < PUSHES_MAX && self.peers.is_up(to, Lane::Foreground) {
            row.pushes += 1;
            let stands_in = row.stand_ins.iter().find(|entry| entry.node == to);
            let message = row.message(now, stands_in.map(|entry| entry.absent));
            out.push(Output::Peer { to, lane: Lane::Foreground, request: id.into(), message });
        }
    }

    fn put_progress(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Put,
        verdict: Option<Verdict>,
        out: &mut Vec<Output>,
    ) {
        match (verdict, row.higher) {
            (Some(Verdict::Reached), Some(higher))
                if row.may_raise && !self.options.planted.is(Mutant::SkipRaise) =>
            {
                return self.raise(now, id, row, higher, out);
            }
            (Some(Verdict::Reached), _) => self.put_answer(now, &mut row, None, out),
            (Some(Verdict::Unreachable), _) => self.put_answer(now, &mut row, Some(Reason::Unconfirmed), out),
            (None, _) => {}
        }
        let is_awaited = |entry: &StandIn| entry.word == Word::Awaited && row.tally.is_missing(entry.absent);
        if row.tally.is_complete() && row.to.is_none() && !row.stand_ins.iter().any(is_awaited) {
            self.put_end(id, &row);
        } else {
            self.put_row_back(id, Row::Put(row));
        }
    }

    /// The row ends. Owners that are away or refused the write, and for whom nobody keeps it, are owed
    /// it: this node has it.
    fn put_end(&mut self, id: RowId, row: &Put) {
        self.pending.end(id);
        let me = self.me();
        // One that answers, only not yet, has been sent it and needs no second copy.
        let misses =
            |owner: NodeId| row.tally.is_refused(owner) || !self.peers.is_well(owner, Lane::Foreground);
        let owed: Vec<NodeId> = row
            .tally
            .missing()
            .filter(|&owner| owner != me && misses(owner) && !row.is_kept_for(owner))
            .collect();
        for owner in owed {
            let durability = row.durability.unsynced();
            self.owe(row.place, &row.key, row.object.context(), owner, durability);
        }
    }

    /// An owner holds a concurrent write that would win over this one although this one came
    /// later: it is written once more, above that, under a new dot and in a row of its own, so
    /// that late acknowledgements of the first dot count for nothing. If a later write here has
    /// replaced it since, perhaps by somebody who had read it, that one's content goes above: the
    /// new dot of the same actor accounts for both.
    fn raise(&mut self, now: Now, id: RowId, row: Put, higher: Stamp, out: &mut Vec<Output>) {
        let place = (row.place.keyspace, row.place.sector);
        let own = |sibling: &Dot| sibling.actor == row.dot.actor && sibling.seq >= row.dot.seq;
        let held = match self.engine.read(place, &row.key, |dot| own(&dot), &Loaded::new()) {
            Fetched::Absent => Object::default(),
            Fetched::Whole(held) => held,
            Fetched::OnDisk(_) | Fetched::Unreadable => return self.raise_fails(now, id, row, out),
        };
        let first = row.object.siblings().iter().find(|sibling| sibling.dot == row.dot);
        let later = held.siblings().iter().rfind(|sibling| sibling.dot != row.dot);
        let present = if held.has(row.dot) { first } else { later.or(first) };
        let Some((content, expiry)) = present.map(|sibling| (sibling.content.clone(), sibling.expiry)) else {
            return self.raise_fails(now, id, row, out);
        };
        self.pending.end(id);
        let stamp = self.clock.stamp(now.wall, higher);
        let dot = self.next_dot(row.object.context(), &row.context.vector);
        let mut object = row.object;
        let sibling = Sibling { dot, stamp, expiry, content };
        object.put(Replaces::All, &VersionVector::default(), sibling);
        let mut context = row.context;
        context.add(dot, stamp);
        let slots = self.slots_of(row.place, row.n);
        let tally = Tally::sloppy(&slots, row.tally.needed(), row.strict, self.options.planted);
        let stand_ins = Vec::new();
        let row = Put { object, dot, context, tally, stand_ins, may_raise: false, higher: None, ..row };
        self.store(now, row, out);
    }

    /// What has replaced the write here is no longer in memory, or cannot be read: whether the
    /// write would win is not known.
    fn raise_fails(&mut self, now: Now, id: RowId, mut row: Put, out: &mut Vec<Output>) {
        self.put_answer(now, &mut row, Some(Reason::Unconfirmed), out);
        self.put_row_back(id, Row::Put(row));
    }

    fn slots_of(&self, place: Place, n: u8) -> Vec<crate::ring::Slot> {
        self.table().map(|table| table.slots(place.sector, n).to_vec()).unwrap_or_default()
    }

    /// Answers, once.
    fn put_answer(&self, now: Now, row: &mut Put, refused: Option<Reason>, out: &mut Vec<Output>) {
        if let Some(to) = row.to.take() {
            row.settle_until = now.mono.after_ms(SETTLE_MS);
            let result = match refused {
                Some(reason) => DataResult::Refused(reason),
                None => DataResult::Stored { context: row.context.clone() },
            };
            self.reply(to, DataReply { by: row.provenance(), result }, out);
        }
    }

    pub(super) fn put_lost(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Put,
        peer: NodeId,
        out: &mut Vec<Output>,
    ) {
        let is_lost = |entry: &StandIn| entry.node == peer && entry.word == Word::Awaited;
        let verdict = if row.stand_ins.iter().any(is_lost) {
            self.stand_in_replied(now, id, &mut row, peer, false, out)
        } else if row.tally.is_missing(peer) && !row.is_stood_for(peer) {
            self.stand_in(now, id, &mut row, peer, out)
        } else {
            None
        };
        self.put_progress(now, id, row, verdict, out);
    }

    /// The deadline: what is not confirmed by now is unknown.
    pub(super) fn put_wake(&mut self, now: Now, id: RowId, mut row: Put, out: &mut Vec<Output>) {
        self.put_answer(now, &mut row, Some(Reason::Unconfirmed), out);
        self.put_end(id, &row);
    }

    /// The table has changed: the same dotted object goes to the owners that it now names.
    pub(super) fn put_retarget(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Put,
        table: &Table,
        out: &mut Vec<Output>,
    ) {
        let owners = table.sector(row.place.sector);
        if owners.conf_epoch == row.place.conf_epoch {
            return self.put_row_back(id, Row::Put(row));
        }
        row.place.conf_epoch = owners.conf_epoch;
        let verdict = row.tally.retarget(table.slots(row.place.sector, row.n));
        if !row.stand_ins.is_empty() {
            // Whoever stood in may be an owner now: a late word of what it keeps for another must
            // not count for a copy of its own. A row of another name goes on.
            row.stand_ins.clear();
            self.pending.end(id);
            match verdict {
                Some(Verdict::Reached) => self.put_answer(now, &mut row, None, out),
                Some(Verdict::Unreachable) => self.put_answer(now, &mut row, Some(Reason::Unconfirmed), out),
                None => {}
            }
            return self.store(now, row, out);
        }
        let verdict = verdict.or(self.send_stores(now, id, &mut row, out));
        self.put_progress(now, id, row, verdict, out);
    }
}
