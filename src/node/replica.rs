//! The replica: stores and tells one copy, when sender and receiver agree on who owns the sector.
//!
//! Also the dispatch of everything else that a peer asks.

use super::anti_entropy::Fetching;
use super::io::Output;
use super::load::{Then, Waiting};
use super::{Ack, Node, ReplyTo, Row, Taken, WriteName};
use crate::engine::{At, Fetched, Loaded, Outline, Wanted};
use crate::mutant::Mutant;
use crate::ring::{Durability, KeyspaceSettings, Table};
use crate::types::{ConnId, Dot, Epoch, Instant, Key, NodeId, Now, OpId, RequestId};
use crate::version::{Content, Object};
use crate::wire::peer::{PeerReply, PeerRequest, Place, Standing, Worth};
use std::sync::Arc;

/// A peer's question for what is held of a key.
#[derive(Debug)]
pub(super) struct Tell {
    pub(super) conn: ConnId,
    pub(super) request: RequestId,
    place: Place,
    key: Key,
    /// Of the asker's own copy: one that is equal need not be sent.
    digest: Option<u64>,
    /// What is asked for is what this node keeps for others.
    kept: bool,
    deadline: Instant,
}

impl Node {
    pub(super) fn on_peer(
        &mut self,
        now: Now,
        conn: ConnId,
        from: NodeId,
        request: RequestId,
        message: PeerRequest,
        out: &mut Vec<Output>,
    ) {
        let reply = match message {
            PeerRequest::Forward { worth, begin_ms, request: data } => {
                let begin = Worth { ttl_ms: begin_ms, ..worth };
                let in_time = self.freshness.deadline(conn, now.mono, begin).is_some();
                let deadline = self.freshness.deadline(conn, now.mono, worth).filter(|_| in_time);
                return self.begin(now, ReplyTo::Forwarder { conn, request }, data, deadline, out);
            }
            PeerRequest::Store { worth, place, fence, key, object, write, owed_to } => {
                if self.freshness.deadline(conn, now.mono, worth).is_none() {
                    return;
                }
                match (self.passes(fence), owed_to) {
                    (Err(refusal), _) => Some(refusal),
                    (Ok(()), None) => self.store_copy(now, (conn, request), place, &key, &object, write),
                    (Ok(()), Some(owed_to)) => {
                        // What it will hand over is to be behind the fence that it marks it with, or
                        // that fence is not to be enforced.
                        if fence < self.fences.adopted() {
                            self.fences.void_round();
                        }
                        self.store_hint((conn, request), place, &key, &object, owed_to)
                    }
                }
            }
            PeerRequest::Read { worth, place, key, digest, kept, fence } => {
                let Some(deadline) = self.freshness.deadline(conn, now.mono, worth) else { return };
                if kept && fence > self.fences.adopted() {
                    // What is kept here may have been read before that fence.
                    return out.push(Output::PeerReply { conn, request, message: PeerReply::Overloaded });
                }
                let tell = Tell { conn, request, place, key, digest, kept, deadline };
                self.tell_copy(tell, &Loaded::new())
            }
            PeerRequest::Transfer { place, fence, entries } => match self.passes(fence) {
                Ok(()) => self.store_chunk((conn, request), place, &entries),
                Err(refusal) => Some(refusal),
            },
            PeerRequest::Settle { reap, fence, places } => {
                let (reply, ticket) = self.settle((reap, fence), &places, out);
                match ticket {
                    Some(ticket) => self.hold_reply((conn, request), ticket, Durability::Sync, reply),
                    None => Some(reply),
                }
            }
            PeerRequest::RaiseFence { round, step, fence, sectors } => {
                let (reply, ticket) = self.raise_fence(from, (round, step, fence), &sectors, out);
                self.hold_reply((conn, request), ticket, Durability::Sync, reply)
            }
            PeerRequest::Probe { epoch } => {
                self.compare_epoch(from, epoch, out);
                Some(PeerReply::Alive(self.own_saying()))
            }
            PeerRequest::AskAfter { node } => {
                Some(PeerReply::Heard { node, ms_ago: self.peers.heard_ms_ago(node, now.mono) })
            }
            PeerRequest::Gossip { rumors } => {
                self.hear_rumors(&rumors, out);
                Some(PeerReply::Gossip { rumors: self.rumors() })
            }
            PeerRequest::Compare { places } => Some(self.compare_roots(&places)),
            PeerRequest::List { place, leaves, listed } => Some(self.compare_lists(place, &leaves, &listed)),
            PeerRequest::Fetch { place, keys } => {
                self.tell_objects(now, Fetching::new((conn, request), place, keys), &Loaded::new())
            }
            PeerRequest::FetchTable => self.view.as_ref().map(|view| PeerReply::Table(view.bytes.clone())),
            PeerRequest::PushTable(bytes) => return self.adopt_bytes(now, bytes, out),
        };
        if let Some(message) = reply {
            out.push(Output::PeerReply { conn, request, message });
        }
    }

    /// Whether a data message may be acted on: both sides must have the sector's present owners,
    /// and this node must be one of them.
    pub(super) fn agree(&self, place: Place, key: Option<&Key>) -> Result<KeyspaceSettings, PeerReply> {
        let settings = self.agree_on(place, key)?;
        if self.owns((place.keyspace, place.sector)) { Ok(settings) } else { Err(self.stale()) }
    }

    /// Whether its own copy of a place is not whole, and so nothing is answered or coordinated from it.
    pub(super) fn withholds(&self, at: At) -> bool {
        self.engine.is_quarantined(at) && !self.options.planted.is(Mutant::ServeQuarantined)
    }

    /// Whether this node is an owner of a place by the table in force.
    pub(super) fn owns(&self, (keyspace, sector): At) -> bool {
        let n = |table: &Arc<Table>| Some(usize::from(table.keyspaces.get(&keyspace)?.settings.n));
        let owners =
            self.table().and_then(|table| Some((table.sectors.get(usize::from(sector.0))?, n(table)?)));
        owners.is_some_and(|(owners, n)| owners.nodes(n).any(|node| node == self.me()))
    }

    fn stale(&self) -> PeerReply {
        PeerReply::Stale(self.table().map_or(Epoch(0), |table| table.epoch))
    }

    /// Whether both sides have the sector's present owners, whoever they are.
    fn agree_on(&self, place: Place, key: Option<&Key>) -> Result<KeyspaceSettings, PeerReply> {
        let Some(table) = self.table() else { return Err(PeerReply::Behind(Epoch(0))) };
        let owners = table.sector(place.sector);
        if place.conf_epoch < owners.conf_epoch {
            return Err(PeerReply::Stale(table.epoch));
        }
        if place.conf_epoch > owners.conf_epoch {
            return Err(PeerReply::Behind(table.epoch));
        }
        let Some(keyspace) = table.keyspaces.get(&place.keyspace) else {
            return Err(PeerReply::Behind(table.epoch));
        };
        let right_sector = key.is_none_or(|key| table.sector_of(key) == place.sector);
        if right_sector { Ok(keyspace.settings) } else { Err(PeerReply::Stale(table.epoch)) }
    }

    /// Keeps a write for an owner that is away, being none itself.
    fn store_hint(
        &mut self,
        to: (ConnId, RequestId),
        place: Place,
        key: &Key,
        object: &Object,
        owed_to: NodeId,
    ) -> Option<PeerReply> {
        let settings = match self.agree_on(place, Some(key)) {
            Ok(settings) => settings,
            Err(refusal) => return Some(refusal),
        };
        let table = self.table()?;
        let owners: Vec<NodeId> = table.sector(place.sector).nodes(usize::from(settings.n)).collect();
        if !owners.contains(&owed_to) || owners.contains(&self.me()) {
            return Some(self.stale());
        }
        if !self.may_keep_hints() || !self.has_space_for(object, None, settings.durability) {
            return Some(PeerReply::Full);
        }
        let Some(kept) = self.keep_copy(place, key, object, owed_to, settings.durability) else {
            return Some(PeerReply::Full);
        };
        let early = self.options.planted.is(Mutant::HintBeforeDurable);
        let durability = if early { Durability::Memory } else { settings.durability };
        self.hold_reply(to, kept.ticket, durability, PeerReply::Stored { standing: Standing::Highest })
    }

    /// Tells what is kept of a key for owners that are away.
    fn tell_kept(&mut self, tell: Tell, loaded: &Loaded) -> Option<PeerReply> {
        if let Err(refusal) = self.agree_on(tell.place, Some(&tell.key)) {
            return Some(refusal);
        }
        match self.kept_copies(tell.place, &tell.key, loaded) {
            Fetched::Whole(object) => Some(PeerReply::Held(object)),
            Fetched::OnDisk(wanted) => self.tell_later(tell, loaded, wanted),
            // Of what owners hold it knows nothing.
            Fetched::Absent | Fetched::Unreadable => Some(PeerReply::Absent { vouched: false }),
        }
    }

    fn tell_later(&mut self, tell: Tell, loaded: &Loaded, wanted: Vec<Wanted>) -> Option<PeerReply> {
        if self.pending.is_full() {
            return Some(PeerReply::Overloaded);
        }
        let deadline = tell.deadline;
        let tell = Tell { key: Key::copy_from_slice(&tell.key), ..tell };
        self.wait_for(Waiting::new(Then::Tell(tell), loaded.clone(), deadline), wanted);
        None
    }

    /// Merges a copy; the acknowledgement goes once it is durable. Returns an answer to give now.
    fn store_copy(
        &mut self,
        now: Now,
        to: (ConnId, RequestId),
        place: Place,
        key: &Key,
        object: &Object,
        write: Option<(OpId, Dot)>,
    ) -> Option<PeerReply> {
        let settings = match self.agree(place, Some(key)) {
            Ok(settings) => settings,
            Err(refusal) => return Some(refusal),
        };
        if self.options.planted.is(Mutant::DropReplicaWrite) {
            return Some(PeerReply::Stored { standing: Standing::Highest });
        }
        if !self.has_space_for(object, write.map(|(_, dot)| dot), settings.durability) {
            return Some(PeerReply::Full);
        }
        self.clock.observe(object.highest_stamp(), now.wall);
        let name = |op| WriteName::new(op, place.keyspace, key);
        let repeated = write.is_some_and(|(op, dot)| !self.remember(name(op), dot));
        let at = (place.keyspace, place.sector);
        let merged = self.engine.merge(at, key, object, settings.durability);
        let standing = match (repeated, write, self.engine.outline(at, key)) {
            (true, _, _) => Standing::Repeated,
            (false, Some((_, dot)), Some(held)) => standing_of(&held, object, dot),
            (false, _, _) => Standing::Highest,
        };
        if self.options.planted.is(Mutant::ForgetTombstones)
            && object.siblings().iter().all(|sibling| sibling.content == Content::Tombstone)
        {
            self.engine.forget(at, key, object.context(), settings.durability);
        }
        let unwaited = !merged.changed && self.options.planted.is(Mutant::AckUnchangedAtOnce);
        let durability = if unwaited { Durability::Memory } else { settings.durability };
        self.hold_reply(to, merged.ticket, durability, PeerReply::Stored { standing })
    }

    /// Remembers a write's dot. False if it is known under another, by another attempt elsewhere.
    fn remember(&mut self, name: WriteName, dot: Dot) -> bool {
        match self.ops.get(&name).copied() {
            // Of one coordinator: the same, or written once more above what it was below.
            Some(taken) if taken.dot.actor != dot.actor => {
                if let Some(Row::Put(row)) = taken.row.and_then(|id| self.pending.get_mut(id)) {
                    row.forbid_raise();
                }
                false
            }
            Some(_) | None => {
                self.ops.insert(name, Taken { dot, row: None });
                true
            }
        }
    }

    fn hold_reply(
        &mut self,
        (conn, request): (ConnId, RequestId),
        ticket: crate::engine::Ticket,
        durability: Durability,
        message: PeerReply,
    ) -> Option<PeerReply> {
        let durability =
            if self.options.planted.is(Mutant::AckBeforeDurable) { Durability::Memory } else { durability };
        match self.gate.hold(&self.engine, ticket, durability, Ack::Peer { conn, request, message })? {
            Ack::Peer { message, .. } => Some(message),
            Ack::Own(_) => None,
        }
    }

    /// Tells what is held of a key, now or when its values have been read from the disk.
    pub(super) fn tell_copy(&mut self, tell: Tell, loaded: &Loaded) -> Option<PeerReply> {
        if tell.kept {
            return self.tell_kept(tell, loaded);
        }
        let place = (tell.place.keyspace, tell.place.sector);
        let settings = match self.agree(tell.place, Some(&tell.key)) {
            Ok(settings) => settings,
            Err(refusal) => return Some(refusal),
        };
        if self.withholds(place) {
            return Some(PeerReply::Unreadable);
        }
        let Some(outline) = self.engine.outline(place, &tell.key) else {
            return Some(PeerReply::Absent { vouched: self.vouches(settings.durability) });
        };
        if outline.siblings().iter().any(|sibling| sibling.content.damaged) {
            // Not "the same", although the writes are: the asker is to send what we lack.
            return Some(PeerReply::Unreadable);
        }
        if tell.digest == Some(self.digest(&outline, &tell.key)) {
            return Some(PeerReply::Same);
        }
        match self.engine.read(place, &tell.key, |_| true, loaded) {
            Fetched::Whole(object) => Some(PeerReply::Held(object)),
            Fetched::OnDisk(wanted) => self.tell_later(tell, loaded, wanted),
            Fetched::Absent | Fetched::Unreadable => Some(PeerReply::Unreadable),
        }
    }

    /// Merges a piece of a sector that is moving here.
    fn store_chunk(
        &mut self,
        to: (ConnId, RequestId),
        place: Place,
        entries: &[(Key, Object)],
    ) -> Option<PeerReply> {
        let settings = match self.agree(place, None) {
            Ok(settings) => settings,
            Err(refusal) => return Some(refusal),
        };
        // What moves here was counted when the table was made: it may go below the reserve.
        if !self.space.takes_anything() {
            return Some(PeerReply::Full);
        }
        let at = (place.keyspace, place.sector);
        // A moved copy is synced whatever the keyspace's own durability: the old one will be given up.
        let early = self.options.planted.is(Mutant::ChunkBeforeDurable);
        let durability = match settings.durability {
            Durability::Sync | Durability::Os if !early => Durability::Sync,
            Durability::Sync | Durability::Os | Durability::Memory => Durability::Memory,
        };
        let mut ticket = crate::engine::Ticket::default();
        for (key, object) in entries {
            ticket = ticket.max(self.engine.merge(at, key, object, durability).ticket);
        }
        self.hold_reply(to, ticket, durability, PeerReply::Stored { standing: Standing::Highest })
    }
}

/// How the write `dot`, which `object` brings, stands among what is held. A write that is no
/// longer held has been seen and replaced by somebody, and must not be written over that.
fn standing_of(held: &Outline, object: &Object, dot: Dot) -> Standing {
    let unknown = held.siblings().iter().filter(|sibling| !object.context().covers(sibling.dot));
    match unknown.map(|sibling| sibling.stamp).max() {
        // An equal stamp wins too, if its actor is higher.
        Some(stamp) if held.has(dot) && stamp >= object.highest_stamp() => Standing::Below(stamp),
        Some(_) | None => Standing::Highest,
    }
}
