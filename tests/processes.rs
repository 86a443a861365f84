//! Real processes on loopback: how the two servers start, serve, stop and come back.
//!
//! Ports come from the kernel and every wait is for a condition.

#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers fail the test.

use bytes::Bytes;
use gtstore::shell::net::{Net, NetEvent};
use gtstore::shell::random;
use gtstore::types::{ClientId, ClusterId, ConnId, Incarnation, OpId, RequestId};
use gtstore::version::Content;
use gtstore::wire::Message;
use gtstore::wire::client::{ClientReply, ClientRequest, DataRequest, DataResult, Terms, Write as Put};
use gtstore::wire::hello::{Hello, Role};
use gtstore::wire::peer::Worth;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const MANAGER: &str = env!("CARGO_BIN_EXE_gtstore-manager");
const STORAGE: &str = env!("CARGO_BIN_EXE_gtstore-storage");

/// A process that is killed when the test is done with it.
struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// Reads a pipe on a thread, line by line, so that the process never waits for us.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// The rest of the first line that has this text in it.
fn after(lines: &Receiver<String>, text: &str) -> String {
    let start = Instant::now();
    loop {
        let line = lines.recv_timeout(PATIENCE.saturating_sub(start.elapsed()));
        let line = line.unwrap_or_else(|_| panic!("never said: {text}"));
        if let Some((_, rest)) = line.split_once(text) {
            return rest.to_owned();
        }
    }
}

impl Process {
    fn start(program: &str, args: &[&str], data_dir: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(args)
            .env_remove("GTSTORE_MANAGER")
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// The address in its line about listening.
    fn addr(&self) -> String {
        after(&self.stdout, "listening on ")
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the process did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A manager, and the addresses of storage nodes that are all ready.
struct Cluster {
    dir: TempDir,
    manager: Process,
    manager_addr: String,
    nodes: Vec<(Process, String)>,
}

impl Cluster {
    fn start(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manager = Process::start(MANAGER, &[], &dir.path().join("manager"));
        let manager_addr = manager.addr();
        let mut cluster = Self { dir, manager, manager_addr, nodes: Vec::new() };
        cluster.start_nodes(nodes);
        cluster
    }

    fn start_nodes(&mut self, nodes: usize) {
        for at in 0..nodes {
            let data_dir = self.dir.path().join(format!("node-{at}"));
            let process = Process::start(STORAGE, &["--manager", &self.manager_addr], &data_dir);
            let addr = process.addr();
            self.nodes.push((process, addr));
        }
        for (process, addr) in &self.nodes {
            assert_eq!(after(&process.stdout, " ready on "), *addr);
        }
    }
}

/// A client of one node that asks one thing at a time.
struct Client {
    id: ClientId,
    net: Net,
    conn: ConnId,
    asked: u64,
}

impl Client {
    fn of(addr: &str) -> Self {
        let id = ClientId(random::id().unwrap());
        let mut net = Net::new().unwrap();
        let conn = net.dial(addr, Hello::new(Role::Client(id), ClusterId(0), Incarnation(0)));
        Self { id, net, conn, asked: 0 }
    }

    fn ask(&mut self, request: DataRequest) -> DataResult {
        self.asked += 1;
        let request = ClientRequest::Data { worth: Worth { ttl_ms: 2000, sent_us: 0 }, request };
        self.net.send(self.conn, RequestId(self.asked), &request);
        let (start, mut events) = (Instant::now(), Vec::new());
        loop {
            self.net.flush();
            self.net.poll(Some(Duration::from_millis(20)), &mut events).unwrap();
            for event in events.drain(..) {
                match event {
                    NetEvent::Frame { frame, .. } if frame.request == RequestId(self.asked) => {
                        match ClientReply::decode(frame.kind, frame.body).unwrap() {
                            ClientReply::Data(reply) => return reply.result,
                            other => panic!("{other:?}"),
                        }
                    }
                    NetEvent::Closed { why, .. } => panic!("{why}"),
                    NetEvent::Frame { .. }
                    | NetEvent::Opened { .. }
                    | NetEvent::Welcomed { .. }
                    | NetEvent::Woken => {}
                }
            }
            assert!(start.elapsed() < PATIENCE, "no answer");
        }
    }

    /// Asks again until the answer is not a refusal: a cluster may take a moment to settle.
    fn insist(&mut self, request: impl Fn(u64) -> DataRequest) -> DataResult {
        let start = Instant::now();
        loop {
            match self.ask(request(self.asked)) {
                DataResult::Refused(reason) => assert!(start.elapsed() < PATIENCE, "{reason:?}"),
                done => return done,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        let content = || Content::Value(Bytes::from(value.to_owned()));
        let client = self.id;
        let done = self.insist(|seq| DataRequest::Put {
            terms: terms(key),
            write: Put {
                content: content(),
                context: None,
                op: OpId { client, seq },
                attempt: 0,
                stamp: Default::default(),
            },
        });
        assert!(matches!(done, DataResult::Stored { .. }), "{done:?}");
    }

    fn get(&mut self, key: &str) -> Option<String> {
        match self.insist(|_| DataRequest::Get { terms: terms(key) }) {
            DataResult::Found { values, .. } => Some(String::from_utf8(values[0].value.to_vec()).unwrap()),
            DataResult::Missing { .. } => None,
            other => panic!("{other:?}"),
        }
    }
}

fn terms(key: &str) -> Terms {
    Terms { key: Bytes::from(key.to_owned()), ..Terms::default() }
}

#[test]
fn a_key_put_through_one_node_is_read_through_the_others_and_after_all_were_killed_at_once() {
    let mut cluster = Cluster::start(3);
    let mut clients: Vec<_> = cluster.nodes.iter().map(|(_, addr)| Client::of(addr)).collect();
    for at in 0..30 {
        clients[at % 3].put(&format!("key{at}"), &format!("value{at}"));
    }
    for at in 0..30 {
        assert_eq!(clients[(at + 1) % 3].get(&format!("key{at}")), Some(format!("value{at}")));
    }
    assert_eq!(clients[0].get("never put"), None);

    for (process, _) in &mut cluster.nodes {
        process.child.kill().unwrap();
    }
    cluster.manager.child.kill().unwrap();
    cluster.nodes.clear();
    cluster.manager = Process::start(MANAGER, &[], &cluster.dir.path().join("manager"));
    cluster.manager_addr = cluster.manager.addr();
    cluster.start_nodes(3);
    let mut clients: Vec<_> = cluster.nodes.iter().map(|(_, addr)| Client::of(addr)).collect();
    for at in 0..30 {
        assert_eq!(clients[(at + 2) % 3].get(&format!("key{at}")), Some(format!("value{at}")));
    }
}

#[test]
fn nodes_serve_while_the_manager_is_down_and_a_restarted_one_knows_who_it_is() {
    let mut cluster = Cluster::start(3);
    let mut client = Client::of(&cluster.nodes[0].1);
    client.put("key", "before");
    cluster.manager.child.kill().unwrap();
    assert_eq!(client.get("key"), Some("before".to_owned()));
    client.put("key", "after");
    assert_eq!(Client::of(&cluster.nodes[1].1).get("key"), Some("after".to_owned()));
    cluster.nodes.clear();
    cluster.start_nodes(3);
}

#[test]
fn random_bytes_on_every_port_close_that_connection_with_one_log_line() {
    let mut cluster = Cluster::start(1);
    let mut noise = vec![0; 100_000];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let (node, node_addr) = &mut cluster.nodes[0];
    for (addr, process) in [(&cluster.manager_addr, &mut cluster.manager), (node_addr, node)] {
        let mut socket = TcpStream::connect(addr.as_str()).unwrap();
        // It may be closed in our face before all is written.
        let _ = socket.write_all(&noise);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = socket.read(&mut [0; 16]);
        assert!(
            read.as_ref()
                .map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |n| *n == 0),
            "{read:?}"
        );
        after(&process.stderr, "not a GTStore frame");
        assert!(process.child.try_wait().unwrap().is_none(), "the process ended");
    }
}

#[test]
fn sigterm_ends_a_process_well_and_its_directory_is_free_again() {
    let mut cluster = Cluster::start(1);
    let data_dir = cluster.dir.path().join("node-0");
    let mut second = Process::start(STORAGE, &["--manager", &cluster.manager_addr], &data_dir);
    assert_eq!(second.wait().code(), Some(1));
    after(&second.stderr, "in use by another process");

    let (mut first, _) = cluster.nodes.remove(0);
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(0));
    cluster.manager.signal("INT");
    assert_eq!(cluster.manager.wait().code(), Some(0));

    cluster.manager = Process::start(MANAGER, &[], &cluster.dir.path().join("manager"));
    cluster.manager_addr = cluster.manager.addr();
    cluster.start_nodes(1);
}

#[test]
fn a_node_of_another_cluster_is_let_in_nowhere() {
    let cluster = Cluster::start(1);
    let other = Cluster::start(1);
    let data_dir = cluster.dir.path().join("node-0");
    drop(cluster.nodes);
    let astray = Process::start(STORAGE, &["--manager", &other.manager_addr], &data_dir);
    after(&astray.stderr, "this is cluster ");
    after(&other.manager.stderr, "was refused: ");
}

#[test]
fn a_command_line_that_makes_no_sense_exits_2_and_a_taken_address_1() {
    let dir = tempfile::tempdir().unwrap();
    for (program, args) in
        [(MANAGER, ["--rep", "0"]), (MANAGER, ["--sectors", "1000"]), (STORAGE, ["--weight", "x"])]
    {
        let mut process = Process::start(program, &args, dir.path());
        assert_eq!(process.wait().code(), Some(2), "{args:?}");
        after(&process.stderr, "--help");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = Command::new(MANAGER)
        .args(["--listen", &taken.local_addr().unwrap().to_string(), "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen on"));
}
