//! The epoch-numbered table: members, keyspaces, and who owns each sector.
//!
//! It holds *all* durable state of the manager, its only author. Everybody else holds a copy and
//! compares epochs. Its byte form is in `wire::table`.

use super::change::Change;
use super::hash::sector_of;
use crate::limits::{
    FALLBACKS_MAX, KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, PROFILE_KEY_BYTES_MAX, PROFILE_VALUE_BYTES_MAX,
    REPLICAS_MAX, VALUE_BYTES_MAX,
};
use crate::types::{ClusterId, DiskUuid, Epoch, KeyspaceId, NodeId, SectorId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One of a sector's N places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Held by one node.
    Settled(NodeId),
    /// On its way from `old` to `new`; counts as answered when both have.
    Moving {
        /// The node that has the data.
        old: NodeId,
        /// The node that is getting it.
        new: NodeId,
        /// The epoch in which it set out: what was streamed for an earlier setting out counts for
        /// nothing, as the receiver may have dropped it since.
        since: Epoch,
    },
}

/// The owners of one sector.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sector {
    /// The epoch of this sector's own last change. Data messages carry it.
    pub conf_epoch: Epoch,
    /// The replica slots in order of preference; empty until the cluster has enough members.
    pub slots: Vec<Slot>,
}

/// What a member is to the cluster. (Whether it answers is not the table's business.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// Known, owns nothing yet or is being given its first sectors.
    Joining,
    /// Owns sectors, or could.
    Normal,
    /// Is handing over its sectors.
    Leaving,
    /// Gone for good; its id is not used again.
    Left,
    /// Known, and owns nothing until an operator has it join.
    Waiting,
    /// Dead, by an operator's word or after `--evict-after`: its sectors are rebuilt elsewhere from
    /// the copies of their other owners, and it is not let in again.
    Lost,
    /// Was given up, and owns nothing any more. Its id is not used again.
    Removed,
}

/// A node, as the table knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Where peers and clients reach it, `HOST:PORT`.
    pub addr: String,
    /// The one data directory that may carry this id.
    pub disk_uuid: DiskUuid,
    /// Failure domain; empty when unsaid.
    pub zone: String,
    /// Share of the data relative to other members; 100 is the usual.
    pub weight: u16,
    /// Its standing.
    pub state: MemberState,
}

/// What a cluster takes as keys and values. Chosen when it is made, and fixed from then on: nodes
/// that disagree on it would take and refuse one and the same request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// This project's own limits.
    #[default]
    Default,
    /// Those of the original assignment.
    Gtstore,
}

/// What becomes of concurrent writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// The highest stamp is what readers see.
    Lww,
    /// Readers see them all and settle it.
    Siblings,
}

/// When a replica may acknowledge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Written and synced.
    Sync,
    /// In the page cache: survives the process, not the machine.
    Os,
    /// In memory: survives neither.
    Memory,
}

impl Durability {
    /// The same for what need not be waited for: what is stored is not synced for its own sake.
    #[must_use]
    pub fn unsynced(self) -> Self {
        match self {
            Durability::Sync | Durability::Os => Durability::Os,
            Durability::Memory => Durability::Memory,
        }
    }
}

/// How a keyspace replicates and stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyspaceSettings {
    /// Copies.
    pub n: u8,
    /// Answers a read needs.
    pub r: u8,
    /// Acknowledgements a write needs.
    pub w: u8,
    /// Conflict policy.
    pub conflict: Conflict,
    /// Durability.
    pub durability: Durability,
}

/// A named set of keys with its own settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyspace {
    /// 1 to 64 of `a-z A-Z 0-9 _ . -`.
    pub name: String,
    /// Its settings.
    pub settings: KeyspaceSettings,
}

/// Why a keyspace cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// The name is empty, too long, or has a character outside `a-z A-Z 0-9 _ . -`.
    BadName,
    /// Some of `1 <= r, w <= n <= N` does not hold; N is given.
    BadQuorum {
        /// The table's copies per sector.
        n_max: u8,
    },
}

/// The map of the cluster, at one epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its version.
    pub epoch: Epoch,
    /// The cluster it is of.
    pub cluster_id: ClusterId,
    /// Slots per sector (N): the most copies a keyspace can ask for.
    pub n: u8,
    /// What it takes as keys and values.
    pub profile: Profile,
    /// Members there must be before sectors are first placed; at least [`Table::n`].
    pub members_min: u16,
    /// The next node id to give out.
    pub next_node: NodeId,
    /// Every node that ever was a member, by id.
    pub members: BTreeMap<NodeId, Member>,
    /// Keyspaces by id; 0 is `default`.
    pub keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    /// Q sectors, Q a power of two.
    pub sectors: Vec<Sector>,
    /// Changes that an operator has staged, in order.
    pub staged: Vec<Change>,
}

impl Slot {
    /// The slot's one or two nodes, the old one first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        let (first, second) = match *self {
            Slot::Settled(node) => (node, None),
            Slot::Moving { old, new, .. } => (old, Some(new)),
        };
        std::iter::once(first).chain(second)
    }

    /// The node whose copy is whole.
    #[must_use]
    pub fn holder(&self) -> NodeId {
        match *self {
            Slot::Settled(node) => node,
            Slot::Moving { old, .. } => old,
        }
    }
}

impl Sector {
    /// Every node that stores the sector, old and new alike, of its first `n` slots.
    pub fn nodes(&self, n: usize) -> impl Iterator<Item = NodeId> + '_ {
        self.slots.iter().take(n).flat_map(Slot::nodes)
    }

    /// Nodes with a whole copy, in order of preference: those that may coordinate.
    pub fn holders(&self, n: usize) -> impl Iterator<Item = NodeId> + '_ {
        self.slots.iter().take(n).map(Slot::holder)
    }

    /// Whether some slot is moving.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Moving { .. }))
    }
}

impl Member {
    /// Whether it may own sectors.
    #[must_use]
    pub fn may_own(&self) -> bool {
        match self.state {
            MemberState::Joining | MemberState::Normal => self.weight > 0,
            MemberState::Waiting
            | MemberState::Leaving
            | MemberState::Lost
            | MemberState::Left
            | MemberState::Removed => false,
        }
    }
}

impl KeyspaceSettings {
    /// The settings of `default` in a cluster of `n` copies: majorities, last writer wins, synced.
    #[must_use]
    pub fn majority(n: u8) -> Self {
        Self { n, r: n / 2 + 1, w: n / 2 + 1, conflict: Conflict::Lww, durability: Durability::Sync }
    }
}

impl Profile {
    /// Longest key in bytes.
    #[must_use]
    pub fn key_bytes_max(self) -> usize {
        match self {
            Profile::Default => KEY_BYTES_MAX,
            Profile::Gtstore => PROFILE_KEY_BYTES_MAX,
        }
    }

    /// Longest value in bytes.
    #[must_use]
    pub fn value_bytes_max(self) -> usize {
        match self {
            Profile::Default => VALUE_BYTES_MAX,
            Profile::Gtstore => PROFILE_VALUE_BYTES_MAX,
        }
    }
}

impl Keyspace {
    /// The name of the keyspace that always exists.
    pub const DEFAULT: &'static str = "default";

    /// Checks a name and settings against a table with `n_max` slots per sector.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn check(name: &str, settings: &KeyspaceSettings, n_max: u8) -> Result<(), NameError> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX || !name.bytes().all(fine) {
            return Err(NameError::BadName);
        }
        let quorum_fits = |quorum: u8| (1..=settings.n).contains(&quorum);
        if settings.n > n_max || !quorum_fits(settings.r) || !quorum_fits(settings.w) {
            return Err(NameError::BadQuorum { n_max });
        }
        Ok(())
    }
}

impl Table {
    /// The first table of a new cluster: no members, the default keyspace.
    ///
    /// `n` is clamped to 1..=[`REPLICAS_MAX`], `sectors` to a power of two; of the default profile.
    #[must_use]
    pub fn new(cluster_id: ClusterId, n: u8, sectors: u16) -> Self {
        let n = n.clamp(1, REPLICAS_MAX as u8);
        let default =
            Keyspace { name: Keyspace::DEFAULT.to_owned(), settings: KeyspaceSettings::majority(n) };
        let count = usize::from(sectors.max(1)).next_power_of_two().min(crate::limits::SECTORS_MAX);
        Self {
            epoch: Epoch(1),
            cluster_id,
            n,
            profile: Profile::Default,
            members_min: u16::from(n),
            next_node: NodeId(1),
            members: BTreeMap::new(),
            keyspaces: BTreeMap::from([(KeyspaceId(0), default)]),
            sectors: vec![Sector::default(); count],
            staged: Vec::new(),
        }
    }

    /// The sector a key belongs to.
    #[must_use]
    pub fn sector_of(&self, key: &[u8]) -> SectorId {
        sector_of(key, self.sectors.len())
    }

    /// A sector's owners. An id beyond the table is answered with none.
    #[must_use]
    pub fn sector(&self, id: SectorId) -> &Sector {
        static NONE: Sector = Sector { conf_epoch: Epoch(0), slots: Vec::new() };
        self.sectors.get(usize::from(id.0)).unwrap_or(&NONE)
    }

    /// The slots that hold a keyspace's copies of a sector: its first `n`.
    #[must_use]
    pub fn slots(&self, id: SectorId, n: u8) -> &[Slot] {
        let slots = &self.sector(id).slots;
        &slots[..slots.len().min(usize::from(n))]
    }

    /// Who may stand in for a sector's owners, in order: the nodes of the sectors after it, each
    /// once, that hold no slot of this one. Looks no further than there can be more of them.
    #[must_use]
    pub fn fallbacks(&self, id: SectorId) -> Vec<NodeId> {
        let mut told: BTreeSet<NodeId> = self.sector(id).slots.iter().flat_map(Slot::nodes).collect();
        let members = self.present().count();
        let mut fallbacks = Vec::new();
        let further = self.sectors.iter().cycle().skip(usize::from(id.0) + 1).take(self.sectors.len());
        for node in further.flat_map(|sector| &sector.slots).map(Slot::holder) {
            if told.len() >= members || fallbacks.len() >= FALLBACKS_MAX {
                break;
            }
            if told.insert(node) {
                fallbacks.push(node);
            }
        }
        fallbacks
    }

    /// A keyspace by its name; the empty name is `default`.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<(KeyspaceId, &Keyspace)> {
        let name = if name.is_empty() { Keyspace::DEFAULT } else { name };
        self.keyspaces.iter().find(|entry| entry.1.name == name).map(|(&id, keyspace)| (id, keyspace))
    }

    /// Whether a member is given up: nothing is asked of it, or kept for it.
    #[must_use]
    pub fn is_lost(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.state == MemberState::Lost)
    }

    /// Every node that stores some sector, old and new owners alike.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<NodeId> {
        self.slots_of_all().flat_map(Slot::nodes).collect()
    }

    /// Copies of sectors that are on their way.
    #[must_use]
    pub fn moves(&self) -> usize {
        self.slots_of_all().filter(|slot| matches!(slot, Slot::Moving { .. })).count()
    }

    /// Takes back the moves that are meant (by their old and their new node): the slots are their old
    /// nodes' again.
    pub fn call_off(&mut self, is_meant: impl Fn(NodeId, NodeId) -> bool) {
        for sector in &mut self.sectors {
            for slot in &mut sector.slots {
                if let Slot::Moving { old, new, .. } = *slot
                    && is_meant(old, new)
                {
                    *slot = Slot::Settled(old);
                    sector.conf_epoch = self.epoch;
                }
            }
        }
    }

    fn slots_of_all(&self) -> impl Iterator<Item = &Slot> {
        self.sectors.iter().flat_map(|sector| &sector.slots)
    }

    /// Members that may own sectors.
    pub fn eligible(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().filter(|entry| entry.1.may_own()).map(|(&id, member)| (id, member))
    }

    /// Members that are not gone, in id order.
    pub fn present(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        let is_gone = |state| matches!(state, MemberState::Left | MemberState::Removed);
        self.members.iter().filter(move |entry| !is_gone(entry.1.state)).map(|(&id, m)| (id, m))
    }

    /// Whether sectors have owners, so that requests can be served.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.sectors.first().is_some_and(|sector| !sector.slots.is_empty())
    }

    /// Whether any slot is moving.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.sectors.iter().any(Sector::is_moving)
    }

    /// Whose copies make up what the new node of a moving slot is to have: the old node's; if that is
    /// given up, those of all the sector's other slots. (From one of them alone it would lack what the
    /// dead node had in common with another.)
    #[must_use]
    pub fn sources(&self, id: SectorId, slot: Slot) -> Vec<NodeId> {
        let old = slot.holder();
        if !self.is_lost(old) {
            return vec![old];
        }
        let others = self.sector(id).slots.iter().filter(|other| **other != slot).map(Slot::holder);
        others.filter(|&node| !self.is_lost(node)).collect()
    }

    /// How many sectors each present member holds a whole copy of, and how many it is first in.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<NodeId, (usize, usize)> {
        let mut loads: BTreeMap<_, _> = self.present().map(|(id, _)| (id, (0, 0))).collect();
        for sector in &self.sectors {
            for (at, slot) in sector.slots.iter().enumerate() {
                if let Some(load) = loads.get_mut(&slot.holder()) {
                    load.0 += 1;
                    load.1 += usize::from(at == 0);
                }
            }
        }
        loads
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemberState::Joining => "joining",
            MemberState::Normal => "a member",
            MemberState::Leaving => "leaving",
            MemberState::Left => "gone for good",
            MemberState::Waiting => "waiting to join",
            MemberState::Lost | MemberState::Removed => "given up as dead",
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Default => "default",
            Profile::Gtstore => "gtstore",
        })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Conflict::Lww => "lww",
            Conflict::Siblings => "siblings",
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Sync => "sync",
            Durability::Os => "os",
            Durability::Memory => "memory",
        })
    }
}

impl std::str::FromStr for Profile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Profile::Default),
            "gtstore" => Ok(Profile::Gtstore),
            other => Err(format!("a profile is default or gtstore, not {other:?}")),
        }
    }
}

impl std::str::FromStr for Conflict {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lww" => Ok(Conflict::Lww),
            "siblings" => Ok(Conflict::Siblings),
            other => Err(format!("conflict policy is lww or siblings, not {other:?}")),
        }
    }
}

impl std::str::FromStr for Durability {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sync" => Ok(Durability::Sync),
            "os" => Ok(Durability::Os),
            "memory" => Ok(Durability::Memory),
            other => Err(format!("durability is sync, os or memory, not {other:?}")),
        }
    }
}
