//! The forwarder: hands a client's request to an owner of its key, and to another if that fails.
//!
//! ```text
//! Asking(owner) --answer--> relayed, row ends
//!      |  link lost, hop time over, or "not I"
//!      v
//! next owner --none left--> Waiting a little --> first owner again, a few times in all
//!      |  that was all of them
//!      v
//! Listening --an answer of one asked before--> relayed
//!           --all of them refused or lost, deadline--> refused, with what is known
//! ```
//! An owner that is given up on because it is slow may still answer, and may be the one that knows
//! how many copies answered: it is listened to until the end. It is told a little less time than
//! there is here, so that its last word comes before ours is due.
//!
//! A write that may have been applied goes on as a further *attempt*: the coordinator then merges
//! it as concurrent and never overwrites what came between.

use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::pending::RowId;
use super::request::Begun;
use super::request::Checked;
use super::{Node, ReplyTo, Row};
use crate::engine::Loaded;
use crate::limits::{FORWARD_GRACE_MS, FORWARD_HOP_MS};
use crate::types::{Instant, NodeId, Now, SectorId};
use crate::wire::client::{DataReply, DataRequest, DataResult, Provenance, Reason, TraceRole, TraceStep};
use crate::wire::peer::{PeerReply, PeerRequest, Worth};

/// How often a request is sent before its forwarder gives up: no retry storms.
const SENDS_MAX: u8 = 4;
/// The wait before owners that failed are tried again.
const ROUND_WAIT_MS: u64 = 50;

/// A request handed on to a coordinator.
#[derive(Debug)]
pub(super) struct Forward {
    to: ReplyTo,
    request: DataRequest,
    sector: SectorId,
    n: usize,
    started: Instant,
    deadline: Instant,
    by: Provenance,
    sends: u8,
    /// The last owner that had no room for the write.
    full: Option<NodeId>,
    /// The most copies that an owner has found to be unreadable.
    unreadable: u8,
    tried: Vec<NodeId>,
    /// Owners that were asked and have neither answered nor been lost; one may be asked twice.
    silent: Vec<NodeId>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// An owner was asked.
    Asking { owner: NodeId, until: Instant },
    /// No owner is left to ask just now.
    Waiting { until: Instant },
    /// This node is to run it, and reads from its disk what the write keeps. Nothing is done yet.
    Reading { until: Instant },
    /// No owner will be asked any more; those that were may still answer.
    Listening,
}

impl Forward {
    pub(super) fn new(
        now: Now,
        to: ReplyTo,
        request: DataRequest,
        checked: &Checked,
        by: Provenance,
        tried: Vec<NodeId>,
    ) -> Self {
        Self {
            to,
            request,
            sector: checked.sector,
            n: checked.n(),
            started: now.mono,
            deadline: checked.deadline,
            by,
            sends: 0,
            full: None,
            unreadable: 0,
            tried,
            silent: Vec::new(),
            phase: Phase::Waiting { until: now.mono },
        }
    }

    pub(super) fn wake(&self) -> Instant {
        match self.phase {
            Phase::Asking { until, .. } | Phase::Waiting { until } | Phase::Reading { until } => {
                until.min(self.deadline)
            }
            Phase::Listening => self.deadline,
        }
    }

    /// An owner has answered, or never will.
    fn heard(&mut self, from: NodeId) {
        if let Some(at) = self.silent.iter().position(|&node| node == from) {
            self.silent.remove(at);
        }
    }

    /// An owner has no room, or cannot read its copy: another may, and if none does that is what to
    /// say.
    pub(super) fn note_refusal(&mut self, reason: Reason) {
        if let Reason::DiskFull { node } = reason {
            self.full = Some(node);
        }
        if let Reason::Unreadable { copies } = reason {
            self.unreadable = self.unreadable.max(copies);
        }
    }

    /// Why no owner did it, when it is certain that none did.
    fn refusal(&self) -> Reason {
        match (self.full, self.unreadable) {
            (Some(node), _) => Reason::DiskFull { node },
            (None, 0) => Reason::NoQuorum,
            (None, copies) => Reason::Unreadable { copies },
        }
    }

    fn asks(&self, node: NodeId) -> bool {
        matches!(self.phase, Phase::Asking { owner, .. } if owner == node)
    }

    /// Takes note of what a coordinator has counted.
    fn learn(&mut self, by: Provenance) {
        if by.slots > 0 {
            self.by = by;
        }
    }

    /// The present attempt is given up although it may have been applied.
    fn count_attempt(&mut self) {
        if let DataRequest::Put { write, .. } = &mut self.request {
            write.attempt = write.attempt.saturating_add(1);
        }
    }

    /// Whether an earlier attempt at this write may have been applied.
    fn was_attempted(&self) -> bool {
        matches!(&self.request, DataRequest::Put { write, .. } if write.attempt > 0)
    }

    fn may_be_applied(&self) -> bool {
        let is_put = matches!(self.request, DataRequest::Put { .. });
        self.was_attempted() || (is_put && matches!(self.phase, Phase::Asking { .. }))
    }
}

impl Node {
    /// Asks the next owner.
    pub(super) fn forward_next(&mut self, now: Now, id: RowId, mut row: Forward, out: &mut Vec<Output>) {
        row.phase = Phase::Waiting { until: now.mono.after_ms(ROUND_WAIT_MS) };
        if row.sends >= SENDS_MAX {
            return self.forward_listen(now, id, row, out);
        }
        let Some(owner) = self.next_owner(now, &row) else {
            if row.full.is_some() {
                // Room does not come back as links do.
                return self.forward_fail(now, id, &row, out);
            }
            row.tried.clear();
            row.sends += 1;
            return self.put_row_back(id, Row::Forward(row));
        };
        if owner == self.me() {
            return self.forward_to_self(now, id, row, out);
        }
        row.sends += 1;
        row.tried.push(owner);
        row.silent.push(owner);
        let left_ms = row.deadline.ms_left(now.mono);
        let hop_ms = FORWARD_HOP_MS.min(u64::from(left_ms / 2).max(1));
        row.phase = Phase::Asking { owner, until: now.mono.after_ms(hop_ms) };
        let ttl_ms = left_ms - (left_ms / 10).min(FORWARD_GRACE_MS);
        let worth = Worth { ttl_ms, sent_us: now.mono.0 };
        let begin_ms = u32::try_from(hop_ms).unwrap_or(u32::MAX);
        let message = PeerRequest::Forward { worth, begin_ms, request: row.request.clone() };
        out.push(Output::Peer { to: owner, lane: Lane::Foreground, request: id.into(), message });
        self.put_row_back(id, Row::Forward(row));
    }

    /// All owners have had their turn: those that have not answered may still do so.
    fn forward_listen(&mut self, now: Now, id: RowId, mut row: Forward, out: &mut Vec<Output>) {
        if row.silent.is_empty() {
            return self.forward_fail(now, id, &row, out);
        }
        row.phase = Phase::Listening;
        self.put_row_back(id, Row::Forward(row));
    }

    /// The first owner not tried yet that answers; else the first that has a link at all.
    fn next_owner(&self, now: Now, row: &Forward) -> Option<NodeId> {
        let table = self.table()?;
        let me = self.me();
        let open = |node: &NodeId| {
            !row.tried.contains(node) && (*node == me || self.peers.is_up(*node, Lane::Foreground))
        };
        let trusted = |node: &NodeId| *node == me || self.peers.is_trusted(*node, now.mono);
        let owners = || table.sector(row.sector).holders(row.n).filter(open);
        owners().find(trusted).or_else(|| owners().next())
    }

    /// This node is the owner whose turn it is: it was the first to be asked and has no quorum
    /// itself, or it has become an owner since.
    fn forward_to_self(&mut self, now: Now, id: RowId, mut row: Forward, out: &mut Vec<Output>) {
        row.sends += 1;
        row.tried.push(self.me());
        self.coordinate_here(now, id, row, &Loaded::new(), out);
    }

    /// Our own copy of what a forwarded write keeps has been read, as far as it could be.
    pub(super) fn forward_loaded(&mut self, now: Now, id: RowId, loaded: &Loaded, out: &mut Vec<Output>) {
        match self.pending.take(id) {
            Some(Row::Forward(row)) if matches!(row.phase, Phase::Reading { .. }) => {
                self.coordinate_here(now, id, row, loaded, out);
            }
            // It has been given up, and another owner asked.
            Some(row) => self.put_row_back(id, row),
            None => {}
        }
    }

    fn coordinate_here(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Forward,
        loaded: &Loaded,
        out: &mut Vec<Output>,
    ) {
        let begun = match self.check(&row.request, row.deadline) {
            Ok(checked) => self.coordinate(now, row.to, &row.request, &checked, loaded, out),
            Err(reason) => Err(reason),
        };
        match begun {
            Ok(Begun::Done) => self.forward_end(id, &row),
            Ok(Begun::Waits(wanted)) => {
                row.phase = Phase::Reading { until: now.mono.after_ms(FORWARD_HOP_MS) };
                self.wait_for(Waiting::new(Then::Forward(id), loaded.clone(), row.deadline), wanted);
                self.put_row_back(id, Row::Forward(row));
            }
            Err(reason) if reason.may_pass() => {
                row.note_refusal(reason);
                self.forward_next(now, id, row, out);
            }
            Err(_) if row.was_attempted() => self.forward_fail(now, id, &row, out),
            Err(reason) => {
                let reply = DataReply { by: row.by.clone(), result: DataResult::Refused(reason) };
                self.forward_relay(now, id, &row, reply, out);
            }
        }
    }

    pub(super) fn forward_reply(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Forward,
        from: NodeId,
        message: PeerReply,
        out: &mut Vec<Output>,
    ) {
        if matches!(
            message,
            PeerReply::Forwarded(_) | PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full
        ) {
            row.heard(from);
        }
        match message {
            PeerReply::Forwarded(reply) => match reply.result {
                DataResult::Refused(Reason::NotOwner(epoch)) => {
                    self.compare_epoch(from, epoch, out);
                    self.forward_refused(now, id, row, from, out);
                }
                // Too late to begin there is not too late elsewhere.
                DataResult::Refused(reason) if reason.may_pass() || reason == Reason::Expired => {
                    row.learn(reply.by);
                    row.note_refusal(reason);
                    self.forward_refused(now, id, row, from, out);
                }
                // An owner given up on does not speak for the one now asked.
                DataResult::Refused(_) if !row.asks(from) => {
                    row.learn(reply.by);
                    self.forward_refused(now, id, row, from, out);
                }
                // This attempt was refused, but an earlier one may have been applied.
                DataResult::Refused(_) if row.was_attempted() => {
                    row.learn(reply.by);
                    self.forward_fail(now, id, &row, out);
                }
                DataResult::Stored { .. }
                | DataResult::Found { .. }
                | DataResult::Missing { .. }
                | DataResult::Refused(_) => self.forward_relay(now, id, &row, reply, out),
            },
            PeerReply::Overloaded | PeerReply::Unreadable | PeerReply::Full => {
                self.forward_refused(now, id, row, from, out);
            }
            PeerReply::Stored { .. }
            | PeerReply::Same
            | PeerReply::Held(_)
            | PeerReply::Absent { .. }
            | PeerReply::Stale(_)
            | PeerReply::Behind(_)
            | PeerReply::Alive(_)
            | PeerReply::Heard { .. }
            | PeerReply::Gossip { .. }
            | PeerReply::Differ { .. }
            | PeerReply::Listing { .. }
            | PeerReply::Objects { .. }
            | PeerReply::Settled { .. }
            | PeerReply::FenceRaised { .. }
            | PeerReply::Fenced { .. }
            | PeerReply::Table(_) => self.put_row_back(id, Row::Forward(row)),
        }
    }

    /// The owner asked has provably not done it: the next one may, and this was no attempt. Of one
    /// given up on before, it is the end of what could be hoped for from it.
    fn forward_refused(&mut self, now: Now, id: RowId, row: Forward, from: NodeId, out: &mut Vec<Output>) {
        match row.phase {
            Phase::Asking { owner, .. } if owner == from => self.forward_next(now, id, row, out),
            Phase::Listening => self.forward_listen(now, id, row, out),
            Phase::Asking { .. } | Phase::Waiting { .. } | Phase::Reading { .. } => {
                self.put_row_back(id, Row::Forward(row));
            }
        }
    }

    fn forward_relay(
        &mut self,
        now: Now,
        id: RowId,
        row: &Forward,
        mut reply: DataReply,
        out: &mut Vec<Output>,
    ) {
        if row.request.terms().trace {
            reply.by.trace.insert(0, self.own_step(now, row));
        }
        self.reply(row.to, reply, out);
        self.forward_end(id, row);
    }

    /// Our part in a traced request, which ends now.
    fn own_step(&self, now: Now, row: &Forward) -> TraceStep {
        let answered_us = u32::try_from(now.mono.micros_since(row.started)).ok();
        TraceStep { node: self.me(), role: TraceRole::Forwarder, asked_us: 0, answered_us, dots: Vec::new() }
    }

    pub(super) fn forward_lost(
        &mut self,
        now: Now,
        id: RowId,
        mut row: Forward,
        peer: NodeId,
        out: &mut Vec<Output>,
    ) {
        row.silent.retain(|&node| node != peer);
        if row.asks(peer) {
            row.count_attempt();
        }
        self.forward_refused(now, id, row, peer, out);
    }

    pub(super) fn forward_wake(&mut self, now: Now, id: RowId, mut row: Forward, out: &mut Vec<Output>) {
        if now.mono >= row.deadline {
            return self.forward_fail(now, id, &row, out);
        }
        if let Phase::Asking { owner, .. } = row.phase {
            self.peers.pass_over(owner, now.mono);
            row.count_attempt();
        }
        self.forward_next(now, id, row, out);
    }

    fn forward_fail(&mut self, now: Now, id: RowId, row: &Forward, out: &mut Vec<Output>) {
        let reason = if row.may_be_applied() { Reason::Unconfirmed } else { row.refusal() };
        let by = Provenance { answered: self.answered(row), ..row.by.clone() };
        let reply = DataReply { by, result: DataResult::Refused(reason) };
        self.forward_relay(now, id, row, reply, out);
    }

    /// Slots that answered: as a coordinator has counted, else those not known to be silent.
    fn answered(&self, row: &Forward) -> u8 {
        if row.by.coordinator != NodeId(0) {
            return row.by.answered;
        }
        let Some(table) = self.table() else { return 0 };
        let answers = |node: NodeId| self.reaches(node) && !row.silent.contains(&node);
        let slots = table.sector(row.sector).slots.iter().take(row.n);
        let count = slots.filter(|slot| slot.nodes().all(answers)).count();
        u8::try_from(count).unwrap_or(u8::MAX).saturating_sub(row.unreadable)
    }

    fn forward_end(&mut self, id: RowId, row: &Forward) {
        self.forwarded_bytes = self.forwarded_bytes.saturating_sub(row.request.payload_bytes());
        self.pending.end(id);
    }
}

#[cfg(test)]
mod tests;
