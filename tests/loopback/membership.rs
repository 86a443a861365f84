//! Nodes that come and go under load: nothing is lost, and nothing old is read.

use crate::common::client::Client;
use crate::common::cluster::{Cluster, status_of};
use crate::common::process::Server;
use crate::common::wait_until;
use gtstore::client::Store;
use gtstore::ring::{Change, MemberState, Table};
use gtstore::types::{Epoch, NodeId, SectorId};
use gtstore::wire::client::{ClientReply, ClientRequest, ClusterCommand, ClusterPlan};
use gtstore::wire::decode_table;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const KEYS: u64 = 200;

/// What the manager says to a command.
fn command(cluster: &Cluster, command: ClusterCommand) -> Result<ClusterPlan, String> {
    match Client::of(&cluster.manager.addr()).ask(&ClientRequest::Cluster(command)).unwrap() {
        ClientReply::Plan(plan) => Ok(plan),
        ClientReply::Error(text) => Err(text),
        other => panic!("{other:?}"),
    }
}

/// Stages these changes and applies them, as soon as nothing else moves.
fn change(cluster: &Cluster, changes: &[Change]) {
    for &change in changes {
        command(cluster, ClusterCommand::Stage(change)).unwrap();
    }
    wait_until("the plan to be applied", || {
        let plan = command(cluster, ClusterCommand::Plan).unwrap();
        command(cluster, ClusterCommand::Apply { epoch: plan.epoch }).ok()
    });
}

fn table(server: &Server) -> Table {
    match Client::of(&server.addr()).ask(&ClientRequest::Table { known: Epoch(0) }).unwrap() {
        ClientReply::Table(bytes) => decode_table(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn id_of(server: &Server) -> NodeId {
    wait_until("a node to have joined", || {
        status_of(&server.addr()).map(|status| status.observer).filter(|&id| id != NodeId(0))
    })
}

fn wait_state(cluster: &Cluster, node: NodeId, wanted: MemberState) {
    wait_until(&format!("node {node} to be {wanted}"), || {
        let table = table(&cluster.manager);
        (table.members.get(&node)?.state == wanted).then_some(())
    });
}

/// Nothing moves, and nobody is on the way in or out.
fn wait_rest(cluster: &Cluster) {
    wait_until("the membership to be at rest", || {
        let table = table(&cluster.manager);
        let is_at_rest =
            |state| !matches!(state, MemberState::Joining | MemberState::Leaving | MemberState::Lost);
        (!table.is_moving() && table.members.values().all(|member| is_at_rest(member.state))).then_some(())
    });
}

/// Writes numbers that rise, key by key, and reads each before it is written again.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Vec<u64>)>,
}

impl Load {
    fn start(mut store: Store) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut written = vec![0; KEYS as usize];
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                rounds += 1;
                for key in 0..KEYS {
                    let name = format!("key{key}");
                    let held = store.get(&name).unwrap();
                    let held =
                        held.value().map_or(0, |value| String::from_utf8_lossy(value).parse().unwrap());
                    assert!(
                        held >= written[key as usize],
                        "{name} is {held}, after {} was stored",
                        written[key as usize]
                    );
                    store.put(&name, rounds.to_string()).unwrap();
                    written[key as usize] = rounds;
                }
            }
            (rounds, written)
        });
        Self { stop, thread }
    }

    /// Ends it; what it wrote last must be there.
    fn end(self, mut store: Store) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let (rounds, written) = self.thread.join().unwrap();
        for (key, last) in written.into_iter().enumerate() {
            let held = store.get(format!("key{key}")).unwrap();
            assert_eq!(held.value().unwrap(), last.to_string().as_bytes(), "key{key}");
        }
        rounds
    }
}

#[test]
fn all_nodes_are_replaced_one_after_the_other_and_nothing_is_lost() {
    let mut cluster = Cluster::new(3, 3);
    let load = Load::start(cluster.store());
    let dirs = tempfile::tempdir().unwrap();
    for round in 0..6 {
        cluster.add_node_in(&dirs.path().join(round.to_string()), &[]);
        let newest = id_of(cluster.nodes.last().unwrap());
        wait_state(&cluster, newest, MemberState::Normal);
        let oldest = id_of(&cluster.nodes[0]);
        change(&cluster, &[Change::Leave(oldest)]);
        wait_state(&cluster, oldest, MemberState::Left);
        // It is safe to stop: even so.
        cluster.nodes.remove(0).kill();
        wait_rest(&cluster);
    }
    let rounds = load.end(cluster.store());
    assert!(rounds > 3, "only {rounds} rounds were written meanwhile");
    let first: Vec<NodeId> = (1..=6).map(NodeId).collect();
    let table = table(&cluster.manager);
    assert!(first.iter().all(|node| table.members[node].state == MemberState::Left));
}

#[test]
fn a_dead_node_is_replaced_and_told_so_when_it_comes_back() {
    let mut cluster = Cluster::new(4, 3);
    let load = Load::start(cluster.store());
    let dead = id_of(&cluster.nodes[3]);
    cluster.nodes[3].kill();
    let refused = command(&cluster, ClusterCommand::Stage(Change::Replace { dead: NodeId(99), by: None }));
    assert!(refused.unwrap_err().contains("there is no node 99"));
    cluster.add_node(&["--manual"]);
    let by = id_of(&cluster.nodes[4]);
    wait_state(&cluster, by, MemberState::Waiting);
    wait_until("the manager to miss the dead node", || {
        command(&cluster, ClusterCommand::Stage(Change::Replace { dead, by: Some(by) })).ok()
    });
    change(&cluster, &[]);
    wait_state(&cluster, dead, MemberState::Removed);
    wait_rest(&cluster);
    load.end(cluster.store());
    let table = table(&cluster.manager);
    assert_eq!(
        table.loads()[&by].0,
        48,
        "it owns what the dead one owned: 64 sectors of 3 copies on 4 nodes"
    );

    let mut back = cluster.nodes.remove(3);
    back.launch(Some(&cluster.manager.addr()));
    back.process()
        .logged
        .after("was given up as dead, and its sectors are other nodes' now; its data is untouched");
    assert!(!back.process().wait().success());
}

#[test]
fn a_node_told_to_stop_leaves_first_if_it_is_to() {
    let mut cluster = Cluster::with_node_args(4, 3, &["--leave-on-stop"]);
    let load = Load::start(cluster.store());
    let leaver = id_of(&cluster.nodes[0]);
    cluster.nodes[0].process().signal("TERM");
    cluster.nodes[0].process().logged.after("safe to stop");
    assert!(cluster.nodes[0].process().wait().success());
    wait_state(&cluster, leaver, MemberState::Left);
    // Three are left, and each sector has three copies: the next one cannot go, and says so.
    let stuck = id_of(&cluster.nodes[1]);
    cluster.nodes[1].process().signal("TERM");
    cluster.nodes[1].process().logged.after("cannot leave the cluster");
    assert!(cluster.nodes[1].process().wait().success());
    cluster.nodes[1].kill();
    assert_eq!(table(&cluster.manager).members[&stuck].state, MemberState::Normal);
    cluster.nodes.remove(0);
    cluster.start_node(0);
    load.end(cluster.store());
}

#[test]
fn a_plan_is_looked_at_applied_at_its_epoch_and_called_off() {
    let mut cluster = Cluster::with_node_args(3, 3, &["--transfer-bytes-per-second", "1KiB"]);
    let mut store = cluster.store();
    for key in 0..500 {
        store.put(format!("key{key}"), "x".repeat(500)).unwrap();
    }
    cluster.add_node(&["--manual"]);
    let new = id_of(&cluster.nodes[3]);
    wait_state(&cluster, new, MemberState::Waiting);
    let refused = |change: Change, text: &str| {
        let error = command(&cluster, ClusterCommand::Stage(change)).unwrap_err();
        assert!(error.contains(text), "{error}");
    };
    refused(Change::Leave(NodeId(1)), "2 nodes would be left");
    refused(Change::Leave(NodeId(9)), "there is no node 9");
    refused(Change::Move { to: NodeId(9), first: SectorId(0), last: SectorId(3) }, "there is no node 9");
    refused(Change::Move { to: NodeId(1), first: SectorId(0), last: SectorId(64) }, "there are 64 sectors");
    refused(Change::Replace { dead: NodeId(1), by: None }, "node 1 is up");
    let nothing = command(&cluster, ClusterCommand::Apply { epoch: table(&cluster.manager).epoch });
    assert_eq!(nothing.unwrap_err(), "nothing is staged");

    let before = table(&cluster.manager);
    let plan = command(&cluster, ClusterCommand::Stage(Change::Join(new))).unwrap();
    assert_eq!((plan.moves, plan.staged.len()), (48, 1), "{plan:?}");
    let stale = command(&cluster, ClusterCommand::Apply { epoch: before.epoch }).unwrap_err();
    assert!(stale.contains("the table has changed since"), "{stale}");
    command(&cluster, ClusterCommand::Revert).unwrap();
    assert_eq!(table(&cluster.manager).sectors, before.sectors);

    change(&cluster, &[Change::Join(new)]);
    let moving = table(&cluster.manager);
    assert!(moving.is_moving() && moving.members[&new].state == MemberState::Joining);
    let busy = command(&cluster, ClusterCommand::Stage(Change::Leave(NodeId(1)))).unwrap();
    let busy = command(&cluster, ClusterCommand::Apply { epoch: busy.epoch }).unwrap_err();
    assert!(busy.contains("sectors are moving"), "{busy}");
    command(&cluster, ClusterCommand::Revert).unwrap();
    command(&cluster, ClusterCommand::Cancel).unwrap();
    let after = table(&cluster.manager);
    assert!(!after.is_moving());
    for key in 0..500 {
        assert!(store.get(format!("key{key}")).unwrap().value().is_some(), "key{key}");
    }
}

#[test]
fn nothing_is_served_before_as_many_nodes_are_there_as_were_asked_for() {
    let mut cluster = Cluster::of(0, 1, 64, &["--min-nodes", "3"]);
    cluster.add_node(&[]);
    cluster.add_node(&[]);
    id_of(&cluster.nodes[1]);
    let mut store = cluster.store();
    let error = store.put("key", "value").unwrap_err().to_string();
    assert!(error.contains('3'), "{error}");
    assert!(!table(&cluster.manager).is_serving());
    cluster.add_node(&[]);
    cluster.settle();
    cluster.store().put("key", "value").unwrap();
}
