//! The planner against a validator that knows only what a good plan is, not how one is made.

use super::*;
use crate::ring::sector_of;
use crate::types::{ClusterId, DiskUuid, Epoch, KeyspaceId};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member(zone: &str, weight: u16) -> Member {
    Member {
        addr: String::new(),
        disk_uuid: DiskUuid(0),
        zone: zone.to_owned(),
        weight,
        state: MemberState::Normal,
    }
}

fn add(table: &mut Table, zone: &str, weight: u16) -> NodeId {
    let id = table.next_node;
    table.members.insert(id, member(zone, weight));
    table.next_node = NodeId(id.0 + 1);
    id
}

fn cluster(nodes: usize, n: u8, sectors: u16) -> Table {
    let mut table = Table::new(ClusterId(1), n, sectors);
    for _ in 0..nodes {
        add(&mut table, "", 100);
    }
    table
}

fn apply(table: &Table, plan: &Plan) -> Table {
    let mut next = table.clone();
    next.epoch = Epoch(table.epoch.0 + 1);
    for (id, slots) in &plan.changes {
        next.sectors[usize::from(id.0)] =
            crate::ring::Sector { conf_epoch: next.epoch, slots: slots.clone() };
    }
    next
}

/// Every move done.
fn settle(table: &Table) -> Table {
    let mut next = table.clone();
    for slot in next.sectors.iter_mut().flat_map(|sector| &mut sector.slots) {
        if let Slot::Moving { new, .. } = *slot {
            *slot = Slot::Settled(new);
        }
    }
    next
}

fn settled(table: &Table) -> Table {
    settle(&apply(table, &plan(table)))
}

fn goes_to(slot: Slot) -> NodeId {
    match slot {
        Slot::Settled(node) | Slot::Moving { new: node, .. } => node,
    }
}

fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<BTreeSet<_>>().len()
}

/// What holds of every plan, whatever the cluster.
fn check_sound(table: &Table, plan: &Plan) {
    let next = apply(table, plan);
    let mut moved = 0;
    for (id, slots) in &plan.changes {
        let before = &table.sector(*id).slots;
        assert_ne!(before, slots, "sector {id} is listed without a change");
        if before.is_empty() {
            assert!(
                slots.iter().all(|slot| matches!(slot, Slot::Settled(_))),
                "sector {id} has nothing to move"
            );
            continue;
        }
        let holders = |slots: &[Slot]| slots.iter().map(Slot::holder).collect::<BTreeSet<_>>();
        assert_eq!(holders(before), holders(slots), "sector {id}: who has the data is not for a plan to say");
        for slot in before.iter().filter(|slot| matches!(slot, Slot::Moving { .. })) {
            assert!(slots.contains(slot), "sector {id}: {slot:?} is on its way and must be left alone");
        }
        let fresh = |slot: &&Slot| matches!(slot, Slot::Moving { .. }) && !before.contains(slot);
        moved += slots.iter().filter(fresh).count();
    }
    assert_eq!(plan.moved, moved);
    for (at, sector) in next.sectors.iter().enumerate().filter(|entry| !entry.1.slots.is_empty()) {
        assert_eq!(sector.slots.len(), usize::from(table.n), "sector {at}");
        let nodes: Vec<_> = sector.slots.iter().flat_map(Slot::nodes).collect();
        assert_eq!(distinct(&nodes), nodes.len(), "sector {at} names a node twice: {:?}", sector.slots);
    }
}

/// Copies and firsts of each member that may own, by where slots go.
fn loads(table: &Table) -> BTreeMap<NodeId, (usize, usize)> {
    let owning = |m: &Member| matches!(m.state, MemberState::Joining | MemberState::Normal);
    let mut loads: BTreeMap<_, _> =
        table.members.iter().filter(|entry| owning(entry.1)).map(|(&id, _)| (id, (0, 0))).collect();
    for sector in &table.sectors {
        for (at, &slot) in sector.slots.iter().enumerate() {
            let load = loads.get_mut(&goes_to(slot)).expect("slots go to members that may own");
            load.0 += 1;
            load.1 += usize::from(at == 0);
        }
    }
    loads
}

fn spread(counts: impl Iterator<Item = usize> + Clone) -> usize {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

fn check_balanced(table: &Table) {
    let loads = loads(table);
    assert!(spread(loads.values().map(|load| load.0)) <= 1, "copies: {loads:?}");
    assert!(spread(loads.values().map(|load| load.1)) <= 1, "firsts: {loads:?}");
}

/// Fewest copies that must move to where every member's load is the mean, rounded down or up:
/// all that the leaving have, all that others have above the mean rounded up, and so much more
/// as is needed to bring the rest to the mean rounded down.
fn fewest_moves(table: &Table) -> usize {
    let mut held: BTreeMap<NodeId, usize> = table.present().map(|(id, _)| (id, 0)).collect();
    for sector in &table.sectors {
        for &slot in &sector.slots {
            *held.get_mut(&goes_to(slot)).expect("owners are present") += 1;
        }
    }
    let leaving = |id: &NodeId| table.members[id].state == MemberState::Leaving;
    let total: usize = held.values().sum();
    let staying: Vec<usize> = held.iter().filter(|entry| !leaving(entry.0)).map(|entry| *entry.1).collect();
    let (floor, ceil) = (total / staying.len(), total.div_ceil(staying.len()));
    let gone: usize = held.iter().filter(|entry| leaving(entry.0)).map(|entry| *entry.1).sum();
    let above: usize = staying.iter().map(|&count| count.saturating_sub(ceil)).sum();
    let below: usize = staying.iter().map(|&count| floor.saturating_sub(count)).sum();
    (gone + above).max(below)
}

/// Distinct zones of a sector's future owners; a member without one is alone in its own.
fn zones_of(table: &Table, slots: &[Slot]) -> usize {
    let zone = |slot: &Slot| {
        let id = goes_to(*slot);
        let zone = table.members[&id].zone.as_str();
        if zone.is_empty() { (id, "") } else { (NodeId(0), zone) }
    };
    distinct(slots.iter().map(zone))
}

fn check_zones(table: &Table) {
    let named = distinct(table.members.values().map(|m| &m.zone).filter(|zone| !zone.is_empty()));
    let wanted = named.min(usize::from(table.n));
    for (at, sector) in table.sectors.iter().enumerate() {
        assert!(
            zones_of(table, &sector.slots) >= wanted,
            "sector {at} is in too few zones: {:?}",
            sector.slots
        );
    }
}

#[test]
fn too_few_members_own_nothing() {
    assert!(plan(&cluster(2, 3, 64)).is_empty());
    assert!(plan(&cluster(0, 1, 64)).is_empty());
    let mut table = cluster(3, 3, 64);
    table.members.get_mut(&NodeId(1)).expect("member 1").state = MemberState::Leaving;
    assert!(plan(&table).is_empty());
}

#[test]
fn a_leave_that_cannot_be_completed_moves_nothing() {
    let mut table = settled(&cluster(3, 3, 64));
    table.members.get_mut(&NodeId(1)).expect("member 1").state = MemberState::Leaving;
    assert!(plan(&table).is_empty());
}

#[test]
fn owners_are_mixed() {
    for (nodes, n) in [(6, 3), (7, 3), (10, 3), (9, 2), (20, 5)] {
        let table = settled(&cluster(nodes, n, 1024));
        let mut together: BTreeMap<(NodeId, NodeId), usize> = BTreeMap::new();
        for sector in &table.sectors {
            for a in sector.slots.iter().map(Slot::holder) {
                for b in sector.slots.iter().map(Slot::holder).filter(|&b| b != a) {
                    *together.entry((a, b)).or_default() += 1;
                }
            }
        }
        let n = usize::from(n);
        let mean = 1024.0 * (n * (n - 1)) as f64 / (nodes * (nodes - 1)) as f64;
        assert_eq!(together.len(), nodes * (nodes - 1), "{nodes} nodes: everybody meets everybody");
        for (pair, count) in together {
            let ratio = count as f64 / mean;
            assert!(
                (0.5..1.6).contains(&ratio),
                "{nodes} nodes, {n} copies: {pair:?} meet {count}, mean {mean}"
            );
        }
    }
}

#[test]
fn every_position_is_balanced_in_a_new_cluster() {
    for (nodes, n) in [(5, 3), (7, 3), (12, 5)] {
        let table = settled(&cluster(nodes, n, 1024));
        for position in 0..usize::from(n) {
            let mut counts = vec![0; nodes];
            for sector in &table.sectors {
                counts[sector.slots[position].holder().0 as usize - 1] += 1;
            }
            assert!(spread(counts.iter().copied()) <= 3, "position {position} of {n}: {counts:?}");
        }
    }
}

#[test]
fn large_clusters_are_planned_in_one_go() {
    for (nodes, sectors) in [(100, 1024), (30, 16384)] {
        let mut table = settled(&cluster(nodes, 3, sectors));
        check_balanced(&table);
        add(&mut table, "", 100);
        let plan = plan(&table);
        check_sound(&table, &plan);
        assert_eq!(plan.moved, fewest_moves(&table));
        check_balanced(&settle(&apply(&table, &plan)));
    }
}

#[test]
fn a_keyspace_of_fewer_copies_keeps_its_owners() {
    let mut table = settled(&cluster(5, 3, 256));
    let mut two = table.keyspaces[&KeyspaceId(0)].clone();
    two.settings.n = 2;
    table.keyspaces.insert(KeyspaceId(1), two);
    // All firsts on one side: a reordering planner would want to trade places.
    for sector in &mut table.sectors {
        sector.slots.sort_by_key(Slot::holder);
    }
    let plan = plan(&table);
    assert_eq!(plan.moved, 0);
    assert!(!plan.is_empty());
    for (id, slots) in &plan.changes {
        let first_two = |slots: &[Slot]| slots[..2].iter().map(Slot::holder).collect::<BTreeSet<_>>();
        assert_eq!(first_two(&table.sector(*id).slots), first_two(slots), "sector {id}");
    }
}

#[test]
fn firsts_alone_are_balanced_without_moving_data() {
    let mut table = settled(&cluster(6, 3, 512));
    for sector in &mut table.sectors {
        sector.slots.sort_by_key(Slot::holder);
    }
    let plan = plan(&table);
    check_sound(&table, &plan);
    assert_eq!(plan.moved, 0);
    check_balanced(&apply(&table, &plan));
}

#[test]
fn a_node_that_is_heavy_beyond_measure_is_in_every_sector() {
    let mut table = cluster(4, 3, 64);
    add(&mut table, "", 10_000);
    let loads = loads(&settled(&table));
    assert_eq!(loads[&NodeId(5)].0, 64);
    assert!(spread(loads.values().take(4).map(|load| load.0)) <= 1, "{loads:?}");
}

/// Sectors, and keys of the patterns that people use, over seven nodes of one copy each.
#[test]
fn the_fullest_of_seven_nodes_holds_little_more_than_the_mean() {
    let table = settled(&cluster(7, 1, 1024));
    let sectors: Vec<usize> = loads(&table).values().map(|load| load.0).collect();
    type Pattern = (&'static str, fn(u32) -> String);
    let patterns: [Pattern; 6] = [
        ("key{i}", |i| format!("key{i}")),
        ("user:{i:08}", |i| format!("user:{i:08}")),
        ("{i}", |i| format!("{i}")),
        ("2024-MM-DD/{i}", |i| format!("2024-{:02}-{:02}/{i}", i % 12 + 1, i % 28 + 1)),
        ("random hex", |i| format!("{:016x}", mix(i as usize, 1))),
        ("cart/{i}/item", |i| format!("cart/{i}/item")),
    ];
    println!("7 nodes, 1 copy, 1024 sectors: mean {:.1}, fullest {:?}", 1024.0 / 7.0, sectors.iter().max());
    for (name, key) in patterns {
        let mut keys = BTreeMap::new();
        for i in 0..100_000 {
            let sector = sector_of(key(i).as_bytes(), 1024);
            *keys.entry(table.sector(sector).slots[0].holder()).or_insert(0) += 1;
        }
        let (fullest, mean) = (f64::from(*keys.values().max().expect("keys")), 100_000.0 / 7.0);
        println!("{name:16} mean {mean:.0}, fullest {fullest}, {:.4} of the mean", fullest / mean);
        assert!(fullest / mean <= 1.05, "{name}: {keys:?}");
    }
}

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
