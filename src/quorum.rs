//! Counting answers over replica slots.
//!
//! A quorum counts *slots*, not nodes: a slot that is moving holds its old and its new node and
//! has answered only when both have (CONSISTENCY.md, section 1). In a *sloppy* quorum a further
//! node may answer in the place of an owner that is away; a *strict* one counts owners only. The
//! tally knows nothing of messages; each verdict is given exactly once, so that a late or repeated
//! answer changes nothing.

use crate::mutant::{Mutant, Planted};
use crate::ring::Slot;
use crate::types::NodeId;

/// What a tally has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Enough slots have answered.
    Reached,
    /// Too few slots are left for it ever to be reached, as things stand.
    Unreachable,
}

/// Where one node of a slot stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Awaited,
    Given,
    /// A fallback has given it instead.
    StoodIn,
    Refused,
}

/// Counts one request's answers against the slots of its sector.
#[derive(Clone, Debug)]
pub struct Tally {
    slots: Vec<Slot>,
    answers: Vec<(NodeId, Answer)>,
    needed: usize,
    /// Fallbacks do not count.
    strict: bool,
    duplicates: usize,
    decided: bool,
    planted: Planted,
}

impl Tally {
    /// A tally over these slots that is reached at `needed` of them, by owners alone.
    #[must_use]
    pub fn new(slots: &[Slot], needed: usize, planted: Planted) -> Self {
        let answers = slots.iter().flat_map(Slot::nodes).map(|node| (node, Answer::Awaited)).collect();
        Self { slots: slots.to_vec(), answers, needed, strict: true, duplicates: 0, decided: false, planted }
    }

    /// The same, with fallbacks counted unless `strict`.
    #[must_use]
    pub fn sloppy(slots: &[Slot], needed: usize, strict: bool, planted: Planted) -> Self {
        let strict = strict && !planted.is(Mutant::CountFallbackInStrict);
        Self { strict, ..Self::new(slots, needed, planted) }
    }

    /// An empty tally with the same demands over other slots.
    #[must_use]
    pub fn again(&self, slots: &[Slot]) -> Self {
        Self { strict: self.strict, ..Self::new(slots, self.needed, self.planted) }
    }

    /// Whether fallbacks do not count.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// A node has done what was asked. Returns the verdict if this decides it.
    pub fn accept(&mut self, node: NodeId) -> Option<Verdict> {
        if self.planted.is(Mutant::CountDuplicateAck) && self.answer(node) == Some(Answer::Given) {
            self.duplicates += 1;
        }
        self.record(node, Answer::Given)
    }

    /// A node will not do it, or cannot be reached. A later acceptance still counts.
    pub fn refuse(&mut self, node: NodeId) -> Option<Verdict> {
        match self.answer(node) {
            Some(Answer::Given | Answer::StoodIn) => None,
            Some(Answer::Awaited | Answer::Refused) | None => self.record(node, Answer::Refused),
        }
    }

    /// A fallback was asked in the place of an owner: that slot's answer may still come.
    pub fn expect_stand_in(&mut self, absent: NodeId) {
        if !self.strict && self.answer(absent) == Some(Answer::Refused) {
            self.record_only(absent, Answer::Awaited);
        }
    }

    /// A fallback has done in the place of an owner what was asked of it. Returns the verdict if
    /// this decides it.
    pub fn stand_in(&mut self, absent: NodeId) -> Option<Verdict> {
        match self.answer(absent) {
            Some(Answer::Awaited | Answer::Refused) if !self.strict => self.record(absent, Answer::StoodIn),
            Some(_) | None => None,
        }
    }

    /// The sector's owners changed: counts over the new slots, keeping the answers of nodes
    /// that are in both. An object that a node stored durably is in what it hands on.
    pub fn retarget(&mut self, slots: &[Slot]) -> Option<Verdict> {
        let old = std::mem::take(&mut self.answers);
        self.slots = slots.to_vec();
        self.answers = slots
            .iter()
            .flat_map(Slot::nodes)
            .map(|node| {
                let known = old.iter().find(|entry| entry.0 == node);
                // Whoever stood in may be an owner of its own now: one disk must not count twice.
                let kept = known.map(|entry| entry.1).filter(|&answer| answer != Answer::StoodIn);
                (node, kept.unwrap_or(Answer::Awaited))
            })
            .collect();
        self.verdict()
    }

    fn record(&mut self, node: NodeId, answer: Answer) -> Option<Verdict> {
        self.record_only(node, answer);
        self.verdict()
    }

    fn record_only(&mut self, node: NodeId, answer: Answer) {
        for entry in self.answers.iter_mut().filter(|entry| entry.0 == node) {
            entry.1 = answer;
        }
    }

    /// Gives a verdict once. `Unreachable` is not final for the row, but is not said twice.
    fn verdict(&mut self) -> Option<Verdict> {
        if self.decided {
            return None;
        }
        let verdict = if self.accepted() >= self.needed {
            Verdict::Reached
        } else if self.possible() < self.needed {
            Verdict::Unreachable
        } else {
            return None;
        };
        self.decided = true;
        Some(verdict)
    }

    /// Slots that have answered, by themselves or through fallbacks.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.count(|answer| matches!(answer, Answer::Given | Answer::StoodIn)) + self.duplicates
    }

    /// Slots that have answered by themselves.
    #[must_use]
    pub fn by_owners(&self) -> usize {
        self.count(|answer| answer == Answer::Given)
    }

    fn count(&self, counts: impl Fn(Answer) -> bool) -> usize {
        let given = |node: NodeId| self.answer(node).is_some_and(&counts);
        let counted = |slot: &&Slot| {
            if self.planted.is(Mutant::NewOwnerCountsAlone) {
                slot.nodes().any(given)
            } else {
                slot.nodes().all(given)
            }
        };
        self.slots.iter().filter(counted).count()
    }

    /// Slots that have answered or still may.
    #[must_use]
    pub fn possible(&self) -> usize {
        let open = |node: NodeId| self.answer(node) != Some(Answer::Refused);
        self.slots.iter().filter(|slot| slot.nodes().all(open)).count()
    }

    /// Slots it takes.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether every node of every slot has answered, one way or the other.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.answers.iter().all(|entry| entry.1 != Answer::Awaited)
    }

    /// Owners that have not done themselves what was asked.
    pub fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.answers.iter().filter(|entry| entry.1 != Answer::Given).map(|entry| entry.0)
    }

    /// Whether this owner's answer, or one in its place, may still come.
    #[must_use]
    pub fn is_awaited(&self, node: NodeId) -> bool {
        self.answer(node) == Some(Answer::Awaited)
    }

    /// Whether this owner has not done itself what was asked.
    #[must_use]
    pub fn is_missing(&self, node: NodeId) -> bool {
        self.answer(node).is_some_and(|answer| answer != Answer::Given)
    }

    /// Whether this node will not do what was asked, or could not be reached.
    #[must_use]
    pub fn is_refused(&self, node: NodeId) -> bool {
        self.answer(node) == Some(Answer::Refused)
    }

    fn answer(&self, node: NodeId) -> Option<Answer> {
        self.answers.iter().find(|entry| entry.0 == node).map(|entry| entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn settled(nodes: &[u32]) -> Vec<Slot> {
        nodes.iter().map(|&node| Slot::Settled(NodeId(node))).collect()
    }

    #[test]
    fn a_verdict_is_given_exactly_once() {
        let mut tally = Tally::new(&settled(&[1, 2, 3]), 2, Planted::NONE);
        assert_eq!(tally.accept(NodeId(1)), None);
        assert_eq!(tally.accept(NodeId(2)), Some(Verdict::Reached));
        assert_eq!(tally.accept(NodeId(3)), None);
        assert_eq!(tally.refuse(NodeId(3)), None);
    }

    #[test]
    fn one_node_answering_twice_is_one_answer() {
        let mut tally = Tally::new(&settled(&[1, 2, 3]), 2, Planted::NONE);
        assert_eq!(tally.accept(NodeId(1)), None);
        assert_eq!(tally.accept(NodeId(1)), None);
        assert_eq!(tally.accepted(), 1);
    }

    #[test]
    fn a_quorum_that_can_no_longer_be_met_is_said_early() {
        let mut tally = Tally::new(&settled(&[1, 2, 3]), 2, Planted::NONE);
        assert_eq!(tally.refuse(NodeId(1)), None);
        assert_eq!(tally.refuse(NodeId(2)), Some(Verdict::Unreachable));
    }

    #[test]
    fn a_stand_in_counts_for_the_owner_that_is_away_unless_the_quorum_is_strict() {
        let slots = settled(&[1, 2, 3]);
        for (strict, wanted) in [(false, Some(Verdict::Reached)), (true, None)] {
            let mut tally = Tally::sloppy(&slots, 2, strict, Planted::NONE);
            tally.accept(NodeId(1));
            tally.refuse(NodeId(3));
            tally.expect_stand_in(NodeId(3));
            assert_eq!(tally.stand_in(NodeId(3)), wanted);
            assert_eq!(tally.by_owners(), 1);
            assert!(tally.is_missing(NodeId(3)), "it has not got it itself");
        }
    }

    #[test]
    fn an_owners_own_answer_takes_the_place_of_its_stand_ins_and_never_the_other_way_round() {
        let mut tally = Tally::sloppy(&settled(&[1, 2, 3]), 3, false, Planted::NONE);
        tally.stand_in(NodeId(3));
        tally.accept(NodeId(3));
        assert_eq!((tally.accepted(), tally.by_owners()), (1, 1));
        tally.stand_in(NodeId(3));
        tally.refuse(NodeId(3));
        assert_eq!((tally.accepted(), tally.by_owners()), (1, 1));
    }

    #[test]
    fn a_stand_ins_word_does_not_outlive_the_owners_it_was_given_under() {
        let mut tally = Tally::sloppy(&settled(&[1, 2, 3]), 2, false, Planted::NONE);
        tally.stand_in(NodeId(3));
        // Node 4 stood in for 3; now it owns a slot itself, and has one disk all the same.
        assert_eq!(tally.retarget(&settled(&[1, 4, 3])), None);
        assert_eq!(tally.accept(NodeId(4)), None);
        assert_eq!(tally.accepted(), 1);
    }

    #[test]
    fn a_moving_slot_counts_when_both_its_nodes_have_answered() {
        let moving = Slot::Moving { old: NodeId(3), new: NodeId(4), since: Epoch(0) };
        let slots = [Slot::Settled(NodeId(1)), Slot::Settled(NodeId(2)), moving];
        let mut tally = Tally::new(&slots, 2, Planted::NONE);
        assert_eq!(tally.accept(NodeId(4)), None);
        assert_eq!(tally.accept(NodeId(1)), None);
        assert_eq!(tally.accept(NodeId(3)), Some(Verdict::Reached));
    }

    #[test]
    fn answers_outlive_a_change_of_owners() {
        let mut tally = Tally::new(&settled(&[1, 2, 3]), 2, Planted::NONE);
        assert_eq!(tally.accept(NodeId(1)), None);
        let moving = Slot::Moving { old: NodeId(1), new: NodeId(4), since: Epoch(0) };
        let slots = [moving, Slot::Settled(NodeId(2)), Slot::Settled(NodeId(3))];
        assert_eq!(tally.retarget(&slots), None);
        assert_eq!(tally.accept(NodeId(2)), None);
        assert_eq!(tally.accept(NodeId(4)), Some(Verdict::Reached));
    }

    /// What the slots come to, by going through the answers from the start each time.
    struct Model {
        slots: Vec<Slot>,
        given: BTreeSet<NodeId>,
        refused: BTreeSet<NodeId>,
    }

    impl Model {
        fn over(slots: &[Slot]) -> Self {
            Self { slots: slots.to_vec(), given: BTreeSet::new(), refused: BTreeSet::new() }
        }

        fn count(&self, mut fits: impl FnMut(NodeId) -> bool) -> usize {
            self.slots.iter().filter(|slot| slot.nodes().all(&mut fits)).count()
        }

        fn accepted(&self) -> usize {
            self.count(|node| self.given.contains(&node))
        }

        fn possible(&self) -> usize {
            self.count(|node| self.given.contains(&node) || !self.refused.contains(&node))
        }

        fn verdict(&self, needed: usize) -> Option<Verdict> {
            if self.accepted() >= needed {
                Some(Verdict::Reached)
            } else if self.possible() < needed {
                Some(Verdict::Unreachable)
            } else {
                None
            }
        }

        /// Those that are owners no more are forgotten: a node that comes back was not asked.
        fn retarget(&mut self, slots: &[Slot]) {
            self.slots = slots.to_vec();
            let nodes: BTreeSet<_> = slots.iter().flat_map(Slot::nodes).collect();
            self.given.retain(|node| nodes.contains(node));
            self.refused.retain(|node| nodes.contains(node));
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Accept(NodeId),
        Refuse(NodeId),
        Retarget(Vec<Slot>),
    }

    /// One to five slots over nine nodes, each node in one place, some slots moving.
    fn slots() -> impl Strategy<Value = Vec<Slot>> {
        let nodes = Just((1..=10).map(NodeId).collect::<Vec<_>>()).prop_shuffle();
        (nodes, prop::collection::vec(any::<bool>(), 1..=5)).prop_map(|(nodes, moving)| {
            let pairs = nodes.chunks_exact(2);
            let slot = |(pair, moving): (&[NodeId], bool)| match moving {
                true => Slot::Moving { old: pair[0], new: pair[1], since: Epoch(0) },
                false => Slot::Settled(pair[0]),
            };
            pairs.zip(moving).map(slot).collect()
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let node = (1u32..=10).prop_map(NodeId);
        prop_oneof![
            6 => node.clone().prop_map(Event::Accept),
            3 => node.prop_map(Event::Refuse),
            1 => slots().prop_map(Event::Retarget),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_tally_counts_as_the_model_does(
            first in slots(),
            needed in 1usize..=5,
            events in prop::collection::vec(event(), 0..30),
        ) {
            let mut tally = Tally::new(&first, needed, Planted::NONE);
            let mut model = Model::over(&first);
            let mut decided = false;
            for event in events {
                let verdict = match &event {
                    Event::Accept(node) => {
                        if model.slots.iter().any(|slot| slot.nodes().any(|owner| owner == *node)) {
                            model.given.insert(*node);
                        }
                        tally.accept(*node)
                    }
                    Event::Refuse(node) => {
                        if model.slots.iter().any(|slot| slot.nodes().any(|owner| owner == *node)) {
                            model.refused.insert(*node);
                        }
                        tally.refuse(*node)
                    }
                    Event::Retarget(slots) => {
                        model.retarget(slots);
                        tally.retarget(slots)
                    }
                };
                prop_assert_eq!(tally.accepted(), model.accepted());
                prop_assert_eq!(tally.possible(), model.possible());
                let awaited = |node: NodeId| !model.given.contains(&node) && !model.refused.contains(&node);
                let complete = !model.slots.iter().flat_map(Slot::nodes).any(awaited);
                prop_assert_eq!(tally.is_complete(), complete);
                match verdict {
                    Some(verdict) => {
                        prop_assert!(!decided, "a second verdict after {event:?}");
                        prop_assert_eq!(Some(verdict), model.verdict(needed));
                        decided = true;
                    }
                    None => prop_assert!(decided || model.verdict(needed).is_none(), "no verdict after {event:?}"),
                }
            }
        }
    }
}
