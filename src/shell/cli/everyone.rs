//! One question to every node at once: each sees the cluster in its own way, and keeps its own.
//!
//! Nodes that do not answer are part of the answer, and so is somebody else at a node's address. Called
//! by `hints`, `health`, `repair`, `export`, `dump --node`, and the shell of `dev`.

use crate::client::{Answer, Call, CallId, Store, Target};
use crate::shell::blocking::unexpected;
use crate::types::NodeId;
use crate::wire::client::{ClientReply, ClientRequest, ClusterStatus};
use std::collections::BTreeMap;

/// Time for an answer: far more than a node needs, and little to wait for one that hangs.
const ANSWER_MS: u32 = 1000;

/// What each node said, or why it said nothing, in words.
pub(super) type Answers<T> = BTreeMap<NodeId, Result<T, String>>;

/// The members of a cluster and where they listen.
pub(super) fn members(status: &ClusterStatus) -> Vec<(NodeId, String)> {
    status.nodes.iter().map(|node| (node.node, node.addr.clone())).collect()
}

/// Asks each of these nodes its own question, all at the same time. `read` takes the answer that
/// was asked for out of a reply.
pub(super) fn ask_each<T>(
    store: &mut Store,
    questions: impl IntoIterator<Item = (NodeId, String, ClientRequest)>,
    read: impl Fn(ClientReply) -> Result<T, String>,
) -> Answers<T> {
    let limit_ms = match store.options().timeout_ms {
        0 => ANSWER_MS,
        ms => ms.min(ANSWER_MS),
    };
    let mut waiting: BTreeMap<CallId, NodeId> = store.within_ms(limit_ms, |store| {
        let submit =
            |(node, addr, request)| (store.submit(Call::Ask { to: Target::Addr(addr), request }), node);
        questions.into_iter().map(submit).collect()
    });
    let mut answers = Answers::new();
    while !waiting.is_empty() {
        match store.next_done() {
            Ok(Some((call, outcome))) => {
                let Some(node) = waiting.remove(&call) else { continue };
                let answer = match outcome {
                    Ok(Answer::Told(reply)) => read(reply),
                    Ok(Answer::Stored { .. } | Answer::Found { .. } | Answer::Missing { .. }) => {
                        Err("its answer fits no question".to_owned())
                    }
                    Err(error) => Err(error.to_string()),
                };
                answers.insert(node, answer);
            }
            // The sockets themselves failed: nobody answers any more.
            Ok(None) => break,
            Err(error) => {
                answers.extend(waiting.into_values().map(|node| (node, Err(error.to_string()))));
                break;
            }
        }
    }
    answers
}

/// Asks all of these nodes the same.
pub(super) fn ask_all<T>(
    store: &mut Store,
    nodes: &[(NodeId, String)],
    request: &ClientRequest,
    read: impl Fn(ClientReply) -> Result<T, String>,
) -> Answers<T> {
    let questions = nodes.iter().map(|(node, addr)| (*node, addr.clone(), request.clone()));
    ask_each(store, questions, read)
}

/// What the members see, and who is really there.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What each member says of the cluster.
    pub(super) statuses: Answers<ClusterStatus>,
    /// Members at whose address another one answers, as when the directory was lost and the node joined
    /// anew; 0 is one that has not joined yet. What it says is not theirs.
    pub(super) replaced: BTreeMap<NodeId, NodeId>,
}

impl Seen {
    /// Sorts the answers by whether they are of whom they were asked.
    fn of(mut statuses: Answers<ClusterStatus>) -> Self {
        let mut replaced = BTreeMap::new();
        for (&node, answer) in &mut statuses {
            let Some(observer) = answer.as_ref().ok().map(|status| status.observer) else { continue };
            if observer == node {
                continue;
            }
            replaced.insert(node, observer);
            *answer = Err(match observer {
                NodeId(0) => "what answers at its address is no member yet".to_owned(),
                other => format!("node {other} answers at its address"),
            });
        }
        Self { statuses, replaced }
    }

    /// Those of these nodes that answered for themselves.
    pub(super) fn present(&self, nodes: &[(NodeId, String)]) -> Vec<(NodeId, String)> {
        let answered = |node: &&(NodeId, String)| self.statuses.get(&node.0).is_some_and(Result::is_ok);
        nodes.iter().filter(answered).cloned().collect()
    }
}

/// Asks each of these nodes how the cluster is.
pub(super) fn ask_statuses(store: &mut Store, nodes: &[(NodeId, String)]) -> Seen {
    Seen::of(ask_all(store, nodes, &ClientRequest::Status, read_status))
}

/// The status in a reply.
pub(super) fn read_status(reply: ClientReply) -> Result<ClusterStatus, String> {
    if let ClientReply::Status(status) = reply { Ok(status) } else { Err(other_answer(&reply)) }
}

/// What a reply says that is not the one asked for.
pub(super) fn other_answer(reply: &ClientReply) -> String {
    if let ClientReply::Error(text) = reply { text.clone() } else { unexpected(reply).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_address_of_another_does_not_answer_for_it() {
        let said = |id: u32| Ok(ClusterStatus { observer: NodeId(id), ..ClusterStatus::default() });
        let nodes: Vec<_> = (1..=4).map(|id| (NodeId(id), format!("n{id}"))).collect();
        let answers = [said(1), said(4), said(0), said(4)];
        let seen = Seen::of((1..).map(NodeId).zip(answers).collect());
        assert_eq!(seen.present(&nodes), [nodes[0].clone(), nodes[3].clone()]);
        assert_eq!(seen.replaced, BTreeMap::from([(NodeId(2), NodeId(4)), (NodeId(3), NodeId(0))]));
        assert!(seen.statuses[&NodeId(3)].as_ref().unwrap_err().contains("no member yet"));
    }
}
