//! The manager away, a node joining a cluster that holds data, and too few members.

use crate::common::Stop;
use crate::common::client::{Client, terms};
use crate::common::cluster::{Cluster, status_of};
use gtstore::client::{Reason, Store, StoreOptions, Target};
use gtstore::ring::{Conflict, Durability};
use gtstore::wire::client::{ClientReply, ClientRequest, DataRequest, DataResult};

fn value(store: &mut Store, key: &str) -> Option<String> {
    let entry = store.get(key).unwrap();
    entry.value().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn all_goes_on_without_the_manager_and_is_one_cluster_when_it_is_back() {
    let mut cluster = Cluster::new(3, 3);
    let before = cluster.settle();
    let mut store = cluster.store();
    store.put("key", "before").unwrap();

    cluster.manager.kill();
    assert_eq!(value(&mut store, "key").unwrap(), "before");
    store.put("key", "without").unwrap();
    // A client that comes now finds the cluster through any node, and can ask it how things are.
    let mut late = Store::connect(&cluster.nodes[1].addr()).unwrap();
    assert_eq!(value(&mut late, "key").unwrap(), "without");
    let status = late.ask(Target::Any, ClientRequest::Status).unwrap();
    assert!(matches!(&status, ClientReply::Status(status) if status.nodes.len() == 3), "{status:?}");

    // A node comes back by its own table, and serves.
    cluster.nodes[2].kill();
    store.put("key", "while one was away").unwrap();
    cluster.start_node(2);
    cluster.settle();
    let mut back = Store::open(StoreOptions::new(&cluster.nodes[2].addr())).unwrap();
    assert_eq!(value(&mut back, "key").unwrap(), "while one was away");
    back.put("key", "through the one that came back").unwrap();
    assert_eq!(value(&mut store, "key").unwrap(), "through the one that came back");

    cluster.start_all();
    let after = cluster.settle();
    assert_eq!(after.cluster_id, before.cluster_id);
    let ids = |status: &gtstore::wire::client::ClusterStatus| -> Vec<_> {
        status.nodes.iter().map(|node| (node.node, node.addr.clone())).collect()
    };
    assert_eq!(ids(&after), ids(&before));
}

const KEYS: usize = 3000;

fn key(at: usize) -> String {
    format!("key{at}")
}

/// Reads keys that must have their values.
fn check(store: &mut Store, keys: impl Iterator<Item = usize> + Clone) {
    for (at, entry) in keys.clone().zip(store.get_many(keys.map(key))) {
        assert_eq!(entry.unwrap().value().unwrap(), format!("value{at}").as_bytes());
    }
}

/// Writes these keys with their values, all of which must be acknowledged.
fn write(store: &mut Store, keys: std::ops::Range<usize>) {
    for result in store.put_many(keys.map(|at| (key(at), format!("value{at}")))) {
        result.unwrap();
    }
}

#[test]
fn a_node_that_joins_a_cluster_with_data_gets_its_share_and_no_key_is_missed() {
    let mut cluster = Cluster::of(3, 3, 256, &[]);
    cluster.create_keyspace("os", Conflict::Lww, Durability::Os);
    let (mut reader, mut writer) = (cluster.store_in("os", 0), cluster.store_in("os", 1));
    write(&mut writer, 0..KEYS);
    let stop = Stop::default();
    let written = std::thread::scope(|scope| {
        let moving = stop.guard();
        // Every sixteenth key, and the next ones in the next round.
        let reads = || {
            for round in (0..).take_while(|_| !stop.is_set()) {
                check(&mut reader, (round % 16..KEYS).step_by(16));
            }
        };
        scope.spawn(reads);
        let writes = || {
            let mut end = KEYS;
            while !stop.is_set() {
                write(&mut writer, end..end + 20);
                end += 20;
            }
            end
        };
        let writes = scope.spawn(writes);
        cluster.add_node(&[]);
        cluster.settle();
        drop(moving);
        writes.join().unwrap()
    });
    let status = cluster.settle();
    assert_eq!((status.nodes.len(), status.moving), (4, 0));
    let held: Vec<_> = status.nodes.iter().map(|node| node.sectors.0).collect();
    assert_eq!(held.iter().sum::<u16>(), 256 * 3);
    assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1, "{held:?}");
    assert!(written > KEYS);
    check(&mut cluster.store_in("os", 3), 0..written);
}

#[test]
fn with_fewer_members_than_copies_a_request_is_told_how_many_are_needed() {
    let mut cluster = Cluster::new(2, 3);
    let mut client = Client::of(&cluster.nodes[0].addr());
    let refused = DataResult::Refused(Reason::NotServing { members: 2, needed: 3 });
    assert_eq!(client.data(DataRequest::Get { terms: terms("", "key") }).result, refused);
    let write = client.write("value", None);
    assert_eq!(client.data(DataRequest::Put { terms: terms("", "key"), write }).result, refused);
    assert!(!status_of(&cluster.manager.addr()).unwrap().serving);

    cluster.add_node(&[]);
    cluster.settle();
    client.put("key", "value");
    assert_eq!(client.get("key").as_deref(), Some("value"));
}
