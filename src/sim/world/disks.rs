//! The log threads of simulated processes: what they write, when it is synced, what goes wrong.

use super::{Outside, What, World};
use crate::engine::{DiskEvent, DiskRequest, is_full};
use crate::manager;
use crate::node;
use crate::sim::process::{ProcId, Running};

/// How often a log thread that has found no room tries again: as in the shell.
const RETRY_US: u64 = 100_000;
/// A sync of a disk that is slow for a while.
const SLOW_SYNC_US: (u64, u64) = (50_000, 500_000);

impl World {
    pub(super) fn queue_disk(&mut self, proc: ProcId, request: DiskRequest) {
        // The worst moments to lose power are those in which something is on its way to the disk.
        let replaces = matches!(request, DiskRequest::Replace { .. });
        let chances = self.climate.crash_per_mille * if replaces { 10 } else { 1 };
        if self.rng.chance(chances) {
            let soon_us = self.rng.below(self.climate.sync_us.1);
            self.order(soon_us, Outside::PowerLoss(proc));
        }
        self.procs[proc.0].disk_queue.push_back(request);
        self.disk_begin(proc);
    }

    /// The log thread wakes up: a moment later it takes all that is queued by then.
    fn disk_begin(&mut self, proc: ProcId) {
        let wait_us = self.rng.below(self.climate.sync_us.1 / 2);
        let process = &mut self.procs[proc.0];
        if process.disk_busy || process.disk_queue.is_empty() {
            return;
        }
        process.disk_busy = true;
        let wait_us = if process.disk_full { RETRY_US } else { wait_us };
        let life = process.life;
        self.at(self.now_us + wait_us, What::DiskWrite { proc, life });
    }

    /// Everything queued is written, as far as there is room; it is synced after a while.
    pub(super) fn disk_write(&mut self, proc: ProcId, life: u64) {
        let is_slow = self.procs[proc.0].disk_slow_until > self.now_us;
        let latency = if is_slow { SLOW_SYNC_US } else { self.climate.sync_us };
        let sync_us = self.rng.range(latency.0, latency.1);
        let process = &mut self.procs[proc.0];
        if process.life != life {
            return;
        }
        let was_full = std::mem::take(&mut process.disk_full);
        while let Some(request) = process.disk_queue.pop_front() {
            match process.writer.write(&mut process.disk, &request) {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    process.disk_queue.push_front(request);
                    process.disk_full = true;
                    break;
                }
                Err(error) => self.fatal.push(format!("{}: {error}", process.name)),
            }
        }
        let (written, is_full) = (process.writer.written(), process.disk_full);
        self.at(self.now_us + sync_us, What::DiskDone { proc, life });
        if is_full != was_full {
            let name = self.procs[proc.0].name.clone();
            self.note(|| format!("{name} has {} on its disk", if is_full { "no room" } else { "room" }));
            self.disk_event(proc, if is_full { DiskEvent::Full } else { DiskEvent::Room });
        }
        self.disk_event(proc, DiskEvent::Written(written));
    }

    pub(super) fn disk_done(&mut self, proc: ProcId, life: u64) {
        let process = &mut self.procs[proc.0];
        if process.life != life {
            return;
        }
        if let Err(error) = process.writer.sync(&mut process.disk) {
            self.fatal.push(format!("{}: {error}", process.name));
        }
        process.disk_busy = false;
        let synced = process.writer.synced();
        self.disk_event(proc, DiskEvent::Synced(synced));
        self.disk_begin(proc);
    }

    fn disk_event(&mut self, proc: ProcId, event: DiskEvent) {
        match self.procs[proc.0].running {
            Running::Manager(_) => self.tell_manager(proc, manager::io::Input::Disk(event)),
            Running::Node(_) => self.tell_node(proc, node::io::Input::Disk(event)),
            Running::Client(_) | Running::Down => {}
        }
    }
}
