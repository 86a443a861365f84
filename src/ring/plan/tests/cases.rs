//! Single situations, each with the promise it shows.

use super::*;
use crate::ring::sector_of;
use crate::types::KeyspaceId;

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

/// Mean over fullest, of copies and of firsts.
#[test]
fn thirty_nodes_are_balanced_to_three_parts_in_a_hundred() {
    let mut table = settled(&cluster(30, 3, 1024));
    let check = |table: &Table| {
        let loads = loads(table);
        for (total, counts) in [
            (3072, loads.values().map(|load| load.0).collect::<Vec<_>>()),
            (1024, loads.values().map(|load| load.1).collect()),
        ] {
            // A mean of 34.13 firsts in whole ones is at best 34.13 / 35.
            let (mean, fullest) = (f64::from(total) / 30.0, *counts.iter().max().expect("nodes") as f64);
            assert!(mean / fullest >= 0.97, "{mean} to {fullest}");
            assert!(spread(counts.iter().copied()) <= 1, "{counts:?}");
        }
    };
    check(&table);
    // And it stays so while members come and go.
    for (leaver, weight) in [(3, 100), (17, 100), (30, 100)] {
        table.members.get_mut(&NodeId(leaver)).expect("member").state = MemberState::Leaving;
        add(&mut table, "", weight);
        table = settled(&table);
        table.members.get_mut(&NodeId(leaver)).expect("member").state = MemberState::Left;
        check(&table);
    }
}

/// Join, leave, replace, and several at once, in a large cluster.
#[test]
fn every_change_moves_just_what_it_must() {
    let before = settled(&cluster(100, 3, 1024));
    let changes: [(&str, &[u32], usize); 6] = [
        ("one joins", &[], 1),
        ("one leaves", &[7], 0),
        ("one is replaced", &[7], 1),
        ("ten join", &[], 10),
        ("ten leave", &[1, 12, 23, 34, 45, 56, 67, 78, 89, 100], 0),
        ("some of each", &[2, 3, 5, 7, 11], 8),
    ];
    for (what, leaving, joining) in changes {
        let mut table = before.clone();
        for &id in leaving {
            table.members.get_mut(&NodeId(id)).expect("member").state = MemberState::Leaving;
        }
        for _ in 0..joining {
            add(&mut table, "", 100);
        }
        let plan = plan(&table);
        check_sound(&table, &plan);
        assert_eq!(plan.moved, fewest_moves(&table), "{what}");
        check_balanced(&settle(&apply(&table, &plan)));
    }
}

/// Two heavy zones cannot both be in every sector twice.
#[test]
fn heavy_zones_share_the_room_for_repeats() {
    let mut table = Table::new(ClusterId(1), 4, 64);
    for (zone, weight) in [("a", 900), ("a", 900), ("b", 900), ("b", 900), ("c", 100), ("", 100)] {
        add(&mut table, zone, weight);
    }
    let table = settled(&table);
    check_zones(&table);
    let loads: Vec<_> = loads(&table).values().map(|load| load.0).collect();
    assert_eq!(loads, [48, 48, 48, 48, 32, 32], "three zones in each sector, one of the heavy ones twice");
}

/// A sector with one copy on its way has the others to stand on.
#[test]
fn few_sectors_lose_several_owners_at_once() {
    let mut table = settled(&cluster(20, 3, 1024));
    for _ in 0..5 {
        add(&mut table, "", 100);
    }
    let plan = plan(&table);
    let several = |slots: &&Vec<Slot>| slots.iter().filter(|slot| slot.nodes().count() > 1).count() > 1;
    let count = plan.changes.iter().map(|change| &change.1).filter(several).count();
    println!("{} copies move, {count} sectors have several on their way", plan.moved);
    assert!(plan.moved > 600 && count * 20 < plan.moved, "{count} of {}", plan.moved);
}

#[test]
fn new_members_come_into_mixed_company() {
    let mut table = settled(&cluster(10, 3, 1024));
    let new = add(&mut table, "", 100);
    let table = settled(&table);
    let mut met: BTreeMap<NodeId, usize> = BTreeMap::new();
    for sector in table.sectors.iter().filter(|sector| sector.nodes(3).any(|node| node == new)) {
        for node in sector.nodes(3).filter(|&node| node != new) {
            *met.entry(node).or_default() += 1;
        }
    }
    let mean = 2.0 * 3072.0 / 11.0 / 10.0;
    println!("{met:?}, mean {mean:.0}");
    assert!(
        met.len() == 10 && met.values().all(|&count| (0.5..1.6).contains(&(count as f64 / mean))),
        "{met:?}"
    );
}
