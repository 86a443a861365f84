//! The log thread itself: writes what the loop left to it, and carries out every sync.

use super::pen::{Pen, Shared, State};
use super::{Disk, Gauge, SyncJob};
use crate::engine::{DiskEvent, SyncPlan};
use std::io::{self, ErrorKind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// How long written data that nobody waits for may go without a sync.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often a request that did not fit is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How often the free bytes are looked at, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And whenever this part of them may have been used up: a burst must not run through the reserve
/// between two looks.
const LOOK_PART: u64 = 16;
/// How often the queue is looked at before a sync: what the loop queued meanwhile must not wait
/// for the sync, nor the sync for a loop that always queues more.
const ROUNDS_MAX: usize = 8;

/// The thread's own state.
pub(super) struct Worker<D: Disk> {
    shared: Arc<Shared<D>>,
    gauge: Gauge,
    news: Sender<io::Result<DiskEvent>>,
    waker: Arc<mio::Waker>,
    /// When there was last nothing unsynced.
    synced_at: Instant,
    looked_at: Option<Instant>,
    /// Bytes written by then, and by now.
    looked_bytes: u64,
    written_bytes: u64,
    /// Free bytes when last looked at.
    free: u64,
    /// The free bytes that the loop knows of.
    told_free: Option<u64>,
    /// The disk was full when the pen was last held.
    is_full: bool,
}

impl<D: Disk> Worker<D> {
    pub(super) fn new(
        shared: Arc<Shared<D>>,
        gauge: Gauge,
        news: Sender<io::Result<DiskEvent>>,
        waker: Arc<mio::Waker>,
    ) -> Self {
        Self {
            shared,
            gauge,
            news,
            waker,
            synced_at: Instant::now(),
            looked_at: None,
            looked_bytes: 0,
            written_bytes: 0,
            free: u64::MAX,
            told_free: None,
            is_full: false,
        }
    }

    /// Serves until the loop's end is closed or the disk fails.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            if let Ok(mut pen) = self.shared.pen.lock() {
                pen.fail();
            }
            // A loop that is gone needs no telling.
            let _ = self.news.send(Err(error));
            self.wake();
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        self.look_at_space();
        loop {
            let closing = self.shared.wait(self.patience());
            let was_full = self.is_full;
            let planned = self.write(closing)?;
            let is_time = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY)
                || self.written_bytes - self.looked_bytes >= self.free / LOOK_PART;
            // Before what was written is acknowledged: more would come at once.
            if is_time || self.is_full || was_full {
                self.look_at_space();
            }
            match planned {
                Some((plan, job)) => {
                    job()?;
                    self.synced_at = Instant::now();
                    let mut pen = self.pen()?;
                    pen.synced_to(&plan);
                    let has_news = pen.tell();
                    drop(pen);
                    if has_news {
                        self.wake();
                    }
                }
                None if closing && self.is_full => {
                    let text = "it is full; what was not acknowledged was not written";
                    return Err(io::Error::new(ErrorKind::StorageFull, text));
                }
                None if closing && !self.shared.has_queued() => return Ok(()),
                None => {}
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.is_full { RETRY_EVERY } else { SYNC_EVERY.saturating_sub(self.synced_at.elapsed()) }
    }

    fn pen(&self) -> io::Result<MutexGuard<'_, Pen<D>>> {
        self.shared.pen.lock().map_err(|_| io::Error::other("the loop has ended badly"))
    }

    /// Writes everything that is queued. Returns what is to be synced, if something is due.
    fn write(&mut self, closing: bool) -> io::Result<Option<(SyncPlan, SyncJob)>> {
        let is_time = closing || self.synced_at.elapsed() >= SYNC_EVERY;
        let mut planned = None;
        for _ in 0..ROUNDS_MAX {
            let mut pen = self.pen()?;
            let before = pen.state();
            pen.write_queued(&self.shared, None)?;
            let after = pen.state();
            let written_bytes = pen.written_bytes();
            let has_news = pen.tell() || before != after;
            if planned.is_none() && (is_time || pen.is_sync_due()) {
                planned = pen.sync_plan()?;
            }
            drop(pen);
            self.written_bytes = written_bytes;
            self.is_full = after == State::Full;
            if has_news {
                self.wake();
            }
            // What the loop queued when it found the pen taken is for us to write, before any sync.
            if self.is_full || !self.shared.has_queued() {
                break;
            }
        }
        if is_time && planned.is_none() {
            self.synced_at = Instant::now();
        }
        Ok(planned)
    }

    /// Tells the loop of the free bytes, if they are others than it knows by more than a hundredth.
    fn look_at_space(&mut self) {
        self.looked_at = Some(Instant::now());
        self.looked_bytes = self.written_bytes;
        let free = match (self.gauge)() {
            Ok(free) => free,
            Err(error) => {
                log::warn!("the free space of the disk cannot be seen: {error}");
                return;
            }
        };
        self.free = free;
        if self.told_free.is_none_or(|told| free.abs_diff(told) > told / 100) {
            self.told_free = Some(free);
            let _ = self.news.send(Ok(DiskEvent::Free(free)));
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("the loop cannot be woken: {error}");
        }
    }
}
