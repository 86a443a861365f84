//! Segments kept open for reading, shared by the loop and the readers.

use crate::engine::FileName;
use crate::limits::OPEN_SEGMENTS_MAX;
use crate::shell::files::Files;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The segments last read from, at most [`OPEN_SEGMENTS_MAX`] of them.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Files,
    /// By the position at which each begins; the one last used is the last. Held for a moment
    /// only, never while a file is opened or read.
    open: Mutex<Vec<(u64, Arc<File>)>>,
}

impl OpenFiles {
    pub(super) fn new(files: Files) -> Self {
        Self { files, open: Mutex::default() }
    }

    fn list(&self) -> MutexGuard<'_, Vec<(u64, Arc<File>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment, if it is open already.
    pub(super) fn known(&self, segment: u64) -> Option<Arc<File>> {
        let mut list = self.list();
        let at = list.iter().rposition(|entry| entry.0 == segment)?;
        list[at..].rotate_left(1);
        list.last().map(|entry| Arc::clone(&entry.1))
    }

    /// A segment; `None` if there is none of that position. May wait for the disk.
    pub(super) fn open(&self, segment: u64) -> io::Result<Option<Arc<File>>> {
        if let Some(file) = self.known(segment) {
            return Ok(Some(file));
        }
        let Some(file) = self.files.open_to_read(FileName::Segment(segment))? else { return Ok(None) };
        let file = Arc::new(file);
        let mut list = self.list();
        if list.iter().all(|entry| entry.0 != segment) {
            list.push((segment, Arc::clone(&file)));
        }
        let closed = (list.len() > OPEN_SEGMENTS_MAX).then(|| list.remove(0));
        drop(list);
        drop(closed);
        Ok(Some(file))
    }

    /// Closes a segment that is about to be removed.
    pub(super) fn forget(&self, segment: u64) {
        self.list().retain(|entry| entry.0 != segment);
    }
}
