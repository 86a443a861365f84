//! SIGKILL under load: whatever was acknowledged is there after every restart.
//!
//! 15 rounds in `cargo test`; `GTSTORE_KILL_ROUNDS=200 cargo test --test faults kill -- --nocapture`
//! for more. `GTSTORE_KILL_SEED` repeats what was written and when it was cut short, as far as
//! threads and processes can repeat anything.

use crate::common::cluster::Cluster;
use crate::common::process::Process;
use crate::common::{STORAGE, Stop, wait_until};
use crate::inspect::{assert_dumped, assert_sound};
use crate::ledger::Ledger;
use gtstore::client::{Store, StoreOptions};
use gtstore::ring::{Conflict, Durability};
use gtstore::shell::random;
use gtstore::sim::Rng;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Segments, cache and data are so small that rolling, compaction, index files and reads from the
/// disk all happen in every round.
const ARGS: &[&str] = &["--segment-bytes", "64KiB", "--cache-bytes", "256KiB"];
const ROUNDS: u64 = 15;
const KEYS: usize = 300;
const BATCH: usize = 48;
/// Writes acknowledged in a round before the kill, at most.
const ACKNOWLEDGED_MAX: u64 = 3000;
/// How long a starting node is left alone at most before it is killed as well, in 5 ms.
const START_POLLS_MAX: u64 = 12;
/// Twice what is needed of the log is the goal; of so little, what is being written is a good part.
const LOG_OVER_LIVE_MAX: u64 = 3;
/// What each life of the node that wrote a key adds to the key's context.
const CONTEXT_ENTRY_BYTES: u64 = 16;

fn from_env(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Writers of a keyspace whose acknowledgements wait for a sync, and of one whose wait for the
/// write alone: neither may lose anything with the process.
fn writers(cluster: &Cluster, seed: u64) -> Vec<Ledger> {
    cluster.create_keyspace("written", Conflict::Lww, Durability::Os);
    let options = StoreOptions { timeout_ms: 1000, ..cluster.store().options().clone() };
    let writer = |(name, keyspace): (&str, &str)| {
        let options = StoreOptions { keyspace: keyspace.to_owned(), ..options.clone() };
        Ledger::new(Store::open(options).unwrap(), name, KEYS, seed ^ u64::from(name.as_bytes()[0]))
    };
    [("a", ""), ("b", ""), ("c", ""), ("d", "written")].map(writer).into()
}

/// Writes until the node is killed in the midst of it. Returns how many were acknowledged.
fn kill_under_load(cluster: &mut Cluster, ledgers: &mut [Ledger], enough: u64) -> u64 {
    let (stop, acknowledged) = (Stop::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _running = stop.guard();
        for ledger in ledgers {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || {
                while !stop.is_set() {
                    acknowledged.fetch_add(ledger.write(BATCH), Ordering::Relaxed);
                }
            });
        }
        wait_until("acknowledged writes", || (acknowledged.load(Ordering::Relaxed) >= enough).then_some(()));
        cluster.nodes[0].kill();
    });
    acknowledged.into_inner()
}

/// Kills the node once more, wherever its start has come to.
fn kill_in_start(cluster: &mut Cluster, polls: u64) {
    let manager = cluster.manager.addr();
    cluster.nodes[0].launch(Some(&manager));
    let mut polled = 0;
    wait_until("some of the start", || {
        polled += 1;
        (polled > polls).then_some(())
    });
    cluster.nodes[0].kill();
}

/// The log's files: starts of the segments, bytes of all of them, and how many have index files.
fn log_of(dir: &Path) -> (Vec<u64>, u64, usize) {
    let (mut starts, mut bytes, mut indexed) = (Vec::new(), 0, 0);
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if let Some(start) = name.strip_prefix("log-") {
            starts.push(u64::from_str_radix(start, 16).unwrap());
            // It may have been removed this very moment.
            bytes += entry.metadata().map_or(0, |found| found.len());
        }
        indexed += usize::from(name.starts_with("index-"));
    }
    (starts, bytes, indexed)
}

/// Bytes of all values that are held.
fn value_bytes(ledgers: &[Ledger]) -> u64 {
    ledgers.iter().flat_map(|ledger| ledger.values().into_values()).map(|value| value.len() as u64).sum()
}

#[test]
fn whatever_was_acknowledged_is_there_however_often_the_node_is_killed_under_load() {
    let rounds = from_env("GTSTORE_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = from_env("GTSTORE_KILL_SEED").unwrap_or_else(|| random::id().unwrap() as u64);
    println!("{rounds} rounds, GTSTORE_KILL_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::new(0, 1);
    cluster.add_node(ARGS);
    cluster.settle();
    let dir = cluster.nodes[0].dir.clone();
    let mut ledgers = writers(&cluster, seed);
    let (mut acknowledged, mut checked) = (0, 0);
    for round in 1..=rounds {
        acknowledged += kill_under_load(&mut cluster, &mut ledgers, rng.range(1, ACKNOWLEDGED_MAX));
        if rng.once_in(3) {
            kill_in_start(&mut cluster, rng.below(START_POLLS_MAX));
        }
        assert_sound(&dir);
        cluster.start_all();
        cluster.settle();
        checked += ledgers.iter_mut().map(Ledger::check).sum::<u64>();
        if round % 20 == 0 || round == rounds {
            let (log, held) = (log_of(&dir).1, value_bytes(&ledgers));
            println!(
                "{round} rounds: {acknowledged} acknowledged writes, {checked} keys read and right; \
                 {held} bytes held, {log} in the log"
            );
        }
    }
    let lives = cluster.settle().nodes[0].incarnation.0;
    let contexts = (ledgers.len() * KEYS) as u64 * u64::from(lives) * CONTEXT_ENTRY_BYTES;
    let live = value_bytes(&ledgers) + contexts;
    wait_until("a log that is not much larger than what is needed of it", || {
        (log_of(&dir).1 <= LOG_OVER_LIVE_MAX * live).then_some(())
    });
    let (starts, _, indexed) = log_of(&dir);
    assert!(!starts.contains(&0) && starts.len() > 3, "no segment was compacted away: {starts:?}");
    assert!(indexed > 0, "no segment has an index file");
    cluster.nodes[0].kill();
    assert_sound(&dir);
    ledgers.iter().for_each(|ledger| assert_dumped(&dir, &ledger.values()));
}

#[test]
fn a_second_node_is_not_let_into_a_directory_that_is_in_use() {
    let mut cluster = Cluster::new(1, 1);
    let dir = cluster.nodes[0].dir.to_string_lossy().into_owned();
    let manager = cluster.manager.addr();
    let args = ["--listen", "127.0.0.1:0", "--data-dir", &dir, "--manager", &manager];
    let mut second = Process::start(STORAGE, &args);
    assert_eq!(second.wait().code(), Some(1));
    let why = second.logged.after("the data directory ");
    assert!(why.contains("in use by another process") && why.contains("--data-dir"), "{why}");
    // Nor was the first one harmed; once it is killed the directory is free.
    cluster.store().put("key", "value").unwrap();
    cluster.nodes[0].kill();
    cluster.start_all();
    cluster.settle();
    assert_eq!(cluster.store().get("key").unwrap().value().unwrap(), "value");
}
