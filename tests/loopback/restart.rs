//! Every process dies at once; everything acknowledged is there when they come back.

use crate::common::cluster::Cluster;
use crate::common::process::Server;
use crate::common::{Stop, wait_until};
use gtstore::client::Store;
use std::collections::BTreeMap;
use std::sync::Mutex;

const WRITERS: usize = 3;
const BATCH: u64 = 32;
const ACKNOWLEDGED_MIN: usize = 500;

/// Writes batches of new keys until told to stop, and notes each acknowledged one.
fn write(mut store: Store, prefix: &str, stop: &Stop, acknowledged: &Mutex<BTreeMap<String, String>>) {
    for batch in 0.. {
        if stop.is_set() {
            return;
        }
        let pairs: Vec<_> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|key| (format!("{prefix}-{key}"), format!("value of {prefix}-{key}")))
            .collect();
        let results = store.put_many(pairs.clone());
        let done = pairs.into_iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(pair, _)| pair);
        acknowledged.lock().unwrap().extend(done);
    }
}

/// Kills everything in the middle of writes.
fn kill_under_writes(cluster: &mut Cluster, life: &str, acknowledged: &Mutex<BTreeMap<String, String>>) {
    let stop = Stop::default();
    let before = acknowledged.lock().unwrap().len();
    std::thread::scope(|scope| {
        let _running = stop.guard();
        for writer in 0..WRITERS {
            let (store, prefix, stop) = (cluster.store_from(writer), format!("{life}-{writer}"), &stop);
            scope.spawn(move || write(store, &prefix, stop, acknowledged));
        }
        let enough = || acknowledged.lock().unwrap().len() >= before + ACKNOWLEDGED_MIN;
        wait_until("enough acknowledged writes", || enough().then_some(()));
        cluster.kill_all();
    });
}

fn assert_all_there(cluster: &Cluster, acknowledged: &Mutex<BTreeMap<String, String>>) {
    cluster.settle();
    let acknowledged = acknowledged.lock().unwrap();
    let read = cluster.store_from(1).get_many(acknowledged.keys().cloned());
    for ((key, value), entry) in acknowledged.iter().zip(read) {
        assert_eq!(entry.unwrap().value().map(|value| &value[..]), Some(value.as_bytes()), "{key}");
    }
}

#[test]
fn whatever_was_acknowledged_is_there_after_all_were_killed_at_once_and_restarted() {
    let mut cluster = Cluster::new(3, 3);
    let acknowledged = Mutex::default();
    kill_under_writes(&mut cluster, "first", &acknowledged);
    cluster.start_all();
    assert_all_there(&cluster, &acknowledged);

    // Once more, and now everybody comes back at another address.
    kill_under_writes(&mut cluster, "second", &acknowledged);
    cluster.nodes.iter_mut().chain([&mut cluster.manager]).for_each(Server::move_away);
    cluster.start_all();
    assert_all_there(&cluster, &acknowledged);
    let addrs: Vec<_> = cluster.settle().nodes.into_iter().map(|node| node.addr).collect();
    assert_eq!(addrs.len(), 3, "no node may have become another: {addrs:?}");
    assert!(cluster.nodes.iter().all(|node| addrs.contains(&node.addr())), "{addrs:?}");
}
