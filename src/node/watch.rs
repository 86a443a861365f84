//! Watching the other nodes: probes of idle links, questions to others, gossip.
//!
//! ```text
//! whenever one may be due, at most ten times a second: look at every peer's silence
//!    idle for half a second --Probe--> it      silent --AskAfter--> three others
//! once a second: one more beat; what is known of all --Gossip--> one peer, at random, and back
//! ```
//! A *saying* is what a node says of itself, numbered by its beat, so that of two that came on
//! different ways the later is known. A silent peer whose beat still rises elsewhere is cut off
//! from here, not down. (Gossip after Demers et al., "Epidemic Algorithms for Replicated Database
//! Maintenance", 1987; questions to others after Das et al., "SWIM", 2002.)

use super::io::{Lane, Output};
use super::liveness::Next;
use super::{NO_ROW, Node};
use crate::limits::{GOSSIP_MS, GOSSIP_RUMORS_MAX, PEERS_ASKED, STALL_MS, WATCH_MS};
use crate::types::{Epoch, Health, Instant, NodeId, Now};
use crate::wire::Vitals;
use crate::wire::peer::{PeerRequest, Saying};
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// When this node next looks around.
#[derive(Debug, Default)]
pub(super) struct Watch {
    look_at: Option<Instant>,
    gossip_at: Instant,
    /// Counted up with every gossip: numbers what this node says of itself.
    beat: u32,
}

impl Watch {
    pub(super) fn wake(&self) -> Instant {
        self.look_at.unwrap_or_default()
    }
}

impl Node {
    /// What this node says of itself.
    pub(super) fn own_saying(&self) -> Saying {
        let vitals = self.vitals();
        Saying { incarnation: self.identity.incarnation, beat: self.watch.beat, vitals }
    }

    /// How this node stands.
    pub(super) fn vitals(&self) -> Vitals {
        let (size, hints) = (self.engine.size(), self.ledger.in_engine());
        let (keys, bytes) = (size.0.saturating_sub(hints.0), size.1.saturating_sub(hints.1));
        let sectors = self.table().map_or(0, |table| table.sectors.len());
        Vitals {
            epoch: self.table().map_or(Epoch(0), |table| table.epoch),
            keys,
            bytes,
            pending: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
            hint_bytes: self.ledger.bytes(),
            damaged: u16::try_from(self.engine.quarantined_sectors(sectors)).unwrap_or(u16::MAX),
            repairs: u32::try_from(self.repairs_left()).unwrap_or(u32::MAX),
            room: self.space.room(),
        }
    }

    pub(super) fn probe(&self, to: NodeId, out: &mut Vec<Output>) {
        if self.peers.has_link(to, Lane::Foreground) {
            let epoch = self.table().map_or(Epoch(0), |table| table.epoch);
            let message = PeerRequest::Probe { epoch };
            out.push(Output::Peer { to, lane: Lane::Foreground, request: NO_ROW, message });
        }
    }

    pub(super) fn look_around(&mut self, now: Now, out: &mut Vec<Output>) {
        let planned = self.watch.look_at.unwrap_or(now.mono);
        if now.mono < planned {
            return;
        }
        let late_us = now.mono.micros_since(planned);
        if late_us > STALL_MS * 1000 {
            log::warn!("this node stood still for {} ms", late_us / 1000);
            self.peers.forgive(now.mono, late_us);
        }
        for (peer, next) in self.peers.tick(now.mono) {
            match next {
                Next::Nothing => {}
                Next::Probe => self.probe(peer, out),
                Next::AskOthers { verdict } => {
                    if verdict {
                        self.give_up_on(now, peer, out);
                    }
                    // It may be back: only its own answer ends the silence.
                    self.probe(peer, out);
                    self.ask_after(peer, out);
                }
            }
        }
        self.hand_off(now, out);
        if now.mono >= self.watch.gossip_at {
            self.watch.gossip_at = now.mono.after_ms(GOSSIP_MS);
            self.gossip(out);
        }
        let next = self.peers.next_look().unwrap_or(self.watch.gossip_at).min(self.watch.gossip_at);
        let next = self.next_handoff().map_or(next, |handoff| handoff.min(next));
        self.watch.look_at = Some(next.max(now.mono.after_ms(WATCH_MS)));
    }

    /// The link to a peer is gone: others are asked after it at once.
    pub(super) fn look_soon(&mut self, now: Now) {
        let soon = now.mono.after_ms(WATCH_MS);
        self.watch.look_at = self.watch.look_at.map(|planned| planned.min(soon));
    }

    /// A peer has answered something.
    pub(super) fn hear(&mut self, now: Now, peer: NodeId, out: &mut Vec<Output>) {
        let before = self.peers.health(peer);
        if self.peers.hear(peer, now.mono) && before > Health::Suspected {
            log::info!("node {peer} answers again");
            // Sectors on their way to it waited; hints are looked for with the next look.
            self.stream(now, out);
            self.look_soon(now);
        }
    }

    /// What waits for a peer that does not answer goes on without it.
    fn give_up_on(&mut self, now: Now, peer: NodeId, out: &mut Vec<Output>) {
        match self.peers.health(peer) {
            Health::CutOff => log::warn!("node {peer} does not answer this node, though others hear it"),
            Health::Down => log::warn!("node {peer} is down: it answers nobody who was asked"),
            Health::Up | Health::Suspected => {}
        }
        self.lose_rows(now, peer, Lane::Foreground, out);
    }

    fn ask_after(&self, peer: NodeId, out: &mut Vec<Output>) {
        let well = |&other: &NodeId| other != peer && self.peers.is_well(other, Lane::Foreground);
        let others: Vec<NodeId> = self.peers.all().filter(well).collect();
        let first = self.lot(peer, others.len());
        for &to in others.iter().cycle().skip(first).take(PEERS_ASKED.min(others.len())) {
            let message = PeerRequest::AskAfter { node: peer };
            out.push(Output::Peer { to, lane: Lane::Foreground, request: NO_ROW, message });
        }
    }

    fn gossip(&mut self, out: &mut Vec<Output>) {
        self.watch.beat = self.watch.beat.saturating_add(1);
        let linked: Vec<NodeId> = self.peers.linked().collect();
        let Some(&to) = linked.get(self.lot(self.me(), linked.len())) else { return };
        let message = PeerRequest::Gossip { rumors: self.rumors() };
        out.push(Output::Peer { to, lane: Lane::Foreground, request: NO_ROW, message });
    }

    /// What is known of all nodes, this one first; of very many only some, others each time.
    pub(super) fn rumors(&self) -> Vec<(NodeId, Saying)> {
        let known: Vec<_> = self.peers.all().map(|id| (id, self.peers.said(id))).collect();
        let first = self.lot(NodeId(0), known.len());
        let others = known.iter().cycle().skip(first).take(known.len()).filter(|entry| entry.1.beat > 0);
        let own = std::iter::once((self.me(), self.own_saying()));
        own.chain(others.take(GOSSIP_RUMORS_MAX - 1).copied()).collect()
    }

    /// Another node tells what it knows of all.
    pub(super) fn hear_rumors(&mut self, rumors: &[(NodeId, Saying)], out: &mut Vec<Output>) {
        let mut newest = None;
        for &(node, said) in rumors {
            if self.peers.note(node, said) {
                self.peers.told_of(node, Some(0));
                newest = newest.max(Some((said.vitals.epoch, node)));
            }
        }
        // One of those that have the newest table is asked for it, not all.
        let ours = self.table().map_or(Epoch(0), |table| table.epoch);
        if let Some((epoch, node)) = newest.filter(|newest| newest.0 > ours) {
            self.compare_epoch(node, epoch, out);
        }
    }

    /// A number below `count`, another with each beat and for each `salt`. No two nodes agree on it.
    fn lot(&self, salt: NodeId, count: usize) -> usize {
        let mut hasher = XxHash3_64::with_seed(u64::from(self.watch.beat));
        let actor = self.identity.actor();
        hasher.write_u32(actor.node.0);
        hasher.write_u32(actor.incarnation.0);
        hasher.write_u32(salt.0);
        match u64::try_from(count) {
            Ok(count @ 1..) => usize::try_from(hasher.finish() % count).unwrap_or(0),
            Ok(0) | Err(_) => 0,
        }
    }
}
