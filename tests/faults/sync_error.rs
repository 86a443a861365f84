//! A sync that fails ends the process with a message, and nothing that it was to cover was
//! acknowledged.

use crate::common::cluster::Cluster;
use crate::ledger::Ledger;
use crate::strace::Trace;

/// Small segments, so that directories are synced too.
const ARGS: &[&str] = &["--segment-bytes", "64KiB"];
const KEYS: usize = 100;

/// Writes one key at a time until a sync fails, and reads all of them after another start.
fn fail(injection: &str, is_log: bool) -> Option<()> {
    let traces = tempfile::tempdir().unwrap();
    let trace = Trace::injecting(traces.path(), injection)?;
    let mut cluster = Cluster::new(0, 1);
    cluster.add_node(ARGS);
    cluster.settle();
    let mut ledger = Ledger::new(cluster.store(), "key", KEYS, 1);
    ledger.write(KEYS);
    cluster.nodes[0].kill();

    trace.over(&mut cluster.nodes[0]);
    cluster.start_all();
    cluster.settle();
    let before = ledger.stored;
    while ledger.write(1) == 1 {}
    let acknowledged = ledger.stored - before;
    let node = cluster.nodes[0].process();
    assert_eq!(node.wait().code(), Some(1));
    let why = node.logged.after("the disk has failed: ");
    assert!(why.contains("a sync failed") && why.contains("start again"), "{why}");
    let syncs = trace.syncs_before_the_error().unwrap();
    println!("{injection}: {acknowledged} writes acknowledged, {syncs} syncs of data before it");
    assert!(acknowledged > 0, "it failed before there was anything to lose");
    // Each of the writes waited for the one before: no two can have shared a sync.
    assert!(!is_log || acknowledged <= syncs as u64, "{acknowledged} acknowledged by {syncs} syncs");

    cluster.nodes[0].kill();
    cluster.nodes[0].under(&[]);
    cluster.start_all();
    cluster.settle();
    ledger.check();
    assert_eq!(ledger.write(KEYS), KEYS as u64, "{:?}", ledger.refusal);
    Some(())
}

#[test]
fn a_sync_of_the_log_that_fails_ends_the_process_before_anything_unsynced_is_acknowledged() {
    for when in [20, 33] {
        if fail(&format!("fdatasync:error=EIO:when={when}"), true).is_none() {
            return;
        }
    }
}

#[test]
fn a_sync_of_the_directory_that_fails_ends_the_process() {
    let _ = fail("fsync:error=EIO:when=4", false);
}
