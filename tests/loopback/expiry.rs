//! Values that are to be visible for a while.

use crate::common::cluster::Cluster;
use crate::common::wait_until;
use gtstore::client::{Store, StoreOptions};

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
