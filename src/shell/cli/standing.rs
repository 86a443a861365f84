//! What members are to the cluster, in letters and words, and what a person may do about those that are
//! no ordinary members.

use crate::ring::{MemberState, Table};
use crate::types::Health;
use crate::wire::client::{ClusterStatus, NodeStatus};

/// What the letters mean, on a line.
pub(super) const LETTERS: &str = "State: U up, S suspected, C cut off, D down; \
                                  N normal, J joining, L leaving, W waiting, G given up";

/// Two letters, as in `nodetool status`: Up, Suspected, Cut off or Down; Joining, Normal, Leaving,
/// Waiting, Given up, and `X` for left.
pub(super) fn state_letters(node: &NodeStatus) -> String {
    let health = match node.health {
        Health::Up => 'U',
        Health::Suspected => 'S',
        Health::CutOff => 'C',
        Health::Down => 'D',
    };
    let state = match node.state {
        MemberState::Joining => 'J',
        MemberState::Normal => 'N',
        MemberState::Leaving => 'L',
        MemberState::Left | MemberState::Removed => 'X',
        MemberState::Waiting => 'W',
        MemberState::Lost => 'G',
    };
    [health, state].iter().collect()
}

/// A standing in a word, for programs.
pub(super) fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::Joining => "joining",
        MemberState::Normal => "normal",
        MemberState::Leaving => "leaving",
        MemberState::Left => "left",
        MemberState::Waiting => "waiting",
        MemberState::Lost => "lost",
        MemberState::Removed => "removed",
    }
}

/// Members that own sectors, or are to.
pub(super) fn joined(status: &ClusterStatus) -> usize {
    let joined = |node: &&NodeStatus| matches!(node.state, MemberState::Joining | MemberState::Normal);
    status.nodes.iter().filter(joined).count()
}

/// What a cluster waits for that does not serve yet; its table says of how many members.
pub(super) fn serving_advice(status: &ClusterStatus, table: Option<Table>) -> String {
    let (joined, needed) = (joined(status), table.map_or(status.n.into(), |table| table.members_min));
    match usize::from(needed).saturating_sub(joined) {
        0 => "Not serving yet: sectors are being given to nodes; look again in a moment.".to_owned(),
        more => format!(
            "Not serving: {joined} of {needed} nodes needed have joined; start {more} more with gtstore-storage."
        ),
    }
}

/// What becomes of members that wait, leave or are given up, and what a person may do about it.
pub(super) fn advice(status: &ClusterStatus) -> Option<String> {
    let named = |state: MemberState| {
        let nodes = status.nodes.iter().filter(|node| node.state == state);
        let ids: Vec<String> = nodes.map(|node| node.node.to_string()).collect();
        (!ids.is_empty()).then(|| ids.join(", "))
    };
    let waiting = named(MemberState::Waiting).map(|ids| {
        format!("Waiting: node {ids}: owns nothing until it is to join: 'gtstore cluster join NODE...'.")
    });
    let leaving = named(MemberState::Leaving).map(|ids| {
        format!(
            "Leaving: node {ids}: hands over what it has, as 'gtstore cluster transfers' shows. Stop it when \
             its log says\n'safe to stop', or when it is no longer in this table."
        )
    });
    let lost = named(MemberState::Lost).map(|ids| {
        format!(
            "Given up: node {ids}: what it had is rebuilt from other copies, as 'gtstore cluster transfers' \
             shows. It is\nnot let in again; with an empty directory its machine joins as a new node."
        )
    });
    let lines: Vec<String> = [waiting, leaving, lost].into_iter().flatten().collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Incarnation, NodeId};
    use crate::wire::Vitals;

    fn node(id: u32, state: MemberState) -> NodeStatus {
        NodeStatus {
            node: NodeId(id),
            addr: format!("n{id}:1"),
            zone: String::new(),
            state,
            health: Health::Up,
            sectors: (0, 0),
            incarnation: Incarnation(1),
            vitals: Vitals::default(),
        }
    }

    #[test]
    fn whoever_is_no_ordinary_member_is_explained() {
        let status = |nodes| ClusterStatus { nodes, ..ClusterStatus::default() };
        let usual = [MemberState::Normal, MemberState::Joining].map(|state| node(1, state));
        assert_eq!(advice(&status(usual.to_vec())), None);
        let others =
            [node(4, MemberState::Waiting), node(5, MemberState::Waiting), node(2, MemberState::Lost)];
        assert_eq!(others.iter().map(state_letters).collect::<Vec<_>>(), ["UW", "UW", "UG"]);
        let said = advice(&status(others.to_vec())).unwrap();
        assert!(said.starts_with("Waiting: node 4, 5: owns nothing"), "{said}");
        assert!(said.contains("\nGiven up: node 2: what it had is rebuilt"), "{said}");
    }
}
