//! One seed, from the first process to the verdict.

mod ending;
mod rebuilds;

use super::boot::{open_manager, open_node};
use super::checks::check;
use super::process::{ProcId, Running};
use super::rng::Rng;
use super::swarm::{Mix, Tuning, draw_spaces};
use super::weather::{Climate, Fault, LeftOut, Weather};
use super::workload::{Driver, History, Space, Told};
use super::world::{MANAGER, Outside, World};
use crate::client::{self, Call, CallId, Client, Routing, Target};
use crate::mutant::Planted;
use crate::types::{ClientId, OpId};
use crate::wire::client::ClientRequest;
use rebuilds::Quarantines;
use std::collections::BTreeMap;

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed: everything else is drawn from it.
    pub seed: u64,
    /// Calls that clients make in all.
    pub ops: usize,
    /// A planted bug.
    pub planted: Planted,
    /// Faults that are drawn and do not happen.
    pub left_out: LeftOut,
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
    /// The same in order, each by its place in the sequence that the seed drew; without torn writes.
    pub sequence: Vec<(u64, Fault)>,
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
/// Calls whose writes are looked for whenever something is about to break.
const RECENT: usize = 60;

/// How soon a process is started again whose disk was too full to start on.
const START_AGAIN_US: u64 = 300_000;

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
    tuning: Tuning,
    mix: Mix,
    drivers: Vec<Driver>,
    history: History,
    broken: Vec<String>,
    quarantines: Quarantines,
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
        let mut weather = Weather::draw(&mut rng, settings.left_out.clone());
        if Rng::new(!settings.seed).once_in(2) {
            weather.add_changes();
        }
        let spaces = draw_spaces(&mut rng, n);
        let (tuning, mix) = (Tuning::draw(&mut rng), Mix::draw(&mut rng));
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
            tuning,
            mix,
            drivers: Vec::new(),
            history: History::default(),
            broken: Vec::new(),
            quarantines: Quarantines::new(),
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
        let spaces: Vec<_> = self.spaces.iter().cloned().zip(self.space_ids()).collect();
        self.broken.extend(check(&self.history, &spaces, &self.world.seen, self.world.skew_ms_max));
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
        let is_gone = self.world.gone.contains_key(&proc);
        let process = &mut self.world.procs[proc.0];
        if process.is_up() || is_gone {
            return;
        }
        let opened = if proc == MANAGER {
            open_manager(process, (self.shape.n, self.shape.sectors), fresh, planted)
        } else if name.starts_with("node") {
            open_node(process, self.tuning, fresh, planted)
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
            // Whoever watches over it tries again.
            Err(_) if self.world.procs[proc.0].disk.is_limited() => {
                self.world.order(START_AGAIN_US, Outside::Restart(proc));
            }
            Err(text) => self.broken.push(format!("{name} cannot start: {text}")),
        }
    }

    // ---- weather -------------------------------------------------------------

    fn weather(&mut self) {
        self.world.climate = self.storm;
        let pause_us = self.weather.pause_us();
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

    // ---- steps -----------------------------------------------------------------------------

    fn step(&mut self, stormy: bool) {
        match self.world.step() {
            Some(Outside::Fault) if stormy => {
                self.count_copies(RECENT);
                self.weather.strike(&mut self.world);
            }
            Some(Outside::PowerLoss(proc)) if stormy => self.weather.interrupt(&mut self.world, proc),
            Some(Outside::Stall(proc, us)) if stormy => {
                let process = &mut self.world.procs[proc.0];
                process.paused_until = process.paused_until.max(self.world.now_us + us);
            }
            Some(Outside::Operator(deed)) => self.world.carry_out_deed(deed),
            Some(Outside::Restart(proc)) => self.start(proc),
            Some(Outside::Reunite) => self.world.blocked.clear(),
            Some(Outside::DiskRoom(proc)) => self.world.procs[proc.0].disk.set_capacity(None),
            Some(Outside::Client(proc)) => self.next_call(proc),
            Some(Outside::Fault | Outside::PowerLoss(_) | Outside::Stall(..)) | None => {}
        }
        for (proc, call, outcome) in std::mem::take(&mut self.world.done) {
            self.answered(proc, call, outcome);
        }
        self.audit_rebuilds();
    }

    fn next_call(&mut self, proc: ProcId) {
        let (mix, keys, now_us) = (self.mix, self.shape.keys, self.world.now_us);
        let Some(driver) = self.drivers.iter_mut().find(|driver| driver.proc == proc) else { return };
        if driver.left > 0 && driver.current.is_none() {
            let input =
                driver.next(now_us, &mut self.world.rng, (&self.spaces, keys), mix, &mut self.history);
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
                Some(Outside::Operator(deed)) => self.world.carry_out_deed(deed),
                Some(
                    Outside::Fault
                    | Outside::PowerLoss(_)
                    | Outside::Stall(..)
                    | Outside::DiskRoom(_)
                    | Outside::Reunite
                    | Outside::Client(_),
                )
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
            sequence: self.weather.sequence,
            reaped: self.world.seen.reaped(),
            events: self.world.events,
            virtual_ms: self.world.now_us / 1000,
            trace_hash: self.world.trace_hash(),
            broken: self.broken,
            journal: self.world.journal.take().unwrap_or_default(),
        }
    }
}
