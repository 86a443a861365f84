//! Files that were damaged while their node was away: it is told, and worked around.

use crate::common::cluster::Cluster;
use crate::common::wait_until;
use gtstore::client::{Call, ErrorKind, Reason};
use std::path::Path;

/// Flips a bit of this value in the log of a directory.
fn damage(dir: &Path, value: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_log = path.file_name().unwrap().to_str().unwrap().starts_with("log-");
        let mut bytes = if is_log { std::fs::read(&path).unwrap() } else { Vec::new() };
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
            bytes[at] ^= 1;
            return std::fs::write(&path, bytes).unwrap();
        }
    }
    panic!("no log in {} has the value", dir.display());
}

#[test]
fn a_node_that_found_its_log_damaged_says_so_and_so_does_a_read_that_needs_it() {
    let mut cluster = Cluster::new(3, 3);
    // What comes behind it shows that it was durable once: no torn tail.
    for key in 0..20 {
        cluster
            .store()
            .put_many([(format!("key{key}"), format!("value of key{key}."))])
            .pop()
            .unwrap()
            .unwrap();
    }
    cluster.kill_all();
    damage(&cluster.nodes[0].dir, b"value of key7.");
    cluster.start_all();
    cluster.settle();
    let rows = wait_until("the manager hears of the damage", || {
        let rows = cluster.settle().nodes;
        rows.iter().any(|row| row.vitals.damaged > 0).then_some(rows)
    });
    let addr = cluster.nodes[0].addr();
    let damaged: Vec<_> = rows.iter().map(|row| (row.addr == addr, row.vitals.damaged)).collect();
    assert_eq!(damaged.iter().filter(|row| row.1 == u16::from(row.0)).count(), 3, "{damaged:?}");

    for at in 0..3 {
        let mut store = cluster.store_from(at);
        assert_eq!(store.get("key7").unwrap().value().map(|value| &value[..]), Some(&b"value of key7."[..]));
        let error = {
            let item = store.item("key7", 3);
            store.call(Call::Get { item }).unwrap_err()
        };
        assert_eq!((error.kind, error.reason), (ErrorKind::Failed, Some(Reason::Unreadable { copies: 1 })));
        assert_eq!((error.answered, error.slots), (2, 3), "as node {at} counts: {error}");
        assert!(error.to_string().contains("1 of the copies cannot be read"), "{error}");
    }
}

#[test]
fn a_node_with_a_damaged_table_keeps_the_file_and_has_the_table_of_its_peers() {
    let mut cluster = Cluster::new(3, 3);
    cluster.store().put("key", "value").unwrap();
    cluster.manager.kill();
    cluster.nodes[0].kill();
    let dir = cluster.nodes[0].dir.clone();
    for (life, aside) in ["table.damaged", "table.damaged.1"].into_iter().enumerate() {
        let nonsense = format!("nonsense {life}");
        std::fs::write(dir.join("table"), &nonsense).unwrap();
        cluster.start_node(0);
        cluster.settle();
        assert_eq!(std::fs::read_to_string(dir.join(aside)).unwrap(), nonsense);
        let entry = cluster.store_from(0).get("key").unwrap();
        assert_eq!(entry.value().map(|value| &value[..]), Some(&b"value"[..]));
        cluster.nodes[0].kill();
    }
}
