//! Copies of sectors that this node no longer owns: kept until nobody can want them, then given up.
//!
//! ```text
//! Resting --time, and something is left over that may go--> Raising
//!   Raising --the next incarnation is durable--> the copies go, durably --> Resting
//! ```
//! They may go when every member that answers has the table in which the sector went (CONSISTENCY.md,
//! section 5), when the sector is moving no more, and when no debt of ours names them: what is owed of
//! a key is read from our own copy. Until then nothing of the sector is reaped anywhere, so that what
//! is left over never brings back what was deleted, even if the sector comes back first.
//!
//! The node's next writes have another actor. It has forgotten dots of its own with the copies, and
//! dots of the old actor that follow would cover those, wherever the sector comes back from
//! (CONSISTENCY.md, section 2). A copy is given up with one record; nothing here walks over keys.

use super::Node;
use super::hints::{FIRST_SHELF, HintKind, shelf_of};
use super::identity::Identity;
use super::io::Output;
use crate::engine::{At, FileName, Ticket};
use crate::limits::{LEFTOVERS_EVERY_MS, LEFTOVERS_LOOK_MS};
use crate::mutant::Mutant;
use crate::ring::{Durability, Table};
use crate::types::{Epoch, Health, Incarnation, Instant, Now};
use std::sync::Arc;

/// How far the giving up is.
#[derive(Debug)]
pub(super) enum Leftovers {
    /// Looked at again at that time; copies were last given up at the other. Under the table of the
    /// epoch `none_in` there are none.
    Resting { look_at: Instant, dropped_at: Option<Instant>, none_in: Option<Epoch> },
    /// The next life's identity is on its way to the disk.
    Raising { identity: Identity, ticket: Ticket },
}

impl Default for Leftovers {
    fn default() -> Self {
        Leftovers::Resting { look_at: Instant::default(), dropped_at: None, none_in: None }
    }
}

impl Leftovers {
    pub(super) fn wake(&self) -> Option<Instant> {
        match self {
            Leftovers::Resting { look_at, .. } => Some(*look_at),
            Leftovers::Raising { .. } => None,
        }
    }
}

impl Node {
    /// Gives up what is left over, if it is time to look for it.
    pub(super) fn give_up_leftovers(&mut self, now: Now, out: &mut Vec<Output>) {
        let Leftovers::Resting { look_at, dropped_at, none_in } = self.leftovers else { return };
        if look_at > now.mono {
            return;
        }
        let look_at = now.mono.after_ms(LEFTOVERS_LOOK_MS);
        // A node on its way out leaves everything as it is.
        let Some(view) = self.view.as_ref().filter(|view| view.durable && self.may_keep_hints()) else {
            self.leftovers = Leftovers::Resting { look_at, dropped_at, none_in };
            return;
        };
        let table = Arc::clone(&view.table);
        let none_in = none_in.filter(|&epoch| epoch == table.epoch);
        let is_long_ago = dropped_at.is_none_or(|at| at.after_ms(LEFTOVERS_EVERY_MS) <= now.mono);
        if self.stopping || !is_long_ago || none_in.is_some() {
            self.leftovers = Leftovers::Resting { look_at, dropped_at, none_in };
            return;
        }
        let none_in = self.leftovers().next().is_none().then_some(table.epoch);
        let may_go = self.leftovers().any(|at| self.is_wanted_by_nobody(&table, at));
        if !may_go {
            self.leftovers = Leftovers::Resting { look_at, dropped_at, none_in };
            return;
        }
        if self.options.planted.is(Mutant::DropUnderOldActor) {
            return self.drop_leftovers(now, &table);
        }
        let incarnation = Incarnation(self.identity.incarnation.0 + 1);
        let identity = Identity { incarnation, ..self.identity };
        out.extend(self.engine.take_batch().map(Output::Disk));
        out.push(Output::Disk(self.engine.replace(FileName::Identity, identity.encode())));
        self.leftovers = Leftovers::Raising { identity, ticket: self.engine.last_request() };
    }

    /// The disk has got on: once the next identity is durable it is ours, and the copies go.
    pub(super) fn leftovers_when_durable(&mut self, now: Now, out: &mut Vec<Output>) {
        let Leftovers::Raising { identity, ticket } = self.leftovers else { return };
        let Some(table) = self.table().cloned() else { return };
        if self.engine.is_durable(ticket, Durability::Sync) {
            self.identity = identity;
            out.push(Output::IdentityChanged);
            self.drop_leftovers(now, &table);
        }
    }

    fn drop_leftovers(&mut self, now: Now, table: &Table) {
        let dropped: Vec<At> = self.leftovers().filter(|&at| self.is_wanted_by_nobody(table, at)).collect();
        dropped.iter().for_each(|&at| self.engine.drop_shelf(at));
        // What was said of them in a fence round is true only once that is durable.
        self.fences.void_round();
        log::info!("gave up {} copies of sectors that other nodes own now", dropped.len());
        let look_at = now.mono.after_ms(LEFTOVERS_LOOK_MS);
        self.leftovers = Leftovers::Resting { look_at, dropped_at: Some(now.mono), none_in: None };
    }

    /// Copies of what others own.
    fn leftovers(&self) -> impl Iterator<Item = At> {
        let places = self.engine.places(At::default()).take_while(|place| place.0 < FIRST_SHELF);
        places.filter(|&at| !self.owns(at))
    }

    fn is_wanted_by_nobody(&self, table: &Table, at: At) -> bool {
        let sector = table.sector(at.1);
        // The first owners of a sector are given with the first table: one without has none to take it.
        if sector.slots.is_empty() || sector.is_moving() {
            return false;
        }
        let debts = self.engine.walk(shelf_of(HintKind::Debt, at), None).next();
        if debts.is_some() && !self.options.planted.is(Mutant::DropWithDebts) {
            return false;
        }
        let mut others = table.present().map(|(node, _)| node).filter(|&node| node != self.me());
        others.all(|node| {
            // One that does not answer learns it before it answers anybody.
            matches!(self.peers.health(node), Health::Down)
                || self.peers.said(node).vitals.epoch >= sector.conf_epoch
        })
    }
}
