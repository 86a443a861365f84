//! A cluster of real processes in a temporary directory.

use super::client::Client;
use super::process::Server;
use super::wait_until;
use gtstore::client::{Store, StoreOptions, Target};
use gtstore::ring::{Conflict, Durability, KeyspaceSettings, MemberState};
use gtstore::wire::client::{ClientReply, ClientRequest, ClusterStatus};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Sectors of a cluster, where nothing depends on it: few, so that it starts at once.
const SECTORS: usize = 64;

/// A manager, storage nodes, and their directory.
pub struct Cluster {
    /// The manager.
    pub manager: Server,
    /// The storage nodes. The first to be started is not always node 1.
    pub nodes: Vec<Server>,
    rep: usize,
    /// Dropped last: after the processes.
    dir: TempDir,
}

impl Cluster {
    /// A cluster that serves, with every member known and linked to every other.
    pub fn new(nodes: usize, rep: usize) -> Self {
        Self::of(nodes, rep, SECTORS, &[])
    }

    /// One with further arguments for its nodes.
    pub fn with_node_args(nodes: usize, rep: usize, node_args: &[&str]) -> Self {
        Self::made(nodes, rep, SECTORS, &[], node_args)
    }

    /// One with this many sectors, and further arguments for its manager.
    pub fn of(nodes: usize, rep: usize, sectors: usize, manager_args: &[&str]) -> Self {
        Self::made(nodes, rep, sectors, manager_args, &[])
    }

    fn made(nodes: usize, rep: usize, sectors: usize, manager_args: &[&str], node_args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (rep_arg, sectors_arg) = (rep.to_string(), sectors.to_string());
        let args = [&["--rep", &rep_arg, "--sectors", &sectors_arg], manager_args].concat();
        let mut manager = Server::manager(&dir.path().join("manager"), &args);
        manager.start(None);
        let mut cluster = Self { manager, nodes: Vec::new(), rep, dir };
        for _ in 0..nodes {
            cluster.add_node(node_args);
        }
        cluster.settle();
        cluster
    }

    /// Starts one more storage node.
    pub fn add_node(&mut self, args: &[&str]) {
        let dir = self.dir.path().join(format!("node-{}", self.nodes.len()));
        self.add_node_in(&dir, args);
    }

    /// Starts one more storage node, in a directory of the caller's.
    pub fn add_node_in(&mut self, dir: &Path, args: &[&str]) {
        let mut node = Server::storage(dir, args);
        node.start(Some(&self.manager.addr()));
        self.nodes.push(node);
    }

    /// Starts whatever does not run.
    pub fn start_all(&mut self) {
        if !self.manager.is_started() {
            self.manager.start(None);
        }
        for at in 0..self.nodes.len() {
            self.start_node(at);
        }
    }

    /// Starts a storage node, unless it runs.
    pub fn start_node(&mut self, at: usize) {
        if !self.nodes[at].is_started() {
            self.nodes[at].start(Some(&self.manager.addr()));
        }
    }

    /// Ends every process at once, with SIGKILL.
    pub fn kill_all(&mut self) {
        let pids: Vec<_> = self.nodes.iter().chain([&self.manager]).filter_map(Server::pid).collect();
        assert!(Command::new("kill").arg("-9").args(pids).status().unwrap().success());
        self.nodes.iter_mut().chain([&mut self.manager]).for_each(Server::kill);
    }

    /// Waits until every running process sees one and the same cluster: all members normal,
    /// those that run up, enough of them to serve, nothing moving.
    pub fn settle(&self) -> ClusterStatus {
        let servers = self.nodes.iter().chain([&self.manager]).filter(|server| server.is_started());
        let views = wait_until("a settled cluster", || {
            let views: Option<Vec<_>> = servers.clone().map(|server| status_of(&server.addr())).collect();
            views
                .filter(|views| views.iter().all(|view| self.is_settled(view)))
                .filter(|views| views.iter().all(|view| view.epoch == views[0].epoch))
        });
        // The manager's view, if it runs: it alone knows every node's load.
        views.into_iter().next_back().unwrap()
    }

    fn is_settled(&self, view: &ClusterStatus) -> bool {
        let up = view.nodes.iter().filter(|node| node.health.is_up()).count();
        let running = self.nodes.iter().filter(|server| server.is_started()).count();
        let normal = view.nodes.iter().all(|node| node.state == MemberState::Normal);
        let serves = view.serving && normal && view.moving == 0;
        up == running && view.nodes.len() == self.nodes.len() && (serves || self.nodes.len() < self.rep)
    }

    /// A store that knows every address: it goes on when its contact ends.
    pub fn store(&self) -> Store {
        self.store_from(0)
    }

    /// A store that knows every address and begins with this node.
    pub fn store_from(&self, at: usize) -> Store {
        let mut addrs: Vec<_> = self.nodes.iter().map(Server::addr).collect();
        let count = addrs.len();
        addrs.rotate_left(at % count);
        addrs.push(self.manager.addr());
        Store::open(StoreOptions::new(&addrs.join(","))).unwrap()
    }

    /// A store of a keyspace, that begins with this node.
    pub fn store_in(&self, keyspace: &str, at: usize) -> Store {
        let options = self.store_from(at).options().clone();
        Store::open(StoreOptions { keyspace: keyspace.to_owned(), ..options }).unwrap()
    }

    /// Makes a keyspace of all the cluster's copies and a majority, and waits until every node knows it.
    pub fn create_keyspace(&self, name: &str, conflict: Conflict, durability: Durability) {
        let settings = KeyspaceSettings {
            conflict,
            durability,
            ..KeyspaceSettings::majority(self.rep.try_into().unwrap())
        };
        let request = ClientRequest::CreateKeyspace { name: name.to_owned(), settings };
        let reply = self.store().ask(Target::Manager, request).unwrap();
        assert!(matches!(reply, ClientReply::KeyspaceCreated(_)), "{reply:?}");
        self.settle();
    }
}

/// The cluster as the server at this address sees it; none if it does not answer.
pub fn status_of(addr: &str) -> Option<ClusterStatus> {
    match Client::of(addr).ask(&ClientRequest::Status) {
        Ok(ClientReply::Status(status)) => Some(status),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}
