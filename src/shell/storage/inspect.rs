//! `--check` and `--dump`: a data directory looked at while no node runs on it.

#![allow(clippy::print_stdout, clippy::print_stderr)] // What is found is printed: it is the job here.

use super::NAME;
use crate::engine::inspect::{Report, check, dump};
use crate::engine::{FileName, Location, MergeRecord, Record, Storage};
use crate::node::fence_fault;
use crate::node::identity::Identity;
use crate::shell::cli::text::{human_bytes, json_bytes};
use crate::shell::files::Files;
use crate::types::{Dot, KeyspaceId, SectorId};
use crate::version::{Content, Sibling};
use crate::wire::decode_table;
use serde_json::{Map, Value, json};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code when something is damaged, or nothing could be looked at.
const EXIT_DAMAGED: u8 = 1;

/// What to do with a data directory instead of running a node on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Inspection {
    /// Verify it.
    Check(PathBuf),
    /// Print its records.
    Dump(PathBuf),
}

impl Inspection {
    /// Does it, and says with what exit code the process ends.
    pub(super) fn run(&self) -> ExitCode {
        let outcome = match self {
            Inspection::Check(path) => open(path).and_then(|files| print_check(files, path)),
            Inspection::Dump(path) => open(path).and_then(print_dump),
        };
        match outcome {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(EXIT_DAMAGED),
            Err(text) => {
                eprintln!("{NAME}: {text}");
                ExitCode::from(EXIT_DAMAGED)
            }
        }
    }
}

/// Opens and locks a directory that is there.
fn open(path: &Path) -> Result<Files, String> {
    if path.exists() && !path.is_dir() {
        return Err(format!("{} is not a directory: name a storage node's data directory", path.display()));
    }
    if !path.is_dir() {
        return Err(format!("{} is no data directory: there is no such directory", path.display()));
    }
    let is_ours = |name: &str| match FileName::from_text(name) {
        Some(FileName::Identity | FileName::Manifest | FileName::Segment(_)) => true,
        // A manager has a table, too.
        Some(_) | None => false,
    };
    let mut names = std::fs::read_dir(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    if !names.any(|name| is_ours(&name)) {
        return Err(format!(
            "{} is no storage node's data directory: it has no identity and no log. \
             `gtstore dev --data-dir DIR` keeps one for each node, DIR/node-1 and so on",
            path.display()
        ));
    }
    Files::open(path)
}

/// Whether nothing is damaged.
fn print_check(mut files: Files, path: &Path) -> Result<bool, String> {
    let mut report = check(&mut files).map_err(|error| error.to_string())?;
    check_small_files(&mut files, &mut report)?;
    let mut out = io::stdout().lock();
    let written = write_report(&mut out, &report, &path.display().to_string());
    finish(written).map(|()| report.is_clean())
}

/// The files beside the log.
fn check_small_files(files: &mut Files, report: &mut Report) -> Result<(), String> {
    let mut read = |file: FileName| {
        files.read(file).map_err(|error| format!("cannot read the {} file: {error}", file.to_text()))
    };
    if read(FileName::Identity)?.is_some_and(|bytes| Identity::decode(&bytes).is_err()) {
        report.faults.push((FileName::Identity, "it is damaged: a node cannot start here"));
    }
    if read(FileName::Fence)?.is_some_and(|bytes| fence_fault(&bytes).is_some()) {
        report.faults.push((FileName::Fence, "it is damaged: a node cannot start here"));
    }
    if read(FileName::Table)?.is_some_and(|bytes| decode_table(bytes).is_err()) {
        report.faults.push((FileName::Table, "it is damaged: the node will move it aside and fetch it anew"));
    }
    Ok(())
}

fn write_report(out: &mut impl Write, report: &Report, name: &str) -> io::Result<()> {
    let keys: u64 = report.keys.values().sum();
    writeln!(
        out,
        "{name}: {} segments ({} with index files), {} records, {}",
        report.segments,
        report.indexed,
        report.records,
        human_bytes(report.bytes)
    )?;
    writeln!(out, "keys with a value: {keys}")?;
    for ((keyspace, sector), keys) in report.keys.iter().filter(|entry| *entry.1 > 0) {
        writeln!(out, "  keyspace {} sector {sector}: {keys}", keyspace.0)?;
    }
    let garbage = report.bytes.saturating_sub(report.live_bytes);
    let share = garbage as f64 * 100.0 / report.bytes.max(1) as f64;
    writeln!(
        out,
        "live: {}, for compaction to free: {} ({share:.1} %)",
        human_bytes(report.live_bytes),
        human_bytes(garbage)
    )?;
    if report.torn_bytes > 0 {
        let torn = human_bytes(report.torn_bytes);
        writeln!(out, "torn tail: {torn}, never acknowledged as synced; the next start cuts it")?;
    }
    if !report.leftovers.is_empty() {
        let names: Vec<String> = report.leftovers.iter().map(|file| file.to_text()).collect();
        writeln!(out, "left by a crash, removed by the next start: {}", names.join(", "))?;
    }
    for (file, what) in &report.faults {
        writeln!(out, "damaged, nothing lost: {}: {what}", file.to_text())?;
    }
    for damage in &report.damage {
        writeln!(out, "LOST: {damage}")?;
    }
    for (keyspace, sector) in &report.quarantined {
        writeln!(
            out,
            "in quarantine until other owners have filled it: keyspace {} sector {sector}",
            keyspace.0
        )?;
    }
    let verdict = match (report.is_clean(), report.damage.is_empty()) {
        (true, _) => "clean",
        (false, true) if report.quarantined.is_empty() => "damaged, but nothing is lost",
        (false, true) => "damaged: what was lost here comes back from other owners",
        (false, false) => {
            "damaged: a node started here serves nothing of the sectors concerned until its peers, which do, \
             have filled them again"
        }
    };
    writeln!(out, "{verdict}")
}

/// Whether nothing is damaged.
fn print_dump(mut files: Files) -> Result<bool, String> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let found = dump(&mut files, &mut |segment, location, record| {
        if written.is_ok() {
            written = writeln!(out, "{}", json_of(segment, location, &record));
        }
    })
    .map_err(|error| error.to_string())?;
    finish(written.and_then(|()| out.flush()))?;
    found.damage.iter().for_each(|damage| eprintln!("{NAME}: lost: {damage}"));
    Ok(found.damage.is_empty())
}

/// A reader that has seen enough and closed the pipe is no error.
fn finish(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn json_of(segment: u64, location: Location, record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("segment".to_owned(), segment.into());
    object.insert("position".to_owned(), location.position.into());
    object.insert("bytes".to_owned(), location.bytes.into());
    match record {
        Record::Merge(merge) => merge_fields(&mut object, merge),
        Record::Shelf(shelf) => {
            object.insert("kind".to_owned(), "sector".into());
            place_fields(&mut object, (shelf.keyspace, shelf.sector));
            object.insert("fence".to_owned(), shelf.fence.into());
            object.insert("dropped_below".to_owned(), shelf.dropped_below.into());
            object.insert("needs_rebuild".to_owned(), shelf.needs_rebuild.into());
        }
        Record::Settled(stretch) => {
            object.insert("kind".to_owned(), "damage dealt with".into());
            object.insert("from".to_owned(), stretch.position.into());
            object.insert("to".to_owned(), stretch.end.into());
        }
        Record::Batch { watermark } => {
            object.insert("kind".to_owned(), "batch".into());
            object.insert("watermark".to_owned(), (*watermark).into());
        }
    }
    Value::Object(object)
}

fn place_fields(object: &mut Map<String, Value>, place: (KeyspaceId, SectorId)) {
    object.insert("keyspace".to_owned(), place.0.0.into());
    object.insert("sector".to_owned(), place.1.0.into());
}

fn merge_fields(object: &mut Map<String, Value>, merge: &MergeRecord) {
    object.insert("kind".to_owned(), "merge".into());
    place_fields(object, (merge.keyspace, merge.sector));
    json_bytes(object, "key", &merge.key);
    let entries = merge.context.entries().iter();
    let dots = entries.map(|&(actor, seq)| json!(Dot { actor, seq }.to_string()));
    object.insert("context".to_owned(), dots.collect());
    object.insert("kept".to_owned(), merge.kept.iter().map(|dot| json!(dot.to_string())).collect());
    object.insert("added".to_owned(), merge.added.iter().map(sibling_fields).collect());
}

fn sibling_fields(sibling: &Sibling) -> Value {
    let mut object = Map::new();
    object.insert("dot".to_owned(), sibling.dot.to_string().into());
    object.insert("stamp".to_owned(), sibling.stamp.0.into());
    if let Some(at) = sibling.expiry {
        object.insert("expires_at_ms".to_owned(), at.0.into());
    }
    match &sibling.content {
        Content::Value(value) => json_bytes(&mut object, "value", value),
        Content::Tombstone => drop(object.insert("deleted".to_owned(), true.into())),
    }
    Value::Object(object)
}
