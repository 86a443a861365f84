//! SIGTERM, SIGSTOP and SIGCONT.

use crate::common::client::{Client, terms, worth};
use crate::common::cluster::{Cluster, status_of};
use crate::common::wait_until;
use gtstore::client::{Call, Error, ErrorKind, Item, Reason, Store, Target};
use gtstore::limits::REQUEST_TTL_MS;
use gtstore::ring::Table;
use gtstore::types::Epoch;
use gtstore::wire::client::{ClientReply, ClientRequest, DataRequest, DataResult};
use gtstore::wire::decode_table;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[test]
fn sigterm_finishes_what_is_in_hand_and_what_was_acknowledged_is_there_later() {
    const WRITES: usize = 2000;
    let mut cluster = Cluster::new(1, 1);
    let mut client = Client::of(&cluster.nodes[0].addr());
    client.put("before", "value");
    let asked: BTreeMap<_, _> = (0..WRITES)
        .map(|at| {
            let write = client.write(&format!("value{at}"), None);
            let put = DataRequest::Put { terms: terms("", &format!("key{at}")), write };
            (client.begin(&worth(put)), at)
        })
        .collect();
    let mut stored = Vec::new();
    let node = cluster.nodes[0].process();
    // From the first answer on there is something in hand.
    let (request, _) = client.next().unwrap();
    stored.push(asked[&request]);
    node.signal("TERM");
    while let Ok((request, reply)) = client.next() {
        match reply {
            ClientReply::Data(reply) => match reply.result {
                DataResult::Stored { .. } => stored.push(asked[&request]),
                DataResult::Refused(reason) => assert_eq!(reason, Reason::Stopping),
                other @ (DataResult::Found { .. } | DataResult::Missing { .. }) => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(node.wait().code(), Some(0));

    cluster.nodes[0].kill();
    cluster.start_node(0);
    cluster.settle();
    let mut store = cluster.store();
    for (at, entry) in stored.iter().zip(store.get_many(stored.iter().map(|at| format!("key{at}")))) {
        assert_eq!(entry.unwrap().value().unwrap(), format!("value{at}").as_bytes());
    }
}

#[test]
fn an_idle_cluster_ends_at_once_when_told_to() {
    let mut cluster = Cluster::new(3, 3);
    cluster.store().put("key", "value").unwrap();
    let start = Instant::now();
    for server in cluster.nodes.iter_mut().chain([&mut cluster.manager]) {
        server.process().signal("TERM");
    }
    for server in cluster.nodes.iter_mut().chain([&mut cluster.manager]) {
        assert_eq!(server.process().wait().code(), Some(0));
    }
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

fn rounds(store: &mut Store, name: &str, count: usize) {
    for round in 0..count {
        let (key, value) = (format!("key{round}"), format!("{name}{round}"));
        let start = Instant::now();
        store.put(&key, value.clone()).unwrap();
        assert_eq!(store.get(key).unwrap().value().unwrap(), value.as_bytes());
        let deadline = 2 * Duration::from_millis(u64::from(REQUEST_TTL_MS));
        assert!(start.elapsed() < deadline, "a put and a get took {:?}", start.elapsed());
    }
}

#[test]
fn a_stopped_node_stops_nobody_else_and_is_one_of_them_again_when_it_goes_on() {
    let mut cluster = Cluster::new(3, 3);
    let mut store = cluster.store();
    rounds(&mut store, "before", 20);
    cluster.nodes[2].process().signal("STOP");
    rounds(&mut store, "stopped", 40);
    rounds(&mut cluster.store_from(1), "stopped too", 40);
    let pairs: Vec<_> = (0..500).map(|at| (format!("many{at}"), format!("value{at}"))).collect();
    for result in store.put_many(pairs.clone()) {
        result.unwrap();
    }
    // Whose contact is the stopped one finds another.
    rounds(&mut cluster.store_from(2), "contact stopped", 5);
    cluster.nodes[2].process().signal("CONT");
    wait_until("an answer of the one that was stopped", || status_of(&cluster.nodes[2].addr()));
    cluster.settle();
    let mut client = Client::of(&cluster.nodes[2].addr());
    for (key, value) in pairs {
        assert_eq!(client.get(&key), Some(value));
    }
    assert_eq!(client.get("key0").as_deref(), Some("contact stopped0"));
    assert_eq!(client.get("key30").as_deref(), Some("stopped too30"));
    client.put("key0", "through it");
    assert_eq!(store.get("key0").unwrap().value().unwrap(), "through it");
}

fn table_of(store: &mut Store) -> Table {
    match store.ask(Target::Any, ClientRequest::Table { known: Epoch(0) }).unwrap() {
        ClientReply::Table(bytes) => decode_table(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// One copy of three answers, two are needed: said in time, by whoever was asked.
fn says_one_of_three(error: &Error) {
    assert_eq!(error.reason, Some(Reason::NoQuorum), "{error}");
    assert_eq!((error.answered, error.needed, error.slots), (1, 2, 3), "{error}");
}

#[test]
fn with_two_of_three_stopped_a_read_says_that_one_answered_and_says_it_in_time() {
    let mut cluster = Cluster::new(3, 3);
    let mut store = cluster.store();
    store.put("key", "value").unwrap();
    for node in &mut cluster.nodes[1..] {
        node.process().signal("STOP");
    }
    // The second time it has learned who is slow.
    for _ in 0..2 {
        let start = Instant::now();
        says_one_of_three(&store.get("key").unwrap_err());
        let took = start.elapsed();
        assert!(took < Duration::from_millis(u64::from(REQUEST_TTL_MS) + 200), "told after {took:?}");
    }
    store
        .get_many(["key", "key2", "key3"])
        .iter()
        .for_each(|read| says_one_of_three(read.as_ref().unwrap_err()));
}

#[test]
fn a_read_by_way_of_a_node_that_is_no_owner_says_so_too() {
    let mut cluster = Cluster::new(4, 3);
    let mut store = cluster.store_from(0);
    store.put("key", "value").unwrap();
    let table = table_of(&mut store);
    let at_of = |id| {
        let addr = &table.members[&id].addr;
        cluster.nodes.iter().position(|node| node.addr() == *addr).unwrap()
    };
    let owners: Vec<usize> = table.sector(table.sector_of(b"key")).holders(3).map(at_of).collect();
    let forwarder = (0..4).find(|at| !owners.contains(at)).unwrap();
    let mut store = cluster.store_from(forwarder);
    store.get("key").unwrap();
    for at in &owners[..2] {
        cluster.nodes[*at].process().signal("STOP");
    }
    // The forwarder may stand in for one of them, but not in a strict quorum.
    let item = Item { strict: true, ..store.item("key", 0) };
    says_one_of_three(&store.call(Call::Get { item }).unwrap_err());
}

#[test]
fn a_manager_that_hangs_is_told_by_name_and_passed_by_if_a_node_is_named_too() {
    let mut cluster = Cluster::new(1, 1);
    cluster.store().put("key", "value").unwrap();
    cluster.manager.process().signal("STOP");
    let manager = cluster.manager.addr();
    let text = Store::connect(&manager).unwrap_err().to_string();
    assert!(text.contains(&format!("{manager} accepts connections but does not answer")), "{text}");
    assert!(text.contains(&format!("--manager {manager},NODE:PORT")), "{text}");

    let start = Instant::now();
    let mut store = Store::connect(&format!("{manager},{}", cluster.nodes[0].addr())).unwrap();
    assert_eq!(store.get("key").unwrap().value().unwrap(), "value");
    assert!(start.elapsed() < Duration::from_millis(900), "it took {:?}", start.elapsed());
}

#[test]
fn with_every_server_gone_a_call_ends_long_before_its_time() {
    let mut cluster = Cluster::new(3, 3);
    let mut store = cluster.store();
    store.put("key", "value").unwrap();
    for node in &mut cluster.nodes {
        node.kill();
    }
    // The manager is there, and names nodes that are not.
    for _ in 0..2 {
        let start = Instant::now();
        let error = store.get("key").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failed, "{error}");
        assert!(start.elapsed() < Duration::from_secs(1), "{error} after {:?}", start.elapsed());
    }
    cluster.manager.kill();
    let error = cluster.store().put("key", "value").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
    assert!(error.text.contains("nothing was written"), "{error}");
}
