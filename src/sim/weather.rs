//! The faults that a seed draws: how the network, the disks and the clocks are, and what breaks.

use super::process::{ProcId, Running};
use super::rng::Rng;
use super::world::{MANAGER, Outside, World};

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
    /// A process is stopped for a while, as by SIGSTOP.
    Pause,
    /// The nodes fall into two parts that do not hear each other.
    Partition,
    /// One node is heard and does not hear, or the other way round.
    OneWay,
    /// A wall clock jumps.
    ClockJump,
    /// A further node joins.
    Join,
}

/// Which faults a run has, and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    pub(super) kinds: Vec<Fault>,
    pub(super) every_us: (u64, u64),
    /// Nodes that have not been started yet.
    pub(super) spares: Vec<ProcId>,
    /// What happened, and how often.
    pub(super) happened: std::collections::BTreeMap<Fault, u64>,
}

impl Weather {
    /// At least three kinds of fault, drawn from the seed.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let all = [
            Fault::Kill,
            Fault::PowerLoss,
            Fault::Pause,
            Fault::Partition,
            Fault::OneWay,
            Fault::ClockJump,
            Fault::Join,
        ];
        let mut kinds: Vec<Fault> = all.into_iter().filter(|_| rng.once_in(2)).collect();
        for fault in all {
            if kinds.len() < 3 && !kinds.contains(&fault) {
                kinds.push(fault);
            }
        }
        let low = rng.range(100_000, 800_000);
        Self { kinds, every_us: (low, low + rng.range(100_000, 1_500_000)), ..Self::default() }
    }

    /// Makes one fault happen and orders the next.
    pub(super) fn strike(&mut self, world: &mut World) {
        if let Some(&fault) = world.rng.clone().pick(&self.kinds) {
            // The clone was for the borrow: the world's own sequence must move on as well.
            world.rng.any();
            world.note(|| format!("weather: {fault:?}"));
            if self.happen(world, fault) {
                *self.happened.entry(fault).or_default() += 1;
            }
        }
        let pause_us = world.rng.range(self.every_us.0, self.every_us.1);
        world.order(pause_us, Outside::Fault);
    }

    /// Power is lost just as something is on its way to the disk.
    pub(super) fn interrupt(&mut self, world: &mut World, victim: ProcId) {
        if world.procs[victim.0].is_up() {
            lose_power(world, victim);
            *self.happened.entry(Fault::PowerLoss).or_default() += 1;
        }
    }

    fn happen(&mut self, world: &mut World, fault: Fault) -> bool {
        let up: Vec<ProcId> = servers(world).filter(|&id| world.procs[id.0].is_up()).collect();
        let away_us = world.rng.range(100_000, 4_000_000);
        let Some(&victim) = world.rng.clone().pick(&up) else { return false };
        world.rng.any();
        match fault {
            Fault::Kill => {
                world.crash(victim, false);
                world.order(away_us, Outside::Restart(victim));
            }
            Fault::PowerLoss => lose_power(world, victim),
            Fault::Pause => {
                let until = world.now_us + away_us / 2;
                world.procs[victim.0].paused_until = until;
            }
            Fault::Partition => {
                let (one, other): (Vec<ProcId>, Vec<ProcId>) =
                    everybody(world).into_iter().partition(|_| world.rng.once_in(2));
                for &a in &one {
                    for &b in &other {
                        world.blocked.insert((a, b));
                        world.blocked.insert((b, a));
                    }
                }
                world.order(away_us, Outside::Reunite);
            }
            Fault::OneWay => {
                let deaf = world.rng.once_in(2);
                for other in everybody(world).into_iter().filter(|&other| other != victim) {
                    world.blocked.insert(if deaf { (other, victim) } else { (victim, other) });
                }
                world.order(away_us, Outside::Reunite);
            }
            Fault::ClockJump => {
                let jump = i64::try_from(world.rng.below(1000)).unwrap_or(0) - 500;
                world.procs[victim.0].wall_skew_ms += jump;
            }
            Fault::Join => {
                let Some(spare) = self.spares.pop() else { return false };
                world.order(0, Outside::Restart(spare));
            }
        }
        true
    }
}

/// A machine loses power, and comes back a while later.
fn lose_power(world: &mut World, victim: ProcId) {
    world.crash(victim, true);
    let mut rng = Rng::new(world.rng.any());
    let process = &mut world.procs[victim.0];
    process.disk.lose_power(&mut rng);
    process.boot_id += 1;
    let away_us = world.rng.range(100_000, 4_000_000);
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
