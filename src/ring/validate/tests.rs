//! Each rule, kept and broken.

use super::*;
use crate::ring::{MemberState, Profile};
use crate::types::{ClusterId, DiskUuid, Epoch};

const SECTOR: SectorId = SectorId(0);

fn member(zone: &str) -> Member {
    Member {
        addr: String::new(),
        disk_uuid: DiskUuid(0),
        zone: zone.to_owned(),
        weight: 100,
        state: MemberState::Normal,
    }
}

/// Six members in zones a, b, c, a, b, c; both sectors are with the first three.
fn table() -> Table {
    let mut table = Table::new(ClusterId(1), 3, 2);
    for (id, zone) in (1..).zip(["a", "b", "c", "a", "b", "c"]) {
        table.members.insert(NodeId(id), member(zone));
    }
    for sector in &mut table.sectors {
        sector.slots = vec![at(1), at(2), at(3)];
    }
    table
}

fn at(node: u32) -> Slot {
    Slot::Settled(NodeId(node))
}

fn to(old: u32, new: u32) -> Slot {
    Slot::Moving { old: NodeId(old), new: NodeId(new), since: Epoch(0) }
}

/// The table after it, whose first sector has these slots.
fn next(table: &Table, slots: &[Slot]) -> Table {
    let mut next = table.clone();
    next.epoch = Epoch(table.epoch.0 + 1);
    if next.sectors[0].slots != slots {
        next.sectors[0].slots = slots.to_vec();
        next.sectors[0].conf_epoch = next.epoch;
    }
    next
}

/// What is said of a first sector that had these slots, and then those.
fn verdict(before: &[Slot], after: &[Slot]) -> Result<(), Fault> {
    let mut table = table();
    table.sectors[0].slots = before.to_vec();
    validate(&table, &next(&table, after))
}

#[test]
fn steps_that_are_allowed() {
    let settled = [at(1), at(2), at(3)];
    let moving = [to(1, 4), at(2), at(3)];
    for (before, after) in [
        (&settled[..], &settled[..]),
        (&settled, &[at(3), at(1), at(2)]),
        (&settled, &moving),
        (&settled, &[to(1, 4), to(2, 5), to(3, 6)]),
        (&moving, &moving),
        (&moving, &[at(4), at(2), at(3)]),
        (&moving, &[at(2), at(1), at(3)]),
        (&moving, &[to(4, 1), at(2), at(3)]),
        (&[], &settled),
        (&[], &[]),
    ] {
        assert_eq!(verdict(before, after), Ok(()), "{before:?} to {after:?}");
    }
}

#[test]
fn steps_that_lose_data() {
    let settled = [at(1), at(2), at(3)];
    let moving = [to(1, 4), at(2), at(3)];
    let holder_lost = |node| Err(Fault::HolderLost(SECTOR, NodeId(node)));
    assert_eq!(verdict(&settled, &[at(4), at(2), at(3)]), holder_lost(1));
    assert_eq!(verdict(&settled, &[to(4, 1), at(2), at(3)]), holder_lost(1));
    assert_eq!(verdict(&moving, &[at(6), at(2), at(3)]), holder_lost(1));
    assert_eq!(verdict(&moving, &[to(1, 5), at(2), at(3)]), Err(Fault::Skips(SECTOR, NodeId(1))));
    assert_eq!(verdict(&settled, &[at(1), at(2)]), Err(Fault::Copies(SECTOR)));
    assert_eq!(verdict(&settled, &[]), Err(Fault::Copies(SECTOR)));
    assert_eq!(verdict(&[], &moving), Err(Fault::MovesNothing(SECTOR)));
}

#[test]
fn owners_that_are_not_allowed() {
    let settled = [at(1), at(2), at(3)];
    assert_eq!(verdict(&settled, &[to(1, 2), at(2), at(3)]), Err(Fault::NodeTwice(SECTOR, NodeId(2))));
    assert_eq!(verdict(&settled, &[to(1, 9), at(2), at(3)]), Err(Fault::MayNotOwn(SECTOR, NodeId(9))));
    assert_eq!(verdict(&[], &[at(1), at(1), at(3)]), Err(Fault::NodeTwice(SECTOR, NodeId(1))));
    let mut before = table();
    before.members.get_mut(&NodeId(4)).expect("member").state = MemberState::Leaving;
    let after = next(&before, &[to(1, 4), at(2), at(3)]);
    assert_eq!(validate(&before, &after), Err(Fault::MayNotOwn(SECTOR, NodeId(4))));
    // One that leaves may be on its way out of a sector, and stay in it until then.
    before.members.get_mut(&NodeId(1)).expect("member").state = MemberState::Leaving;
    assert_eq!(validate(&before, &next(&before, &[at(1), to(2, 5), at(3)])), Ok(()));
}

#[test]
fn zones_may_not_get_worse() {
    let settled = [at(1), at(2), at(3)];
    assert_eq!(verdict(&settled, &[to(1, 5), at(2), at(3)]), Err(Fault::Zones(SECTOR)));
    assert_eq!(verdict(&[], &[at(1), at(2), at(5)]), Err(Fault::Zones(SECTOR)));
    let narrow = [at(1), at(4), at(2)];
    assert_eq!(verdict(&narrow, &[at(1), at(4), to(2, 5)]), Ok(()), "as bad as it was");
    assert_eq!(verdict(&narrow, &[at(1), to(4, 3), at(2)]), Ok(()));
}

#[test]
fn a_keyspace_of_fewer_copies_keeps_its_slots() {
    let mut before = table();
    let mut two = before.keyspaces[&KeyspaceId(0)].clone();
    two.settings.n = 2;
    before.keyspaces.insert(KeyspaceId(1), two);
    let verdict = |slots: &[Slot]| validate(&before, &next(&before, slots));
    assert_eq!(verdict(&[at(2), to(1, 4), at(3)]), Ok(()));
    assert_eq!(verdict(&[at(3), at(2), at(1)]), Err(Fault::Span(SECTOR, KeyspaceId(1))));
}

#[test]
fn what_never_changes_and_what_only_grows() {
    let before = table();
    let same = next(&before, &before.sectors[0].slots);
    let with = |change: fn(&mut Table)| {
        let mut after = same.clone();
        change(&mut after);
        validate(&before, &after)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|table| table.epoch = Epoch(1)), Err(Fault::Epoch));
    assert_eq!(with(|table| table.cluster_id = ClusterId(2)), Err(Fault::Shape));
    assert_eq!(with(|table| table.n = 2), Err(Fault::Shape));
    assert_eq!(with(|table| table.profile = Profile::Gtstore), Err(Fault::Shape));
    assert_eq!(with(|table| drop(table.sectors.pop())), Err(Fault::Shape));
    assert_eq!(with(|table| drop(table.members.remove(&NodeId(6)))), Err(Fault::MemberMissing(NodeId(6))));
    assert_eq!(with(|table| table.sectors[1].conf_epoch = Epoch(2)), Err(Fault::ConfEpoch(SectorId(1))));
    assert_eq!(with(|table| table.sectors[1].slots.swap(0, 1)), Err(Fault::ConfEpoch(SectorId(1))));
    let ahead = |table: &mut Table| {
        table.sectors[1].slots.swap(0, 1);
        table.sectors[1].conf_epoch = Epoch(3);
    };
    assert_eq!(with(ahead), Err(Fault::ConfEpoch(SectorId(1))));
}
