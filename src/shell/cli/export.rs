//! `export`: every key of a keyspace, each read by quorum, with a count at the end.

use super::bulk::{FAILURES_TOLD, settings_in};
use super::cluster::{Page, ask_status, ask_table, dump_page};
use super::everyone::ask_statuses;
use super::exit::{CommandResult, Exit, Failure, exit_of};
use super::lines::{format_of_name, write_line};
use super::options::FileFormat;
use super::progress::Progress;
use super::target::Target;
use super::text::quoted;
use crate::client::{Error, Reason, Store};
use crate::engine::tag_of;
use crate::ring::{KeyspaceSettings, Slot, Table};
use crate::shell::blocking::IN_FLIGHT;
use crate::types::{NodeId, SectorId};
use crate::wire::client::DumpEntry;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write};

/// Keys an export reads at once.
const EXPORT_BATCH: usize = 2 * IN_FLIGHT;
/// After so many keys in a row that too few owners answered for, the rest would only fail one by one,
/// each for the whole of its time. Those of one sector, whose owners alone are away, are seldom so many.
const UNAVAILABLE_KEYS_MAX: u64 = 2 * IN_FLIGHT as u64;

/// Where a key stands in the list of every node: by sector, then by the hash that orders a sector's
/// keys, then by key. Lists that are merged by anything else give a key once for each list.
type Place = (SectorId, u32, Bytes);

/// One node's keys, in the order of their places, a page at a time.
struct Source {
    node: NodeId,
    addr: String,
    page: VecDeque<Listed>,
    listing: Listing,
}

/// A key, as one node has it.
struct Listed {
    place: Place,
    /// Whether it is more than a tombstone.
    has_value: bool,
}

/// How far a node's keys have been listed.
enum Listing {
    /// There is more, after this place.
    After(Cursor),
    /// To the end.
    Whole,
    /// The node has failed: what was listed before that is used, the rest is not known.
    Broken,
}

impl Listed {
    fn of(entry: DumpEntry) -> Self {
        let has_value = entry.siblings.iter().any(|sibling| sibling.2.is_some());
        Self { place: (entry.sector, tag_of(&entry.key), entry.key), has_value }
    }
}

impl Source {
    fn new(node: NodeId, addr: String) -> Self {
        Self { node, addr, page: VecDeque::new(), listing: Listing::After(None) }
    }

    /// The next place, left where it is. A node that fails is left out from there on: its keys
    /// are on other nodes too, as far as they have copies.
    fn peek(&mut self, fetch: &mut Fetch<'_>) -> Option<&Place> {
        while self.page.is_empty()
            && let Listing::After(after) = &mut self.listing
        {
            let before = after.take();
            match fetch(&self.addr, before.clone()).and_then(|page| in_order(before, page)) {
                Ok((page, next)) => {
                    self.page = page;
                    self.listing = next.map_or(Listing::Whole, |next| Listing::After(Some(next)));
                }
                Err(failure) => {
                    let _ = writeln!(io::stderr(), "gtstore: keys of node {}: {failure}", self.node);
                    self.listing = Listing::Broken;
                }
            }
        }
        self.page.front().map(|listed| &listed.place)
    }
}

/// The key after which a node's list goes on; none to begin.
type Cursor = Option<(SectorId, Bytes)>;

/// Asks the node at an address for its keys after one.
type Fetch<'a> = dyn FnMut(&str, Cursor) -> Result<Page, Failure> + 'a;

/// The keys of a page and where the next one begins, if they stand in the order that merging needs.
fn in_order(before: Cursor, (entries, next): Page) -> Result<(VecDeque<Listed>, Cursor), Failure> {
    let listed: VecDeque<Listed> = entries.into_iter().map(Listed::of).collect();
    let before = before.map(|(sector, key)| (sector, tag_of(&key), key));
    let places = before.iter().chain(listed.iter().map(|listed| &listed.place));
    if places.is_sorted_by(|one, other| one < other) {
        return Ok((listed, next));
    }
    Err(Failure::new(Exit::Error, "they are not in the order of this version of gtstore"))
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
fn next_key(sources: &mut [Source], fetch: &mut Fetch<'_>) -> Option<Bytes> {
    loop {
        let mut least: Option<Place> = None;
        for source in &mut *sources {
            if let Some(place) = source.peek(fetch)
                && least.as_ref().is_none_or(|least| place < least)
            {
                least = Some(place.clone());
            }
        }
        let place = least?;
        let mut has_value = false;
        for source in &mut *sources {
            if let Some(listed) = source.page.pop_front_if(|listed| listed.place == place) {
                has_value |= listed.has_value;
            }
        }
        if has_value {
            return Some(place.2);
        }
    }
}

/// What came of the keys that were read.
#[derive(Default)]
struct Tally {
    done: u64,
    /// Values of these keys, which are the lines written.
    values: u64,
    /// Of these, values with a time to live.
    expiring: usize,
    failed: u64,
    /// How the first failed read would end a command.
    exit: Option<Exit>,
    /// Keys in a row that too few owners answered for.
    unavailable: u64,
}

impl Tally {
    fn note_failure(&mut self, error: &Error) {
        self.failed += 1;
        let exit = exit_of(error);
        self.exit.get_or_insert(exit);
        // A copy that cannot be read says nothing of the next key.
        let is_lost = exit == Exit::Unavailable && !matches!(error.reason, Some(Reason::Unreadable { .. }));
        self.unavailable = if is_lost { self.unavailable + 1 } else { 0 };
    }

    /// Whether there is no use in going on.
    fn is_hopeless(&self) -> bool {
        self.unavailable >= UNAVAILABLE_KEYS_MAX
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
    let copies: u64 = status.nodes.iter().map(|node| node.vitals.keys).sum();
    let expected = copies / u64::from(status.n.max(1));
    let up = status.nodes.into_iter().filter(|node| node.health.is_up());
    let up: Vec<(NodeId, String)> = up.map(|node| (node.node, node.addr)).collect();
    // The list of whoever else is at a node's address would be taken for the node's.
    let replaced = ask_statuses(store, &up).replaced;
    let present = up.into_iter().filter(|node| !replaced.contains_key(&node.0));
    let mut sources: Vec<Source> = present.map(|(node, addr)| Source::new(node, addr)).collect();
    let mut target = Target::open(out, file)?;
    let mut progress =
        Progress::new("exporting", "keys", (store.options().keyspace.is_empty()).then_some(expected));
    let copied = copy(store, &mut sources, target.writer(), format, &mut progress);
    progress.clear();
    let tally = match copied {
        Ok(tally) => tally,
        Err(error) => return Err(target.discard(error)),
    };
    if format == FileFormat::Tabs && tally.expiring > 0 {
        writeln!(
            io::stderr(),
            "gtstore: {} values have a time to live, which tab-separated lines cannot carry: whoever imports \
             them keeps them for good; --format jsonl carries it",
            tally.expiring
        )?;
    }
    let lack = lack(&table, settings, &sources);
    let stopped = tally.is_hopeless().then(|| stopped(&tally));
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
    Err(match (stopped.or(lack), tally.exit) {
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
        let mut fetch = |addr: &str, after| dump_page(store, addr, after);
        let next = || next_key(sources, &mut fetch);
        let keys: Vec<Bytes> = std::iter::from_fn(next).take(EXPORT_BATCH).collect();
        if keys.is_empty() {
            return Ok(tally);
        }
        let results = store.get_many(&keys);
        for (key, result) in keys.iter().zip(results) {
            match result {
                Ok(entry) => {
                    tally.unavailable = 0;
                    for version in &entry.values {
                        write_line(target, format, key, &version.value, version.expiry)?;
                    }
                    tally.expiring += entry.values.iter().filter(|value| value.expiry.is_some()).count();
                    tally.done += u64::from(!entry.values.is_empty());
                    tally.values += entry.values.len() as u64;
                }
                Err(error) => {
                    tally.note_failure(&error);
                    if tally.failed as usize <= FAILURES_TOLD {
                        let _ = writeln!(io::stderr(), "gtstore: {} not exported: {error}", quoted(key));
                    }
                }
            }
        }
        if tally.is_hopeless() {
            return Ok(tally);
        }
        progress.show(tally.done, tally.done);
    }
}

/// Why an export has stopped, and what else there is to do than to wait.
fn stopped(tally: &Tally) -> String {
    format!(
        "too few owners answered for {} keys in a row: the export has stopped. Try again when more nodes are \
         up, or take what a single copy says of each key, which may be old: export -r 1",
        tally.unavailable
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ErrorKind;
    use crate::types::{Dot, Stamp};
    use std::collections::BTreeMap;

    /// What nodes hold, by address: the places of their keys, and whether they have a value.
    type Nodes = BTreeMap<String, BTreeMap<Place, bool>>;

    /// Pages of three, as a node gives them.
    fn page(nodes: &Nodes, addr: &str, after: Cursor) -> Page {
        let after = after.map(|(sector, key)| (sector, tag_of(&key), key));
        let rest = nodes[addr].iter().filter(|entry| after.as_ref().is_none_or(|after| entry.0 > after));
        let entries: Vec<DumpEntry> = rest.take(3).map(entry).collect();
        let next = entries.last().map(|entry| (entry.sector, entry.key.clone()));
        (entries, next)
    }

    fn entry((place, has_value): (&Place, &bool)) -> DumpEntry {
        let sibling = (Dot::default(), Stamp::default(), has_value.then_some(1));
        DumpEntry { sector: place.0, key: place.2.clone(), siblings: vec![sibling] }
    }

    #[test]
    fn each_key_is_exported_once_however_copies_differ() {
        let (mut nodes, mut wanted) = (Nodes::new(), BTreeSet::new());
        for number in 0..400u16 {
            let key = Bytes::from(format!("key{number}"));
            let place = (SectorId(number % 5), tag_of(&key), key.clone());
            // All combinations of holders, and tombstones among values.
            let holders = number / 5 % 8;
            for node in (0..3).filter(|node| holders >> node & 1 == 1) {
                let has_value = (number + node) % 4 != 0;
                nodes.entry(format!("n{node}")).or_default().insert(place.clone(), has_value);
                if has_value {
                    wanted.insert(key.clone());
                }
            }
        }
        let mut sources: Vec<Source> =
            (0..3).map(|node| Source::new(NodeId(node + 1), format!("n{node}"))).collect();
        let mut fetch = |addr: &str, after| Ok(page(&nodes, addr, after));
        let keys: Vec<Bytes> = std::iter::from_fn(|| next_key(&mut sources, &mut fetch)).collect();
        assert_eq!(keys.len(), wanted.len());
        assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), wanted);
        assert!(sources.iter().all(|source| matches!(source.listing, Listing::Whole)));
    }

    #[test]
    fn an_export_stops_for_nodes_that_are_away_and_for_no_other_failure() {
        let mut tally = Tally::default();
        let error = |reason| Error { reason, ..Error::new(ErrorKind::Failed, "") };
        for _ in 0..2 * UNAVAILABLE_KEYS_MAX {
            tally.note_failure(&error(Some(Reason::Unreadable { copies: 1 })));
        }
        assert!(!tally.is_hopeless());
        for reason in [None, Some(Reason::NoQuorum)].into_iter().cycle().take(UNAVAILABLE_KEYS_MAX as usize) {
            assert!(!tally.is_hopeless());
            tally.note_failure(&error(reason));
        }
        assert!(tally.is_hopeless() && tally.exit == Some(Exit::Unavailable));
    }

    #[test]
    fn a_list_in_another_order_is_not_merged() {
        let mut keys = ["a", "b", "c"].map(|key| Bytes::from_static(key.as_bytes()));
        keys.sort_by_key(|key| tag_of(key));
        let listed = |order: [usize; 3]| {
            let entries = order.map(|at| entry((&(SectorId(1), 0, keys[at].clone()), &true))).to_vec();
            in_order(Some((SectorId(0), keys[2].clone())), (entries, None)).is_ok()
        };
        assert!(listed([0, 1, 2]) && !listed([0, 2, 1]) && !listed([0, 0, 1]));
    }
}
