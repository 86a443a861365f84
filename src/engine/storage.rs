//! The small trait behind which the disk sits, so that tests can give it crashes and torn writes.

use bytes::Bytes;
use std::io;

/// A file of a data directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileName {
    /// A segment of the log, named by the log position of its first record.
    Segment(u64),
    /// A segment being rewritten by recovery.
    SegmentDraft(u64),
    /// What the index needs of a sealed segment, without its values.
    SegmentIndex(u64),
    /// An index file being written.
    SegmentIndexDraft(u64),
    /// Which segments there are.
    Manifest,
    /// A small file about to replace [`Manifest`](Self::Manifest).
    ManifestDraft,
    /// Who this directory is: cluster, node, disk, incarnation.
    Identity,
    /// The latest table.
    Table,
    /// Which copies on their way are refused.
    Fence,
    /// A small file about to replace [`Fence`](Self::Fence).
    FenceDraft,
    /// A table that could not be read, moved aside; they are counted from 0.
    TableDamaged(u16),
    /// A small file about to replace [`Identity`](Self::Identity).
    IdentityDraft,
    /// A small file about to replace [`Table`](Self::Table).
    TableDraft,
}

/// One data directory. Calls may block; they are made at start and by the log thread.
pub trait Storage {
    /// Appends to a file, creating it if need be.
    ///
    /// # Errors
    /// Whatever the disk says; the file may then end in part of `bytes`.
    fn append(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// After one, the page cache cannot be trusted: the process must stop and never try again.
    /// It is never of the kinds that a full disk gives: those may be tried again.
    fn sync(&mut self, file: FileName) -> io::Result<()>;

    /// Makes the directory durable: files created, renamed and removed.
    ///
    /// # Errors
    /// As for [`sync`](Self::sync).
    fn sync_directory(&mut self) -> io::Result<()>;

    /// A whole file; `None` if it does not exist.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>>;

    /// A stretch of a file: exactly `length` bytes, fewer only where the file ends; `None` if it
    /// does not exist.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn read_at(&mut self, file: FileName, offset: u64, length: usize) -> io::Result<Option<Bytes>>;

    /// Cuts a file to `length` bytes, as after an append that did not fit.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn truncate(&mut self, file: FileName, length: u64) -> io::Result<()>;

    /// Every file of the directory that has a [`FileName`], in order.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn list(&mut self) -> io::Result<Vec<FileName>>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn remove(&mut self, file: FileName) -> io::Result<()>;

    /// Renames a file over another.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn rename(&mut self, from: FileName, to: FileName) -> io::Result<()>;
}

impl FileName {
    /// The file's name in the directory.
    #[must_use]
    pub fn to_text(self) -> String {
        match self {
            FileName::Segment(position) => format!("log-{position:016x}"),
            FileName::SegmentDraft(position) => format!("log-{position:016x}.draft"),
            FileName::SegmentIndex(position) => format!("index-{position:016x}"),
            FileName::SegmentIndexDraft(position) => format!("index-{position:016x}.draft"),
            FileName::Manifest => "manifest".to_owned(),
            FileName::ManifestDraft => "manifest.draft".to_owned(),
            FileName::Identity => "identity".to_owned(),
            FileName::Table => "table".to_owned(),
            FileName::Fence => "fence".to_owned(),
            FileName::FenceDraft => "fence.draft".to_owned(),
            FileName::TableDamaged(0) => "table.damaged".to_owned(),
            FileName::TableDamaged(number) => format!("table.damaged.{number}"),
            FileName::IdentityDraft => "identity.draft".to_owned(),
            FileName::TableDraft => "table.draft".to_owned(),
        }
    }

    /// The file of this name, if it is one of ours.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (stem, draft) = match text.strip_suffix(".draft") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let file = match stem {
            "identity" => FileName::Identity,
            "table" => FileName::Table,
            "manifest" => FileName::Manifest,
            "fence" => FileName::Fence,
            "table.damaged" if !draft => FileName::TableDamaged(0),
            other if other.starts_with("table.damaged.") && !draft => {
                let number = other.strip_prefix("table.damaged.")?.parse().ok()?;
                Some(FileName::TableDamaged(number)).filter(|file| file.to_text() == other)?
            }
            other => match other.split_once('-')? {
                ("log", digits) => FileName::Segment(position(digits)?),
                ("index", digits) => FileName::SegmentIndex(position(digits)?),
                _ => return None,
            },
        };
        Some(if draft { file.draft() } else { file })
    }

    /// The draft that becomes this file, for the files that are replaced whole.
    #[must_use]
    pub fn draft(self) -> Self {
        match self {
            FileName::Segment(position) | FileName::SegmentDraft(position) => {
                FileName::SegmentDraft(position)
            }
            FileName::SegmentIndex(position) | FileName::SegmentIndexDraft(position) => {
                FileName::SegmentIndexDraft(position)
            }
            FileName::Manifest | FileName::ManifestDraft => FileName::ManifestDraft,
            FileName::Identity | FileName::IdentityDraft => FileName::IdentityDraft,
            FileName::Fence | FileName::FenceDraft => FileName::FenceDraft,
            // What is moved aside is never written.
            FileName::Table | FileName::TableDraft | FileName::TableDamaged(_) => FileName::TableDraft,
        }
    }
}

/// Sixteen lower-case hexadecimal digits, and nothing else.
fn position(digits: &str) -> Option<u64> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let whole = digits.len() == 16 && digits.bytes().all(is_hex);
    whole.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Writes a file whole, so that a crash leaves the old content or the new, never part of either.
///
/// # Errors
/// Whatever the disk says; the old content is still there.
pub fn replace(storage: &mut impl Storage, file: FileName, bytes: &[u8]) -> io::Result<()> {
    let draft = file.draft();
    storage.remove(draft)?;
    storage.append(draft, bytes)?;
    storage.sync(draft)?;
    storage.rename(draft, file)?;
    storage.sync_directory()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_themselves() {
        let files = [
            FileName::Segment(0),
            FileName::Segment(u64::MAX),
            FileName::SegmentDraft(77),
            FileName::SegmentIndex(77),
            FileName::SegmentIndexDraft(77),
            FileName::Manifest,
            FileName::ManifestDraft,
            FileName::Identity,
            FileName::Table,
            FileName::IdentityDraft,
            FileName::TableDraft,
        ];
        for file in files {
            assert_eq!(FileName::from_text(&file.to_text()), Some(file));
        }
        for foreign in ["log-", "log-1", "lost+found", "log-000000000000000g", "log-+00000000000000f"] {
            assert_eq!(FileName::from_text(foreign), None, "{foreign}");
        }
    }
}
