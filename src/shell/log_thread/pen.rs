//! The pen: whoever holds it writes, the log thread or the loop, always what was queued first.

use super::Disk;
use crate::engine::{DiskEvent, DiskRequest, LogWriter, SyncPlan, Ticket, is_full};
use crate::limits::UNSYNCED_BYTES_MAX;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the loop and the log thread have in common. The pen is taken before the inbox, and the
/// inbox is only ever held for a moment.
pub(super) struct Shared<D> {
    pub(super) pen: Mutex<Pen<D>>,
    inbox: Mutex<Inbox>,
    bell: Condvar,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<DiskRequest>,
    /// There is something for the thread to do.
    rung: bool,
    /// The loop has ended.
    closed: bool,
}

/// The disk, and how far its writing has come.
pub(super) struct Pen<D> {
    storage: D,
    writer: LogWriter,
    /// The segment last appended to: another one begins with work that waits for the disk.
    segment: Option<u64>,
    state: State,
    /// Bytes written since the last sync plan.
    unsynced_bytes: usize,
    /// Bytes written in all.
    written_bytes: u64,
    /// What the loop was last told of: written, synced.
    told: (Ticket, Ticket),
    news: Sender<io::Result<DiskEvent>>,
}

/// Whether the disk takes anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It does.
    Open,
    /// It is full: the request at the head of the queue did not fit.
    Full,
    /// It has failed: nothing may be written or synced any more.
    Failed,
}

impl<D> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl<D> Shared<D> {
    pub(super) fn new(pen: Pen<D>) -> Self {
        Self { pen: Mutex::new(pen), inbox: Mutex::default(), bell: Condvar::new() }
    }

    /// The inbox. Nobody panics while holding it, and if somebody did it would still be whole.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request. Returns how many wait now.
    pub(super) fn queue(&self, request: DiskRequest) -> usize {
        let mut inbox = self.inbox();
        inbox.queue.push_back(request);
        inbox.queue.len()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.inbox().queue.is_empty()
    }

    /// Tells the thread that there is something to do.
    pub(super) fn ring(&self) {
        self.inbox().rung = true;
        self.bell.notify_one();
    }

    /// Tells the thread to finish what is queued and end.
    pub(super) fn close(&self) {
        self.inbox().closed = true;
        self.bell.notify_one();
    }

    /// Waits for the bell, or until the time is over. Whether the end is wanted.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let idle = |inbox: &mut Inbox| !inbox.rung && !inbox.closed;
        let waited = self.bell.wait_timeout_while(self.inbox(), patience, idle);
        let (mut inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inbox.rung = false;
        inbox.closed
    }
}

impl<D: Disk> Pen<D> {
    pub(super) fn new(storage: D, news: Sender<io::Result<DiskEvent>>) -> Self {
        Self {
            storage,
            writer: LogWriter::default(),
            segment: None,
            state: State::Open,
            unsynced_bytes: 0,
            written_bytes: 0,
            told: (Ticket::default(), Ticket::default()),
            news,
        }
    }

    /// Bytes written so far.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Nothing may be written any more.
    pub(super) fn fail(&mut self) {
        self.state = State::Failed;
    }

    /// Writes what is queued, in order. `at_once`: no more bytes than so many, and nothing that
    /// waits for the disk; a full one is then left alone.
    ///
    /// # Errors
    /// The disk has failed.
    pub(super) fn write_queued(&mut self, shared: &Shared<D>, at_once: Option<usize>) -> io::Result<()> {
        let mut left = at_once;
        while let Some(request) = self.next(shared, left) {
            match self.writer.write(&mut self.storage, &request) {
                Ok(()) => self.written(&request),
                Err(error) if is_full(&error) => {
                    shared.inbox().queue.push_front(request);
                    if std::mem::replace(&mut self.state, State::Full) == State::Open {
                        log::warn!("the disk is full: {error}; what is to be written waits for room");
                        self.send(DiskEvent::Full);
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.fail();
                    return Err(error);
                }
            }
            left = left.map(|left| left.saturating_sub(request_bytes(&request)));
        }
        Ok(())
    }

    /// The next request, if it may be carried out now.
    fn next(&self, shared: &Shared<D>, at_once: Option<usize>) -> Option<DiskRequest> {
        let may_wait = at_once.is_none();
        let is_held_up = match self.state {
            State::Open => false,
            State::Full => !may_wait,
            State::Failed => true,
        };
        let mut inbox = shared.inbox();
        let first = inbox.queue.front().filter(|_| !is_held_up)?;
        let fits =
            may_wait || (self.is_quick(first) && at_once.is_some_and(|left| request_bytes(first) <= left));
        if fits { inbox.queue.pop_front() } else { None }
    }

    /// Whether carrying it out never waits for a sync: it goes on with a segment already begun.
    fn is_quick(&self, request: &DiskRequest) -> bool {
        match request {
            DiskRequest::Append { segment, .. } => self.segment == Some(*segment),
            DiskRequest::Replace { .. } | DiskRequest::Remove { .. } => false,
        }
    }

    fn written(&mut self, request: &DiskRequest) {
        if let DiskRequest::Append { segment, .. } = request {
            self.segment = Some(*segment);
        }
        self.unsynced_bytes += request_bytes(request);
        self.written_bytes += request_bytes(request) as u64;
        if std::mem::replace(&mut self.state, State::Open) == State::Full {
            log::info!("the disk has room again");
            self.send(DiskEvent::Room);
        }
    }

    /// Whether a sync is due, whatever time it is.
    pub(super) fn is_sync_due(&self) -> bool {
        self.writer.wants_sync() || self.unsynced_bytes >= UNSYNCED_BYTES_MAX
    }

    /// What is to be synced now, and how; none if there is nothing.
    ///
    /// # Errors
    /// As for a failed sync.
    pub(super) fn sync_plan(&mut self) -> io::Result<Option<(SyncPlan, super::SyncJob)>> {
        let Some(plan) = self.writer.sync_plan() else { return Ok(None) };
        self.unsynced_bytes = 0;
        let job = self.storage.sync_job(&plan)?;
        Ok(Some((plan, job)))
    }

    /// A plan has been carried out.
    pub(super) fn synced_to(&mut self, plan: &SyncPlan) {
        self.writer.synced_to(plan);
    }

    /// Tells the loop how far the disk has come. Whether that is further than it knew.
    pub(super) fn tell(&mut self) -> bool {
        let (written, synced) = (self.writer.written(), self.writer.synced());
        if self.state == State::Failed || (written, synced) == self.told {
            return false;
        }
        if written > self.told.0 {
            self.send(DiskEvent::Written(written));
        }
        if synced > self.told.1 {
            self.send(DiskEvent::Synced(synced));
        }
        self.told = (written, synced);
        true
    }

    fn send(&self, event: DiskEvent) {
        // A loop that is gone needs no telling.
        let _ = self.news.send(Ok(event));
    }
}

fn request_bytes(request: &DiskRequest) -> usize {
    match request {
        DiskRequest::Append { bytes, .. } | DiskRequest::Replace { bytes, .. } => bytes.len(),
        DiskRequest::Remove { .. } => 0,
    }
}
