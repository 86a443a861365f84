//! The faults that a seed draws: how the network, the disks and the clocks are, and what breaks.

use super::operator::{self, Begun};
use super::process::{ProcId, Running};
use super::rng::Rng;
use super::world::{MANAGER, Outside, Rot, World};
use std::collections::{BTreeMap, BTreeSet};

/// How things are throughout a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Climate {
    /// One way, in microseconds.
    pub(super) latency_us: (u64, u64),
    /// Messages in a thousand that take twenty times as long.
    pub(super) slow_per_mille: u64,
    /// Messages in a thousand that are lost.
    pub(super) loss_per_mille: u64,
    /// Messages in a thousand that arrive twice.
    pub(super) double_per_mille: u64,
    /// Whether messages of one connection arrive in order.
    pub(super) ordered: bool,
    /// A sync, in microseconds.
    pub(super) sync_us: (u64, u64),
    /// Longest turn of a loop.
    pub(super) turn_us_max: u64,
    /// Disk requests in a thousand that are interrupted by a power loss.
    pub(super) crash_per_mille: u64,
    /// Wall clocks are wrong by at most this.
    pub(super) clock_skew_ms: u64,
}

impl Climate {
    /// Nothing is lost and little is slow.
    pub(super) const FAIR: Climate = Climate {
        latency_us: (50, 400),
        slow_per_mille: 0,
        loss_per_mille: 0,
        double_per_mille: 0,
        ordered: true,
        sync_us: (200, 2000),
        turn_us_max: 100,
        crash_per_mille: 0,
        clock_skew_ms: 5,
    };

    /// Whatever the seed says.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let low = rng.range(20, 300);
        let some = |rng: &mut Rng, most: u64| if rng.once_in(2) { rng.below(most) } else { 0 };
        Self {
            latency_us: (low, low + rng.range(50, 5000)),
            slow_per_mille: some(rng, 40),
            loss_per_mille: some(rng, 30),
            double_per_mille: some(rng, 60),
            ordered: rng.once_in(2),
            sync_us: (100, rng.range(1000, 30_000)),
            turn_us_max: rng.range(0, 500),
            crash_per_mille: if rng.once_in(3) { rng.below(20) } else { 0 },
            clock_skew_ms: rng.below(400),
        }
    }
}

/// What can break.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A process is killed; what it had written stays.
    Kill,
    /// A machine loses power: what was not synced is lost or torn.
    PowerLoss,
    /// The same, just as something is on its way to the disk.
    TornWrite,
    /// A process is stopped for a while, as by SIGSTOP.
    Pause,
    /// A process's loop stands still again and again, for a fraction of a second each time.
    Stall,
    /// The nodes fall into two parts that do not hear each other.
    Partition,
    /// Two servers do not hear each other; everybody else hears both.
    Rift,
    /// One node is heard and does not hear, or the other way round.
    OneWay,
    /// A wall clock jumps.
    ClockJump,
    /// A further node joins.
    Join,
    /// The syncs of a disk take long for a while.
    SlowDisk,
    /// A disk is full for a while.
    FullDisk,
    /// A bit flips in a value that was written long ago, or in its record and the index file beside
    /// it, whereupon the process is started again; in one run always on the same node.
    BitRot,
    /// An operator changes the membership.
    Change,
}

impl Fault {
    /// Everything that can break.
    pub const ALL: [Fault; 14] = [
        Fault::Kill,
        Fault::PowerLoss,
        Fault::TornWrite,
        Fault::Pause,
        Fault::Stall,
        Fault::Partition,
        Fault::Rift,
        Fault::OneWay,
        Fault::ClockJump,
        Fault::Join,
        Fault::SlowDisk,
        Fault::FullDisk,
        Fault::BitRot,
        Fault::Change,
    ];
}

/// Which of the faults that a seed draws are left out, to find out whether it takes them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// Kinds that never happen.
    pub kinds: BTreeSet<Fault>,
    /// The only ones that happen, by their places in the sequence drawn; all of them if there is
    /// none. Torn writes have no place in it: they are left out by their kind alone.
    pub but: Option<BTreeSet<u64>>,
}

impl LeftOut {
    fn spares(&self, fault: Fault, place: Option<u64>) -> bool {
        let is_other = |but: &BTreeSet<u64>| place.is_some_and(|place| !but.contains(&place));
        self.kinds.contains(&fault) || self.but.as_ref().is_some_and(is_other)
    }
}

/// Which faults a run has, and how often.
#[derive(Debug)]
pub(super) struct Weather {
    kinds: Vec<Fault>,
    every_us: (u64, u64),
    rng: Rng,
    left_out: LeftOut,
    /// The one node whose disk rots, or dies: a copy may be lost so, two at once may not.
    pub(super) rotten: Option<ProcId>,
    /// Nodes that have not been started yet.
    pub(super) spares: Vec<ProcId>,
    /// What happened, and how often.
    pub(super) happened: BTreeMap<Fault, u64>,
    /// The same in order, each by its place in the sequence drawn.
    pub(super) sequence: Vec<(u64, Fault)>,
    /// Faults drawn so far, whether or not they happened.
    drawn: u64,
}

impl Weather {
    /// At least three kinds of fault, drawn from the seed.
    pub(super) fn draw(rng: &mut Rng, left_out: LeftOut) -> Self {
        // Changes are drawn apart, so that all else is as it would be without them.
        let is_drawn = |fault: &Fault| !matches!(fault, Fault::TornWrite | Fault::Change);
        let all = || Fault::ALL.into_iter().filter(is_drawn);
        let mut kinds: Vec<Fault> = all().filter(|_| rng.once_in(2)).collect();
        for fault in all() {
            if kinds.len() < 3 && !kinds.contains(&fault) {
                kinds.push(fault);
            }
        }
        let low = rng.range(100_000, 800_000);
        Self {
            kinds,
            every_us: (low, low + rng.range(100_000, 1_500_000)),
            rng: Rng::new(rng.any()),
            left_out,
            rotten: None,
            spares: Vec::new(),
            happened: BTreeMap::new(),
            sequence: Vec::new(),
            drawn: 0,
        }
    }

    /// Has an operator change the membership, too.
    pub(super) fn add_changes(&mut self) {
        self.kinds.push(Fault::Change);
    }

    /// Time until the next fault.
    pub(super) fn pause_us(&mut self) -> u64 {
        self.rng.range(self.every_us.0, self.every_us.1)
    }

    /// Makes one fault happen and orders the next.
    pub(super) fn strike(&mut self, world: &mut World) {
        let place = self.drawn;
        self.drawn += 1;
        // Each fault has a sequence of its own: one that is left out changes nothing about the others.
        let mut rng = Rng::new(self.rng.any());
        if let Some(&fault) = rng.pick(&self.kinds)
            && !self.left_out.spares(fault, Some(place))
        {
            world.note(|| format!("weather {place}: {fault:?}"));
            if self.happen(world, &mut rng, fault) {
                *self.happened.entry(fault).or_default() += 1;
                self.sequence.push((place, fault));
            }
        }
        let pause_us = self.pause_us();
        world.order(pause_us, Outside::Fault);
    }

    /// Power is lost just as something is on its way to the disk.
    pub(super) fn interrupt(&mut self, world: &mut World, victim: ProcId) {
        if world.procs[victim.0].is_up() && !self.left_out.spares(Fault::TornWrite, None) {
            let mut rng = Rng::new(world.rng.any());
            lose_power(world, &mut rng, victim);
            *self.happened.entry(Fault::TornWrite).or_default() += 1;
        }
    }

    fn happen(&mut self, world: &mut World, rng: &mut Rng, fault: Fault) -> bool {
        let up: Vec<ProcId> = servers(world).filter(|&id| world.procs[id.0].is_up()).collect();
        let away_us = rng.range(100_000, 4_000_000);
        let Some(&victim) = rng.pick(&up) else { return false };
        match fault {
            Fault::Kill => {
                world.crash(victim, false);
                world.order(away_us, Outside::Restart(victim));
            }
            Fault::PowerLoss | Fault::TornWrite => lose_power(world, rng, victim),
            Fault::Pause => {
                let until = world.now_us + away_us / 2;
                world.procs[victim.0].paused_until = until;
            }
            Fault::Stall => stall(world, rng, victim),
            Fault::Partition => {
                let (one, other): (Vec<ProcId>, Vec<ProcId>) =
                    everybody(world).into_iter().partition(|_| rng.once_in(2));
                for &a in &one {
                    for &b in &other {
                        world.part(a, b);
                    }
                }
                world.order(away_us, Outside::Reunite);
            }
            Fault::Rift => {
                let Some(&other) = rng.pick(&up).filter(|&&other| other != victim) else { return false };
                world.part(victim, other);
                world.order(away_us, Outside::Reunite);
            }
            Fault::OneWay => {
                let deaf = rng.once_in(2);
                for other in everybody(world).into_iter().filter(|&other| other != victim) {
                    world.blocked.insert(if deaf { (other, victim) } else { (victim, other) });
                }
                world.order(away_us, Outside::Reunite);
            }
            Fault::ClockJump => {
                let jump = i64::try_from(rng.below(1000)).unwrap_or(0) - 500;
                let skew_ms = &mut world.procs[victim.0].wall_skew_ms;
                *skew_ms += jump;
                world.skew_ms_max = world.skew_ms_max.max(skew_ms.unsigned_abs());
            }
            Fault::Join => {
                let Some(spare) = self.spares.pop() else { return false };
                world.order(0, Outside::Restart(spare));
            }
            Fault::SlowDisk => world.procs[victim.0].disk_slow_until = world.now_us + away_us,
            Fault::FullDisk => {
                let disk = &mut world.procs[victim.0].disk;
                disk.set_capacity(Some(disk.used() + rng.below(ROOM_BYTES)));
                world.order(away_us, Outside::DiskRoom(victim));
            }
            Fault::Change => match operator::begin(world, rng, self.rotten.is_none()) {
                None => return false,
                Some(Begun::Change) => {}
                Some(Begun::Loss(node)) => self.rotten = Some(node),
            },
            Fault::BitRot => {
                let candidates = self.rotten.map_or(up, |rotten| vec![rotten]);
                let mut found = candidates.into_iter().filter_map(|node| Some((node, world.rot(rng, node)?)));
                let Some((rotten, rot)) = found.next() else { return false };
                self.rotten = Some(rotten);
                world.seen.note_rot(rotten);
                match rot {
                    Rot::Value => {}
                    Rot::Log => {
                        world.crash(rotten, false);
                        world.order(away_us, Outside::Restart(rotten));
                    }
                }
            }
        }
        true
    }
}

/// What a disk that fills up still has room for, at most.
const ROOM_BYTES: u64 = 2000;

/// A loop stands still a few times in a few seconds.
fn stall(world: &mut World, rng: &mut Rng, victim: ProcId) {
    let mut after_us = 0;
    for _ in 0..rng.range(2, 8) {
        let still_us = rng.range(100_000, 800_000);
        world.order(after_us, Outside::Stall(victim, still_us));
        after_us += still_us + rng.range(10_000, 600_000);
    }
}

/// A machine loses power, and comes back a while later.
fn lose_power(world: &mut World, rng: &mut Rng, victim: ProcId) {
    world.crash(victim, true);
    let process = &mut world.procs[victim.0];
    process.disk.lose_power(rng);
    process.boot_id += 1;
    let away_us = rng.range(100_000, 4_000_000);
    world.order(away_us, Outside::Restart(victim));
}

/// The manager and the nodes that were ever started.
fn servers(world: &World) -> impl Iterator<Item = ProcId> + '_ {
    let is_server = |id: &ProcId| *id == MANAGER || matches!(world.procs[id.0].running, Running::Node(_));
    (0..world.procs.len()).map(ProcId).filter(is_server)
}

fn everybody(world: &World) -> Vec<ProcId> {
    (0..world.procs.len()).map(ProcId).collect()
}
