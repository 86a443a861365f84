//! One of three nodes dies under load.

use crate::common::cluster::{Cluster, status_of};
use crate::common::{Stop, wait_until};
use gtstore::client::{Error, ErrorKind, Routing, Store, StoreOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Errors must have stopped this long after a node was killed.
const RECOVERED_WITHIN: Duration = Duration::from_secs(2);
/// Of each client. The first two talk to the node that dies, and to another.
const ROUTINGS: [Routing; 4] = [Routing::Forwarder, Routing::Forwarder, Routing::Direct, Routing::Fastest];
const KEYS_EACH: u64 = 10;

/// What reads of one client's own keys may say.
#[derive(Default)]
struct Model {
    /// The last acknowledged value, and later ones whose outcome is not known.
    allowed: BTreeMap<String, BTreeSet<String>>,
}

impl Model {
    fn wrote(&mut self, key: &str, value: String, outcome: Result<(), ErrorKind>) {
        let allowed = self.allowed.entry(key.to_owned()).or_insert_with(|| BTreeSet::from([String::new()]));
        match outcome {
            Ok(()) => *allowed = BTreeSet::from([value]),
            Err(ErrorKind::Unknown) => drop(allowed.insert(value)),
            Err(ErrorKind::Failed | ErrorKind::Refused | ErrorKind::Conflict) => {}
            Err(kind @ (ErrorKind::Timeout | ErrorKind::Usage)) => panic!("a write ended as {kind:?}"),
        }
    }

    fn read(&self, key: &str, value: &str) {
        let allowed = &self.allowed[key];
        assert!(allowed.contains(value), "{key} is {value:?}, not one of {allowed:?}");
    }
}

fn read(store: &mut Store, key: &str) -> Result<String, Error> {
    let entry = store.get(key)?;
    Ok(entry.value().map(|value| String::from_utf8(value.to_vec()).unwrap()).unwrap_or_default())
}

/// Writes and reads its own keys until told to stop; gives back its errors and when they came.
fn load(mut store: Store, client: usize, stop: &Stop, done: &AtomicUsize) -> Vec<(Instant, Error)> {
    let (mut model, mut errors) = (Model::default(), Vec::new());
    for round in 0.. {
        if stop.is_set() {
            break;
        }
        let key = format!("client{client}-key{}", round % KEYS_EACH);
        let value = format!("value{round}");
        let put = store.put(&key, value.clone());
        model.wrote(&key, value, put.as_ref().map(|_| ()).map_err(|error| error.kind));
        let got = read(&mut store, &key);
        if let Ok(value) = &got {
            model.read(&key, value);
        }
        done.fetch_add(usize::from(put.is_ok() && got.is_ok()), Ordering::Relaxed);
        let now = Instant::now();
        errors.extend(put.err().into_iter().chain(got.err()).map(|error| (now, error)));
    }
    errors
}

#[test]
fn one_of_three_killed_under_load_costs_no_answer_and_no_more_than_two_seconds() {
    let mut cluster = Cluster::new(3, 3);
    let (stop, done) = (Stop::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load_from = |(client, routing): (usize, Routing)| {
            let options = StoreOptions { routing, ..cluster.store_from(client).options().clone() };
            let (store, stop, done) = (Store::open(options).unwrap(), &stop, &done);
            scope.spawn(move || load(store, client, stop, done))
        };
        let loads: Vec<_> = ROUTINGS.into_iter().enumerate().map(load_from).collect();
        let running = stop.guard();
        let rounds = |count: usize, of: &str| {
            let from = done.load(Ordering::Relaxed);
            wait_until(of, || (done.load(Ordering::Relaxed) >= from + count).then_some(()));
        };
        rounds(100, "rounds before the kill");
        cluster.nodes[0].kill();
        let killed = Instant::now();
        rounds(50, "rounds right after the kill");
        wait_until("the time allowed to be over", || (killed.elapsed() > RECOVERED_WITHIN).then_some(()));
        rounds(100, "rounds in calm");
        drop(running);
        for load in loads {
            let errors = load.join().unwrap();
            let late: Vec<_> = errors.iter().filter(|error| error.0 > killed + RECOVERED_WITHIN).collect();
            assert!(late.is_empty(), "{late:?}");
            assert!(errors.iter().all(|error| error.0 > killed), "errors before the kill: {errors:?}");
        }
    });
    let status = status_of(&cluster.nodes[1].addr()).unwrap();
    assert_eq!(status.nodes.iter().filter(|node| node.health.is_up()).count(), 2);
}
