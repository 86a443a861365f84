//! The algebra of versions, against a model that keeps whole histories.
//!
//! The model knows of each copy every write it has heard of and every write that was replaced,
//! as plain sets: no vectors, no merging of contexts. What lives is what was heard of and never
//! replaced. Objects must come to the same.

use super::{Content, Context, Object, Replaces, Sibling, VersionVector};
use crate::types::{Actor, Dot, Incarnation, NodeId, Stamp};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeSet;

const COPIES: usize = 4;

fn actor(copy: usize) -> Actor {
    Actor { node: NodeId(copy as u32 + 1), incarnation: Incarnation(1) }
}

fn sibling(dot: Dot, stamp: u64) -> Sibling {
    let content = match stamp % 5 {
        0 => Content::Tombstone,
        _ => Content::Value(Bytes::from(dot.to_string())),
    };
    Sibling { dot, stamp: Stamp(stamp), expiry: None, content }
}

/// Whole histories: writes heard of, and those among them that another one replaced.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    heard: BTreeSet<Dot>,
    replaced: BTreeSet<Dot>,
}

impl Model {
    fn live(&self) -> BTreeSet<Dot> {
        self.heard.difference(&self.replaced).copied().collect()
    }

    fn merge(&mut self, other: &Model) {
        self.heard.extend(&other.heard);
        self.replaced.extend(&other.replaced);
    }
}

/// What a client may do with a copy.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Write without a context; replaces what the copy holds, or nothing.
    Blind { copy: usize, replaces_all: bool },
    /// Keep a copy's context and what it names.
    Read { copy: usize },
    /// Write with what was last read.
    Write { copy: usize },
    /// Write with what the last write answered.
    WriteOn { copy: usize },
    /// One copy hears from another.
    Merge { from: usize, to: usize },
}

fn action() -> impl Strategy<Value = Action> {
    let copy = 0..COPIES;
    prop_oneof![
        (copy.clone(), any::<bool>()).prop_map(|(copy, replaces_all)| Action::Blind { copy, replaces_all }),
        copy.clone().prop_map(|copy| Action::Read { copy }),
        copy.clone().prop_map(|copy| Action::Write { copy }),
        copy.clone().prop_map(|copy| Action::WriteOn { copy }),
        (copy.clone(), copy).prop_map(|(from, to)| Action::Merge { from, to }),
    ]
}

/// A client's context beside what it really stands for: the values it has seen or made.
#[derive(Clone, Default)]
struct Seen {
    context: Context,
    dots: BTreeSet<Dot>,
}

#[derive(Default)]
struct World {
    copies: [(Object, Model); COPIES],
    last_read: Seen,
    last_answer: Seen,
    writes: u64,
    /// Writes that a client replaced knowingly, or that a blind write was told to.
    rightly_replaced: BTreeSet<Dot>,
}

impl World {
    fn run(actions: &[Action]) -> Self {
        let mut world = Self::default();
        for &action in actions {
            world.step(action);
        }
        world
    }

    fn step(&mut self, action: Action) {
        match action {
            Action::Blind { copy, replaces_all } => self.put(copy, None, replaces_all),
            Action::Read { copy } => {
                let (object, model) = &self.copies[copy];
                self.last_read = Seen { context: object.client_context(), dots: model.heard.clone() };
            }
            Action::Write { copy } => self.put(copy, Some(&self.last_read.clone()), false),
            Action::WriteOn { copy } => self.put(copy, Some(&self.last_answer.clone()), false),
            Action::Merge { from, to } => {
                let (object, model) = self.copies[from].clone();
                self.copies[to].0.merge(&object);
                self.copies[to].1.merge(&model);
            }
        }
    }

    fn put(&mut self, copy: usize, seen: Option<&Seen>, replaces_all: bool) {
        self.writes += 1;
        let dot = Dot { actor: actor(copy), seq: self.writes };
        // Stamps repeat on purpose.
        let new = sibling(dot, self.writes / 2 % 7);
        let (object, model) = &mut self.copies[copy];
        let known = seen.cloned().unwrap_or_default();
        let vector = known.context.vector.clone();
        let replaces = if replaces_all { Replaces::All } else { Replaces::Seen(&vector) };
        let replaced = if replaces_all { model.live() } else { known.dots.clone() };
        object.put(replaces, &vector, new.clone());
        let answer = object.context_after_put(seen.map(|seen| &seen.context), dot, new.stamp);
        self.rightly_replaced.extend(&replaced);
        model.heard.extend(&known.dots);
        model.replaced.extend(replaced);
        model.heard.insert(dot);
        let mut dots = known.dots;
        // A write left out of its answer's context is one that the client does not replace.
        // One that is in covers its actor's earlier ones too, which must all be replaced by now.
        if answer.vector.covers(dot) {
            dots.insert(dot);
            dots.extend(model.replaced.iter().filter(|earlier| earlier.actor == dot.actor));
        }
        self.last_answer = Seen { context: answer, dots };
    }

    /// All copies merged, in the order given.
    fn merged(&self, order: [usize; COPIES]) -> Object {
        let mut all = Object::default();
        for copy in order {
            all.merge(&self.copies[copy].0);
        }
        all
    }
}

fn dots(object: &Object) -> BTreeSet<Dot> {
    object.siblings().iter().map(|sibling| sibling.dot).collect()
}

fn merge(a: &Object, b: &Object) -> Object {
    let mut merged = a.clone();
    merged.merge(b);
    merged
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 0..40)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn merge_is_commutative_associative_and_idempotent(actions in actions()) {
        let world = World::run(&actions);
        let [a, b, c, _] = world.copies.map(|copy| copy.0);
        prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
        prop_assert_eq!(&merge(&a, &a), &a);
        let ab = merge(&a, &b);
        prop_assert_eq!(&merge(&ab, &b), &ab);
    }

    #[test]
    fn merge_says_whether_anything_changed(actions in actions()) {
        let world = World::run(&actions);
        let [a, b, ..] = world.copies.map(|copy| copy.0);
        let mut merged = a.clone();
        let changed = merged.merge(&b);
        prop_assert_eq!(changed, merged != a);
    }

    #[test]
    fn copies_hold_what_whole_histories_say(actions in actions()) {
        let world = World::run(&actions);
        for (object, model) in &world.copies {
            prop_assert_eq!(dots(object), model.live());
            prop_assert!(model.heard.iter().all(|&dot| object.context().covers(dot)));
        }
        let mut model = Model::default();
        for copy in &world.copies {
            model.merge(&copy.1);
        }
        prop_assert_eq!(dots(&world.merged([0, 1, 2, 3])), model.live());
    }

    #[test]
    fn nothing_is_lost_that_nobody_replaced(actions in actions()) {
        let world = World::run(&actions);
        let all = world.merged([0, 1, 2, 3]);
        for (copy, (_, model)) in world.copies.iter().enumerate() {
            for dot in model.heard.difference(&world.rightly_replaced) {
                prop_assert!(all.has(*dot), "{} of copy {} is gone and nobody replaced it", dot, copy);
            }
        }
    }

    #[test]
    fn the_winner_does_not_depend_on_the_order_of_merging(
        actions in actions(),
        order in Just([0, 1, 2, 3]).prop_shuffle(),
    ) {
        let world = World::run(&actions);
        let (some, other) = (world.merged([0, 1, 2, 3]), world.merged(order));
        prop_assert_eq!(some.winner(), other.winner());
        let highest = some.siblings().iter().map(|sibling| (sibling.stamp, sibling.dot)).max();
        prop_assert_eq!(some.winner().map(|sibling| (sibling.stamp, sibling.dot)), highest);
    }

    #[test]
    fn digests_are_equal_exactly_when_context_and_dots_are(actions in actions()) {
        let world = World::run(&actions);
        let objects = world.copies.map(|copy| copy.0);
        for a in &objects {
            for b in &objects {
                let equal = a.context() == b.context() && dots(a) == dots(b);
                prop_assert_eq!(a.digest(b"key") == b.digest(b"key"), equal);
                prop_assert_ne!(a.digest(b"key"), b.digest(b"kez"));
            }
        }
    }

    #[test]
    fn a_put_covers_what_it_says_and_itself(actions in actions(), copy in 0..COPIES) {
        let mut world = World::run(&actions);
        let seen = world.last_read.context.vector.clone();
        let before = world.copies[copy].0.clone();
        world.step(Action::Write { copy });
        let after = &world.copies[copy].0;
        let dot = Dot { actor: actor(copy), seq: world.writes };
        prop_assert!(after.has(dot) && after.context().covers(dot));
        prop_assert!(after.context().descends(&seen) && after.context().descends(before.context()));
        let kept = before.siblings().iter().filter(|held| !seen.covers(held.dot)).count();
        prop_assert_eq!(after.siblings().len(), kept + 1);
        prop_assert!(before.siblings().iter().all(|held| after.has(held.dot) != seen.covers(held.dot)));
    }

    #[test]
    fn decoded_parts_make_only_possible_objects(
        entries in prop::collection::vec((0..COPIES, 1u64..9), 0..6),
        siblings in prop::collection::vec((0..COPIES, 1u64..9, 0u64..9), 0..6),
    ) {
        let context =
            VersionVector::from_entries(entries.into_iter().map(|(copy, seq)| (actor(copy), seq)));
        let siblings: Vec<_> = siblings
            .into_iter()
            .map(|(copy, seq, stamp)| sibling(Dot { actor: actor(copy), seq }, stamp))
            .collect();
        let object = Object::from_parts(context.clone(), siblings);
        prop_assert!(object.context().descends(&context));
        prop_assert!(object.siblings().is_sorted_by(|a, b| a.dot < b.dot));
        prop_assert!(object.siblings().iter().all(|held| object.context().covers(held.dot)));
    }
}

#[test]
fn the_answer_to_a_put_never_covers_a_sibling_the_client_has_not_seen() {
    let dot = |seq| Dot { actor: actor(0), seq };
    let nothing = VersionVector::default();
    let mut object = Object::default();
    object.put(Replaces::Seen(&nothing), &nothing, sibling(dot(1), 1));
    // A second client, that saw nothing, writes through the same node, and goes on from there.
    object.put(Replaces::Seen(&nothing), &nothing, sibling(dot(2), 2));
    let answer = object.context_after_put(None, dot(2), Stamp(2));
    object.put(Replaces::Seen(&answer.vector), &answer.vector, sibling(dot(3), 3));
    assert!(object.has(dot(1)), "the first client's value was never read, so it must not be replaced");
    assert_eq!(answer.stamp, Stamp(2), "the next write is stamped above this one all the same");
}

#[test]
fn a_client_that_has_seen_all_replaces_its_own_write() {
    let dot = |seq| Dot { actor: actor(0), seq };
    let nothing = VersionVector::default();
    let mut object = Object::default();
    object.put(Replaces::Seen(&nothing), &nothing, sibling(dot(1), 1));
    let answer = object.context_after_put(None, dot(1), Stamp(1));
    object.put(Replaces::Seen(&answer.vector), &answer.vector, sibling(dot(2), 2));
    assert_eq!(dots(&object), BTreeSet::from([dot(2)]));
}
