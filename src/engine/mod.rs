//! The storage engine: an index of objects in memory, and an append-only commit log behind it.
//!
//! The index has one write, [`Engine::merge`]. It changes memory at once and hands out a
//! [`Ticket`]; the write may be acknowledged when the disk has reported that ticket at the
//! keyspace's durability. The engine never touches a disk: it gives out [`DiskRequest`]s, which
//! the shell's log thread (or the simulator) carries out through a [`LogWriter`] over
//! [`Storage`], answering with [`DiskEvent`]s. Order is the contract: requests are carried out in
//! the order given, and a record is appended, then durable, then acknowledged.

mod index;
mod log;
mod record;
mod storage;

pub use index::{Engine, Merged};
pub use log::{LogWriter, Recovered, RecoveryError, recover};
pub use storage::{FileName, Storage, replace};

use bytes::Bytes;

/// The number of a disk request. A later one is never done before an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ticket(pub u64);

/// What the log thread is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskRequest {
    /// Append these records to the log.
    Append {
        /// The batch's number.
        ticket: Ticket,
        /// Log position of the first byte.
        position: u64,
        /// Whole records.
        bytes: Bytes,
        /// Whether something waits for it to be synced.
        sync: bool,
    },
    /// Replace a small file whole: written beside it, synced, renamed over it, directory synced.
    Replace {
        /// The request's number.
        ticket: Ticket,
        /// Which file.
        file: FileName,
        /// Its new content.
        bytes: Bytes,
    },
}

/// What the log thread has done. Events come in ticket order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskEvent {
    /// Everything up to and including this ticket is written: it survives the process.
    Written(Ticket),
    /// Everything up to and including this ticket is synced: it survives the machine.
    Synced(Ticket),
}
