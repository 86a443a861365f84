//! Starting the machines of simulated processes, as their shells would, and whether the cluster
//! that they make is whole.

use super::process::{ProcId, Process, Running};
use super::swarm::Tuning;
use super::world::{MANAGER, World};
use crate::engine::LogWriter;
use crate::limits::COMPARE_EVERY_MS;
use crate::manager::{self, Manager};
use crate::mutant::Planted;
use crate::node::{self, Node};
use crate::ring::MemberState;
use crate::types::{ClusterId, DiskUuid, NodeId};

/// Opens the manager of a cluster with `n` copies and so many sectors on a process's disk.
pub(super) fn open_manager(
    process: &mut Process,
    (n, sectors): (u8, u16),
    fresh: u128,
    planted: Planted,
) -> Result<Running, String> {
    let options = manager::Options {
        n: Some(n),
        sectors: Some(sectors),
        profile: None,
        members_min: None,
        evict_after_ms: None,
        fresh_cluster: ClusterId(fresh),
        planted,
    };
    Manager::open(&mut process.disk, options).map(|machine| Running::Manager(Box::new(machine)))
}

/// Opens a node on a process's disk.
pub(super) fn open_node(
    process: &mut Process,
    tuning: Tuning,
    fresh: u128,
    planted: Planted,
) -> Result<Running, String> {
    let options = node::Options {
        addr: process.name.clone(),
        zone: String::new(),
        weight: 100,
        manual: false,
        leave_on_stop: false,
        transfer_bytes_per_second: 0,
        cache_bytes: tuning.cache_bytes,
        segment_bytes: tuning.segment_bytes,
        scrub_bytes_per_second: tuning.scrub_bytes_per_second,
        hint_bytes_max: tuning.hint_bytes_max,
        compare_every_ms: COMPARE_EVERY_MS,
        reap_after_ms: tuning.reap_after_ms,
        allow_fault_injection: false,
        disk_reserve_bytes: 0,
        fresh_uuid: DiskUuid(fresh),
        boot_id: process.boot_id,
        planted,
    };
    Node::open(&mut process.disk, options).map(|machine| Running::Node(Box::new(machine)))
}

impl World {
    /// A process begins a life with the machine that was opened for it.
    pub(super) fn begin(&mut self, proc: ProcId, running: Running) {
        let process = &mut self.procs[proc.0];
        process.running = running;
        process.life += 1;
        process.born_us = self.now_us;
        let (name, life) = (process.name.clone(), process.life);
        process.writer = LogWriter::default();
        self.note(|| format!("{name} starts, life {life}"));
        self.started(proc);
    }

    /// The process that is a node, if it is up.
    pub(super) fn proc_of(&self, node: NodeId) -> Option<ProcId> {
        (0..self.procs.len()).map(ProcId).find(|&proc| self.node_id(proc) == Some(node))
    }

    /// The nodes that are up.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (ProcId, &Node)> {
        self.procs.iter().enumerate().filter_map(|(at, process)| match &process.running {
            Running::Node(node) => Some((ProcId(at), &**node)),
            Running::Manager(_) | Running::Client(_) | Running::Down => None,
        })
    }

    /// Whether so many nodes are up, agree on a table that serves, and nothing moves.
    pub(super) fn is_whole(&self, nodes: usize) -> bool {
        let Running::Manager(manager) = &self.procs[MANAGER.0].running else { return false };
        let table = manager.table();
        let agree = self.nodes().filter(|(_, node)| node.table().is_some_and(|own| own.epoch == table.epoch));
        let is_at_rest = |state| match state {
            MemberState::Normal | MemberState::Left | MemberState::Removed | MemberState::Waiting => true,
            MemberState::Joining | MemberState::Leaving | MemberState::Lost => false,
        };
        let settled = table.members.values().all(|member| is_at_rest(member.state));
        table.is_serving()
            && settled
            && !table.is_moving()
            && table.present().count() >= nodes
            && agree.count() >= nodes
    }
}
