//! `export`: every key of a keyspace, each read by quorum, with a count at the end.

use super::bulk::{FAILURES_TOLD, settings_in};
use super::cluster::{ask_status, ask_table, dump_page};
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{format_of_name, write_line};
use super::options::FileFormat;
use super::progress::Progress;
use super::text::quoted;
use crate::client::{Error, Store};
use crate::ring::{KeyspaceSettings, Slot, Table};
use crate::types::{NodeId, SectorId};
use crate::wire::client::DumpEntry;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// Keys an export reads at once.
const EXPORT_BATCH: usize = 1000;

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
