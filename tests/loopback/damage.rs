//! Files that were damaged while their node was away: it is told, and worked around.

use crate::away::unequal_keys;
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

/// Waits until the manager has heard of so many damaged sectors of the node with this address, and of
/// none of the others.
fn wait_for_damage(cluster: &Cluster, addr: &str, sectors: u16) {
    wait_until("what the nodes say of damage", || {
        let rows = cluster.settle().nodes;
        rows.iter().all(|row| row.vitals.damaged == if row.addr == addr { sectors } else { 0 }).then_some(())
    });
}

#[test]
fn a_node_that_found_its_log_damaged_says_so_and_is_filled_again_once_all_other_owners_are_there() {
    let mut cluster = Cluster::new(3, 3);
    // What comes behind it shows that it was durable once: no torn tail.
    for key in 0..20 {
        cluster.store().put(format!("key{key}"), format!("value of key{key}.")).unwrap();
    }
    cluster.kill_all();
    damage(&cluster.nodes[0].dir, b"value of key7.");
    let addr = cluster.nodes[0].addr();
    cluster.manager.start(None);
    cluster.start_node(0);
    cluster.start_node(1);
    wait_for_damage(&cluster, &addr, 1);

    // Of the two that are there one alone has it; what is written now both take.
    for at in 0..2 {
        let mut store = cluster.store_from(at);
        let error = {
            let item = store.item("key7", 2);
            store.call(Call::Get { item }).unwrap_err()
        };
        assert_eq!((error.kind, error.reason), (ErrorKind::Failed, Some(Reason::Unreadable { copies: 1 })));
        assert!(error.to_string().contains("1 of the copies cannot be read"), "{error}");
        let item = store.item("key7", 1);
        assert!(store.call(Call::Get { item }).is_ok(), "a whole copy is there");
    }
    cluster.store_from(0).put("key7", "written meanwhile").unwrap();
    wait_for_damage(&cluster, &addr, 1);

    cluster.start_node(2);
    wait_for_damage(&cluster, &addr, 0);
    wait_until("all copies are equal", || unequal_keys(&cluster).is_empty().then_some(()));
    for life in 0..2 {
        let mut store = cluster.store_from(0);
        for key in 0..20 {
            let item = store.item(format!("key{key}"), 3);
            let wanted = if key == 7 { "written meanwhile".into() } else { format!("value of key{key}.") };
            let told = format!("{:?}", store.call(Call::Get { item }).unwrap());
            assert!(told.contains(&wanted), "key{key} in life {life}: {told}");
        }
        // The bad bytes are still there: they mean nothing any more.
        cluster.nodes[0].kill();
        cluster.start_node(0);
        wait_for_damage(&cluster, &addr, 0);
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
