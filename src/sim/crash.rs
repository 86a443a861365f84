//! The crash sweep: one engine on one simulated disk, crashed after every operation of the disk.
//!
//! A random workload runs on an engine with tiny segments and a tiny cache, so that it rolls,
//! compacts, indexes and evicts all the time. Before every operation of the disk its state is
//! kept, with what had been acknowledged by then. Each of these states is then taken through a
//! crash of the process or a loss of power, and opened again, and once more through a crash in the
//! middle of that recovery. Then must hold, for every key:
//! * what is held is a state that the key has had: nothing is invented, nothing half applied;
//! * it is not older than the last state that was acknowledged;
//! * every value can be read back, and is what was written;
//! * all keys are as they were at one and the same moment: what is lost is the log's end.

use super::disk::SimDisk;
use super::rng::Rng;
use crate::engine::{
    DiskEvent, DiskRequest, Engine, EngineSettings, Fetched, FileName, Loaded, LogWriter, ReadDone,
    ReadFault, ReadRequest, Storage, Ticket, index_file,
};
use crate::mutant::Planted;
use crate::ring::Durability;
use crate::types::{Actor, Dot, Incarnation, Instant, Key, KeyspaceId, NodeId, Now, SectorId, Stamp, WallMs};
use crate::version::{Content, Object, Replaces, Sibling, VersionVector};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// Size of a run.
#[derive(Clone, Copy, Debug)]
pub struct CrashSettings {
    /// Names the run.
    pub seed: u64,
    /// Turns of the workload.
    pub turns: u32,
    /// Crash points to try, about, spread over the run; all there are if there are fewer.
    pub points_max: usize,
    /// A planted bug.
    pub planted: Planted,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct CrashReport {
    /// Operations of the disk, and crash points tried.
    pub operations: usize,
    /// Crashes tried.
    pub points: usize,
    /// Segments that compaction removed.
    pub compacted: usize,
    /// What did not hold, first of all.
    pub broken: Option<String>,
}

type Place = (KeyspaceId, SectorId);

const SEGMENT_BYTES: u64 = 3000;
const CACHE_BYTES: usize = 16 << 10;
const KEYS: u64 = 20;
const PLACES: [Place; 3] =
    [(KeyspaceId(0), SectorId(0)), (KeyspaceId(0), SectorId(7)), (KeyspaceId(1), SectorId(0))];

fn durability(place: Place) -> Durability {
    if place.0 == KeyspaceId(1) { Durability::Os } else { Durability::Sync }
}

/// All states a key has had, the first being "nothing".
#[derive(Clone, Debug, Default)]
struct History {
    states: Vec<Option<Object>>,
    /// The disk request that each waits for.
    tickets: Vec<Ticket>,
    /// When each came about, by the count of all writes.
    moments: Vec<u64>,
}

impl History {
    fn push(&mut self, state: Option<Object>, ticket: Ticket, moment: u64) {
        if self.states.is_empty() {
            self.states.push(None);
            self.tickets.push(Ticket(0));
            self.moments.push(0);
        }
        self.states.push(state);
        self.tickets.push(ticket);
        self.moments.push(moment);
    }

    /// The times, from and until, at which the key was in this state, of those from `floor` on.
    fn times(&self, found: Option<&Object>, floor: usize) -> Vec<(u64, u64)> {
        let until = |at: usize| self.moments.get(at + 1).copied().unwrap_or(u64::MAX);
        let states = self.states.iter().zip(&self.moments).enumerate().skip(floor);
        let same = states.filter(|(_, (state, _))| state.as_ref() == found);
        same.map(|(at, (_, &moment))| (moment, until(at))).collect()
    }
}

/// How far each key was acknowledged: written, synced.
type Acknowledged = BTreeMap<(Place, u64), (usize, usize)>;

/// A disk that keeps what it was before each of its operations.
struct Watched {
    disk: SimDisk,
    /// State before an operation, and how many acknowledgements had been given.
    kept: Vec<(SimDisk, usize)>,
    acknowledged: usize,
    keep_one_in: u64,
    rng: Rng,
    operations: usize,
}

impl Watched {
    fn note(&mut self) {
        self.operations += 1;
        if self.rng.once_in(self.keep_one_in) {
            self.kept.push((self.disk.clone(), self.acknowledged));
        }
    }
}

impl Storage for Watched {
    fn append(&mut self, file: FileName, bytes: &[u8]) -> io::Result<()> {
        self.note();
        // A write may stop half way.
        if bytes.len() > 1 && self.rng.once_in(4) {
            let cut = usize::try_from(self.rng.below(bytes.len() as u64)).unwrap_or(0);
            let mut part = self.disk.clone();
            part.append(file, bytes.get(..cut).unwrap_or_default())?;
            if self.rng.once_in(self.keep_one_in) {
                self.kept.push((part, self.acknowledged));
            }
        }
        self.disk.append(file, bytes)
    }
    fn sync(&mut self, file: FileName) -> io::Result<()> {
        self.note();
        self.disk.sync(file)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.note();
        self.disk.sync_directory()
    }
    fn read(&mut self, file: FileName) -> io::Result<Option<Bytes>> {
        self.disk.read(file)
    }
    fn read_at(&mut self, file: FileName, offset: u64, length: usize) -> io::Result<Option<Bytes>> {
        self.disk.read_at(file, offset, length)
    }
    fn truncate(&mut self, file: FileName, length: u64) -> io::Result<()> {
        self.note();
        self.disk.truncate(file, length)
    }
    fn list(&mut self) -> io::Result<Vec<FileName>> {
        self.disk.list()
    }
    fn remove(&mut self, file: FileName) -> io::Result<()> {
        self.note();
        self.disk.remove(file)
    }
    fn rename(&mut self, from: FileName, to: FileName) -> io::Result<()> {
        self.note();
        self.disk.rename(from, to)
    }
}

/// The run: an engine, its disk, and what is known of every key.
struct Run {
    settings: CrashSettings,
    rng: Rng,
    disk: Watched,
    writer: LogWriter,
    /// What a slow disk has not come to yet.
    queue: VecDeque<DiskRequest>,
    engine: Engine,
    life: u32,
    seq: u64,
    /// Writes made so far.
    moment: u64,
    clock_us: u64,
    histories: BTreeMap<(Place, u64), History>,
    /// What had been acknowledged, each time that changed.
    acknowledged: Vec<Acknowledged>,
    report: CrashReport,
}

/// Runs one seed.
#[must_use]
pub fn crash_sweep(settings: CrashSettings) -> CrashReport {
    let mut run = match Run::new(settings) {
        Ok(run) => run,
        Err(broken) => return CrashReport { broken: Some(broken), ..CrashReport::default() },
    };
    for _ in 0..settings.turns {
        run.turn();
        if run.report.broken.is_some() {
            return run.report;
        }
    }
    run.crash_everywhere();
    run.report
}

fn engine_settings(planted: Planted) -> EngineSettings {
    EngineSettings {
        cache_bytes: CACHE_BYTES,
        segment_bytes: SEGMENT_BYTES,
        scrub_bytes_per_second: 100_000,
        planted,
    }
}

/// A leaf of a sector's hash tree that is not what its keys come to, if there is one.
fn untrue_leaf(engine: &Engine, place: Place) -> Option<u8> {
    let leaves = engine.tree_leaves(place);
    let sum = |leaf| engine.tree_leaf(place, leaf).fold(0_u64, |sum, (_, hash)| sum.wrapping_add(hash));
    let root = leaves.iter().fold(0_u64, |sum, &leaf| sum.wrapping_add(leaf));
    let untrue = (0..=u8::MAX).find(|&leaf| leaves.get(usize::from(leaf)) != Some(&sum(leaf)));
    untrue.or((root != engine.tree_root(place)).then_some(u8::MAX))
}

fn key_bytes(key: u64) -> Key {
    Key::from(format!("key-{key}"))
}

impl Run {
    fn new(settings: CrashSettings) -> Result<Self, String> {
        let mut rng = Rng::new(settings.seed);
        // About four operations of the disk in a turn.
        let keep_one_in = (u64::from(settings.turns) * 4 / (settings.points_max as u64).max(1)).max(1);
        let mut disk = Watched {
            disk: SimDisk::default(),
            kept: Vec::new(),
            acknowledged: 0,
            keep_one_in,
            rng: Rng::new(rng.any()),
            operations: 0,
        };
        let opened = Engine::open(&mut disk, engine_settings(settings.planted));
        let (engine, _) = opened.map_err(|error| error.to_string())?;
        Ok(Self {
            settings,
            rng,
            disk,
            writer: LogWriter::new(settings.planted),
            queue: VecDeque::new(),
            engine,
            life: 1,
            seq: 0,
            moment: 0,
            clock_us: 0,
            histories: BTreeMap::new(),
            acknowledged: vec![Acknowledged::new()],
            report: CrashReport::default(),
        })
    }

    fn fail(&mut self, what: String) {
        let seed = self.settings.seed;
        self.report.broken.get_or_insert_with(|| format!("seed {seed}: {what}"));
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.clock_us), wall: WallMs(1_700_000_000_000 + self.clock_us / 1000) }
    }

    fn turn(&mut self) {
        self.clock_us += self.rng.below(200_000);
        for _ in 0..self.rng.below(4) {
            match self.rng.below(20) {
                0 => self.drop_place(),
                11 => self.forget(),
                1..=10 => self.read_back(),
                _ => self.write(),
            }
        }
        self.end_turn();
        if self.rng.once_in(300) {
            self.restart();
        }
    }

    /// A put, a delete, or a copy from elsewhere, of one key.
    fn write(&mut self) {
        let Some(&place) = self.rng.pick(&PLACES) else { return };
        let key = self.rng.below(KEYS);
        let mut object = self.present(place, key).unwrap_or_default();
        let keeps_all = self.rng.once_in(4);
        self.seq += 1;
        let node = NodeId(1 + u32::try_from(self.rng.below(2)).unwrap_or(0));
        let dot = Dot { actor: Actor { node, incarnation: Incarnation(self.life) }, seq: self.seq };
        let length = if self.rng.once_in(8) { 1900 } else { self.rng.below(500) };
        let content = if self.rng.once_in(6) {
            Content::Tombstone
        } else {
            let fill = format!("{}-{key}-{}-", place.1.0, self.seq).repeat(400);
            Content::Value(Bytes::from(fill).slice(..usize::try_from(length).unwrap_or(0)))
        };
        let sibling = Sibling { dot, stamp: Stamp(self.seq), expiry: None, content };
        let nothing = VersionVector::default();
        let replaces =
            if keeps_all && object.siblings().len() < 4 { Replaces::Seen(&nothing) } else { Replaces::All };
        object.put(replaces, &nothing, sibling);
        if self.rng.once_in(10) {
            // Only one sibling is left, or the context alone grows: a record without a value.
            let all = object.siblings().to_vec();
            let last: Vec<_> = all.last().cloned().into_iter().collect();
            object = Object::from_parts(object.context().clone(), last);
        }
        let merged = self.engine.merge(place, &key_bytes(key), &object, durability(place));
        if merged.changed {
            self.moment += 1;
            // Merged with itself and more: what it now holds is what was given.
            let history = self.histories.entry((place, key)).or_default();
            history.push(Some(object), merged.ticket, self.moment);
        }
    }

    fn present(&self, place: Place, key: u64) -> Option<Object> {
        self.histories.get(&(place, key)).and_then(|history| history.states.last().cloned().flatten())
    }

    fn drop_place(&mut self) {
        if !self.rng.once_in(12) {
            return;
        }
        let place = (KeyspaceId(0), SectorId(7));
        self.engine.drop_shelf(place);
        let ticket = Ticket(self.engine.last_request().0 + 1);
        self.moment += 1;
        for (_, history) in self.histories.iter_mut().filter(|entry| entry.0.0 == place) {
            history.push(None, ticket, self.moment);
        }
    }

    /// What a key holds is forgotten, unless it is more than was seen.
    fn forget(&mut self) {
        let Some(&place) = self.rng.pick(&PLACES) else { return };
        let key = self.rng.below(KEYS);
        let Some(object) = self.present(place, key) else { return };
        let mut seen = object.context().clone();
        if self.rng.once_in(3) {
            seen = VersionVector::from_entries(seen.entries().iter().copied().skip(1));
        }
        let merged = self.engine.forget(place, &key_bytes(key), &seen, durability(place));
        if merged.changed != seen.descends(object.context()) {
            self.fail(format!("{place:?} {key}: forgotten {}, seen {seen:?}", merged.changed));
        }
        if merged.changed {
            self.moment += 1;
            self.histories.entry((place, key)).or_default().push(None, merged.ticket, self.moment);
        }
    }

    fn read_back(&mut self) {
        let Some(&place) = self.rng.pick(&PLACES) else { return };
        let key = self.rng.below(KEYS);
        let expected = self.present(place, key);
        let found = read_whole(&mut self.engine, &mut self.disk.disk, place, key);
        if let Some(leaf) = untrue_leaf(&self.engine, place) {
            self.fail(format!("{place:?}: leaf {leaf} of the hash tree is not the sum of its keys"));
        }
        if found.as_ref() != Ok(&expected) {
            self.fail(format!("{place:?} {key}: held {found:?}, written {expected:?}"));
        }
    }

    /// The turn's records go to the disk; some of what is under way gets done.
    fn end_turn(&mut self) {
        let now = self.now();
        self.engine.work(now);
        let batch = self.engine.take_batch();
        self.queue.extend(batch);
        self.queue.extend(self.engine.take_requests());
        let is_slow = !self.rng.once_in(3);
        self.write_queue(if is_slow { 1 } else { usize::MAX });
        if self.writer.wants_sync() || self.rng.once_in(5) {
            if let Err(error) = self.writer.sync(&mut self.disk) {
                return self.fail(format!("the disk failed: {error}"));
            }
            self.engine.on_disk(DiskEvent::Synced(self.writer.synced()));
            self.acknowledge();
        }
        let reads: Vec<ReadRequest> = self.engine.take_reads().collect();
        for request in reads {
            let done = carry_out(&mut self.disk, &request);
            self.engine.on_read(done);
        }
    }

    /// The disk does so much of what it was asked.
    fn write_queue(&mut self, requests_max: usize) {
        for _ in 0..requests_max {
            let Some(request) = self.queue.pop_front() else { break };
            if let DiskRequest::Remove { .. } = request {
                self.report.compacted += 1;
            }
            if let Err(error) = self.writer.write(&mut self.disk, &request) {
                return self.fail(format!("the disk failed: {error}"));
            }
            self.engine.on_disk(DiskEvent::Written(self.writer.written()));
        }
        self.acknowledge();
    }

    /// Takes note of what may have been acknowledged by now.
    fn acknowledge(&mut self) {
        let mut acknowledged = Acknowledged::new();
        for (&(place, key), history) in &self.histories {
            let last = |level| {
                let durable = |ticket: &Ticket| self.engine.is_durable(*ticket, level);
                history.tickets.iter().rposition(durable).unwrap_or(0)
            };
            acknowledged.insert((place, key), (last(Durability::Os), last(Durability::Sync)));
        }
        if self.acknowledged.last() != Some(&acknowledged) {
            self.acknowledged.push(acknowledged);
        }
        self.disk.acknowledged = self.acknowledged.len() - 1;
    }

    /// The process ends well, and begins anew on the same disk.
    fn restart(&mut self) {
        self.end_turn();
        if self.rng.once_in(2) {
            self.queue.extend(self.engine.take_batch());
            self.queue.extend(self.engine.close());
        }
        self.write_queue(usize::MAX);
        if let Err(error) = self.writer.sync(&mut self.disk) {
            return self.fail(format!("the disk failed: {error}"));
        }
        self.engine.on_disk(DiskEvent::Synced(self.writer.synced()));
        self.acknowledge();
        // Tickets begin anew: all that was given is durable.
        for history in self.histories.values_mut() {
            history.tickets.iter_mut().for_each(|ticket| *ticket = Ticket(0));
        }
        self.life += 1;
        self.writer = LogWriter::new(self.settings.planted);
        match Engine::open(&mut self.disk, engine_settings(self.settings.planted)) {
            Ok((engine, _)) => self.engine = engine,
            Err(error) => self.fail(format!("a clean restart failed: {error}")),
        }
    }

    fn crash_everywhere(&mut self) {
        self.report.operations = self.disk.operations;
        let kept = std::mem::take(&mut self.disk.kept);
        for (at, (disk, acknowledged)) in kept.into_iter().enumerate() {
            for power_lost in [false, true] {
                self.report.points += 1;
                let mut disk = disk.clone();
                if power_lost {
                    disk.lose_power(&mut self.rng);
                }
                let what = format!("crash point {at}{}", if power_lost { ", power lost" } else { "" });
                self.recover_and_check(disk, acknowledged, power_lost, &what);
                if self.report.broken.is_some() {
                    return;
                }
            }
        }
    }

    /// Opens it, once interrupted by another crash, and compares.
    fn recover_and_check(&mut self, disk: SimDisk, acknowledged: usize, power_lost: bool, what: &str) {
        let planted = self.settings.planted;
        let rng = Rng::new(self.rng.any());
        let mut watched =
            Watched { disk, kept: Vec::new(), acknowledged: 0, keep_one_in: 3, rng, operations: 0 };
        if let Err(error) = Engine::open(&mut watched, engine_settings(planted)) {
            return self.fail(format!("{what}: cannot be opened: {error}"));
        }
        if let Some((mut disk, _)) = self.rng.pick(&watched.kept).cloned() {
            // Only what had lost its power before may lose it again: a crashed process alone has
            // acknowledged what it wrote and never synced.
            if power_lost && self.rng.once_in(2) {
                disk.lose_power(&mut self.rng);
            }
            let what = format!("{what}, crashed again while recovering");
            self.open_and_compare(&mut disk, acknowledged, power_lost, &what);
        }
        let mut disk = watched.disk;
        let first = self.open_and_compare(&mut disk, acknowledged, power_lost, what);
        // What has been served once is there to stay.
        disk.lose_power(&mut self.rng);
        let what = format!("{what}, power lost after recovering");
        let second = self.open_and_compare(&mut disk, acknowledged, power_lost, &what);
        if first != second {
            self.fail(format!("{what}: {second:?} of what was {first:?}"));
        }
    }

    /// What is held of every key, after it was compared with what may be.
    fn open_and_compare(
        &mut self,
        disk: &mut SimDisk,
        acknowledged: usize,
        power_lost: bool,
        what: &str,
    ) -> Vec<Option<Object>> {
        match Engine::open(disk, engine_settings(self.settings.planted)) {
            Ok((mut engine, found)) => {
                if let Some(damage) = found.damage.first() {
                    self.fail(format!("{what}: a false alarm: {damage}"));
                }
                self.compare(&mut engine, disk, acknowledged, power_lost, what)
            }
            Err(error) => {
                self.fail(format!("{what}: cannot be opened: {error}"));
                Vec::new()
            }
        }
    }

    fn compare(
        &mut self,
        engine: &mut Engine,
        disk: &mut SimDisk,
        at: usize,
        power_lost: bool,
        what: &str,
    ) -> Vec<Option<Object>> {
        let acknowledged = self.acknowledged.get(at).cloned().unwrap_or_default();
        let mut broken = Vec::new();
        let mut all_times = Vec::new();
        let mut all_found = Vec::new();
        for (&(place, key), history) in &self.histories {
            let (written, synced) = acknowledged.get(&(place, key)).copied().unwrap_or((0, 0));
            let floor = if power_lost { synced } else { written };
            let found = match read_whole(engine, disk, place, key) {
                Ok(found) => found,
                Err(error) => {
                    broken.push(format!("{what}: {place:?} key {key} cannot be read: {error}"));
                    continue;
                }
            };
            let times = history.times(found.as_ref(), floor);
            if times.is_empty() {
                let older = history.states.iter().position(|state| *state == found);
                broken.push(format!(
                    "{what}: {place:?} key {key}: state {floor} was acknowledged, found {} {found:?}",
                    older.map_or("one that never was:".to_owned(), |at| format!("state {at}:"))
                ));
            }
            all_times.push(times);
            all_found.push(found);
        }
        // Somewhere all of them meet, and if so, also where one of them begins.
        let holds = |moment: u64| {
            all_times.iter().all(|times| times.iter().any(|&(from, until)| (from..until).contains(&moment)))
        };
        let begins = all_times.iter().flatten().map(|time| time.0);
        if broken.is_empty() && !all_times.is_empty() && !begins.clone().any(holds) {
            broken.push(format!("{what}: the keys are of different moments: {all_times:?}"));
        }
        if let Some(first) = broken.into_iter().next() {
            self.fail(first);
        }
        all_found
    }
}

/// A key's object with its values, read from the disk where need be.
fn read_whole(
    engine: &mut Engine,
    disk: &mut SimDisk,
    place: Place,
    key: u64,
) -> Result<Option<Object>, String> {
    let mut loaded = Loaded::new();
    for _ in 0..3 {
        match engine.read(place, &key_bytes(key), |_| true, &loaded) {
            Fetched::Absent => return Ok(None),
            Fetched::Whole(object) => return Ok(Some(object)),
            Fetched::Unreadable => return Err("unreadable".to_owned()),
            Fetched::OnDisk(_) => {
                let reads: Vec<ReadRequest> = engine.take_reads().collect();
                for request in reads {
                    let done = carry_out(disk, &request);
                    if let Some((dot, value)) = engine.on_read(done) {
                        loaded.insert(dot, value.map_err(|fault| format!("{dot}: {fault}"))?);
                    }
                }
            }
        }
    }
    Err("it is never there".to_owned())
}

fn carry_out(disk: &mut impl Storage, request: &ReadRequest) -> ReadDone {
    match request {
        ReadRequest::Value(stretch) | ReadRequest::Scan(stretch) => {
            let found = crate::engine::read_stretch(disk, stretch);
            ReadDone { id: stretch.id, result: found }
        }
        ReadRequest::Index { id, segment, end } => {
            let built = index_file::build(disk, *segment, *end);
            ReadDone { id: *id, result: built.map(|()| Bytes::new()).map_err(|_| ReadFault::Failed) }
        }
    }
}

/// What came of flipping bits.
#[derive(Clone, Debug, Default)]
pub struct FlipReport {
    /// Bytes in which a bit was flipped, one at a time.
    pub bytes: usize,
    /// Directories that were refused whole.
    pub refused: usize,
    /// Keys that were not served, of how many.
    pub withheld: (usize, usize),
    /// What did not hold, first of all.
    pub broken: Option<String>,
}

/// Flips a bit in every byte of every file of a small directory, one at a time, opens it and
/// reads every key: whatever is served must be what was last written.
#[must_use]
pub fn flip_sweep(settings: CrashSettings) -> FlipReport {
    let mut report = FlipReport::default();
    let mut run = match Run::new(settings) {
        Ok(run) => run,
        Err(broken) => return FlipReport { broken: Some(broken), ..report },
    };
    (0..settings.turns).for_each(|_| run.turn());
    run.restart();
    // Index files of what the restart has sealed.
    (0..20).for_each(|_| run.end_turn());
    if run.report.broken.is_some() {
        return FlipReport { broken: run.report.broken, ..report };
    }
    let files = run.disk.disk.list().unwrap_or_default();
    for file in files {
        for byte in 0..run.disk.disk.length(file).unwrap_or(0) {
            let mut disk = run.disk.disk.clone();
            let bit = u8::try_from(run.rng.below(8)).unwrap_or(0);
            disk.flip(file, byte, bit);
            report.bytes += 1;
            run.read_flipped(&mut disk, &format!("{} byte {byte} bit {bit}", file.to_text()), &mut report);
            if report.broken.is_some() {
                return report;
            }
        }
    }
    report
}

impl Run {
    fn read_flipped(&self, disk: &mut SimDisk, what: &str, report: &mut FlipReport) {
        let Ok((mut engine, _)) = Engine::open(disk, engine_settings(self.settings.planted)) else {
            report.refused += 1;
            return;
        };
        for (&(place, key), history) in &self.histories {
            report.withheld.1 += 1;
            if engine.is_quarantined(place) {
                report.withheld.0 += 1;
                continue;
            }
            let present = history.states.last().cloned().flatten();
            match read_whole(&mut engine, disk, place, key) {
                Ok(found) if found == present => {}
                Ok(found) => {
                    let seed = self.settings.seed;
                    report.broken = Some(format!(
                        "seed {seed}: {what}: {place:?} key {key}: served {found:?}, written {present:?}"
                    ));
                    return;
                }
                Err(_) => report.withheld.0 += 1,
            }
        }
    }
}
