//! One question to every node at once: each sees the cluster in its own way, and keeps its own.
//!
//! Nodes that do not answer are part of the answer. Called by `hints`, `health`, and the shell of
//! `dev`.

use crate::client::{Answer, Call, CallId, Store, Target};
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

/// What a reply says that is not the one asked for.
pub(super) fn other_answer(reply: &ClientReply) -> String {
    match reply {
        ClientReply::Error(text) => text.clone(),
        ClientReply::Data(_)
        | ClientReply::Contact(_)
        | ClientReply::Table(_)
        | ClientReply::TableIsCurrent(_)
        | ClientReply::Status(_)
        | ClientReply::Dump { .. }
        | ClientReply::Hints(_)
        | ClientReply::FaultsSet
        | ClientReply::KeyspaceCreated(_) => crate::shell::blocking::unexpected(reply).to_string(),
    }
}
