//! `status`, `ring`, `owners` and `dump`: the cluster as it sees itself.

use super::everyone::ask_statuses;
use super::exit::{CommandResult, Exit, Failure};
use super::options::{Format, Globals};
use super::output::{object, print_json, print_rows};
use super::progress::bar;
use super::standing::{self, state_letters};
use super::text::{escaped, human_bytes, json_bytes, quoted};
use crate::client::{Store, Target};
use crate::ring::{MemberState, Slot, Table, hash_slot};
use crate::shell::blocking::unexpected;
use crate::types::{Epoch, Health, NodeId, Room, SectorId};
use crate::wire::client::{ClientReply, ClientRequest, ClusterStatus, DumpEntry, NodeStatus};
use crate::wire::decode_table;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write;

/// Asks for the cluster's status.
pub(crate) fn ask_status(store: &mut Store) -> Result<ClusterStatus, Failure> {
    match store.ask(Target::Any, ClientRequest::Status)? {
        ClientReply::Status(status) => Ok(status),
        other => Err(unexpected(&other).into()),
    }
}

/// Asks for the table.
pub(crate) fn ask_table(store: &mut Store) -> Result<Table, Failure> {
    ask_table_of(store, Target::Any)
}

/// Asks for the table that a certain server has.
pub(crate) fn ask_table_of(store: &mut Store, whom: Target) -> Result<Table, Failure> {
    match store.ask(whom, ClientRequest::Table { known: Epoch(0) })? {
        ClientReply::Table(bytes) => decode_table(bytes).map_err(|error| {
            Failure::new(Exit::Error, format!("the server's table cannot be read: {error}"))
        }),
        ClientReply::TableIsCurrent(_) => {
            let text = "the server has no table yet: it has not joined a cluster; try again in a moment";
            Err(Failure::new(Exit::Unavailable, text))
        }
        other => Err(unexpected(&other).into()),
    }
}

/// `status`.
pub(crate) fn status(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let status = ask_status(store)?;
    match globals.format {
        Format::Json => print_json(out, json_status(&status))?,
        Format::Table => {
            write!(out, "{}", status_head(&status))?;
            let mut headings = vec![
                "State",
                "Health",
                "Node",
                "Address",
                "Zone",
                "Sectors",
                "First in",
                "Keys",
                "Data",
                "Working on",
                "Epoch",
                "Life",
            ];
            // Where all is well there is no column to read past.
            let has_damage = status.nodes.iter().any(|node| node.vitals.damaged > 0);
            headings.extend(has_damage.then_some("Damaged"));
            let has_hints = status.nodes.iter().any(|node| node.vitals.hint_bytes > 0);
            headings.extend(has_hints.then_some("Hints kept"));
            let has_repairs = status.nodes.iter().any(|node| node.vitals.repairs > 0);
            headings.extend(has_repairs.then_some("To repair"));
            let has_full = status.nodes.iter().any(|node| node.vitals.room != Room::Enough);
            headings.extend(has_full.then_some("Disk"));
            let row = |node: &NodeStatus| {
                let known = Known::of(node, status.observer);
                let mut row = status_row(node, &known, cell(known.bytes.map(human_bytes)));
                row.insert(1, node.health.to_string());
                row.extend(has_damage.then(|| match known.damaged {
                    Some(count @ 1..) => sectors(count),
                    Some(0) | None => UNKNOWN.to_owned(),
                }));
                row.extend(has_hints.then(|| cell(known.hint_bytes.map(human_bytes))));
                row.extend(has_repairs.then(|| cell(known.repairs)));
                row.extend(has_full.then(|| cell(known.room)));
                row
            };
            let rows = status.nodes.iter().map(row).collect();
            print_rows(out, Format::Table, &headings, &[2, 5, 6, 7, 8, 9, 10, 11], rows)?;
            let advice = [
                (!status.serving).then(|| standing::serving_advice(&status, ask_table(store).ok())),
                if status.serving { away_advice(&status) } else { None },
                standing::advice(&status),
                room_advice(&status),
                damage_advice(&status),
            ];
            for advice in advice.into_iter().flatten() {
                writeln!(out, "\n{advice}")?;
            }
        }
        Format::Plain => {
            let row = |node: &NodeStatus| {
                let known = Known::of(node, status.observer);
                let mut row = status_row(node, &known, cell(known.bytes));
                row.extend([cell(known.damaged), node.health.to_string(), cell(known.hint_bytes)]);
                row.extend([cell(known.room), cell(known.repairs)]);
                row
            };
            let rows = status.nodes.iter().map(row).collect();
            print_rows(out, Format::Plain, &[], &[], rows)?;
        }
    }
    Ok(())
}

fn status_head(status: &ClusterStatus) -> String {
    let by = match status.observer {
        NodeId(0) => "the manager".to_owned(),
        node => format!("node {node}"),
    };
    let serving = match (status.serving, status.moving) {
        (false, _) => "not serving".to_owned(),
        (true, 0) => "serving".to_owned(),
        (true, moving) => format!("serving, {moving} sectors moving"),
    };
    format!(
        "Cluster {}, {serving}: {} copies, {} sectors, table epoch {}, as {by} sees it\n\
         {}\n\n",
        status.cluster_id,
        status.n,
        status.sectors,
        status.epoch,
        standing::LETTERS
    )
}

/// What a person may do about nodes that are away.
fn away_advice(status: &ClusterStatus) -> Option<String> {
    // What is given up is down as it should be.
    let named = |health: Health| {
        let nodes = status.nodes.iter().filter(|node| node.health == health);
        let nodes = nodes.filter(|node| node.state != MemberState::Lost);
        let ids: Vec<String> = nodes.map(|node| node.node.to_string()).collect();
        (!ids.is_empty()).then(|| ids.join(", "))
    };
    let known = match status.observer {
        NodeId(0) => "the manager does not hear it".to_owned(),
        observer => format!("neither node {observer} nor those it asked hear it"),
    };
    // One that stands still, or is cut off from all, looks like one that has ended.
    let down = named(Health::Down).map(|ids| {
        format!(
            "Down: node {ids}: {known}. If its process has ended, start it again from its data directory: \
             the log there says\nwhy it ended. If it runs, it stands still, or the network to it is cut."
        )
    });
    let cut_off = named(Health::CutOff).map(|ids| {
        format!(
            "Cut off: node {ids}. Others hear it: see what is wrong between it and node {}.",
            status.observer
        )
    });
    let lines: Vec<String> = down.into_iter().chain(cut_off).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What a person may do about disks without room.
fn room_advice(status: &ClusterStatus) -> Option<String> {
    let full = status.nodes.iter().filter(|node| node.health.is_up() && node.vitals.room != Room::Enough);
    let full: Vec<String> = full.map(|node| node.node.to_string()).collect();
    (!full.is_empty()).then(|| {
        format!(
            "Disk full, or less free than its reserve: node {}. It refuses puts; reads go on. Free some space \
             there, or add a node:\nputs are taken again without a restart.",
            full.join(", ")
        )
    })
}

/// What a person may do about damaged logs.
pub(crate) fn damage_advice(status: &ClusterStatus) -> Option<String> {
    let damaged: Vec<String> = status
        .nodes
        .iter()
        .filter(|node| node.vitals.damaged > 0)
        .map(|node| format!("node {} ({})", node.node, sectors(node.vitals.damaged)))
        .collect();
    (!damaged.is_empty()).then(|| {
        format!(
            "Damaged: {}. Their other owners serve these sectors, and fill them again: keep them up, all \
             of them.\nThe count goes down of itself, but for sectors of which another copy is damaged \
             too, or which have no other.",
            damaged.join(", ")
        )
    })
}

fn sectors(count: u16) -> String {
    if count == 1 { "1 sector".to_owned() } else { format!("{count} sectors") }
}

/// What is said of a node that the observer has not heard of: no number, and least of all 0.
const UNKNOWN: &str = "-";

/// What the observer knows of a node; none where it knows nothing.
struct Known {
    keys: Option<u64>,
    bytes: Option<u64>,
    pending: Option<u32>,
    epoch: Option<u64>,
    life: Option<u32>,
    damaged: Option<u16>,
    hint_bytes: Option<u64>,
    repairs: Option<u32>,
    room: Option<Room>,
}

impl Known {
    fn of(node: &NodeStatus, observer: NodeId) -> Self {
        // Whoever has reported has a table.
        let heard = node.vitals.epoch != Epoch(0);
        // Requests in hand are told to the manager alone, and end with their process.
        let sees_inside = observer == NodeId(0) || observer == node.node;
        Self {
            keys: heard.then_some(node.vitals.keys),
            bytes: heard.then_some(node.vitals.bytes),
            pending: (heard && node.health.is_up() && sees_inside).then_some(node.vitals.pending),
            epoch: heard.then_some(node.vitals.epoch.0),
            life: (node.incarnation.0 != 0).then_some(node.incarnation.0),
            damaged: heard.then_some(node.vitals.damaged),
            hint_bytes: heard.then_some(node.vitals.hint_bytes),
            repairs: heard.then_some(node.vitals.repairs),
            room: heard.then_some(node.vitals.room),
        }
    }
}

fn cell<T: ToString>(known: Option<T>) -> String {
    known.map_or(UNKNOWN.to_owned(), |known| known.to_string())
}

fn status_row(node: &NodeStatus, known: &Known, bytes: String) -> Vec<String> {
    let zone = if node.zone.is_empty() { "-".to_owned() } else { node.zone.clone() };
    vec![
        state_letters(node),
        node.node.to_string(),
        node.addr.clone(),
        zone,
        node.sectors.0.to_string(),
        node.sectors.1.to_string(),
        cell(known.keys),
        bytes,
        cell(known.pending),
        cell(known.epoch),
        cell(known.life),
    ]
}

fn json_status(status: &ClusterStatus) -> Map<String, Value> {
    let node = |node: &NodeStatus| -> Value {
        let known = Known::of(node, status.observer);
        let mut row = object([
            ("id", node.node.0.into()),
            ("state", state_letters(node).into()),
            ("addr", node.addr.clone().into()),
            ("zone", node.zone.clone().into()),
            ("sectors", node.sectors.0.into()),
            ("first_in", node.sectors.1.into()),
        ]);
        row.append(&mut object([
            ("keys", known.keys.into()),
            ("bytes", known.bytes.into()),
            ("pending", known.pending.into()),
            ("epoch", known.epoch.into()),
            ("incarnation", known.life.into()),
            ("damaged", known.damaged.into()),
            ("health", node.health.to_string().into()),
            ("hint_bytes", known.hint_bytes.into()),
            ("repairs", known.repairs.into()),
            ("disk", known.room.map(|room| room.to_string()).into()),
        ]));
        row.into()
    };
    let nodes: Vec<Value> = status.nodes.iter().map(node).collect();
    object([
        ("cluster", status.cluster_id.to_string().into()),
        ("observer", status.observer.0.into()),
        ("epoch", status.epoch.0.into()),
        ("n", status.n.into()),
        ("sectors", status.sectors.into()),
        ("serving", status.serving.into()),
        ("moving", status.moving.into()),
        ("nodes", nodes.into()),
    ])
}

/// `ring`: how evenly sectors and keys lie.
pub(crate) fn ring(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let status = ask_status(store)?;
    let sectors: u64 = status.nodes.iter().map(|node| u64::from(node.sectors.0)).sum();
    let keys_of = |node: &NodeStatus| Known::of(node, status.observer).keys;
    let told: Vec<u64> = status.nodes.iter().filter_map(keys_of).collect();
    let keys: u64 = told.iter().sum();
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 };
    if globals.format == Format::Json {
        let nodes: Vec<Value> = status
            .nodes
            .iter()
            .map(|node| {
                object([
                    ("id", node.node.0.into()),
                    ("state", state_letters(node).into()),
                    ("sectors", node.sectors.0.into()),
                    ("sectors_percent", share(node.sectors.0.into(), sectors).into()),
                    ("keys", keys_of(node).into()),
                    ("keys_percent", keys_of(node).map(|own| share(own, keys)).into()),
                    ("damaged", Known::of(node, status.observer).damaged.into()),
                ])
                .into()
            })
            .collect();
        return Ok(print_json(out, object([("nodes", nodes.into())]))?);
    }
    let row = |node: &NodeStatus| {
        let mut row = vec![node.node.to_string(), state_letters(node)];
        if globals.format == Format::Table {
            row.push(bar(node.sectors.0.into(), sectors, 40));
        }
        row.push(node.sectors.0.to_string());
        row.push(format!("{:.1}", share(node.sectors.0.into(), sectors)));
        row.push(cell(keys_of(node)));
        row.push(cell(keys_of(node).map(|own| format!("{:.1}", share(own, keys)))));
        if globals.format == Format::Plain {
            row.push(cell(Known::of(node, status.observer).damaged));
        }
        row
    };
    let rows = status.nodes.iter().map(row).collect();
    let headings = ["Node", "State", "Share of sectors", "Sectors", "%", "Keys", "%"];
    print_rows(out, globals.format, &headings, &[0, 3, 4, 5, 6], rows)?;
    if globals.format == Format::Table {
        writeln!(out)?;
        if keys > 0 {
            let fullest = told.iter().copied().max().unwrap_or(0) as f64;
            let mean = keys as f64 / told.len() as f64;
            let ratio = fullest / mean;
            writeln!(out, "{keys} copies of keys in all; the fullest node holds {ratio:.3} of the mean")?;
        }
        writeln!(out, "Keys are as each node last reported them, up to 0.5 s ago; longer if it is down.")?;
        if let Some(advice) = damage_advice(&status) {
            writeln!(out, "\n{advice}")?;
        }
    }
    Ok(())
}

/// `owners KEY`.
pub(crate) fn owners(store: &mut Store, globals: &Globals, out: &mut dyn Write, key: &str) -> CommandResult {
    let table = ask_table(store)?;
    let name = &store.options().keyspace;
    let Some((_, keyspace)) = table.keyspace(name) else {
        let text = format!("there is no keyspace {name:?}; see `gtstore keyspace list`");
        return Err(Failure::new(Exit::Usage, text));
    };
    let sector = table.sector_of(key.as_bytes());
    let slots = table.slots(sector, keyspace.settings.n);
    if slots.is_empty() {
        let text = "sectors have no owners yet: too few nodes have joined; see `gtstore status`";
        return Err(Failure::new(Exit::Unavailable, text));
    }
    let addr = |node: NodeId| table.members.get(&node).map_or("?", |member| member.addr.as_str()).to_owned();
    let note = |slot: &Slot| match slot {
        Slot::Settled(_) => String::new(),
        Slot::Moving { new, .. } => format!("moving to node {new}"),
    };
    match globals.format {
        Format::Json => {
            let owner = |slot: &Slot| -> Value {
                let moving_to = match slot {
                    Slot::Settled(_) => Value::Null,
                    Slot::Moving { new, .. } => new.0.into(),
                };
                let node = slot.holder();
                object([("id", node.0.into()), ("addr", addr(node).into()), ("moving_to", moving_to)]).into()
            };
            let owners: Vec<Value> = slots.iter().map(owner).collect();
            let mut line = Map::new();
            json_bytes(&mut line, "key", key.as_bytes());
            line.append(&mut object([
                ("hash_slot", hash_slot(key.as_bytes()).into()),
                ("sector", sector.0.into()),
                ("epoch", table.epoch.0.into()),
                ("owners", owners.into()),
            ]));
            print_json(out, line)?;
        }
        Format::Table | Format::Plain => {
            if globals.format == Format::Table {
                writeln!(
                    out,
                    "{} is in sector {sector} of {} (hash slot {}), table epoch {}\n",
                    quoted(key.as_bytes()),
                    table.sectors.len(),
                    hash_slot(key.as_bytes()),
                    table.epoch
                )?;
            }
            let rows = slots
                .iter()
                .enumerate()
                .map(|(at, slot)| {
                    let node = slot.holder();
                    vec![(at + 1).to_string(), node.to_string(), addr(node), note(slot)]
                })
                .collect();
            print_rows(out, globals.format, &["Owner", "Node", "Address", ""], &[0, 1], rows)?;
        }
    }
    Ok(())
}

/// `dump`: the table.
pub(crate) fn dump_table(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let table = ask_table(store)?;
    if globals.format == Format::Json {
        return Ok(print_json(out, json_table(&table))?);
    }
    if globals.format == Format::Table {
        writeln!(
            out,
            "Cluster {}, table epoch {}, {} copies, {} sectors, profile {}\n",
            table.cluster_id,
            table.epoch,
            table.n,
            table.sectors.len(),
            table.profile
        )?;
    }
    if globals.format == Format::Table {
        let rows = by_owners(&table)
            .into_iter()
            .map(|(owners, (count, ranges))| vec![owners, count.to_string(), shortened(&ranges)])
            .collect();
        return Ok(print_rows(out, Format::Table, &["Owners in order", "Sectors", "Which"], &[1], rows)?);
    }
    let rows = runs(&table)
        .into_iter()
        .map(|(first, last, slots)| {
            vec![range(first, last), table.sector(SectorId(first)).conf_epoch.to_string(), owners_text(slots)]
        })
        .collect();
    Ok(print_rows(out, Format::Plain, &[], &[], rows)?)
}

pub(super) fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn owners_text(slots: &[Slot]) -> String {
    let owners: Vec<String> = slots.iter().map(slot_text).collect();
    if owners.is_empty() { "nobody yet".to_owned() } else { owners.join(" ") }
}

/// How many sectors have the same owners in the same order, and which they are.
fn by_owners(table: &Table) -> BTreeMap<String, (usize, Vec<String>)> {
    let mut groups: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for (first, last, slots) in runs(table) {
        let group = groups.entry(owners_text(slots)).or_default();
        group.0 += usize::from(last - first) + 1;
        group.1.push(range(first, last));
    }
    groups
}

/// The first few of many ranges; `-o plain` gives all.
pub(super) fn shortened(ranges: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if ranges.len() > SHOWN { " ..." } else { "" };
    ranges[..ranges.len().min(SHOWN)].join(" ") + more
}

fn slot_text(slot: &Slot) -> String {
    match slot {
        Slot::Settled(node) => node.to_string(),
        Slot::Moving { old, new, .. } => format!("{old}>{new}"),
    }
}

/// Neighbouring sectors with equal owners, as first, last and slots.
fn runs(table: &Table) -> Vec<(u16, u16, &[Slot])> {
    let mut runs: Vec<(u16, u16, &[Slot])> = Vec::new();
    for (at, sector) in (0..).zip(&table.sectors) {
        match runs.last_mut() {
            Some((_, last, slots)) if *slots == sector.slots.as_slice() => *last = at,
            Some(_) | None => runs.push((at, at, &sector.slots)),
        }
    }
    runs
}

fn json_table(table: &Table) -> Map<String, Value> {
    let sectors: Vec<Value> = table
        .sectors
        .iter()
        .map(|sector| sector.slots.iter().map(|slot| Value::from(slot_text(slot))).collect::<Vec<_>>().into())
        .collect();
    let members: Vec<Value> = table
        .members
        .iter()
        .map(|(id, member)| {
            object([
                ("id", id.0.into()),
                ("addr", member.addr.clone().into()),
                ("zone", member.zone.clone().into()),
                ("weight", member.weight.into()),
                ("state", standing::word(member.state).into()),
            ])
            .into()
        })
        .collect();
    object([
        ("cluster", table.cluster_id.to_string().into()),
        ("epoch", table.epoch.0.into()),
        ("n", table.n.into()),
        ("profile", table.profile.to_string().into()),
        ("members", members.into()),
        ("sectors", sectors.into()),
    ])
}

/// `dump --node N`: what a node holds in the keyspace, a page at a time.
pub(crate) fn dump_node(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    node: u32,
) -> CommandResult {
    let table = ask_table(store)?;
    let Some(member) = table.members.get(&NodeId(node)) else {
        return Err(Failure::new(Exit::Usage, format!("there is no node {node}; see `gtstore status`")));
    };
    let seen = ask_statuses(store, &[(NodeId(node), member.addr.clone())]);
    if let Some(other) = seen.replaced.get(&NodeId(node)) {
        let text = format!("node {node} is not there: node {other} answers at its address");
        return Err(Failure::new(Exit::Unavailable, text));
    }
    let mut after = None;
    loop {
        let (entries, next) = dump_page(store, &member.addr, after)?;
        for entry in &entries {
            print_dump_entry(out, globals.format, entry)?;
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Entries of one page, and where the next one begins.
pub(crate) type Page = (Vec<DumpEntry>, Option<(SectorId, bytes::Bytes)>);

/// One page of what the node at an address holds in the store's keyspace.
pub(crate) fn dump_page(
    store: &mut Store,
    addr: &str,
    after: Option<(SectorId, bytes::Bytes)>,
) -> Result<Page, Failure> {
    let request = ClientRequest::Dump { keyspace: store.options().keyspace.clone(), after };
    match store.ask(Target::Addr(addr.to_owned()), request)? {
        ClientReply::Dump { entries, next } => Ok((entries, next)),
        other => Err(unexpected(&other).into()),
    }
}

fn print_dump_entry(out: &mut dyn Write, format: Format, entry: &DumpEntry) -> CommandResult {
    let size = |length: &Option<u32>| match length {
        Some(bytes) => format!("{bytes} bytes"),
        None => "deleted".to_owned(),
    };
    match format {
        Format::Json => {
            let sibling = |(dot, stamp, length): &_| -> Value {
                let (dot, stamp, length): (&crate::types::Dot, &crate::types::Stamp, &Option<u32>) =
                    (dot, stamp, length);
                object([
                    ("dot", dot.to_string().into()),
                    ("wall_ms", stamp.wall().0.into()),
                    ("value_bytes", length.map_or(Value::Null, Into::into)),
                ])
                .into()
            };
            let siblings: Vec<Value> = entry.siblings.iter().map(sibling).collect();
            let mut line = object([("sector", entry.sector.0.into())]);
            json_bytes(&mut line, "key", &entry.key);
            line.insert("siblings".to_owned(), siblings.into());
            print_json(out, line)?;
        }
        Format::Table => {
            let siblings: Vec<String> =
                entry.siblings.iter().map(|(dot, _, length)| format!("{dot} ({})", size(length))).collect();
            writeln!(out, "sector {:<5} {}  {}", entry.sector, escaped(&entry.key), siblings.join(", "))?;
        }
        Format::Plain => {
            for (dot, _, length) in &entry.siblings {
                let length = length.map_or("-".to_owned(), |bytes| bytes.to_string());
                writeln!(out, "{}\t{}\t{dot}\t{length}", entry.sector, escaped(&entry.key))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Incarnation;
    use crate::wire::Vitals;

    fn node(up: bool, epoch: u64) -> NodeStatus {
        NodeStatus {
            node: NodeId(2),
            addr: "n2:1".to_owned(),
            zone: String::new(),
            state: MemberState::Normal,
            health: if up { Health::Up } else { Health::Down },
            sectors: (4, 1),
            incarnation: Incarnation(u32::from(epoch > 0)),
            vitals: Vitals {
                epoch: Epoch(epoch),
                keys: 5 * epoch,
                bytes: 7 * epoch,
                pending: 3,
                ..Vitals::default()
            },
        }
    }

    /// Keys, data, working on, epoch and life, as plain output has them.
    fn shown(node: &NodeStatus, observer: u32) -> Vec<String> {
        let known = Known::of(node, NodeId(observer));
        status_row(node, &known, cell(known.bytes)).split_off(6)
    }

    #[test]
    fn what_is_not_known_of_a_node_is_no_number() {
        assert_eq!(shown(&node(true, 1), 0), ["5", "7", "3", "1", "1"]);
        assert_eq!(shown(&node(false, 1), 0), ["5", "7", "-", "1", "1"], "what is dead works on nothing");
        assert_eq!(shown(&node(false, 0), 0), ["-"; 5], "never heard of since the manager started");
        assert_eq!(shown(&node(true, 1), 1)[2], "-", "another node's requests are not told to nodes");
        assert_eq!(shown(&node(true, 1), 2)[2], "3");
    }

    #[test]
    fn a_node_that_is_down_is_not_said_to_have_ended() {
        let mut status =
            ClusterStatus { nodes: vec![node(false, 1)], serving: true, ..ClusterStatus::default() };
        let said = away_advice(&status).unwrap();
        assert!(said.starts_with("Down: node 2: the manager does not hear it. If its process"), "{said}");
        assert!(said.contains("If it runs, it stands still, or the network to it is cut."), "{said}");
        status.observer = NodeId(1);
        assert!(away_advice(&status).unwrap().contains("neither node 1 nor those it asked hear it"));
    }

    #[test]
    fn what_is_not_known_is_null_in_json() {
        let status = ClusterStatus { nodes: vec![node(false, 0)], ..ClusterStatus::default() };
        let nodes = &json_status(&status)["nodes"][0];
        assert!(
            ["keys", "bytes", "pending", "epoch", "incarnation", "disk"]
                .iter()
                .all(|name| nodes[name].is_null())
        );
        assert_eq!(nodes["sectors"], 4);
    }
}
