//! `partition 1,2|3,4,5` and `heal`: nodes that do not hear each other, though all of them run.
//!
//! The nodes drop the messages themselves (`--allow-fault-injection`, which `dev` gives to its
//! nodes); clients and the manager go on reaching all of them.

use super::{SharedCluster, lock};
use crate::client::{Store, StoreOptions};
use crate::shell::cli::everyone::{ask_each, other_answer};
use crate::shell::cli::exit::{CommandResult, Exit, Failure};
use crate::types::NodeId;
use crate::wire::client::{ClientReply, ClientRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Nodes that hear each other.
type Group = BTreeSet<NodeId>;

/// `partition GROUPS`.
pub(super) fn part(shared: &SharedCluster, groups: &str, out: &mut dyn Write) -> CommandResult {
    let nodes = running(shared);
    let groups = parse(groups).map_err(|why| Failure::usage_of("dev", &why))?;
    for node in groups.iter().flatten() {
        if !nodes.contains_key(node) {
            return Err(Failure::usage_of("dev", &format!("no node {node} runs here; see 'processes'")));
        }
    }
    tell(nodes, |node| dropped_by(&groups, node))?;
    Ok(writeln!(out, "the groups do not hear each other; 'heal' ends that")?)
}

/// `heal`.
pub(super) fn heal(shared: &SharedCluster, out: &mut dyn Write) -> CommandResult {
    tell(running(shared), |_| Vec::new())?;
    Ok(writeln!(out, "all nodes hear each other again")?)
}

/// The nodes that run, and where they listen.
fn running(shared: &SharedCluster) -> BTreeMap<NodeId, String> {
    let mut cluster = lock(shared);
    let nodes = cluster.nodes.iter_mut();
    let running = nodes.filter_map(|node| (node.id != 0 && node.process.pid().is_some()).then_some(&*node));
    running.map(|node| (NodeId(node.id), node.addr.clone())).collect()
}

/// Tells every node whose messages it is to drop.
fn tell(nodes: BTreeMap<NodeId, String>, dropped: impl Fn(NodeId) -> Vec<NodeId>) -> CommandResult {
    let addrs: Vec<String> = nodes.values().cloned().collect();
    let mut store = Store::open(StoreOptions::new(&addrs.join(",")))?;
    let questions = nodes.into_iter().map(|(node, addr)| {
        let drop_from = dropped(node);
        (node, addr, ClientRequest::Faults { drop_from })
    });
    let answers = ask_each(&mut store, questions, |reply| {
        if reply == ClientReply::FaultsSet { Ok(()) } else { Err(other_answer(&reply)) }
    });
    let failed = answers.into_iter().filter_map(|(node, answer)| Some((node, answer.err()?)));
    let failed: Vec<String> = failed.map(|(node, why)| format!("node {node} was not told: {why}")).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Error, failed.join("\n"))) }
}

/// `1,2|3,4,5`: groups of nodes, each node in one at most.
fn parse(text: &str) -> Result<Vec<Group>, String> {
    let wrong = || format!("'{text}' is no partition: name two groups of nodes or more, as in 1,2|3,4,5");
    let mut named = BTreeSet::new();
    let mut groups = Vec::new();
    for part in text.split('|') {
        let mut group = Group::new();
        for number in part.split(',') {
            let node = number.trim().parse().ok().filter(|&id| id != 0).map(NodeId).ok_or_else(wrong)?;
            if !named.insert(node) {
                return Err(format!("node {node} is named twice"));
            }
            group.insert(node);
        }
        groups.push(group);
    }
    if groups.len() < 2 { Err(wrong()) } else { Ok(groups) }
}

/// Whom a node does not hear: all that are in other groups. One in no group hears everybody.
fn dropped_by(groups: &[Group], node: NodeId) -> Vec<NodeId> {
    if !groups.iter().any(|group| group.contains(&node)) {
        return Vec::new();
    }
    groups.iter().filter(|group| !group.contains(&node)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_hears_its_own_group_and_those_in_none() {
        let groups = parse("1, 2|3,4|5").unwrap();
        let dropped =
            |node| dropped_by(&groups, NodeId(node)).into_iter().map(|id| id.0).collect::<Vec<u32>>();
        assert_eq!((dropped(1), dropped(5)), (vec![3, 4, 5], vec![1, 2, 3, 4]));
        assert!(dropped(6).is_empty());
    }

    #[test]
    fn what_parts_nothing_is_refused() {
        for text in ["", "1", "1,2", "1|", "1|x", "1|0", "1,2|2,3", "|"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
