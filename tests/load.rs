//! `gtstore-load` against real processes: what it counts, what it finds out, how it exits.
//!
//! Ports come from the kernel and every wait is for a condition.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test's helpers fail the test")]

use bytes::Bytes;
use gtstore::shell::net::{Net, NetEvent};
use gtstore::types::{ClientId, ClusterId, Incarnation, OpId, RequestId};
use gtstore::version::Content;
use gtstore::wire::client::{ClientRequest, DataRequest, Terms, Write};
use gtstore::wire::hello::{Hello, Role};
use gtstore::wire::peer::Worth;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that is killed when the test is done with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or ended now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A manager and three storage nodes that serve.
struct Cluster {
    nodes: Vec<Process>,
    node_addr: String,
    manager_addr: String,
    _manager: Process,
    _dir: TempDir,
}

/// Starts a server and gives the address in its line about listening.
fn server(program: &str, dir: &Path, manager: &str) -> (Process, String) {
    let mut child = Command::new(program)
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir)
        .args(["--manager", manager].iter().filter(|_| !manager.is_empty()))
        .env("RUST_LOG", "off")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let addr = line.split_once("listening on ").unwrap().1.to_owned();
    // Further lines are read, so that the process never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    (Process(child), addr)
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (manager, manager_addr) =
            server(env!("CARGO_BIN_EXE_gtstore-manager"), &dir.path().join("manager"), "");
        let start = |at| {
            let dir = dir.path().join(format!("node-{at}"));
            server(env!("CARGO_BIN_EXE_gtstore-storage"), &dir, &manager_addr)
        };
        let (nodes, mut addrs): (Vec<_>, Vec<_>) = (0..3).map(start).unzip();
        let cluster =
            Self { nodes, node_addr: addrs.swap_remove(0), manager_addr, _manager: manager, _dir: dir };
        let began = Instant::now();
        while !cluster.load(&["--ops", "64", "--keys", "64", "--key-prefix", "warm:"]).0.success() {
            assert!(began.elapsed() < PATIENCE, "the cluster does not serve");
        }
        cluster
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gtstore-load"));
        command.args(["--manager", &self.manager_addr, "-o", "json"]).args(args);
        command
    }

    /// Runs a load to its end: how it exits, and what it tells.
    fn load(&self, args: &[&str]) -> (ExitStatus, Value) {
        let output = self.command(args).output().unwrap();
        let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status, told)
    }

    /// Writes a value that no load would.
    fn put(&self, key: &str, value: &str) {
        let mut net = Net::new().unwrap();
        let client = ClientId(1);
        let conn = net.dial(&self.node_addr, Hello::new(Role::Client(client), ClusterId(0), Incarnation(0)));
        let write = Write {
            content: Content::Value(Bytes::from(value.to_owned())),
            context: None,
            op: OpId { client, seq: 1 },
            attempt: 0,
            stamp: Default::default(),
        };
        let terms = Terms { key: Bytes::from(key.to_owned()), ..Terms::default() };
        let request = DataRequest::Put { terms, write };
        let request = ClientRequest::Data { worth: Worth { ttl_ms: 5000, sent_us: 0 }, request };
        net.send(conn, RequestId(1), &request);
        let (began, mut events) = (Instant::now(), Vec::new());
        while !events.iter().any(|event| matches!(event, NetEvent::Frame { .. })) {
            net.flush();
            net.poll(Some(Duration::from_millis(20)), &mut events).unwrap();
            assert!(began.elapsed() < PATIENCE, "no answer");
        }
    }
}

#[test]
fn a_load_asks_as_often_as_it_was_told_and_finds_no_fault_with_a_healthy_cluster() {
    let cluster = Cluster::start();
    for routing in ["forwarder", "direct"] {
        let args =
            ["--ops", "3000", "--conns", "7", "--pipeline", "5", "--keys", "500", "--routing", routing];
        let (status, told) = cluster.load(&args);
        assert!(status.success(), "{told}");
        assert_eq!((&told["operations"], &told["error_count"]), (&3000.into(), &0.into()));
        assert_eq!(told["get"]["count"].as_u64().unwrap() + told["put"]["count"].as_u64().unwrap(), 3000);
        assert!(told["put"]["p50_us"].as_u64() > Some(0) && told["ops_per_second"].as_f64() > Some(0.0));
    }
}

#[test]
fn a_value_that_no_load_can_have_written_is_a_wrong_answer() {
    let cluster = Cluster::start();
    cluster.put("load:0", "somebody else's");
    let (status, told) = cluster.load(&["--ops", "10", "--keys", "1", "--ratio", "1"]);
    assert_eq!(status.code(), Some(1));
    assert_eq!((&told["errors"]["wrong"]["get"], &told["operations"]), (&10.into(), &0.into()), "{told}");
}

#[test]
fn a_node_killed_under_load_is_seen_and_the_errors_end_within_two_seconds() {
    let mut cluster = Cluster::start();
    let args = ["--duration", "60", "--conns", "12", "--pipeline", "4", "--ratio", "0.5"];
    let child = cluster.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut load = Process(child.unwrap());
    let mut live = BufReader::new(load.0.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(live.any(|line| line.contains("connected 12/12")));
    cluster.nodes[0].0.kill().unwrap();
    assert!(live.any(|line| !line.contains("errors 0 ")));
    assert!(live.any(|line| line.contains("connected 12/12")), "lost connections are dialed elsewhere");
    // Time for an error that should not be.
    assert!(live.nth(2).is_some());
    let interrupt = Command::new("kill").args(["-s", "INT", &load.0.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let told: Value = serde_json::from_reader(load.0.stdout.take().unwrap()).unwrap();
    assert_eq!(load.0.wait().unwrap().code(), Some(1), "there were errors");

    let errors: Vec<_> = told["errors"].as_object().unwrap().values().collect();
    let at = |error: &Value, which: &str| error[which].as_u64().unwrap();
    let first = errors.iter().map(|error| at(error, "first_us")).min().unwrap();
    let last = errors.iter().map(|error| at(error, "last_us")).max().unwrap();
    assert!(last - first < 2_000_000, "errors for {} us: {told}", last - first);
    assert_eq!(told["errors"].get("wrong"), None, "{told}");
    assert!(told["seconds"].as_f64().unwrap() > last as f64 / 1e6 + 1.0, "the load went on: {told}");
}

#[test]
fn a_wrong_command_line_exits_2_and_a_cluster_that_is_not_there_1() {
    let load = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_gtstore-load")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = load(&["--ratio", "2"]);
    assert!(code == Some(2) && text.contains("--ratio"), "{text}");
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = load(&["--manager", &held.to_string()]);
    assert!(code == Some(1) && text.contains("Is the manager running?"), "{text}");
}
