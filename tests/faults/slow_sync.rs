//! Syncs that take half a second: puts wait for them, and nothing else does.

use crate::common::cluster::{Cluster, status_of};
use crate::common::{PATIENCE, Stop};
use crate::ledger::Ledger;
use crate::strace::Trace;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(500);
/// Half of the values are in the cache, the others in the page cache.
const ARGS: &[&str] = &["--cache-bytes", "256KiB"];
const KEYS: usize = 400;
const BATCH: usize = 64;
const GETS_MIN: usize = 1000;
const PUT_ROUNDS_MIN: usize = 4;
/// Ten times what a quiet machine shows, for one that is not.
const GET_P99_MAX: Duration = Duration::from_millis(50);

/// Writes until told to stop. Returns how long each batch took.
fn put(ledger: &mut Ledger, stop: &Stop, rounds: &AtomicUsize) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.is_set() {
        let start = Instant::now();
        // A batch is done when its slowest write is: some deletes find nothing and wait for nothing.
        assert_eq!(ledger.write(BATCH), BATCH as u64, "{:?}", ledger.refusal);
        took.push(start.elapsed());
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    took
}

/// Reads one key after another while the puts go on; looks at the manager's view now and then.
fn get(ledger: &mut Ledger, manager: &str, is_done: impl Fn() -> bool) -> Vec<Duration> {
    // The first one finds the connection of the node's former life gone, and dials again.
    ledger.read_one().unwrap();
    let (begun, mut took) = (Instant::now(), Vec::new());
    while took.len() < GETS_MIN || !is_done() {
        assert!(begun.elapsed() < PATIENCE, "the puts do not get on");
        let start = Instant::now();
        ledger.read_one().unwrap();
        took.push(start.elapsed());
        if took.len() % 200 == 0 {
            let status = status_of(manager).unwrap();
            assert!(
                status.nodes.iter().all(|node| node.health.is_up()),
                "the node's heartbeat has stopped: {status:?}"
            );
        }
    }
    took.sort_unstable();
    took
}

#[test]
fn gets_and_heartbeats_go_on_while_every_sync_takes_half_a_second() {
    let traces = tempfile::tempdir().unwrap();
    let injection = format!("fdatasync:delay_enter={}", DELAY.as_micros());
    let Some(trace) = Trace::injecting(traces.path(), &injection) else { return };
    let mut cluster = Cluster::new(0, 1);
    cluster.add_node(ARGS);
    cluster.settle();
    let mut reader = Ledger::new(cluster.store(), "read", KEYS, 1);
    let mut writer = Ledger::new(cluster.store(), "written", KEYS, 2);
    reader.write(KEYS);

    cluster.nodes[0].kill();
    trace.over(&mut cluster.nodes[0]);
    cluster.start_all();
    cluster.settle();
    let (stop, rounds) = (Stop::default(), AtomicUsize::new(0));
    let (puts, gets) = std::thread::scope(|scope| {
        let putting = scope.spawn(|| put(&mut writer, &stop, &rounds));
        let guard = stop.guard();
        let is_done = || putting.is_finished() || rounds.load(Ordering::Relaxed) >= PUT_ROUNDS_MIN;
        let gets = get(&mut reader, &cluster.manager.addr(), is_done);
        drop(guard);
        (putting.join().unwrap(), gets)
    });
    let at = |per_mille: usize| gets[(gets.len() * per_mille / 1000).min(gets.len() - 1)];
    println!(
        "{} gets beside {} batches of puts: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; the fastest batch took {:?}",
        gets.len(),
        puts.len(),
        at(500),
        at(990),
        at(999),
        at(1000),
        puts.iter().min().unwrap()
    );
    assert!(puts.iter().all(|took| *took >= DELAY), "a put did not wait for its sync: {puts:?}");
    assert!(at(990) <= GET_P99_MAX, "gets waited for the disk: {:?}", at(990));
    writer.check();
    reader.check();
}
