//! The original assignment's traces: put, get and overwrite a few keys, through different nodes.

use crate::common::cluster::Cluster;
use gtstore::client::Store;

const KEYS: [&str; 3] = ["key1", "key2", "key3"];

fn value(store: &mut Store, key: &str) -> String {
    let entry = store.get(key).unwrap();
    assert_eq!(entry.values.len(), 1, "{key}");
    String::from_utf8(entry.value().unwrap().to_vec()).unwrap()
}

fn run_trace(nodes: usize, rep: usize) {
    let cluster = Cluster::new(nodes, rep);
    let mut stores: Vec<_> = (0..nodes).map(|at| cluster.store_from(at)).collect();
    for (round, text) in ["value", "another value"].into_iter().enumerate() {
        for (at, key) in KEYS.into_iter().enumerate() {
            let written = stores[(at + round) % nodes].put(key, format!("{text} of {key}")).unwrap();
            assert!(written.written);
            assert_eq!(usize::from(written.by.slots), rep);
            assert!(written.by.answered >= written.by.needed, "{:?}", written.by);
        }
        for store in &mut stores {
            for key in KEYS {
                assert_eq!(value(store, key), format!("{text} of {key}"));
            }
        }
    }
    assert_eq!(stores[0].get("key4").unwrap().value(), None);
    assert!(stores[0].delete("key1").unwrap().written);
    for store in &mut stores {
        assert_eq!(store.get("key1").unwrap().value(), None);
    }
    assert!(!stores[0].delete("key1").unwrap().written, "it was deleted already");
}

#[test]
fn the_trace_of_1_node_with_1_copy() {
    run_trace(1, 1);
}

#[test]
fn the_trace_of_5_nodes_with_3_copies() {
    run_trace(5, 3);
}
