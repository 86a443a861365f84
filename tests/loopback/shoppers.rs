//! The original assignment's client driver: shoppers who read a cart, add an item, and store it
//! back, all at once and while a node dies.

use crate::common::cluster::Cluster;
use crate::common::wait_until;
use gtstore::client::{Entry, Error, Store};
use gtstore::ring::{Conflict, Durability};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHOPPERS: usize = 4;
const ITEMS_EACH: usize = 25;

type Cart = BTreeSet<String>;

/// Every item of every value: concurrent carts are settled by buying both.
fn cart_of(entry: &Entry) -> Cart {
    let texts = entry.values.iter().map(|version| String::from_utf8(version.value.to_vec()).unwrap());
    texts.flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn add_once(store: &mut Store, key: &str, item: &str) -> Result<Cart, Error> {
    let entry = store.get(key)?;
    let mut cart = cart_of(&entry);
    cart.insert(item.to_owned());
    let text = cart.iter().cloned().collect::<Vec<_>>().join(",");
    store.put_with(key, text, &entry.context)?;
    Ok(cart)
}

/// Adds an item for sure: after an error it looks again at what is there.
fn add(store: &mut Store, key: &str, item: &str) -> Cart {
    wait_until("a cart being stored", || add_once(store, key, item).ok())
}

/// All shop at once; a node is killed when a quarter is done. Gives back each one's last cart.
fn shop(cluster: &mut Cluster, keyspace: &str, key_of: impl Fn(usize) -> String + Sync) -> Vec<Cart> {
    let stored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let shoppers: Vec<_> = (0..SHOPPERS)
            .map(|shopper| {
                let (mut store, key_of, stored) = (cluster.store_in(keyspace, shopper), &key_of, &stored);
                scope.spawn(move || {
                    let mut cart = Cart::new();
                    for item in 0..ITEMS_EACH {
                        cart = add(&mut store, &key_of(shopper), &format!("item{shopper}.{item}"));
                        stored.fetch_add(1, Ordering::Relaxed);
                    }
                    cart
                })
            })
            .collect();
        let quarter = SHOPPERS * ITEMS_EACH / 4;
        wait_until("a quarter of the shopping", || (stored.load(Ordering::Relaxed) >= quarter).then_some(()));
        cluster.nodes[1].kill();
        shoppers.into_iter().map(|shopper| shopper.join().unwrap()).collect()
    })
}

#[test]
fn each_shoppers_last_stored_cart_is_what_everybody_reads_in_an_lww_keyspace() {
    let mut cluster = Cluster::new(3, 3);
    cluster.create_keyspace("carts", Conflict::Lww, Durability::Sync);
    let key_of = |shopper| format!("cart{shopper}");
    let last = shop(&mut cluster, "carts", key_of);
    cluster.start_node(1);
    cluster.settle();
    for at in 0..3 {
        let mut store = cluster.store_in("carts", at);
        for (shopper, cart) in last.iter().enumerate() {
            assert_eq!(cart.len(), ITEMS_EACH);
            let entry = store.get(key_of(shopper)).unwrap();
            assert_eq!(entry.values.len(), 1);
            assert_eq!(cart_of(&entry), *cart);
        }
    }
}

#[test]
fn no_item_of_any_shopper_is_lost_from_a_shared_cart_in_a_siblings_keyspace() {
    let mut cluster = Cluster::new(3, 3);
    cluster.create_keyspace("carts", Conflict::Siblings, Durability::Sync);
    shop(&mut cluster, "carts", |_| "shared".to_owned());
    cluster.start_node(1);
    cluster.settle();
    let items = |shopper| (0..ITEMS_EACH).map(move |item| format!("item{shopper}.{item}"));
    let all: Cart = (0..SHOPPERS).flat_map(items).collect();
    for at in 0..3 {
        let entry = cluster.store_in("carts", at).get("shared").unwrap();
        assert_eq!(cart_of(&entry), all);
    }
}
