//! Where an export goes. A file is written beside its place and takes it only when it is whole:
//! whatever happens, an earlier file of that name is either there as it was, or replaced.

use super::exit::{CommandResult, Exit, Failure};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An export's destination, being written.
pub(crate) enum Target<'a> {
    /// Standard output, or what is no plain file (a device, a pipe): there is nothing to replace.
    Straight { out: Box<dyn Write + 'a>, name: String },
    /// A plain file.
    Beside {
        file: BufWriter<File>,
        /// Where it is written.
        partial: PathBuf,
        /// Where it belongs.
        path: PathBuf,
    },
}

impl<'a> Target<'a> {
    /// Opens a file by name, or standard output, which is `out`, as `-`.
    pub(crate) fn open(out: &'a mut dyn Write, name: &str) -> Result<Self, Failure> {
        if name == "-" {
            return Ok(Target::Straight { out: Box::new(out), name: "standard output".to_owned() });
        }
        Self::open_file(name).map_err(|error| cannot_write(Path::new(name), &error))
    }

    fn open_file(name: &str) -> io::Result<Self> {
        // Under these names stands what somebody else has open, /dev/stdout as often as not a plain
        // file: it is written to behind what is there, and never replaced.
        let is_borrowed = ["/dev", "/proc"].iter().any(|place| Path::new(name).starts_with(place));
        // Through a symbolic link the file is meant, not the link.
        let (path, there) = match OpenOptions::new().write(true).append(is_borrowed).open(name) {
            Ok(there) if is_borrowed || !there.metadata()?.is_file() => {
                let out = Box::new(BufWriter::new(there));
                return Ok(Target::Straight { out, name: name.to_owned() });
            }
            Ok(there) => (fs::canonicalize(name)?, Some(there.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (behind_links(Path::new(name)), None),
            Err(error) => return Err(error),
        };
        let mut partial = OsString::from(&path);
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = alone(&partial)?;
        if let Some(there) = there {
            // Who may not read the old one may not read the new one.
            file.set_permissions(there.permissions())?;
        }
        Ok(Target::Beside { file: BufWriter::new(file), partial, path })
    }

    pub(crate) fn writer(&mut self) -> &mut dyn Write {
        match self {
            Target::Straight { out, .. } => out,
            Target::Beside { file, .. } => file,
        }
    }

    /// All is written: durably, before it takes its place.
    pub(crate) fn finish(mut self) -> CommandResult {
        let done = match &mut self {
            Target::Straight { out, .. } => out.flush(),
            Target::Beside { file, partial, path } => {
                file.flush().and_then(|()| file.get_ref().sync_all()).and_then(|()| replace(partial, path))
            }
        };
        done.map_err(|error| self.discard(error))
    }

    /// It cannot be written on.
    pub(crate) fn discard(self, error: io::Error) -> Failure {
        match self {
            // Whoever read it has had enough.
            Target::Straight { .. } if error.kind() == io::ErrorKind::BrokenPipe => error.into(),
            Target::Straight { name, .. } => cannot_write(Path::new(&name), &error),
            Target::Beside { partial, path, .. } => {
                // What is left of it is of no use; that it cannot be removed either helps nobody.
                let _ = fs::remove_file(&partial);
                let Failure { exit, text } = cannot_write(&partial, &error);
                Failure::new(exit, format!("{text}; it was removed{}", old(&path)))
            }
        }
    }

    /// It is not whole, and kept for what it is; says where.
    pub(crate) fn keep_partial(mut self) -> Result<String, Failure> {
        if let Err(error) = self.writer().flush() {
            return Err(self.discard(error));
        }
        Ok(match self {
            Target::Straight { .. } => String::new(),
            Target::Beside { partial, path, .. } => {
                format!("; what could be read is in {}{}", partial.display(), old(&path))
            }
        })
    }
}

/// Where a symbolic link without a file behind it leads; a path that is no link, itself. The system
/// has just followed them to nothing, so that they end.
fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    while let Ok(target) = fs::read_link(&path) {
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

/// A new, empty file that no other export writes to, as long as this one has it open.
fn alone(partial: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(partial)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("another export is writing {}", partial.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Another export may have finished in between: then this is what it has put in its place.
        let is_still_there =
            fs::metadata(partial).is_ok_and(|now| file.metadata().is_ok_and(|ours| now.ino() == ours.ino()));
        if is_still_there {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

fn replace(partial: &Path, path: &Path) -> io::Result<()> {
    fs::rename(partial, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn old(path: &Path) -> String {
    if path.exists() { format!(", {} is as it was", path.display()) } else { String::new() }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Error, format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn begun(path: &Path) -> Target<'static> {
        let mut target = Target::open_file(path.to_str().unwrap()).unwrap();
        target.writer().write_all(b"new").unwrap();
        target
    }

    #[test]
    fn two_exports_to_one_file_never_write_over_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all");
        let first = begun(&path);
        let error = Target::open_file(path.to_str().unwrap()).err().unwrap();
        assert!(error.to_string().contains("another export is writing"), "{error}");
        first.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        begun(&path).finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn an_earlier_file_is_replaced_by_a_whole_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, partial) = (dir.path().join("all"), dir.path().join("all.partial"));
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let said = begun(&path).keep_partial().unwrap();
        assert!(said.contains("all.partial") && said.contains("all is as it was"), "{said}");
        assert_eq!((fs::read(&path).unwrap(), fs::read(&partial).unwrap()), (b"old".into(), b"new".into()));

        let failure = begun(&path).discard(io::Error::other("the disk is full"));
        assert!(failure.text.contains("the disk is full; it was removed"), "{failure}");
        assert_eq!((fs::read(&path).unwrap(), partial.exists()), (b"old".into(), false));

        begun(&path).finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), partial.exists()), (b"new".into(), false));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, b"old").unwrap();
        symlink(&file, &link).unwrap();
        begun(&link).finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(matches!(begun(Path::new("/dev/null")), Target::Straight { .. }));
        let full = begun(Path::new("/dev/full")).finish().unwrap_err();
        assert!(full.text.starts_with("cannot write /dev/full: No space left"), "{full}");
        let open = File::open(&file).unwrap();
        let fd = PathBuf::from(format!("/dev/fd/{}", open.as_raw_fd()));
        begun(&fd).finish().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"newnew", "what somebody has open is not replaced");
        assert!(Target::open_file(dir.path().to_str().unwrap()).is_err(), "a directory is no file");
    }

    #[test]
    fn a_link_without_a_file_is_given_one() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, further) =
            (dir.path().join("file"), dir.path().join("link"), dir.path().join("further"));
        symlink("file", &link).unwrap();
        symlink(&link, &further).unwrap();
        begun(&further).finish().unwrap();
        assert!(fs::symlink_metadata(&further).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
