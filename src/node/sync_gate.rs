//! Holds acknowledgements until the disk has caught up with what they promise.
//!
//! Tickets only rise, so each durability is a queue; the gate releases from the front.

use crate::engine::{Engine, Ticket};
use crate::ring::Durability;
use std::collections::VecDeque;

/// Acknowledgements that wait for the disk.
#[derive(Debug)]
pub struct SyncGate<A> {
    written: VecDeque<(Ticket, A)>,
    synced: VecDeque<(Ticket, A)>,
}

impl<A> Default for SyncGate<A> {
    fn default() -> Self {
        Self { written: VecDeque::new(), synced: VecDeque::new() }
    }
}

impl<A> SyncGate<A> {
    /// Holds an acknowledgement, unless it may go at once: then it is given back.
    pub fn hold(&mut self, engine: &Engine, ticket: Ticket, durability: Durability, ack: A) -> Option<A> {
        if engine.is_durable(ticket, durability) {
            return Some(ack);
        }
        match durability {
            Durability::Sync => self.synced.push_back((ticket, ack)),
            Durability::Os => self.written.push_back((ticket, ack)),
            Durability::Memory => return Some(ack),
        }
        None
    }

    /// The next acknowledgement that may go.
    pub fn release(&mut self, engine: &Engine) -> Option<A> {
        let ready = |queue: &VecDeque<(Ticket, A)>, durability| {
            queue.front().is_some_and(|held| engine.is_durable(held.0, durability))
        };
        if ready(&self.written, Durability::Os) {
            return self.written.pop_front().map(|held| held.1);
        }
        if ready(&self.synced, Durability::Sync) {
            return self.synced.pop_front().map(|held| held.1);
        }
        None
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.synced.is_empty()
    }
}
