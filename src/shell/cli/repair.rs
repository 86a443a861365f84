//! `repair`: has every node compare its copies with the other owners now, and waits for that.

use super::cluster::ask_status;
use super::everyone::{Answers, ask_all, ask_statuses, members, other_answer};
use super::exit::{CommandResult, Exit, Failure};
use super::options::{Format, Globals};
use super::output::{object, print_json, print_rows};
use super::progress::Progress;
use crate::client::Store;
use crate::types::{NodeId, SectorId};
use crate::wire::client::{ClientReply, ClientRequest, RepairStatus};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How often nodes are asked how far they are.
const POLL: Duration = Duration::from_millis(100);
/// Times in a row that a node may not answer before it is given up.
const SILENT_MAX: u8 = 3;

/// `repair`: of which sector if not of all, and whether to wait for its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Repair {
    pub(crate) sector: Option<u16>,
    pub(crate) waits: bool,
}

/// How far each node is.
type Rows = Answers<RepairStatus>;

/// `repair`.
pub(crate) fn repair(
    store: &mut Store,
    globals: &Globals,
    out: &mut dyn Write,
    asked: Repair,
) -> CommandResult {
    let status = ask_status(store)?;
    if let Some(sector) = asked.sector.filter(|&sector| sector >= status.sectors) {
        let last = status.sectors.saturating_sub(1);
        let text = format!("--sector takes a sector of the cluster, 0 to {last}, not {sector}");
        return Err(Failure::usage_of("repair", &text));
    }
    let nodes = members(&status);
    let seen = ask_statuses(store, &nodes);
    let present = seen.present(&nodes);
    let mut rows = ask(store, &present, true, asked.sector.map(SectorId));
    if asked.waits {
        wait(store, &present, &mut rows);
    }
    rows.extend(seen.statuses.into_iter().filter_map(|(node, said)| Some((node, Err(said.err()?)))));
    match globals.format {
        Format::Json => print_json(out, json(&rows))?,
        Format::Table | Format::Plain => {
            let headings = ["Node", "Compared", "Sent", "Fetched", "Left", "Missed"];
            let told = rows.iter().filter_map(|(&node, said)| Some(row(node, said.as_ref().ok()?)));
            print_rows(out, globals.format, &headings, &[0, 1, 2, 3, 4, 5], told.collect())?;
        }
    }
    // The table first, wherever the two go.
    out.flush()?;
    conclude(&rows, asked)
}

/// Asks these nodes to begin, or how far they are.
fn ask(store: &mut Store, nodes: &[(NodeId, String)], begin: bool, sector: Option<SectorId>) -> Rows {
    ask_all(store, nodes, &ClientRequest::Repair { begin, sector }, |reply| {
        if let ClientReply::Repair(status) = reply { Ok(status) } else { Err(other_answer(&reply)) }
    })
}

/// Until all nodes are done, or the time is over that was given, if any was.
fn wait(store: &mut Store, nodes: &[(NodeId, String)], rows: &mut Rows) {
    let limit_ms = store.options().timeout_ms;
    let began = Instant::now();
    let sum = |rows: &Rows, count: fn(&RepairStatus) -> u64| rows.values().flatten().map(count).sum::<u64>();
    let done = |row: &RepairStatus| row.compared + row.missed;
    let mut progress =
        Progress::new("comparing", "places", Some(sum(rows, |row| row.compared + row.missed + row.left)));
    let mut silent: BTreeMap<NodeId, u8> = BTreeMap::new();
    loop {
        let is_busy = |node: &&(NodeId, String)| matches!(rows.get(&node.0), Some(Ok(row)) if row.left > 0);
        let busy: Vec<(NodeId, String)> = nodes.iter().filter(is_busy).cloned().collect();
        let is_late = limit_ms > 0 && began.elapsed() >= Duration::from_millis(limit_ms.into());
        if busy.is_empty() || is_late {
            break;
        }
        std::thread::sleep(POLL);
        for (node, answer) in ask(store, &busy, false, None) {
            let before = rows.get(&node).and_then(|row| row.as_ref().ok()).copied().unwrap_or_default();
            let answer = match answer {
                Ok(row) if done(&row) < done(&before) => {
                    Err("it was started again, or asked again by somebody else".to_owned())
                }
                Ok(row) => {
                    silent.remove(&node);
                    Ok(row)
                }
                Err(why) => {
                    let times = silent.entry(node).or_default();
                    *times += 1;
                    if *times < SILENT_MAX {
                        continue;
                    }
                    Err(why)
                }
            };
            rows.insert(node, answer);
        }
        let at = sum(rows, |row| row.compared + row.missed);
        progress.show(at, at);
    }
    progress.clear();
}

/// What is to be said beside the rows, and how the command ends.
fn conclude(rows: &Rows, asked: Repair) -> CommandResult {
    for (node, said) in rows {
        match said {
            Err(why) => writeln!(io::stderr(), "gtstore: node {node} does not say how far it is: {why}")?,
            Ok(row) if row.missed > 0 => writeln!(
                io::stderr(),
                "gtstore: node {node} could not compare {} of its places: their other owners are away, or \
                 cannot do it now; see 'gtstore health'",
                row.missed
            )?,
            Ok(_) => {}
        }
    }
    if !rows.is_empty() && rows.values().all(Result::is_err) {
        return Err(Failure::new(Exit::Unavailable, "no node answers"));
    }
    let left: u64 = rows.values().flatten().map(|row| row.left).sum();
    if asked.waits && left > 0 {
        let text = format!("{left} places are left when the time is over; the nodes go on with them");
        return Err(Failure::new(Exit::Unavailable, text));
    }
    Ok(())
}

fn row(node: NodeId, status: &RepairStatus) -> Vec<String> {
    let RepairStatus { compared, sent, fetched, missed, left } = *status;
    let counts = [compared, sent, fetched, left, missed].map(|count| count.to_string());
    std::iter::once(node.to_string()).chain(counts).collect()
}

fn json(rows: &Rows) -> Map<String, Value> {
    let node = |(node, said): (&NodeId, &Result<RepairStatus, String>)| -> Option<Value> {
        let RepairStatus { compared, sent, fetched, missed, left } = *said.as_ref().ok()?;
        let row = object([
            ("node", node.0.into()),
            ("compared", compared.into()),
            ("sent", sent.into()),
            ("fetched", fetched.into()),
            ("left", left.into()),
            ("missed", missed.into()),
        ]);
        Some(row.into())
    };
    let silent = rows.iter().filter(|row| row.1.is_err()).map(|row| row.0.0.into());
    object([
        ("nodes", rows.iter().filter_map(node).collect::<Vec<_>>().into()),
        ("silent", silent.collect::<Vec<Value>>().into()),
    ])
}
