//! What holds of whole families of clusters.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Shape {
    nodes: usize,
    n: u8,
    sectors: u16,
}

fn shape(extra: std::ops::Range<usize>, bits: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = Shape> {
    (1u8..=5, extra, bits).prop_map(|(n, extra, bits)| Shape {
        nodes: usize::from(n) + extra,
        n,
        sectors: 1 << bits,
    })
}

/// Failing inputs are printed whole; they are not kept in files.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_new_cluster_is_balanced(shape in shape(0..12, 3..=8)) {
        let table = cluster(shape.nodes, shape.n, shape.sectors);
        let first = plan(&table);
        prop_assert_eq!(&first, &plan(&table), "the same table, the same plan");
        check_sound(&table, &first);
        prop_assert_eq!(first.changes.len(), usize::from(shape.sectors));
        prop_assert_eq!(first.moved, 0);
        let next = apply(&table, &first);
        check_balanced(&next);
        prop_assert!(plan(&next).is_empty(), "what is balanced is left alone");
    }

    #[test]
    fn joining_nodes_take_their_share_and_nothing_else_moves(shape in shape(0..8, 3..=8), joining in 1usize..5) {
        let mut table = settled(&cluster(shape.nodes, shape.n, shape.sectors));
        let new: Vec<_> = (0..joining).map(|_| add(&mut table, "", 100)).collect();
        let plan_ = plan(&table);
        check_sound(&table, &plan_);
        prop_assert_eq!(plan_.moved, fewest_moves(&table));
        let under_way = apply(&table, &plan_);
        prop_assert!(plan(&under_way).is_empty(), "moves under way are counted as done");
        let next = settle(&under_way);
        check_balanced(&next);
        let share = loads(&next);
        let taken: usize = new.iter().map(|id| share[id].0).sum();
        prop_assert_eq!(plan_.moved, taken, "old nodes exchange nothing");
        prop_assert!(plan(&next).is_empty());
    }

    // With a handful of sectors the one node that lacks a copy may own all that the leaving one
    // could give it; the bound is exact where there are enough of them.
    #[test]
    fn leaving_nodes_hand_over_what_they_have(shape in shape(1..8, 6..=8), leaving in 1usize..4) {
        let mut table = settled(&cluster(shape.nodes, shape.n, shape.sectors));
        let leaving = leaving.min(shape.nodes - usize::from(shape.n));
        for id in 1..=leaving as u32 {
            table.members.get_mut(&NodeId(id)).expect("member").state = MemberState::Leaving;
        }
        let plan_ = plan(&table);
        check_sound(&table, &plan_);
        prop_assert_eq!(plan_.moved, fewest_moves(&table));
        check_balanced(&settle(&apply(&table, &plan_)));
    }

    #[test]
    fn joins_and_leaves_are_one_change(shape in shape(1..8, 6..=8), joining in 1usize..4, leaving in 1usize..4) {
        let mut table = settled(&cluster(shape.nodes, shape.n, shape.sectors));
        for id in 1..=leaving.min(shape.nodes - usize::from(shape.n)) as u32 {
            table.members.get_mut(&NodeId(id)).expect("member").state = MemberState::Leaving;
        }
        for _ in 0..joining {
            add(&mut table, "", 100);
        }
        let plan_ = plan(&table);
        check_sound(&table, &plan_);
        prop_assert_eq!(plan_.moved, fewest_moves(&table));
        check_balanced(&settle(&apply(&table, &plan_)));
    }

    #[test]
    fn a_leave_from_few_sectors_moves_hardly_more_than_it_must(shape in shape(1..8, 3..=5)) {
        let mut table = settled(&cluster(shape.nodes, shape.n, shape.sectors));
        table.members.get_mut(&NodeId(1)).expect("member").state = MemberState::Leaving;
        let plan_ = plan(&table);
        check_sound(&table, &plan_);
        prop_assert!(plan_.moved <= fewest_moves(&table) + usize::from(shape.n));
        check_balanced(&settle(&apply(&table, &plan_)));
    }

    #[test]
    fn a_change_in_the_middle_of_moves_is_sound(
        shape in shape(1..6, 3..=8),
        done in any::<u64>(),
        leaver in any::<prop::sample::Index>(),
    ) {
        let mut table = settled(&cluster(shape.nodes, shape.n, shape.sectors));
        add(&mut table, "", 100);
        table = apply(&table, &plan(&table));
        for (at, slot) in table.sectors.iter_mut().flat_map(|sector| &mut sector.slots).enumerate() {
            if let Slot::Moving { new, .. } = *slot && done >> (at % 64) & 1 == 1 {
                *slot = Slot::Settled(new);
            }
        }
        let id = NodeId(leaver.index(shape.nodes + 1) as u32 + 1);
        table.members.get_mut(&id).expect("member").state = MemberState::Leaving;
        add(&mut table, "", 100);
        // Plans follow each other until the moves have come to an end.
        for _ in 0..4 {
            let plan_ = plan(&table);
            check_sound(&table, &plan_);
            table = settle(&apply(&table, &plan_));
        }
        prop_assert!(table.sectors.iter().all(|sector| sector.holders(7).all(|node| node != id)));
        check_balanced(&table);
    }

    #[test]
    fn owners_are_in_distinct_zones(
        n in 1u8..=4,
        zones in prop::collection::vec(1usize..5, 1..6),
        unnamed in 0usize..3,
    ) {
        let mut table = Table::new(ClusterId(1), n, 128);
        for (zone, &members) in zones.iter().enumerate() {
            for _ in 0..members {
                add(&mut table, &format!("zone-{zone}"), 100);
            }
        }
        for _ in 0..unnamed {
            add(&mut table, "", 100);
        }
        if table.members.len() < usize::from(n) {
            return Ok(());
        }
        let first = plan(&table);
        check_sound(&table, &first);
        let mut table = apply(&table, &first);
        check_zones(&table);
        prop_assert!(plan(&table).is_empty(), "what is placed is left alone");
        add(&mut table, "another", 100);
        let second = plan(&table);
        check_sound(&table, &second);
        check_zones(&settle(&apply(&table, &second)));
    }

    #[test]
    fn a_zone_that_leaves_is_replaced_in_every_sector(n in 1u8..=3, zones in 4usize..6, each in 1usize..4) {
        let mut table = Table::new(ClusterId(1), n, 128);
        for at in 0..zones * each {
            add(&mut table, &format!("zone-{}", at % zones), 100);
        }
        let mut table = settled(&table);
        for member in table.members.values_mut().filter(|member| member.zone == "zone-0") {
            member.state = MemberState::Leaving;
        }
        let plan_ = plan(&table);
        check_sound(&table, &plan_);
        let table = settle(&apply(&table, &plan_));
        check_zones(&table);
        check_balanced(&table);
    }

    #[test]
    fn equal_zones_of_equal_members_are_balanced(n in 1u8..=3, zones in 3usize..6, each in 1usize..4) {
        let mut table = Table::new(ClusterId(1), n, 256);
        for at in 0..zones * each {
            add(&mut table, &format!("zone-{}", at % zones), 100);
        }
        let table = settled(&table);
        check_zones(&table);
        check_balanced(&table);
    }

    // No member's share comes to more than one copy of every sector.
    #[test]
    fn shares_follow_weights(n in 1u8..=3, weights in prop::collection::vec(50u16..120, 6..12)) {
        let mut table = Table::new(ClusterId(1), n, 256);
        for &weight in &weights {
            add(&mut table, "", weight);
        }
        let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
        let copies = 256.0 * f64::from(n);
        let table = settled(&table);
        for (&(held, first), &weight) in loads(&table).values().zip(&weights) {
            let share = copies * f64::from(weight) / f64::from(total);
            prop_assert!((held as f64 - share).abs() < 1.0 + share * 0.001, "{held} of {share}, weight {weight}");
            prop_assert!((first as f64 - share / f64::from(n)).abs() <= 2.0, "first in {first} of {share}");
        }
    }

    #[test]
    fn a_change_of_weights_moves_the_difference(
        before in prop::collection::vec(50u16..200, 5..9),
        after in prop::collection::vec(50u16..200, 9),
    ) {
        let mut table = Table::new(ClusterId(1), 2, 256);
        for &weight in &before {
            add(&mut table, "", weight);
        }
        let mut table = settled(&table);
        let had = loads(&table);
        for (member, &weight) in table.members.values_mut().zip(&after) {
            member.weight = weight;
        }
        let plan_ = plan(&table);
        check_sound(&table, &plan_);
        let have = loads(&apply(&table, &plan_));
        let gained: usize = have.iter().map(|(id, load)| load.0.saturating_sub(had[id].0)).sum();
        prop_assert_eq!(plan_.moved, gained, "no copy moves for nothing");
    }
}
