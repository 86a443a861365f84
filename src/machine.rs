//! What the storage node, the manager and the client have in common.

use crate::types::{Instant, Now};

/// A pure state machine: it is told what happened and answers with what it wants done.
///
/// The driver (the shell's reactor or the simulator) calls [`handle`](Machine::handle) for each
/// thing that happens, carries out the outputs *in order*, and calls it again with a tick input
/// once [`deadline`](Machine::deadline) has passed. A machine reads no clock, opens no socket
/// and keeps no thread; two runs given the same inputs give the same outputs.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it can ask for.
    type Output;

    /// Takes one input and appends what is to be done to `out`.
    fn handle(&mut self, now: Now, input: Self::Input, out: &mut Vec<Self::Output>);

    /// When it next wants a tick, if at all.
    fn deadline(&self) -> Option<Instant>;
}
