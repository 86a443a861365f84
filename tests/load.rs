//! `gtstore-load` against real processes: what it counts, what it finds out, how it exits.
//!
//! Ports come from the kernel and every wait is for a condition.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test's helpers fail the test")]

mod common;

use common::client::Client;
use common::cluster::Cluster;
use common::process::Process;
use common::wait_until;
use serde_json::Value;
use std::process::{Command, ExitStatus};

const LOAD: &str = env!("CARGO_BIN_EXE_gtstore-load");

/// A load's command line.
fn command<'a>(manager: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["--manager", manager, "-o", "json"], args].concat()
}

/// Runs a load to its end: how it exits, and what it tells.
fn load(cluster: &Cluster, args: &[&str]) -> (ExitStatus, Value) {
    let output = Command::new(LOAD).args(command(&cluster.manager.addr(), args)).output().unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status, told)
}

#[test]
fn a_load_asks_as_often_as_it_was_told_and_finds_no_fault_with_a_healthy_cluster() {
    let cluster = Cluster::new(3, 3);
    for routing in ["forwarder", "direct"] {
        let args =
            ["--ops", "3000", "--conns", "7", "--pipeline", "5", "--keys", "500", "--routing", routing];
        let (status, told) = load(&cluster, &args);
        assert!(status.success(), "{told}");
        assert_eq!((&told["operations"], &told["error_count"]), (&3000.into(), &0.into()));
        assert_eq!(told["get"]["count"].as_u64().unwrap() + told["put"]["count"].as_u64().unwrap(), 3000);
        assert!(told["put"]["p50_us"].as_u64() > Some(0) && told["ops_per_second"].as_f64() > Some(0.0));
    }
}

#[test]
fn a_value_that_no_load_can_have_written_is_a_wrong_answer() {
    let cluster = Cluster::new(3, 3);
    Client::of(&cluster.nodes[0].addr()).put("load:0", "somebody else's");
    let (status, told) = load(&cluster, &["--ops", "10", "--keys", "1", "--ratio", "1"]);
    assert_eq!(status.code(), Some(1));
    assert_eq!((&told["errors"]["wrong"]["get"], &told["operations"]), (&10.into(), &0.into()), "{told}");
}

#[test]
fn a_node_killed_under_load_is_seen_and_the_errors_end_within_two_seconds() {
    let mut cluster = Cluster::new(3, 3);
    let args = ["--duration", "60", "--conns", "12", "--pipeline", "4", "--ratio", "0.5", "--no-retry"];
    let mut load = Process::start(LOAD, &command(&cluster.manager.addr(), &args));
    // Its live line, once a second.
    let mut seen = 0;
    let mut live = |what: &str, is_it: fn(&str) -> bool| {
        wait_until(what, || {
            let lines = load.logged.with("");
            let at = lines.iter().skip(seen).position(|line| is_it(line))?;
            seen += at + 1;
            Some(())
        });
    };
    live("all connections", |line| line.contains("connected 12/12"));
    cluster.nodes[0].kill();
    live("errors", |line| !line.contains("errors 0 "));
    live("lost connections dialed elsewhere", |line| line.contains("connected 12/12"));
    // Time for an error that should not be.
    for _ in 0..3 {
        live("another line", |_| true);
    }
    load.signal("INT");
    assert_eq!(load.wait().code(), Some(1), "there were errors");
    let told: Value =
        wait_until("what it tells", || serde_json::from_str(&load.said.with("").join("\n")).ok());

    let errors: Vec<_> = told["errors"].as_object().unwrap().values().collect();
    let at = |error: &Value, which: &str| error[which].as_u64().unwrap();
    let first = errors.iter().map(|error| at(error, "first_us")).min().unwrap();
    let last = errors.iter().map(|error| at(error, "last_us")).max().unwrap();
    assert!(last - first < 2_000_000, "errors for {} us: {told}", last - first);
    assert_eq!(told["errors"].get("wrong"), None, "{told}");
    assert!(told["seconds"].as_f64().unwrap() > last as f64 / 1e6 + 1.0, "the load went on: {told}");
}

#[test]
fn a_node_that_stands_still_under_load_costs_no_error() {
    let mut cluster = Cluster::new(5, 3);
    let args = ["--duration", "60", "--conns", "10", "--ratio", "0.5"];
    let mut load = Process::start(LOAD, &command(&cluster.manager.addr(), &args));
    load.logged.after("connected 10/10");
    cluster.nodes[1].process().signal("STOP");
    // Longer than the verdict takes, and what was in flight then.
    for second in 1..=6 {
        wait_until("another line", || (load.logged.with("").len() > second).then_some(()));
    }
    cluster.nodes[1].process().signal("CONT");
    load.signal("INT");
    assert_eq!(load.wait().code(), Some(0), "{:?}", load.logged.with(""));
    let told: Value =
        wait_until("what it tells", || serde_json::from_str(&load.said.with("").join("\n")).ok());
    assert!(told["asked_again"].as_u64() > Some(0), "{told}");
    assert_eq!(told["error_count"], 0, "{told}");
}

#[test]
fn a_wrong_command_line_exits_2_and_a_cluster_that_is_not_there_1() {
    let load = |args: &[&str]| {
        let output = Command::new(LOAD).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = load(&["--ratio", "2"]);
    assert!(code == Some(2) && text.contains("--ratio"), "{text}");
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = load(&["--manager", &held.to_string()]);
    assert!(code == Some(1) && text.contains("Is the manager running?"), "{text}");
    let cluster = Cluster::new(1, 1);
    for wrong in [["-r", "2"], ["-k", "nowhere"]] {
        let (code, text) = load(&[&["--manager", &cluster.manager.addr()], &wrong[..]].concat());
        assert!(code == Some(2) && text.contains("keyspace"), "{wrong:?}: {text}");
    }
}
