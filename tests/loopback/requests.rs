//! Single requests on the wire: quorums, repeated writes, too many siblings.

use crate::common::client::{Client, terms};
use crate::common::cluster::Cluster;
use gtstore::client::{Context, Reason, Version};
use gtstore::limits::SIBLINGS_MAX;
use gtstore::ring::{Conflict, Durability};
use gtstore::types::Dot;
use gtstore::wire::client::{DataReply, DataRequest, DataResult, Outcome, Terms, Write};
use std::time::{Duration, Instant};

fn stored(reply: DataReply) -> Context {
    match reply.result {
        DataResult::Stored { context } => context,
        other @ (DataResult::Found { .. } | DataResult::Missing { .. } | DataResult::Refused(_)) => {
            panic!("{other:?}")
        }
    }
}

fn found(reply: DataReply) -> (Vec<Version>, Context) {
    match reply.result {
        DataResult::Found { values, context } => (values, context),
        other @ (DataResult::Stored { .. } | DataResult::Missing { .. } | DataResult::Refused(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn a_request_may_choose_its_own_quorum_between_1_and_n() {
    let mut cluster = Cluster::new(3, 3);
    let mut client = Client::of(&cluster.nodes[0].addr());
    let with = |quorum| Terms { quorum, ..terms("", "key") };
    for quorum in 0..=3 {
        let needed = if quorum == 0 { 2 } else { quorum };
        let put = DataRequest::Put { terms: with(quorum), write: client.write("value", None) };
        for request in [put, DataRequest::Get { terms: with(quorum) }] {
            let reply = client.data(request);
            assert!(!matches!(reply.result, DataResult::Refused(_)), "{reply:?}");
            assert_eq!((reply.by.needed, reply.by.slots), (needed, 3));
            assert!(reply.by.answered >= needed, "{reply:?}");
        }
    }
    let put = DataRequest::Put { terms: with(4), write: client.write("value", None) };
    for request in [put, DataRequest::Get { terms: with(4) }] {
        assert_eq!(client.data(request).result, DataResult::Refused(Reason::BadQuorum { n: 3 }));
    }

    // With one node away all three cannot be had, and nothing is written.
    cluster.nodes[2].kill();
    cluster.settle();
    let put = DataRequest::Put { terms: with(3), write: client.write("another", None) };
    for request in [put, DataRequest::Get { terms: with(3) }] {
        let start = Instant::now();
        assert_eq!(client.data(request).result, DataResult::Refused(Reason::NoQuorum));
        assert!(start.elapsed() < Duration::from_secs(1), "known at once, told after {:?}", start.elapsed());
    }
    assert_eq!(client.get("key").as_deref(), Some("value"));
}

#[test]
fn a_key_takes_so_many_siblings_and_then_says_conflict_until_they_are_settled() {
    let cluster = Cluster::new(3, 3);
    cluster.create_keyspace("carts", Conflict::Siblings, Durability::Memory);
    let mut client = Client::of(&cluster.nodes[0].addr());
    let key = || terms("carts", "cart");
    for at in 0..SIBLINGS_MAX {
        let write = client.write(&format!("item{at}"), None);
        stored(client.data(DataRequest::Put { terms: key(), write }));
    }
    let write = client.write("one too many", None);
    let refused = client.data(DataRequest::Put { terms: key(), write }).result;
    let reason = Reason::TooManySiblings { max: SIBLINGS_MAX.try_into().unwrap() };
    assert_eq!(refused, DataResult::Refused(reason));
    assert_eq!(reason.outcome(), Outcome::Conflict);

    let (values, context) = found(client.data(DataRequest::Get { terms: key() }));
    assert_eq!(values.len(), SIBLINGS_MAX);
    let write = client.write("settled", Some(context));
    stored(client.data(DataRequest::Put { terms: key(), write }));
    let (values, _) = found(client.data(DataRequest::Get { terms: key() }));
    assert_eq!(values.len(), 1);
    assert_eq!(&values[0].value[..], b"settled");
}

#[test]
fn a_repeated_write_gets_its_first_dot_on_the_same_node_and_on_another() {
    let cluster = Cluster::new(3, 3);
    cluster.create_keyspace("siblings", Conflict::Siblings, Durability::Sync);
    let mut clients: Vec<_> = cluster.nodes.iter().map(|node| Client::of(&node.addr())).collect();
    // At all three, so that each of them has heard of it.
    let at = Terms { quorum: 3, trace: true, ..terms("siblings", "key") };
    let write = clients[0].write("value", None);
    let mut contexts = Vec::new();
    let mut dots = Vec::new();
    for (client, attempt) in [(0, 0), (0, 0), (1, 1), (2, 1), (0, 2)] {
        let write = Write { attempt, ..write.clone() };
        let reply = clients[client].data(DataRequest::Put { terms: at.clone(), write });
        let stored_dots = reply.by.trace.iter().flat_map(|step| step.dots.iter().copied());
        dots.extend(stored_dots.collect::<Vec<Dot>>());
        contexts.push(stored(reply));
    }
    dots.dedup();
    assert_eq!(dots.len(), 1, "{dots:?}");
    assert!(contexts.iter().all(|context| context.vector == contexts[0].vector), "{contexts:?}");
    let (values, _) = found(clients[1].data(DataRequest::Get { terms: at }));
    assert_eq!(values.iter().map(|version| version.dot).collect::<Vec<_>>(), dots);
}

#[test]
fn a_repeat_of_a_write_does_not_overwrite_what_came_between() {
    let cluster = Cluster::new(3, 3);
    let mut clients: Vec<_> = cluster.nodes.iter().map(|node| Client::of(&node.addr())).collect();
    let all = Terms { quorum: 3, ..terms("", "key") };
    let first = clients[0].write("first", None);
    stored(clients[0].data(DataRequest::Put { terms: all.clone(), write: first.clone() }));
    let second = clients[1].write("second", None);
    stored(clients[1].data(DataRequest::Put { terms: all.clone(), write: second }));
    for client in &mut clients {
        let write = Write { attempt: 1, ..first.clone() };
        stored(client.data(DataRequest::Put { terms: all.clone(), write }));
        assert_eq!(client.get("key").as_deref(), Some("second"));
    }
}
