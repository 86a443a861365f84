//! `cluster transfers`: copies of sectors on their way, from whom to whom, how far, how fast.
//!
//! The table says what moves, the givers how far they are. What it comes to is [`tally`]'s.

mod tally;

use super::cluster::{ask_status, ask_table};
use super::everyone::{Answers, ask_all, ask_statuses, members, other_answer};
use super::exit::{CommandResult, Failure};
use super::options::{Format, Globals};
use super::output::{object, plain, print_json, table};
use super::progress::bar;
use super::text::{human_bytes, human_span};
use crate::client::Store;
use crate::ring::MemberState;
use crate::types::NodeId;
use crate::wire::client::{ClientReply, ClientRequest, ClusterStatus, TransferStatus};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tally::{Sums, Tally};

/// How often is looked; also the time over which a single look measures.
const POLL: Duration = Duration::from_millis(500);
/// To the upper left corner, and nothing left of what was there.
const CLEAR: &str = "\x1b[H\x1b[2J";
const BAR_CELLS: usize = 20;
/// Looks in a row that may fail before it is given up.
const FAILURES_MAX: u8 = 6;
/// Looks without any move after which a watch ends, even if a member has not yet become what it is to be.
const QUIET_LOOKS_MAX: u8 = 20;

/// `cluster transfers`.
pub(crate) fn transfers(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let mut tally = Tally::default();
    let mut seen = look(store, &mut tally)?;
    if tally.is_moving() {
        std::thread::sleep(POLL);
        seen = look(store, &mut tally)?;
    }
    match globals.format {
        Format::Json => print_json(out, json(&tally, &seen))?,
        Format::Plain => out.write_all(plain(&rows(&tally, Format::Plain)).as_bytes())?,
        Format::Table => out.write_all(report(&tally, &seen).as_bytes())?,
    }
    // The table first, wherever the two go.
    out.flush()?;
    for (node, why) in &seen.silent {
        writeln!(io::stderr(), "gtstore: node {node} does not say how far it is: {why}")?;
    }
    Ok(())
}

/// `cluster transfers --watch`: until nothing moves any more.
pub(crate) fn watch(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let redraws = globals.format == Format::Table && io::stdout().is_terminal();
    let (mut tally, mut said) = (Tally::default(), String::new());
    let (mut failures, mut quiet) = (0, 0);
    loop {
        let began = Instant::now();
        let seen = match look(store, &mut tally) {
            Ok(seen) => seen,
            Err(failure) if failures >= FAILURES_MAX => return Err(failure),
            Err(_) => {
                failures += 1;
                std::thread::sleep(POLL);
                continue;
            }
        };
        failures = 0;
        quiet = if tally.is_moving() { 0 } else { quiet + 1 };
        let text = match globals.format {
            Format::Json => Value::from(json(&tally, &seen)).to_string() + "\n",
            Format::Plain => plain(&rows(&tally, Format::Plain)),
            Format::Table if redraws => format!("{CLEAR}{}", report(&tally, &seen)),
            Format::Table => line(&tally, &seen) + "\n",
        };
        if text != said {
            out.write_all(text.as_bytes())?;
            out.flush()?;
            said = text;
        }
        // Once is not enough: the table may be older than what was just asked for.
        if (quiet >= 2 && seen.unsettled.is_empty()) || quiet >= QUIET_LOOKS_MAX {
            break;
        }
        std::thread::sleep(POLL.saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// What a look has shown beside the moves.
struct Seen {
    /// Members that are yet to become what they are to be.
    unsettled: BTreeMap<NodeId, MemberState>,
    /// Givers that do not say how far they are, and why.
    silent: BTreeMap<NodeId, String>,
}

fn look(store: &mut Store, tally: &mut Tally) -> Result<Seen, Failure> {
    let status = ask_status(store)?;
    if !status.serving {
        return Ok(Seen { unsettled: BTreeMap::new(), silent: BTreeMap::new() });
    }
    let table = ask_table(store)?;
    let nodes = members(&status);
    let seen = ask_statuses(store, &nodes);
    let told = ask_transfers(store, &seen.present(&nodes));
    tally.add(Instant::now(), &table, &told);
    let failed = told.into_iter().filter_map(|(node, said)| Some((node, said.err()?)));
    let absent = seen.statuses.into_iter().filter_map(|(node, said)| Some((node, said.err()?)));
    let silent = absent.chain(failed).filter(|(node, _)| tally.waits_for(*node)).collect();
    Ok(Seen { unsettled: unsettled(&status), silent })
}

fn unsettled(status: &ClusterStatus) -> BTreeMap<NodeId, MemberState> {
    let nodes = status.nodes.iter().filter(|node| match node.state {
        MemberState::Joining | MemberState::Lost => true,
        // One that is away hands over nothing.
        MemberState::Leaving => node.health.is_up(),
        MemberState::Normal | MemberState::Waiting | MemberState::Left | MemberState::Removed => false,
    });
    nodes.map(|node| (node.node, node.state)).collect()
}

/// Asks these nodes what they are sending. An answer does not say whose it is: ask those alone that are
/// there.
fn ask_transfers(store: &mut Store, nodes: &[(NodeId, String)]) -> Answers<Vec<TransferStatus>> {
    ask_all(store, nodes, &ClientRequest::Transfers, |reply| {
        if let ClientReply::Transfers(copies) = reply { Ok(copies) } else { Err(other_answer(&reply)) }
    })
}

/// All of it, for people.
fn report(tally: &Tally, seen: &Seen) -> String {
    let mut text = String::new();
    if tally.sums().copies > 0 {
        let headings = ["From", "To", "Copies", "", "Keys", "Sent", "A second", "Time left"];
        text = table(&headings, &[0, 1, 2, 4, 5, 6, 7], rows(tally, Format::Table)) + "\n";
    }
    text + &line(tally, seen) + "\n"
}

/// All of it in a line.
fn line(tally: &Tally, seen: &Seen) -> String {
    let sums = tally.sums();
    let Sums { copies, done, bytes, .. } = sums;
    let mut text = if copies == 0 {
        "Nothing is moving".to_owned()
    } else if copies == done {
        format!("All {copies} copies have arrived, {} sent", human_bytes(bytes))
    } else {
        let rate = sums.bytes_per_second.map(|rate| format!(", {} a second", human_bytes(rate)));
        let left = sums.seconds_left.map(|seconds| format!(", about {} left", human_span(seconds)));
        let (rate, left) = (rate.unwrap_or_default(), left.unwrap_or_default());
        format!("{done} of {copies} copies have arrived, {} sent{rate}{left}", human_bytes(bytes))
    };
    for (node, state) in &seen.unsettled {
        text += &format!("; node {node} is {state}");
    }
    text
}

/// A row for each pair of nodes.
fn rows(tally: &Tally, format: Format) -> Vec<Vec<String>> {
    let row = |((from, to), sums): (&(NodeId, NodeId), &Sums)| -> Vec<String> {
        let mut row = vec![from.to_string(), to.to_string()];
        let (rate, left) = (sums.bytes_per_second, sums.seconds_left);
        let dash = || "-".to_owned();
        if format == Format::Table {
            let share = bar(sums.progress_percent(), 100, BAR_CELLS);
            row.extend([format!("{}/{}", sums.done, sums.copies), share]);
            row.extend([format!("{}/{}", sums.keys, sums.keys_total), human_bytes(sums.bytes)]);
            row.extend([rate.map_or_else(dash, human_bytes), left.map_or_else(dash, human_span)]);
        } else {
            let counts = [sums.done, sums.copies, sums.keys, sums.keys_total, sums.bytes];
            row.extend(counts.map(|count| count.to_string()));
            row.extend([rate, left].map(|number| number.map_or_else(dash, |number| number.to_string())));
        }
        row
    };
    tally.pairs().iter().map(row).collect()
}

fn json(tally: &Tally, seen: &Seen) -> Map<String, Value> {
    let fields = |sums: &Sums| {
        object([
            ("copies", sums.copies.into()),
            ("done", sums.done.into()),
            ("keys", sums.keys.into()),
            ("keys_total", sums.keys_total.into()),
            ("bytes", sums.bytes.into()),
            ("bytes_per_second", sums.bytes_per_second.into()),
            ("seconds_left", sums.seconds_left.into()),
        ])
    };
    let pair = |((from, to), sums): (&(NodeId, NodeId), &Sums)| -> Value {
        let mut row = object([("from", from.0.into()), ("to", to.0.into())]);
        row.append(&mut fields(sums));
        row.into()
    };
    let pairs: Vec<Value> = tally.pairs().iter().map(pair).collect();
    let silent: Vec<Value> = seen.silent.keys().map(|node| node.0.into()).collect();
    let mut all = object([("moving", tally.is_moving().into())]);
    all.append(&mut fields(&tally.sums()));
    all.append(&mut object([("pairs", pairs.into()), ("silent", silent.into())]));
    all
}
