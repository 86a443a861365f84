//! Levelling: copies move from nodes above their share to nodes below it, as few as possible.
//!
//! Most moves are direct. Where the last node below its share already owns whatever the nodes
//! above could give it, a chain is found in which each hands one copy to the next; choosing
//! another receiver for a copy that is to move anyway costs nothing.

use super::{Draft, Node, Place, mix};
use crate::ring::Slot;

/// Longest chain of copies handed on. With one in between nearly all is levelled already.
const CHAIN_STEPS_MAX: usize = 4;

/// One copy handed on: this place of this sector, to this node.
#[derive(Clone, Copy)]
struct Step {
    sector: usize,
    place: usize,
    to: usize,
}

/// The cheapest known way to a node: what it costs, and its last step.
type Reached = Option<(i64, Option<Step>)>;

/// Which nodes give copies, and which take them.
#[derive(Clone, Copy)]
struct Flow {
    gives: fn(&Node) -> bool,
    takes: fn(&Node) -> bool,
}

/// What serves both sides comes first; then those with too much are relieved by whoever has room,
/// and those with too little are helped by whoever can spare one.
const FLOWS: [Flow; 3] = [
    Flow { gives: Node::has_too_much, takes: Node::has_too_little },
    Flow { gives: Node::has_too_much, takes: Node::has_room },
    Flow { gives: Node::can_spare, takes: Node::has_too_little },
];

impl Node {
    fn has_too_much(&self) -> bool {
        self.held > self.max
    }

    fn has_too_little(&self) -> bool {
        self.held < self.min
    }

    fn has_room(&self) -> bool {
        self.held < self.max
    }

    fn can_spare(&self) -> bool {
        self.held > self.min
    }
}

impl Draft {
    /// Brings every node to its share, as far as distinct owners and zones allow.
    pub(super) fn level(&mut self) {
        self.respread();
        for flow in FLOWS {
            self.move_directly(flow);
            self.move_in_chains(flow);
        }
        self.evict();
    }

    /// Whether copies can flow at all.
    fn is_open(&self, flow: Flow) -> bool {
        self.nodes.iter().any(flow.gives) && self.nodes.iter().any(flow.takes)
    }

    /// Sectors in a fixed, scattered order, so that what moves is not one run of them. Their
    /// count is a power of two: an odd factor visits each once.
    fn scattered(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.sectors.len();
        (0..count).map(move |at| at.wrapping_mul(0x9e37_79b1) % count)
    }

    fn owners(&self, sector: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        self.sectors[sector].iter().map(|place| place.owner)
    }

    /// The owner of the place, before the step.
    fn owner(&self, step: Step) -> usize {
        self.sectors[step.sector][step.place].owner
    }

    /// How many of a sector's owners share a zone, once one place has another owner.
    fn repeats_with(&self, step: Step) -> usize {
        let owner = |(at, owner)| if at == step.place { step.to } else { owner };
        self.repeats(self.owners(step.sector).enumerate().map(owner))
    }

    /// Whether the node is free to own this place: it is nowhere else in the sector, neither as
    /// an owner nor as the old node of a moving slot. (Its own former place it may have back.)
    fn is_free(&self, step: Step) -> bool {
        let id = self.nodes[step.to].id;
        let place = self.sectors[step.sector][step.place];
        let was_in = |other: &Place| other.was.is_some_and(|slot: Slot| slot.nodes().any(|node| node == id));
        !place.is_frozen()
            && self.owners(step.sector).all(|owner| owner != step.to)
            && (place.home() == Some(id) || !self.sectors[step.sector].iter().any(was_in))
    }

    /// Whether the node may own this place: it is free to, and zones are spread no worse.
    fn may_take(&self, step: Step) -> bool {
        if !self.is_free(step) {
            return false;
        }
        let repeats = self.repeats_with(step);
        repeats <= self.repeats_max || repeats <= self.repeats(self.owners(step.sector))
    }

    fn take(&mut self, step: Step) {
        let owner = &mut self.sectors[step.sector][step.place].owner;
        let from = std::mem::replace(owner, step.to);
        self.nodes[from].held -= 1;
        self.nodes[step.to].held += 1;
    }

    /// Copies that a step adds to those that move: none where the place has been given away
    /// already, less than none where it comes home.
    fn cost(&self, step: Step) -> i64 {
        let place = self.sectors[step.sector][step.place];
        let away = |node: usize| i64::from(place.home().is_some_and(|home| home != self.nodes[node].id));
        away(step.to) - away(place.owner)
    }

    /// The steps a sector allows, to nodes that may own.
    fn steps(&self, sector: usize) -> impl Iterator<Item = Step> + '_ {
        let places = 0..self.sectors[sector].len();
        places.flat_map(move |place| (0..self.eligible).map(move |to| Step { sector, place, to }))
    }

    /// From the fullest to the emptiest, then by hash.
    fn urgency(&self, step: Step) -> (i64, i64, u64) {
        let from = &self.nodes[self.owner(step)];
        let to = &self.nodes[step.to];
        let (above, below) = (from.held as i64 - from.max as i64, to.min as i64 - to.held as i64);
        (above, below, mix(step.sector, step.to))
    }

    /// Repairs sectors whose owners are in fewer zones than they could be: a zone may be new.
    fn respread(&mut self) {
        for sector in 0..self.sectors.len() {
            loop {
                let repeats = self.repeats(self.owners(sector));
                if repeats <= self.repeats_max {
                    break;
                }
                let better = |step: &Step| self.is_free(*step) && self.repeats_with(*step) < repeats;
                let Some(step) = self.steps(sector).filter(better).max_by_key(|&step| self.urgency(step))
                else {
                    break;
                };
                self.take(step);
            }
        }
    }

    /// Moves from those who give straight to those who take. A pass moves one copy of a sector,
    /// so that few sectors lose several owners at once and new nodes come into mixed company.
    fn move_directly(&mut self, flow: Flow) {
        for _ in 0..self.n {
            if !self.is_open(flow) {
                return;
            }
            for sector in self.scattered() {
                let flows = |step: &Step| {
                    (flow.takes)(&self.nodes[step.to])
                        && (flow.gives)(&self.nodes[self.owner(*step)])
                        && self.may_take(*step)
                };
                let best = self.steps(sector).filter(flows).max_by_key(|&step| self.urgency(step));
                if let Some(step) = best {
                    self.take(step);
                }
            }
        }
    }

    /// Moves what is left in chains. A chain may fail half-way where two of its steps meet in one
    /// sector; each step alone is sound, so what was done stands. The bound is for that.
    fn move_in_chains(&mut self, flow: Flow) {
        let away = |node: &Node| node.held.saturating_sub(node.max) + node.min.saturating_sub(node.held);
        let tries = 2 * self.nodes.iter().map(away).sum::<usize>();
        for _ in 0..tries {
            if !self.is_open(flow) {
                return;
            }
            let Some(chain) = self.cheapest_chain(flow) else { return };
            for step in chain {
                if !self.may_take(step) {
                    break;
                }
                self.take(step);
            }
        }
    }

    /// The cheapest chain from a node that gives to one that takes, its last step first.
    fn cheapest_chain(&self, flow: Flow) -> Option<Vec<Step>> {
        let start = |node: &Node| (flow.gives)(node).then_some((0, None));
        let mut layers: Vec<Vec<Reached>> = vec![self.nodes.iter().map(start).collect()];
        while layers.len() <= CHAIN_STEPS_MAX {
            let next = self.next_layer(layers.last()?);
            layers.push(next);
        }
        let ends = layers.iter().enumerate().flat_map(|(length, layer)| {
            let cost = move |node: usize| layer[node].map(|(cost, _)| (cost, length, node));
            (0..self.eligible).filter(|&node| (flow.takes)(&self.nodes[node])).filter_map(cost)
        });
        let (_, length, mut node) = ends.min()?;
        let mut chain = Vec::with_capacity(length);
        for layer in layers[1..=length].iter().rev() {
            let step = layer[node]?.1?;
            chain.push(step);
            node = self.owner(step);
        }
        Some(chain)
    }

    /// The nodes one step on from those reached, each by its cheapest step.
    fn next_layer(&self, reached: &[Reached]) -> Vec<Reached> {
        let mut next: Vec<Reached> = vec![None; self.nodes.len()];
        for sector in 0..self.sectors.len() {
            for step in self.steps(sector) {
                let Some((spent, _)) = reached[self.owner(step)] else { continue };
                let cost = spent + self.cost(step);
                if next[step.to].is_none_or(|(known, _)| cost < known) && self.may_take(step) {
                    next[step.to] = Some((cost, Some(step)));
                }
            }
        }
        next
    }

    /// What nodes that may not own still hold goes to whoever is free, share or not: leaving
    /// comes before balance.
    fn evict(&mut self) {
        for sector in 0..self.sectors.len() {
            for place in 0..self.sectors[sector].len() {
                if self.sectors[sector][place].owner < self.eligible {
                    continue;
                }
                let steps = (0..self.eligible).map(|to| Step { sector, place, to });
                let best = steps.filter(|&step| self.may_take(step)).max_by_key(|&step| self.urgency(step));
                if let Some(step) = best {
                    self.take(step);
                }
            }
        }
    }
}
