//! `health`: at one glance, whether all is well, and what is not.
//!
//! Asks every node, for they may differ; what it means is [`diagnosis`]'s.

mod diagnosis;

use super::cluster::{ask_status, ask_table};
use super::everyone::{Answers, ask_statuses, members, read_status};
use super::exit::{CommandResult, Exit, Failure};
use super::hints::ask_hints;
use super::options::{Format, Globals};
use super::output::{object, plain, print_json};
use crate::client::{Store, Target};
use crate::types::NodeId;
use crate::wire::client::{ClientRequest, ClusterStatus};
use diagnosis::{Finding, Testimony, diagnose, repairs};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time for the manager's answer.
const MANAGER_MS: u32 = 1000;
const REFRESH: Duration = Duration::from_secs(1);
/// To the upper left corner, and nothing left of what was there.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `health`.
pub(crate) fn health(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let found = Checkup::of(ask(store)?);
    match globals.format {
        Format::Json => print_json(out, found.json())?,
        Format::Plain => out.write_all(plain(&found.rows()).as_bytes())?,
        Format::Table => write!(out, "{}", found.report())?,
    }
    if found.is_well() { Ok(()) } else { Err(Failure::new(Exit::NotWell, "")) }
}

/// `health --watch`: until its process is ended, or nobody reads it.
pub(crate) fn watch(store: &mut Store, globals: &Globals, out: &mut dyn Write) -> CommandResult {
    let redraws = globals.format == Format::Table && io::stdout().is_terminal();
    loop {
        let began = Instant::now();
        let seen = ask(store).map(Checkup::of);
        match (&seen, globals.format) {
            (Ok(found), Format::Json) => print_json(out, found.json())?,
            (Ok(found), _) if redraws => write!(out, "{CLEAR}{}", found.report())?,
            (Ok(found), Format::Table | Format::Plain) => writeln!(out, "{}", found.one_line())?,
            (Err(failure), Format::Json) => {
                print_json(out, object([("well", Value::Null), ("error", failure.text.clone().into())]))?;
            }
            (Err(failure), Format::Table | Format::Plain) => {
                writeln!(out, "{}nobody can be asked: {failure}", if redraws { CLEAR } else { "" })?;
            }
        }
        out.flush()?;
        std::thread::sleep(REFRESH.saturating_sub(began.elapsed()));
    }
}

/// Asks everybody.
fn ask(store: &mut Store) -> Result<Testimony, Failure> {
    let status = ask_status(store)?;
    let table = match ask_table(store) {
        Ok(table) => Some(table),
        Err(_) if !status.serving => None,
        Err(failure) => return Err(failure),
    };
    let nodes = members(&status);
    let seen = ask_statuses(store, &nodes);
    let kept = ask_hints(store, &seen.present(&nodes));
    let manager = has_manager(store, &nodes).then(|| ask_manager(store));
    let (seen, replaced) = (answered(seen.statuses), seen.replaced);
    Ok(Testimony { status, table, seen, replaced, kept: answered(kept), manager })
}

fn answered<T>(answers: Answers<T>) -> BTreeMap<NodeId, T> {
    answers.into_iter().filter_map(|(node, answer)| Some((node, answer.ok()?))).collect()
}

/// Whether an address was given that is no node's: it is taken for a manager's.
fn has_manager(store: &Store, nodes: &[(NodeId, String)]) -> bool {
    store.options().addrs.iter().any(|addr| nodes.iter().all(|node| node.1 != *addr))
}

fn ask_manager(store: &mut Store) -> Result<ClusterStatus, String> {
    let asked = store.within_ms(MANAGER_MS, |store| store.ask(Target::Manager, ClientRequest::Status));
    asked.map_err(|error| error.to_string()).and_then(read_status)
}

/// What was found, and what goes on that is no fault.
struct Checkup {
    status: ClusterStatus,
    findings: Vec<Finding>,
    /// Copies of sectors that are yet to be compared or made equal.
    repairs: u64,
}

impl Checkup {
    fn of(told: Testimony) -> Self {
        Self { findings: diagnose(&told), repairs: repairs(&told), status: told.status }
    }

    fn is_well(&self) -> bool {
        self.findings.is_empty()
    }

    /// What goes on of itself; nothing: an empty text.
    fn going_on(&self) -> String {
        let are = |count: u64, one: &str, many: &str| {
            if count == 1 { one.to_owned() } else { format!("{count} {many}") }
        };
        let moving = are(self.status.moving.into(), "1 of them is moving", "of them are moving");
        let repairs = are(self.repairs, "1 copy is being repaired", "copies of sectors are being repaired");
        let going_on = [(u64::from(self.status.moving), moving), (self.repairs, repairs)];
        going_on.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| format!("; {text}")).collect()
    }

    fn all_is_well(&self) -> String {
        let ClusterStatus { nodes, sectors, n, .. } = &self.status;
        let going_on = self.going_on();
        format!(
            "All is well: {} nodes are up, {sectors} sectors have {n} copies each{going_on}.",
            nodes.len()
        )
    }

    fn report(&self) -> String {
        if self.is_well() {
            return self.all_is_well() + "\n";
        }
        let advice: BTreeSet<&str> = self.findings.iter().map(Finding::advice).collect();
        let found: String = self.findings.iter().map(|finding| format!("  {}\n", finding.text())).collect();
        let advice: String = advice.iter().map(|advice| format!("  {advice}\n")).collect();
        format!("Not all is well:\n{found}\nWhat to do:\n{advice}")
    }

    fn one_line(&self) -> String {
        if self.is_well() {
            return self.all_is_well();
        }
        let found: Vec<String> = self.findings.iter().map(Finding::text).collect();
        found.join(" | ")
    }

    /// Kind, node, count and text of each finding; all well: no rows.
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |finding: &Finding| {
            let node = finding.node().map_or("-".to_owned(), |node| node.to_string());
            let count = finding.count().map_or("-".to_owned(), |count| count.to_string());
            vec![finding.kind().to_owned(), node, count, finding.text()]
        };
        self.findings.iter().map(row).collect()
    }

    fn json(&self) -> Map<String, Value> {
        let finding = |finding: &Finding| -> Value {
            object([
                ("kind", finding.kind().into()),
                ("node", finding.node().map(|node| node.0).into()),
                ("count", finding.count().into()),
                ("text", finding.text().into()),
                ("advice", finding.advice().into()),
            ])
            .into()
        };
        object([
            ("well", self.is_well().into()),
            ("nodes", self.status.nodes.len().into()),
            ("moving", self.status.moving.into()),
            ("repairs", self.repairs.into()),
            ("findings", self.findings.iter().map(finding).collect::<Vec<_>>().into()),
        ])
    }
}
