//! One seed, from the first process to the verdict.

use super::boot::{open_manager, open_node};
use super::checks::check;
use super::process::{ProcId, Running};
use super::rng::Rng;
use super::weather::{Climate, Fault, Weather};
use super::workload::{Driver, History, Space, Told, key_bytes};
use super::world::{MANAGER, Outside, World};
use crate::client::{self, Call, CallId, Client, Item, Routing, Target};
use crate::mutant::Planted;
use crate::ring::{Conflict, Durability, KeyspaceSettings};
use crate::types::{ClientId, KeyspaceId, OpId};
use crate::wire::client::ClientRequest;
use std::collections::BTreeMap;

/// What a run is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The seed: everything else is drawn from it.
    pub seed: u64,
    /// Calls that clients make in all.
    pub ops: usize,
    /// A planted bug.
    pub planted: Planted,
    /// Whether to note down all that happens.
    pub journal: bool,
}

/// The cluster that a seed drew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Nodes at the start, and those that may join.
    pub nodes: (usize, usize),
    /// Copies.
    pub n: u8,
    /// Clients.
    pub clients: usize,
    /// Keys of each keyspace.
    pub keys: usize,
    /// Q.
    pub sectors: u16,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The cluster it drew.
    pub shape: Shape,
    /// Calls made.
    pub ops: usize,
    /// Writes acknowledged, reads answered, writes of unknown outcome, calls that failed.
    pub outcomes: (usize, usize, usize, usize),
    /// What broke, and how often.
    pub faults: BTreeMap<Fault, u64>,
    /// How often keys were let go of for good, and contexts trimmed.
    pub reaped: (usize, usize),
    /// Events on the queue.
    pub events: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// The run as one number: equal for equal runs.
    pub trace_hash: u64,
    /// Broken promises; empty is good.
    pub broken: Vec<String>,
    /// All that happened, in words, each with its time in microseconds; empty unless it was asked for.
    pub journal: Vec<String>,
}

/// The time by which the cluster must have formed.
const FORM_US: u64 = 20_000_000;
/// After healing: the time by which every key must be answered.
const HEAL_US: u64 = 60_000_000;
/// After healing: the longest that a request (2 s) or a broken link (3 s and a redial) lives on.
const QUIET_US: u64 = 6_000_000;
/// Calls whose writes are looked for whenever something is about to break.
const RECENT: usize = 60;
/// After the last answer: the time by which nothing may be in hand any more.
const DRAIN_US: u64 = 3_000_000;

/// Values that a node has room for in memory: less than are written.
const CACHE_BYTES: usize = 64 << 10;

/// Runs one seed.
#[must_use]
pub fn run(settings: Settings) -> Report {
    Run::new(settings).run()
}

struct Run {
    settings: Settings,
    shape: Shape,
    world: World,
    weather: Weather,
    /// The climate of the weather, put away while the cluster forms and heals.
    storm: Climate,
    spaces: Vec<Space>,
    drivers: Vec<Driver>,
    history: History,
    broken: Vec<String>,
    fresh: Rng,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let n = [1, 2, 3, 3, 3, 3, 3, 5][usize::try_from(rng.below(8)).unwrap_or(0)];
        let most = 3 + usize::from(n) - usize::from(n > 3);
        let first = usize::try_from(rng.range(u64::from(n), most as u64)).unwrap_or(3);
        let shape = Shape {
            nodes: (first, usize::try_from(rng.below(3)).unwrap_or(0)),
            n,
            clients: usize::try_from(rng.range(2, 4)).unwrap_or(2),
            keys: usize::try_from(rng.range(3, 16)).unwrap_or(3),
            sectors: 1 << rng.range(1, 5),
        };
        let storm = Climate::draw(&mut rng);
        let weather = Weather::draw(&mut rng);
        let spaces = draw_spaces(&mut rng, n);
        let fresh = Rng::new(rng.any());
        let fair = Climate { clock_skew_ms: storm.clock_skew_ms, ..Climate::FAIR };
        let mut world = World::new(rng.any(), fair);
        world.journal = settings.journal.then(Vec::new);
        Self {
            settings,
            shape,
            world,
            weather,
            storm,
            spaces,
            drivers: Vec::new(),
            history: History::default(),
            broken: Vec::new(),
            fresh,
        }
    }

    fn run(mut self) -> Report {
        self.form();
        if self.broken.is_empty() {
            self.weather();
            self.heal();
            self.count_owners();
            self.converge();
            self.count_copies(usize::MAX);
            self.demand();
            self.drain();
        }
        let ids = self.space_ids();
        self.broken.extend(check(&self.history, &self.spaces, &ids, &self.world.seen));
        self.broken.append(&mut self.world.fatal);
        self.report()
    }

    // ---- the cluster forms -----------------------------------------------------------------

    fn form(&mut self) {
        self.world.add("manager");
        let (first, spare) = self.shape.nodes;
        for node in 1..=first + spare {
            let id = self.world.add(&format!("node{node}"));
            if node > first {
                self.weather.spares.push(id);
            }
        }
        self.start(MANAGER);
        for node in 1..=first {
            self.start(ProcId(node));
        }
        let each = self.settings.ops / self.shape.clients;
        for at in 0..self.shape.clients {
            let proc = self.world.add(&format!("client{at}"));
            self.drivers.push(Driver::new(proc, each));
            self.start(proc);
        }
        let formed = |run: &Self| run.world.is_whole(first);
        self.until(FORM_US, "the cluster did not form", formed);
        self.make_keyspaces();
    }

    fn make_keyspaces(&mut self) {
        let Some(proc) = self.drivers.first().map(|driver| driver.proc) else { return };
        for at in 1..self.spaces.len() {
            let Some(space) = self.spaces.get(at).cloned() else { continue };
            let request = ClientRequest::CreateKeyspace { name: space.name, settings: space.settings };
            let outcome = self.ask(proc, Call::Ask { to: Target::Manager, request }, FORM_US);
            if !matches!(outcome, Some(Ok(_))) {
                self.broken.push(format!("a keyspace could not be made: {outcome:?}"));
            }
        }
    }

    /// Starts a process, or starts it again.
    fn start(&mut self, proc: ProcId) {
        let planted = self.settings.planted;
        let name = self.world.procs[proc.0].name.clone();
        let (fresh, seed) =
            (u128::from(self.fresh.any()) << 64 | u128::from(self.fresh.any()), self.fresh.any());
        let process = &mut self.world.procs[proc.0];
        if process.is_up() {
            return;
        }
        let opened = if proc == MANAGER {
            open_manager(process, (self.shape.n, self.shape.sectors), fresh, planted)
        } else if name.starts_with("node") {
            open_node(process, CACHE_BYTES, fresh, planted)
        } else {
            let options = client::Options {
                id: ClientId(proc.0 as u128),
                seeds: vec!["manager".to_owned()],
                routing: match seed % 4 {
                    0 => Routing::Direct,
                    1 => Routing::Fastest,
                    _ => Routing::Forwarder,
                },
                ttl_ms: 0,
                seed,
            };
            Ok(Running::Client(Box::new(Client::new(options))))
        };
        match opened {
            Ok(running) => self.world.begin(proc, running),
            Err(text) => self.broken.push(format!("{name} cannot start: {text}")),
        }
    }

    // ---- weather, and after it -------------------------------------------------------------

    fn weather(&mut self) {
        self.world.climate = self.storm;
        let pause_us = self.world.rng.range(self.weather.every_us.0, self.weather.every_us.1);
        self.world.order(pause_us, Outside::Fault);
        for at in 0..self.drivers.len() {
            let proc = self.drivers[at].proc;
            let pause_us = self.world.rng.below(50_000);
            self.world.order(pause_us, Outside::Client(proc));
        }
        while self.drivers.iter().any(|driver| driver.left > 0 || driver.current.is_some()) {
            self.step(true);
        }
    }

    fn heal(&mut self) {
        self.world.climate = Climate { clock_skew_ms: self.storm.clock_skew_ms, ..Climate::FAIR };
        self.world.blocked.clear();
        for at in 0..self.world.procs.len() {
            self.world.procs[at].paused_until = 0;
            let spare = self.weather.spares.contains(&ProcId(at));
            if !self.world.procs[at].is_up() && !spare {
                self.start(ProcId(at));
            }
        }
        let nodes = self.shape.nodes.0 + self.shape.nodes.1 - self.weather.spares.len();
        self.until(HEAL_US, "the cluster did not become whole again", |run| run.world.is_whole(nodes));
        let handed_over = |run: &Self| run.world.nodes().all(|(_, node)| node.hints_kept() == 0);
        self.until(HEAL_US, "hints were not handed over", handed_over);
        // Attempts at writes that clients have given up live until their deadline, and links that
        // stood across a partition break late: both must be over before copies can be compared.
        self.pass(QUIET_US);
    }

    /// Lets time pass.
    fn pass(&mut self, us: u64) {
        let until = self.world.now_us + us;
        while self.world.now_us < until {
            self.step(false);
        }
    }

    /// Owners' copies must become equal of themselves: nobody reads anything.
    fn converge(&mut self) {
        let until = self.world.now_us + HEAL_US;
        while self.world.now_us < until && !self.differing_copies().is_empty() {
            self.pass(500_000);
        }
        self.broken.extend(self.differing_copies());
    }

    /// At rest, hints handed over and nothing moving: of every acknowledged write the sector's owners
    /// have as many copies as it took.
    fn count_owners(&mut self) {
        let Running::Manager(manager) = &self.world.procs[MANAGER.0].running else { return };
        let table = manager.table().clone();
        for op in &self.history.ops {
            let Told::Stored(dot) = op.told else { continue };
            let copies = self.world.copies_of_owners(dot, &table);
            if copies.is_some_and(|copies| copies < usize::from(op.needed)) {
                let text =
                    format!("{:?} ({dot}) has {copies:?} copies at owners, of {}", op.asked, op.needed);
                self.broken.push(text);
            }
        }
    }

    /// Of each of the latest acknowledged writes there are still as many copies as it took, or of
    /// what has replaced it; whoever is down may have one. True at any time, and at rest of all.
    fn count_copies(&mut self, latest: usize) {
        for op in self.history.ops.iter().rev().take(latest) {
            let Told::Stored(dot) = op.told else { continue };
            let copies = self.world.copies_held(dot);
            if let Some(copies) = copies.filter(|&copies| copies < usize::from(op.needed)) {
                let (at_us, needed) = (self.world.now_us, op.needed);
                let text = format!("{:?} ({dot}) has {copies} of {needed} copies at {at_us} us", op.asked);
                self.broken.push(text);
            }
        }
    }

    /// Reads every key from all of its owners: it must be answered, and leaves all copies equal.
    fn demand(&mut self) {
        let Some(mut driver) = self.drivers.pop() else { return };
        let until = self.world.now_us + HEAL_US;
        for space in 0..self.spaces.len() {
            for key in 0..self.shape.keys {
                self.demand_one(&mut driver, space, key, until);
            }
        }
        self.drivers.push(driver);
    }

    fn demand_one(&mut self, driver: &mut Driver, space: usize, key: usize, until: u64) {
        let mut item = Item::new(&self.spaces[space].name, key_bytes(key));
        item.quorum = self.spaces[space].settings.n;
        item.strict = true;
        loop {
            driver.begin_read(self.world.now_us, space, key, &mut self.history);
            let outcome = self.ask(driver.proc, Call::Get { item: item.clone() }, HEAL_US);
            let Some(outcome) = outcome else {
                return self.broken.push(format!("a read of key{key} was never answered"));
            };
            let good = outcome.is_ok();
            let text = format!("{outcome:?}");
            driver.answered(self.world.now_us, outcome, None, &mut self.history);
            if good {
                return;
            }
            if self.world.now_us > until {
                return self.broken.push(format!("key{key} cannot be read after healing: {text}"));
            }
        }
    }

    /// The numbers that the cluster gave the keyspaces; they are numbered as they are made.
    fn space_ids(&self) -> Vec<KeyspaceId> {
        let table = match &self.world.procs[MANAGER.0].running {
            Running::Manager(manager) => Some(manager.table()),
            Running::Node(_) | Running::Client(_) | Running::Down => None,
        };
        let id = |space: &Space| table.and_then(|table| Some(table.keyspace(&space.name)?.0));
        self.spaces.iter().zip(0..).map(|(space, at)| id(space).unwrap_or(KeyspaceId(at))).collect()
    }

    /// Nothing may be left in hand, and all copies must be equal.
    fn drain(&mut self) {
        self.pass(DRAIN_US);
        let left: Vec<String> = self
            .world
            .nodes()
            .filter(|(_, node)| node.requests_in_hand() > 0)
            .map(|(id, node)| format!("node{} still has {} pending rows", id.0, node.requests_in_hand()))
            .collect();
        self.broken.extend(left);
        self.broken.extend(self.differing_copies());
    }

    /// Keys of which owners hold different copies.
    fn differing_copies(&self) -> Vec<String> {
        let Running::Manager(manager) = &self.world.procs[MANAGER.0].running else { return Vec::new() };
        let table = manager.table().clone();
        let mut broken = Vec::new();
        for space in &self.spaces {
            let Some((id, _)) = table.keyspace(&space.name) else { continue };
            for key in (0..self.shape.keys).map(key_bytes) {
                let sector = table.sector_of(&key);
                let owners: Vec<_> = table.sector(sector).nodes(usize::from(space.settings.n)).collect();
                let copies: Vec<_> = self
                    .world
                    .nodes()
                    .filter(|(_, node)| match node.identity().server {
                        crate::wire::hello::Server::Node(me) => owners.contains(&me),
                        crate::wire::hello::Server::Manager => false,
                    })
                    .map(|(_, node)| node.engine().outline((id, sector), &key))
                    // Where each has it is its own affair.
                    .map(|held| held.map(|outline| outline.map(|sibling| sibling.content.kind)))
                    .collect();
                if copies.windows(2).any(|pair| pair[0] != pair[1]) {
                    broken
                        .push(format!("{} {key:?}: the copies differ after healing: {copies:?}", space.name));
                }
            }
        }
        broken
    }

    // ---- steps -----------------------------------------------------------------------------

    fn step(&mut self, stormy: bool) {
        match self.world.step() {
            Some(Outside::Fault) if stormy => {
                self.count_copies(RECENT);
                self.weather.strike(&mut self.world);
            }
            Some(Outside::PowerLoss(proc)) if stormy => self.weather.interrupt(&mut self.world, proc),
            Some(Outside::Restart(proc)) => self.start(proc),
            Some(Outside::Reunite) => self.world.blocked.clear(),
            Some(Outside::Client(proc)) => self.next_call(proc),
            Some(Outside::Fault | Outside::PowerLoss(_)) | None => {}
        }
        for (proc, call, outcome) in std::mem::take(&mut self.world.done) {
            self.answered(proc, call, outcome);
        }
    }

    fn next_call(&mut self, proc: ProcId) {
        let (keys, now_us) = (self.shape.keys, self.world.now_us);
        let Some(driver) = self.drivers.iter_mut().find(|driver| driver.proc == proc) else { return };
        if driver.left > 0 && driver.current.is_none() {
            let input = driver.next(now_us, &mut self.world.rng, &self.spaces, keys, &mut self.history);
            self.world.note(|| format!("{proc:?} asks {input:?}"));
            self.world.tell_client(proc, input);
        }
    }

    fn answered(&mut self, proc: ProcId, _call: CallId, outcome: client::Outcome) {
        let sent = self.sent_write(proc);
        let now_us = self.world.now_us;
        self.world.note(|| format!("{proc:?} is told {outcome:?}"));
        let Some(driver) = self.drivers.iter_mut().find(|driver| driver.proc == proc) else { return };
        driver.answered(now_us, outcome, sent, &mut self.history);
        let think_us = self.world.rng.below(60_000);
        self.world.order(think_us, Outside::Client(proc));
    }

    /// The write that a client's present call put on the wire, if it did.
    fn sent_write(&self, proc: ProcId) -> Option<(OpId, crate::version::VersionVector)> {
        let (op, given) = self.world.seen.last_op.get(&ClientId(proc.0 as u128))?;
        let known = self.history.ops.iter().any(|earlier| earlier.op == Some(*op));
        (!known).then(|| (*op, given.clone()))
    }

    /// Makes one call outside the workload and waits for its answer.
    fn ask(&mut self, proc: ProcId, request: Call, within_us: u64) -> Option<client::Outcome> {
        let call = CallId(u64::MAX);
        let until = self.world.now_us + within_us;
        self.world.tell_client(proc, client::Input::Call { call, request, ttl_ms: 0 });
        while self.world.now_us < until {
            if let Some(at) = self.world.done.iter().position(|done| done.1 == call) {
                return Some(self.world.done.remove(at).2);
            }
            match self.world.step() {
                Some(Outside::Restart(proc)) => self.start(proc),
                Some(Outside::Fault | Outside::PowerLoss(_) | Outside::Reunite | Outside::Client(_))
                | None => {}
            }
        }
        None
    }

    fn until(&mut self, within_us: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = self.world.now_us + within_us;
        while !holds(self) {
            if self.world.now_us > until || !self.world.fatal.is_empty() {
                return self.broken.push(what.to_owned());
            }
            self.step(false);
        }
    }

    fn report(mut self) -> Report {
        let count = |wanted: fn(&Told) -> bool| self.history.ops.iter().filter(|op| wanted(&op.told)).count();
        Report {
            seed: self.settings.seed,
            shape: self.shape,
            ops: self.history.ops.len(),
            outcomes: (
                count(|told| matches!(told, Told::Stored(_))),
                count(|told| matches!(told, Told::Values(..))),
                count(|told| matches!(told, Told::Unknown)),
                count(|told| matches!(told, Told::Failed)),
            ),
            faults: self.weather.happened,
            reaped: self.world.seen.reaped(),
            events: self.world.events,
            virtual_ms: self.world.now_us / 1000,
            trace_hash: self.world.trace_hash(),
            broken: self.broken,
            journal: self.world.journal.take().unwrap_or_default(),
        }
    }
}

/// `default`, one with siblings, and one whose quorums need not meet.
fn draw_spaces(rng: &mut Rng, n: u8) -> Vec<Space> {
    let space = |name: &str, settings, strict| Space { name: name.to_owned(), settings, strict };
    let (carts, drawn) = (rng.once_in(2), rng.once_in(2));
    let majority = KeyspaceSettings::majority(n);
    let w = u8::try_from(rng.range(1, u64::from(n))).unwrap_or(1);
    let strict = KeyspaceSettings { w, r: n + 1 - w, ..majority };
    let conflict = if rng.once_in(2) { Conflict::Lww } else { Conflict::Siblings };
    let loose = KeyspaceSettings { r: 1, w: 1, conflict, ..majority };
    vec![
        space("default", majority, false),
        space(
            "carts",
            KeyspaceSettings { conflict: Conflict::Siblings, durability: Durability::Sync, ..majority },
            carts,
        ),
        space("drawn", strict, drawn),
        space("loose", loose, false),
    ]
}
