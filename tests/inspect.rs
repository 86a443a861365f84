//! `gtstore-storage --check` and `--dump` over the directory of a real node.

#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers fail the test.

mod common;

use common::STORAGE;
use common::client::Client;
use common::cluster::Cluster;
use std::path::Path;
use std::process::{Command, Output};

fn inspect(flag: &str, dir: &Path) -> Output {
    Command::new(STORAGE).arg(flag).arg(dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_nodes_directory_is_verified_and_dumped_once_the_node_is_gone() {
    let mut cluster = Cluster::new(1, 1);
    let mut client = Client::of(&cluster.nodes[0].addr());
    for key in 0..20 {
        client.put(&format!("key{key}"), &format!("value{key}"));
    }
    let dir = cluster.nodes[0].dir.clone();
    let busy = inspect("--check", &dir);
    assert_eq!(busy.status.code(), Some(1));
    assert!(text(&busy.stderr).contains("in use by another process"));

    cluster.kill_all();
    let check = inspect("--check", &dir);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    assert!(text(&check.stdout).contains("keys with a value: 20"), "{check:?}");
    let dump = inspect("--dump", &dir);
    assert_eq!(dump.status.code(), Some(0));
    let lines = text(&dump.stdout);
    let records: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let record = records.iter().find(|record| record["key"] == "key7").unwrap();
    assert_eq!((&record["kind"], &record["added"][0]["value"]), (&"merge".into(), &"value7".into()));

    // A byte of a value that later batches knew to be durable.
    let position = record["position"].as_u64().unwrap() - record["segment"].as_u64().unwrap();
    let offset = 24 + position + record["bytes"].as_u64().unwrap() - 1;
    let file = dir.join(format!("log-{:016x}", record["segment"].as_u64().unwrap()));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let check = inspect("--check", &dir);
    assert_eq!(check.status.code(), Some(1));
    let sector = format!("keyspace {} sector {}", record["keyspace"], record["sector"]);
    assert!(text(&check.stdout).contains(&sector), "{check:?}");
    assert_eq!(inspect("--dump", &dir).status.code(), Some(1));
}

#[test]
fn what_is_no_data_directory_is_not_made_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing");
    let output = inspect("--check", &path);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no such directory") && !path.exists());
}
