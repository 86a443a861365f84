//! Values that are to be visible for a while, and what is left of them and of what was deleted.

use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::wait_until;
use gtstore::client::{Store, StoreOptions};
use gtstore::ring::{Conflict, Durability};
use gtstore::wire::client::{ClientReply, ClientRequest};

/// Far more than it takes to read two keys through four nodes.
const TTL_MS: u64 = 5000;

fn value(store: &mut Store, key: &str) -> Option<String> {
    let entry = store.get(key).unwrap();
    entry.value().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn an_expired_value_is_missing_through_every_node_and_can_be_written_again() {
    let cluster = Cluster::new(4, 3);
    let options = StoreOptions { ttl_ms: Some(TTL_MS), ..cluster.store().options().clone() };
    let mut for_a_while = Store::open(options).unwrap();
    let mut stores: Vec<_> = (0..4).map(|at| cluster.store_from(at)).collect();
    for_a_while.put("session", "open").unwrap();
    for_a_while.put("extended", "open").unwrap();
    stores[0].put("extended", "for good").unwrap();
    for store in &mut stores {
        assert_eq!(value(store, "session").as_deref(), Some("open"));
    }
    wait_until("the end of its time", || value(&mut stores[0], "session").is_none().then_some(()));
    for store in &mut stores {
        assert_eq!(value(store, "session"), None);
        assert!(!store.delete("session").unwrap().written, "there is nothing to delete");
        assert_eq!(value(store, "extended").as_deref(), Some("for good"));
    }
    stores[1].put("session", "reopened").unwrap();
    for store in &mut stores {
        assert_eq!(value(store, "session").as_deref(), Some("reopened"));
    }
}

#[test]
fn values_whose_time_is_over_are_no_concurrent_values_of_a_new_one() {
    // By that long their time is to be over, so that it is by any clock.
    let cluster = Cluster::with_node_args(3, 3, &["--reap-after", "1"]);
    cluster.create_keyspace("carts", Conflict::Siblings, Durability::Sync);
    let mut store = cluster.store_in("carts", 0);
    let options = StoreOptions { ttl_ms: Some(1), ..store.options().clone() };
    let mut for_a_moment = Store::open(options).unwrap();
    // More than a key may have side by side.
    for number in 0..70 {
        wait_until("a put that is taken", || for_a_moment.put("cart", format!("item {number}")).ok());
    }
    wait_until("the end of their time", || store.get("cart").unwrap().value().is_none().then_some(()));
    store.put("cart", "anew").unwrap();
    assert_eq!(value(&mut store, "cart").as_deref(), Some("anew"));
}

#[test]
fn nothing_is_left_of_a_key_that_was_deleted_long_ago_on_any_node() {
    let cluster = Cluster::with_node_args(3, 3, &["--reap-after", "1"]);
    let mut store = cluster.store();
    for key in ["deleted", "kept"] {
        store.put(key, "value").unwrap();
    }
    assert!(store.delete("deleted").unwrap().written);
    wait_until("no node to hold the deleted key", || {
        let keys = |at: usize| -> Vec<_> {
            let dump = ClientRequest::Dump { keyspace: String::new(), after: None };
            match Client::of(&cluster.nodes[at].addr()).ask(&dump) {
                Ok(ClientReply::Dump { entries, .. }) => entries.into_iter().map(|entry| entry.key).collect(),
                other => panic!("{other:?}"),
            }
        };
        (0..3).all(|at| keys(at) == ["kept"]).then_some(())
    });
    assert_eq!(value(&mut store, "deleted"), None);
    assert_eq!(value(&mut store, "kept").as_deref(), Some("value"));
}
