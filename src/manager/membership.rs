//! Changes of the membership: an operator's commands, sectors that arrive, members that go.
//!
//! ```text
//! staged --apply, at the epoch that was looked at--> members in their new standing, slots on their way
//!   {old, new} --all of the slot's sources say that it has arrived--> {new}       --cancel--> {old}
//! Joining --nothing moves--> Normal     Leaving --has handed all over--> Left
//! Lost --owns nothing--> Removed        Normal --away for --evict-after--> Lost
//! ```
//! A slot is settled only by words that carry the epoch in which it set out: what was streamed before
//! a move was called off may have been dropped again.

use super::Manager;
use super::io::Output;
use crate::limits::{PLAN_SETTLE_MS, REPORT_STALE_MS};
use crate::ring::change::{enact, give_up, stage};
use crate::ring::{Change, ChangeError, MemberState, Sector, Slot, Table, validate};
use crate::types::{ConnId, Epoch, Instant, NodeId, Now, RequestId, SectorId};
use crate::wire::client::{ClientReply, ClusterCommand, ClusterPlan, PlanRow};
use crate::wire::manager::{Arrived, ManagerToNode};
use std::collections::{BTreeMap, BTreeSet};

/// Copies of sectors that have arrived, and from which of their sources.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    from: BTreeMap<Arrived, BTreeSet<NodeId>>,
    /// Something has come that may settle a slot, or the table has changed.
    pub(super) is_fresh: bool,
}

/// An operator's command, and whether it was done.
pub(super) type CarriedOut = (ConnId, RequestId, Result<(), ChangeError>);

impl Manager {
    pub(super) fn note_arrived(&mut self, conn: ConnId, arrived: &[Arrived]) {
        let Some(source) = self.members.on_connection(conn) else { return };
        for &copy in arrived {
            // Repeated with every report; and of no interest once the table has settled it.
            let is_awaited = self.table.sector(copy.sector).slots.iter().any(|slot| is_of(slot, &copy));
            if is_awaited && self.arrivals.from.entry(copy).or_default().insert(source) {
                self.arrivals.is_fresh = true;
            }
        }
    }

    pub(super) fn note_handed_over(&mut self, conn: ConnId) {
        let Some(node) = self.members.on_connection(conn) else { return };
        if self.table.members.get(&node).is_some_and(|member| member.state == MemberState::Leaving) {
            self.wishes.handed_over.insert(node);
        }
    }

    pub(super) fn note_leave(&mut self, conn: ConnId) {
        if let Some(node) = self.members.on_connection(conn) {
            self.wishes.leaves.insert(node, conn);
        }
    }

    /// Lets members go that want to: they hand over what they have. Not if too few would be left.
    pub(super) fn grant_leaves(&mut self, now: Now, next: &mut Table, tell: &mut Vec<Output>) {
        for (node, conn) in std::mem::take(&mut self.wishes.leaves) {
            let state = next.members.get(&node).map(|member| member.state);
            if !matches!(state, Some(MemberState::Normal | MemberState::Joining)) {
                continue;
            }
            let left = next.eligible().filter(|&(id, _)| id != node).count();
            if left < usize::from(next.n) {
                let text = ChangeError::TooFew { left, needed: next.n.into() }.to_string();
                tell.push(Output::Node { conn, message: ManagerToNode::CannotLeave { text } });
            } else if let Some(member) = next.members.get_mut(&node) {
                log::info!("node {node} is to leave");
                member.state = MemberState::Leaving;
                self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
            }
        }
    }

    /// Sectors that have arrived whole at their new owners are theirs now; and those of which no copy
    /// is left to come.
    pub(super) fn settle_arrived(&mut self, next: &mut Table) {
        self.arrivals.is_fresh = false;
        let mut settled = Vec::new();
        for (at, sector) in next.sectors.iter().enumerate().filter(|(_, sector)| sector.is_moving()) {
            let Ok(id) = u16::try_from(at).map(SectorId) else { continue };
            for &slot in &sector.slots {
                let Slot::Moving { new: to, since, .. } = slot else { continue };
                let come = self.arrivals.from.get(&Arrived { sector: id, to, since });
                let has_come = |node| come.is_some_and(|come| come.contains(node));
                if next.sources(id, slot).iter().all(has_come) {
                    settled.push((at, slot, to));
                }
            }
        }
        for (at, slot, to) in settled {
            settle(&mut next.sectors[at], slot, to, next.epoch);
        }
        let is_awaited = |copy: &Arrived| next.sector(copy.sector).slots.iter().any(|slot| is_of(slot, copy));
        self.arrivals.from.retain(|copy, _| is_awaited(copy));
    }

    /// Does what operators have asked for. Each is answered once it is known what table comes of it.
    pub(super) fn carry_out(&mut self, now: Now, next: &mut Table) -> Vec<CarriedOut> {
        let commands = std::mem::take(&mut self.wishes.commands);
        let carry_out = |(conn, request, command)| (conn, request, self.command(now, command, next));
        commands.into_iter().map(carry_out).collect()
    }

    /// What operators are told when their commands have come to this table.
    pub(super) fn answers(&self, done: Vec<CarriedOut>, table: &Table) -> Vec<Output> {
        let answer = |(conn, request, result): CarriedOut| {
            let message = match result {
                Ok(()) => ClientReply::Plan(self.plan_from(table)),
                Err(error) => ClientReply::Error(error.to_string()),
            };
            Output::Reply { conn, request, message }
        };
        done.into_iter().map(answer).collect()
    }

    fn command(&mut self, now: Now, command: ClusterCommand, next: &mut Table) -> Result<(), ChangeError> {
        match command {
            ClusterCommand::Plan => {}
            ClusterCommand::Stage(change) => {
                self.check_liveness(now, change)?;
                stage(next, change)?;
            }
            ClusterCommand::Revert => next.staged.clear(),
            ClusterCommand::Apply { epoch } => {
                if epoch != self.table.epoch {
                    return Err(ChangeError::MovedOn { epoch: self.table.epoch.0 });
                }
                for change in next.staged.clone() {
                    self.check_liveness(now, change)?;
                }
                let enacted = enact(next)?;
                validate(&self.table, &enacted).map_err(|fault| ChangeError::Other(fault.to_string()))?;
                if next.is_moving() || !next.is_serving() {
                    // What could not be planned for yet.
                    self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
                }
                *next = enacted;
                log::info!("a plan is applied: {} copies move", next.moves());
            }
            ClusterCommand::Cancel => {
                cancel(next);
                // What dead nodes own is rebuilt all the same.
                let is_urgent = next.members.values().any(|member| member.state == MemberState::Lost);
                self.plan_at = is_urgent.then(|| now.mono.after_ms(PLAN_SETTLE_MS));
            }
        }
        Ok(())
    }

    /// Whoever answers is not dead.
    fn check_liveness(&self, now: Now, change: Change) -> Result<(), ChangeError> {
        let known_at = self.started.unwrap_or_default().after_ms(2 * REPORT_STALE_MS);
        match change {
            Change::Replace { dead, .. } if self.members.is_up(dead, now.mono) => {
                let text = format!("node {dead} is up; have it leave, or stop its process first");
                Err(ChangeError::Other(text))
            }
            Change::Replace { dead, .. } if now.mono < known_at && self.table.members.contains_key(&dead) => {
                let text = "the manager has just been started, and does not know yet who is up; try again";
                Err(ChangeError::Other(text.to_owned()))
            }
            Change::Replace { .. }
            | Change::Join(_)
            | Change::Leave(_)
            | Change::Move { .. }
            | Change::Weight { .. } => Ok(()),
        }
    }

    /// When the next member is given up, if it stays away.
    pub(super) fn evict_at(&self) -> Option<Instant> {
        let after_ms = self.evict_after_ms?;
        self.evictable().map(|node| self.away_since(node).after_ms(after_ms)).min()
    }

    /// Members that are away, and could be given up: none while most are away, for then it is rather
    /// this manager that is cut off; and none while another is being rebuilt, whose sources they may be.
    fn evictable(&self) -> impl Iterator<Item = NodeId> + '_ {
        let table = &self.table;
        let connected = table.eligible().filter(|&(node, _)| self.members.is_connected(node)).count();
        let is_enough = connected >= usize::from(table.n) && 2 * connected > table.eligible().count();
        let is_rebuilding = table.members.values().any(|member| member.state == MemberState::Lost);
        let may_go = is_enough && !is_rebuilding && table.is_serving();
        let candidates = self.table.members.iter().filter(|(_, member)| match member.state {
            MemberState::Normal | MemberState::Joining | MemberState::Leaving => true,
            MemberState::Waiting | MemberState::Lost | MemberState::Left | MemberState::Removed => false,
        });
        candidates.map(|(&node, _)| node).filter(move |&node| may_go && !self.members.is_connected(node))
    }

    /// Since when a member has not been heard of; at least since this manager started.
    fn away_since(&self, node: NodeId) -> Instant {
        self.members.heard(node).or(self.started).unwrap_or_default()
    }

    /// Gives up a member that has been away for too long.
    pub(super) fn evict(&mut self, now: Now, next: &mut Table) {
        if self.evict_at().is_none_or(|at| at > now.mono) {
            return;
        }
        let Some(node) = self.evictable().min_by_key(|&node| self.away_since(node)) else { return };
        log::warn!("node {node} has been away for too long: its sectors are rebuilt on other nodes");
        give_up(next, node);
        // In another table: a slot that is called off cannot set out anew in the same one.
        self.plan_at = Some(now.mono.after_ms(PLAN_SETTLE_MS));
    }

    /// Members whose standing has come to its end: joined, left, or given up and owning nothing.
    pub(super) fn retire(&mut self, next: &mut Table) {
        let handed_over = std::mem::take(&mut self.wishes.handed_over);
        let owners = next.owners();
        let is_at_rest = next.is_serving() && !next.is_moving() && self.plan_at.is_none();
        for (node, member) in &mut next.members {
            let owns = owners.contains(node);
            member.state = match member.state {
                MemberState::Leaving if !owns && handed_over.contains(node) => MemberState::Left,
                MemberState::Lost if !owns => MemberState::Removed,
                MemberState::Joining if is_at_rest => MemberState::Normal,
                state @ (MemberState::Joining
                | MemberState::Normal
                | MemberState::Leaving
                | MemberState::Waiting
                | MemberState::Left
                | MemberState::Lost
                | MemberState::Removed) => state,
            };
        }
    }

    /// What is staged would come to this.
    pub(super) fn staged_plan(&self) -> ClusterPlan {
        self.plan_from(&self.table)
    }

    fn plan_from(&self, table: &Table) -> ClusterPlan {
        let after = enact(table).unwrap_or_else(|_| table.clone());
        // A keyspace of few copies has them in the first slots.
        let least = after.keyspaces.values().map(|keyspace| usize::from(keyspace.settings.n)).min();
        let is_orphan = |sector: &&Sector| {
            let mut holders = sector.holders(least.unwrap_or(1));
            !sector.slots.is_empty() && holders.all(|node| after.is_lost(node))
        };
        ClusterPlan {
            epoch: table.epoch,
            staged: table.staged.clone(),
            moves: u32::try_from(after.moves()).unwrap_or(u32::MAX),
            orphans: small(after.sectors.iter().filter(is_orphan).count()),
            rows: self.rows(table, &after),
        }
    }

    fn rows(&self, before: &Table, after: &Table) -> Vec<PlanRow> {
        let (held, mut gets) = (before.loads(), BTreeMap::<NodeId, (usize, u64)>::new());
        for slot in after.sectors.iter().flat_map(|sector| &sector.slots) {
            let Slot::Moving { old, new, .. } = *slot else { continue };
            let vitals = self.members.seen(old).map(|seen| seen.vitals).unwrap_or_default();
            let copies = held.get(&old).map_or(1, |held| held.0.max(1)) as u64;
            let entry = gets.entry(new).or_default();
            *entry = (entry.0 + 1, entry.1 + vitals.bytes / copies);
        }
        let to_hold = settled(after).loads();
        let row = |(node, member): (NodeId, &crate::ring::Member)| {
            let (now, then) = (held.get(&node).copied(), to_hold.get(&node).copied());
            let (now, then) = (now.unwrap_or_default(), then.unwrap_or_default());
            let (copies, bytes) = gets.get(&node).copied().unwrap_or_default();
            let state = after.members.get(&node).map_or(member.state, |member| member.state);
            PlanRow {
                node,
                state: (member.state, state),
                sectors: (small(now.0), small(then.0)),
                first: (small(now.1), small(then.1)),
                gets: small(copies),
                bytes,
            }
        };
        before.present().map(row).collect()
    }
}

fn small(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn is_of(slot: &Slot, copy: &Arrived) -> bool {
    matches!(*slot, Slot::Moving { new, since, .. } if new == copy.to && since == copy.since)
}

fn settle(sector: &mut Sector, arrived: Slot, to: NodeId, epoch: Epoch) {
    for slot in sector.slots.iter_mut().filter(|slot| **slot == arrived) {
        *slot = Slot::Settled(to);
        sector.conf_epoch = epoch;
    }
}

/// As the table will be when everything has arrived.
fn settled(table: &Table) -> Table {
    let mut table = table.clone();
    for slot in table.sectors.iter_mut().flat_map(|sector| &mut sector.slots) {
        if let Slot::Moving { new, .. } = *slot {
            *slot = Slot::Settled(new);
        }
    }
    table
}

/// Whatever moves from a node that is not given up stays where it is. Nobody leaves any more, and
/// whoever was joining and owns nothing yet waits for an operator's word, or it would be planned for
/// at once again.
fn cancel(next: &mut Table) {
    let lost: BTreeSet<NodeId> = next.members.keys().copied().filter(|&node| next.is_lost(node)).collect();
    next.call_off(|old, _| !lost.contains(&old));
    let owners = next.owners();
    for (node, member) in &mut next.members {
        member.state = match member.state {
            MemberState::Leaving => MemberState::Normal,
            MemberState::Joining if !owners.contains(node) => MemberState::Waiting,
            MemberState::Joining => MemberState::Normal,
            state @ (MemberState::Waiting
            | MemberState::Normal
            | MemberState::Left
            | MemberState::Lost
            | MemberState::Removed) => state,
        };
    }
}
