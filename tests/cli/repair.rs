//! `gtstore repair` where it cannot do all that is asked.

use super::{Dev, code, kill, text};
use crate::common::wait_until;

#[test]
fn a_repair_names_who_does_not_answer_and_what_it_could_not_compare() {
    let dev = Dev::start(3, 3, None);
    dev.ok(&["put", "k", "v"]);
    let whole = dev.ok(&["repair", "-o", "plain"]);
    assert_eq!(whole.lines().filter(|row| row.ends_with("\t0\t0")).count(), 3, "{whole}");
    assert!(dev.ok(&["repair", "--no-wait"]).starts_with("Node  Compared"));
    // One that is asked for while this goes on would be of all sectors.
    dev.ok(&["repair"]);
    let output = dev.run(&["repair", "--sector", "1024"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("0 to 1023, not 1024"), "{}", text(&output.stderr));

    let dead = dev.nodes()[2]["id"].as_u64().unwrap();
    kill("KILL", dev.pids()[2]);
    wait_until("all see that a node is down", || {
        let rows = |at| text(&super::run(dev.node_addr(at), &["status", "-o", "plain"], b"").stdout);
        (0..2).all(|at| rows(at).contains("DN")).then_some(())
    });
    let output = dev.run(&["repair", "--sector", "7", "-o", "json"]);
    let said = text(&output.stderr);
    assert_eq!(code(&output), 0, "{said}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["silent"], serde_json::json!([dead]));
    for row in told["nodes"].as_array().unwrap() {
        assert_eq!(
            (&row["compared"], &row["missed"], &row["left"]),
            (&1.into(), &1.into(), &0.into()),
            "{told}"
        );
    }
    assert!(said.contains(&format!("node {dead} does not say how far it is")), "{said}");
    assert!(said.contains("could not compare 1 of its places"), "{said}");

    let output = dev.run(&["repair", "--timeout-ms", "300"]);
    let said = text(&output.stderr);
    assert_eq!((code(&output), said.contains("are left when the time is over")), (4, true), "{said}");
    dev.pids()[..2].iter().for_each(|&pid| kill("KILL", pid));
    let output = dev.run(&["repair"]);
    assert_eq!((code(&output), text(&output.stderr).contains("no node answers")), (4, true), "{output:?}");
}
