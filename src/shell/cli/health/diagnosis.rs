//! What is not well with a cluster, out of what everybody says. Pure: no questions, no output.

use crate::ring::{MemberState, Sector, Table};
use crate::shell::cli::standing::joined;
use crate::shell::cli::text::human_bytes;
use crate::types::{Health, NodeId, Room};
use crate::wire::client::{ClusterStatus, HintStatus, NodeStatus};
use std::collections::{BTreeMap, BTreeSet};

/// Who the manager is among observers.
const MANAGER: NodeId = NodeId(0);

/// What everybody says. Whoever did not answer is not in it.
#[derive(Debug, Default)]
pub(super) struct Testimony {
    /// The members, as whoever was asked first sees them.
    pub(super) status: ClusterStatus,
    /// None as long as there is none.
    pub(super) table: Option<Table>,
    /// What each node sees.
    pub(super) seen: BTreeMap<NodeId, ClusterStatus>,
    /// Nodes at whose address another one answers, and which; 0 is one that has not joined.
    pub(super) replaced: BTreeMap<NodeId, NodeId>,
    /// What each node keeps for others.
    pub(super) kept: BTreeMap<NodeId, Vec<HintStatus>>,
    /// What the manager sees; none if it was not named to us.
    pub(super) manager: Option<Result<ClusterStatus, String>>,
}

/// One thing that is not well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// Too few nodes have joined for anything to be served, or sectors are being given out.
    NotServing { members: usize, needed: usize },
    /// The manager does not answer.
    NoManager { why: String },
    /// A node is not up to everybody.
    Node(Sight),
    /// A node is given up, and what it had in so many sectors is yet to be rebuilt elsewhere.
    GivenUp { node: NodeId, sectors: u16 },
    /// Sectors with some copies, but not all, on nodes that are up.
    Short { sectors: usize, n: u8, fewest: usize },
    /// Sectors without a copy on a node that is up, and who has them.
    Lost { sectors: usize, owners: BTreeSet<NodeId> },
    /// Writes are kept for a node that has missed them.
    Owed { node: NodeId, hints: u64, bytes: u64, holders: BTreeSet<NodeId>, waits_for: WaitsFor },
    /// The disk of a node that is up has no room for more values, or for anything.
    NoRoom { node: NodeId, room: Room },
    /// A node found its log damaged.
    Damaged { node: NodeId, sectors: u16 },
}

/// Why writes that are owed to a node have not been handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WaitsFor {
    /// It is away, or has just come back.
    Return,
    /// It is up, and its disk has no room.
    Room,
}

/// How a node is to the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sight {
    pub(super) node: NodeId,
    /// Whether it answered our own question.
    pub(super) answers: bool,
    /// Who answered in its place.
    pub(super) replaced_by: Option<NodeId>,
    /// Who sees it how; the manager is 0.
    pub(super) seen: BTreeMap<Health, BTreeSet<NodeId>>,
}

/// Everything that is not well, the worst first within a kind.
pub(super) fn diagnose(told: &Testimony) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !told.status.serving {
        let needed = told.table.as_ref().map_or(told.status.n.into(), |table| table.members_min);
        findings.push(Finding::NotServing { members: joined(&told.status), needed: needed.into() });
    }
    if let Some(Err(why)) = &told.manager {
        findings.push(Finding::NoManager { why: why.clone() });
    }
    let sights: Vec<Sight> = told.status.nodes.iter().map(|node| sight(told, node.node)).collect();
    let up: BTreeSet<NodeId> = sights.iter().filter(|sight| sight.is_up()).map(|sight| sight.node).collect();
    let given_up: BTreeMap<NodeId, u16> = given_up(told).collect();
    let is_amiss = |sight: &Sight| !sight.is_well() && !given_up.contains_key(&sight.node);
    findings.extend(sights.into_iter().filter(is_amiss).map(Finding::Node));
    findings.extend(given_up.iter().map(|(&node, &sectors)| Finding::GivenUp { node, sectors }));
    findings.extend(told.table.iter().flat_map(|table| copies(table.n, &table.sectors, &up)));
    let no_room: BTreeMap<NodeId, Room> = no_room(told).filter(|entry| up.contains(&entry.0)).collect();
    findings.extend(no_room.iter().map(|(&node, &room)| Finding::NoRoom { node, room }));
    findings.extend(owed(told, &no_room));
    findings.extend(damaged(told));
    findings
}

fn sight(told: &Testimony, node: NodeId) -> Sight {
    let manager = told.manager.iter().flatten().map(|status| (MANAGER, status));
    let observers = told.seen.iter().map(|(&observer, status)| (observer, status)).chain(manager);
    let mut seen: BTreeMap<Health, BTreeSet<NodeId>> = BTreeMap::new();
    for (observer, status) in observers.filter(|entry| entry.0 != node) {
        if let Some(row) = status.nodes.iter().find(|row| row.node == node) {
            seen.entry(row.health).or_default().insert(observer);
        }
    }
    let answers = told.seen.contains_key(&node);
    // What has not joined yet may still turn out to be the node itself.
    let replaced_by = told.replaced.get(&node).copied().filter(|&other| other != NodeId(0));
    Sight { node, answers, replaced_by, seen }
}

/// Members that are given up, and the sectors that still count on them.
fn given_up(told: &Testimony) -> impl Iterator<Item = (NodeId, u16)> {
    let lost = told.status.nodes.iter().filter(|row| row.state == MemberState::Lost);
    lost.map(|row| (row.node, row.sectors.0))
}

/// How many sectors have fewer copies on nodes that are up than they should.
fn copies(n: u8, sectors: &[Sector], up: &BTreeSet<NodeId>) -> Vec<Finding> {
    let (mut short, mut fewest, mut lost, mut owners) = (0, usize::MAX, 0, BTreeSet::new());
    for sector in sectors.iter().filter(|sector| !sector.slots.is_empty()) {
        let live = sector.holders(sector.slots.len()).filter(|node| up.contains(node)).count();
        if live == 0 {
            lost += 1;
            owners.extend(sector.holders(sector.slots.len()));
        } else if live < sector.slots.len() {
            short += 1;
            fewest = fewest.min(live);
        }
    }
    let lost = (lost > 0).then_some(Finding::Lost { sectors: lost, owners });
    let short = (short > 0).then_some(Finding::Short { sectors: short, n, fewest });
    lost.into_iter().chain(short).collect()
}

fn owed(told: &Testimony, no_room: &BTreeMap<NodeId, Room>) -> impl Iterator<Item = Finding> {
    let mut owed: BTreeMap<NodeId, (u64, u64, BTreeSet<NodeId>)> = BTreeMap::new();
    for (&holder, kept) in &told.kept {
        for hint in kept.iter().filter(|hint| hint.hints > 0) {
            let (hints, bytes, holders) = owed.entry(hint.owed_to).or_default();
            *hints += hint.hints;
            *bytes += hint.bytes;
            holders.insert(holder);
        }
    }
    owed.into_iter().map(|(node, (hints, bytes, holders))| {
        let waits_for = if no_room.contains_key(&node) { WaitsFor::Room } else { WaitsFor::Return };
        Finding::Owed { node, hints, bytes, holders, waits_for }
    })
}

/// What each node says of itself, for it knows best; of one that does not answer, what was last heard.
fn own_words(told: &Testimony) -> impl Iterator<Item = &NodeStatus> {
    told.status.nodes.iter().map(|row| {
        let own = told.seen.get(&row.node);
        own.and_then(|status| status.nodes.iter().find(|own| own.node == row.node)).unwrap_or(row)
    })
}

fn no_room(told: &Testimony) -> impl Iterator<Item = (NodeId, Room)> {
    own_words(told).filter(|row| row.vitals.room != Room::Enough).map(|row| (row.node, row.vitals.room))
}

fn damaged(told: &Testimony) -> impl Iterator<Item = Finding> {
    let damaged = own_words(told).filter(|row| row.vitals.damaged > 0);
    damaged.map(|row| Finding::Damaged { node: row.node, sectors: row.vitals.damaged })
}

/// Copies of sectors that nodes know to differ from another owner's, or have yet to compare.
pub(super) fn repairs(told: &Testimony) -> u64 {
    own_words(told).map(|row| u64::from(row.vitals.repairs)).sum()
}

impl Sight {
    /// Whether its copies can be had, by us or by others.
    fn is_up(&self) -> bool {
        self.answers || self.seen.contains_key(&Health::Up)
    }

    /// Whether everybody finds it up.
    fn is_well(&self) -> bool {
        self.answers && self.seen.keys().all(|health| health.is_up())
    }

    fn text(&self) -> String {
        let instead = self.replaced_by.map(|other| format!("; node {other} is at its address now"));
        self.how_it_is() + &instead.unwrap_or_default()
    }

    fn how_it_is(&self) -> String {
        let node = self.node;
        let mut seen = self.seen.iter().rev();
        match (seen.next(), seen.next()) {
            (None, _) => format!("node {node} does not answer"),
            (Some((health, by)), None) if !self.answers && !health.is_up() => {
                format!("node {node} is {health}, as seen by {}", names(by))
            }
            (Some(_), _) => {
                let by = self.seen.iter().rev().map(|(health, by)| format!("{health} to {}", names(by)));
                let silent = (!self.answers).then(|| "it does not answer here".to_owned());
                let all: Vec<String> = by.chain(silent).collect();
                format!("node {node} is {}", all.join("; "))
            }
        }
    }
}

impl Finding {
    /// A word for programs.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Finding::NotServing { .. } => "not_serving",
            Finding::NoManager { .. } => "manager",
            Finding::Node(_) => "node",
            Finding::GivenUp { .. } => "given_up",
            Finding::Short { .. } => "short",
            Finding::Lost { .. } => "lost",
            Finding::Owed { .. } => "hints",
            Finding::NoRoom { .. } => "disk",
            Finding::Damaged { .. } => "damaged",
        }
    }

    /// The node it is about, if it is about one.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Finding::Node(Sight { node, .. })
            | Finding::GivenUp { node, .. }
            | Finding::Owed { node, .. }
            | Finding::NoRoom { node, .. }
            | Finding::Damaged { node, .. } => Some(*node),
            Finding::NotServing { .. }
            | Finding::NoManager { .. }
            | Finding::Short { .. }
            | Finding::Lost { .. } => None,
        }
    }

    /// Sectors or hints, where it counts some.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Finding::Short { sectors, .. } | Finding::Lost { sectors, .. } => Some(*sectors as u64),
            Finding::Owed { hints, .. } => Some(*hints),
            Finding::Damaged { sectors, .. } | Finding::GivenUp { sectors, .. } => Some(u64::from(*sectors)),
            Finding::NotServing { .. }
            | Finding::NoManager { .. }
            | Finding::Node(_)
            | Finding::NoRoom { .. } => None,
        }
    }

    /// What is not well.
    pub(super) fn text(&self) -> String {
        match self {
            Finding::NotServing { members, needed } if members < needed => {
                format!("nothing is served: {members} of the {needed} nodes needed have joined")
            }
            Finding::NotServing { .. } => {
                "nothing is served yet: sectors are being given to nodes".to_owned()
            }
            Finding::NoManager { why } => format!("the manager does not answer ({why})"),
            Finding::Node(sight) => sight.text(),
            Finding::GivenUp { node, sectors } => {
                format!("node {node} is given up as dead: its copies of {sectors} sectors are being rebuilt")
            }
            Finding::Short { sectors, n, fewest } => {
                format!(
                    "{} fewer than {n} copies on nodes that are up (the fewest: {fewest})",
                    have(*sectors)
                )
            }
            Finding::Lost { sectors, owners } => {
                format!("{} no copy on a node that is up; their owners: {}", have(*sectors), names(owners))
            }
            Finding::Owed { node, hints, bytes, holders, .. } => {
                let bytes = human_bytes(*bytes);
                let writes = if *hints == 1 { "write" } else { "writes" };
                format!("node {node} is owed {hints} {writes} ({bytes} of hints, kept by {})", names(holders))
            }
            Finding::NoRoom { node, room: Room::Full } => {
                format!("node {node} refuses every write: its disk is full")
            }
            Finding::NoRoom { node, .. } => {
                format!("node {node} refuses puts: less is free on its disk than its reserve")
            }
            Finding::Damaged { node, sectors } => {
                format!(
                    "node {node} has found its log damaged: {} in quarantine, to be filled again",
                    are(*sectors)
                )
            }
        }
    }

    /// What the operator can do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Finding::NotServing { members, needed } if members < needed => {
                "Start more nodes with gtstore-storage."
            }
            Finding::NotServing { .. } => "Look again in a moment.",
            Finding::NoManager { .. } => {
                "Start the manager again. Reads and writes go on without it; no node can join, and no \
                 keyspace be made."
            }
            Finding::Node(sight) if sight.is_up() => {
                "A node that some reach and others do not: look again in a moment, then at the network \
                 between them."
            }
            Finding::Node(Sight { replaced_by: Some(_), .. }) => {
                "A node whose directory was lost has joined as a new one; the old one stays down, and what \
                 it had stays a copy short until it is rebuilt: see 'gtstore help cluster replace'."
            }
            Finding::Node(_) => {
                "A node that is down: if its process has ended, start it again from its data directory; the \
                 log there says why it ended. If it runs, it stands still, or the network to it is cut. If it \
                 is lost for good, have its copies rebuilt: see 'gtstore help cluster replace'."
            }
            Finding::GivenUp { .. } => {
                "What was given up is rebuilt from other copies without your doing: 'gtstore cluster transfers' \
                 shows how far that is."
            }
            Finding::Short { .. } => {
                "Sectors have all their copies again when their owners are back, or their copies rebuilt."
            }
            Finding::Lost { .. } => {
                "What has no copy on a node that is up cannot be read until one of its owners is back."
            }
            Finding::Owed { waits_for: WaitsFor::Return, .. } => {
                "Hints are handed over without your doing, once their node is back."
            }
            Finding::Owed { waits_for: WaitsFor::Room, .. } => {
                "Hints owed to a node whose disk is full are handed over without your doing, once it has room."
            }
            Finding::NoRoom { .. } => {
                "A node whose disk is full: free some space there, or add a node. Writes are taken again \
                 without a restart; reads go on."
            }
            Finding::Damaged { .. } => {
                "Other owners serve what is damaged, and fill it again: keep them up, all of them. What \
                 stays in quarantine has another damaged copy, or no other: get it out with export ('-r 1' \
                 reads a single copy) and 'gtstore-storage --dump DIR', and import it into a new cluster."
            }
        }
    }
}

fn have(sectors: usize) -> String {
    if sectors == 1 { "1 sector has".to_owned() } else { format!("{sectors} sectors have") }
}

fn are(sectors: u16) -> String {
    if sectors == 1 { "1 sector is".to_owned() } else { format!("{sectors} sectors are") }
}

/// `node 1`, or `nodes 1, 2`, or `nodes 1, 2 and the manager`.
fn names(observers: &BTreeSet<NodeId>) -> String {
    let nodes: Vec<String> =
        observers.iter().filter(|&&node| node != MANAGER).map(ToString::to_string).collect();
    let plural = if nodes.len() == 1 { "" } else { "s" };
    match (nodes.is_empty(), observers.contains(&MANAGER)) {
        (true, _) => "the manager".to_owned(),
        (false, true) => format!("node{plural} {} and the manager", nodes.join(", ")),
        (false, false) => format!("node{plural} {}", nodes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Slot;
    use crate::types::{ClusterId, Epoch, Incarnation};
    use crate::wire::Vitals;

    /// How the observer sees nodes 1, 2 and so on.
    fn status(healths: &[Health]) -> ClusterStatus {
        let row = |(id, &health): (u32, &Health)| NodeStatus {
            node: NodeId(id),
            addr: String::new(),
            zone: String::new(),
            state: MemberState::Normal,
            health,
            sectors: (4, 1),
            incarnation: Incarnation(1),
            vitals: Vitals { epoch: Epoch(1), ..Vitals::default() },
        };
        let nodes = (1..).zip(healths).map(row).collect();
        ClusterStatus { serving: true, n: 2, nodes, ..ClusterStatus::default() }
    }

    fn told(seen: &[(u32, &[Health])]) -> Testimony {
        let seen: BTreeMap<_, _> = seen.iter().map(|&(id, healths)| (NodeId(id), status(healths))).collect();
        Testimony { status: seen.values().next().cloned().unwrap_or_default(), seen, ..Testimony::default() }
    }

    fn texts(told: &Testimony) -> Vec<String> {
        diagnose(told).iter().map(Finding::text).collect()
    }

    const UP: Health = Health::Up;
    const DOWN: Health = Health::Down;

    #[test]
    fn where_everybody_is_up_to_everybody_there_is_nothing_to_say() {
        assert_eq!(diagnose(&told(&[(1, &[UP, UP]), (2, &[UP, UP])])), []);
    }

    #[test]
    fn a_node_that_all_find_down_is_down_and_who_differs_is_named() {
        let all = told(&[(1, &[UP, UP, DOWN]), (2, &[UP, UP, DOWN])]);
        assert_eq!(texts(&all), ["node 3 is down, as seen by nodes 1, 2"]);
        let cut = told(&[(1, &[UP, UP, Health::CutOff]), (2, &[UP, UP, UP]), (3, &[DOWN, UP, UP])]);
        assert_eq!(
            texts(&cut),
            ["node 1 is down to node 3; up to node 2", "node 3 is cut off to node 1; up to node 2"]
        );
    }

    #[test]
    fn a_node_is_down_whoever_has_its_address() {
        let mut told = told(&[(1, &[UP, DOWN, UP]), (3, &[UP, DOWN, UP])]);
        told.replaced.insert(NodeId(2), NodeId(3));
        let slots = [1, 2].map(|node| Slot::Settled(NodeId(node))).to_vec();
        let sectors = vec![Sector { conf_epoch: Epoch(1), slots }];
        told.table = Some(Table { sectors, ..Table::new(ClusterId(1), 2, 1) });
        let expected = [
            "node 2 is down, as seen by nodes 1, 3; node 3 is at its address now",
            "1 sector has fewer than 2 copies on nodes that are up (the fewest: 1)",
        ];
        assert_eq!(texts(&told), expected);
        assert!(diagnose(&told)[0].advice().contains("see 'gtstore help cluster replace'"));
    }

    #[test]
    fn a_node_that_is_given_up_is_no_longer_said_to_be_down() {
        let mut told = told(&[(1, &[UP, DOWN])]);
        told.status.nodes[1].state = MemberState::Lost;
        assert_eq!(texts(&told), ["node 2 is given up as dead: its copies of 4 sectors are being rebuilt"]);
        assert_eq!(diagnose(&told)[0].kind(), "given_up");
    }

    #[test]
    fn nothing_is_served_before_as_many_have_joined_as_the_table_wants() {
        let mut told = told(&[(1, &[UP, UP, UP])]);
        told.status.serving = false;
        told.status.nodes[2].state = MemberState::Waiting;
        told.table = Some(Table { members_min: 5, ..Table::new(ClusterId(1), 2, 1) });
        assert_eq!(texts(&told)[0], "nothing is served: 2 of the 5 nodes needed have joined");
    }

    #[test]
    fn the_manager_is_an_observer_like_others() {
        let mut told = told(&[(1, &[UP, DOWN])]);
        told.manager = Some(Ok(status(&[UP, DOWN])));
        assert_eq!(texts(&told), ["node 2 is down, as seen by node 1 and the manager"]);
        told.manager = Some(Err("refused".to_owned()));
        assert_eq!(texts(&told)[0], "the manager does not answer (refused)");
    }

    #[test]
    fn sectors_are_counted_by_the_copies_that_are_up() {
        let sector = |nodes: [u32; 2]| Sector {
            conf_epoch: Epoch(1),
            slots: nodes.map(|node| Slot::Settled(NodeId(node))).to_vec(),
        };
        let up = BTreeSet::from([NodeId(1)]);
        let owners = [[1, 2], [2, 3], [1, 3], [3, 1]];
        let all = owners.map(sector);
        let owners = BTreeSet::from([NodeId(2), NodeId(3)]);
        let expected = [Finding::Lost { sectors: 1, owners }, Finding::Short { sectors: 3, n: 2, fewest: 1 }];
        assert_eq!(copies(2, &all, &up), expected);
    }

    #[test]
    fn hints_are_added_up_by_whom_they_are_owed_to() {
        let hint = |owed_to, hints| HintStatus {
            owed_to: NodeId(owed_to),
            hints,
            bytes: 1024 * hints,
            missed: hints + 9,
            delivered: 9,
            dropped: 0,
        };
        let mut told = told(&[(1, &[UP, UP]), (2, &[UP, UP])]);
        told.kept =
            BTreeMap::from([(NodeId(1), vec![hint(3, 2), hint(4, 0)]), (NodeId(2), vec![hint(3, 1)])]);
        assert_eq!(texts(&told), ["node 3 is owed 3 writes (3.0 KiB of hints, kept by nodes 1, 2)"]);
        assert!(diagnose(&told)[0].advice().ends_with("once their node is back."));
    }

    #[test]
    fn a_disk_without_room_is_told_as_its_node_finds_it_and_explains_what_is_owed_to_it() {
        let mut told = told(&[(1, &[UP, UP, DOWN]), (2, &[UP, UP, DOWN])]);
        told.seen.get_mut(&NodeId(2)).unwrap().nodes[1].vitals.room = Room::Low;
        let hint =
            HintStatus { owed_to: NodeId(2), hints: 1, bytes: 10, missed: 1, delivered: 0, dropped: 0 };
        told.kept.insert(NodeId(1), vec![hint]);
        // Of a disk whose node is down nothing is known.
        told.status.nodes[2].vitals.room = Room::Full;
        let expected = [
            "node 3 is down, as seen by nodes 1, 2",
            "node 2 refuses puts: less is free on its disk than its reserve",
            "node 2 is owed 1 write (10 B of hints, kept by node 1)",
        ];
        assert_eq!(texts(&told), expected);
        assert!(diagnose(&told)[2].advice().ends_with("once it has room."));
    }
}
