//! Leaving for good: what a node does whose member is to leave, and how it knows that it has.
//!
//! Its sectors move away as any do, and its hints go to the owners that can be reached, if they are
//! as many as a write takes, even if those that the hints are owed to cannot. Once it has neither, and no
//! request in hand, it says so to the manager with each report, until the table has it as left. Then
//! nothing that was acknowledged depends on it: its process may end, even by a kill.

use super::io::Output;
use super::{Node, Row};
use crate::ring::MemberState;
use crate::types::{NodeId, Now};
use crate::wire::manager::NodeToManager;

/// How far a node's leaving is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Departure {
    /// It stays, as far as it knows.
    #[default]
    None,
    /// It was told to stop, and is to leave first: the manager is asked with each report.
    Wanted,
    /// It has left, and has said so.
    Over,
}

impl Node {
    /// The process is to end: at once, or after having left for good. Asked a second time: at once.
    pub(super) fn stop_asked(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_member = match self.member_state() {
            Some(MemberState::Joining | MemberState::Normal | MemberState::Leaving) => true,
            Some(MemberState::Waiting | MemberState::Left | MemberState::Lost | MemberState::Removed)
            | None => false,
        };
        if self.options.leave_on_stop && is_member && self.departure == Departure::None {
            log::info!(
                "leaving the cluster: handing over all there is; told again to stop, this node stops at once"
            );
            self.departure = Departure::Wanted;
            self.report(now, out);
        } else {
            self.stopping = true;
        }
    }

    /// The manager does not let this node go.
    pub(super) fn cannot_leave(&mut self, text: &str) {
        if self.departure == Departure::Wanted {
            log::error!(
                "this node cannot leave the cluster: {text}; it stops, and stays a member that is away"
            );
            self.stopping = true;
        }
    }

    /// This node's standing in the table in force.
    fn member_state(&self) -> Option<MemberState> {
        self.table()?.members.get(&self.me()).map(|member| member.state)
    }

    /// Whether it is to go, or has gone.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.member_state(), Some(MemberState::Leaving | MemberState::Left))
    }

    /// Whether it may take what is to be kept for others: not on its way out, where nobody would have it
    /// handed over any more.
    pub(super) fn may_keep_hints(&self) -> bool {
        match self.member_state() {
            Some(MemberState::Joining | MemberState::Normal | MemberState::Waiting) => true,
            Some(MemberState::Leaving | MemberState::Left | MemberState::Lost | MemberState::Removed)
            | None => false,
        }
    }

    /// Asks to leave, if it is to; says that it has handed over all it had, if it has.
    pub(super) fn tell_of_leaving(&mut self, out: &mut Vec<Output>) {
        if self.departure == Departure::Wanted && !self.is_leaving() {
            out.push(Output::Manager(NodeToManager::Leave));
        }
        if !self.is_leaving() || !self.has_handed_over() {
            return;
        }
        if self.member_state() == Some(MemberState::Leaving) {
            out.push(Output::Manager(NodeToManager::HandedOver));
        } else if self.departure != Departure::Over {
            log::warn!("this node has left the cluster: safe to stop");
            self.stopping |= self.departure == Departure::Wanted;
            self.departure = Departure::Over;
            out.push(Output::Left);
        }
    }

    /// Nothing acknowledged depends on this node: it owns nothing by a durable table, keeps nothing for
    /// others, and runs no quorum.
    fn has_handed_over(&self) -> bool {
        let Some(view) = self.view.as_ref().filter(|view| view.durable) else { return false };
        let owns = view.table.owners().contains(&self.me());
        let runs_quorum = || {
            self.pending.ids().into_iter().any(|id| match self.pending.get(id) {
                Some(Row::Put(_) | Row::Get(_) | Row::Load(_)) => true,
                Some(
                    Row::Forward(_) | Row::Chunk(_) | Row::Piece(_) | Row::Comparing(_) | Row::Settling(_),
                )
                | None => false,
            })
        };
        !owns && self.ledger.bytes() == 0 && self.gate.is_empty() && !runs_quorum()
    }

    /// A table is in force: whether it has given this node up. Then others own what it has, and what it
    /// has is left as it is.
    pub(super) fn follow_own_standing(&self, out: &mut Vec<Output>) {
        match self.member_state() {
            Some(MemberState::Lost | MemberState::Removed) => out.push(Output::Fatal(format!(
                "node {} was given up as dead, and its sectors are other nodes' now; its data is untouched; \
                 start it with an empty directory to join as a new node",
                self.me()
            ))),
            Some(
                MemberState::Left
                | MemberState::Joining
                | MemberState::Normal
                | MemberState::Leaving
                | MemberState::Waiting,
            )
            | None => {}
        }
    }

    /// Whether hints for a node are to go to whoever else owns what they are of: it is given up, or this
    /// node is to go and cannot wait for it.
    pub(super) fn passes_on_hints(&self, owed_to: NodeId) -> bool {
        self.is_leaving() || self.table().is_some_and(|table| table.is_lost(owed_to))
    }
}
