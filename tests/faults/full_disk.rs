//! A full file system: puts are refused with the reason, the rest goes on, and puts are taken
//! again once there is room. A small tmpfs of each test's own; without root this is skipped.

use crate::common::cluster::Cluster;
use crate::common::wait_until;
use crate::inspect::assert_sound;
use crate::ledger::Ledger;
use gtstore::client::{ErrorKind, Reason};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const DISK_BYTES: u64 = 48 << 20;
const RESERVE_BYTES: u64 = 16 << 20;
/// What the file of somebody else takes: what is left is written full in no time.
const BALLAST_BYTES: u64 = 28 << 20;
/// Their values alone take 22 MB: overwriting fewer would be compacted and never fill the disk.
const KEYS: usize = 20_000;
const BATCH: usize = 8;
/// Below what is ever left of the reserve: nothing looks at the free space more often than once a second.
const LEFT_BYTES_MIN: u64 = 1 << 20;

/// A file system of its own, unmounted when it is dropped. Declare it before what uses it.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// None, and a line that says so, if it may not be mounted.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES},mode=700");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { dir }),
            Ok(output) => {
                println!("SKIPPED: no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIPPED: no tmpfs: {error}");
                None
            }
        }
    }

    fn node_dir(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Leaves so much less.
    fn load(&self, bytes: u64) {
        let filling = vec![1; usize::try_from(bytes).unwrap()];
        std::fs::write(self.ballast(), filling).unwrap();
    }

    fn unload(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(self.dir.path()).unwrap();
        found.f_bavail * found.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |flags: &[&str], dir: &Path| Command::new("umount").args(flags).arg(dir).status();
        // Lazily only if a failed test has left something open.
        if !unmount(&[], self.dir.path()).is_ok_and(|status| status.success()) {
            let _ = unmount(&["-l"], self.dir.path());
        }
    }
}

/// A cluster of one node on the disk.
fn cluster_on(disk: &SmallDisk, reserve: u64) -> Cluster {
    let mut cluster = Cluster::new(0, 1);
    let reserve = reserve.to_string();
    let args = ["--segment-bytes", "1MiB", "--cache-bytes", "256KiB", "--disk-reserve-bytes", &reserve];
    cluster.add_node_in(&disk.node_dir(), &args);
    cluster.settle();
    cluster
}

/// Writes until it is refused for want of room.
fn write_until_refused(ledger: &mut Ledger) {
    ledger.refusal = None;
    wait_until("a refusal for want of room", || {
        ledger.write(BATCH);
        let refusal = ledger.refusal.as_ref()?;
        if !matches!(refusal.reason, Some(Reason::DiskFull { .. })) {
            return None;
        }
        assert_eq!(refusal.kind, ErrorKind::Failed, "{refusal}");
        Some(())
    });
}

/// Kills the node, starts it again, and reads everything.
fn restart_and_check(cluster: &mut Cluster, ledger: &mut Ledger) {
    cluster.nodes[0].kill();
    assert_sound(&cluster.nodes[0].dir);
    cluster.start_all();
    cluster.settle();
    ledger.check();
}

#[test]
fn puts_are_refused_before_the_reserve_is_used_up_and_taken_again_when_space_returns() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.load(BALLAST_BYTES);
    let mut cluster = cluster_on(&disk, RESERVE_BYTES);
    let mut ledger = Ledger::new(cluster.store(), "key", KEYS, 1);
    let pid = cluster.nodes[0].pid();
    for round in 0..2 {
        write_until_refused(&mut ledger);
        let left = disk.free_bytes();
        println!("refused with {left} bytes left after {} writes", ledger.stored);
        assert!(left > LEFT_BYTES_MIN, "the disk is full: {left} bytes are left");
        assert_eq!(ledger.delete(200), 200, "{:?}", ledger.refusal);
        (0..500).for_each(|_| ledger.read_one().unwrap());
        if round == 1 {
            restart_and_check(&mut cluster, &mut ledger);
        }

        disk.unload();
        wait_until("puts that are taken", || (ledger.write(BATCH) == BATCH as u64).then_some(()));
        assert!(round == 1 || cluster.nodes[0].pid() == pid && cluster.nodes[0].process().runs());
        disk.load(BALLAST_BYTES);
    }
    restart_and_check(&mut cluster, &mut ledger);
}

#[test]
fn a_disk_that_is_really_full_costs_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.load(BALLAST_BYTES);
    let mut cluster = cluster_on(&disk, 0);
    let mut ledger = Ledger::new(cluster.store(), "key", KEYS, 2);
    write_until_refused(&mut ledger);
    cluster.nodes[0].process().logged.after("the disk is full");
    println!("full with {} bytes left after {} writes", disk.free_bytes(), ledger.stored);
    (0..500).for_each(|_| ledger.read_one().unwrap());

    disk.unload();
    wait_until("puts that are taken", || (ledger.write(BATCH) == BATCH as u64).then_some(()));
    assert!(cluster.nodes[0].process().runs());
    restart_and_check(&mut cluster, &mut ledger);

    // Killed while nothing can be written: it comes back once there is room.
    disk.load(disk.free_bytes() - (1 << 20));
    write_until_refused(&mut ledger);
    cluster.nodes[0].kill();
    assert_sound(&cluster.nodes[0].dir);
    disk.unload();
    restart_and_check(&mut cluster, &mut ledger);
}
