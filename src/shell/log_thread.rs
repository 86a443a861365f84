//! The thread that owns the disk once the process runs, so that no sync ever stops the loop.
//!
//! Group commit: everything that is queued is written, then synced once if somebody waits for
//! it, then reported. What nobody waits for is synced at most once a second. An error of the disk
//! ends the process: after one nothing that was written can be relied on, so nothing is retried.

use crate::engine::{DiskEvent, DiskRequest, LogWriter, Storage};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests queued for the thread. A loop hands over about one each turn, and what it may have
/// in hand is capped well below this; if the queue were ever full, the loop waits.
const REQUESTS_MAX: usize = 16384;
/// How long written data that nobody waits for may go without a sync.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The loop's end of the log thread.
#[derive(Debug)]
pub(crate) struct LogThread {
    requests: SyncSender<DiskRequest>,
    events: Receiver<Result<DiskEvent, io::Error>>,
    thread: JoinHandle<()>,
}

impl LogThread {
    /// Hands the disk to a new thread, which wakes the loop whenever it has something to tell.
    pub(crate) fn start(storage: impl Storage + Send + 'static, waker: Arc<mio::Waker>) -> io::Result<Self> {
        let (requests, queue) = mpsc::sync_channel(REQUESTS_MAX);
        let (news, events) = mpsc::channel();
        let worker = Worker {
            storage,
            writer: LogWriter::default(),
            synced_at: Instant::now(),
            told: (LogWriter::default().written(), LogWriter::default().synced()),
            news,
            waker,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || worker.run(&queue))?;
        Ok(Self { requests, events, thread })
    }

    /// Queues a request.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) fn submit(&self, request: DiskRequest) -> Result<(), String> {
        self.requests.send(request).map_err(|_| "the disk has failed".to_owned())
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
    pub(crate) fn finish(self) -> Result<(), String> {
        drop(self.requests);
        let ended = self.thread.join();
        for event in self.events.try_iter() {
            event.map_err(|error| fatal(&error))?;
        }
        ended.map_err(|_| "the log thread has ended badly".to_owned())
    }
}

fn fatal(error: &io::Error) -> String {
    format!(
        "the disk has failed: {error}. Nothing more is acknowledged. Check the disk and its \
         free space, then start again: everything acknowledged so far is recovered from the log"
    )
}

/// The thread's own state.
struct Worker<S> {
    storage: S,
    writer: LogWriter,
    synced_at: Instant,
    /// What the loop was last told of: written, synced.
    told: (crate::engine::Ticket, crate::engine::Ticket),
    news: Sender<Result<DiskEvent, io::Error>>,
    waker: Arc<mio::Waker>,
}

impl<S: Storage> Worker<S> {
    /// Serves the queue until the loop's end is dropped or the disk fails.
    fn run(mut self, queue: &Receiver<DiskRequest>) {
        let outcome = self.serve(queue);
        if let Err(error) = outcome {
            // A loop that is gone needs no telling.
            let _ = self.news.send(Err(error));
            let _ = self.waker.wake();
        }
    }

    fn serve(&mut self, queue: &Receiver<DiskRequest>) -> io::Result<()> {
        loop {
            match self.next(queue) {
                Ok(first) => self.commit(first, queue)?,
                Err(RecvTimeoutError::Timeout) => self.sync()?,
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
    }

    /// The next request; a timeout when something written is due for its sync.
    fn next(&self, queue: &Receiver<DiskRequest>) -> Result<DiskRequest, RecvTimeoutError> {
        if self.writer.synced() < self.writer.written() {
            queue.recv_timeout(SYNC_EVERY.saturating_sub(self.synced_at.elapsed()))
        } else {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    /// Carries out everything that is queued, with one sync for all of it.
    fn commit(&mut self, first: DiskRequest, queue: &Receiver<DiskRequest>) -> io::Result<()> {
        let mut some_wait_for_the_write_alone = false;
        for request in std::iter::once(first).chain(queue.try_iter().take(REQUESTS_MAX)) {
            some_wait_for_the_write_alone |= matches!(request, DiskRequest::Append { sync: false, .. });
            self.writer.write(&mut self.storage, &request)?;
        }
        if some_wait_for_the_write_alone {
            self.tell();
        }
        if self.writer.wants_sync() || self.synced_at.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        self.tell();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.writer.sync(&mut self.storage)?;
        self.synced_at = Instant::now();
        self.tell();
        Ok(())
    }

    /// Tells the loop how far the disk has come, if that is further than it knows.
    fn tell(&mut self) {
        let (written, synced) = (self.writer.written(), self.writer.synced());
        if (written, synced) == self.told {
            return;
        }
        if written > self.told.0 {
            let _ = self.news.send(Ok(DiskEvent::Written(written)));
        }
        if synced > self.told.1 {
            let _ = self.news.send(Ok(DiskEvent::Synced(synced)));
        }
        self.told = (written, synced);
        if let Err(error) = self.waker.wake() {
            log::error!("the loop cannot be woken: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{FileName, Ticket};
    use crate::shell::net::Net;
    use bytes::Bytes;
    use std::sync::Mutex;

    /// What a storage was asked for; it can be made to fail, and to wait in its sync.
    #[derive(Clone, Default)]
    struct Fake {
        calls: Arc<Mutex<Vec<&'static str>>>,
        sync_gate: Arc<Mutex<()>>,
        is_full: Arc<Mutex<bool>>,
    }

    impl Fake {
        fn count(&self, call: &str) -> usize {
            self.calls.lock().unwrap().iter().filter(|made| **made == call).count()
        }

        fn note(&self, call: &'static str) -> io::Result<()> {
            self.calls.lock().unwrap().push(call);
            if *self.is_full.lock().unwrap() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl Storage for Fake {
        fn append(&mut self, _file: FileName, _bytes: &[u8]) -> io::Result<()> {
            self.note("append")
        }
        fn sync(&mut self, _file: FileName) -> io::Result<()> {
            self.note("sync")?;
            drop(self.sync_gate.lock().unwrap());
            Ok(())
        }
        fn sync_directory(&mut self) -> io::Result<()> {
            self.note("sync_directory")
        }
        fn read(&mut self, _file: FileName) -> io::Result<Option<Bytes>> {
            Ok(None)
        }
        fn read_at(&mut self, _: FileName, _: u64, _: usize) -> io::Result<Option<Bytes>> {
            Ok(None)
        }
        fn truncate(&mut self, _: FileName, _: u64) -> io::Result<()> {
            self.note("truncate")
        }
        fn list(&mut self) -> io::Result<Vec<FileName>> {
            Ok(Vec::new())
        }
        fn remove(&mut self, _file: FileName) -> io::Result<()> {
            self.note("remove")
        }
        fn rename(&mut self, _from: FileName, _to: FileName) -> io::Result<()> {
            self.note("rename")
        }
    }

    fn append(ticket: u64, sync: bool) -> DiskRequest {
        let bytes = Bytes::from_static(b"record");
        DiskRequest::Append { ticket: Ticket(ticket), segment: 0, position: 6 * (ticket - 1), bytes, sync }
    }

    /// Waits in the poll, as the loop does, until the condition holds for the events so far.
    fn wait(
        net: &mut Net,
        log: &LogThread,
        events: &mut Vec<DiskEvent>,
        done: impl Fn(&[DiskEvent]) -> bool,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !done(events) {
            assert!(start.elapsed() < Duration::from_secs(20), "not reached: {events:?}");
            net.poll(Some(Duration::from_secs(20)), &mut Vec::new()).unwrap();
            log.take_events(events)?;
        }
        Ok(())
    }

    #[test]
    fn all_that_queued_up_during_a_sync_shares_the_next_one() {
        let (mut net, fake) = (Net::new().unwrap(), Fake::default());
        let log = LogThread::start(fake.clone(), net.waker()).unwrap();
        let gate = fake.sync_gate.lock().unwrap();
        log.submit(append(1, true)).unwrap();
        while fake.count("sync") == 0 {
            std::thread::yield_now();
        }
        for ticket in 2..=100 {
            log.submit(append(ticket, true)).unwrap();
        }
        drop(gate);
        let mut events = Vec::new();
        wait(&mut net, &log, &mut events, |events| events.contains(&DiskEvent::Synced(Ticket(100)))).unwrap();
        assert_eq!(fake.count("sync"), 2);
        log.finish().unwrap();
    }

    #[test]
    fn a_write_that_waits_for_no_sync_is_reported_before_one_and_synced_later() {
        let (mut net, fake) = (Net::new().unwrap(), Fake::default());
        let log = LogThread::start(fake.clone(), net.waker()).unwrap();
        let gate = fake.sync_gate.lock().unwrap();
        let mut events = Vec::new();
        log.submit(append(1, false)).unwrap();
        wait(&mut net, &log, &mut events, |events| !events.is_empty()).unwrap();
        assert_eq!(events, [DiskEvent::Written(Ticket(1))]);
        drop(gate);
        // Nobody asks again: the thread syncs it by itself.
        wait(&mut net, &log, &mut events, |events| events.contains(&DiskEvent::Synced(Ticket(1)))).unwrap();
        log.finish().unwrap();
    }

    #[test]
    fn a_full_disk_is_fatal_and_never_acknowledged() {
        let (mut net, fake) = (Net::new().unwrap(), Fake::default());
        let log = LogThread::start(fake.clone(), net.waker()).unwrap();
        *fake.is_full.lock().unwrap() = true;
        log.submit(append(1, true)).unwrap();
        let mut events = Vec::new();
        let error = wait(&mut net, &log, &mut events, |_| false).unwrap_err();
        assert!(error.contains("the disk has failed"), "{error}");
        assert!(events.is_empty());
        assert_eq!(fake.count("append"), 1, "it was tried again");
    }

    #[test]
    fn what_is_queued_at_the_end_is_written_and_synced() {
        let (net, fake) = (Net::new().unwrap(), Fake::default());
        let log = LogThread::start(fake.clone(), net.waker()).unwrap();
        for ticket in 1..=10 {
            log.submit(append(ticket, false)).unwrap();
        }
        log.finish().unwrap();
        let calls = fake.calls.lock().unwrap();
        assert_eq!(calls.iter().filter(|call| **call == "append").count(), 11, "ten and the header");
        assert!(
            calls.iter().rposition(|call| *call == "sync") > calls.iter().rposition(|call| *call == "append")
        );
    }
}
