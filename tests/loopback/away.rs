//! Owners that are away: what goes on without them, and how they catch up.

use crate::common::client::Client;
use crate::common::cluster::{Cluster, status_of};
use crate::common::process::Server;
use crate::common::wait_until;
use gtstore::client::Store;
use gtstore::types::{Dot, Health, Key, NodeId, SectorId};
use gtstore::wire::client::{ClientReply, ClientRequest, HintStatus};
use gtstore::wire::decode_table;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn value(store: &mut Store, key: &str) -> Option<String> {
    let entry = store.get(key).unwrap();
    entry.value().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// The id of the node at an address.
fn id_of(server: &Server) -> NodeId {
    status_of(&server.addr()).unwrap().observer
}

/// What a node says another is.
fn verdict(observer: &Server, node: NodeId) -> Option<Health> {
    let status = status_of(&observer.addr())?;
    status.nodes.iter().find(|row| row.node == node).map(|row| row.health)
}

fn hints(server: &Server) -> Vec<HintStatus> {
    match Client::of(&server.addr()).ask(&ClientRequest::Hints) {
        Ok(ClientReply::Hints(kept)) => kept,
        other => panic!("{other:?}"),
    }
}

/// Waits until every running node's verdict of this one is the wanted; how long it took.
fn wait_verdict(cluster: &Cluster, node: NodeId, wanted: Health, running: &[usize]) -> Duration {
    let start = Instant::now();
    wait_until(&format!("node {node} to be {wanted} to all others"), || {
        running.iter().all(|&at| verdict(&cluster.nodes[at], node) == Some(wanted)).then_some(())
    });
    start.elapsed()
}

type Held = BTreeMap<(SectorId, Key), Vec<Dot>>;

/// Everything a node holds of the default keyspace: the writes of each key.
fn dump(server: &Server) -> Held {
    let (mut client, mut held, mut after) = (Client::of(&server.addr()), Held::new(), None);
    loop {
        match client.ask(&ClientRequest::Dump { keyspace: String::new(), after }) {
            Ok(ClientReply::Dump { entries, next }) => {
                held.extend(entries.into_iter().map(|entry| {
                    let mut dots: Vec<Dot> = entry.siblings.iter().map(|sibling| sibling.0).collect();
                    dots.sort_unstable();
                    ((entry.sector, entry.key), dots)
                }));
                match next {
                    Some(next) => after = Some(next),
                    None => return held,
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Keys whose owners do not all hold the same.
pub(crate) fn unequal_keys(cluster: &Cluster) -> Vec<String> {
    let table =
        match Client::of(&cluster.nodes[0].addr()).ask(&ClientRequest::Table { known: Default::default() }) {
            Ok(ClientReply::Table(bytes)) => decode_table(bytes).unwrap(),
            other => panic!("{other:?}"),
        };
    let dumps: BTreeMap<NodeId, Held> =
        cluster.nodes.iter().map(|server| (id_of(server), dump(server))).collect();
    let mut keys: Vec<&(SectorId, Key)> = dumps.values().flat_map(BTreeMap::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    let is_equal = |place: &(SectorId, Key)| {
        let mut copies = table.slots(place.0, table.n).iter().map(|slot| dumps[&slot.holder()].get(place));
        let first = copies.next().flatten();
        first.is_some() && copies.all(|copy| copy == first)
    };
    let unequal = keys.into_iter().filter(|place| !is_equal(place));
    unequal.map(|place| String::from_utf8_lossy(&place.1).into_owned()).collect()
}

#[test]
fn with_one_of_three_killed_and_two_copies_every_get_is_right_and_puts_go_on() {
    let mut cluster = Cluster::new(3, 2);
    let mut store = cluster.store_from(0);
    for key in 0..20 {
        store.put(format!("key{key}"), format!("value{key}")).unwrap();
    }
    cluster.nodes[2].kill();
    let mut stores = [cluster.store_from(0), cluster.store_from(1)];
    for key in 0..20 {
        for store in &mut stores {
            assert_eq!(value(store, &format!("key{key}")), Some(format!("value{key}")), "key{key}");
        }
    }
    for key in 0..20 {
        stores[key % 2].put(format!("key{key}"), format!("newer{key}")).unwrap();
        for store in &mut stores {
            assert_eq!(value(store, &format!("key{key}")), Some(format!("newer{key}")), "key{key}");
        }
    }
}

#[test]
fn with_two_of_seven_killed_at_once_every_get_gives_the_newest_value() {
    let mut cluster = Cluster::new(7, 3);
    let mut store = cluster.store_from(0);
    for key in 0..20 {
        store.put(format!("key{key}"), format!("value{key}")).unwrap();
    }
    for key in 0..7 {
        store.put(format!("key{key}"), format!("newer{key}")).unwrap();
    }
    cluster.nodes[3].kill();
    cluster.nodes[5].kill();
    for at in [0, 1, 2, 4, 6] {
        let mut store = cluster.store_from(at);
        for key in 0..20 {
            let newest = if key < 7 { "newer" } else { "value" };
            assert_eq!(value(&mut store, &format!("key{key}")), Some(format!("{newest}{key}")), "key{key}");
        }
    }
}

#[test]
fn two_of_five_that_were_away_are_given_all_they_missed() {
    let mut cluster = Cluster::new(5, 3);
    let mut store = cluster.store_from(0);
    for key in 0..50 {
        store.put(format!("key{key}"), "before").unwrap();
    }
    let away = [id_of(&cluster.nodes[3]), id_of(&cluster.nodes[4])];
    cluster.nodes[3].kill();
    cluster.nodes[4].kill();
    for key in 0..100 {
        store.put(format!("key{key}"), format!("meanwhile{key}")).unwrap();
        assert_eq!(value(&mut store, &format!("key{key}")), Some(format!("meanwhile{key}")));
    }
    let owed = |cluster: &Cluster, nodes: std::ops::Range<usize>| -> BTreeMap<NodeId, u64> {
        let mut owed = BTreeMap::new();
        for hint in nodes.flat_map(|at| hints(&cluster.nodes[at])).filter(|hint| hint.hints > 0) {
            *owed.entry(hint.owed_to).or_insert(0) += hint.hints;
        }
        owed
    };
    let kept: Vec<NodeId> = wait_until("hints for both", || {
        let kept: Vec<NodeId> = owed(&cluster, 0..3).into_keys().collect();
        (kept.len() == 2).then_some(kept)
    });
    assert!(away.iter().all(|node| kept.contains(node)), "{kept:?} are owed, not {away:?}");

    cluster.start_all();
    wait_until("nothing to be owed any more", || owed(&cluster, 0..5).is_empty().then_some(()));
    assert_eq!(unequal_keys(&cluster), [""; 0], "keys whose owners differ");
    for key in 0..100 {
        assert_eq!(value(&mut store, &format!("key{key}")), Some(format!("meanwhile{key}")));
    }
}

#[test]
fn a_node_that_stands_still_is_down_within_three_seconds_and_up_within_two() {
    let mut cluster = Cluster::new(4, 3);
    let still = id_of(&cluster.nodes[1]);
    cluster.nodes[1].process().signal("STOP");
    let took = wait_verdict(&cluster, still, Health::Down, &[0, 2, 3]);
    assert!(took < Duration::from_secs(3), "it was down after {took:?}");
    cluster.nodes[1].process().signal("CONT");
    let took = wait_verdict(&cluster, still, Health::Up, &[0, 2, 3]);
    assert!(took < Duration::from_secs(2), "it was up again after {took:?}");
}

#[test]
fn a_node_that_was_killed_is_down_within_two_seconds() {
    let mut cluster = Cluster::new(4, 3);
    let killed = id_of(&cluster.nodes[1]);
    cluster.nodes[1].kill();
    let took = wait_verdict(&cluster, killed, Health::Down, &[0, 2, 3]);
    assert!(took < Duration::from_secs(2), "it was down after {took:?}");
}

/// Has a node drop messages from and to the others of these ids.
fn drop_from(server: &Server, ids: &[NodeId]) {
    let reply = Client::of(&server.addr()).ask(&ClientRequest::Faults { drop_from: ids.to_vec() });
    assert_eq!(reply, Ok(ClientReply::FaultsSet));
}

#[test]
fn a_node_that_is_cut_off_is_served_around_and_healed() {
    let cluster = Cluster::with_node_args(5, 3, &["--allow-fault-injection"]);
    let ids: Vec<NodeId> = cluster.nodes.iter().map(id_of).collect();
    let mut store = cluster.store_from(0);
    for key in 0..50 {
        store.put(format!("key{key}"), "before").unwrap();
    }
    // Node at 4 runs, but the others and it do not hear each other.
    drop_from(&cluster.nodes[4], &ids[..4]);
    for at in 0..4 {
        drop_from(&cluster.nodes[at], &ids[4..]);
    }
    wait_verdict(&cluster, ids[4], Health::Down, &[0, 1, 2, 3]);
    assert_eq!(verdict(&cluster.nodes[4], ids[4]), Some(Health::Up));
    for key in 0..50 {
        store.put(format!("key{key}"), format!("meanwhile{key}")).unwrap();
        assert_eq!(value(&mut store, &format!("key{key}")), Some(format!("meanwhile{key}")));
    }
    for server in &cluster.nodes {
        drop_from(server, &[]);
    }
    cluster.settle();
    wait_until("nothing to be owed any more", || {
        cluster.nodes.iter().all(|server| hints(server).iter().all(|kept| kept.hints == 0)).then_some(())
    });
    assert_eq!(unequal_keys(&cluster), [""; 0], "keys whose owners differ");
    let mut behind = cluster.store_from(4);
    for key in 0..50 {
        assert_eq!(value(&mut behind, &format!("key{key}")), Some(format!("meanwhile{key}")));
    }
}

#[test]
fn a_path_between_two_nodes_that_is_broken_is_told_from_a_node_that_is_down() {
    let cluster = Cluster::with_node_args(4, 3, &["--allow-fault-injection"]);
    let ids: Vec<NodeId> = cluster.nodes.iter().map(id_of).collect();
    drop_from(&cluster.nodes[0], &[ids[1]]);
    wait_verdict(&cluster, ids[1], Health::CutOff, &[0]);
    wait_verdict(&cluster, ids[0], Health::CutOff, &[1]);
    assert_eq!(verdict(&cluster.nodes[2], ids[0]), Some(Health::Up));
    drop_from(&cluster.nodes[0], &[]);
    cluster.settle();
}

#[test]
fn a_node_that_was_not_allowed_to_injects_no_faults() {
    let cluster = Cluster::new(1, 1);
    let asked = ClientRequest::Faults { drop_from: vec![NodeId(9)] };
    let reply = Client::of(&cluster.nodes[0].addr()).ask(&asked);
    assert!(
        matches!(&reply, Ok(ClientReply::Error(text)) if text.contains("--allow-fault-injection")),
        "{reply:?}"
    );
}

#[test]
fn what_hints_have_no_room_for_comes_all_the_same_when_copies_are_compared() {
    let mut cluster = Cluster::with_node_args(3, 3, &["--hint-bytes", "0"]);
    let mut store = cluster.store_from(0);
    for key in 0..50 {
        store.put(format!("key{key}"), "before").unwrap();
    }
    let away = id_of(&cluster.nodes[2]);
    cluster.nodes[2].kill();
    for key in 0..100 {
        store.put(format!("key{key}"), "meanwhile").unwrap();
    }
    store.delete("key0").unwrap();
    let kept: u64 = cluster.nodes[..2].iter().flat_map(hints).map(|row| row.bytes).sum();
    assert_eq!(kept, 0, "there is room for hints");
    cluster.start_node(2);
    wait_verdict(&cluster, away, Health::Up, &[0, 1]);
    // Nobody reads anything.
    wait_until("the copies to become equal", || unequal_keys(&cluster).is_empty().then_some(()));
}
