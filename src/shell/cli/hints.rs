//! `hints`: what nodes keep for others that are away.

use super::cluster::ask_status;
use super::everyone::{Answers, ask_all, ask_statuses, members, other_answer};
use super::exit::{CommandResult, Exit, Failure};
use super::options::{Format, Globals};
use super::output::{object, print_json, print_rows};
use super::text::human_bytes;
use crate::client::Store;
use crate::types::NodeId;
use crate::wire::client::{ClientReply, ClientRequest, HintStatus};
use serde_json::{Map, Value};
use std::io::{self, Write};

/// What one node keeps for each of the others.
pub(super) type Kept = Vec<HintStatus>;

/// Asks these nodes what they keep. An answer does not say whose it is: ask those alone that are there.
pub(super) fn ask_hints(store: &mut Store, nodes: &[(NodeId, String)]) -> Answers<Kept> {
    ask_all(store, nodes, &ClientRequest::Hints, |reply| {
        if let ClientReply::Hints(kept) = reply { Ok(kept) } else { Err(other_answer(&reply)) }
    })
}

/// `hints`.
pub(crate) fn hints(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let nodes = members(&ask_status(store)?);
    let seen = ask_statuses(store, &nodes);
    let mut answers = ask_hints(store, &seen.present(&nodes));
    answers.extend(seen.statuses.into_iter().filter_map(|(node, said)| Some((node, Err(said.err()?)))));
    let kept: Vec<(NodeId, HintStatus)> = answers
        .iter()
        .flat_map(|(&holder, kept)| kept.iter().flatten().map(move |hint| (holder, *hint)))
        .collect();
    match globals.format {
        Format::Json => print_json(out, json(&kept, &answers))?,
        Format::Table if kept.is_empty() => writeln!(out, "Nothing is kept for other nodes.")?,
        Format::Table | Format::Plain => {
            let rows = kept.iter().map(|(holder, hint)| row(*holder, hint, globals.format)).collect();
            let headings = ["Holder", "Owed to", "Hints", "Bytes", "Missed", "Delivered", "Dropped"];
            print_rows(out, globals.format, &headings, &[0, 1, 2, 3, 4, 5, 6], rows)?;
        }
    }
    // The table first, wherever the two go.
    out.flush()?;
    for (node, answer) in &answers {
        if let Err(why) = answer {
            writeln!(io::stderr(), "gtstore: node {node} does not say what it keeps: {why}")?;
        }
    }
    if !answers.is_empty() && answers.values().all(Result::is_err) {
        return Err(Failure::new(Exit::Unavailable, "no node answers"));
    }
    Ok(())
}

fn row(holder: NodeId, hint: &HintStatus, format: Format) -> Vec<String> {
    let bytes = match format {
        Format::Table => human_bytes(hint.bytes),
        Format::Plain | Format::Json => hint.bytes.to_string(),
    };
    vec![
        holder.to_string(),
        hint.owed_to.to_string(),
        hint.hints.to_string(),
        bytes,
        hint.missed.to_string(),
        hint.delivered.to_string(),
        hint.dropped.to_string(),
    ]
}

fn json(kept: &[(NodeId, HintStatus)], answers: &Answers<Kept>) -> Map<String, Value> {
    let hint = |(holder, hint): &(NodeId, HintStatus)| -> Value {
        object([
            ("holder", holder.0.into()),
            ("owed_to", hint.owed_to.0.into()),
            ("hints", hint.hints.into()),
            ("bytes", hint.bytes.into()),
            ("missed", hint.missed.into()),
            ("delivered", hint.delivered.into()),
            ("dropped", hint.dropped.into()),
        ])
        .into()
    };
    let silent = answers.iter().filter(|entry| entry.1.is_err()).map(|entry| entry.0.0.into());
    object([
        ("hints", kept.iter().map(hint).collect::<Vec<_>>().into()),
        ("silent", silent.collect::<Vec<Value>>().into()),
    ])
}
