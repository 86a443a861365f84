//! How long the manager thinks about a change of members.
//!
//! `cargo bench --bench planner`. Each figure is the best of five runs; the planner is one thread.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a bench reports and may give up")]

use gtstore::ring::{Member, MemberState, Slot, Table, move_sectors, plan, plan_by_load, validate};
use gtstore::types::{ClusterId, DiskUuid, Epoch, NodeId, SectorId};
use std::time::Instant;

const RUNS: usize = 5;

fn main() {
    println!("{:>6} {:>8} {:>6}  {:<22} {:>10} {:>8}", "nodes", "sectors", "zones", "change", "ms", "moved");
    for (nodes, sectors, zones) in [(100, 1024, 0), (100, 1024, 10), (100, 1024, 3), (100, 16384, 10)] {
        let table = cluster(nodes, sectors, zones);
        report(&table, zones, "first placement", plan);
        let table = settled(&table);
        for (what, change) in CHANGES {
            let mut changed = table.clone();
            change(&mut changed, zones);
            report(&changed, zones, what, plan);
        }
        let heat: Vec<u64> = (0..u64::from(sectors)).map(|at| 1000 + at * 7919 % 9001).collect();
        report(&table, zones, "rebalance by load", |table| plan_by_load(table, &heat));
        let last = SectorId(sectors / 10);
        report(&table, zones, "a tenth to one node", |table| {
            move_sectors(table, NodeId(1), SectorId(0), last).expect("a plan")
        });
    }
}

type Change = (&'static str, fn(&mut Table, usize));

const CHANGES: [Change; 5] = [
    ("one joins", |table, zones| add(table, zones, 100)),
    ("one leaves", |table, _| leave(table, 7)),
    ("ten join, ten leave", |table, zones| {
        for id in 1..=10 {
            add(table, zones, 100);
            leave(table, id * 9);
        }
    }),
    ("every weight changes", |table, _| {
        for (id, member) in &mut table.members {
            member.weight = 50 + (id.0 * 37 % 100) as u16;
        }
    }),
    ("owners at random", |table, _| {
        let nodes = table.members.len() as u32;
        for (at, sector) in (0u32..).zip(&mut table.sectors) {
            // Three different ones, some nodes far more often than others.
            let first = at * at % nodes;
            let owner = |step: u32| Slot::Settled(NodeId(1 + (first + step) % nodes));
            sector.slots = vec![owner(0), owner(1 + at % 7), owner(8 + at % 11)];
        }
    }),
];

fn cluster(nodes: usize, sectors: u16, zones: usize) -> Table {
    let mut table = Table::new(ClusterId(1), 3, sectors);
    for _ in 0..nodes {
        add(&mut table, zones, 100);
    }
    table
}

fn add(table: &mut Table, zones: usize, weight: u16) {
    let id = table.next_node;
    let zone = if zones == 0 { String::new() } else { format!("zone-{}", id.0 as usize % zones) };
    let member =
        Member { addr: String::new(), disk_uuid: DiskUuid(0), zone, weight, state: MemberState::Normal };
    table.members.insert(id, member);
    table.next_node = NodeId(id.0 + 1);
}

fn leave(table: &mut Table, id: u32) {
    table.members.get_mut(&NodeId(id)).expect("a member").state = MemberState::Leaving;
}

/// The table that a plan leads to.
fn next(table: &Table, plan: &gtstore::ring::Plan) -> Table {
    let mut next = table.clone();
    next.epoch = Epoch(table.epoch.0 + 1);
    for (id, slots) in &plan.changes {
        let sector = &mut next.sectors[usize::from(id.0)];
        sector.slots.clone_from(slots);
        sector.conf_epoch = next.epoch;
    }
    next
}

/// The same once every copy has arrived.
fn settled(table: &Table) -> Table {
    let mut next = next(table, &plan(table));
    for slot in next.sectors.iter_mut().flat_map(|sector| &mut sector.slots) {
        if let Slot::Moving { new, .. } = *slot {
            *slot = Slot::Settled(new);
        }
    }
    next
}

fn report(table: &Table, zones: usize, what: &str, plan: impl Fn(&Table) -> gtstore::ring::Plan) {
    let mut best = f64::MAX;
    let mut made = gtstore::ring::Plan::default();
    for _ in 0..RUNS {
        let start = Instant::now();
        made = plan(table);
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    assert_eq!(validate(table, &next(table, &made)), Ok(()));
    let (nodes, sectors) = (table.present().count(), table.sectors.len());
    println!("{nodes:>6} {sectors:>8} {zones:>6}  {what:<22} {best:>10.1} {:>8}", made.moved);
}
