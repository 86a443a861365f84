//! A disk that can lose what was not synced, as real ones do.
//!
//! Files are inodes behind a directory; each has a durable part and a cached part. A process
//! crash keeps the cache. A power loss goes back to the durable directory and cuts every file
//! somewhere after its synced length, the last kept bytes possibly garbage.

use super::rng::Rng;
use crate::engine::{FileName, Storage};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;

/// One simulated data directory.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    inodes: Vec<Inode>,
    directory: BTreeMap<FileName, usize>,
    durable_directory: BTreeMap<FileName, usize>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

impl SimDisk {
    /// The machine loses power.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.directory.clone_from(&self.durable_directory);
        for inode in &mut self.inodes {
            let unsynced = inode.bytes.len() - inode.synced;
            if unsynced == 0 {
                continue;
            }
            let kept = usize::try_from(rng.below(unsynced as u64 + 1)).unwrap_or(0);
            inode.bytes.truncate(inode.synced + kept);
            if kept > 0 && rng.once_in(3) {
                // The file's length was written, its last page was not.
                let from = inode.synced + usize::try_from(rng.below(kept as u64)).unwrap_or(0);
                inode.bytes.iter_mut().skip(from).for_each(|byte| *byte = 0);
            }
            inode.synced = inode.bytes.len();
        }
    }

    fn inode(&mut self, file: FileName) -> io::Result<&mut Inode> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let at = self.directory.get(&file).ok_or_else(missing)?;
        self.inodes.get_mut(*at).ok_or_else(missing)
    }
}

impl Storage for SimDisk {
    fn append(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()> {
        if !self.directory.contains_key(&file) {
            self.directory.insert(file, self.inodes.len());
            self.inodes.push(Inode::default());
        }
        self.inode(file)?.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        let inode = self.inode(file)?;
        inode.synced = inode.bytes.len();
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.durable_directory.clone_from(&self.directory);
        Ok(())
    }

    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>> {
        if !self.directory.contains_key(&file) {
            return Ok(None);
        }
        Ok(Some(Bytes::copy_from_slice(&self.inode(file)?.bytes)))
    }

    fn read_at(&mut self, file: FileName, offset: u64, length: usize) -> io::Result<Option<Bytes>> {
        if !self.directory.contains_key(&file) {
            return Ok(None);
        }
        let bytes = &self.inode(file)?.bytes;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = from.saturating_add(length).min(bytes.len());
        Ok(Some(Bytes::copy_from_slice(&bytes[from..to])))
    }

    fn truncate(&mut self, file: FileName, length: u64) -> io::Result<()> {
        let inode = self.inode(file)?;
        inode.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        inode.synced = inode.synced.min(inode.bytes.len());
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<FileName>> {
        Ok(self.directory.keys().copied().collect())
    }

    fn remove(&mut self, file: FileName) -> io::Result<()> {
        self.directory.remove(&file);
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> io::Result<()> {
        let at = self.directory.remove(&from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.directory.insert(to, at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_loss_keeps_what_was_synced_and_only_files_whose_directory_was() {
        let mut disk = SimDisk::default();
        let (kept, lost) = (FileName::Segment(0), FileName::Segment(9));
        disk.append(kept, b"synced").unwrap();
        disk.sync(kept).unwrap();
        disk.sync_directory().unwrap();
        disk.append(kept, b" and more").unwrap();
        disk.append(lost, b"no directory entry").unwrap();
        disk.sync(lost).unwrap();
        disk.lose_power(&mut Rng::new(1));
        assert!(disk.read(kept).unwrap().unwrap().starts_with(b"synced"));
        assert_eq!(disk.read(lost).unwrap(), None);
    }
}
