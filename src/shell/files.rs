//! A data directory on a real disk.
//!
//! One process at a time: the directory is locked for as long as [`Files`] lives, by a lock that
//! the system drops when the process ends, however it ends.

use crate::engine::{FileName, Storage};
use bytes::Bytes;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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
    directory: File,
    /// Held, never read: while it is open no other process can have the directory.
    _lock: File,
    /// The file last appended to. A sync goes through the handle that wrote, which is the one
    /// that is told of a failed write-back.
    appended: Option<(FileName, File)>,
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
        Ok(Self { path: path.to_owned(), directory, _lock: lock, appended: None })
    }

    fn path_of(&self, file: FileName) -> PathBuf {
        self.path.join(file.to_text())
    }

    /// The file, open for appending.
    fn handle(&mut self, file: FileName) -> io::Result<&mut File> {
        let open = match self.appended.take() {
            Some((name, open)) if name == file => open,
            Some(_) | None => OpenOptions::new().append(true).create(true).open(self.path_of(file))?,
        };
        Ok(&mut self.appended.insert((file, open)).1)
    }

    /// Lets go of a handle whose name is about to mean something else.
    fn forget(&mut self, file: FileName) {
        if self.appended.as_ref().is_some_and(|(name, _)| *name == file) {
            self.appended = None;
        }
    }
}

impl Storage for Files {
    fn append(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()> {
        self.handle(file)?.write_all(bytes)
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        self.handle(file)?.sync_data()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>> {
        match fs::read(self.path_of(file)) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
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
