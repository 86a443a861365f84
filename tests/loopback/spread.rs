//! Keys are spread evenly over the servers.

use crate::common::cluster::{Cluster, status_of};
use crate::common::wait_until;
use gtstore::ring::{Conflict, Durability};
use std::collections::BTreeMap;

#[test]
fn keys_put_through_all_nodes_are_coordinated_by_all_nodes() {
    let cluster = Cluster::new(5, 3);
    let mut stores: Vec<_> = (0..5).map(|at| cluster.store_from(at)).collect();
    let mut by_coordinator = BTreeMap::new();
    for key in 0..100 {
        let written = stores[key % 5].put(format!("key{key}"), "value").unwrap();
        *by_coordinator.entry(written.by.coordinator).or_insert(0) += 1;
    }
    assert_eq!(by_coordinator.len(), 5, "{by_coordinator:?}");
    assert!(by_coordinator.values().all(|&keys| keys >= 10), "{by_coordinator:?}");
}

#[test]
fn of_100_000_keys_on_7_nodes_the_fullest_holds_at_most_1_05_of_the_mean() {
    const KEYS: u64 = 100_000;
    const BATCH: u64 = 10_000;
    let cluster = Cluster::of(7, 1, 1024, &[]);
    cluster.create_keyspace("fast", Conflict::Lww, Durability::Memory);
    let mut store = cluster.store_in("fast", 0);
    for batch in 0..KEYS / BATCH {
        let keys = batch * BATCH..(batch + 1) * BATCH;
        for result in store.put_many(keys.map(|key| (format!("key{key}"), "value"))) {
            result.unwrap();
        }
    }
    // Each node reports to the manager twice a second.
    let held: Vec<u64> = wait_until("the count of all keys", || {
        let status = status_of(&cluster.manager.addr())?;
        let held: Vec<_> = status.nodes.iter().map(|node| node.vitals.keys).collect();
        (held.iter().sum::<u64>() == KEYS).then_some(held)
    });
    assert_eq!(held.len(), 7);
    let fullest = held.iter().max().unwrap();
    assert!(fullest * 7 * 100 <= KEYS * 105, "{held:?}");
}
