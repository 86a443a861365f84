//! Real processes on loopback: how the two servers start, serve, stop and come back.
//!
//! Ports come from the kernel and every wait is for a condition.

#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers fail the test.

mod common;

use common::client::Client;
use common::cluster::Cluster;
use common::process::{Process, Server};
use common::{MANAGER, STORAGE};

fn clients(cluster: &Cluster) -> Vec<Client> {
    cluster.nodes.iter().map(|node| Client::of(&node.addr())).collect()
}

#[test]
fn a_key_put_through_one_node_is_read_through_the_others_and_after_all_were_killed_at_once() {
    let mut cluster = Cluster::new(3, 3);
    let mut at = clients(&cluster);
    for key in 0..30 {
        at[key % 3].put(&format!("key{key}"), &format!("value{key}"));
    }
    for key in 0..30 {
        assert_eq!(at[(key + 1) % 3].get(&format!("key{key}")), Some(format!("value{key}")));
    }
    assert_eq!(at[0].get("never put"), None);

    cluster.kill_all();
    cluster.start_all();
    let mut at = clients(&cluster);
    for key in 0..30 {
        assert_eq!(at[(key + 2) % 3].get(&format!("key{key}")), Some(format!("value{key}")));
    }
}

#[test]
fn sigterm_ends_a_process_well_and_its_directory_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager");
    let mut first = Server::manager(&path, &[]);
    first.start(None);
    let mut second =
        Process::start(MANAGER, &["--listen", "127.0.0.1:0", "--data-dir", &path.to_string_lossy()]);
    assert_eq!(second.wait().code(), Some(1));
    second.logged.after("in use by another process");

    first.process().signal("INT");
    assert_eq!(first.process().wait().code(), Some(0));
    first.start(None);
    first.process().signal("TERM");
    assert_eq!(first.process().wait().code(), Some(0));
}

#[test]
fn a_manager_is_not_started_as_if_its_cluster_were_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager");
    let mut manager = Server::manager(&path, &["--rep", "2", "--sectors", "8", "--profile", "gtstore"]);
    for _ in 0..2 {
        manager.start(None);
        manager.kill();
    }
    for (option, said, is) in
        [("--rep", "3", "2"), ("--sectors", "16", "8"), ("--profile", "default", "gtstore")]
    {
        let args = ["--listen", "127.0.0.1:0", "--data-dir", &path.to_string_lossy(), option, said];
        let mut refused = Process::start(MANAGER, &args);
        assert_eq!(refused.wait().code(), Some(1), "{option}");
        let why = refused.logged.after(&format!("{option} {said} was given"));
        assert!(why.contains(&format!("{option} {is}")), "{why}");
    }
}

#[test]
fn a_manager_takes_no_storage_nodes_directory_and_is_made_anew_from_its_table() {
    let mut cluster = Cluster::new(2, 2);
    Client::of(&cluster.nodes[0].addr()).put("key", "value");
    cluster.manager.kill();
    cluster.nodes[0].kill();
    let dir = cluster.nodes[0].dir.clone();
    let mut astray =
        Process::start(MANAGER, &["--listen", "127.0.0.1:0", "--data-dir", &dir.to_string_lossy()]);
    assert_eq!(astray.wait().code(), Some(1));
    astray.logged.after("the data directory is a storage node's");

    // The manager's own is lost: any node has a copy of the table.
    std::fs::remove_dir_all(&cluster.manager.dir).unwrap();
    std::fs::create_dir(&cluster.manager.dir).unwrap();
    std::fs::copy(dir.join("table"), cluster.manager.dir.join("table")).unwrap();
    cluster.start_all();
    cluster.settle();
    cluster.add_node(&[]);
    assert_eq!(cluster.settle().nodes.len(), 3, "it goes on giving out numbers");
    assert_eq!(Client::of(&cluster.nodes[2].addr()).get("key"), Some("value".to_owned()));
}

#[test]
fn a_node_of_another_cluster_is_let_in_nowhere() {
    let mut cluster = Cluster::new(1, 1);
    let mut other = Cluster::new(1, 1);
    let astray = &mut cluster.nodes[0];
    astray.kill();
    astray.start(Some(&other.manager.addr()));
    astray.process().logged.after("this is cluster ");
    other.manager.process().logged.after("was refused: ");
    assert_eq!(other.settle().nodes.len(), 1);
}

#[test]
fn a_command_line_that_makes_no_sense_exits_2_and_a_taken_address_1() {
    for (program, args) in
        [(MANAGER, ["--rep", "0"]), (MANAGER, ["--sectors", "1000"]), (STORAGE, ["--weight", "x"])]
    {
        let mut process = Process::start(program, &args);
        assert_eq!(process.wait().code(), Some(2), "{args:?}");
        process.logged.after("--help");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (dir, addr) = (tempfile::tempdir().unwrap(), taken.local_addr().unwrap().to_string());
    let mut process =
        Process::start(MANAGER, &["--listen", &addr, "--data-dir", &dir.path().to_string_lossy()]);
    assert_eq!(process.wait().code(), Some(1));
    process.logged.after("cannot listen on");
}
