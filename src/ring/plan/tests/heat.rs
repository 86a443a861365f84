//! Placement by load.

use super::*;

/// Load of each member for its weight, the most loaded first, in parts of a hundred of the mean.
fn hundredths(table: &Table, heat: &[u64]) -> Vec<u64> {
    let mut heats: BTreeMap<NodeId, u64> = loads(table).keys().map(|&id| (id, 0)).collect();
    for (sector, heat) in table.sectors.iter().zip(heat) {
        for slot in &sector.slots {
            *heats.get_mut(&goes_to(*slot)).expect("a member that may own") += heat;
        }
    }
    let weight: u64 = heats.keys().map(|id| u64::from(table.members[id].weight)).sum();
    let total: u64 = heats.values().sum();
    let share =
        |(id, heat): (&NodeId, &u64)| heat * weight * 100 / (total * u64::from(table.members[id].weight));
    let mut shares: Vec<_> = heats.iter().map(share).collect();
    shares.sort_unstable_by_key(|&share| std::cmp::Reverse(share));
    shares
}

/// Some sectors have twenty times the load of others, none a member's whole share.
fn skewed(sectors: usize) -> Vec<u64> {
    (0..sectors).map(|at| 1_000_000 / (50 + mix(at, 7) % 1000)).collect()
}

#[test]
fn the_most_loaded_member_is_relieved() {
    for (nodes, sectors) in [(5, 256), (12, 1024), (30, 1024)] {
        let table = settled(&cluster(nodes, 3, sectors));
        // One member is first in all that is asked for.
        let mut heat = skewed(table.sectors.len());
        for (heat, sector) in heat.iter_mut().zip(&table.sectors) {
            *heat *= if sector.nodes(3).any(|node| node == NodeId(1)) { 3 } else { 1 };
        }
        let plan = plan_by_load(&table, &heat);
        check_sound(&table, &plan);
        let (before, after) = (hundredths(&table, &heat), hundredths(&apply(&table, &plan), &heat));
        println!("{nodes} nodes: most loaded {} -> {}, {} moves", before[0], after[0], plan.moved);
        assert!(before[0] > 125 && after[0] <= 112, "{before:?} {after:?}");
        assert!(plan.moved <= 3 * table.sectors.len() / 8, "{} moves", plan.moved);
        let least = loads(&apply(&table, &plan)).values().map(|load| load.0).min();
        assert!(least >= Some(3 * table.sectors.len() / nodes / 2), "nobody is left with too few: {least:?}");
    }
}

#[test]
fn load_follows_weights() {
    let mut table = Table::new(ClusterId(1), 2, 512);
    for weight in [100, 100, 200, 200, 50] {
        add(&mut table, "", weight);
    }
    let table = settled(&table);
    let heat = skewed(512);
    let plan = plan_by_load(&table, &heat);
    check_sound(&table, &plan);
    let after = hundredths(&apply(&table, &plan), &heat);
    assert!(after[0] <= 106, "{after:?}");
}

#[test]
fn even_load_moves_nothing() {
    let table = settled(&cluster(10, 3, 1024));
    assert!(plan_by_load(&table, &[5; 1024]).is_empty());
    assert!(plan_by_load(&table, &[]).is_empty(), "no load is even load");
    let mut table = cluster(4, 3, 64);
    assert_eq!(plan_by_load(&table, &[]), plan(&table));
    add(&mut table, "", 100);
    check_sound(&table, &plan_by_load(&table, &[1, 2, 3]));
}

#[test]
fn one_hot_sector_is_left_alone_by_those_beside_it() {
    let table = settled(&cluster(6, 3, 64));
    let mut heat = vec![100; 64];
    heat[9] = 1_000_000;
    let plan = plan_by_load(&table, &heat);
    check_sound(&table, &plan);
    assert!(plan.changes.iter().all(|(id, _)| id.0 != 9), "it would be as hot elsewhere");
    assert!(loads(&apply(&table, &plan)).values().all(|load| load.0 >= 16), "half a share at least");
}

#[test]
fn leaving_members_and_zones_come_before_load() {
    let mut table = Table::new(ClusterId(1), 3, 256);
    for at in 0..12 {
        add(&mut table, &format!("zone-{}", at % 4), 100);
    }
    let mut table = settled(&table);
    table.members.get_mut(&NodeId(5)).expect("member").state = MemberState::Leaving;
    let heat = skewed(256);
    let plan = plan_by_load(&table, &heat);
    check_sound(&table, &plan);
    let next = settle(&apply(&table, &plan));
    check_zones(&next);
    assert!(next.sectors.iter().all(|sector| sector.nodes(3).all(|node| node != NodeId(5))));
    assert!(hundredths(&next, &heat)[0] <= 112);
}
