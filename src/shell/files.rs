//! A data directory on a real disk.
//!
//! One process at a time: the directory is locked for as long as [`Files`] lives, by a lock that
//! the system drops when the process ends, however it ends. Within the process several threads may
//! work on the directory, each through a [`Files`] of its own ([`Files::share`]).

use super::log_thread::{Disk, Gauge, SyncJob};
use crate::engine::{FileName, Storage, SyncPlan};
use bytes::Bytes;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_FILE: &str = "lock";
/// What is stored is nobody else's business.
const DIRECTORY_MODE: u32 = 0o700;

/// Refuses a path that names something other than a directory: what the system would say of it
/// ("File exists") helps nobody. One that is not there yet is fine.
///
/// # Errors
/// What is wrong with it and what to do, in words.
pub(super) fn check_directory(path: &Path) -> Result<(), String> {
    let name = path.display();
    if path.as_os_str().is_empty() {
        return Err("the data directory has an empty name: name one with --data-dir".to_owned());
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            Err(format!("the data directory {name} is not a directory: name another one with --data-dir"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// [`Storage`] over a directory.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// The directory itself, to sync it.
    directory: Arc<File>,
    /// Held, never read: while it is open no other process can have the directory.
    lock: Arc<File>,
    /// Files that were appended to and not synced since, and the one last appended to. A sync
    /// goes through the handle that wrote, which is the one that is told of a failed write-back.
    appended: Vec<Appended>,
}

/// A file open for appending.
#[derive(Debug)]
struct Appended {
    name: FileName,
    file: Arc<File>,
    /// Whether something was appended that no sync has covered.
    dirty: bool,
}

impl Files {
    /// Opens a data directory, making it if need be, and locks it.
    ///
    /// # Errors
    /// Why it cannot be used and what the operator can do, in words.
    pub fn open(path: &Path) -> Result<Self, String> {
        check_directory(path)?;
        let failed = |what: &str, error: io::Error| {
            format!("cannot {what} the data directory {}: {error}", path.display())
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder.create(path).map_err(|error| failed("create", error))?;
        let directory = File::open(path).map_err(|error| failed("open", error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(|error| failed("write to", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "the data directory {} is in use by another process: \
                     stop that one, or give this one a directory of its own with --data-dir",
                    path.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
        }
        let (directory, lock) = (Arc::new(directory), Arc::new(lock));
        Ok(Self { path: path.to_owned(), directory, lock, appended: Vec::new() })
    }

    /// The same directory for another thread, under the same lock. The two must not write to the
    /// same files.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            path: self.path.clone(),
            directory: Arc::clone(&self.directory),
            lock: Arc::clone(&self.lock),
            appended: Vec::new(),
        }
    }

    /// Opens a file to read from it; `None` if it does not exist.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn open_to_read(&self, file: FileName) -> io::Result<Option<File>> {
        match File::open(self.path_of(file)) {
            Ok(open) => Ok(Some(open)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes of the file system that the directory is on, used or not.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn total_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&*self.directory)?;
        Ok(found.f_blocks.saturating_mul(found.f_frsize))
    }

    fn path_of(&self, file: FileName) -> PathBuf {
        self.path.join(file.to_text())
    }

    /// The file, open for appending. Those that need no sync any more are closed.
    fn handle(&mut self, name: FileName) -> io::Result<&mut Appended> {
        let at = match self.appended.iter().position(|open| open.name == name) {
            Some(at) => at,
            None => {
                let file = OpenOptions::new().append(true).create(true).open(self.path_of(name))?;
                self.appended.retain(|open| open.dirty);
                self.appended.push(Appended { name, file: Arc::new(file), dirty: false });
                self.appended.len() - 1
            }
        };
        Ok(&mut self.appended[at])
    }

    /// Lets go of a handle whose name is about to mean something else.
    fn forget(&mut self, name: FileName) {
        self.appended.retain(|open| open.name != name);
    }
}

/// A failed sync must never be taken for a full disk, which may be tried again.
fn sync_failed(error: io::Error) -> io::Error {
    io::Error::other(format!("a sync failed: {error}"))
}

impl Disk for Files {
    fn sync_job(&mut self, plan: &SyncPlan) -> io::Result<SyncJob> {
        let mut files = Vec::with_capacity(plan.files.len());
        for name in &plan.files {
            let open = self.handle(*name)?;
            open.dirty = false;
            files.push(Arc::clone(&open.file));
        }
        let directory = plan.directory.then(|| Arc::clone(&self.directory));
        Ok(Box::new(move || {
            for file in &files {
                file.sync_data().map_err(sync_failed)?;
            }
            directory.map_or(Ok(()), |directory| directory.sync_all()).map_err(sync_failed)
        }))
    }

    fn free_gauge(&self) -> Gauge {
        let directory = Arc::clone(&self.directory);
        Box::new(move || {
            let found = rustix::fs::fstatvfs(&*directory)?;
            Ok(found.f_bavail.saturating_mul(found.f_frsize))
        })
    }
}

impl Storage for Files {
    fn append(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()> {
        let open = self.handle(file)?;
        open.dirty = true;
        (&*open.file).write_all(bytes)
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        let open = self.handle(file)?;
        open.file.sync_data().map_err(sync_failed)?;
        open.dirty = false;
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync_all().map_err(sync_failed)
    }

    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>> {
        match fs::read(self.path_of(file)) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_at(&mut self, file: FileName, offset: u64, length: usize) -> io::Result<Option<Bytes>> {
        let Some(open) = self.open_to_read(file)? else { return Ok(None) };
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match open.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes.into()))
    }

    fn truncate(&mut self, file: FileName, length: u64) -> io::Result<()> {
        if let Some(open) = self.appended.iter().find(|open| open.name == file) {
            return open.file.set_len(length);
        }
        match OpenOptions::new().write(true).open(self.path_of(file)) {
            Ok(open) => open.set_len(length),
            // It could not even be made.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list(&mut self) -> io::Result<Vec<FileName>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            files.extend(entry?.file_name().to_str().and_then(FileName::from_text));
        }
        files.sort_unstable();
        Ok(files)
    }

    fn remove(&mut self, file: FileName) -> io::Result<()> {
        self.forget(file);
        match fs::remove_file(self.path_of(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn rename(&mut self, from: FileName, to: FileName) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.path_of(from), self.path_of(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::replace;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_appended_is_read_back_and_listed_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("made/on/demand");
        let mut files = Files::open(&path).unwrap();
        files.append(FileName::Segment(0), b"one").unwrap();
        files.append(FileName::Table, b"table").unwrap();
        files.append(FileName::Segment(0), b"two").unwrap();
        files.sync(FileName::Segment(0)).unwrap();
        files.sync_directory().unwrap();
        drop(files);
        fs::write(path.join("stranger"), b"left alone").unwrap();
        let mut files = Files::open(&path).unwrap();
        assert_eq!(files.list().unwrap(), [FileName::Segment(0), FileName::Table]);
        assert_eq!(files.read(FileName::Segment(0)).unwrap().unwrap(), "onetwo");
        assert_eq!(files.read(FileName::Identity).unwrap(), None);
        files.remove(FileName::Table).unwrap();
        files.remove(FileName::Table).unwrap();
        assert_eq!(files.list().unwrap(), [FileName::Segment(0)]);
    }

    #[test]
    fn a_file_replaced_while_it_was_open_is_appended_to_under_its_own_name() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = Files::open(temp.path()).unwrap();
        files.append(FileName::Identity, b"old").unwrap();
        replace(&mut files, FileName::Identity, b"new").unwrap();
        files.append(FileName::IdentityDraft, b"draft").unwrap();
        files.append(FileName::Identity, b"er").unwrap();
        assert_eq!(files.read(FileName::Identity).unwrap().unwrap(), "newer");
        assert_eq!(files.read(FileName::IdentityDraft).unwrap().unwrap(), "draft");
    }

    #[test]
    fn a_sync_goes_through_the_handles_that_wrote_also_beside_further_writes() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = Files::open(temp.path()).unwrap();
        let (old, new) = (FileName::Segment(0), FileName::Segment(9));
        files.append(old, b"one").unwrap();
        files.append(new, b"two").unwrap();
        assert_eq!(files.appended.len(), 2, "a file was closed before it was synced");
        let wrote: Vec<_> = files.appended.iter().map(|open| Arc::clone(&open.file)).collect();
        let plan = SyncPlan { ticket: Default::default(), files: vec![old, new], directory: true };
        let job = files.sync_job(&plan).unwrap();
        // Each is held here, in the list, and by the job.
        assert!(wrote.iter().all(|file| Arc::strong_count(file) == 3));
        files.append(new, b"three").unwrap();
        std::thread::spawn(job).join().unwrap().unwrap();
        files.append(FileName::Segment(18), b"four").unwrap();
        let names: Vec<_> = files.appended.iter().map(|open| open.name).collect();
        assert_eq!(names, [new, FileName::Segment(18)], "what was synced is let go, what was not is kept");
        files.truncate(FileName::Segment(27), 0).unwrap();
        assert!(files.free_gauge()().unwrap() <= files.total_bytes().unwrap());
    }

    #[test]
    fn a_directory_serves_one_process_at_a_time_and_is_private() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("node");
        let files = Files::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, DIRECTORY_MODE);
        let error = Files::open(&path).unwrap_err();
        assert!(error.contains("in use by another process"), "{error}");
        drop(files);
        Files::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, b"").unwrap();
        let error = Files::open(&path.join("below")).unwrap_err();
        assert!(error.contains("file/below"), "{error}");
        let error = Files::open(&path).unwrap_err();
        assert!(error.contains("file is not a directory"), "{error}");
    }
}
