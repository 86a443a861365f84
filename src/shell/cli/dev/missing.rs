//! What a dev cluster lacks when it has started all the same, and what can be done about it.
//!
//! Words only, on standard error: standard output is for the processes that run. Called once, when
//! the cluster is ready.

use crate::shell::cli::cluster::damage_advice;
use crate::shell::cli::exit::{CommandResult, Failure};
use crate::wire::client::{ClusterStatus, NodeStatus};
use std::io::Write;

/// Members of the cluster that no process here is.
pub(super) fn members(status: &ClusterStatus) -> impl Iterator<Item = &NodeStatus> {
    status.nodes.iter().filter(|node| !node.health.is_up())
}

/// Tells everything that is not as it should be.
pub(super) fn tell(failed: &[(String, Failure)], status: &ClusterStatus) -> CommandResult {
    let mut err = std::io::stderr().lock();
    for (name, failure) in failed {
        writeln!(err, "gtstore: {name} was not started, the others were: {failure}\n")?;
    }
    for text in lost(status, failed.is_empty()).into_iter().chain(damage_advice(status)) {
        writeln!(err, "gtstore: {text}\n")?;
    }
    Ok(())
}

/// What it means that members are missing. Those that are here and did not start have had their say.
fn lost(status: &ClusterStatus, all_started: bool) -> Option<String> {
    let missing: Vec<String> = members(status).map(|node| format!("node {}", node.node)).collect();
    if missing.is_empty() {
        return None;
    }
    let moving = match status.moving {
        0 => String::new(),
        moving => format!("\n{moving} sectors are moving; those of a missing node wait until it is there."),
    };
    let advice = if all_started {
        "\nNo directory here started as it. Put that back as it was when its node last ran, and start again."
    } else {
        ""
    };
    Some(format!(
        "missing of the {} members of this cluster: {}.\n\
         What has enough copies on the other nodes is served.{moving}{advice}\n\
         If it is gone for good, nothing makes its copies anew yet: to have every copy again, export, \
         and import into a\nnew cluster.",
        status.nodes.len(),
        missing.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::MemberState;
    use crate::types::{Epoch, Health, Incarnation, NodeId};
    use crate::wire::Vitals;

    fn node(id: u32, up: bool) -> NodeStatus {
        NodeStatus {
            node: NodeId(id),
            addr: String::new(),
            zone: String::new(),
            state: MemberState::Normal,
            health: if up { Health::Up } else { Health::Down },
            sectors: (4, 1),
            incarnation: Incarnation(1),
            vitals: Vitals { epoch: Epoch(1), ..Vitals::default() },
        }
    }

    #[test]
    fn missing_members_are_named_and_a_whole_cluster_is_passed_over() {
        let status = |up| ClusterStatus { nodes: vec![node(1, true), node(2, up)], ..Default::default() };
        assert_eq!(lost(&status(true), true), None);
        let said = lost(&status(false), true).unwrap();
        assert!(said.starts_with("missing of the 2 members of this cluster: node 2."), "{said}");
        assert!(said.contains("Put that back") && !said.contains("moving"), "{said}");
        assert!(!lost(&status(false), false).unwrap().contains("Put that back"));
    }
}
