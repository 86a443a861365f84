//! The fewest moves there are, found by trying everything.

use super::*;

/// How far loads are from targets, and the copies moved: the lesser the better, in this order.
type Price = (usize, usize);

/// Copies that nodes have more or less of than their targets, by index.
pub(super) fn off_target(draft: &Draft, held: &[usize]) -> usize {
    let off = |(node, &held): (&Node, &usize)| held.saturating_sub(node.max) + node.min.saturating_sub(held);
    draft.nodes[..draft.eligible].iter().zip(held).map(off).sum()
}

/// Where each slot goes in the draft's node numbers, sector by sector.
pub(super) fn destinations(draft: &Draft, table: &Table) -> Vec<Vec<usize>> {
    let index = |slot: &Slot| {
        let id = goes_to(*slot);
        draft.nodes.iter().position(|node| node.id == id).expect("every owner is a node of the draft")
    };
    table.sectors.iter().map(|sector| sector.slots.iter().map(index).collect()).collect()
}

pub(super) fn held(draft: &Draft, destinations: &[Vec<usize>]) -> Vec<usize> {
    let mut held = vec![0; draft.eligible];
    for &owner in destinations.iter().flatten() {
        if let Some(held) = held.get_mut(owner) {
            *held += 1;
        }
    }
    held
}

/// All ways to choose `count` of `from`.
fn choices(from: &[usize], count: usize) -> Vec<Vec<usize>> {
    let Some((&first, rest)) = from.split_first() else {
        return if count == 0 { vec![Vec::new()] } else { Vec::new() };
    };
    let mut all = choices(rest, count);
    if count > 0 {
        all.extend(choices(rest, count - 1).into_iter().map(|mut some| {
            some.push(first);
            some
        }));
    }
    all
}

/// Every assignment of every sector, those of equal loads taken together: the best price.
fn best(draft: &Draft, table: &Table) -> Price {
    let mut reached = BTreeMap::from([(vec![0; draft.eligible], 0)]);
    for (places, (sector, &limit)) in draft.sectors.iter().zip(table.sectors.iter().zip(&draft.limits)) {
        let pinned: Vec<_> = places.iter().filter(|place| place.pinned).map(|place| place.owner).collect();
        let on_the_move: Vec<_> =
            sector.slots.iter().filter(|slot| slot.nodes().count() > 1).flat_map(Slot::nodes).collect();
        let open: Vec<_> =
            (0..draft.eligible).filter(|&at| !on_the_move.contains(&draft.nodes[at].id)).collect();
        let mut options = choices(&open, draft.n - pinned.len());
        for option in &mut options {
            option.extend(&pinned);
        }
        options.retain(|owners| {
            distinct(owners.iter().map(|&owner| draft.nodes[owner].zone)) + limit >= owners.len()
        });
        let mut next = BTreeMap::new();
        for (loads, moved) in &reached {
            for owners in &options {
                let mut loads: Vec<usize> = loads.clone();
                let mut moved: usize = *moved;
                for &owner in owners {
                    if owner < draft.eligible {
                        loads[owner] += 1;
                    }
                    let owned = |slot: &Slot| goes_to(*slot) == draft.nodes[owner].id;
                    moved += usize::from(!sector.slots.is_empty() && !sector.slots.iter().any(owned));
                }
                let known = next.entry(loads).or_insert(moved);
                *known = moved.min(*known);
            }
        }
        reached = next;
    }
    reached.iter().map(|(loads, &moved)| (off_target(draft, loads), moved)).min().expect("some assignment")
}

/// A small table in any state a table can be in, balanced or not.
fn any_small_table(dice: &mut Dice) -> Table {
    let n = 1 + dice.throw(3);
    let mut table = Table::new(ClusterId(1), n as u8, 1 << dice.throw(4));
    // The slots that may trade places in sectors with data.
    table.keyspaces.values_mut().for_each(|keyspace| keyspace.settings.n = 1 + dice.throw(n) as u8);
    let zones = ["", "a", "b", "c", "d"];
    let kinds = 1 + dice.throw(zones.len());
    let weighted = dice.hits(2);
    for _ in 0..n + dice.throw(6 - n) {
        let weight = if weighted { 20 * (1 + dice.throw(10)) as u16 } else { 100 };
        add(&mut table, zones[dice.throw(kinds)], weight);
    }
    let members: Vec<_> = table.members.keys().copied().collect();
    let (may_move, may_be_new) = (dice.hits(2), dice.hits(3));
    for sector in &mut table.sectors {
        if may_be_new && dice.hits(3) {
            continue;
        }
        let mut left = members.clone();
        let mut draw = |dice: &mut Dice| left.swap_remove(dice.throw(left.len()));
        for _ in 0..n {
            sector.slots.push(Slot::Settled(draw(dice)));
        }
        if may_move && members.len() > n && dice.hits(2) {
            let at = dice.throw(n);
            sector.slots[at] =
                Slot::Moving { old: sector.slots[at].holder(), new: draw(dice), since: Epoch(0) };
        }
    }
    for id in members {
        if dice.hits(6) {
            table.members.get_mut(&id).expect("member").state = MemberState::Leaving;
        }
    }
    table
}

#[test]
fn nothing_beats_the_plan_in_small_clusters() {
    let (mut tried, mut moved) = (0, 0);
    for seed in 0..3000 {
        let table = any_small_table(&mut Dice::new(seed));
        let Some(draft) = Draft::balanced(&table) else {
            assert!(plan(&table).is_empty());
            continue;
        };
        let plan = plan(&table);
        check_sound(&table, &plan);
        let held = held(&draft, &destinations(&draft, &apply(&table, &plan)));
        assert_eq!((off_target(&draft, &held), plan.moved), best(&draft, &table), "seed {seed}: {table:?}");
        tried += 1;
        moved += plan.moved;
    }
    println!("{tried} small clusters, {moved} copies moved, none too many");
    assert!(tried > 2000 && moved > 2000, "{tried} clusters, {moved} copies");
}

/// Plans by load and by name give up the optimum, and nothing else.
#[test]
fn other_plans_are_as_sound() {
    let mut moved = 0;
    for seed in 3000..5000 {
        let dice = &mut Dice::new(seed);
        let table = any_small_table(dice);
        let heat: Vec<_> = table.sectors.iter().map(|_| 1 << dice.throw(8)).collect();
        let plan = plan_by_load(&table, &heat);
        check_sound(&table, &plan);
        let (to, first, last) = (dice.throw(7), dice.throw(table.sectors.len()), table.sectors.len() - 1);
        if let Ok(plan) =
            move_sectors(&table, NodeId(to as u32), SectorId(first as u16), SectorId(last as u16))
        {
            check_sound(&table, &plan);
            moved += plan.moved;
        }
    }
    assert!(moved > 200, "{moved} copies moved by name");
}
