//! Trials on a whole simulated cluster: the real manager, nodes and clients.
//!
//! ```text
//! form (fair weather) --> every key is written to all three --> the model's delays from here on
//!    each 2 ms: the next key is written --acknowledged--> t later it is read --answered--> counted
//! ```
//! A trial has a key of its own, which holds an older value everywhere: what an owner lacks, and says
//! so, would be asked of others as well. Trials overlap, and so share what nodes think of each
//! other's speed: how long a read waits for an owner, and which it asks first, may follow from it, but
//! who wrote the key does not.

use super::legs::Model;
use super::{N, Share, Trial};
use crate::client::{self, Answer, Call, CallId, Client, Item, Outcome, Routing, Target};
use crate::limits::REQUEST_TTL_MS_MAX;
use crate::mutant::Planted;
use crate::ring::{Conflict, Durability, KeyspaceSettings};
use crate::sim::boot::{open_manager, open_node};
use crate::sim::process::{ProcId, Running};
use crate::sim::rng::Rng;
use crate::sim::swarm::Tuning;
use crate::sim::weather::Climate;
use crate::sim::world::{MANAGER, Outside, World};
use crate::types::ClientId;
use crate::wire::client::ClientRequest;
use bytes::Bytes;
use std::collections::BTreeSet;

const KEYSPACE: &str = "trials";
const OLD: Bytes = Bytes::from_static(b"old");
const NEW: Bytes = Bytes::from_static(b"new");
const SECTORS: u16 = 64;
/// Room for all values: nothing is on a disk.
const TUNING: Tuning = Tuning { cache_bytes: 64 << 20, ..Tuning::SMALL };
/// The time by which the cluster must have formed, and keys must have been written first.
const FORM_US: u64 = 60_000_000;
/// After the keys are written: longer than a row waits for stragglers.
const SETTLE_US: u64 = 2_000_000;
/// Between the beginnings of two trials.
const GAP_US: u64 = 2_000;
/// After the last one has begun: all that a call may take.
const LAST_US: u64 = 2 * REQUEST_TTL_MS_MAX as u64 * 1000;

/// Nothing takes any time.
const STILL: Climate =
    Climate { latency_us: (0, 0), sync_us: (0, 1), turn_us_max: 0, clock_skew_ms: 0, ..Climate::FAIR };

/// What is to be done at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Write(u64),
    Read(u64),
}

impl Step {
    fn call(self) -> CallId {
        match self {
            Step::Write(trial) => CallId(2 * trial),
            Step::Read(trial) => CallId(2 * trial + 1),
        }
    }

    fn of(call: CallId) -> Self {
        if call.0.is_multiple_of(2) { Step::Write(call.0 / 2) } else { Step::Read(call.0 / 2) }
    }
}

/// A cluster to try things on.
pub(super) struct Cluster {
    model: Model,
    world: World,
    rng: Rng,
    planted: Planted,
    /// One client of each node to write, and one to read. A client that has waited long for an
    /// answer goes on with another node, which those that read never do.
    writers: Vec<ProcId>,
    readers: Vec<ProcId>,
    agenda: BTreeSet<(u64, Step)>,
    counted: Vec<(Trial, Share)>,
    open: u64,
}

impl Cluster {
    pub(super) fn new(model: Model, seed: u64, planted: Planted) -> Self {
        let mut rng = Rng::new(seed);
        let climate = Climate { ordered: false, clock_skew_ms: 0, ..Climate::FAIR };
        let counted = Trial::all().into_iter().map(|trial| (trial, Share::default())).collect();
        Self {
            model,
            world: World::new(rng.any(), climate),
            rng,
            planted,
            writers: Vec::new(),
            readers: Vec::new(),
            agenda: BTreeSet::new(),
            counted,
            open: 0,
        }
    }

    /// Runs so many trials of each kind.
    ///
    /// # Errors
    /// What went wrong, in words: the cluster did not form, or something was not answered.
    pub(super) fn run(mut self, trials: u64) -> Result<Vec<(Trial, Share)>, String> {
        self.form()?;
        let all = trials * self.counted.len() as u64;
        self.write_old(all)?;
        self.world.climate = Climate { ordered: false, ..STILL };
        self.world.legs = Some(self.model);
        self.open = all;
        let began_us = self.world.now_us;
        (0..all).for_each(|trial| self.plan(began_us + trial * GAP_US, Step::Write(trial)));
        let until_us = began_us + all * GAP_US + LAST_US;
        while self.open > 0 {
            self.check(until_us, "trials were not answered")?;
            self.step()?;
        }
        let hints: u64 = self.world.nodes().map(|(_, node)| node.hints_kept()).sum();
        match (self.world.seen.retried.len(), hints) {
            (0, 0) => Ok(self.counted),
            (retried, hints) => {
                Err(format!("{retried} writes were tried again, {hints} bytes of hints kept"))
            }
        }
    }

    // ---- before the trials -----------------------------------------------------------------

    fn form(&mut self) -> Result<(), String> {
        self.world.add("manager");
        let fresh = self.fresh();
        let manager = open_manager(&mut self.world.procs[MANAGER.0], (N, SECTORS), fresh, self.planted)?;
        self.world.begin(MANAGER, manager);
        let nodes: Vec<String> = (1..=N).map(|at| format!("node{at}")).collect();
        for name in &nodes {
            let (proc, fresh) = (self.world.add(name), self.fresh());
            let node = open_node(&mut self.world.procs[proc.0], TUNING, fresh, self.planted)?;
            self.world.begin(proc, node);
        }
        while !self.world.is_whole(nodes.len()) {
            self.check(FORM_US, "the cluster did not form")?;
            self.world.step();
        }
        let maker = self.add_client("maker", "manager");
        let settings = KeyspaceSettings {
            n: N,
            r: N / 2 + 1,
            w: N / 2 + 1,
            conflict: Conflict::Lww,
            durability: Durability::Memory,
        };
        let request = ClientRequest::CreateKeyspace { name: KEYSPACE.to_owned(), settings };
        self.tell(maker, CallId(0), Call::Ask { to: Target::Manager, request });
        self.wait_for(1)?;
        self.writers = nodes.iter().map(|node| self.add_client("writer", node)).collect();
        self.readers = nodes.iter().map(|node| self.add_client("reader", node)).collect();
        Ok(())
    }

    fn fresh(&mut self) -> u128 {
        u128::from(self.rng.any()) << 64 | u128::from(self.rng.any())
    }

    fn add_client(&mut self, role: &str, server: &str) -> ProcId {
        let proc = self.world.add(&format!("{role} at {server}"));
        let options = client::Options {
            id: ClientId(proc.0 as u128),
            seeds: vec![server.to_owned()],
            routing: Routing::Forwarder,
            ttl_ms: REQUEST_TTL_MS_MAX,
            seed: self.rng.any(),
        };
        self.world.begin(proc, Running::Client(Box::new(Client::new(options))));
        proc
    }

    /// Writes the old value of every key to all owners, through every node in turn.
    fn write_old(&mut self, keys: u64) -> Result<(), String> {
        for trial in 0..keys {
            let at = usize::try_from(trial).unwrap_or(0) % self.writers.len();
            let item = Item { quorum: N, ..Item::new(KEYSPACE, key_of(trial)) };
            self.tell(self.writers[at], CallId(trial), Call::Put { item, value: OLD, context: None });
        }
        self.wait_for(keys)?;
        for &reader in &self.readers.clone() {
            let item = Item::new(KEYSPACE, key_of(0));
            self.tell(reader, CallId(0), Call::Get { item });
        }
        self.wait_for(self.readers.len() as u64)?;
        let until_us = self.world.now_us + SETTLE_US;
        while self.world.now_us < until_us {
            self.world.step();
        }
        Ok(())
    }

    /// Waits until so many calls are answered.
    fn wait_for(&mut self, calls: u64) -> Result<(), String> {
        let until_us = self.world.now_us + FORM_US;
        let mut answered = 0;
        while answered < calls {
            self.check(until_us, "calls before the trials were not answered")?;
            self.world.step();
            for (_, _, outcome) in std::mem::take(&mut self.world.done) {
                outcome.map_err(|error| format!("a call before the trials failed: {error}"))?;
                answered += 1;
            }
        }
        Ok(())
    }

    // ---- trials ----------------------------------------------------------------------------

    fn plan(&mut self, at_us: u64, step: Step) {
        self.agenda.insert((at_us, step));
        self.world.order(at_us - self.world.now_us, Outside::Client(MANAGER));
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.step();
        while let Some(&(at_us, step)) = self.agenda.first()
            && at_us <= self.world.now_us
        {
            self.agenda.pop_first();
            self.take(step);
        }
        for (_, call, outcome) in std::mem::take(&mut self.world.done) {
            self.answered(Step::of(call), outcome)?;
        }
        Ok(())
    }

    fn take(&mut self, step: Step) {
        let any = usize::try_from(self.rng.below(u64::from(N))).unwrap_or(0);
        match step {
            Step::Write(trial) => {
                let (proc, quorum) = (self.writers[any], self.kind(trial).0.w);
                let item = Item { quorum, ..Item::new(KEYSPACE, key_of(trial)) };
                self.tell(proc, step.call(), Call::Put { item, value: NEW, context: None });
            }
            Step::Read(trial) => {
                let (proc, quorum) = (self.readers[any], self.kind(trial).0.r);
                let item = Item { quorum, ..Item::new(KEYSPACE, key_of(trial)) };
                self.tell(proc, step.call(), Call::Get { item });
            }
        }
    }

    fn answered(&mut self, step: Step, outcome: Outcome) -> Result<(), String> {
        match (step, outcome.map_err(|error| format!("a call failed: {error}"))?) {
            (Step::Write(trial), Answer::Stored { .. }) => {
                // The client stands at the coordinator's door: now is when it was acknowledged.
                let t_us = self.kind(trial).0.t_us();
                self.plan(self.world.now_us + t_us, Step::Read(trial));
                Ok(())
            }
            (Step::Read(trial), Answer::Found { values, .. }) => {
                let seen = values.first().is_some_and(|version| version.value == NEW);
                self.kind(trial).1.count(seen);
                self.open -= 1;
                Ok(())
            }
            (step, answer) => Err(format!("{step:?} was answered with {answer:?}")),
        }
    }

    /// Trials take turns in being of each kind.
    fn kind(&mut self, trial: u64) -> &mut (Trial, Share) {
        let at = usize::try_from(trial).unwrap_or(0) % self.counted.len();
        &mut self.counted[at]
    }

    fn tell(&mut self, proc: ProcId, call: CallId, request: Call) {
        self.world.tell_client(proc, client::Input::Call { call, request, ttl_ms: 0 });
    }

    fn check(&self, until_us: u64, what: &str) -> Result<(), String> {
        match self.world.fatal.first() {
            Some(text) => Err(text.clone()),
            None if self.world.now_us > until_us => Err(what.to_owned()),
            None => Ok(()),
        }
    }
}

fn key_of(trial: u64) -> Bytes {
    Bytes::copy_from_slice(&trial.to_be_bytes())
}
