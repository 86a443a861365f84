//! The crash sweep of the log: power is lost after every step of a run, and what is recovered is
//! compared with what was promised by then.
//!
//! A run appends, syncs, seals, writes manifests and index files, rewrites segments at the end of
//! the log and removes them, and now and then dies: with a sync that failed, or just so.

use super::*;
use crate::engine::DiskRequest;
use crate::engine::index_file::build;
use crate::engine::inspect;
use crate::engine::testing::{Log, merge, recovered, seq_of};
use crate::sim::{DiskCall, Rng, SimDisk};

const SEGMENT_BYTES: u64 = 500;

/// A run and its promises.
struct Run {
    log: Log,
    rng: Rng,
    planted: Planted,
    /// Records, each with the step from which on it must be told.
    promised: Vec<(usize, u64)>,
    /// Records, each with the step from which on it must not be told.
    dropped: Vec<(usize, u64)>,
    /// Every record ever written.
    written: Vec<RecordOutline>,
}

impl Run {
    fn new(seed: u64, planted: Planted) -> Result<Self, RecoveryError> {
        let mut disk = SimDisk::default();
        disk.record();
        let (log, _) = Log::open(disk, SEGMENT_BYTES, planted)?;
        let rng = Rng::new(seed);
        let (promised, dropped, written) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { log, rng, planted, promised, dropped, written })
    }

    fn act(&mut self) -> Result<(), RecoveryError> {
        match self.rng.below(24) {
            0..=11 => self.put(),
            12..=16 => self.sync(),
            17 | 18 => self.manifest(),
            19 => self.index()?,
            20 | 21 => self.compact()?,
            22 => self.restart()?,
            _ => {
                if self.log.writer.sync_plan().is_some_and(|plan| !plan.files.is_empty()) {
                    self.log.disk.fail_next(DiskCall::Sync, io::ErrorKind::Other);
                    self.log.sync().unwrap_err();
                    self.restart()?;
                }
            }
        }
        Ok(())
    }

    fn put(&mut self) {
        // Few sizes: what follows a cut often ends just where something cut began.
        let bytes = self.rng.pick(&[20, 20, 20, 90, 300]).copied().unwrap_or(0);
        let before = self.log.told.len();
        self.log.put(bytes);
        self.written.extend_from_slice(&self.log.told[before..]);
    }

    fn sync(&mut self) {
        self.log.sync().unwrap();
        self.promise();
    }

    /// From here on, all that is in the log is durable.
    fn promise(&mut self) {
        let step = self.log.disk.steps();
        let dropped: Vec<u64> = self.dropped.iter().map(|entry| entry.1).collect();
        let seqs = Log::seqs(&self.log.told).into_iter().filter(|seq| !dropped.contains(seq));
        self.promised.extend(seqs.map(|seq| (step, seq)));
    }

    fn manifest(&mut self) {
        self.log.write_manifest();
    }

    fn index(&mut self) -> Result<(), RecoveryError> {
        self.sync();
        if let Some(&(start, end)) = self.rng.pick(&self.log.sealed) {
            // It cannot be built only where a planted bug has let damage in.
            let _ = build(&mut self.log.disk, start, end);
        }
        Ok(())
    }

    /// Rewrites a sealed segment at the end of the log, but for what nobody needs, and removes it.
    fn compact(&mut self) -> Result<(), RecoveryError> {
        let Some(&(start, end)) = self.rng.pick(&self.log.sealed) else { return Ok(()) };
        let held: Vec<RecordOutline> = self.log.told.clone();
        let is_in = |outline: &&RecordOutline| (start..end).contains(&outline.location.position);
        let mut seqs = Log::seqs(&held.iter().filter(is_in).cloned().collect::<Vec<_>>());
        let elsewhere =
            Log::seqs(&held.iter().filter(|outline| !is_in(outline)).cloned().collect::<Vec<_>>());
        seqs.retain(|seq| !elsewhere.contains(seq));
        let (gone, kept): (Vec<u64>, Vec<u64>) = seqs.into_iter().partition(|seq| seq % 5 == 0);
        let before = self.log.told.len();
        let request = self.log.batch_of(kept.iter().map(|&seq| merge(seq, 20)).collect());
        self.log.writer.write(&mut self.log.disk, &request).unwrap();
        self.written.extend_from_slice(&self.log.told[before..]);
        self.log.told.retain(|outline| !is_in(&outline));
        self.promised.retain(|entry| !gone.contains(&entry.1));
        self.log.sealed.retain(|entry| entry.0 != start);
        self.manifest();
        self.dropped.extend(gone.into_iter().map(|seq| (self.log.disk.steps(), seq)));
        let files = vec![FileName::Segment(start), FileName::SegmentIndex(start)];
        let ticket = self.log.ticket();
        self.log.writer.write(&mut self.log.disk, &DiskRequest::Remove { ticket, files }).unwrap();
        self.promise();
        Ok(())
    }

    /// The process dies and is started again, the machine perhaps with it. What it finds, it
    /// serves; what it does not find is gone for good.
    fn restart(&mut self) -> Result<(), RecoveryError> {
        let seq = self.log.seq;
        let mut disk = std::mem::take(&mut self.log.disk);
        if self.rng.once_in(2) {
            disk.lose_power(&mut self.rng);
        }
        let before = Log::seqs(&self.log.told);
        let (log, _) = Log::open(disk, SEGMENT_BYTES, self.planted)?;
        self.log = log;
        self.log.seq = seq;
        let after = Log::seqs(&self.log.told);
        let step = self.log.disk.steps();
        let lost = before.into_iter().filter(|seq| !after.contains(seq));
        self.dropped.extend(lost.map(|seq| (step, seq)));
        self.promise();
        Ok(())
    }

    /// What is wrong with what is found after a power loss at a step.
    fn verdict(&mut self, step: usize, mut disk: SimDisk) -> Result<(), String> {
        if self.rng.once_in(4) {
            // Power is lost again while the first loss is recovered from.
            disk.record();
            let _ = recovered(&mut disk, SEGMENT_BYTES, self.planted);
            let at = usize::try_from(self.rng.below(disk.steps() as u64 + 1)).unwrap();
            disk = disk.crash_at(at, &mut self.rng);
        }
        let report = inspect::check(&mut disk).map_err(|error| error.to_string())?;
        let recover = |disk: &mut SimDisk| {
            recovered(disk, SEGMENT_BYTES, self.planted).map_err(|error| error.to_string())
        };
        let (found, told) = recover(&mut disk)?;
        let (again, told_again) = recover(&mut disk)?;
        if let Some(damage) = found.damage.iter().chain(&again.damage).chain(&report.damage).next() {
            return Err(format!("{damage:?}"));
        }
        if told != told_again || again.cut_bytes > 0 || report.records != told.len() as u64 {
            return Err("it is not found again".to_owned());
        }
        if let Some(invented) = told.iter().find(|outline| !self.written.contains(outline)) {
            return Err(format!("never written: {invented:?}"));
        }
        let seqs: BTreeSet<u64> = told.iter().filter_map(seq_of).collect();
        let is_due = |entry: &&(usize, u64)| entry.0 <= step;
        if let Some(lost) = self.promised.iter().filter(is_due).find(|entry| !seqs.contains(&entry.1)) {
            return Err(format!("lost: {lost:?}"));
        }
        if let Some(back) = self.dropped.iter().filter(is_due).find(|entry| seqs.contains(&entry.1)) {
            return Err(format!("back: {back:?}"));
        }
        Ok(())
    }
}

/// Crashes a run after every step. Returns how many crashes that were.
fn sweep(seed: u64, planted: Planted) -> Result<u64, String> {
    let failed = |error: RecoveryError| format!("seed {seed}: {error}");
    let mut run = Run::new(seed, planted).map_err(failed)?;
    for _ in 0..60 {
        run.act().map_err(failed)?;
    }
    let mut replay = run.log.disk.replay();
    loop {
        let mut disk = replay.disk().clone();
        disk.lose_power(&mut run.rng);
        let step = replay.at();
        run.verdict(step, disk).map_err(|what| format!("seed {seed}, step {step}: {what}"))?;
        if !replay.step() {
            return Ok(step as u64 + 1);
        }
    }
}

#[test]
fn after_a_crash_at_any_step_what_was_promised_is_there_and_nothing_else() {
    let crashes: u64 = (0..20).map(|seed| sweep(seed, Planted::NONE).unwrap()).sum();
    assert!(crashes >= 2000, "{crashes}");
}

#[test]
fn every_mistake_that_a_power_loss_can_show_is_caught() {
    for mutant in [
        Mutant::TornTailServed,
        Mutant::SkipDirectorySync,
        Mutant::SkipSealSync,
        Mutant::KeepUnsyncedSegment,
        Mutant::KeepLeftovers,
        Mutant::ManifestBeforeSync,
    ] {
        let caught = (0..100).find_map(|seed| sweep(seed, Planted::one(mutant)).err());
        assert!(caught.is_some(), "{mutant:?} passes");
    }
}
