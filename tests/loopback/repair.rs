//! Copies that differ, and nothing that makes them equal but `gtstore repair`.

use crate::away::unequal_keys;
use crate::common::cluster::Cluster;
use serde_json::Value;
use std::process::Command;

fn gtstore(cluster: &Cluster, args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_gtstore"))
        .args(["-m", &cluster.manager.addr(), "-o", "json"])
        .args(args)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A figure of a repair, of all three nodes together.
fn sum(told: &Value, figure: &str) -> u64 {
    let nodes = told["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{told}");
    nodes.iter().map(|node| node[figure].as_u64().unwrap()).sum()
}

#[test]
fn what_a_node_missed_for_good_is_there_after_a_repair() {
    let mut cluster = Cluster::with_node_args(3, 3, &["--compare-every", "0", "--hint-bytes", "0"]);
    let mut store = cluster.store_from(0);
    for key in 0..30 {
        store.put(format!("key{key}"), "old").unwrap();
    }
    cluster.nodes[2].kill();
    cluster.settle();
    for key in 15..45 {
        store.put(format!("key{key}"), "new").unwrap();
    }
    cluster.start_node(2);
    cluster.settle();
    let unequal = unequal_keys(&cluster);
    assert!((15..45).all(|key| unequal.contains(&format!("key{key}"))), "it missed them: {unequal:?}");

    let sector = gtstore(&cluster, &["owners", &unequal[0]])["sector"].as_u64().unwrap();
    let told = gtstore(&cluster, &["repair", "--sector", &sector.to_string()]);
    assert_eq!((sum(&told, "compared"), sum(&told, "left"), sum(&told, "missed")), (6, 0, 0), "{told}");
    let left = unequal_keys(&cluster);
    assert!(!left.contains(&unequal[0]) && left.len() < unequal.len() && !left.is_empty(), "{left:?}");

    let told = gtstore(&cluster, &["repair"]);
    // A node owns all 64 sectors, and shares each with two others.
    assert_eq!((sum(&told, "compared"), sum(&told, "left"), sum(&told, "missed")), (384, 0, 0), "{told}");
    assert!(sum(&told, "sent") + sum(&told, "fetched") >= left.len() as u64, "{told}");
    assert_eq!(unequal_keys(&cluster), [""; 0]);
    let told = gtstore(&cluster, &["repair"]);
    assert_eq!((sum(&told, "sent"), sum(&told, "fetched")), (0, 0), "there is nothing to exchange: {told}");
}
