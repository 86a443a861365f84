//! An operator who changes the membership while the weather lasts: nodes leave, are given up for dead,
//! are moved sectors to, weigh another share, and now and then everything is called off.
//!
//! He does what an operator does with `gtstore cluster`: stages a change, and applies the plan a while
//! later, if it still can be. A node that has left is killed that very moment, since it says that it is
//! safe to; one that is to be given up is dead with its disk, and at most one is in a run: that is the
//! one copy that may be lost.

use super::process::{ProcId, Running};
use super::rng::Rng;
use super::world::{MANAGER, Outside, World};
use crate::limits::REPORT_STALE_MS;
use crate::ring::{Change, MemberState, Table};
use crate::types::{NodeId, SectorId};
use crate::wire::client::ClusterCommand;

/// What an operator does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// Stages a change.
    Stage(Change),
    /// Applies what is staged, and comes back until nothing is.
    Apply,
    /// Gives up a node that is dead, and comes back until the table has it so.
    GiveUp(NodeId),
}

/// How long he looks at a plan.
const LOOK_US: (u64, u64) = (100_000, 1_500_000);
/// How soon he tries again.
const AGAIN_US: u64 = 500_000;

/// Thinks of a change, and begins with it. False if there is none to make.
pub(super) fn begin(world: &mut World, rng: &mut Rng, may_lose: bool) -> Option<Begun> {
    let Running::Manager(manager) = &world.procs[MANAGER.0].running else { return None };
    let table = manager.table().clone();
    let members: Vec<NodeId> = table.eligible().map(|(node, _)| node).collect();
    let &node = rng.pick(&members)?;
    // Those that are dead or about to leave are no help to the others.
    let dead = world.gone.values().filter(|node| members.contains(node)).count();
    let leaving = table.staged.iter().filter(|change| matches!(change, Change::Leave(_))).count();
    let spare = members.len().saturating_sub(dead + leaving + usize::from(table.n));
    let deed = match rng.below(8) {
        0..=2 if spare > 0 => Deed::Stage(Change::Leave(node)),
        3 => {
            world.operate(ClusterCommand::Cancel);
            return Some(Begun::Change);
        }
        4 | 5 => Deed::Stage(draw_move(&table, rng, node)),
        6 => Deed::Stage(Change::Weight {
            node,
            weight: [50, 100, 200][usize::try_from(rng.below(3)).unwrap_or(0)],
        }),
        7 if spare > 0 && may_lose && table.n > 1 => {
            let victim = world.proc_of(node).filter(|&proc| world.procs[proc.0].is_up())?;
            world.lose_for_good(victim);
            let after_us = REPORT_STALE_MS * 1000 + rng.range(LOOK_US.0, LOOK_US.1);
            world.order(after_us, Outside::Operator(Deed::GiveUp(node)));
            return Some(Begun::Loss(victim));
        }
        _ => return None,
    };
    world.order(0, Outside::Operator(deed));
    Some(Begun::Change)
}

/// What was begun.
pub(super) enum Begun {
    Change,
    /// This node is dead, and its disk with it.
    Loss(ProcId),
}

fn draw_move(table: &Table, rng: &mut Rng, to: NodeId) -> Change {
    let count = table.sectors.len() as u64;
    let first = rng.below(count);
    let last = rng.range(first, count - 1);
    let sector = |at: u64| SectorId(u16::try_from(at).unwrap_or(0));
    Change::Move { to, first: sector(first), last: sector(last) }
}

impl World {
    /// Does what an operator wants done now.
    pub(super) fn carry_out_deed(&mut self, deed: Deed) {
        let Running::Manager(manager) = &self.procs[MANAGER.0].running else {
            return self.order(AGAIN_US, Outside::Operator(deed));
        };
        let table = manager.table().clone();
        match deed {
            Deed::Stage(change) => {
                self.operate(ClusterCommand::Stage(change));
                let look_us = self.rng.range(LOOK_US.0, LOOK_US.1);
                self.order(look_us, Outside::Operator(Deed::Apply));
            }
            Deed::Apply if table.staged.is_empty() => {}
            Deed::Apply => {
                self.operate(ClusterCommand::Apply { epoch: table.epoch });
                self.order(AGAIN_US, Outside::Operator(Deed::Apply));
            }
            Deed::GiveUp(dead) => {
                let state = table.members.get(&dead).map(|member| member.state);
                if matches!(state, Some(MemberState::Lost | MemberState::Removed | MemberState::Left)) {
                    return;
                }
                // Whatever else is staged may stand in its way.
                self.operate(ClusterCommand::Revert);
                self.operate(ClusterCommand::Stage(Change::Replace { dead, by: None }));
                self.order(AGAIN_US / 2, Outside::Operator(Deed::Apply));
                self.order(2 * AGAIN_US, Outside::Operator(deed));
            }
        }
    }

    fn operate(&mut self, command: ClusterCommand) {
        self.note(|| format!("operator: {command:?}"));
        self.tell_operator(command);
    }
}
