//! `query`: the table by node. Which sectors each node owns, and which are on their way.

use super::cluster::{ask_table, range, shortened};
use super::exit::CommandResult;
use super::options::{Format, Globals};
use super::output::{object, plain, print_json, table};
use super::standing::word;
use crate::client::Store;
use crate::ring::{Slot, Table};
use crate::types::NodeId;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write;

/// Sectors in a row: the first and the last.
type Range = (u16, u16);

/// What each node owns, and what moves from whom to whom.
#[derive(Debug, Default)]
struct Owned {
    nodes: BTreeMap<NodeId, Vec<Range>>,
    moves: BTreeMap<(NodeId, NodeId), Vec<Range>>,
}

impl Owned {
    fn of(table: &Table) -> Self {
        let nodes = table.present().map(|(node, _)| (node, Vec::new())).collect();
        let mut owned = Self { nodes, moves: BTreeMap::new() };
        for (at, sector) in (0..).zip(&table.sectors) {
            for slot in &sector.slots {
                push(owned.nodes.entry(slot.holder()).or_default(), at);
                if let Slot::Moving { old, new, .. } = *slot {
                    push(owned.moves.entry((old, new)).or_default(), at);
                }
            }
        }
        owned
    }
}

/// Adds a sector behind those there are.
fn push(ranges: &mut Vec<Range>, sector: u16) {
    match ranges.last_mut() {
        Some((_, last)) if *last + 1 == sector => *last = sector,
        Some(_) | None => ranges.push((sector, sector)),
    }
}

fn count(ranges: &[Range]) -> usize {
    ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
}

fn texts(ranges: &[Range]) -> Vec<String> {
    ranges.iter().map(|&(first, last)| range(first, last)).collect()
}

/// `query`.
pub(crate) fn query(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let table = ask_table(store)?;
    let owned = Owned::of(&table);
    match globals.format {
        Format::Json => print_json(out, json(&table, &owned))?,
        Format::Plain => out.write_all(plain(&plain_rows(&table, &owned)).as_bytes())?,
        Format::Table => out.write_all(text(&table, &owned).as_bytes())?,
    }
    Ok(())
}

fn addr_and_state(table: &Table, node: NodeId) -> (String, &'static str) {
    table.members.get(&node).map_or(("?".to_owned(), "?"), |member| (member.addr.clone(), word(member.state)))
}

fn text(of: &Table, owned: &Owned) -> String {
    let row = |(&node, ranges): (&NodeId, &Vec<Range>)| {
        let (addr, state) = addr_and_state(of, node);
        vec![node.to_string(), addr, state.to_owned(), count(ranges).to_string(), shortened(&texts(ranges))]
    };
    let rows = owned.nodes.iter().map(row).collect();
    let head = format!("Table epoch {}, {} copies, {} sectors\n\n", of.epoch, of.n, of.sectors.len());
    let mut text = head + &table(&["Node", "Address", "State", "Sectors", "Which"], &[0, 3], rows);
    if !owned.moves.is_empty() {
        let row = |(&(old, new), ranges): (&(NodeId, NodeId), &Vec<Range>)| {
            let sectors = shortened(&texts(ranges));
            vec![old.to_string(), new.to_string(), count(ranges).to_string(), sectors]
        };
        let rows = owned.moves.iter().map(row).collect();
        text += &format!("\n{}", table(&["Moving from", "To", "Sectors", "Which"], &[0, 1, 2], rows));
    }
    text
}

/// Rows whose first field says what they are.
fn plain_rows(table: &Table, owned: &Owned) -> Vec<Vec<String>> {
    let node = |(&node, ranges): (&NodeId, &Vec<Range>)| {
        let (addr, state) = addr_and_state(table, node);
        let fields = ["node".to_owned(), node.to_string(), addr, state.to_owned(), count(ranges).to_string()];
        fields.into_iter().chain([texts(ranges).join(" ")]).collect()
    };
    let moving = |(&(old, new), ranges): (&(NodeId, NodeId), &Vec<Range>)| {
        let sectors = texts(ranges).join(" ");
        vec!["moving".to_owned(), old.to_string(), new.to_string(), count(ranges).to_string(), sectors]
    };
    owned.nodes.iter().map(node).chain(owned.moves.iter().map(moving)).collect()
}

fn json(table: &Table, owned: &Owned) -> Map<String, Value> {
    let ranges = |ranges: &Vec<Range>| -> Value {
        ranges.iter().map(|&(first, last)| Value::from(vec![first, last])).collect::<Vec<_>>().into()
    };
    let node = |(&node, sectors): (&NodeId, &Vec<Range>)| -> Value {
        let (addr, state) = addr_and_state(table, node);
        object([
            ("id", node.0.into()),
            ("addr", addr.into()),
            ("state", state.into()),
            ("sectors", count(sectors).into()),
            ("ranges", ranges(sectors)),
        ])
        .into()
    };
    let moving = |(&(old, new), sectors): (&(NodeId, NodeId), &Vec<Range>)| -> Value {
        object([("from", old.0.into()), ("to", new.0.into()), ("ranges", ranges(sectors))]).into()
    };
    object([
        ("epoch", table.epoch.0.into()),
        ("nodes", owned.nodes.iter().map(node).collect::<Vec<_>>().into()),
        ("moves", owned.moves.iter().map(moving).collect::<Vec<_>>().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Member, MemberState, Sector};
    use crate::types::{ClusterId, DiskUuid, Epoch};

    #[test]
    fn a_node_owns_ranges_until_what_moves_has_arrived() {
        let mut table = Table::new(ClusterId(1), 1, 4);
        for id in [1, 2, 3] {
            let (addr, zone, state) = (format!("n{id}:1"), String::new(), MemberState::Normal);
            let disk_uuid = DiskUuid(u128::from(id));
            table.members.insert(NodeId(id), Member { addr, disk_uuid, zone, weight: 100, state });
        }
        let moving = Slot::Moving { old: NodeId(1), new: NodeId(3), since: Epoch(1) };
        let slots = [Slot::Settled(NodeId(1)), moving, Slot::Settled(NodeId(2)), Slot::Settled(NodeId(1))];
        table.sectors = slots.map(|slot| Sector { conf_epoch: Epoch(1), slots: vec![slot] }).to_vec();
        let owned = Owned::of(&table);
        let rows = plain(&plain_rows(&table, &owned));
        assert_eq!(
            rows,
            "node\t1\tn1:1\tnormal\t3\t0-1 3\nnode\t2\tn2:1\tnormal\t1\t2\nnode\t3\tn3:1\tnormal\t0\t\n\
             moving\t1\t3\t1\t1\n"
        );
        let text = text(&table, &owned);
        assert!(text.contains("Moving from  To  Sectors  Which\n          1   3        1  1\n"), "{text}");
        let json = Value::from(json(&table, &owned));
        assert_eq!(json["nodes"][0]["ranges"].to_string(), "[[0,1],[3,3]]");
        assert_eq!(json["moves"][0].to_string(), r#"{"from":1,"to":3,"ranges":[[1,1]]}"#);
    }
}
