//! `export`: every key of a keyspace, each read by quorum, with a count at the end.

use super::bulk::{FAILURES_TOLD, settings_in};
use super::cluster::{ask_status, ask_table, dump_page};
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{format_of_name, write_line};
use super::options::FileFormat;
use super::progress::Progress;
use super::target::Target;
use super::text::quoted;
use crate::client::Store;
use crate::ring::{KeyspaceSettings, Slot, Table};
use crate::types::{NodeId, SectorId};
use crate::wire::client::DumpEntry;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write};

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

/// What came of the keys that were read.
#[derive(Default)]
struct Tally {
    done: u64,
    /// Values of these keys, which are the lines written.
    values: u64,
    failed: u64,
    /// How the first failed read would end a command.
    exit: Option<Exit>,
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
    let up = status.nodes.into_iter().filter(|node| node.health.is_up());
    let mut sources: Vec<Source> = up.map(|node| Source::new(node.node, node.addr)).collect();
    let mut target = Target::open(out, file)?;
    let mut progress =
        Progress::new("exporting", "keys", (store.options().keyspace.is_empty()).then_some(expected));
    let copied = copy(store, &mut sources, target.writer(), format, &mut progress);
    progress.clear();
    let tally = match copied {
        Ok(tally) => tally,
        Err(error) => return Err(target.discard(error)),
    };
    let lack = lack(&table, settings, &sources);
    let is_whole = tally.failed == 0 && lack.is_none();
    let but = if is_whole { "" } else { ", NOT WHOLE" };
    let (done, failed, rate) = (tally.done, tally.failed, progress.rate(tally.done));
    let values = if tally.values == done { String::new() } else { format!(" ({} values)", tally.values) };
    let count = format!("exported {done} keys{values}, {failed} failed{but} ({rate})");
    if is_whole {
        target.finish()?;
        // On standard output the count would be taken for a key.
        return Ok(writeln!(io::stderr(), "{count}")?);
    }
    writeln!(io::stderr(), "{count}")?;
    let kept = target.keep_partial()?;
    Err(match (lack, tally.exit) {
        (Some(lack), _) => Failure::new(Exit::Unavailable, format!("{lack}{kept}; see `gtstore status`")),
        (None, exit) => {
            let text = format!("{failed} keys could not be read{kept}; see `gtstore status`");
            Failure::new(exit.unwrap_or(Exit::Error), text)
        }
    })
}

/// Reads every key by quorum and writes it. Fails only where it cannot write.
fn copy(
    store: &mut Store,
    sources: &mut [Source],
    target: &mut dyn Write,
    format: FileFormat,
    progress: &mut Progress,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let keys: Vec<Bytes> = std::iter::from_fn(|| next_key(sources, store)).take(EXPORT_BATCH).collect();
        if keys.is_empty() {
            return Ok(tally);
        }
        let results = store.get_many(&keys);
        for (key, result) in keys.iter().zip(results) {
            match result {
                Ok(entry) => {
                    for version in &entry.values {
                        write_line(target, format, key, &version.value)?;
                    }
                    tally.done += u64::from(!entry.values.is_empty());
                    tally.values += entry.values.len() as u64;
                }
                Err(error) => {
                    tally.failed += 1;
                    tally.exit.get_or_insert(exit_of(&error));
                    if tally.failed as usize <= FAILURES_TOLD {
                        let _ = writeln!(io::stderr(), "gtstore: {} not exported: {error}", quoted(key));
                    }
                }
            }
        }
        progress.show(tally.done, tally.done);
    }
}

/// Why keys may be missing, if they may: whom nobody could ask.
fn lack(table: &Table, settings: KeyspaceSettings, sources: &[Source]) -> Option<String> {
    let whole = sources.iter().filter(|source| matches!(source.listing, Listing::Whole));
    let listed: BTreeSet<NodeId> = whole.map(|source| source.node).collect();
    let uncertain = uncertain_sectors(table, settings, &listed);
    let silent = table.present().map(|(node, _)| node).filter(|node| !listed.contains(node));
    let silent: Vec<String> = silent.map(|node| node.to_string()).collect();
    (uncertain > 0).then(|| {
        format!(
            "keys may be missing: in {uncertain} of {} sectors too few owners could be asked for their keys \
             (not node {})",
            table.sectors.len(),
            silent.join(", ")
        )
    })
}
