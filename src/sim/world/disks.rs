//! The log threads of simulated processes: what they write, when it is synced, what goes wrong.

use super::{Outside, What, World};
use crate::engine::{DiskEvent, DiskRequest};
use crate::manager;
use crate::node;
use crate::sim::process::{ProcId, Running};

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
        let life = process.life;
        self.at(self.now_us + wait_us, What::DiskWrite { proc, life });
    }

    /// Everything queued is written; it is synced after a while.
    pub(super) fn disk_write(&mut self, proc: ProcId, life: u64) {
        let latency = self.climate.sync_us;
        let sync_us = self.rng.range(latency.0, latency.1);
        let process = &mut self.procs[proc.0];
        if process.life != life {
            return;
        }
        while let Some(request) = process.disk_queue.pop_front() {
            if let Err(error) = process.writer.write(&mut process.disk, &request) {
                self.fatal.push(format!("{}: {error}", process.name));
            }
        }
        let written = process.writer.written();
        self.at(self.now_us + sync_us, What::DiskDone { proc, life });
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
