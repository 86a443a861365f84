//! Readers over real files. A FIFO in a segment's place is a disk that hangs.

use super::*;
use crate::engine::{ReadId, Storage};
use crate::shell::net::Net;
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::OpenOptions;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TEXT: &[u8] = b"sixteen bytes ok";
/// In front of a segment's first record.
const HEADER: &[u8] = &[0; 24];

struct Bench {
    net: Net,
    dir: TempDir,
    readers: Readers,
    next_id: u64,
}

impl Bench {
    /// Segment 0 holds [`TEXT`].
    fn new() -> Self {
        let (net, dir) = (Net::new().unwrap(), tempfile::tempdir().unwrap());
        let mut files = Files::open(dir.path()).unwrap();
        files.append(FileName::Segment(0), HEADER).unwrap();
        files.append(FileName::Segment(0), TEXT).unwrap();
        let readers = Readers::start(&files, &net.waker()).unwrap();
        Self { net, dir, readers, next_id: 0 }
    }

    fn stretch(&mut self, segment: u64, from: u64, length: u32) -> Stretch {
        self.next_id += 1;
        Stretch { id: ReadId(self.next_id), segment, position: segment + from, length }
    }

    fn value(&mut self, segment: u64, from: u64, length: u32) -> Option<ReadDone> {
        let stretch = self.stretch(segment, from, length);
        self.readers.submit(ReadRequest::Value(stretch))
    }

    /// The next read that a thread has done.
    fn wait(&mut self) -> ReadDone {
        let (start, mut found) = (Instant::now(), Vec::new());
        loop {
            self.readers.take_done(|done| found.push(done));
            if let Some(done) = found.pop() {
                assert!(found.is_empty(), "more than was waited for: {found:?}");
                return done;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nothing was read");
            self.net.poll(Some(Duration::from_secs(20)), &mut Vec::new()).unwrap();
        }
    }

    /// What a value read comes to, by whatever way.
    fn read(&mut self, segment: u64, from: u64, length: u32) -> Result<Bytes, ReadFault> {
        let done = self.value(segment, from, length);
        done.unwrap_or_else(|| self.wait()).result
    }

    /// A segment in whose place reads hang, until it is opened for writing.
    fn hanging_segment(&self, segment: u64) -> std::path::PathBuf {
        let path = self.dir.path().join(FileName::Segment(segment).to_text());
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        path
    }
}

#[test]
fn a_value_in_the_page_cache_is_there_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.value(0, 0, 7), None, "the first read opens the file, which may wait");
    assert_eq!(bench.wait().result.unwrap(), "sixteen");
    let done = bench.value(0, 8, 5);
    if bench.readers.can_read_at_once {
        assert_eq!(done.unwrap(), ReadDone { id: ReadId(2), result: Ok(Bytes::from_static(b"bytes")) });
    } else {
        assert_eq!(bench.wait().result.unwrap(), "bytes");
    }
}

#[test]
fn a_read_ends_where_the_segment_does_however_much_is_asked_for() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        assert_eq!(bench.read(0, 14, 100).unwrap(), "ok");
        assert_eq!(bench.read(0, 16, u32::MAX).unwrap(), "");
        assert_eq!(bench.read(0, 1 << 40, u32::MAX).unwrap(), "");
        assert_eq!(bench.read(0, u64::MAX, 1), Err(ReadFault::Failed));
    }
}

#[test]
fn what_cannot_be_read_is_an_answer() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(5, 0, 1), Err(ReadFault::Missing));
    std::fs::create_dir(bench.dir.path().join(FileName::Segment(6).to_text())).unwrap();
    assert_eq!(bench.read(6, 0, 1), Err(ReadFault::Failed));
    // A place before the segment's begin.
    let stretch = Stretch { id: ReadId(9), segment: 10, position: 9, length: 1 };
    std::fs::write(bench.dir.path().join(FileName::Segment(10).to_text()), HEADER).unwrap();
    assert_eq!(bench.readers.submit(ReadRequest::Value(stretch)), None);
    assert_eq!(bench.wait().result, Err(ReadFault::Failed));
}

#[test]
fn values_overtake_work_in_the_background_and_each_other() {
    let mut bench = Bench::new();
    let path = bench.hanging_segment(7);
    let hung = bench.stretch(7, 0, 1);
    assert_eq!(bench.readers.submit(ReadRequest::Scan(hung)), None);
    let behind = bench.stretch(0, 0, 16);
    assert_eq!(bench.readers.submit(ReadRequest::Scan(behind)), None);
    assert_eq!(bench.readers.submit(ReadRequest::Value(hung)), None);
    // Behind a scan that hangs, and beside a value that does.
    assert_eq!(bench.read(0, 0, 7).unwrap(), "sixteen");
    // More of them than the queue takes are refused, not piled up.
    let mut refused = None;
    for _ in 0..=BACKGROUND_READS_MAX {
        refused = refused.or(bench.readers.submit(ReadRequest::Scan(behind)));
    }
    assert_eq!(refused, Some(ReadDone { id: behind.id, result: Err(ReadFault::Busy) }));
    // Both that hang have it open now: a FIFO has no places to read from.
    drop(OpenOptions::new().write(true).open(path).unwrap());
}

#[test]
fn the_index_of_a_segment_is_built_in_the_background() {
    let mut bench = Bench::new();
    let request = ReadRequest::Index { id: ReadId(3), segment: 0, end: 16 };
    assert_eq!(bench.readers.submit(request), None);
    assert_eq!(bench.wait().id, ReadId(3));
}

#[test]
fn few_segments_are_kept_open_and_a_removed_one_is_not() {
    let bench = Bench::new();
    let mut files = bench.readers.open_files.as_ref().open(0).unwrap().map(|_| Vec::new()).unwrap();
    for segment in 1..=OPEN_MAX + 1 {
        std::fs::write(bench.dir.path().join(FileName::Segment(segment).to_text()), HEADER).unwrap();
        files.push(bench.readers.open_files.open(segment).unwrap().unwrap());
    }
    let is_open = |segment| bench.readers.open_files.known(segment).is_some();
    assert!(!is_open(0) && !is_open(1) && is_open(2) && is_open(OPEN_MAX + 1));
    bench.readers.forget(&[FileName::Segment(2), FileName::Manifest]);
    assert!(!is_open(2));
}

const OPEN_MAX: u64 = crate::limits::OPEN_SEGMENTS_MAX as u64;
