//! Concurrent versions: looked at, settled, and never settled away unseen.

use super::{Dev, code, text};
use crate::common::wait_until;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cluster with a `siblings` keyspace.
fn with_carts() -> Dev {
    let dev = Dev::start(3, 3, None);
    dev.ok(&["keyspace", "create", "carts", "--conflict", "siblings"]);
    wait_until("the nodes know the keyspace", || {
        (code(&dev.run(&["-k", "carts", "get", "nothing"])) == 3).then_some(())
    });
    dev
}

/// What `siblings` says of a key in JSON.
fn seen(dev: &Dev, key: &str) -> Value {
    serde_json::from_str(&dev.ok(&["-k", "carts", "siblings", key, "-o", "json"])).unwrap()
}

fn versions(seen: &Value) -> &Vec<Value> {
    seen["versions"].as_array().unwrap()
}

#[test]
fn a_key_s_versions_are_shown_with_the_context_that_settles_them() {
    let dev = with_carts();
    dev.ok(&["-k", "carts", "put", "ann", "apples"]);
    let one = dev.ok(&["-k", "carts", "siblings", "ann"]);
    assert!(one.contains("apples") && one.contains("One version: there is nothing to settle."), "{one}");
    let long = format!("tab\there {}", "x".repeat(1000));
    dev.ok(&["-k", "carts", "put", "ann", &long, "--ttl", "1d"]);

    let seen = seen(&dev, "ann");
    let found = versions(&seen);
    let mut values: Vec<_> = found.iter().map(|version| version["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["apples", long.as_str()]);
    let numbers: Vec<_> = found.iter().map(|version| version["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(found.iter().filter(|version| version["expires_ms"].is_u64()).count(), 1);
    let year = found[0]["written"].as_str().unwrap();
    assert!(year.starts_with("20") && year.ends_with('Z') && year.len() == 24, "{year}");

    let context = seen["context"].as_str().unwrap();
    let table = dev.ok(&["-k", "carts", "siblings", "ann"]);
    assert!(
        table.contains("2 concurrent versions.") && table.contains(&format!("Context: {context}")),
        "{table}"
    );
    assert!(
        table.contains("tab\\there xxx") && table.contains("xxx...") && !table.contains(&long[8..]),
        "{table}"
    );
    let plain = dev.ok(&["-k", "carts", "siblings", "ann", "-o", "plain"]);
    let fields: Vec<Vec<&str>> = plain.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((fields.len(), fields[0].len(), fields[1][6]), (2, 7, context), "{plain}");
    assert_eq!(fields[0][1], found[0]["dot"].as_str().unwrap());

    dev.ok(&["-k", "carts", "put", "ann", "both", "--context", context]);
    assert_eq!(dev.ok(&["-k", "carts", "get", "ann"]), "both\n");
    let output = dev.run(&["-k", "carts", "siblings", "nobody"]);
    assert_eq!((code(&output), text(&output.stderr).contains("\"nobody\" not found")), (3, true));
}

#[test]
fn versions_are_settled_by_number_name_stamp_value_or_not_at_all() {
    let dev = with_carts();
    let two = || {
        dev.run(&["-k", "carts", "del", "ann"]);
        dev.ok(&["-k", "carts", "put", "ann", "apples"]);
        dev.ok(&["-k", "carts", "put", "ann", "pears"]);
        let seen = seen(&dev, "ann");
        assert_eq!(versions(&seen).len(), 2);
        seen
    };
    let resolve = |more: &[&str]| dev.run(&[&["-k", "carts", "resolve", "ann"], more].concat());
    let settled = |more: &[&str], left: &str| {
        let output = resolve(more);
        assert_eq!(code(&output), 0, "{more:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("OK, settled 2 versions of \"ann\""), "{output:?}");
        assert_eq!(dev.ok(&["-k", "carts", "get", "ann"]), format!("{left}\n"));
    };
    let seen = two();
    settled(&["--keep", "2"], versions(&seen)[1]["value"].as_str().unwrap());
    let again = resolve(&["--keep", "2"]);
    assert_eq!((code(&again), text(&again.stdout).contains("nothing to settle")), (0, true));
    let seen = two();
    let first = &versions(&seen)[0];
    settled(&["--keep", first["dot"].as_str().unwrap()], first["value"].as_str().unwrap());
    two();
    settled(&["--latest"], "pears");
    two();
    settled(&["--value", "apples, pears"], "apples, pears");
    two();
    assert_eq!(code(&resolve(&["--delete"])), 0);
    for missing in [&["--latest"][..], &["--keep", "1"], &["--delete"]] {
        assert_eq!(code(&resolve(missing)), 3, "{missing:?}");
    }
    let json: Value = {
        two();
        serde_json::from_slice(&resolve(&["--latest", "-o", "json"]).stdout).unwrap()
    };
    assert_eq!((&json["result"], &json["versions"]), (&"settled".into(), &2.into()));
    let json: Value = serde_json::from_slice(&resolve(&["--latest", "-o", "json"]).stdout).unwrap();
    assert_eq!((&json["result"], &json["versions"]), (&"nothing_to_settle".into(), &1.into()));
    for wrong in [&[][..], &["--keep", "0"], &["--keep", "1", "--delete"]] {
        assert_eq!(code(&resolve(wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn what_has_changed_since_it_was_looked_at_is_not_settled() {
    let dev = with_carts();
    dev.ok(&["-k", "carts", "put", "ann", "apples", "--ttl", "1d"]);
    dev.ok(&["-k", "carts", "put", "ann", "pears", "--ttl", "1d"]);
    let before = seen(&dev, "ann");
    dev.ok(&["-k", "carts", "put", "ann", "figs"]);
    let context = before["context"].as_str().unwrap();
    let refused = |args: &[&str], said: &str| {
        let output = dev.run(&[&["-k", "carts", "resolve", "ann"], args].concat());
        assert_eq!(code(&output), 6, "{args:?}");
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    };
    refused(&["--keep", "1", "--context", context], "no longer those of that context; nothing was written");
    refused(&["--keep", "4"], "no such version among the 3");
    refused(&["--keep", "9.9:9"], "no such version among the 3");
    let now = seen(&dev, "ann");
    assert_eq!(versions(&now).len(), 3);

    let first = versions(&now).iter().find(|version| version["value"] == "apples").unwrap();
    let (number, context) = (first["number"].to_string(), now["context"].as_str().unwrap());
    dev.ok(&["-k", "carts", "resolve", "ann", "--keep", &number, "--context", context]);
    let kept = seen(&dev, "ann");
    let left = versions(&kept)[0]["expires_ms"].as_u64().unwrap();
    assert_eq!((versions(&kept).len(), &versions(&kept)[0]["value"]), (1, &"apples".into()));
    assert!(left.abs_diff(first["expires_ms"].as_u64().unwrap()) < 60_000, "the time that it had left");
}

#[test]
fn a_write_that_comes_between_stays_and_is_told() {
    let (dev, done) = (with_carts(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut options = gtstore::client::StoreOptions::new(dev.manager());
            options.keyspace = "carts".to_owned();
            let mut store = gtstore::client::Store::open(options).unwrap();
            while !done.load(Ordering::Relaxed) {
                // Refused while there are too many of them: until they are settled again.
                let _ = store.put("ann", "one more");
            }
        });
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("a write between the read and the settling", || {
                let output = dev.run(&["-k", "carts", "resolve", "ann", "--value", "settled"]);
                (code(&output) == 6 && text(&output.stderr).contains("came in between and stay"))
                    .then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        told.unwrap();
    });
    assert!(versions(&seen(&dev, "ann")).iter().any(|version| version["value"] == "one more"));
}
