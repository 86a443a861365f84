//! The command line against a real cluster: what a person types, and what comes back.
//!
//! The cluster is `gtstore dev` itself, so that starting, restarting and stopping it are tested
//! too. Ports are the kernel's, so that no other cluster on this machine is met; every wait is for
//! a condition.

#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers fail the test.

mod common;
#[path = "cli/membership.rs"]
mod membership;
#[path = "cli/misuse.rs"]
mod misuse;
#[path = "cli/repair.rs"]
mod repair;
#[path = "cli/siblings.rs"]
mod siblings;

use common::cluster::status_of;
use common::wait_until;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GTSTORE: &str = env!("CARGO_BIN_EXE_gtstore");

/// A `gtstore dev --no-shell -o json` that is ready.
struct Dev {
    child: Child,
    /// Kept open: a closed one would be news to the process.
    _stdout: BufReader<ChildStdout>,
    ready: serde_json::Value,
}

impl Dev {
    fn start(nodes: usize, rep: usize, data_dir: Option<&Path>) -> Self {
        let dev = Self::start_short(nodes, rep, data_dir);
        dev.assert_whole();
        dev
    }

    /// One that may lack nodes.
    fn start_short(nodes: usize, rep: usize, data_dir: Option<&Path>) -> Self {
        let mut command = Command::new(GTSTORE);
        command.args(["dev", "--any-ports", "--no-shell", "-o", "json"]);
        command.args(["--nodes", &nodes.to_string(), "--rep", &rep.to_string()]);
        if let Some(dir) = data_dir {
            command.arg("--data-dir").arg(dir);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut why = String::new();
            child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("not ready: {line:?} {why}")
        });
        let dev = Self { child, _stdout: stdout, ready };
        assert!(!dev.manager().ends_with(":7400"), "the kernel gives no port that is anybody's usual one");
        dev
    }

    /// Whoever is told that it is ready may ask any node at once.
    fn assert_whole(&self) {
        for at in 0..self.nodes().len() {
            let seen = status_of(self.node_addr(at)).unwrap();
            let up = seen.nodes.iter().filter(|node| node.health.is_up()).count();
            assert_eq!((seen.serving, up), (true, self.nodes().len()), "as node {at} sees it: {seen:?}");
        }
    }

    fn manager(&self) -> &str {
        self.ready["manager"].as_str().unwrap()
    }

    fn nodes(&self) -> &[serde_json::Value] {
        self.ready["nodes"].as_array().unwrap()
    }

    fn node_addr(&self, at: usize) -> &str {
        self.nodes()[at]["addr"].as_str().unwrap()
    }

    fn pids(&self) -> Vec<u64> {
        self.nodes().iter().map(|node| node["pid"].as_u64().unwrap()).collect()
    }

    /// Runs a command by way of the manager.
    fn run(&self, args: &[&str]) -> Output {
        run(self.manager(), args, b"")
    }

    /// Runs a command that must succeed; its standard output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn signal(&self, name: &str) {
        kill(name, u64::from(self.child.id()));
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.signal("TERM");
        let _ = self.child.wait();
    }
}

fn kill(signal: &str, pid: u64) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
}

fn run(manager: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(GTSTORE)
        .args(args)
        .env("GTSTORE_MANAGER", manager)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has had enough of it says so on its standard error.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a process runs; one that nobody waited for does not.
fn is_running(pid: u64) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn the_assignments_forms_print_what_it_says() {
    let dev = Dev::start(1, 1, None);
    assert_eq!(dev.ok(&["--put", "key1", "--val", "value1"]), "OK, server1\n");
    assert_eq!(dev.ok(&["--get", "key1"]), "key1, value1, server1\n");
    assert_eq!(dev.ok(&["--put", "key1", "--val", "value2"]), "OK, server1\n");
    assert_eq!(dev.ok(&["--get", "key1"]), "key1, value2, server1\n");
}

#[test]
fn each_ending_has_its_exit_code_and_says_what_to_do() {
    let dev = Dev::start(3, 3, None);
    let ends = |args: &[&str], expected: i32, said: &str| {
        let output = dev.run(args);
        assert_eq!(code(&output), expected, "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    };
    ends(&["put", "k", "v"], 0, "");
    ends(&["get", "k"], 0, "");
    ends(&["get", "nothing"], 3, "not found");
    ends(&["del", "nothing"], 3, "not found");
    ends(&["mget", "k", "nothing"], 3, "1 of 2 keys not found");
    ends(&["trace", "get", "k"], 0, "");
    ends(&["trace", "get", "nothing"], 3, "not found");
    ends(&["frobnicate"], 2, "gtstore help");
    ends(&["put", "", "v"], 2, "at least 1 byte");
    ends(&["put", &"k".repeat(1025), "v"], 2, "1024 bytes");
    ends(&["get", "k", "-k", "nowhere"], 2, "keyspace list");
    ends(&["keyspace", "create", "x", "--n", "9"], 2, "--n takes 1 to 3, the copies that the cluster keeps");
    ends(&["keyspace", "create", "x", "--r", "9"], 2, "--r takes 1 to 3, the copies of this keyspace");
    ends(&["keyspace", "create", "x", "--n", "2", "--w", "0"], 2, "--w takes 1 to 2, the copies");
    ends(&["get", "k", "-k", ""], 2, "1 to 64");
    ends(&["status", "-k", "default"], 2, "--keyspace is not an option of 'status'");
    ends(&["health", "-k", "default"], 2, "--keyspace is not an option of 'health'");
    ends(&["help", "help"], 0, "");
    ends(&["owners", ""], 2, "1 to 1024");
    ends(&["get", "k", "-r", "4"], 2, "3 copies");
    ends(&["-k", "default", "export", "-", "-r", "4"], 2, "at most 3");
    ends(&["import", "-", "-w", "4"], 2, "at most 3");
    ends(&["put", "k", "v", "--timeout-ms", "60001"], 2, "1 to 60000");
    ends(&["get", "k", "--manager", "127.0.0.1:1"], 4, "check that it runs");
    // A node answers for everything but what needs the manager.
    ends(&["get", "k", "--manager", dev.node_addr(2)], 0, "");
    ends(&["status", "--manager", dev.node_addr(2)], 0, "");
    ends(&["keyspace", "create", "x", "--manager", dev.node_addr(2)], 4, "manager");
}

#[test]
fn with_too_few_nodes_left_it_says_how_many_answered_and_that_nothing_was_applied() {
    let dev = Dev::start(3, 3, None);
    dev.ok(&["put", "k", "v"]);
    for &pid in &dev.pids()[..2] {
        kill("KILL", pid);
    }
    let output = dev.run(&["put", "k", "v2", "--timeout-ms", "10000"]);
    let said = text(&output.stderr);
    assert!(matches!(code(&output), 4 | 5), "{said}");
    wait_until("the survivor knows that it is alone", || {
        let output = dev.run(&["put", "k", "v2"]);
        let said = text(&output.stderr);
        (code(&output) == 4 && said.contains("of 3 replicas answered, 2 needed")).then_some(())
    });
    assert_eq!(dev.ok(&["get", "k", "-r", "1", "--manager", dev.node_addr(2)]).lines().count(), 1);
}

#[test]
fn with_two_of_three_standing_still_every_read_says_in_time_that_one_answered() {
    let dev = Dev::start(3, 3, None);
    dev.ok(&["put", "k", "v"]);
    let living = dev.node_addr(0).to_owned();
    let timed = |args: &[&str]| {
        let start = Instant::now();
        let output = run(&living, &[args, &["--timeout-ms", "1500"]].concat(), b"");
        assert_eq!(code(&output), 4, "{args:?}: {}", text(&output.stderr));
        assert!(start.elapsed() < Duration::from_millis(2200), "{args:?} took {:?}", start.elapsed());
        text(&output.stderr)
    };
    dev.pids()[1..].iter().for_each(|&pid| kill("STOP", pid));
    for args in [&["get", "k"][..], &["trace", "get", "k"], &["mget", "k", "k2"]] {
        let said = timed(args);
        assert!(said.contains("1 of 3 replicas answered, 2 needed"), "{args:?}: {said}");
    }
    let output = run(&living, &["trace", "get", "k", "-o", "plain"], b"");
    let steps = text(&output.stdout);
    // By now it may know that it is alone, and need not try to coordinate it.
    assert!(steps.starts_with("coordinator\t") || steps.starts_with("forwarder\t"), "{steps}");
    // With nobody left to find, finding somebody takes no time of its own.
    kill("STOP", dev.pids()[0]);
    let living = dev.manager();
    let start = Instant::now();
    let output = run(living, &["trace", "get", "k", "--timeout-ms", "1500"], b"");
    assert_eq!(code(&output), 4, "{}", text(&output.stderr));
    assert!(start.elapsed() < Duration::from_millis(2200), "it took {:?}", start.elapsed());
    dev.pids().iter().for_each(|&pid| kill("CONT", pid));
}

#[test]
fn concurrent_values_are_all_shown_and_settled_with_their_context() {
    let dev = Dev::start(3, 3, None);
    dev.ok(&["keyspace", "create", "carts", "--n", "3", "--r", "2", "--w", "2", "--conflict", "siblings"]);
    assert!(dev.ok(&["keyspace", "list", "-o", "plain"]).contains("carts\t3\t2\t2\tsiblings\tsync\n"));
    wait_until("the nodes know the keyspace", || {
        (code(&dev.run(&["-k", "carts", "put", "ann", "apples"])) == 0).then_some(())
    });
    dev.ok(&["-k", "carts", "put", "ann", "pears"]);
    let output = dev.run(&["-k", "carts", "get", "ann"]);
    assert_eq!((code(&output), text(&output.stdout).as_str()), (0, "apples\npears\n"));
    assert!(text(&output.stderr).contains("2 concurrent values"));
    let json: serde_json::Value =
        serde_json::from_str(&dev.ok(&["-k", "carts", "get", "ann", "-o", "json"])).unwrap();
    assert_eq!(json["values"].as_array().unwrap().len(), 2);
    let context = json["context"].as_str().unwrap();
    dev.ok(&["-k", "carts", "put", "ann", "both", "--context", context]);
    assert_eq!(dev.ok(&["-k", "carts", "get", "ann", "-o", "plain"]), "both\n");
}

#[test]
fn a_keyspace_made_again_is_a_conflict_only_if_it_is_to_be_another() {
    let dev = Dev::start(1, 1, None);
    for _ in 0..2 {
        dev.ok(&["keyspace", "create", "carts", "--conflict", "siblings"]);
    }
    let output = dev.run(&["keyspace", "create", "carts", "--durability", "os"]);
    assert_eq!(code(&output), 6);
    let said = text(&output.stderr);
    assert!(said.contains("it has siblings, sync; asked for was lww, os."), "{said}");
    assert!(dev.ok(&["keyspace", "list", "-o", "plain"]).contains("carts\t1\t1\t1\tsiblings\tsync\n"));
}

#[test]
fn a_file_of_any_bytes_survives_import_export_and_the_death_of_every_process() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let exported = dir.path().join("out.jsonl");
    let mut lines = BTreeMap::new();
    for at in 0..2000 {
        lines.insert(format!("key{at}"), format!("value\\t{at}\\x00\\xff"));
    }
    let input: String = lines.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
    let dev = Dev::start(5, 3, Some(&data));
    let output = run(dev.manager(), &["import", "-"], format!("{input}no tab here\n").as_bytes());
    assert_eq!(code(&output), 2, "the bad line is told");
    assert!(text(&output.stdout).starts_with("imported 2000 values, 1 failed"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("line 2001 not imported: no tab"), "{}", text(&output.stderr));
    for pid in dev.pids() {
        kill("KILL", pid);
    }
    kill("KILL", u64::from(dev.child.id()));
    wait_until("no process is left", || {
        let is_left = dev.pids().into_iter().any(is_running) || TcpStream::connect(dev.manager()).is_ok();
        (!is_left).then_some(())
    });
    drop(dev);

    let dev = Dev::start(5, 3, Some(&data));
    assert_eq!(dev.nodes().len(), 5);
    let output = run(dev.node_addr(3), &["export", exported.to_str().unwrap()], b"");
    assert!(text(&output.stderr).contains("exported 2000 keys, 0 failed"), "{}", text(&output.stderr));
    let mut found = BTreeMap::new();
    for line in std::fs::read_to_string(&exported).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        found.insert(line["key"].as_str().unwrap().to_owned(), line["value_base64"].clone());
    }
    assert!(found.keys().eq(lines.keys()));
    let output = run(dev.node_addr(0), &["mget", "key7", "key1999", "-o", "plain"], b"");
    assert_eq!(text(&output.stdout), "key7\tvalue\\t7\\x00\\xff\nkey1999\tvalue\\t1999\\x00\\xff\n");
    assert_eq!(run(dev.node_addr(0), &["get", "key7"], b"").stdout, b"value\t7\0\xff\n", "into a pipe");
}

#[test]
fn dev_starts_without_a_node_that_is_lost_or_damaged_and_says_so() {
    let dir = TempDir::new().unwrap();
    let dev = Dev::start(3, 3, Some(dir.path()));
    dev.ok(&["put", "k", "v"]);
    let ids: Vec<_> = dev.nodes().iter().map(|node| node["id"].clone()).collect();
    drop(dev);
    std::fs::remove_dir_all(dir.path().join("node-1")).unwrap();
    let dev = Dev::start_short(3, 3, Some(dir.path()));
    assert_eq!(dev.ready["missing"], serde_json::json!([ids[0]]));
    assert_eq!(
        (dev.nodes().len(), dev.ok(&["get", "k"]).as_str()),
        (2, "v\n"),
        "two of three copies are there"
    );
    assert!(!dir.path().join("node-1").exists(), "its place stays free for it");
    drop(dev);

    let identity = dir.path().join("node-2/identity");
    std::fs::write(&identity, b"nonsense").unwrap();
    let mut dev = Dev::start_short(3, 3, Some(dir.path()));
    assert_eq!(dev.ready["missing"], serde_json::json!([ids[0], ids[1]]));
    assert_eq!((&dev.ready["failed"], dev.nodes().len()), (&serde_json::json!(["node-2"]), 1));
    assert_eq!(dev.ok(&["get", "k", "-r", "1"]), "v\n");
    dev.signal("TERM");
    let mut said = String::new();
    dev.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("the identity file is damaged").count(), 1, "{said}");
    assert!(said.contains("Move the directory away"), "{said}");
}

#[test]
fn siblings_survive_export_and_import_and_are_not_doubled_by_them() {
    let (dev, dir) = (Dev::start(3, 3, None), TempDir::new().unwrap());
    let file = dir.path().join("carts.tsv");
    let file = file.to_str().unwrap();
    let siblings = |key: &str| {
        let json = dev.ok(&["-k", "carts", "get", key, "-o", "json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let values = json["values"].as_array().unwrap().iter();
        let version = |version: &serde_json::Value| {
            let part = |name: &str| version[name].as_str().unwrap().to_owned();
            (part("value"), part("dot"))
        };
        values.map(version).collect::<std::collections::BTreeSet<_>>()
    };
    let import = |said: &str| {
        let count = dev.ok(&["-k", "carts", "import", file]);
        assert!(count.starts_with(said), "{count}");
    };
    dev.ok(&["keyspace", "create", "carts", "--conflict", "siblings"]);
    for (key, value) in [("ann", "apples"), ("ann", "pears"), ("bob", "figs")] {
        dev.ok(&["-k", "carts", "put", key, value]);
    }
    dev.ok(&["-k", "carts", "export", file]);
    let before = (siblings("ann"), siblings("bob"));
    assert_eq!((before.0.len(), before.1.len()), (2, 1));
    for _ in 0..2 {
        import("imported 0 values, 0 failed, 3 already there");
        assert_eq!((siblings("ann"), siblings("bob")), before);
    }
    // What is deleted comes back as it was, and what came meanwhile stays.
    dev.ok(&["-k", "carts", "del", "ann"]);
    dev.ok(&["-k", "carts", "put", "bob", "grapes"]);
    import("imported 2 values, 0 failed, 1 already there");
    let values = |key: &str| siblings(key).into_iter().map(|version| version.0).collect::<Vec<_>>();
    assert_eq!(values("ann"), ["apples", "pears"]);
    assert_eq!(values("bob"), ["figs", "grapes"]);
}

#[test]
fn the_time_to_live_goes_through_a_file_of_json_and_is_told_to_be_lost_in_one_of_tabs() {
    let (dev, dir) = (Dev::start(1, 1, None), TempDir::new().unwrap());
    let expiry = |key: &str| {
        let json: serde_json::Value = serde_json::from_str(&dev.ok(&["get", key, "-o", "json"])).unwrap();
        json["values"][0]["expires_ms"].as_u64()
    };
    dev.ok(&["put", "for-a-while", "1", "--ttl", "1d"]);
    dev.ok(&["put", "for-good", "2"]);
    let before = expiry("for-a-while").unwrap();
    assert_eq!(expiry("for-good"), None);
    let file = dir.path().join("all.jsonl");
    dev.ok(&["export", file.to_str().unwrap()]);
    let mut lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.matches(&format!("\"expires_ms\":{before}")).count(), 1, "{lines}");

    lines.push_str("{\"key\":\"over\",\"value\":\"3\",\"expires_ms\":1}\n");
    ["for-a-while", "for-good"].iter().for_each(|key| drop(dev.ok(&["del", key])));
    let output = run(dev.manager(), &["import", "-", "--ttl", "2d"], lines.as_bytes());
    assert!(text(&output.stdout).starts_with("imported 2 values, 0 failed, 1 expired"), "{output:?}");
    assert_eq!(code(&dev.run(&["get", "over"])), 3);
    assert!(expiry("for-a-while").unwrap().abs_diff(before) < 60_000, "what was left, and no more");
    assert!(expiry("for-good").unwrap() > before, "the option is for lines that do not say");

    let output = dev.run(&["export", "-", "--format", "tsv"]);
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (0, 2));
    assert!(text(&output.stderr).contains("2 values have a time to live"), "{}", text(&output.stderr));
}

#[test]
fn an_import_stops_at_a_line_without_an_end() {
    let dev = Dev::start(1, 1, None);
    let output = dev.run(&["import", "/dev/zero"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("line 1 of /dev/zero is longer than"), "{}", text(&output.stderr));
    let long = [b"first\t1\n", &vec![b'x'; (8 << 20) + 1][..], b"\nlast\t1\n"].concat();
    let output = run(dev.manager(), &["import", "-"], &long);
    assert_eq!((code(&output), text(&output.stdout).starts_with("imported 1 values, 0 failed")), (2, true));
    assert!(text(&output.stderr).contains("line 2 of standard input"), "{}", text(&output.stderr));
    assert_eq!(dev.ok(&["get", "first"]), "1\n");
    assert_eq!(code(&dev.run(&["get", "last"])), 3);
}

#[test]
fn an_import_stops_when_every_server_is_gone_and_says_where_to_go_on() {
    let dev = Dev::start(1, 1, None);
    let mut child = Command::new(GTSTORE)
        .args(["import", "-", "-o", "json"])
        .env("GTSTORE_MANAGER", dev.manager())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // With the mark that some systems put first.
    input.write_all(b"\xef\xbb\xbffirst\t1\n").unwrap();
    let lines: String = (0..300).map(|at| format!("key{at}\tvalue\n")).collect();
    input.write_all(lines.as_bytes()).unwrap();
    wait_until("the import is under way", || (code(&dev.run(&["get", "first"])) == 0).then_some(()));
    drop(dev);
    let start = Instant::now();
    // It does not read all of this.
    while start.elapsed() < common::PATIENCE && input.write_all(lines.as_bytes()).is_ok() {}
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(matches!(code(&output), 4 | 5), "{said}");
    assert!(said.contains("no server answered for") && said.contains("go on from line"), "{said}");
    let told: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(told["imported"].as_u64().unwrap() >= 1 && told["failed"].as_u64().unwrap() >= 512, "{told}");
}

#[test]
fn an_export_that_may_lack_keys_never_ends_as_if_it_were_whole() {
    let dev = Dev::start(3, 3, None);
    dev.ok(&["keyspace", "create", "single", "--n", "1"]);
    let lines: String = (0..300).map(|at| format!("key{at}\tvalue\n")).collect();
    for keyspace in ["single", "default"] {
        let output = run(dev.manager(), &["-k", keyspace, "import", "-"], lines.as_bytes());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    }
    let export = |keyspace| dev.run(&["-k", keyspace, "export", "-"]);
    let dir = TempDir::new().unwrap();
    let (file, partial) = (dir.path().join("all.tsv"), dir.path().join("all.tsv.partial"));
    dev.ok(&["-k", "single", "export", file.to_str().unwrap()]);
    let whole = std::fs::read_to_string(&file).unwrap();
    assert_eq!((whole.lines().count(), partial.exists()), (300, false));
    assert_eq!(export("nowhere").status.code(), Some(2), "not an empty file and success");
    let lines_of = |output: &Output| text(&output.stdout).lines().count();
    assert_eq!(lines_of(&export("single")), 300);
    kill("KILL", dev.pids()[2]);
    wait_until("the manager sees that a node is down", || {
        dev.ok(&["status", "-o", "plain"]).contains("DN").then_some(())
    });
    let output = export("single");
    assert_eq!(code(&output), 4, "what only the dead node holds is missing: {}", text(&output.stderr));
    assert!(text(&output.stderr).contains("keys may be missing"), "{}", text(&output.stderr));
    let output = dev.run(&["-k", "single", "export", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(code(&output), 4, "{said}");
    let dead = format!("(not node {})", dev.nodes()[2]["id"]);
    for part in ["NOT WHOLE", &dead, "all.tsv.partial", "all.tsv is as it was"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole, "the earlier export is still there");
    assert!(std::fs::read_to_string(&partial).unwrap().lines().count() < 300);
    let output = export("default");
    assert_eq!(code(&output), 0, "two of three copies are enough: {}", text(&output.stderr));
    assert_eq!(lines_of(&output), 300);
}

#[test]
fn an_export_that_too_few_nodes_answer_stops_and_names_another_way() {
    let dev = Dev::start(3, 3, None);
    let lines: String = (0..700).map(|at| format!("key{at}\tvalue\n")).collect();
    assert_eq!(code(&run(dev.manager(), &["import", "-"], lines.as_bytes())), 0);
    dev.pids()[..2].iter().for_each(|&pid| kill("KILL", pid));
    let living = dev.node_addr(2);
    wait_until("the survivor knows that it is alone", || {
        let status = text(&run(living, &["status", "-o", "plain"], b"").stdout);
        (status.lines().filter(|row| row.starts_with("DN")).count() == 2).then_some(())
    });
    let output = run(living, &["export", "-", "--timeout-ms", "200"], b"");
    let said = text(&output.stderr);
    assert_eq!(code(&output), 4, "{said}");
    assert!(said.contains("exported 0 keys, 512 failed, NOT WHOLE"), "{said}");
    assert!(said.contains("for 512 keys in a row: the export has stopped"), "{said}");
    let output = run(living, &["export", "-", "-r", "1"], b"");
    assert_eq!((code(&output), text(&output.stdout).lines().count()), (4, 700), "the way that it names");
    let output = run(living, &["import", "-", "--timeout-ms", "200"], b"key1\tvalue\n");
    let said = text(&output.stderr);
    assert!(said.contains("line 1, \"key1\" not imported: "), "{said}");
}

#[test]
fn a_killed_dev_leaves_no_process_and_no_temporary_directory() {
    let dev = Dev::start(2, 2, None);
    let dir = dev.ready["data_dir"].as_str().unwrap().to_owned();
    let pids = dev.pids();
    kill("KILL", u64::from(dev.child.id()));
    wait_until("the servers are stopped", || (!pids.iter().copied().any(is_running)).then_some(()));
    wait_until("the directory is removed", || (!Path::new(&dir).exists()).then_some(()));
}

#[test]
fn the_shell_runs_a_script_and_commands_the_processes() {
    let script = "put a 1\nkill 2\nget a\nrestart 2\nget a\npartition 1|2,3\nheal\nget nothing\n\
         kill 3\nkill 3\npause 3\nresume 2\n# done\nexit\n";
    let output = {
        let mut child = Command::new(GTSTORE)
            .args(["dev", "--any-ports"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let said = text(&output.stdout);
    assert_eq!(code(&output), 3, "a script's first failure is its end: {}", text(&output.stderr));
    assert!(said.contains("export GTSTORE_MANAGER=127.0.0.1:"), "{said}");
    assert_eq!(said.lines().filter(|line| *line == "1").count(), 2, "{said}");
    assert!(said.contains("node 2 is there again"), "{said}");
    assert!(said.contains("do not hear each other") && said.contains("hear each other again"), "{said}");
    assert_eq!(said.matches("node 3 killed").count(), 1, "{said}");
    let why = text(&output.stderr);
    assert_eq!(why.matches("node 3 does not run; 'restart 3' starts it").count(), 2, "{why}");
    assert!(why.contains("node 2 runs already"), "{why}");
}

/// What becomes of `gtstore dev` in this directory, with these lines typed into its shell.
fn dev_script(dir: &Path, args: &[&str], script: &str) -> Output {
    let mut child = Command::new(GTSTORE)
        .args(["dev", "--data-dir"])
        .arg(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not start hears nothing.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_dev_cluster_keeps_the_copies_and_the_profile_it_was_made_with() {
    let dir = TempDir::new().unwrap();
    let long = "put a-key-of-over-20-bytes value\n";
    let output = dev_script(dir.path(), &["--nodes", "1", "--profile", "gtstore"], long);
    assert_eq!(code(&output), 2, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("20 bytes"), "{}", text(&output.stderr));
    // Whoever says nothing gets what is there, and one copy is what it was made with.
    let output = dev_script(dir.path(), &["--nodes", "2"], long);
    assert_eq!(code(&output), 2, "{}", text(&output.stderr));
    let output = dev_script(dir.path(), &["--nodes", "2", "--rep", "2"], "");
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--rep 2 was given"), "{}", text(&output.stderr));
}

#[test]
fn the_shell_ends_with_the_code_that_exit_names() {
    let dev = Dev::start(1, 1, None);
    let ends = |script: &str| code(&run(dev.manager(), &["shell"], script.as_bytes()));
    assert_eq!(ends("get nothing\nexit 42\nput never 1\n"), 42);
    assert_eq!(ends("get nothing\nquit 0\n"), 0);
    assert_eq!(ends("get never\nexit\n"), 3, "what stands behind exit is not run");
    let output = run(dev.manager(), &["shell"], b"exit now\nput still-there 1\n");
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("exit [CODE]"), "{}", text(&output.stderr));
    assert_eq!(dev.ok(&["get", "still-there"]), "1\n");
}

/// A `gtstore shell` on a terminal, by way of `script`.
struct Terminal {
    child: Child,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn shell(manager: &str, home: &Path) -> Self {
        Self::of(&format!("{GTSTORE} shell -m {manager}"), home)
    }

    fn of(command: &str, home: &Path) -> Self {
        let mut child = Command::new("script")
            // `exec`, for a shell between the two would get the Ctrl-C as well, and die of it.
            .args(["-qec", &format!("exec {command}"), "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env("HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (shown, mut stdout) = (Arc::clone(&screen), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                shown.lock().unwrap().push_str(&text(&bytes[..count]));
            }
        });
        Self { child, screen }
    }

    fn types(&mut self, keys: &str) {
        self.child.stdin.as_ref().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until it shows `what` behind all that was waited for before.
    fn shows(&mut self, what: &str) {
        wait_until(what, || {
            let mut screen = self.screen.lock().unwrap();
            let end = screen.find(what)? + what.len();
            screen.drain(..end);
            Some(())
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_terminal_is_shown_no_control_characters_and_its_ctrl_c_takes_a_line_back_first() {
    let (dev, home) = (Dev::start(1, 1, None), TempDir::new().unwrap());
    dev.ok(&["put", "bytes", "a\x1b\t\\b"]);
    let mut terminal = Terminal::shell(dev.manager(), home.path());
    terminal.shows("gtstore> ");
    terminal.types("put a 1");
    terminal.shows("put a 1");
    terminal.types("\x03");
    terminal.shows("gtstore> ");
    terminal.types("get nothing\r");
    terminal.shows("\"nothing\" not found");
    terminal.shows("gtstore> ");
    terminal.types("get bytes\r");
    terminal.shows("a\\x1b\\t\\\\b");
    terminal.shows("gtstore> ");
    terminal.types("\x03");
    terminal.shows("Leaving. The cluster goes on.");
    assert!(terminal.child.wait().unwrap().success());
    assert_eq!(code(&dev.run(&["get", "a"])), 3, "the line that was taken back was not run");
}

#[test]
fn ctrl_c_while_a_command_runs_stops_a_dev_cluster_and_prompts_no_more() {
    let home = TempDir::new().unwrap();
    let mut terminal = Terminal::of(&format!("{GTSTORE} dev --any-ports --nodes 1"), home.path());
    terminal.shows("gtstore> ");
    terminal.types("pause manager\r");
    terminal.shows("stands still");
    terminal.shows("gtstore> ");
    // The new node waits for the manager, and the command for the node.
    terminal.types("add\r");
    terminal.shows("Starting one more node");
    terminal.types("\x03");
    terminal.shows("Stopping ...");
    assert!(terminal.child.wait().unwrap().success());
    let rest = terminal.screen.lock().unwrap().clone();
    let is_silent = ["gtstore>", "Stopping", "interrupted"].iter().all(|said| !rest.contains(said));
    assert!(is_silent, "{rest}");
}

#[test]
fn a_lost_node_is_told_by_health_hints_and_the_answers_it_has_no_part_in() {
    let dev = Dev::start(4, 3, None);
    let well = dev.ok(&["health"]);
    assert!(well.starts_with("All is well: 4 nodes are up, 1024 sectors have 3 copies each"), "{well}");
    let lost = dev.nodes()[3]["id"].as_u64().unwrap();
    kill("KILL", dev.pids()[3]);
    wait_until("the manager sees that a node is down", || {
        dev.ok(&["status", "-o", "plain"]).contains("DN").then_some(())
    });

    // Three of four keys have a copy there.
    let put = |key: &str, more: &[&str]| dev.run(&[&["put", key, "value", "-w", "3"], more].concat());
    let mut keys = (0..).map(|number| format!("key{number}"));
    let key = keys.find(|key| text(&put(key, &[]).stdout).contains("1 of them by a fallback")).unwrap();
    assert_eq!(code(&put(&key, &["--strict"])), 4, "three owners are asked for, and two are left");
    let stored: serde_json::Value = serde_json::from_slice(&put(&key, &["-o", "json"]).stdout).unwrap();
    assert_eq!((&stored["result"], &stored["fallbacks"]), (&"stored".into(), &1.into()));
    assert_eq!(code(&put(&key, &["--ttl", "soon"])), 2);
    let get = dev.run(&["get", &key, "-r", "3"]);
    assert_eq!((text(&get.stdout).as_str(), text(&get.stderr).contains("by a fallback")), ("value\n", true));

    let hints = dev.ok(&["hints", "-o", "plain"]);
    let owed_to = |line: &str| line.split('\t').nth(1).map(str::to_owned);
    assert!(
        hints.lines().all(|line| owed_to(line) == Some(lost.to_string())) && !hints.is_empty(),
        "{hints}"
    );
    assert!(text(&dev.run(&["hints"]).stderr).contains(&format!("node {lost} does not say")));

    let down = format!("node {lost} is down, as seen by nodes ");
    let findings: Vec<serde_json::Value> = wait_until("the verdict of all", || {
        let output = dev.run(&["health", "-o", "json"]);
        assert_eq!(code(&output), 7, "{}", text(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = said["findings"].as_array().unwrap().clone();
        findings.iter().any(|one| one["text"].as_str().unwrap().starts_with(&down)).then_some(findings)
    });
    let of = |kind: &str| findings.iter().find(|one| one["kind"] == kind).unwrap();
    assert_eq!((&of("short")["count"], &of("hints")["node"]), (&768.into(), &lost.into()));
    let table = text(&dev.run(&["health"]).stdout);
    assert!(table.contains(&down) && table.contains("768 sectors have fewer than 3 copies"), "{table}");

    let mut watch = Command::new(GTSTORE)
        .args(["health", "--watch", "-m", dev.manager()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> =
        BufReader::new(watch.stdout.take().unwrap()).lines().take(2).map(Result::unwrap).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(lines.iter().all(|line| line.contains(&down)), "{lines:?}");
}
