//! Reads from the disk, beside the loop and beside the log thread.
//!
//! ```text
//! Value --in the page cache--> answered by the loop itself, without blocking
//!   '-----else--> value readers ----------------> done, and the loop is woken
//! Scan, Index --> one background reader, of low priority --^
//! ```
//! Values are what requests wait for: work in the background never sits in front of one. What
//! cannot be read is an answer like any other ([`ReadFault`]); it never ends the process, for it
//! says nothing about what was written. Reads are not checked here: who asked knows the checksum.

mod open_files;
#[cfg(test)]
mod tests;

use super::files::Files;
use crate::engine::{FileName, ReadDone, ReadFault, ReadRequest, Stretch, index_file};
use crate::limits::{BACKGROUND_READS_MAX, READ_AT_ONCE_BYTES_MAX, VALUE_READS_MAX};
use bytes::Bytes;
use open_files::OpenFiles;
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Threads that read values: a disk has several heads, or none and no need to wait for one.
const VALUE_READERS: usize = 4;
/// How much the background reader stands back, as `nice` counts.
const BACKGROUND_NICE: i32 = 10;

/// The loop's end of the readers.
#[derive(Debug)]
pub(crate) struct Readers {
    open_files: Arc<OpenFiles>,
    values: Arc<Queue>,
    background: Arc<Queue>,
    done: Receiver<ReadDone>,
    /// Whether the file system can say what it has in memory.
    can_read_at_once: bool,
}

impl Readers {
    /// Starts the threads, which wake the loop whenever something has been read.
    pub(crate) fn start(files: &Files, waker: &Arc<mio::Waker>) -> io::Result<Self> {
        let (news, done) = mpsc::channel();
        let readers = Self {
            open_files: Arc::new(OpenFiles::new(files.share())),
            values: Arc::new(Queue::new(VALUE_READS_MAX)),
            background: Arc::new(Queue::new(BACKGROUND_READS_MAX)),
            done,
            can_read_at_once: true,
        };
        for _ in 0..VALUE_READERS {
            readers.spawn("read", &readers.values, files, &news, waker, || {})?;
        }
        readers.spawn("scan", &readers.background, files, &news, waker, stand_back)?;
        Ok(readers)
    }

    fn spawn(
        &self,
        name: &str,
        queue: &Arc<Queue>,
        files: &Files,
        news: &Sender<ReadDone>,
        waker: &Arc<mio::Waker>,
        prepare: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (queue, news, waker) = (Arc::clone(queue), news.clone(), Arc::clone(waker));
        let (open_files, mut files) = (Arc::clone(&self.open_files), files.share());
        let run = move || {
            prepare();
            while let Some(request) = queue.pop() {
                // A loop that is gone needs no telling.
                let _ = news.send(carry_out(&open_files, &mut files, &request));
                if let Err(error) = waker.wake() {
                    log::error!("the loop cannot be woken: {error}");
                }
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(())
    }

    /// Asks for a read. What needs no waiting is answered here and now.
    pub(crate) fn submit(&mut self, request: ReadRequest) -> Option<ReadDone> {
        let queue = match &request {
            ReadRequest::Value(stretch) => match self.read_at_once(stretch) {
                Some(bytes) => return Some(ReadDone { id: stretch.id, result: Ok(bytes) }),
                None => &self.values,
            },
            ReadRequest::Scan(_) | ReadRequest::Index { .. } => &self.background,
        };
        // Who asks has its own cap, mostly below this one.
        queue.push(request).map(|request| ReadDone { id: id_of(&request), result: Err(ReadFault::Busy) })
    }

    /// Appends what has been read since this was last asked.
    pub(crate) fn take_done(&self, mut each: impl FnMut(ReadDone)) {
        self.done.try_iter().for_each(&mut each);
    }

    /// Lets go of files that are about to be removed: an open one would keep its space.
    pub(crate) fn forget(&self, files: &[FileName]) {
        for file in files {
            if let FileName::Segment(segment) = file {
                self.open_files.forget(*segment);
            }
        }
    }

    /// All of a stretch, if it is in memory. It never waits for the disk, not even to open a file.
    fn read_at_once(&mut self, stretch: &Stretch) -> Option<Bytes> {
        let length = usize::try_from(stretch.length).ok()?;
        if !self.can_read_at_once || length > READ_AT_ONCE_BYTES_MAX {
            return None;
        }
        let file = self.open_files.known(stretch.segment)?;
        let mut bytes = vec![0; length];
        let flags = ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&*file, &mut [IoSliceMut::new(&mut bytes)], stretch.offset()?, flags) {
            Ok(count) if count == length => Some(bytes.into()),
            // Where the file ends, or what it is, is for a reader to find out.
            Ok(_) => None,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                log::debug!("the file system cannot read without waiting: every read is handed over");
                self.can_read_at_once = false;
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for Readers {
    /// The threads end by themselves: one that hangs in a read must not keep the process.
    fn drop(&mut self) {
        self.values.close();
        self.background.close();
    }
}

/// Makes this thread give way to the others, with the processor and with the disk.
fn stand_back() {
    if let Err(error) = rustix::process::nice(BACKGROUND_NICE) {
        log::debug!("the background reader keeps its priority: {error}");
    }
}

fn id_of(request: &ReadRequest) -> crate::engine::ReadId {
    match request {
        ReadRequest::Value(stretch) | ReadRequest::Scan(stretch) => stretch.id,
        ReadRequest::Index { id, .. } => *id,
    }
}

fn carry_out(open_files: &OpenFiles, files: &mut Files, request: &ReadRequest) -> ReadDone {
    let result = match request {
        ReadRequest::Value(stretch) | ReadRequest::Scan(stretch) => open_files
            .open(stretch.segment)
            .map_err(|error| failed(stretch.segment, &error))
            .and_then(|file| file.ok_or(ReadFault::Missing))
            .and_then(|file| read(&file, stretch)),
        ReadRequest::Index { segment, end, .. } => {
            index_file::build(files, *segment, *end).map(|()| Bytes::new()).map_err(ReadFault::from)
        }
    };
    ReadDone { id: id_of(request), result }
}

fn failed(segment: u64, error: &io::Error) -> ReadFault {
    log::warn!("{} cannot be read: {error}", FileName::Segment(segment).to_text());
    ReadFault::Failed
}

/// As many bytes of the stretch as the file has.
fn read(file: &File, stretch: &Stretch) -> Result<Bytes, ReadFault> {
    let offset = stretch.offset().ok_or(ReadFault::Failed)?;
    let size = file.metadata().map_err(|error| failed(stretch.segment, &error))?.len();
    // No more is allocated than the file has.
    let length = u64::from(stretch.length).min(size.saturating_sub(offset));
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| ReadFault::Failed)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(stretch.segment, &error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// What is to be read, in order.
#[derive(Debug)]
struct Queue {
    inbox: Mutex<Inbox>,
    bell: Condvar,
    max: usize,
}

#[derive(Debug, Default)]
struct Inbox {
    requests: VecDeque<ReadRequest>,
    closed: bool,
}

impl Queue {
    fn new(max: usize) -> Self {
        Self { inbox: Mutex::default(), bell: Condvar::new(), max }
    }

    /// Nobody panics while holding it, and if somebody did it would still be whole.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request, or gives it back if there are too many.
    fn push(&self, request: ReadRequest) -> Option<ReadRequest> {
        let mut inbox = self.inbox();
        if inbox.requests.len() >= self.max {
            return Some(request);
        }
        inbox.requests.push_back(request);
        drop(inbox);
        self.bell.notify_one();
        None
    }

    /// The next request, waited for; none once the queue is closed.
    fn pop(&self) -> Option<ReadRequest> {
        let idle = |inbox: &mut Inbox| inbox.requests.is_empty() && !inbox.closed;
        let mut inbox = self.bell.wait_while(self.inbox(), idle).unwrap_or_else(PoisonError::into_inner);
        if inbox.closed { None } else { inbox.requests.pop_front() }
    }

    fn close(&self) {
        self.inbox().closed = true;
        self.bell.notify_all();
    }
}
