//! What a node knows of the other nodes from its own links: who is up, slow, and how loaded.
//!
//! It steers routing and nothing else: ownership changes by table alone.

use super::io::{Lane, Output};
use crate::limits::PEER_SUSPECT_MS;
use crate::ring::Table;
use crate::types::{Epoch, Instant, NodeId};
use std::collections::BTreeMap;

/// Every other member of the table.
#[derive(Debug, Default)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

/// One of them.
#[derive(Debug, Default)]
struct Peer {
    addr: String,
    foreground_up: bool,
    bulk_up: bool,
    /// Passed over in routing until then, because it left a request unanswered.
    suspect_until: Instant,
    load: Load,
}

/// What a peer last said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Epoch of its table.
    pub epoch: Epoch,
    /// Keys held.
    pub keys: u64,
    /// Bytes of keys and values held.
    pub bytes: u64,
    /// Sectors of which its copy is damaged, and not served.
    pub damaged: u16,
}

impl Peers {
    /// Follows the table: links to new members and new addresses, none to those that left.
    pub fn follow(&mut self, table: &Table, me: NodeId, out: &mut Vec<Output>) {
        let gone: Vec<NodeId> = self
            .peers
            .keys()
            .copied()
            .filter(|&id| table.present().all(|(present, _)| present != id))
            .collect();
        for peer in gone {
            self.peers.remove(&peer);
            out.push(Output::Disconnect { peer });
        }
        for (id, member) in table.present().filter(|&(id, _)| id != me) {
            let peer = self.peers.entry(id).or_default();
            if peer.addr != member.addr {
                peer.addr.clone_from(&member.addr);
                out.push(Output::Connect { peer: id, addr: member.addr.clone() });
            }
        }
    }

    /// A link opened or broke. Returns whether the peer is one we know.
    pub fn set_link(&mut self, node: NodeId, lane: Lane, up: bool) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        match lane {
            Lane::Foreground => {
                peer.foreground_up = up;
                peer.suspect_until = Instant::default();
            }
            Lane::Bulk => peer.bulk_up = up,
        }
        true
    }

    /// Whether requests of this lane can be sent to a node.
    #[must_use]
    pub fn is_up(&self, node: NodeId, lane: Lane) -> bool {
        self.peers.get(&node).is_some_and(|peer| match lane {
            Lane::Foreground => peer.foreground_up,
            Lane::Bulk => peer.bulk_up,
        })
    }

    /// A node left a request unanswered: others are asked first for a while.
    pub fn suspect(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.suspect_until = now.after_ms(PEER_SUSPECT_MS);
        }
    }

    /// Whether a node answers, as far as is known.
    #[must_use]
    pub fn is_trusted(&self, node: NodeId, now: Instant) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.foreground_up && peer.suspect_until <= now)
    }

    /// Takes note of what a peer says of itself.
    pub fn note_load(&mut self, node: NodeId, load: Load) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.load = load;
        }
    }

    /// What a peer last said of itself.
    #[must_use]
    pub fn load(&self, node: NodeId) -> Load {
        self.peers.get(&node).map(|peer| peer.load).unwrap_or_default()
    }

    /// Peers whose foreground link is up, in id order.
    pub fn connected(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().filter(|entry| entry.1.foreground_up).map(|entry| *entry.0)
    }
}
