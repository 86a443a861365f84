//! The log thread over a disk that can be full, fail, and hang in a sync.

use super::*;
use crate::engine::{FileName, Ticket};
use crate::shell::net::Net;
use bytes::Bytes;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a storage was asked for, and what became of it.
#[derive(Clone, Default)]
struct Fake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: Mutex<Vec<&'static str>>,
    /// Held by a test, syncs hang.
    sync_gate: Mutex<()>,
    /// What writes and syncs fail with; a write that fails has written half.
    write_error: Mutex<Option<ErrorKind>>,
    sync_error: Mutex<Option<ErrorKind>>,
    /// What the segment holds.
    content: Mutex<Vec<u8>>,
    free: Mutex<u64>,
}

impl Fake {
    fn count(&self, call: &str) -> usize {
        self.0.calls.lock().unwrap().iter().filter(|made| **made == call).count()
    }

    fn note(&self, call: &'static str) {
        self.0.calls.lock().unwrap().push(call);
    }

    fn fail_writes(&self, kind: Option<ErrorKind>) {
        *self.0.write_error.lock().unwrap() = kind;
    }

    fn sync_now(&self) -> io::Result<()> {
        self.note("sync");
        drop(self.0.sync_gate.lock().unwrap());
        self.0.sync_error.lock().unwrap().map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Holds syncs up, and waits until one hangs.
    fn hang_in_sync(&self, log: &LogThread<Fake>, ticket: u64) -> MutexGuard<'_, ()> {
        let gate = self.0.sync_gate.lock().unwrap();
        log.submit(append(ticket, true)).unwrap();
        while self.count("sync") == 0 {
            std::thread::yield_now();
        }
        gate
    }
}

impl Disk for Fake {
    fn sync_job(&mut self, plan: &SyncPlan) -> io::Result<SyncJob> {
        let (fake, files) = (self.clone(), plan.files.len());
        Ok(Box::new(move || (0..files).try_for_each(|_| fake.sync_now())))
    }
    fn free_gauge(&self) -> Gauge {
        let fake = self.clone();
        Box::new(move || Ok(*fake.0.free.lock().unwrap()))
    }
}

impl Storage for Fake {
    fn append(&mut self, _file: FileName, bytes: &[u8]) -> io::Result<()> {
        self.note("append");
        let mut content = self.0.content.lock().unwrap();
        match *self.0.write_error.lock().unwrap() {
            None => content.extend_from_slice(bytes),
            Some(kind) => {
                content.extend_from_slice(&bytes[..bytes.len() / 2]);
                return Err(kind.into());
            }
        }
        Ok(())
    }
    fn sync(&mut self, _file: FileName) -> io::Result<()> {
        self.sync_now()
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn read(&mut self, _file: FileName) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
    fn read_at(&mut self, _: FileName, _: u64, _: usize) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
    fn truncate(&mut self, _: FileName, length: u64) -> io::Result<()> {
        self.note("truncate");
        self.0.content.lock().unwrap().truncate(length.try_into().unwrap());
        Ok(())
    }
    fn list(&mut self) -> io::Result<Vec<FileName>> {
        Ok(Vec::new())
    }
    fn remove(&mut self, _file: FileName) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, _from: FileName, _to: FileName) -> io::Result<()> {
        Ok(())
    }
}

fn record(ticket: u64) -> Bytes {
    Bytes::from(format!("record {ticket:4} "))
}

fn append(ticket: u64, sync: bool) -> DiskRequest {
    let bytes = record(ticket);
    let position = bytes.len() as u64 * (ticket - 1);
    DiskRequest::Append { ticket: Ticket(ticket), segment: 0, position, bytes, sync }
}

/// A log thread over a fake, and everything it has told.
struct Bench {
    net: Net,
    fake: Fake,
    log: LogThread<Fake>,
    events: Vec<DiskEvent>,
}

impl Bench {
    fn new() -> Self {
        let (net, fake) = (Net::new().unwrap(), Fake::default());
        *fake.0.free.lock().unwrap() = 1_000_000;
        let log = LogThread::start(fake.clone(), net.waker()).unwrap();
        let mut bench = Self { net, fake, log, events: Vec::new() };
        bench.wait_for(DiskEvent::Free(1_000_000));
        bench.events.clear();
        bench
    }

    /// Waits in the poll, as the loop does, until this has been told.
    fn wait_for(&mut self, event: DiskEvent) {
        self.wait(|events| events.contains(&event)).unwrap();
    }

    fn wait(&mut self, done: impl Fn(&[DiskEvent]) -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !done(&self.events) {
            assert!(start.elapsed() < Duration::from_secs(20), "not reached: {:?}", self.events);
            self.net.poll(Some(Duration::from_secs(20)), &mut Vec::new()).unwrap();
            self.log.take_events(&mut self.events)?;
        }
        Ok(())
    }

    /// What was told just now, without any wait.
    fn at_once(&mut self) -> Vec<DiskEvent> {
        self.events.clear();
        self.log.take_events(&mut self.events).unwrap();
        std::mem::take(&mut self.events)
    }
}

#[test]
fn all_that_queued_up_during_a_sync_shares_the_next_one() {
    let mut bench = Bench::new();
    let fake = bench.fake.clone();
    let gate = fake.hang_in_sync(&bench.log, 1);
    for ticket in 2..=1000 {
        bench.log.submit(append(ticket, true)).unwrap();
    }
    drop(gate);
    bench.wait_for(DiskEvent::Synced(Ticket(1000)));
    assert_eq!(fake.count("sync"), 2);
    bench.log.finish().unwrap();
}

#[test]
fn what_waits_for_no_sync_is_written_by_the_loop_while_one_hangs() {
    let mut bench = Bench::new();
    let fake = bench.fake.clone();
    let gate = fake.hang_in_sync(&bench.log, 1);
    bench.at_once();
    for ticket in 2..=500 {
        bench.log.submit(append(ticket, false)).unwrap();
        assert_eq!(bench.at_once(), [DiskEvent::Written(Ticket(ticket))]);
    }
    // What waits for a sync is behind none of them, and is not told of before it.
    bench.log.submit(append(501, true)).unwrap();
    bench.log.submit(append(502, false)).unwrap();
    assert_eq!(bench.at_once(), [DiskEvent::Written(Ticket(502))]);
    drop(gate);
    bench.wait_for(DiskEvent::Synced(Ticket(502)));
    assert_eq!(fake.count("sync"), 2);
    bench.log.finish().unwrap();
}

#[test]
fn what_nobody_waits_for_is_synced_by_itself() {
    let mut bench = Bench::new();
    bench.log.submit(append(1, false)).unwrap();
    bench.wait_for(DiskEvent::Written(Ticket(1)));
    bench.wait_for(DiskEvent::Synced(Ticket(1)));
    bench.log.finish().unwrap();
}

#[test]
fn a_full_disk_is_waited_out_with_nothing_lost_doubled_or_reordered() {
    let mut bench = Bench::new();
    let fake = bench.fake.clone();
    bench.log.submit(append(1, true)).unwrap();
    bench.wait_for(DiskEvent::Synced(Ticket(1)));
    bench.events.clear();
    fake.fail_writes(Some(ErrorKind::StorageFull));
    for ticket in 2..=40 {
        bench.log.submit(append(ticket, ticket % 2 == 0)).unwrap();
    }
    // It is tried again and again, and told once.
    while fake.count("truncate") < 3 {
        std::thread::yield_now();
    }
    bench.log.take_events(&mut bench.events).unwrap();
    assert_eq!(bench.events, [DiskEvent::Full]);
    fake.fail_writes(None);
    bench.log.submit(append(41, true)).unwrap();
    bench.wait_for(DiskEvent::Synced(Ticket(41)));
    assert_eq!(bench.events[..2], [DiskEvent::Full, DiskEvent::Room]);
    let content = fake.0.content.lock().unwrap().clone();
    let records: Vec<u8> = (1..=41).flat_map(record).collect();
    assert_eq!(content[content.len() - records.len()..], records);
    assert_eq!(content.len() - records.len(), 24, "beside the segment's header there is nothing");
    bench.log.finish().unwrap();
}

#[test]
fn a_disk_that_is_full_to_the_end_is_no_quiet_end() {
    let bench = Bench::new();
    bench.fake.fail_writes(Some(ErrorKind::QuotaExceeded));
    bench.log.submit(append(1, true)).unwrap();
    let error = bench.log.finish().unwrap_err();
    assert!(error.contains("full"), "{error}");
}

#[test]
fn a_failed_sync_is_fatal_whatever_it_failed_with_and_nothing_follows_it() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        let mut bench = Bench::new();
        let fake = bench.fake.clone();
        *fake.0.sync_error.lock().unwrap() = Some(kind);
        bench.log.submit(append(1, true)).unwrap();
        let error = bench.wait(|_| false).unwrap_err();
        assert!(error.contains("the disk has failed"), "{error}");
        assert_eq!(bench.events, [DiskEvent::Written(Ticket(1))]);
        *fake.0.sync_error.lock().unwrap() = None;
        // Should the loop go on for a moment, nothing of that reaches the disk.
        let _ = bench.log.submit(append(2, false));
        let _ = bench.log.submit(append(3, true));
        let _ = bench.log.finish();
        assert_eq!((fake.count("sync"), fake.count("append")), (1, 2), "it was tried again");
    }
}

#[test]
fn a_failed_write_is_fatal_and_never_tried_again() {
    let mut bench = Bench::new();
    bench.fake.fail_writes(Some(ErrorKind::PermissionDenied));
    bench.log.submit(append(1, true)).unwrap();
    let error = bench.wait(|_| false).unwrap_err();
    assert!(error.contains("the disk has failed"), "{error}");
    assert!(bench.events.is_empty());
    assert_eq!(bench.fake.count("append"), 1, "it was tried again");
}

#[test]
fn a_failed_write_of_the_loops_own_is_fatal_too() {
    let mut bench = Bench::new();
    bench.log.submit(append(1, true)).unwrap();
    bench.wait_for(DiskEvent::Synced(Ticket(1)));
    bench.fake.fail_writes(Some(ErrorKind::PermissionDenied));
    let error = bench.log.submit(append(2, false)).and_then(|()| bench.wait(|_| false)).unwrap_err();
    assert!(error.contains("the disk has failed"), "{error}");
    assert!(!bench.events.contains(&DiskEvent::Written(Ticket(2))));
}

#[test]
fn what_is_queued_at_the_end_is_written_and_synced() {
    let bench = Bench::new();
    let fake = bench.fake.clone();
    for ticket in 1..=10 {
        bench.log.submit(append(ticket, false)).unwrap();
    }
    bench.log.finish().unwrap();
    let calls = fake.0.calls.lock().unwrap();
    assert_eq!(calls.iter().filter(|call| **call == "append").count(), 11, "ten and the header");
    let last = |name| calls.iter().rposition(|call| *call == name);
    assert!(last("sync") > last("append"));
}

#[test]
fn free_bytes_are_told_when_they_have_changed_by_more_than_a_hundredth() {
    let mut bench = Bench::new();
    *bench.fake.0.free.lock().unwrap() = 995_000;
    bench.log.submit(append(1, false)).unwrap();
    // The thread looks about as often as it syncs of itself.
    bench.wait_for(DiskEvent::Synced(Ticket(1)));
    bench.log.submit(append(2, false)).unwrap();
    bench.wait_for(DiskEvent::Synced(Ticket(2)));
    *bench.fake.0.free.lock().unwrap() = 900_000;
    bench.wait_for(DiskEvent::Free(900_000));
    assert!(!bench.events.contains(&DiskEvent::Free(995_000)));
    bench.log.finish().unwrap();
}

#[test]
fn free_bytes_are_looked_at_within_a_burst_before_it_is_acknowledged() {
    let mut bench = Bench::new();
    *bench.fake.0.free.lock().unwrap() = 900_000;
    let bytes = Bytes::from(vec![0; 100_000]);
    bench
        .log
        .submit(DiskRequest::Append { ticket: Ticket(1), segment: 0, position: 0, bytes, sync: true })
        .unwrap();
    bench.wait_for(DiskEvent::Synced(Ticket(1)));
    let at = |wanted: DiskEvent| bench.events.iter().position(|event| *event == wanted);
    assert!(at(DiskEvent::Free(900_000)).is_some_and(|seen| Some(seen) < at(DiskEvent::Synced(Ticket(1)))));
    bench.log.finish().unwrap();
}
