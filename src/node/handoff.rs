//! Handing hints over to those they are owed to (Dynamo, section 4.6: hinted handoff).
//!
//! ```text
//! Idle --the node answers, something is owed to it--> a walk through the shelves of hints
//!   some of one shelf --bulk link--> merged, synced, acknowledged --> forgotten here, walk goes on
//!   the walk is over --something is left--> once more, in a while
//! ```
//! Hints go to the sector's *present* owners: to the slot of the node they are owed to while it has
//! one (to both its nodes while it moves), else to all of them. One piece is out to each node at a
//! time. Sending twice harms nothing: the receiver merges; so whatever goes wrong, the piece is sent
//! again later, and is forgotten only when every receiver has acknowledged it.

use super::hints::{FIRST_SHELF, HintKind, kind_of, split_name};
use super::io::{Lane, Output};
use super::load::{Then, Waiting};
use super::pending::RowId;
use super::{Node, Row};
use crate::engine::{At, Fetched, Loaded, Outline, Wanted};
use crate::limits::{HINT_RETRY_MS, HINTS_WALKED_PER_TURN, TRANSFER_CHUNK_BYTES, TRANSFER_RETRY_MS};
use crate::mutant::Mutant;
use crate::ring::{Durability, Slot};
use crate::types::{Instant, Key, NodeId, Now, SectorId};
use crate::version::{Object, VersionVector};
use crate::wire::peer::{PeerReply, PeerRequest, Place};
use std::collections::BTreeMap;

/// Entries of one piece.
const ENTRIES_MAX: usize = 1024;

/// How far the handing over to each node is.
#[derive(Debug, Default)]
pub(super) struct Handoffs {
    walks: BTreeMap<NodeId, Walk>,
}

/// A walk through the shelves for one node.
#[derive(Debug, Default)]
struct Walk {
    phase: Phase,
    /// Where it goes on; none: at the beginning.
    cursor: Option<Cursor>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// To be gone on with, not before then.
    Idle(Instant),
    /// Values are being read from the disk.
    Reading,
    /// A piece is out.
    Sending,
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Idle(Instant::default())
    }
}

/// A place on the shelves: after this name on this shelf.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Cursor {
    shelf: At,
    after: Option<Key>,
}

/// A piece that is out: a row of the pending table.
#[derive(Debug)]
pub(super) struct Piece {
    owed_to: NodeId,
    shelf: At,
    /// What is forgotten when it has arrived.
    sent: Vec<Sent>,
    /// Who has not acknowledged it.
    awaited: Vec<NodeId>,
    retry_at: Instant,
}

/// A hint that was sent, as it was: it may have grown since.
#[derive(Debug)]
struct Sent {
    name: Key,
    seen: VersionVector,
}

/// What the next names of a shelf come to.
enum Gathered {
    /// Objects to send, and the hints that they settle.
    Whole(Vec<(Key, Object)>, Vec<Sent>),
    /// These values first.
    OnDisk(Vec<Wanted>),
}

impl Piece {
    pub(super) fn wake(&self) -> Instant {
        self.retry_at
    }
}

impl Node {
    /// Goes on with every walk whose time has come.
    pub(super) fn hand_off(&mut self, now: Now, out: &mut Vec<Output>) {
        let creditors: Vec<NodeId> = self.ledger.creditors().collect();
        self.handoffs.walks.retain(|node, walk| walk.phase == Phase::Sending || creditors.contains(node));
        for node in creditors {
            let walk = self.handoffs.walks.entry(node).or_default();
            if matches!(walk.phase, Phase::Idle(at) if at <= now.mono) && self.can_receive(node) {
                self.hand_to(now, node, &Loaded::new(), out);
            }
        }
    }

    /// Whether it is of use to look for what is owed to a node: it answers, or is gone for good.
    fn can_receive(&self, node: NodeId) -> bool {
        let is_member = self.table().is_some_and(|table| table.present().any(|(id, _)| id == node));
        !is_member || self.passes_on_hints(node) || self.peers.is_well(node, Lane::Bulk)
    }

    /// Sends the next piece of what is owed to a node.
    fn hand_to(&mut self, now: Now, owed_to: NodeId, loaded: &Loaded, out: &mut Vec<Output>) {
        let cursor = self.handoffs.walks.get(&owed_to).and_then(|walk| walk.cursor.clone());
        let mut walked = 0;
        let first = cursor.as_ref().map_or((FIRST_SHELF, SectorId(0)), |cursor| cursor.shelf);
        let shelves: Vec<At> = self.engine.places(first).collect();
        for shelf in shelves {
            let after = cursor.as_ref().filter(|cursor| cursor.shelf == shelf);
            let after = after.and_then(|cursor| cursor.after.clone());
            let Some((kind, at)) = kind_of(shelf) else { continue };
            let Some(receivers) = self.receivers(at, owed_to) else { continue };
            let (names, last) = self.names_for(shelf, owed_to, after.as_ref(), &mut walked);
            match self.gather(kind, shelf, at, names, loaded) {
                Gathered::OnDisk(wanted) => {
                    let deadline = now.mono.after_ms(TRANSFER_RETRY_MS);
                    self.set_walk(owed_to, Phase::Reading, Some(Cursor { shelf, after }));
                    return self
                        .wait_for(Waiting::new(Then::Piece(owed_to), loaded.clone(), deadline), wanted);
                }
                Gathered::Whole(entries, sent) => {
                    let next = last.map(|after| Cursor { shelf, after: Some(after) });
                    if !entries.is_empty() {
                        let phase = Phase::Idle(now.mono);
                        self.set_walk(owed_to, phase, next);
                        return self.send_piece(now, owed_to, shelf, entries, sent, receivers, out);
                    }
                    sent.iter().for_each(|sent| self.forget_hint(shelf, &sent.name, &sent.seen));
                    if walked >= HINTS_WALKED_PER_TURN {
                        return self.set_walk(owed_to, Phase::Idle(now.mono), next);
                    }
                }
            }
        }
        self.set_walk(owed_to, Phase::Idle(now.mono.after_ms(HINT_RETRY_MS)), None);
    }

    fn set_walk(&mut self, owed_to: NodeId, phase: Phase, cursor: Option<Cursor>) {
        self.handoffs.walks.insert(owed_to, Walk { phase, cursor });
    }

    /// Who is to have what is owed to a node of a sector: its slot's nodes while it is an owner, else
    /// all owners. None if not all of them can be reached just now.
    fn receivers(&self, at: At, owed_to: NodeId) -> Option<Vec<NodeId>> {
        let table = self.table()?;
        // A keyspace that is gone has no owners.
        let (n, w) =
            table.keyspaces.get(&at.0).map_or((0, 0), |keyspace| (keyspace.settings.n, keyspace.settings.w));
        let w = usize::from(w);
        let slots = table.slots(at.1, n);
        let owners: Vec<NodeId> = slots.iter().flat_map(Slot::nodes).collect();
        // What is written while a slot moves must reach both its nodes: the stream may be past it.
        let own_slot = slots.iter().find(|slot| slot.nodes().any(|node| node == owed_to));
        let blind = self.options.planted.is(Mutant::HintToExOwner);
        let receivers = match own_slot {
            _ if blind => vec![owed_to],
            Some(slot) => slot.nodes().collect(),
            None => owners.clone(),
        };
        let reached = |&node: &NodeId| node == self.me() || self.peers.is_up(node, Lane::Bulk);
        if self.passes_on_hints(owed_to) && !receivers.iter().all(reached) {
            // With as many slots as a write takes it has all the copies that it was promised, without
            // this node's; the others get it from there. (Of one that moves both nodes count, or none.)
            let whole: Vec<&Slot> =
                slots.iter().filter(|slot| slot.nodes().all(|node| reached(&node))).collect();
            return (whole.len() >= w).then(|| whole.into_iter().flat_map(Slot::nodes).collect());
        }
        receivers.iter().all(reached).then_some(receivers)
    }

    /// The next names of a shelf that are owed to a node, as many as make a piece, and the last
    /// name looked at.
    fn names_for(
        &self,
        shelf: At,
        owed_to: NodeId,
        after: Option<&Key>,
        walked: &mut usize,
    ) -> (Vec<(Key, Outline)>, Option<Key>) {
        let (mut names, mut last, mut bytes) = (Vec::new(), None, 0);
        for (name, outline) in self.engine.walk(shelf, after) {
            if *walked >= HINTS_WALKED_PER_TURN || bytes > TRANSFER_CHUNK_BYTES || names.len() >= ENTRIES_MAX
            {
                break;
            }
            *walked += 1;
            last = Some(name.clone());
            if let Some((_, key)) = split_name(&name).filter(|&(node, _)| node == owed_to) {
                bytes += self.piece_bytes(shelf, &key, &outline);
                names.push((name, outline));
            }
        }
        (names, last)
    }

    /// Bytes that a hint takes on its way, about.
    fn piece_bytes(&self, shelf: At, key: &Key, outline: &Outline) -> usize {
        let values = |outline: &Outline| -> usize {
            outline.siblings().iter().map(|sibling| sibling.content.kind.value_bytes()).sum()
        };
        let own = match kind_of(shelf) {
            Some((HintKind::Debt, at)) => self.engine.outline(at, key).as_ref().map_or(0, values),
            Some((HintKind::Copy, _)) | None => values(outline),
        };
        64 + key.len() + own
    }

    /// The objects behind these names, if their values are in memory or have been read.
    fn gather(
        &mut self,
        kind: HintKind,
        shelf: At,
        at: At,
        names: Vec<(Key, Outline)>,
        loaded: &Loaded,
    ) -> Gathered {
        let (mut entries, mut sent, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for (name, outline) in names {
            let Some((_, key)) = split_name(&name) else { continue };
            let fetched = match kind {
                // Not whole, and not to be given to others before it is.
                HintKind::Debt if self.engine.is_quarantined(at) => Fetched::Unreadable,
                HintKind::Copy => self.engine.read(shelf, &name, |_| true, loaded),
                HintKind::Debt => self.engine.read(at, &key, |_| true, loaded),
            };
            match fetched {
                Fetched::Whole(object) => entries.push((key, object)),
                // This node holds nothing of it any more: there is nothing to deliver.
                Fetched::Absent => {}
                Fetched::OnDisk(wanted) => {
                    missing.extend(wanted);
                    continue;
                }
                // An owner's own copy, which the others mend: for another time.
                Fetched::Unreadable if kind == HintKind::Debt && self.owns(at) => continue,
                // Nobody compares this one with theirs: the owners have to make up for it among
                // themselves.
                Fetched::Unreadable => {
                    self.drop_unreadable(shelf, &name, outline.context());
                    continue;
                }
            }
            sent.push(Sent { name, seen: outline.context().clone() });
        }
        if missing.is_empty() { Gathered::Whole(entries, sent) } else { Gathered::OnDisk(missing) }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a piece, whom it is for, and outputs")]
    fn send_piece(
        &mut self,
        now: Now,
        owed_to: NodeId,
        shelf: At,
        entries: Vec<(Key, Object)>,
        sent: Vec<Sent>,
        receivers: Vec<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let Some((_, at)) = kind_of(shelf) else { return };
        let Some(table) = self.table().cloned() else { return };
        let place = Place { keyspace: at.0, sector: at.1, conf_epoch: table.sector(at.1).conf_epoch };
        let durability =
            table.keyspaces.get(&at.0).map_or(Durability::Sync, |keyspace| keyspace.settings.durability);
        let mut awaited = Vec::new();
        let id = self.pending.reserve();
        for to in receivers {
            if to == self.me() {
                // In the log before the hint's end is.
                for (key, object) in &entries {
                    self.engine.merge(at, key, object, durability);
                }
                continue;
            }
            let message =
                PeerRequest::Transfer { place, fence: self.fences.adopted(), entries: entries.clone() };
            out.push(Output::Peer { to, lane: Lane::Bulk, request: id.into(), message });
            awaited.push(to);
        }
        if self.options.planted.is(Mutant::HintForgottenWhenSent) {
            sent.iter().for_each(|sent| self.forget_hint(shelf, &sent.name, &sent.seen));
        }
        if let Some(walk) = self.handoffs.walks.get_mut(&owed_to) {
            walk.phase = Phase::Sending;
        }
        let piece = Piece { owed_to, shelf, sent, awaited, retry_at: now.mono.after_ms(TRANSFER_RETRY_MS) };
        if piece.awaited.is_empty() {
            // Nobody but this node is to have it, or nobody at all. The walk goes on later.
            self.pending.end(id);
            self.piece_arrived(now, &piece);
        } else {
            self.put_row_back(id, Row::Piece(piece));
        }
    }

    fn piece_arrived(&mut self, now: Now, piece: &Piece) {
        for sent in &piece.sent {
            self.forget_hint(piece.shelf, &sent.name, &sent.seen);
        }
        if let Some(walk) = self.handoffs.walks.get_mut(&piece.owed_to) {
            walk.phase = Phase::Idle(now.mono);
        }
    }

    /// When the next walk is due, of those that would find somebody to receive what they find.
    pub(super) fn next_handoff(&self) -> Option<Instant> {
        let due = self.ledger.creditors().filter(|&node| self.can_receive(node));
        let phase = |node| self.handoffs.walks.get(&node).map_or(Phase::default(), |walk| walk.phase);
        let times = due.filter_map(|node| match phase(node) {
            Phase::Idle(at) => Some(at),
            Phase::Reading | Phase::Sending => None,
        });
        times.min()
    }

    pub(super) fn piece_reply(
        &mut self,
        now: Now,
        id: RowId,
        mut piece: Piece,
        from: NodeId,
        message: &PeerReply,
        out: &mut Vec<Output>,
    ) {
        if matches!(message, PeerReply::Stored { .. }) {
            piece.awaited.retain(|&node| node != from);
        }
        if !piece.awaited.is_empty() {
            // Stale, behind, full or busy: it is sent again when its time comes.
            return self.put_row_back(id, Row::Piece(piece));
        }
        self.pending.end(id);
        self.piece_arrived(now, &piece);
        if self.can_receive(piece.owed_to) {
            self.hand_to(now, piece.owed_to, &Loaded::new(), out);
        }
    }

    pub(super) fn piece_lost(&mut self, now: Now, id: RowId, piece: Piece, peer: NodeId) {
        if piece.awaited.contains(&peer) {
            self.piece_wake(now, id, &piece);
        } else {
            self.put_row_back(id, Row::Piece(piece));
        }
    }

    /// It was not acknowledged in time: the walk begins anew, in a while.
    pub(super) fn piece_wake(&mut self, now: Now, id: RowId, piece: &Piece) {
        self.pending.end(id);
        self.set_walk(piece.owed_to, Phase::Idle(now.mono.after_ms(HINT_RETRY_MS)), None);
    }

    /// Values for a piece have been read, as far as they could be.
    pub(super) fn piece_loaded(&mut self, now: Now, owed_to: NodeId, loaded: &Loaded, out: &mut Vec<Output>) {
        let is_reading = |walk: &&Walk| walk.phase == Phase::Reading;
        if self.handoffs.walks.get(&owed_to).filter(is_reading).is_some() {
            self.hand_to(now, owed_to, loaded, out);
        }
    }

    /// Values for a piece could not be read just now.
    pub(super) fn piece_again(&mut self, now: Now, owed_to: NodeId) {
        self.set_walk(owed_to, Phase::Idle(now.mono.after_ms(HINT_RETRY_MS)), None);
    }
}
