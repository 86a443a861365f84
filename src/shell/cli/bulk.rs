//! `import` and `export`: many keys, pipelined, with a count at the end.

use super::cluster::{ask_status, ask_table, dump_page};
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{parse_line, sniff, write_line};
use super::options::FileFormat;
use super::progress::Progress;
use super::text::quoted;
use crate::client::{Call, CallId, Error, Store};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::ring::{Keyspace, KeyspaceSettings, Slot, Table};
use crate::shell::blocking::{IN_FLIGHT, IN_FLIGHT_BYTES, written};
use crate::types::{NodeId, SectorId};
use crate::wire::client::DumpEntry;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// A longer line is not read into memory. Every byte of key and value may be escaped to four, or
/// to six in JSON.
const LINE_BYTES_MAX: u64 = ((KEY_BYTES_MAX + VALUE_BYTES_MAX) * 6 + 1024) as u64;
/// Failures told one by one; the rest is counted.
const FAILURES_TOLD: usize = 20;
/// Keys an export reads at once.
const EXPORT_BATCH: usize = 1000;

/// The format a file's name gives away.
fn format_of_name(file: &str) -> Option<FileFormat> {
    Path::new(file).extension()?.to_str()?.parse().ok()
}

/// The settings of the store's keyspace. One that is not there, or that cannot answer with so many
/// copies, is told once, not for every key: there may be none.
fn settings_in(table: &Table, store: &Store) -> Result<KeyspaceSettings, Failure> {
    let options = store.options();
    let name = &options.keyspace;
    let Some((_, Keyspace { settings, .. })) = table.keyspace(name) else {
        let text = format!("there is no keyspace {name:?}; see `gtstore keyspace list`");
        return Err(Failure::new(Exit::Usage, text));
    };
    if options.r > settings.n || options.w > settings.n {
        let text = format!("-r and -w are at most {}, the copies that the keyspace has of a key", settings.n);
        return Err(Failure::usage(text));
    }
    Ok(*settings)
}

/// An import under way.
struct Import {
    /// Keys in flight, with their bytes.
    waiting: BTreeMap<CallId, (Vec<u8>, usize)>,
    waiting_bytes: usize,
    stored: u64,
    failed: u64,
    /// The first failure's exit code is the command's.
    exit: Exit,
}

/// `import FILE|-`.
pub(crate) fn import(
    store: &mut Store,
    out: &mut dyn Write,
    file: &str,
    format: Option<FileFormat>,
) -> CommandResult {
    let (mut input, total): (Box<dyn BufRead>, Option<u64>) = if file == "-" {
        (Box::new(io::stdin().lock()), None)
    } else {
        let opened = File::open(file)
            .map_err(|error| Failure::new(Exit::Error, format!("cannot open {file}: {error}")))?;
        let total = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        (Box::new(BufReader::with_capacity(1 << 16, opened)), total)
    };
    settings_in(&ask_table(store)?, store)?;
    let mut format = format.or_else(|| format_of_name(file));
    let mut progress = Progress::new("importing", total);
    let mut import =
        Import { waiting: BTreeMap::new(), waiting_bytes: 0, stored: 0, failed: 0, exit: Exit::Ok };
    let (mut line, mut number, mut at) = (Vec::new(), 0u64, 0u64);
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Failure::new(Exit::Error, format!("cannot read {file}: {error}")))?;
        if read == 0 {
            break;
        }
        number += 1;
        at += read as u64;
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            import.fail(&format!("line {number}"), Exit::Usage, "longer than any key and value may be");
            at += skip_line(&mut input)?;
            continue;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let format = *format.get_or_insert_with(|| sniff(text));
        match parse_line(format, text) {
            Ok((key, value)) => import.submit(store, key, value)?,
            Err(why) => import.fail(&format!("line {number}"), Exit::Usage, &why),
        }
        progress.show(import.stored, at);
    }
    while !import.waiting.is_empty() {
        import.wait_for_one(store)?;
        progress.show(import.stored, at);
    }
    progress.clear();
    writeln!(
        out,
        "imported {} keys, {} failed ({})",
        import.stored,
        import.failed,
        progress.rate(import.stored)
    )?;
    if import.failed as usize > FAILURES_TOLD {
        writeln!(io::stderr(), "gtstore: {} more failed", import.failed as usize - FAILURES_TOLD)?;
    }
    match import.exit {
        Exit::Ok => Ok(()),
        exit => Err(Failure::new(exit, "")),
    }
}

/// Reads past the rest of a line without keeping it.
fn skip_line(input: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        skipped += used as u64;
        if done {
            return Ok(skipped);
        }
    }
}

impl Import {
    fn submit(&mut self, store: &mut Store, key: Vec<u8>, value: Vec<u8>) -> CommandResult {
        // A file may name a key twice, and its last line must win: the earlier one is waited for.
        while self.waiting.len() >= IN_FLIGHT
            || self.waiting_bytes >= IN_FLIGHT_BYTES
            || self.waiting.values().any(|waiting| waiting.0 == key)
        {
            self.wait_for_one(store)?;
        }
        let size = key.len() + value.len();
        let item = store.item(&key, store.options().w);
        let call = store.submit(Call::Put { item, value: value.into(), context: None });
        self.waiting.insert(call, (key, size));
        self.waiting_bytes += size;
        Ok(())
    }

    fn wait_for_one(&mut self, store: &mut Store) -> CommandResult {
        let Some((call, outcome)) = store.next_done()? else {
            self.waiting.clear();
            return Ok(());
        };
        let Some((key, size)) = self.waiting.remove(&call) else { return Ok(()) };
        self.waiting_bytes -= size;
        match outcome.and_then(written) {
            Ok(_) => self.stored += 1,
            Err(error) => self.fail(&quoted(&key), exit_of(&error), &error.to_string()),
        }
        Ok(())
    }

    fn fail(&mut self, what: &str, exit: Exit, why: &str) {
        self.failed += 1;
        if self.exit == Exit::Ok {
            self.exit = exit;
        }
        if self.failed as usize <= FAILURES_TOLD {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(io::stderr(), "gtstore: {what} not imported: {why}");
        }
    }
}

/// One node's keys, in sector and key order, a page at a time.
struct Source {
    node: NodeId,
    addr: String,
    page: VecDeque<DumpEntry>,
    listing: Listing,
}

/// How far a node's keys have been listed.
enum Listing {
    /// There is more, after this place.
    After(Option<(SectorId, Bytes)>),
    /// To the end.
    Whole,
    /// The node has failed: what was listed before that is used, the rest is not known.
    Broken,
}

impl Source {
    fn new(node: NodeId, addr: String) -> Self {
        Self { node, addr, page: VecDeque::new(), listing: Listing::After(None) }
    }

    /// The next entry, left where it is. A node that fails is left out from there on: its keys
    /// are on other nodes too, as far as they have copies.
    fn peek(&mut self, store: &mut Store) -> Option<(SectorId, &Bytes)> {
        while self.page.is_empty()
            && let Listing::After(place) = &mut self.listing
        {
            match dump_page(store, &self.addr, place.take()) {
                Ok((entries, next)) => {
                    self.page = entries.into();
                    self.listing = next.map_or(Listing::Whole, |next| Listing::After(Some(next)));
                }
                Err(failure) => {
                    let _ = writeln!(io::stderr(), "gtstore: keys of node {}: {failure}", self.node);
                    self.listing = Listing::Broken;
                }
            }
        }
        self.page.front().map(|entry| (entry.sector, &entry.key))
    }
}

/// Sectors of which so few owners have listed their keys that some acknowledged write may be
/// known to none of them: fewer than N - W + 1 slots.
fn uncertain_sectors(table: &Table, settings: KeyspaceSettings, listed: &BTreeSet<NodeId>) -> usize {
    let needed = usize::from(settings.n.saturating_sub(settings.w)) + 1;
    let is_listed = |slot: &&Slot| slot.nodes().all(|node| listed.contains(&node));
    let owners = table.sectors.iter().map(|sector| sector.slots.iter().take(settings.n.into()));
    owners.filter(|slots| slots.clone().filter(is_listed).count() < needed).count()
}

/// The next key of all nodes together, each once. Only those that some node holds a value of.
fn next_key(sources: &mut [Source], store: &mut Store) -> Option<Bytes> {
    loop {
        let mut least: Option<(SectorId, Bytes)> = None;
        for source in &mut *sources {
            if let Some((sector, key)) = source.peek(store)
                && least.as_ref().is_none_or(|least| (sector, key) < (least.0, &least.1))
            {
                least = Some((sector, key.clone()));
            }
        }
        let (sector, key) = least?;
        let mut has_value = false;
        for source in &mut *sources {
            if let Some(entry) = source.page.pop_front_if(|entry| entry.sector == sector && entry.key == key)
            {
                has_value |= entry.siblings.iter().any(|sibling| sibling.2.is_some());
            }
        }
        if has_value {
            return Some(key);
        }
    }
}

/// `export FILE|-`: the keys of the keyspace, in sector order, each read by quorum.
pub(crate) fn export(
    store: &mut Store,
    out: &mut dyn Write,
    file: &str,
    format: Option<FileFormat>,
) -> CommandResult {
    let format = format.or_else(|| format_of_name(file)).unwrap_or(FileFormat::JsonLines);
    // The table first: what was acknowledged before this is on the owners that it names.
    let table = ask_table(store)?;
    let settings = settings_in(&table, store)?;
    let status = ask_status(store)?;
    let copies: u64 = status.nodes.iter().map(|node| node.keys).sum();
    let expected = copies / u64::from(status.n.max(1));
    let up = status.nodes.into_iter().filter(|node| node.up);
    let mut sources: Vec<Source> = up.map(|node| Source::new(node.node, node.addr)).collect();
    let to_stdout = file == "-";
    let mut target: Box<dyn Write> = if to_stdout {
        Box::new(out)
    } else {
        let made = File::create(file)
            .map_err(|error| Failure::new(Exit::Error, format!("cannot write {file}: {error}")))?;
        Box::new(BufWriter::new(made))
    };
    let mut progress = Progress::new("exporting", (store.options().keyspace.is_empty()).then_some(expected));
    let (mut done, mut failed, mut exit) = (0u64, 0u64, Exit::Ok);
    loop {
        let keys: Vec<Bytes> =
            std::iter::from_fn(|| next_key(&mut sources, store)).take(EXPORT_BATCH).collect();
        if keys.is_empty() {
            break;
        }
        let results = store.get_many(&keys);
        for (key, result) in keys.iter().zip(results) {
            match result {
                Ok(entry) => {
                    for version in &entry.values {
                        write_line(&mut target, format, key, &version.value)?;
                    }
                    done += u64::from(!entry.values.is_empty());
                }
                Err(error) => {
                    failed += 1;
                    exit = if exit == Exit::Ok { exit_of(&error) } else { exit };
                    tell_failure(failed, key, &error);
                }
            }
        }
        progress.show(done, done);
    }
    target.flush()?;
    drop(target);
    progress.clear();
    // On standard output the count would be taken for a key.
    writeln!(io::stderr(), "exported {done} keys, {failed} failed ({})", progress.rate(done))?;
    let whole = sources.iter().filter(|source| matches!(source.listing, Listing::Whole));
    let uncertain = uncertain_sectors(&table, settings, &whole.map(|source| source.node).collect());
    if uncertain > 0 {
        let text = format!(
            "keys may be missing: in {uncertain} of {} sectors too few owners could be asked for \
             their keys; see `gtstore status`",
            table.sectors.len()
        );
        return Err(Failure::new(Exit::Unavailable, text));
    }
    if exit == Exit::Ok { Ok(()) } else { Err(Failure::new(exit, "")) }
}

fn tell_failure(count: u64, key: &[u8], error: &Error) {
    if count as usize <= FAILURES_TOLD {
        let _ = writeln!(io::stderr(), "gtstore: {} not exported: {error}", quoted(key));
    }
}
