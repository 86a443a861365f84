//! Levelling: copies move from members above their target to members below it, as few as possible.

use super::flow::Flow;
use super::network::Network;
use super::{Draft, Place};

impl Draft {
    /// Brings every node to its target, as far as distinct owners, zones and slots on their way
    /// allow, and moves the fewest copies that this takes.
    pub(super) fn level(&mut self) {
        let flow = self.solved();
        for (places, owners) in self.sectors.iter_mut().zip(flow.network.into_owners()) {
            reseat(places, owners);
        }
        self.count_held();
    }

    pub(super) fn solved(&self) -> Flow {
        let mut flow = Flow::new(Network::new(self));
        flow.solve();
        flow
    }

    fn count_held(&mut self) {
        for node in &mut self.nodes {
            node.held = 0;
        }
        for place in self.sectors.iter().flatten() {
            self.nodes[place.owner].held += 1;
        }
    }
}

/// Gives a sector's places to its owners: who had one keeps it, others take what has become free.
fn reseat(places: &mut [Place], mut owners: Vec<usize>) {
    let mut free = Vec::new();
    for place in places.iter_mut().filter(|place| !place.pinned) {
        match owners.iter().position(|&owner| owner == place.owner) {
            Some(at) => {
                owners.remove(at);
            }
            None => free.push(place),
        }
    }
    for (place, owner) in free.into_iter().zip(owners) {
        place.owner = owner;
    }
}
