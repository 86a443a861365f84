//! Growing, shrinking and replacing, as it is typed: staged, looked at, carried out, refused.

use super::{code, run, text};
use crate::common::cluster::Cluster;
use crate::common::wait_until;
use serde_json::Value;
use std::process::Output;

const KEYS: usize = 200;
/// Of a cluster's manager here; times the copies.
const COPIES: u64 = 64 * 3;

/// A cluster of three that holds data, and nodes that wait to join.
struct Growing {
    cluster: Cluster,
}

impl Growing {
    fn new(waiting: usize, node_args: &[&str]) -> Self {
        let mut cluster = Cluster::with_node_args(3, 3, node_args);
        for _ in 0..waiting {
            cluster.add_node(&[&["--manual"], node_args].concat());
        }
        let growing = Self { cluster };
        let lines: String = (0..KEYS).map(|at| format!("key{at}\tvalue{at}\n")).collect();
        let output = run(&growing.manager(), &["import", "-"], lines.as_bytes());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        growing.wait_for_states("UN UN UN UW UW UW", 3 + waiting);
        // A status may tell of members whose table is not durable yet.
        wait_until("a table with all of them", || {
            (growing.json("query")["nodes"].as_array().unwrap().len() == 3 + waiting).then_some(())
        });
        growing
    }

    fn manager(&self) -> String {
        self.cluster.manager.addr()
    }

    fn run(&self, line: &str) -> Output {
        run(&self.manager(), &line.split_whitespace().collect::<Vec<_>>(), b"")
    }

    /// A command that must succeed; what it says.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(code(&output), 0, "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json"))).unwrap()
    }

    /// A command that must be refused so, and change nothing.
    fn refused(&self, line: &str, expected: i32, said: &str) {
        let before = self.json("cluster plan");
        let output = self.run(line);
        assert_eq!(code(&output), expected, "{line}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(said), "{line}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{line}");
        assert_eq!(self.json("cluster plan"), before, "{line}");
    }

    /// The number of the node that is started as this one.
    fn id(&self, at: usize) -> u64 {
        let (status, addr) = (self.json("status"), self.cluster.nodes[at].addr());
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["addr"] == addr.as_str()).unwrap()["id"].as_u64().unwrap()
    }

    fn states(&self) -> Vec<String> {
        let status = self.json("status");
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the nodes, by number, have the first so many of these states.
    fn wait_for_states(&self, states: &str, count: usize) {
        let expected: Vec<&str> = states.split(' ').take(count).collect();
        wait_until(&format!("states {expected:?}"), || (self.states() == expected).then_some(()));
    }

    /// Every key is there, and every sector has all its copies.
    fn assert_whole(&self) {
        let keys: Vec<String> = (0..KEYS).map(|at| format!("key{at}")).collect();
        let line = format!("mget -o plain {}", keys.join(" "));
        let expected: String = (0..KEYS).map(|at| format!("key{at}\tvalue{at}\n")).collect();
        assert_eq!(self.ok(&line), expected);
        let nodes = self.json("query")["nodes"].as_array().unwrap().clone();
        assert_eq!(nodes.iter().map(|node| node["sectors"].as_u64().unwrap()).sum::<u64>(), COPIES);
    }
}

#[test]
fn nodes_that_wait_join_in_one_plan_one_leaves_and_a_dead_one_is_replaced() {
    let mut growing = Growing::new(2, &[]);
    assert!(growing.ok("status").contains("Waiting: node 4, 5: owns nothing until it is to join"));
    let addr = growing.cluster.nodes[3].addr();

    // Staged, and thought better of; staged again, looked at, and carried out.
    growing.ok(&format!("cluster join {addr}"));
    assert!(growing.ok("cluster revert").starts_with("Forgotten: 1 change."));
    let staged = growing.ok(&format!("cluster join {addr} 5"));
    let plan = growing.json("cluster plan --bytes-per-second 1KiB");
    let epoch = plan["epoch"].as_u64().unwrap();
    assert!(staged.contains(&format!("gtstore cluster apply --epoch {epoch}\n")), "{staged}");
    assert_eq!(plan["staged"].to_string(), r#"[{"change":"join","node":4},{"change":"join","node":5}]"#);
    assert_eq!((plan["moves"].as_u64(), &plan["orphans"]), (Some(COPIES * 2 / 5), &0.into()));
    assert!(plan["bytes"].as_u64() > Some(0) && plan["seconds"].as_u64() > Some(0), "{plan}");
    assert_eq!(plan["nodes"][3]["state_after"], "joining");
    growing.refused(&format!("cluster apply --epoch {}", epoch - 1), 6, "the table has changed since");
    let applied = growing.ok(&format!("cluster apply --epoch {epoch}"));
    assert!(applied.contains("copies of sectors move now"), "{applied}");
    growing.ok("cluster transfers --watch");
    assert_eq!(growing.states(), ["UN"; 5]);
    growing.assert_whole();

    // What has left may stop.
    let gone = growing.id(0);
    growing.ok(&format!("cluster leave {gone} --apply"));
    growing.cluster.nodes[0].process().logged.after("safe to stop");
    growing.cluster.nodes[0].process().signal("TERM");
    assert_eq!(growing.cluster.nodes[0].process().wait().code(), Some(0));
    growing.wait_for_states("UN UN UN UN", 4);
    growing.refused(&format!("cluster join {gone}"), 6, "gone for good");
    growing.assert_whole();

    // What is dead is rebuilt, once it is known to be.
    let dead = growing.id(1);
    growing.refused(&format!("cluster replace {dead}"), 6, "is up");
    growing.cluster.nodes[1].kill();
    wait_until("the manager knows that it is dead", || {
        (code(&growing.run(&format!("cluster replace {dead} --apply"))) == 0).then_some(())
    });
    growing.ok("cluster transfers --watch");
    growing.wait_for_states("UN UN UN", 3);
    growing.assert_whole();
    growing.ok("health");
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_changes_nothing() {
    let growing = Growing::new(1, &[]);
    growing.refused("cluster leave 1", 6, "2 nodes would be left");
    growing.refused("cluster leave 1 2 3 --apply", 6, "nothing was changed");
    growing.refused("cluster leave 4 9", 2, "there is no node 9");
    growing.refused("cluster join 127.0.0.1:1", 2, "there is no node at 127.0.0.1:1");
    growing.refused("cluster move 9 0 1", 2, "there is no node 9");
    growing.refused("cluster move 4 0 1", 6, "cannot own sectors");
    growing.refused("cluster move 1 0 64", 2, "there are 64 sectors");
    growing.refused("cluster replace 1 4", 6, "node 1 is up");
    let epoch = growing.json("cluster plan")["epoch"].as_u64().unwrap();
    growing.refused(&format!("cluster apply --epoch {epoch}"), 6, "nothing is staged");
    growing.ok("cluster weight 1 50");
    growing.refused("cluster join 4 --apply", 6, "node 1 weighs 50");
    let output = run(&growing.cluster.nodes[0].addr(), &["cluster", "plan"], b"");
    assert_eq!((code(&output), text(&output.stderr).contains("manager")), (4, true), "{output:?}");
}

#[test]
fn moves_are_watched_and_called_off() {
    // So slow that they are under way for as long as it takes to look.
    let growing = Growing::new(1, &["--transfer-bytes-per-second", "200"]);
    growing.ok("cluster join 4 --apply");
    let moving = growing.json("cluster transfers");
    let pairs = moving["pairs"].as_array().unwrap();
    assert_eq!((&moving["moving"], &moving["silent"]), (&true.into(), &Value::Array(Vec::new())));
    assert!(pairs.len() == 3 && pairs.iter().all(|pair| pair["to"] == 4), "{moving}");
    assert!(moving["done"].as_u64() < moving["copies"].as_u64(), "{moving}");
    let query = growing.json("query");
    assert!(query["moves"].as_array().unwrap().iter().all(|moves| moves["to"] == 4), "{query}");
    growing.refused("cluster leave 4 --apply", 6, "sectors are moving");

    let said = growing.ok("cluster cancel");
    assert!(said.contains("copies of sectors stay where they are"), "{said}");
    growing.ok("cluster transfers --watch");
    assert_eq!(growing.json("cluster transfers")["moving"], false);
    assert_eq!(growing.json("cluster plan")["moves"], 0);
    growing.assert_whole();
}

#[test]
fn the_shells_short_forms_take_effect_at_once() {
    let growing = Growing::new(1, &[]);
    let lines = "join 4\ncluster transfers --watch\nmove 4 0 7\ncluster transfers --watch\nquery -o json\n";
    let output = run(&growing.manager(), &["shell"], lines.as_bytes());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let query: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let node = &query["nodes"][3];
    assert_eq!((&node["state"], &node["ranges"][0][0]), (&"normal".into(), &0.into()), "{said}");
    assert!(node["ranges"][0][1].as_u64() >= Some(7), "{said}");
    let output = run(&growing.manager(), &["shell"], b"leave 1 2\n");
    assert_eq!(code(&output), 6, "{}", text(&output.stderr));
}
