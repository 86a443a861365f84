//! Faults on purpose: peers from and to which every message is dropped, for demonstrations.
//!
//! The links stay open, as they do when a network loses packets: what is known of a peer must come
//! from its silence. Off unless the operator has allowed it; nothing but a client's wish, or the
//! process's end, changes what is dropped.

use super::Node;
use super::io::{Input, Output};
use crate::limits::CONNECTIONS_MAX;
use crate::lookup::Lookup;
use crate::types::{ConnId, NodeId};
use crate::wire::client::ClientReply;
use std::collections::BTreeSet;

/// What is dropped.
#[derive(Debug)]
pub(super) struct Faults {
    is_allowed: bool,
    dropped: BTreeSet<NodeId>,
    /// Whose the links are that were dialed to us: answers go to a link.
    askers: Lookup<ConnId, NodeId>,
}

impl Faults {
    pub(super) fn new(is_allowed: bool) -> Self {
        Self { is_allowed, dropped: BTreeSet::new(), askers: Lookup::new(CONNECTIONS_MAX) }
    }

    /// Whether the node is to be told of this.
    pub(super) fn admit(&mut self, input: &Input) -> bool {
        if !self.is_allowed {
            return true;
        }
        match input {
            Input::Peer { conn, from, .. } => {
                self.askers.insert(*conn, *from);
                !self.dropped.contains(from)
            }
            Input::PeerReply { from, .. } => !self.dropped.contains(from),
            Input::Client { .. }
            | Input::LinkUp { .. }
            | Input::LinkDown { .. }
            | Input::ManagerUp
            | Input::ManagerDown
            | Input::Manager(_)
            | Input::Disk(_)
            | Input::Read(_)
            | Input::TurnEnd
            | Input::Tick
            | Input::Stop => true,
        }
    }

    /// Takes back what is asked for, from the output `first` on, that must not reach its peer.
    pub(super) fn withhold(&self, first: usize, out: &mut Vec<Output>) {
        if self.dropped.is_empty() {
            return;
        }
        let asked = out.split_off(first.min(out.len()));
        out.extend(asked.into_iter().filter(|output| !self.is_withheld(output)));
    }

    fn is_withheld(&self, output: &Output) -> bool {
        match output {
            Output::Peer { to, .. } => self.dropped.contains(to),
            Output::PeerReply { conn, .. } => {
                self.askers.get(conn).is_some_and(|asker| self.dropped.contains(asker))
            }
            Output::Reply { .. }
            | Output::Connect { .. }
            | Output::Disconnect { .. }
            | Output::Manager(_)
            | Output::Disk(_)
            | Output::Read(_)
            | Output::Left
            | Output::Reaped { .. }
            | Output::IdentityChanged
            | Output::Stopped
            | Output::Fatal(_) => false,
        }
    }
}

impl Node {
    /// A client wants messages from and to these nodes dropped, and no others.
    pub(super) fn inject_faults(&mut self, drop_from: &[NodeId]) -> ClientReply {
        if !self.faults.is_allowed {
            return ClientReply::Error(
                "this node injects no faults: it was started without --allow-fault-injection".to_owned(),
            );
        }
        let dropped: BTreeSet<NodeId> = drop_from.iter().copied().filter(|&node| node != self.me()).collect();
        if dropped != self.faults.dropped {
            let names: Vec<String> = dropped.iter().map(ToString::to_string).collect();
            match names.is_empty() {
                true => log::warn!("faults on purpose: no message is dropped any more"),
                false => log::warn!("faults on purpose: no message from or to node {}", names.join(", ")),
            }
        }
        self.faults.dropped = dropped;
        ClientReply::FaultsSet
    }
}
