//! Moves by name.

use super::*;

#[test]
fn a_range_goes_to_the_node_that_is_named() {
    let table = settled(&cluster(6, 3, 64));
    let plan = move_sectors(&table, NodeId(2), SectorId(10), SectorId(29)).expect("a plan");
    check_sound(&table, &plan);
    let next = apply(&table, &plan);
    for (at, sector) in table.sectors.iter().enumerate() {
        let (had, has) = (&sector.slots, &next.sectors[at].slots);
        let owned = had.contains(&Slot::Settled(NodeId(2)));
        if (10..30).contains(&at) {
            assert!(has.iter().any(|slot| goes_to(*slot) == NodeId(2)), "sector {at}");
        }
        if owned || !(10..30).contains(&at) {
            assert_eq!(had, has, "sector {at} has nothing to change");
        }
    }
    assert_eq!(plan.moved, plan.changes.len(), "one copy each");
    let others: Vec<_> =
        loads(&next).iter().filter(|load| *load.0 != NodeId(2)).map(|load| load.1.0).collect();
    assert!(spread(others.iter().copied()) <= 2, "all give alike: {others:?}");
}

#[test]
fn who_must_go_gives_first_and_zones_stay_apart() {
    let mut table = Table::new(ClusterId(1), 3, 64);
    for at in 0..9 {
        add(&mut table, &format!("zone-{}", at % 3), 100);
    }
    let mut table = settled(&table);
    table.members.get_mut(&NodeId(4)).expect("member").state = MemberState::Leaving;
    let plan = move_sectors(&table, NodeId(1), SectorId(0), SectorId(63)).expect("a plan");
    check_sound(&table, &plan);
    let next = settle(&apply(&table, &plan));
    check_zones(&next);
    assert_eq!(next.loads()[&NodeId(1)].0, 64);
    assert_eq!(next.loads()[&NodeId(4)].0, 0, "in the same zone, and leaving");
}

#[test]
fn what_cannot_be_moved_is_refused() {
    let empty = cluster(4, 3, 64);
    let mut table = settled(&empty);
    let move_to = |table: &Table, to, first, last| {
        move_sectors(table, NodeId(to), SectorId(first), SectorId(last)).map(|plan| plan.moved)
    };
    assert_eq!(move_to(&table, 9, 0, 1), Err(MoveError::UnknownNode(NodeId(9))));
    assert_eq!(move_to(&table, 1, 2, 1), Err(MoveError::EmptyRange));
    assert_eq!(move_to(&table, 1, 60, 64), Err(MoveError::BeyondTable { sectors: 64 }));
    assert_eq!(move_to(&table, 1, 60, u16::MAX), Err(MoveError::BeyondTable { sectors: 64 }));
    assert_eq!(move_to(&empty, 1, 0, 5), Err(MoveError::Unowned(SectorId(0))));
    let slots = table.sectors[7].slots.clone();
    let new = (1..=4).map(NodeId).find(|&id| !slots.contains(&Slot::Settled(id))).expect("one of four");
    table.sectors[7].slots[0] = Slot::Moving { old: slots[0].holder(), new, since: Epoch(0) };
    assert_eq!(move_to(&table, 1, 5, 9), Err(MoveError::AlreadyMoving(SectorId(7))));
    table.members.get_mut(&NodeId(2)).expect("member").state = MemberState::Leaving;
    assert_eq!(move_to(&table, 2, 0, 0), Err(MoveError::MayNotOwn(NodeId(2))));
    table.members.get_mut(&NodeId(3)).expect("member").weight = 0;
    assert_eq!(move_to(&table, 3, 0, 0), Err(MoveError::MayNotOwn(NodeId(3))));
}
