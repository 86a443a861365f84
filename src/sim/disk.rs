//! A disk that can lose what was not synced, as real ones do, and fail when it is told to.
//!
//! Files are inodes behind a directory. A process crash keeps everything: it is in the page
//! cache. A power loss keeps what was synced, and of the rest whatever the disk happened to have
//! written: of a file, any of its pages, in any order, at any length; of the directory, any of
//! its changes, as long as none is kept whose forerunner on the same name is lost.

use super::rng::Rng;
use crate::engine::{FileName, Storage};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes at once, so that it is there whole or not at all. Smaller than that of real
/// ones: small logs are torn in more places.
const PAGE_BYTES: usize = 64;

/// One simulated data directory. A clone costs little: files are shared until they change.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    inodes: Vec<Arc<Inode>>,
    directory: BTreeMap<FileName, usize>,
    durable_directory: BTreeMap<FileName, usize>,
    /// Changes of the directory that are not synced.
    changes: Vec<Change>,
    /// Bytes that fit on it; all of them unless told otherwise.
    capacity: Option<u64>,
    /// The next call of this kind fails.
    failing: Option<(DiskCall, ErrorKind)>,
    tape: Option<Tape>,
}

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskCall {
    /// [`Storage::append`]; half of the bytes are written.
    Append,
    /// [`Storage::sync`]: what it was to sync is never written, although it can still be read
    /// and later syncs succeed.
    Sync,
    /// [`Storage::sync_directory`].
    SyncDirectory,
    /// [`Storage::read`] and [`Storage::read_at`].
    Read,
    /// [`Storage::truncate`].
    Truncate,
    /// [`Storage::remove`].
    Remove,
    /// [`Storage::rename`].
    Rename,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// So many of them are durable.
    synced: usize,
    /// Durable bytes that followed those, until a cut that is not synced.
    cut: Vec<u8>,
    /// What a failed sync has left: it will never be written.
    unwritten: Vec<Range<usize>>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Create(FileName, usize),
    Remove(FileName),
    Rename(FileName, FileName),
}

impl Change {
    fn names(self) -> [FileName; 2] {
        match self {
            Change::Create(name, _) | Change::Remove(name) => [name, name],
            Change::Rename(from, to) => [from, to],
        }
    }

    fn apply(self, directory: &mut BTreeMap<FileName, usize>) {
        match self {
            Change::Create(name, inode) => drop(directory.insert(name, inode)),
            Change::Remove(name) => drop(directory.remove(&name)),
            Change::Rename(from, to) => {
                if let Some(inode) = directory.remove(&from) {
                    directory.insert(to, inode);
                }
            }
        }
    }
}

/// Everything that was done to a disk, so that it can be done again up to any point.
#[derive(Clone, Debug)]
struct Tape {
    start: Box<SimDisk>,
    steps: Arc<Vec<Step>>,
}

/// One call that changes something.
#[derive(Clone, Debug)]
enum Step {
    Append(FileName, Bytes),
    Sync(FileName),
    FailedSync(FileName),
    LosePower(Rng),
    SyncDirectory,
    Truncate(FileName, u64),
    Remove(FileName),
    Rename(FileName, FileName),
}

/// Takes a disk through what was recorded, step by step.
#[derive(Debug)]
pub struct Replay {
    disk: SimDisk,
    steps: Arc<Vec<Step>>,
    at: usize,
}

impl Replay {
    /// The disk after so many steps, as the process that made them saw it.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// How many steps were taken.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Takes one step more; false if there is none.
    pub fn step(&mut self) -> bool {
        let Some(step) = self.steps.get(self.at) else { return false };
        self.at += 1;
        // A step that failed when it was recorded fails again.
        let _ = match step {
            Step::Append(file, bytes) => self.disk.append(*file, bytes),
            Step::Sync(file) => self.disk.sync(*file),
            Step::FailedSync(file) => self.disk.fail_sync(*file),
            Step::SyncDirectory => self.disk.sync_directory(),
            Step::LosePower(rng) => {
                self.disk.lose_power(&mut rng.clone());
                Ok(())
            }
            Step::Truncate(file, length) => self.disk.truncate(*file, *length),
            Step::Remove(file) => self.disk.remove(*file),
            Step::Rename(from, to) => self.disk.rename(*from, *to),
        };
        true
    }
}

impl SimDisk {
    /// From now on remembers every step, for [`replay`](Self::replay) and
    /// [`crash_at`](Self::crash_at).
    pub fn record(&mut self) {
        self.tape = None;
        self.tape = Some(Tape { start: Box::new(self.clone()), steps: Arc::default() });
    }

    /// Steps recorded so far.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.tape.as_ref().map_or(0, |tape| tape.steps.len())
    }

    /// What was recorded, from its start.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let disk = self.tape.as_ref().map_or_else(|| self.clone(), |tape| (*tape.start).clone());
        Replay {
            disk,
            steps: self.tape.as_ref().map(|tape| Arc::clone(&tape.steps)).unwrap_or_default(),
            at: 0,
        }
    }

    /// The disk as it is after a power loss that came after so many of the recorded steps.
    #[must_use]
    pub fn crash_at(&self, steps: usize, rng: &mut Rng) -> SimDisk {
        let mut replay = self.replay();
        while replay.at < steps && replay.step() {}
        replay.disk.lose_power(rng);
        replay.disk
    }

    /// Sets how many bytes fit on the disk; `None` for any number.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// Whether it can be full.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.capacity.is_some()
    }

    /// Lets the next call of a kind fail.
    pub fn fail_next(&mut self, call: DiskCall, kind: ErrorKind) {
        self.failing = Some((call, kind));
    }

    /// Flips one bit, durably; false if the file has no such byte.
    pub fn flip(&mut self, file: FileName, byte: u64, bit: u8) -> bool {
        let at = usize::try_from(byte).unwrap_or(usize::MAX);
        let inode = self.inode(file).ok();
        inode.and_then(|inode| inode.bytes.get_mut(at)).map(|held| *held ^= 1 << (bit & 7)).is_some()
    }

    /// A file's length.
    #[must_use]
    pub fn length(&self, file: FileName) -> Option<u64> {
        self.directory.get(&file).and_then(|at| self.inodes.get(*at)).map(|inode| inode.bytes.len() as u64)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.directory.keys().filter_map(|&file| self.length(file)).sum()
    }

    /// The machine loses power.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.note(|| Step::LosePower(rng.clone()));
        let manner = Manner::draw(rng);
        self.lose(manner, rng);
    }

    /// As it would be after the worst loss of power there can be: all that is not synced is gone.
    #[must_use]
    pub fn synced_alone(&self) -> SimDisk {
        let mut disk = self.clone();
        disk.lose(Manner::Nothing, &mut Rng::new(0));
        disk
    }

    fn lose(&mut self, manner: Manner, rng: &mut Rng) {
        let mut directory = std::mem::take(&mut self.durable_directory);
        let mut lost = BTreeSet::new();
        for change in self.changes.drain(..) {
            let names = change.names();
            if names.iter().any(|name| lost.contains(name)) || !manner.keeps(rng) {
                lost.extend(names);
            } else {
                change.apply(&mut directory);
            }
        }
        self.durable_directory.clone_from(&directory);
        self.directory = directory;
        for inode in &mut self.inodes {
            if inode.synced < inode.bytes.len() || !inode.cut.is_empty() || !inode.unwritten.is_empty() {
                Arc::make_mut(inode).lose_power(manner, rng);
            }
        }
        self.failing = None;
    }

    fn inode(&mut self, file: FileName) -> io::Result<&mut Inode> {
        let missing = || io::Error::from(ErrorKind::NotFound);
        let at = self.directory.get(&file).ok_or_else(missing)?;
        self.inodes.get_mut(*at).map(Arc::make_mut).ok_or_else(missing)
    }

    /// Notes a step down.
    fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(tape) = &mut self.tape {
            Arc::make_mut(&mut tape.steps).push(step());
        }
    }

    fn fails(&mut self, call: DiskCall) -> io::Result<()> {
        match self.failing.take_if(|(failing, _)| *failing == call) {
            Some((_, kind)) => Err(kind.into()),
            None => Ok(()),
        }
    }

    /// What was to be synced never will be, although nothing shows it.
    fn fail_sync(&mut self, file: FileName) -> io::Result<()> {
        self.note(|| Step::FailedSync(file));
        let inode = self.inode(file)?;
        inode.unwritten.push(inode.synced..inode.bytes.len());
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.directory);
        self.changes.push(change);
    }

    fn write(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()> {
        self.note(|| Step::Append(file, Bytes::copy_from_slice(bytes)));
        if !self.directory.contains_key(&file) {
            self.inodes.push(Arc::default());
            self.change(Change::Create(file, self.inodes.len() - 1));
        }
        self.inode(file)?.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// How much of what was not synced a power loss leaves.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Nothing,
    Everything,
    /// So many of a thousand pieces.
    Some(u64),
}

impl Manner {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Manner::Nothing,
            1 => Manner::Everything,
            _ => Manner::Some(rng.range(100, 950)),
        }
    }

    fn keeps(self, rng: &mut Rng) -> bool {
        match self {
            Manner::Nothing => false,
            Manner::Everything => true,
            Manner::Some(per_mille) => rng.chance(per_mille),
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        self.synced = self.bytes.len();
        self.cut.clear();
    }

    fn truncate(&mut self, length: usize) {
        if length < self.synced {
            let mut cut = self.bytes[length..self.synced].to_vec();
            cut.append(&mut self.cut);
            self.cut = cut;
            self.synced = length;
        }
        self.bytes.truncate(length);
        self.unwritten.retain(|range| range.start < length);
    }

    fn lose_power(&mut self, manner: Manner, rng: &mut Rng) {
        let written = std::mem::take(&mut self.bytes);
        self.bytes = written[..self.synced].to_vec();
        if !manner.keeps(rng) {
            self.bytes.append(&mut self.cut);
        }
        let longer = written.len().saturating_sub(self.bytes.len()) as u64;
        let length = match manner {
            Manner::Nothing => self.bytes.len(),
            Manner::Everything => written.len().max(self.bytes.len()),
            Manner::Some(_) => self.bytes.len() + usize::try_from(rng.below(longer + 1)).unwrap_or(0),
        };
        self.bytes.resize(length, 0);
        let end = length.min(written.len());
        self.pages(self.synced..end, manner, rng, &written);
        for range in std::mem::take(&mut self.unwritten) {
            let (start, end) = (range.start.min(length), range.end.min(length));
            self.bytes[start..end].fill(0);
        }
        self.cut.clear();
        self.synced = self.bytes.len();
    }

    /// Keeps some pages of what was written, and makes the others zeros or garbage.
    fn pages(&mut self, range: Range<usize>, manner: Manner, rng: &mut Rng, written: &[u8]) {
        let mut at = range.start;
        while at < range.end {
            let next = ((at / PAGE_BYTES + 1) * PAGE_BYTES).min(range.end);
            if manner.keeps(rng) {
                self.bytes[at..next].copy_from_slice(&written[at..next]);
            } else if rng.once_in(4) {
                self.bytes[at..next].iter_mut().for_each(|byte| *byte = rng.any().to_le_bytes()[0]);
            }
            at = next;
        }
    }
}

impl Storage for SimDisk {
    fn append(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()> {
        let half = bytes.len() / 2;
        if let Err(error) = self.fails(DiskCall::Append) {
            self.write(file, &bytes[..half])?;
            return Err(error);
        }
        let free = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let fits = usize::try_from(free).unwrap_or(usize::MAX).min(bytes.len());
        self.write(file, &bytes[..fits])?;
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        if let Err(error) = self.fails(DiskCall::Sync) {
            self.fail_sync(file)?;
            return Err(error);
        }
        self.note(|| Step::Sync(file));
        self.inode(file)?.sync();
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.fails(DiskCall::SyncDirectory)?;
        self.note(|| Step::SyncDirectory);
        self.durable_directory.clone_from(&self.directory);
        self.changes.clear();
        Ok(())
    }

    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>> {
        self.read_at(file, 0, usize::MAX)
    }

    fn read_at(&mut self, file: FileName, offset: u64, length: usize) -> io::Result<Option<Bytes>> {
        self.fails(DiskCall::Read)?;
        let Some(inode) = self.directory.get(&file).and_then(|at| self.inodes.get(*at)) else {
            return Ok(None);
        };
        let bytes = &inode.bytes;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = from.saturating_add(length).min(bytes.len());
        Ok(Some(Bytes::copy_from_slice(&bytes[from..to])))
    }

    fn truncate(&mut self, file: FileName, length: u64) -> io::Result<()> {
        self.fails(DiskCall::Truncate)?;
        self.note(|| Step::Truncate(file, length));
        self.inode(file)?.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn list(&mut self) -> io::Result<Vec<FileName>> {
        Ok(self.directory.keys().copied().collect())
    }

    fn remove(&mut self, file: FileName) -> io::Result<()> {
        self.fails(DiskCall::Remove)?;
        self.note(|| Step::Remove(file));
        if self.directory.contains_key(&file) {
            self.change(Change::Remove(file));
        }
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> io::Result<()> {
        self.fails(DiskCall::Rename)?;
        self.note(|| Step::Rename(from, to));
        if !self.directory.contains_key(&from) {
            return Err(ErrorKind::NotFound.into());
        }
        self.change(Change::Rename(from, to));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileName = FileName::Segment(0);

    fn synced(bytes: &[u8]) -> SimDisk {
        let mut disk = SimDisk::default();
        disk.append(FILE, bytes).unwrap();
        disk.sync(FILE).unwrap();
        disk.sync_directory().unwrap();
        disk
    }

    fn content(disk: &mut SimDisk, file: FileName) -> Option<Vec<u8>> {
        disk.read(file).unwrap().map(|bytes| bytes.to_vec())
    }

    /// What becomes of a disk in many power losses.
    fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&mut SimDisk) -> T) -> BTreeSet<T> {
        let lose = |seed| {
            let mut disk = disk.clone();
            disk.lose_power(&mut Rng::new(seed));
            look(&mut disk)
        };
        (0..400).map(lose).collect()
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_only_files_whose_directory_was() {
        let mut disk = synced(b"synced");
        let lost = FileName::Segment(9);
        disk.append(FILE, b" and more").unwrap();
        disk.append(lost, b"no directory entry").unwrap();
        disk.sync(lost).unwrap();
        let starts = outcomes(&disk, |disk| content(disk, FILE).unwrap().starts_with(b"synced"));
        assert_eq!(starts, BTreeSet::from([true]));
        let there = outcomes(&disk, |disk| content(disk, lost));
        assert_eq!(there, BTreeSet::from([None, Some(b"no directory entry".to_vec())]));
        disk.sync_directory().unwrap();
        assert_eq!(outcomes(&disk, |disk| content(disk, lost)).len(), 1);
    }

    #[test]
    fn a_later_page_can_survive_an_earlier_one_and_lost_ones_are_zeros_or_garbage() {
        let mut disk = synced(b"");
        disk.append(FILE, &[7; 3 * PAGE_BYTES]).unwrap();
        let seen = outcomes(&disk, |disk| {
            let bytes = content(disk, FILE).unwrap();
            bytes
                .chunks(PAGE_BYTES)
                .map(|page| page.iter().map(|&byte| byte.min(8)).max())
                .collect::<Vec<_>>()
        });
        assert!(seen.contains(&vec![]) && seen.contains(&vec![Some(7); 3]), "{seen:?}");
        assert!(seen.contains(&vec![Some(0), Some(7), Some(7)]), "{seen:?}");
        assert!(seen.iter().any(|pages| pages.contains(&Some(8))), "{seen:?}");
    }

    #[test]
    fn directory_changes_are_lost_one_by_one_but_never_out_of_order_on_a_name() {
        let mut disk = synced(b"old");
        disk.append(FILE.draft(), b"new").unwrap();
        disk.sync(FILE.draft()).unwrap();
        disk.rename(FILE.draft(), FILE).unwrap();
        disk.append(FileName::Table, b"t").unwrap();
        let names = |disk: &mut SimDisk| (disk.list().unwrap(), content(disk, FILE).unwrap());
        let seen = outcomes(&disk, names);
        for with_table in [false, true] {
            let table = with_table.then_some(FileName::Table);
            for (draft, content) in [(false, "old"), (true, "old"), (false, "new")] {
                let draft = draft.then_some(FILE.draft());
                let files = [Some(FILE), draft, table].into_iter().flatten().collect();
                assert!(seen.contains(&(files, content.into())), "{seen:?}");
            }
        }
        assert_eq!(seen.len(), 6, "{seen:?}");
    }

    #[test]
    fn a_cut_that_was_not_synced_may_be_undone() {
        let mut disk = synced(b"abcdef");
        disk.truncate(FILE, 2).unwrap();
        disk.append(FILE, b"XY").unwrap();
        let seen = outcomes(&disk, |disk| content(disk, FILE).unwrap());
        for text in ["ab", "abcdef", "abXYef", "abXY"] {
            assert!(seen.contains(text.as_bytes()), "{text} is not in {seen:?}");
        }
        disk.sync(FILE).unwrap();
        assert_eq!(outcomes(&disk, |disk| content(disk, FILE)), BTreeSet::from([Some(b"abXY".to_vec())]));
    }

    #[test]
    fn what_a_failed_sync_left_is_read_until_the_power_goes_and_never_written() {
        let mut disk = synced(b"old");
        disk.append(FILE, b"new").unwrap();
        disk.fail_next(DiskCall::Sync, ErrorKind::Other);
        assert!(disk.sync(FILE).is_err());
        disk.sync(FILE).unwrap();
        assert_eq!(content(&mut disk, FILE).unwrap(), b"oldnew");
        assert_eq!(
            outcomes(&disk, |disk| content(disk, FILE).unwrap()),
            BTreeSet::from([b"old\0\0\0".to_vec()])
        );
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_a_failing_call_fails_once() {
        let mut disk = synced(b"four");
        disk.set_capacity(Some(6));
        assert_eq!(disk.append(FILE, b"more").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(content(&mut disk, FILE).unwrap(), b"fourmo");
        disk.set_capacity(None);
        disk.fail_next(DiskCall::Append, ErrorKind::Other);
        assert!(disk.append(FILE, b"1234").is_err());
        disk.append(FILE, b"56").unwrap();
        assert_eq!(content(&mut disk, FILE).unwrap(), b"fourmo1256");
        assert!(disk.flip(FILE, 0, 1) && !disk.flip(FILE, 99, 1));
        assert_eq!(content(&mut disk, FILE).unwrap(), b"dourmo1256");
    }

    #[test]
    fn a_recorded_run_can_be_cut_off_after_any_step() {
        let mut disk = synced(b"0");
        disk.record();
        for byte in [b"1", b"2", b"3"] {
            disk.append(FILE, byte).unwrap();
            disk.sync(FILE).unwrap();
        }
        assert_eq!(disk.steps(), 6);
        for (steps, text) in [(0, "0"), (2, "01"), (4, "012"), (6, "0123")] {
            let mut crashed = disk.crash_at(steps, &mut Rng::new(1));
            assert_eq!(content(&mut crashed, FILE).unwrap(), text.as_bytes());
        }
        let mut replay = disk.replay();
        while replay.at() < 3 && replay.step() {}
        assert_eq!(replay.disk().length(FILE), Some(3));
    }
}
