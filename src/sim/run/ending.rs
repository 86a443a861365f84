//! After the weather: the cluster heals, and it is demanded that it answers and converges.

use super::Run;
use crate::client::{Call, Item};
use crate::engine::{Kind, Outline, Stored};
use crate::ring::Durability;
use crate::sim::process::{ProcId, Running};
use crate::sim::weather::Climate;
use crate::sim::workload::{Driver, Op, Space, Told, key_bytes};
use crate::sim::world::MANAGER;
use crate::types::KeyspaceId;
use crate::version::Sibling;
use crate::wire::hello::Server;

/// After healing: the time by which every key must be answered.
const HEAL_US: u64 = 60_000_000;
/// After healing: the longest that a request (2 s) or a broken link (3 s and a redial) lives on.
const QUIET_US: u64 = 6_000_000;
/// After the last answer: the time by which nothing may be in hand any more.
const DRAIN_US: u64 = 3_000_000;

impl Run {
    pub(super) fn heal(&mut self) {
        self.world.climate = Climate { clock_skew_ms: self.storm.clock_skew_ms, ..Climate::FAIR };
        self.world.blocked.clear();
        for at in 0..self.world.procs.len() {
            let process = &mut self.world.procs[at];
            (process.paused_until, process.disk_slow_until) = (0, 0);
            process.disk.set_capacity(None);
            let spare = self.weather.spares.contains(&ProcId(at));
            if !self.world.procs[at].is_up() && !spare {
                self.start(ProcId(at));
            }
        }
        let nodes = self.shape.nodes.0 + self.shape.nodes.1 - self.weather.spares.len();
        let whole = |run: &Self| run.world.is_whole(nodes - run.world.gone.len());
        self.until(HEAL_US, "the cluster did not become whole again", whole);
        let handed_over = |run: &Self| run.world.nodes().all(|(_, node)| node.hints_kept() == 0);
        self.until(HEAL_US, "hints were not handed over", handed_over);
        // Attempts at writes that clients have given up live until their deadline, and links that
        // stood across a partition break late: both must be over before copies can be compared.
        self.pass(QUIET_US);
    }

    /// Lets time pass.
    fn pass(&mut self, us: u64) {
        let until = self.world.now_us + us;
        while self.world.now_us < until {
            self.step(false);
        }
    }

    fn imperfect_copies(&self) -> Vec<String> {
        let mut copies = self.differing_copies();
        copies.extend(self.unreadable_copies());
        copies
    }

    /// Owners' copies must become equal, and whole, of themselves: nobody reads anything.
    pub(super) fn converge(&mut self) {
        let until = self.world.now_us + HEAL_US;
        while self.world.now_us < until && !self.imperfect_copies().is_empty() {
            self.pass(500_000);
        }
        self.broken.extend(self.imperfect_copies());
    }

    /// At rest, hints handed over and nothing moving: of every acknowledged write the sector's owners
    /// have as many copies as it took.
    pub(super) fn count_owners(&mut self) {
        let Running::Manager(manager) = &self.world.procs[MANAGER.0].running else { return };
        let table = manager.table().clone();
        for op in &self.history.ops {
            let Told::Stored(dot) = op.told else { continue };
            let copies = self.world.copies_of_owners(dot, &table);
            let needed = self.copies_needed(op);
            if copies.is_some_and(|copies| copies < needed) {
                let text = format!("{:?} ({dot}) has {copies:?} copies at owners, of {needed}", op.asked);
                self.broken.push(text);
            }
        }
    }

    /// Of each of the latest acknowledged writes there are still as many copies as it took, or of
    /// what has replaced it; whoever is down may have one. True at any time, and at rest of all.
    pub(super) fn count_copies(&mut self, latest: usize) {
        for op in self.history.ops.iter().rev().take(latest) {
            let Told::Stored(dot) = op.told else { continue };
            let copies = self.world.copies_held(dot);
            let needed = self.copies_needed(op);
            if let Some(copies) = copies.filter(|&copies| copies < needed) {
                let at_us = self.world.now_us;
                let text = format!("{:?} ({dot}) has {copies} of {needed} copies at {at_us} us", op.asked);
                self.broken.push(text);
            }
        }
    }

    /// How many copies of an acknowledged write there are to be: as many as it took, but for those
    /// that may be lost with a process or its machine's power.
    fn copies_needed(&self, op: &Op) -> usize {
        let durability =
            self.spaces.get(op.space).map_or(Durability::Sync, |space| space.settings.durability);
        usize::from(op.needed).saturating_sub(self.world.seen.lost_since(op.start_us, durability))
    }

    /// Reads every key from all of its owners: it must be answered, and leaves all copies equal.
    pub(super) fn demand(&mut self) {
        let Some(mut driver) = self.drivers.pop() else { return };
        let until = self.world.now_us + HEAL_US;
        for space in 0..self.spaces.len() {
            for key in 0..self.shape.keys {
                self.demand_one(&mut driver, space, key, until);
            }
        }
        self.drivers.push(driver);
    }

    fn demand_one(&mut self, driver: &mut Driver, space: usize, key: usize, until: u64) {
        let mut item = Item::new(&self.spaces[space].name, key_bytes(key));
        item.quorum = self.spaces[space].settings.n;
        item.strict = true;
        loop {
            driver.begin_read(self.world.now_us, space, key, &mut self.history);
            let outcome = self.ask(driver.proc, Call::Get { item: item.clone() }, HEAL_US);
            let Some(outcome) = outcome else {
                return self.broken.push(format!("a read of key{key} was never answered"));
            };
            let good = outcome.is_ok();
            let text = format!("{outcome:?}");
            driver.answered(self.world.now_us, outcome, None, &mut self.history);
            if good {
                return;
            }
            if self.world.now_us > until {
                return self.broken.push(format!("key{key} cannot be read after healing: {text}"));
            }
        }
    }

    /// The numbers that the cluster gave the keyspaces; they are numbered as they are made.
    pub(super) fn space_ids(&self) -> Vec<KeyspaceId> {
        let table = match &self.world.procs[MANAGER.0].running {
            Running::Manager(manager) => Some(manager.table()),
            Running::Node(_) | Running::Client(_) | Running::Down => None,
        };
        let id = |space: &Space| table.and_then(|table| Some(table.keyspace(&space.name)?.0));
        self.spaces.iter().zip(0..).map(|(space, at)| id(space).unwrap_or(KeyspaceId(at))).collect()
    }

    /// Nothing may be left in hand, and all copies must be equal.
    pub(super) fn drain(&mut self) {
        self.pass(DRAIN_US);
        let left: Vec<String> = self
            .world
            .nodes()
            .filter(|(_, node)| node.requests_in_hand() > 0)
            .map(|(id, node)| format!("node{} still has {} pending rows", id.0, node.requests_in_hand()))
            .collect();
        self.broken.extend(left);
        let unsound: Vec<String> = self
            .world
            .nodes()
            .filter(|(_, node)| !node.hints_add_up())
            .map(|(id, _)| format!("node{}'s counts of hints do not add up", id.0))
            .collect();
        self.broken.extend(unsound);
        // A repair that was read behind a fence may have brought a trimmed context back meanwhile,
        // and the scrub have come upon rot: both pass of themselves.
        self.converge();
    }

    /// What owners know to be damaged.
    fn unreadable_copies(&self) -> Vec<String> {
        let Running::Manager(manager) = &self.world.procs[MANAGER.0].running else { return Vec::new() };
        let table = manager.table();
        let mut broken = Vec::new();
        for (proc, node) in self.world.nodes() {
            let Server::Node(me) = node.identity().server else { continue };
            broken.extend(
                node.engine().quarantined().map(|at| format!("node{}: {at:?} is in quarantine", proc.0)),
            );
            for at in node.engine().places(Default::default()) {
                let n = table.keyspaces.get(&at.0).map_or(0, |keyspace| usize::from(keyspace.settings.n));
                // Nobody reads what a former owner holds.
                if !table.sector(at.1).nodes(n).any(|owner| owner == me) {
                    continue;
                }
                let is_damaged =
                    |outline: &Outline| outline.siblings().iter().any(|sibling| sibling.content.damaged);
                for (key, _) in node.engine().walk(at, None).filter(|entry| is_damaged(&entry.1)) {
                    broken.push(format!("node{}: {key:?} of {at:?} cannot be read", proc.0));
                }
            }
        }
        broken
    }

    /// Keys of which owners hold different copies.
    fn differing_copies(&self) -> Vec<String> {
        let Running::Manager(manager) = &self.world.procs[MANAGER.0].running else { return Vec::new() };
        let table = manager.table().clone();
        let mut broken = Vec::new();
        for space in &self.spaces {
            let Some((id, _)) = table.keyspace(&space.name) else { continue };
            for key in (0..self.shape.keys).map(key_bytes) {
                let sector = table.sector_of(&key);
                let owners: Vec<_> = table.sector(sector).nodes(usize::from(space.settings.n)).collect();
                let copies: Vec<_> = self
                    .world
                    .nodes()
                    .filter(|(_, node)| match node.identity().server {
                        Server::Node(me) => owners.contains(&me),
                        Server::Manager => false,
                    })
                    .map(|(_, node)| node.engine().outline((id, sector), &key))
                    // Where each has it is its own affair, and so is when it drops what has expired.
                    .map(|held| held.map(|outline| outline.map(kind_of)))
                    .collect();
                if copies.windows(2).any(|pair| pair[0] != pair[1]) {
                    broken
                        .push(format!("{} {key:?}: the copies differ after healing: {copies:?}", space.name));
                }
            }
        }
        broken
    }
}

/// What a sibling is; one that is to expire may have been emptied already, or not.
fn kind_of(sibling: &Sibling<Stored>) -> Kind {
    if sibling.expiry.is_some() { Kind::Tombstone } else { sibling.content.kind }
}
