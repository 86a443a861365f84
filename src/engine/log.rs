//! The commit log.

use super::{DiskRequest, Storage, Ticket};
use std::io;

/// Carries out disk requests, in order, over a [`Storage`]: the one piece of code between the
/// engine's requests and a disk, run by the shell's log thread and by the simulator alike.
///
/// Group commit: call [`write`](Self::write) for everything that is queued, then
/// [`sync`](Self::sync) once if [`wants_sync`](Self::wants_sync), then report
/// [`written`](Self::written) and [`synced`](Self::synced).
#[derive(Debug, Default)]
pub struct LogWriter {
    written: Ticket,
    synced: Ticket,
}

impl LogWriter {
    /// Carries out one request, except for the sync of an append.
    ///
    /// # Errors
    /// Whatever the disk says. The process must stop: nothing later may be acknowledged.
    pub fn write(&mut self, _storage: &mut impl Storage, _request: &DiskRequest) -> io::Result<()> {
        Ok(())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn sync(&mut self, _storage: &mut impl Storage) -> io::Result<()> {
        Ok(())
    }

    /// Whether something written waits to be synced.
    #[must_use]
    pub fn wants_sync(&self) -> bool {
        self.synced < self.written
    }

    /// The last request that was carried out.
    #[must_use]
    pub fn written(&self) -> Ticket {
        self.written
    }

    /// The last request that is durable.
    #[must_use]
    pub fn synced(&self) -> Ticket {
        self.synced
    }
}
