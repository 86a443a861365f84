//! The thread that owns the disk's writes once the process runs, so that no sync stops the loop.
//!
//! ```text
//! submit --> inbox --> pen: written, in order --> Written
//!                       |   by the log thread; by the loop itself, where that cannot wait for the disk
//!                       '--> sync plan --> carried out by the log thread, the pen free --> Synced
//! ```
//! Group commit: everything that is queued is written, then synced once if somebody waits for it,
//! then reported; what nobody waits for is synced at least once a second and every 8 MiB. Writing
//! goes on while a sync runs, so that what is acknowledged when written never waits for one.
//!
//! A full disk is waited out: the request that did not fit is kept and tried again. Any other
//! error of a write, and every error of a sync, ends the process: after one nothing that was
//! written can be relied on, so nothing is retried.

mod pen;
#[cfg(test)]
mod tests;
mod worker;

use super::files::Files;
use crate::engine::{DiskEvent, DiskRequest, Storage, SyncPlan};
use crate::limits::{LOOP_WRITE_BYTES_MAX, REQUESTS_QUEUED_HIGH, REQUESTS_QUEUED_MAX};
use pen::{Pen, Shared};
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, TryLockError};
use std::thread::JoinHandle;
use worker::Worker;

/// Carries a sync plan out, on whatever thread calls it.
pub(crate) type SyncJob = Box<dyn FnOnce() -> io::Result<()> + Send>;
/// Looks at the free bytes of a disk.
pub(crate) type Gauge = Box<dyn Fn() -> io::Result<u64> + Send>;

/// What the log thread needs of a disk beyond [`Storage`].
pub(crate) trait Disk: Storage + Send + 'static {
    /// How to sync what the plan names while the storage is written to. It must go through the
    /// very handles that wrote: another may never hear of a write-back that failed.
    ///
    /// # Errors
    /// Whatever the disk says; as for a failed sync the process must stop.
    fn sync_job(&mut self, plan: &SyncPlan) -> io::Result<SyncJob>;

    /// How to see the free bytes while the storage is written to.
    fn free_gauge(&self) -> Gauge;
}

/// The loop's end of the log thread.
#[derive(Debug)]
pub(crate) struct LogThread<D: Disk = Files> {
    shared: Arc<Shared<D>>,
    events: Receiver<io::Result<DiskEvent>>,
    /// None once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk> LogThread<D> {
    /// Hands the disk to a new thread, which wakes the loop whenever it has something to tell.
    pub(crate) fn start(storage: D, waker: Arc<mio::Waker>) -> io::Result<Self> {
        let (news, events) = mpsc::channel();
        let gauge = storage.free_gauge();
        let shared = Arc::new(Shared::new(Pen::new(storage, news.clone())));
        let worker = Worker::new(Arc::clone(&shared), gauge, news, waker);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, events, thread: Some(thread) })
    }

    /// Queues a request. If nothing waits for its sync, and it can be written without waiting for
    /// anything, it is written here and now: [`take_events`](Self::take_events) tells.
    ///
    /// # Errors
    /// The disk has failed: the process must end.
    pub(crate) fn submit(&self, request: DiskRequest) -> Result<(), String> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            // Why was sent before it ended.
            self.take_events(&mut Vec::new())?;
            return Err("the log thread has ended: nothing can be written".to_owned());
        }
        let awaits_sync = !matches!(request, DiskRequest::Append { sync: false, .. });
        let queued = self.shared.queue(request);
        if queued > REQUESTS_QUEUED_MAX {
            return Err("the disk has taken nothing for too long: check it, then start again".to_owned());
        }
        // With a long queue the thread is held up in a sync: the loop writes what waits for the next.
        let is_written = (!awaits_sync || queued > REQUESTS_QUEUED_HIGH) && self.write_here()?;
        if !is_written {
            self.shared.ring();
        }
        Ok(())
    }

    /// Writes what is queued, unless that has to wait. Whether the thread is not needed for now.
    fn write_here(&self) -> Result<bool, String> {
        let mut pen = match self.shared.pen.try_lock() {
            Ok(pen) => pen,
            // The thread looks at the queue again when it has laid the pen down.
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Poisoned(_)) => return Err("the log thread has ended badly".to_owned()),
        };
        pen.write_queued(&self.shared, Some(LOOP_WRITE_BYTES_MAX)).map_err(|error| fatal(&error))?;
        pen.tell();
        Ok(!pen.is_sync_due() && !self.shared.has_queued())
    }

    /// Appends what the disk has done since this was last asked.
    ///
    /// # Errors
    /// The disk has failed: the process must end.
    pub(crate) fn take_events(&self, out: &mut Vec<DiskEvent>) -> Result<(), String> {
        for event in self.events.try_iter() {
            out.push(event.map_err(|error| fatal(&error))?);
        }
        Ok(())
    }

    /// Writes and syncs what is queued, and ends the thread.
    ///
    /// # Errors
    /// The disk has failed.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.shared.close();
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        for event in self.events.try_iter() {
            event.map_err(|error| fatal(&error))?;
        }
        ended.map_err(|_| "the log thread has ended badly".to_owned())
    }
}

impl<D: Disk> Drop for LogThread<D> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn fatal(error: &io::Error) -> String {
    format!(
        "the disk has failed: {error}. Nothing more is acknowledged. Check the disk and its \
         free space, then start again: everything acknowledged so far is recovered from the log"
    )
}
