//! What a node knows of the other nodes: their links, whether they answer, and what they say of
//! themselves.
//!
//! It steers routing and nothing else: ownership changes by table alone. Who is probed and asked,
//! and what is gossiped, is [`watch`](super::watch)'s.

use super::io::{Lane, Output};
use super::liveness::{Liveness, Next};
use crate::limits::{PEER_SUSPECT_MS, PROBE_MS};
use crate::ring::Table;
use crate::types::{Health, Instant, NodeId};
use crate::wire::peer::Saying;
use std::collections::BTreeMap;

/// Every other member of the table.
#[derive(Debug, Default)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

/// One of them.
#[derive(Debug)]
struct Peer {
    addr: String,
    foreground_up: bool,
    bulk_up: bool,
    /// When it left a request unanswered: passed over in routing for a while, and until it answers.
    passed_over: Option<Instant>,
    liveness: Liveness,
    said: Saying,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            addr: String::new(),
            foreground_up: false,
            bulk_up: false,
            passed_over: None,
            liveness: Liveness::new(now),
            said: Saying::default(),
        }
    }

    /// Requests sent to it may be answered.
    fn answers(&self) -> bool {
        match self.liveness.health() {
            Health::Up | Health::Suspected => true,
            Health::CutOff | Health::Down => false,
        }
    }
}

impl Peers {
    /// Follows the table: links to new members and new addresses, none to those that left.
    pub fn follow(&mut self, table: &Table, me: NodeId, now: Instant, out: &mut Vec<Output>) {
        let present: BTreeMap<NodeId, &str> = table
            .present()
            .filter(|&(id, _)| id != me)
            .map(|(id, member)| (id, member.addr.as_str()))
            .collect();
        self.peers.retain(|&peer, _| {
            let stays = present.contains_key(&peer);
            if !stays {
                out.push(Output::Disconnect { peer });
            }
            stays
        });
        for (id, addr) in present {
            let peer = self.peers.entry(id).or_insert_with(|| Peer::new(now));
            if peer.addr != addr {
                addr.clone_into(&mut peer.addr);
                out.push(Output::Connect { peer: id, addr: addr.to_owned() });
            }
        }
    }

    /// A link opened or broke. Returns whether the peer is one we know.
    pub fn set_link(&mut self, node: NodeId, lane: Lane, up: bool, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        match lane {
            Lane::Foreground => {
                peer.foreground_up = up;
                peer.passed_over = None;
                if !up {
                    peer.liveness.lose(now);
                }
            }
            Lane::Bulk => peer.bulk_up = up,
        }
        true
    }

    /// A peer has answered. Returns whether that ends a silence.
    pub fn hear(&mut self, node: NodeId, now: Instant) -> bool {
        self.peers.get_mut(&node).is_some_and(|peer| peer.liveness.hear(now))
    }

    /// Another node says how long ago it heard a peer; none: it does not hear it either.
    pub fn told_of(&mut self, node: NodeId, heard_ms_ago: Option<u32>) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.liveness.told(heard_ms_ago);
        }
    }

    /// This node stood still for so long.
    pub fn forgive(&mut self, now: Instant, stalled_us: u64) {
        self.peers.values_mut().for_each(|peer| peer.liveness.forgive(now, stalled_us));
    }

    /// Looks at the clock for every peer, and says what is to be done.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<(NodeId, Next)> {
        let next = self.peers.iter_mut().map(|(&id, peer)| (id, peer.liveness.tick(now, PROBE_MS)));
        next.filter(|entry| entry.1 != Next::Nothing).collect()
    }

    /// When one of them next wants to be looked at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.peers.values().map(|peer| peer.liveness.wake(PROBE_MS)).min()
    }

    /// Whether requests of this lane can be sent to a node: its link is open, and it answers.
    #[must_use]
    pub fn is_up(&self, node: NodeId, lane: Lane) -> bool {
        self.has_link(node, lane) && self.peers.get(&node).is_some_and(Peer::answers)
    }

    /// Whether a node answers, as far as is known, and its link of this lane is open. It may be
    /// slow: that is for those to mind who have somebody else to ask.
    #[must_use]
    pub fn is_well(&self, node: NodeId, lane: Lane) -> bool {
        self.has_link(node, lane) && self.health(node) == Health::Up
    }

    /// Whether the link to a node is open; it may be silent all the same.
    #[must_use]
    pub fn has_link(&self, node: NodeId, lane: Lane) -> bool {
        self.peers.get(&node).is_some_and(|peer| match lane {
            Lane::Foreground => peer.foreground_up,
            Lane::Bulk => peer.bulk_up,
        })
    }

    /// A node left a request unanswered: others are asked first for a while, and for as long as it
    /// answers nothing at all. (After the while alone, a node that stands still would be asked again
    /// and again until there is a verdict.)
    pub fn pass_over(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.passed_over = Some(now);
        }
    }

    /// Whether a node has answered anything since then.
    #[must_use]
    pub fn is_heard_since(&self, node: NodeId, since: Instant) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.liveness.is_heard_since(since))
    }

    /// Whether a node answers, and soon, as far as is known.
    #[must_use]
    pub fn is_trusted(&self, node: NodeId, now: Instant) -> bool {
        self.peers.get(&node).is_some_and(|peer| {
            let is_back =
                |at: Instant| now >= at.after_ms(PEER_SUSPECT_MS) && peer.liveness.is_heard_since(at);
            peer.foreground_up && peer.liveness.health() == Health::Up && peer.passed_over.is_none_or(is_back)
        })
    }

    /// How a node is, to this one. One to which there is no link is suspected at least, even before
    /// it has been silent for long.
    #[must_use]
    pub fn health(&self, node: NodeId) -> Health {
        let Some(peer) = self.peers.get(&node) else { return Health::Down };
        let at_best = if peer.foreground_up { Health::Up } else { Health::Suspected };
        peer.liveness.health().max(at_best)
    }

    /// How long ago a node answered, in milliseconds; none if it is no peer or does not answer.
    #[must_use]
    pub fn heard_ms_ago(&self, node: NodeId, now: Instant) -> Option<u32> {
        let peer = self.peers.get(&node).filter(|peer| peer.foreground_up)?;
        Some(peer.liveness.heard_ms_ago(now))
    }

    /// Takes note of what a peer says of itself, unless something later is known. Returns whether
    /// it is news.
    pub fn note(&mut self, node: NodeId, said: Saying) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        let is_news = (said.incarnation, said.beat) > (peer.said.incarnation, peer.said.beat);
        if is_news {
            peer.said = said;
        }
        is_news
    }

    /// What a peer last said of itself, as far as it has come here.
    #[must_use]
    pub fn said(&self, node: NodeId) -> Saying {
        self.peers.get(&node).map(|peer| peer.said).unwrap_or_default()
    }

    /// Peers whose foreground link is open, in id order.
    pub fn linked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().filter(|entry| entry.1.foreground_up).map(|entry| *entry.0)
    }

    /// Whether a node is a peer at all.
    #[must_use]
    pub fn is_peer(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// Every peer, in id order.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }
}
