//! What the operator of a cluster in trouble is told: `health`, `status` and `hints` against real
//! processes.

#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers fail the test.

mod common;

use common::cluster::{Cluster, status_of};
use common::wait_until;
use serde_json::Value;
use std::process::{Command, Output};

/// Runs `gtstore` against a cluster, by way of its manager.
fn gtstore(cluster: &Cluster, args: &[&str]) -> Output {
    let manager = cluster.manager.addr();
    Command::new(env!("CARGO_BIN_EXE_gtstore")).args(args).env("GTSTORE_MANAGER", manager).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The number of the node that listens where this one does.
fn id_of(cluster: &Cluster, at: usize) -> u32 {
    status_of(&cluster.nodes[at].addr()).unwrap().observer.0
}

/// The findings of `health`, once there is one of each of these kinds.
fn findings(cluster: &Cluster, kinds: &[&str]) -> Vec<Value> {
    wait_until(&format!("findings of the kinds {kinds:?}"), || {
        let output = gtstore(cluster, &["health", "-o", "json"]);
        let said: Value = serde_json::from_slice(&output.stdout).ok()?;
        let findings = said["findings"].as_array()?.clone();
        assert_eq!(output.status.code(), Some(if findings.is_empty() { 0 } else { 7 }));
        let has = |kind: &&str| findings.iter().any(|finding| finding["kind"] == **kind);
        kinds.iter().all(has).then_some(findings)
    })
}

fn of_kind<'a>(findings: &'a [Value], kind: &str) -> &'a Value {
    findings.iter().find(|finding| finding["kind"] == kind).unwrap()
}

#[test]
fn a_node_whose_directory_was_lost_stays_down_though_another_has_its_address() {
    let mut cluster = Cluster::new(3, 3);
    let lost = id_of(&cluster, 1);
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(&cluster.nodes[1].dir).unwrap();
    cluster.start_node(1);
    wait_until("a new member in its place", || {
        let observer = status_of(&cluster.nodes[1].addr())?.observer.0;
        (observer != 0 && observer != lost).then_some(())
    });

    let found = findings(&cluster, &["node", "short"]);
    assert_eq!(of_kind(&found, "node")["node"], lost);
    let said = of_kind(&found, "node")["text"].as_str().unwrap();
    assert!(said.contains("is at its address now"), "{said}");
    let instead = format!("node {} answers at its address", id_of(&cluster, 1));
    let output = gtstore(&cluster, &["hints"]);
    assert!(text(&output.stderr).contains(&instead), "{}", text(&output.stderr));
    let output = gtstore(&cluster, &["dump", "--node", &lost.to_string()]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(4), ""));
    assert!(text(&output.stderr).contains(&instead), "{}", text(&output.stderr));
}

#[test]
fn a_node_that_refuses_puts_for_want_of_room_is_named_and_explains_its_hints() {
    let mut cluster = Cluster::new(0, 3);
    // More than any disk has.
    for args in [&[][..], &[], &["--disk-reserve-bytes", "900000GiB"]] {
        cluster.add_node(args);
    }
    cluster.settle();
    let full = id_of(&cluster, 2);
    let found = findings(&cluster, &["disk"]);
    assert_eq!(of_kind(&found, "disk")["node"], full);
    assert!(of_kind(&found, "disk")["advice"].as_str().unwrap().contains("free some space"));

    assert_eq!(gtstore(&cluster, &["put", "key", "value"]).status.code(), Some(0));
    let found = findings(&cluster, &["disk", "hints"]);
    assert_eq!(of_kind(&found, "hints")["node"], full);
    assert!(of_kind(&found, "hints")["advice"].as_str().unwrap().ends_with("once it has room."));
    let status = text(&gtstore(&cluster, &["status"]).stdout);
    assert!(status.contains("Disk\n") && status.contains(&format!("reserve: node {full}.")), "{status}");
    let rows = text(&gtstore(&cluster, &["status", "-o", "plain"]).stdout);
    assert_eq!(rows.lines().filter(|row| row.contains("\tlow\t")).count(), 1, "{rows}");
    assert_eq!(rows.lines().filter(|row| row.contains("\tok\t")).count(), 2, "{rows}");
}
