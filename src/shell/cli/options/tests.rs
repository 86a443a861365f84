//! Command lines that are understood, and those that are not.

use super::*;
use crate::types::{Epoch, NodeId, SectorId};

fn parsed(line: &str) -> Result<Parsed, Failure> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&args, &Globals::default())
}

fn run(line: &str) -> (Globals, Command) {
    match parsed(line).unwrap() {
        Parsed::Run(globals, command) => (globals, *command),
        other => panic!("{other:?}"),
    }
}

#[test]
fn globals_may_stand_before_or_after_the_command() {
    let before = run("-k carts -o json -r 1 --manager a:1,b:2 get k");
    let after = run("get k --manager a:1,b:2 -r 1 -o json -k carts");
    assert_eq!(before, after);
    assert_eq!(before.0.store.addrs, ["a:1", "b:2"]);
    assert_eq!((before.0.store.r, before.0.store.keyspace.as_str()), (1, "carts"));
}

#[test]
fn the_assignments_forms_are_commands() {
    let (key, value) = ("K".to_owned(), "V".to_owned());
    assert_eq!(run("--put K --val V").1, Command::AssignedPut { key: key.clone(), value });
    assert_eq!(run("--get K").1, Command::AssignedGet { key });
    assert!(parsed("--put K").is_err());
    assert!(parsed("--put K --val V --get K").is_err());
    assert!(parsed("--put K --val V extra").is_err());
}

#[test]
fn a_keyspaces_quorums_are_its_own_with_one_dash_or_two() {
    let (globals, command) = run("keyspace create c --n 3 --r=2 -w 1 --conflict siblings --durability os");
    assert_eq!((globals.store.r, globals.store.w), (0, 0));
    let Command::KeyspaceCreate(new) = command else { panic!("{command:?}") };
    assert_eq!((new.n, new.r, new.w), (Some(3), Some(2), Some(1)));
    assert_eq!((new.conflict, new.durability), (Conflict::Siblings, Durability::Os));
}

#[test]
fn after_two_dashes_everything_is_taken_literally() {
    let (key, value) = ("--r=1".to_owned(), "-v".to_owned());
    assert_eq!(run("put -- --r=1 -v").1, Command::Put { key, value });
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "frobnicate",
        "put k",
        "get",
        "mget",
        "status now",
        "get k --node 1",
        "get k -o xml",
        "get k -r x",
        "dev --nodes 2 --rep 3",
        "dev --nodes 0",
        "dev --cache-bytes much",
        "get k --cache-bytes 1G",
        "trace get",
        "trace put k",
        "keyspace drop c",
        "put k v --context zz",
        "put k v -r 2",
        "get k -w 2",
        "del k -r 2",
        "export f -w 2",
        "trace get k -w 2",
        "trace get k --context 00",
        "keyspace list --n 2",
        "put k v --ttl 0s",
        "put k v --ttl 10",
        "put k v --ttl soon",
        "get k --ttl 10s",
        "del k --ttl 10s",
        "export f --ttl 10s",
        "status --strict",
        "status --watch",
        "health now",
        "repair now",
        "repair --sector all",
        "repair --sector 65536",
        "hints --sector 1",
        "repair -k default",
        "owners k --strict",
        "status -r 1",
        "get k --manager nonsense",
        "get k --routing magic",
        "siblings",
        "siblings k --keep 1",
        "resolve k",
        "resolve k --keep 0",
        "resolve k --keep 1.2",
        "resolve k --keep 1 --latest",
        "resolve k v --latest",
        "resolve k --latest --ttl 1s",
        "cluster",
        "cluster grow",
        "cluster join",
        "cluster leave 0",
        "cluster leave here",
        "cluster replace 1 2 3",
        "cluster move 1 0",
        "cluster move 1 0 65536",
        "cluster weight 1 -1",
        "cluster plan now",
        "cluster plan --bytes-per-second 0",
        "cluster plan --bytes-per-second much",
        "cluster plan --apply",
        "cluster apply",
        "cluster apply --epoch latest",
        "cluster apply 7",
        "cluster join 4 --epoch 7",
        "cluster revert --watch",
        "query 1",
        "join 4",
        "--nonsense",
    ] {
        let failure = parsed(line).unwrap_err();
        assert_eq!(failure.exit, super::super::exit::Exit::Usage, "{line}");
        assert!(!failure.text.is_empty(), "{line}");
    }
}

#[test]
fn how_long_and_who_counts_are_terms_of_the_request() {
    let terms = |line| {
        let store = run(line).0.store;
        (store.ttl_ms, store.strict)
    };
    assert_eq!(terms("put k v --ttl 1500ms --strict"), (Some(1500), true));
    assert_eq!(terms("import f --ttl 2h"), (Some(7_200_000), false));
    for line in ["get k --strict", "del k --strict", "trace get k --strict", "trace put k v --strict"] {
        assert_eq!(terms(line), (None, true), "{line}");
    }
}

#[test]
fn a_number_or_name_beyond_its_limits_is_refused_with_the_limit() {
    let long = format!("owners {}", "k".repeat(KEY_BYTES_MAX + 1));
    for (line, limit) in [
        ("get k -r 0", "-r takes 1 to 7 replicas"),
        ("get k --r 8", "-r takes 1 to 7 replicas"),
        ("put k v -w 0", "-w takes 1 to 7 replicas"),
        ("keyspace create c --w=many", "-w takes a number of copies"),
        ("get k --timeout-ms 0", "--timeout-ms takes 1 to 60000 milliseconds"),
        ("get k --timeout-ms 60001", "--timeout-ms takes 1 to 60000 milliseconds"),
        ("get k --timeout-ms -1", "--timeout-ms takes 1 to 60000 milliseconds"),
        ("get k --keyspace=", "1 to 64"),
        (&long, "1 to 1024 bytes"),
    ] {
        let failure = parsed(line).unwrap_err();
        assert_eq!(failure.exit, super::super::exit::Exit::Usage, "{line}");
        assert!(failure.text.contains(limit), "{line}: {failure}");
    }
    let negative = parsed("put neg -5").unwrap_err();
    assert!(
        negative.text.contains("no option '-5'") && negative.text.contains("put -- KEY -5"),
        "{negative}"
    );
    let owners = parse(&["owners".to_owned(), String::new()], &Globals::default());
    assert!(owners.unwrap_err().text.contains("1 to 1024 bytes"));
    assert_eq!(run("get k -r 7 --timeout-ms 60000").0.store.timeout_ms, 60_000);
}

#[test]
fn a_key_is_resolved_in_just_one_way() {
    let choice = |line| match run(line).1 {
        Command::Resolve { choice, .. } => choice,
        other => panic!("{other:?}"),
    };
    assert_eq!(choice("resolve k --keep 2"), Choice::KeepNumber(2));
    assert_eq!(choice("resolve --keep 2.1:7 k"), Choice::KeepDot("2.1:7".to_owned()));
    assert_eq!(choice("resolve k --value v"), Choice::Value("v".to_owned()));
    assert_eq!(
        (choice("resolve k --latest"), choice("resolve k --delete")),
        (Choice::Latest, Choice::Delete)
    );
}

#[test]
fn a_small_dev_cluster_has_no_more_copies_than_nodes() {
    let rep = |line| match run(line).1 {
        Command::Dev(options) => options.rep,
        other => panic!("{other:?}"),
    };
    assert_eq!((rep("dev"), rep("dev --nodes 1"), rep("dev --nodes 7 --rep 1")), (3, 1, 1));
}

#[test]
fn help_is_found_wherever_it_is_asked_for() {
    assert_eq!(parsed("--help"), Ok(Parsed::Help(None)));
    assert_eq!(parsed("help put"), Ok(Parsed::Help(Some("put".to_owned()))));
    assert_eq!(parsed("put -h"), Ok(Parsed::Help(Some("put".to_owned()))));
    assert_eq!(parsed(""), Ok(Parsed::Nothing));
}

#[test]
fn changes_of_the_membership_name_nodes_by_number_or_address() {
    let staged = |line| match run(line).1 {
        Command::Cluster(ClusterAction::Stage { changes, applies }) => (changes, applies),
        other => panic!("{other:?}"),
    };
    let (node, addr) = (Named::Id(NodeId(4)), Named::Addr("n5:7401".to_owned()));
    let joins = vec![Typed::Join(node.clone()), Typed::Join(addr.clone())];
    assert_eq!(staged("cluster join 4 n5:7401"), (joins, false));
    let replaced = |by| vec![Typed::Replace { dead: node.clone(), by }];
    assert_eq!(staged("cluster replace 4"), (replaced(None), false));
    assert_eq!(staged("cluster --apply replace 4 n5:7401"), (replaced(Some(addr)), true));
    let moved = Typed::Move { to: node.clone(), first: SectorId(0), last: SectorId(7) };
    assert_eq!(staged("cluster move 4 0 7"), (vec![moved], false));
    assert_eq!(staged("cluster weight 4 0"), (vec![Typed::Weight { node, weight: 0 }], false));

    let action = |line| match run(line).1 {
        Command::Cluster(action) => action,
        other => panic!("{other:?}"),
    };
    let plan = ClusterAction::Plan { bytes_per_second: Some(50 << 20) };
    assert_eq!(action("cluster plan --bytes-per-second 50MiB"), plan);
    assert_eq!(action("cluster apply --epoch 7"), ClusterAction::Apply { epoch: Epoch(7) });
    assert_eq!(action("cluster transfers --watch"), ClusterAction::Transfers { watches: true });
}

#[test]
fn help_is_had_of_a_second_word_too() {
    let about = |line| match parsed(line) {
        Ok(Parsed::Help(about)) => about,
        other => panic!("{other:?}"),
    };
    assert_eq!(about("help cluster join").as_deref(), Some("cluster join"));
    assert_eq!(about("cluster join 4 --help").as_deref(), Some("cluster join"));
    assert_eq!((about("help"), about("--help")), (None, None));
}
