//! One copy to another node: whether that is allowed, and the doing of it.
//!
//! For those who choose step by step, by load or by name. [`Draft::level`] has its own network.

use super::{Draft, Place};

/// One copy handed on: this place of this sector, to this node.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) sector: usize,
    pub(super) place: usize,
    pub(super) to: usize,
}

impl Draft {
    pub(super) fn take(&mut self, step: Step) {
        let owner = &mut self.sectors[step.sector][step.place].owner;
        let from = std::mem::replace(owner, step.to);
        self.nodes[from].held -= 1;
        self.nodes[step.to].held += 1;
    }

    /// Whether the node may own this place: it is free to, and zones are spread no worse.
    pub(super) fn may_take(&self, step: Step) -> bool {
        if !self.is_free(step) {
            return false;
        }
        let repeats = self.repeats_with(step);
        repeats <= self.limits[step.sector] || repeats <= self.repeats(self.owners(step.sector))
    }

    /// How many of a sector's owners share a zone, once one place has another owner.
    pub(super) fn repeats_with(&self, step: Step) -> usize {
        let owner = |(at, owner)| if at == step.place { step.to } else { owner };
        self.repeats(self.owners(step.sector).enumerate().map(owner))
    }

    /// Whether the node is free to own this place: it is nowhere else in the sector, neither as
    /// an owner nor as a node of a slot it was in. (Its own former place it may have back.)
    fn is_free(&self, step: Step) -> bool {
        let id = self.nodes[step.to].id;
        let place = self.sectors[step.sector][step.place];
        let was_in = |other: &Place| other.was.is_some_and(|slot| slot.nodes().any(|node| node == id));
        !place.pinned
            && self.owners(step.sector).all(|owner| owner != step.to)
            && (place.home() == Some(id) || !self.sectors[step.sector].iter().any(was_in))
    }
}
